"""The whole pipeline as one scikit-learn estimator: texts and labels go in, a classifier comes out.

`SentimentClassifier` assembles what the other modules make: tokens, vocabulary, word vectors,
network, training. What it does once it is fitted is in `predictor`; it is saved as one file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d

from lstm_sentiment.data import ReviewDataset, with_pieces
from lstm_sentiment.embeddings import build_embedding_matrix, load_word_vectors
from lstm_sentiment.files.keep import load_tensors, save_tensors
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.predictor import MODEL_OPTIONS, TextPredictor, model_file
from lstm_sentiment.text import (
    PADDING_INDEX,
    DataError,
    Vocabulary,
    choose_max_length,
    tokenize_all,
)
from lstm_sentiment.training import SENTIMENT, TrainingConfig, predict_logits, train
from lstm_sentiment.weights import weights_file

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

    Texts = Iterable[str | Sequence[str]]

TRAINING_SETTINGS = tuple(field.name for field in fields(TrainingConfig) if field.name != "seed")


class SentimentClassifier(TextPredictor, ClassifierMixin, BaseEstimator):
    """Sentiment of reviews given as text.

    Args:
        vectors: where word vectors come from: a name or path for `load_word_vectors` ("imdb": those
            that come with the package; "own": they are trained on the texts), gensim's
            `KeyedVectors`, or None: they start from small random numbers and are learnt with the
            rest.
        vector_size: of vectors that are learnt here.
        min_count, max_words: of the vocabulary, see `Vocabulary.from_tokens`.
        vocabulary: a `Vocabulary`; None: collected from the training texts.
        start: "language-model", the one that comes with the package, or the file of another one
            (`studies.language_model`): vocabulary, word vectors, LSTM and its size are then its.
        max_length: words a review is cut to; None: as `choose_max_length` chooses.
        keep: which part of a longer review is kept, see `truncate`.
        pieces: of each review, that many pieces of some words are learnt from as well, see
            `with_pieces`.
        hidden_size, num_layers, bidirectional, pooling, cell, freeze_embedding, embedding_dropout,
            spatial_dropout, recurrent_dropout, dropout: see `SentimentLSTM`.
        epochs, batch_size, learning_rate, schedule, clip_norm, label_smoothing,
            embedding_rate_factor, recurrent_rate_factor, averaging_decay, adversarial_norm: see
            `TrainingConfig`.
        validation_fraction: share of the reviews given to `fit` that chooses the epoch, unless
            `fit` is given others for it.
        random_state: seed of the weights, the order of reviews and dropout.

    Attributes:
        history_: of the training, see `train`; a loaded classifier has none.
        classes_, vocabulary_, max_length_, model_, temperature_: see `TextPredictor`.
    """

    def __init__(
        self,
        *,
        vectors: str | Path | KeyedVectors | None = "imdb",
        vector_size: int = 200,
        min_count: int = 2,
        max_words: int | None = None,
        vocabulary: Vocabulary | None = None,
        start: str | Path | None = None,
        max_length: int | None = None,
        keep: str = "head_and_tail",
        pieces: int = 0,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        cell: str = "lstm",
        freeze_embedding: bool = False,
        embedding_dropout: float = 0.5,
        spatial_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        dropout: float = 0.5,
        epochs: int = TrainingConfig.epochs,
        batch_size: int = TrainingConfig.batch_size,
        learning_rate: float = TrainingConfig.learning_rate,
        schedule: str = TrainingConfig.schedule,
        clip_norm: float = TrainingConfig.clip_norm,
        label_smoothing: float = TrainingConfig.label_smoothing,
        embedding_rate_factor: float = TrainingConfig.embedding_rate_factor,
        recurrent_rate_factor: float = TrainingConfig.recurrent_rate_factor,
        averaging_decay: float = TrainingConfig.averaging_decay,
        adversarial_norm: float = TrainingConfig.adversarial_norm,
        validation_fraction: float = 0.2,
        random_state: int = TrainingConfig.seed,
    ) -> None:
        self.vectors = vectors
        self.vector_size = vector_size
        self.min_count = min_count
        self.max_words = max_words
        self.vocabulary = vocabulary
        self.start = start
        self.max_length = max_length
        self.keep = keep
        self.pieces = pieces
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.cell = cell
        self.freeze_embedding = freeze_embedding
        self.embedding_dropout = embedding_dropout
        self.spatial_dropout = spatial_dropout
        self.recurrent_dropout = recurrent_dropout
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.label_smoothing = label_smoothing
        self.embedding_rate_factor = embedding_rate_factor
        self.recurrent_rate_factor = recurrent_rate_factor
        self.averaging_decay = averaging_decay
        self.adversarial_norm = adversarial_norm
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(
        self,
        texts: Texts,
        labels: Sequence,
        validation: tuple[Texts, Sequence] | None = None,
        unlabelled: Texts = (),
        teacher: Any = None,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        on_epoch: Callable[[dict], None] | None = None,
    ) -> SentimentClassifier:
        """Learn from n reviews and their labels.

        Args:
            texts: n strings, or lists of tokens.
            labels: (n,) of two different values, such as 0 and 1 or "negative" and "positive".
            validation: texts and labels that choose the epoch and the temperature; None: a share
                of those given.
            unlabelled: more texts, for the vectors "own" and for the teacher.
            teacher: a classifier for the same labels whose `predict_proba` takes lists of tokens;
                the network also learns what it makes of the `unlabelled` texts (distillation,
                Hinton et al. 2015), and its last epoch is kept.
            checkpoint, resume, on_epoch: see `train`; where the keyboard interrupts it, `history_`
                has the epochs completed.

        Raises:
            DataError: a text is no string, or the labels are not of two classes.
            FloatingPointError: the training diverged.
        """
        token_lists = tokenize_all(texts)
        targets = self._targets(labels, len(token_lists), known=False)
        if validation is None:
            token_lists, targets, chosen_on = self._hold_out(token_lists, targets)
        else:
            held_out = tokenize_all(validation[0], "validation")
            chosen_on = held_out, self._targets(validation[1], len(held_out))
        unlabelled = tokenize_all(unlabelled, "texts without labels")
        if teacher is not None:
            of_teacher = np.asarray(teacher.predict_proba(unlabelled)[:, 1], dtype=np.float32)
            targets = np.append(targets, of_teacher)
            token_lists, unlabelled = [*token_lists, *unlabelled], []
        self.vocabulary_, matrix, lstm_weights = self._start(token_lists, unlabelled)
        max_length = self.max_length
        if max_length is None:
            max_length = choose_max_length([len(tokens) for tokens in token_lists]).max_length
        self.max_length_ = max_length
        token_lists, targets = with_pieces(token_lists, targets, self.pieces, self.random_state)
        torch.manual_seed(self.random_state)
        options = self._of(MODEL_OPTIONS)
        if lstm_weights:
            options["hidden_size"] = len(lstm_weights["cells.0.forget_gate.weight"])
        self.model_ = SentimentLSTM(matrix, **options)
        if lstm_weights:
            self.model_.lstm.load_state_dict(lstm_weights)
        training_set = ReviewDataset(self._encoded(token_lists), targets)
        validation_set = ReviewDataset(self._encoded(chosen_on[0]), chosen_on[1])
        config = TrainingConfig(**self._of(TRAINING_SETTINGS), seed=self.random_state)
        # What a teacher says of many texts tells more than which epoch few reviews happen to like.
        last = SENTIMENT._replace(rank=lambda row: (row["epoch"],))
        self.history_ = train(
            self.model_,
            training_set,
            validation_set,
            config,
            None if teacher is None else last,
            checkpoint=checkpoint,
            resume=resume,
            on_epoch=on_epoch,
        )
        from lstm_sentiment.evaluation import fit_temperature

        logits = predict_logits(self.model_, validation_set)
        self.temperature_ = fit_temperature(chosen_on[1], logits)
        return self

    def _targets(self, labels: Sequence, n: int, known: bool = True) -> np.ndarray:
        """Labels as (n,) float32, 1 for the second of `classes_`."""
        labels = column_or_1d(labels, warn=True)
        if len(labels) != n:
            raise DataError(f"there are {n} texts and {len(labels)} labels; give one each")
        if not known:
            self.classes_ = np.unique(labels)
            if len(self.classes_) != 2:
                raise DataError(
                    "labels must be of two classes, such as 0 and 1 or 'negative' and 'positive'; "
                    f"got {len(self.classes_)} class(es): {self.classes_[:5].tolist()}"
                )
        strange = np.setdiff1d(labels, self.classes_)[:5].tolist()
        if strange:
            raise DataError(f"labels are {strange}; they must be of {self.classes_.tolist()}")
        return (labels == self.classes_[1]).astype(np.float32)

    def _hold_out(self, token_lists: list, targets: np.ndarray) -> tuple:
        """What is left to learn from, and a share of both classes to validate on."""
        from sklearn.model_selection import train_test_split

        learn, validate = train_test_split(
            np.arange(len(targets)),
            test_size=self.validation_fraction,
            stratify=targets,
            random_state=self.random_state,
        )
        validation = [token_lists[row] for row in validate], targets[validate]
        return [token_lists[row] for row in learn], targets[learn], validation

    def _start(self, token_lists: list, unlabelled: list) -> tuple[Vocabulary, np.ndarray, dict]:
        """The vocabulary, word vectors (V, D) and, from a language model, the LSTM's weights."""
        if self.start is not None:
            if (self.cell, self.num_layers, self.bidirectional) != ("lstm", 1, False):
                raise DataError(
                    "a language model reads forward with one layer of LSTM cells; a network that "
                    f"starts from it cannot have cell={self.cell!r}, num_layers={self.num_layers}, "
                    f"bidirectional={self.bidirectional}"
                )
            shipped = self.start == "language-model"
            path = weights_file("language_model") if shipped else self.start
            tensors, settings = load_tensors(path)
            if "counts" not in tensors:
                raise DataError(f"{path} is no language model; name the file of one")
            vocabulary = Vocabulary(settings["words"], tensors["counts"].numpy())
            lstm = {n.removeprefix("lstm."): t for n, t in tensors.items() if n.startswith("lstm.")}
            return vocabulary, tensors["embedding.weight"].numpy(), lstm
        vocabulary = self.vocabulary
        if vocabulary is None:
            vocabulary = Vocabulary.from_tokens(token_lists, self.min_count, self.max_words)
        if self.vectors is None:
            shape = (len(vocabulary), self.vector_size)
            matrix = np.random.default_rng(0).uniform(-0.05, 0.05, shape)  # where Keras starts
            matrix[PADDING_INDEX] = 0
            return vocabulary, matrix.astype(np.float32), {}
        vectors = self.vectors
        if isinstance(vectors, str | Path):
            texts = [*token_lists, *unlabelled]
            vectors = load_word_vectors(vectors, vocabulary.words, texts, self.vector_size)
        return vocabulary, build_embedding_matrix(vocabulary, vectors)[0], {}

    def save(self, path: str | Path = "artifacts") -> None:
        """Write one safetensors file: `path`, or `model.safetensors` in the folder `path`.

        It is for judging texts: `vocabulary`, `start` and `vectors` given as an object are not kept
        for another `fit`.

        Raises:
            OSError: it cannot be written.
        """
        check_is_fitted(self)
        given = self._of(self.get_params())
        given = {n: str(v) if isinstance(v, Path) else v for n, v in given.items()}
        settings = {name: value for name, value in given.items() if _is_plain(value)}
        settings |= {"start": None, "max_length": self.max_length_}
        settings["hidden_size"] = self.model_.lstm.hidden_size
        tensors = self.model_.state_dict() | {"counts": torch.from_numpy(self.vocabulary_.counts)}
        description = {
            "settings": settings,
            "words": self.vocabulary_.words,
            "classes": self.classes_.tolist(),
            "temperature": self.temperature_,
        }
        save_tensors(model_file(path), tensors, description)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.classifier_tags.multi_class = False
        return tags


def _is_plain(value: object) -> bool:
    """Whether JSON can hold a setting; word vectors given as an object are not kept."""
    return value is None or isinstance(value, str | int | float)
