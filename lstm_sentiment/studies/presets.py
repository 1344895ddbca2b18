"""Whole systems by name: text, word vectors, network and training in one configuration.

`REPORT` is the report's model, `PRETRAINED` the one that starts from a language model, `PRESETS`
are four systems by others, rebuilt with the classes of this package.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.embeddings import build_embedding_matrix, load_word_vectors, train_word_vectors
from lstm_sentiment.lstm import require_whole
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.studies.language_model import (
    LanguageModel,
    PretrainingConfig,
    pretrained_language_model,
    start_from,
)
from lstm_sentiment.text import (
    PADDING_INDEX,
    DataError,
    Vocabulary,
    choose_max_length,
    encode_reviews,
    truncate,
)
from lstm_sentiment.training import TrainingConfig

TokenLists = Sequence[Sequence[str]]


@dataclass(frozen=True)
class SelfTrainingConfig:
    """How a second network learns from reviews that the first has labelled.

    texts: how many, drawn at random from those without labels.
    training: what is different in the second network's training.

    Raises:
        ValueError: a number cannot be, or there is no such setting of the training.
    """

    texts: int
    training: dict

    def __post_init__(self) -> None:
        require_whole(texts=self.texts)
        try:
            replace(TrainingConfig(), **self.training)
        except TypeError as error:
            raise ValueError(f"training of self_training: {error}") from error


@dataclass(frozen=True)
class Configuration:
    """Everything that makes a trained model out of reviews, but for the reviews.

    vectors: where word vectors come from, see `load_word_vectors`; None: they start from random
        numbers and are learnt with the rest.
    vector_size: of vectors that are trained here.
    min_count, max_words: see `Vocabulary.from_tokens`.
    max_length: words a review is cut to; None: as `choose_max_length` chooses.
    keep: which part of a longer review is kept, see `truncate`.
    model: options of `SentimentLSTM`.
    training: how to train.
    pretraining: how to train the language model to start from; None: no such model.
    self_training: how to train a second network with the help of the first; None: there is none.

    Raises:
        ValueError: an option is unknown, a size or `keep` cannot be, or the network could not
            start from the language model. What else `SentimentLSTM` refuses, `build_model` does.
    """

    vectors: str | None = "imdb"
    vector_size: int = 200
    min_count: int = 2
    max_words: int | None = None
    max_length: int | None = None
    keep: str = "head_and_tail"
    model: dict = field(default_factory=dict)
    training: TrainingConfig = TrainingConfig()  # noqa: RUF009 (it is frozen)
    pretraining: PretrainingConfig | None = None
    self_training: SelfTrainingConfig | None = None

    def __post_init__(self) -> None:
        options = [*inspect.signature(SentimentLSTM).parameters][1:]  # without embedding_matrix
        unknown = [name for name in self.model if name not in options]
        if unknown:
            raise ValueError(f"model has the options {unknown}; it may have {options}")
        sizes = {name: self.model.get(name) for name in ("hidden_size", "num_layers")}
        sizes |= {"max_words": self.max_words, "max_length": self.max_length}
        sizes = {name: size for name, size in sizes.items() if size is not None}
        require_whole(vector_size=self.vector_size, min_count=self.min_count, **sizes)
        truncate([], 1, self.keep)  # refuses a `keep` that it does not know
        if self.pretraining is None:
            return
        language_model = {"num_layers": 1, "bidirectional": False, "cell": "lstm"}
        wrong = [
            name for name, value in language_model.items() if self.model.get(name, value) != value
        ]
        if self.model.get("hidden_size") != self.pretraining.hidden_size:
            wrong.append("hidden_size")
        if wrong:
            raise ValueError(
                f"{', '.join(wrong)} must be as in the language model to start from, which reads "
                f"forward with one layer of {self.pretraining.hidden_size} LSTM units"
            )

    def but(self, model: Mapping = {}, training: Mapping = {}, **fields) -> Configuration:
        """This configuration with some model options, training settings or fields changed."""
        return replace(
            self,
            model={**self.model, **model},
            training=replace(self.training, **training),
            **fields,
        )


class Prepared(NamedTuple):
    """Reviews and vectors as a configuration's network takes them."""

    vocabulary: Vocabulary
    max_length: int
    embedding_matrix: np.ndarray  # (V, D)
    datasets: dict[str, ReviewDataset]  # "unlabelled" among them, for self-training
    language_model: LanguageModel | None
    pretraining_history: pd.DataFrame | None  # of the language model, see `pretrain`


def prepare(
    configuration: Configuration,
    token_lists: Mapping[str, TokenLists],
    labels: Mapping[str, np.ndarray],
    vocabulary_texts: TokenLists,
    unlabelled: TokenLists,
) -> Prepared:
    """Take tokenized reviews as far as a network can read them.

    Args:
        token_lists, labels: reviews by the name of their set; "train" decides on the length, and
            "validation" serves for the language model's perplexity.
        vocabulary_texts: the tokenized texts that the vocabulary is collected from.
        unlabelled: tokenized texts for word vectors and the language model.
    """
    vocabulary = Vocabulary.from_tokens(
        vocabulary_texts, configuration.min_count, configuration.max_words
    )
    max_length = configuration.max_length
    if max_length is None:
        max_length = choose_max_length([len(tokens) for tokens in token_lists["train"]]).max_length
    matrix = _embedding_matrix(configuration, vocabulary, unlabelled)
    language_model, history = None, None
    if configuration.pretraining is not None:
        some = token_lists["validation"][:200]
        language_model, history = pretrained_language_model(
            unlabelled, vocabulary, matrix, some, configuration.pretraining
        )

    def dataset(lists: TokenLists, its_labels: np.ndarray | None = None) -> ReviewDataset:
        token_ids = encode_reviews(lists, vocabulary, max_length, configuration.keep)
        return ReviewDataset(token_ids, its_labels)

    datasets = {name: dataset(lists, labels[name]) for name, lists in token_lists.items()}
    if configuration.self_training is not None:
        rows = np.random.default_rng(0).permutation(len(unlabelled))
        drawn = rows[: configuration.self_training.texts]
        datasets["unlabelled"] = dataset([unlabelled[row] for row in drawn])
    return Prepared(vocabulary, max_length, matrix, datasets, language_model, history)


def _embedding_matrix(
    configuration: Configuration, vocabulary: Vocabulary, unlabelled: TokenLists
) -> np.ndarray:
    """(V, D), with the zero row of padding."""
    if configuration.vectors is None:
        shape = (len(vocabulary), configuration.vector_size)
        matrix = np.random.default_rng(0).uniform(-0.05, 0.05, shape)  # where Keras starts
        matrix[PADDING_INDEX] = 0
        return matrix.astype(np.float32)
    if configuration.vectors == "imdb":
        if not unlabelled:
            raise DataError("vectors 'imdb' are trained here and need texts; there are none")
        vectors = train_word_vectors(unlabelled, configuration.vector_size)
    else:
        vectors = load_word_vectors(configuration.vectors, vocabulary.words)
    return build_embedding_matrix(vocabulary, vectors)[0]


def build_model(configuration: Configuration, prepared: Prepared) -> SentimentLSTM:
    """The untrained network, with weights drawn by `configuration.training.seed`.

    Raises:
        ValueError: an option has an impossible value.
    """
    torch.manual_seed(configuration.training.seed)
    model = SentimentLSTM(prepared.embedding_matrix, **configuration.model)
    if prepared.language_model is not None:
        start_from(model, prepared.language_model)
    return model


REPORT = Configuration(
    model={"hidden_size": 128, "embedding_dropout": 0.5, "dropout": 0.5},
)


PRETRAINED = Configuration(
    min_count=5,
    max_words=30_000,
    model={
        "hidden_size": 256,
        "pooling": "last",
        "embedding_dropout": 0.3,
        "dropout": 0.5,
    },
    training=TrainingConfig(
        epochs=6,
        learning_rate=3e-3,
        recurrent_rate_factor=0.5,
        embedding_rate_factor=0.1,
        adversarial_norm=5.0,
    ),
    pretraining=PretrainingConfig(),
)


# What the four systems leave open is as in Keras: words from the end of a longer review, vectors
# from small random numbers, Adam at a constant 1e-3, gradients as they are. Keras' `dropout` of an
# LSTM is a mask on the dimensions of its input, the same at every step: spatial dropout.
_LEARNT = Configuration(
    vectors=None,
    min_count=1,
    max_words=10_000,
    max_length=200,
    keep="tail",
    training=TrainingConfig(
        epochs=5,
        learning_rate=1e-3,
        schedule="constant",
        embedding_rate_factor=1.0,
        clip_norm=1e9,
    ),
)


PRESETS = {
    "lab8-rnn": _LEARNT.but({"hidden_size": 128, "cell": "rnn"}, vector_size=64),
    "lab8-lstm": _LEARNT.but({"hidden_size": 128}, vector_size=64),
    "practical11": _LEARNT.but(
        {"hidden_size": 128, "spatial_dropout": 0.2, "recurrent_dropout": 0.2}, vector_size=128
    ),
    "experiment9-baseline": _LEARNT.but({"hidden_size": 32}, vector_size=32),
    # Its spatial dropout of 0.3 and the LSTM's own of 0.2 leave 0.7 * 0.8 = 0.56 of the input.
    "experiment9-tuned": _LEARNT.but(
        {"hidden_size": 64, "spatial_dropout": 0.44, "recurrent_dropout": 0.2}, vector_size=128
    ),
    "day17": _LEARNT.but({"hidden_size": 64}, vector_size=64),
}
