"""Pre-training without labels: the LSTM first learns to predict the next word of reviews.

To tell what comes next it must follow what was said, negation and tone included, and the text for
that costs no labels. Its word vectors and its LSTM then are where the classifier starts from (Dai &
Le 2015, "Semi-supervised Sequence Learning"; Howard & Ruder 2018 for the fine-tuning). Tokenized
texts enter; a file leaves, for the parameter `start` of `SentimentClassifier`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from lstm_sentiment.data import Batch, ReviewDataset, make_loader
from lstm_sentiment.embeddings import build_embedding_matrix, load_word_vectors, training_key
from lstm_sentiment.fast.cross_entropy import cross_entropy
from lstm_sentiment.files.find import data_folder
from lstm_sentiment.files.keep import save_tensors
from lstm_sentiment.lstm import LSTMLayer
from lstm_sentiment.model import Dropout, evaluating
from lstm_sentiment.processes import is_first, of_first
from lstm_sentiment.report.speed import machine
from lstm_sentiment.studies.presets import LANGUAGE_MODEL
from lstm_sentiment.studies.reviews import unlabelled_tokens, validation_tokens
from lstm_sentiment.text import PADDING_INDEX, DataError, Vocabulary
from lstm_sentiment.training import Task, TrainingConfig, train

TokenLists = Sequence[Sequence[str]]
PIECE_LENGTH = 400  # words; a longer review is read as several texts
EVALUATION_BATCH_SIZE = 16
MAX_WORDS = 25_000
VALIDATION_TEXTS = 200


class LanguageModel(nn.Module):
    """The probability of each word of the vocabulary to come next.

    Embedding and LSTM are those of `SentimentLSTM`. The hidden state is then brought to the size of
    a word vector, and a word's score is its dot product with the word's own vector plus a bias
    (Press & Wolf 2017): the vectors learn from both ends, and there is no second table.

    Args:
        embedding_matrix: (V, D) where the word vectors start; row 0 is padding.
        counts: (V,) how often each word occurs in the texts.
        hidden_size: H.
        dropout: share of the hidden states dropped before the prediction, in training.
    """

    def __init__(
        self,
        embedding_matrix: np.ndarray | Tensor,
        counts: np.ndarray,
        hidden_size: int,
        dropout: float = 0.0,
    ):
        super().__init__()
        weights = torch.as_tensor(embedding_matrix, dtype=torch.float32)
        self.embedding = nn.Embedding.from_pretrained(
            weights.clone(), freeze=False, padding_idx=PADDING_INDEX
        )
        self.lstm = LSTMLayer(weights.shape[1], hidden_size)
        self.dropout = Dropout(dropout)
        self.projection = nn.Linear(hidden_size, weights.shape[1])
        shares = torch.as_tensor(counts, dtype=torch.float32).clamp(min=1)
        shares[PADDING_INDEX] = 0  # padding never comes next: it has neither score nor bias
        self.register_buffer("shares", shares / shares.sum(), persistent=False)
        self.bias = nn.Parameter(self.shares[1:].log())

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Mean cross-entropy, in nats, of words 2, 3, ... of texts (B, T) with lengths (B,).

        In training, the words of the batch stand for the whole vocabulary: a word that would be
        there with probability q, if words were drawn one by one, counts 1 / q times, so that the
        sum over them approximates that over all words (Bengio & Senécal 2008). With 1,500 words
        instead of 30,000 a step takes a fraction of the time. In evaluation all words are summed
        over. Of several processes (see `processes`) each takes the words of its own share of the
        batch: another approximation of the same sum, so losses differ a little from one process's.
        """
        words, rows = torch.unique(token_ids, return_inverse=True)  # (U,), (B, T)
        vectors = self.embedding(words)  # (U, D)
        lengths = lengths - 1
        outputs, _ = self.lstm(vectors, lengths, rows=rows[:, :-1])  # (B, T - 1, H)
        valid = torch.arange(outputs.shape[1], device=outputs.device) < lengths[:, None].to(
            outputs.device
        )
        predicted = self.projection(self.dropout(outputs[valid]))  # (N, D)
        targets = token_ids[:, 1:][valid] - 1
        if not self.training:
            return cross_entropy(predicted, self.embedding.weight[1:], self.bias, targets)
        padding = int(words[0] == PADDING_INDEX)
        words, vectors = words[padding:], vectors[padding:]
        present = -torch.expm1(len(predicted) * torch.log1p(-self.shares[words]))  # q
        bias = self.bias[words - 1] - present.log()
        return cross_entropy(predicted, vectors, bias, rows[:, 1:][valid] - padding)


def next_word_loss(
    model: LanguageModel, batch: Batch, config: TrainingConfig
) -> tuple[Tensor, dict[str, float]]:
    """The sampled loss of a batch, see `LanguageModel`; an epoch's is the mean over batches."""
    loss = model(batch.token_ids, batch.lengths)
    return loss, {"n": 1, "loss": loss.item()}


def perplexity(model: LanguageModel, dataset: ReviewDataset) -> dict[str, float]:
    """`loss`, the mean cross-entropy per word in nats, and `perplexity`, the exponential of it: of
    how many words the model seems to choose."""
    device = next(model.parameters()).device
    total, words = 0.0, 0
    with evaluating(model), torch.inference_mode():
        for batch in make_loader(dataset, EVALUATION_BATCH_SIZE, shuffle=False):
            predicted = int((batch.lengths - 1).sum())
            total += model(batch.token_ids.to(device), batch.lengths).item() * predicted
            words += predicted
    return {"loss": total / words, "perplexity": math.exp(total / words)}


# The last epoch is kept: what the classifier makes of the model is not what perplexity measures.
NEXT_WORD = Task(next_word_loss, perplexity, lambda row: (row["epoch"],))


def text_pieces(token_lists: TokenLists, vocabulary: Vocabulary) -> ReviewDataset:
    """Word indices of the texts, cut into pieces of at most `PIECE_LENGTH` words.

    A piece of one word, after which nothing comes, is left out.

    Raises:
        DataError: no text has two words.
    """
    pieces = []
    for tokens in token_lists:
        ids = vocabulary.encode(tokens)
        pieces += [ids[start : start + PIECE_LENGTH] for start in range(0, len(ids), PIECE_LENGTH)]
    pieces = [piece for piece in pieces if len(piece) > 1]
    if not pieces:
        raise DataError("the texts for the language model hold no two words in a row")
    return ReviewDataset(pieces)


def pretrained_language_model(
    token_lists: TokenLists,
    validation_token_lists: TokenLists,
    vocabulary: Vocabulary,
    embedding_matrix: np.ndarray,
    hidden_size: int,
    dropout: float,
    **training: float,
) -> Path:
    """The file of the language model of these texts, trained here unless it was before.

    It lies in the data folder under a name that depends on texts, words, vectors and settings; so
    does, meanwhile, the checkpoint from which a run that was interrupted goes on. A second process
    waits for the first.

    Args:
        token_lists: the words of each text; none of them may be tested on later.
        validation_token_lists: texts for the perplexity in the history; nothing is chosen by it.
        vocabulary: the words to predict and to read.
        embedding_matrix: (V, D) where the word vectors start.
        hidden_size, dropout: see `LanguageModel`.
        training: settings of `TrainingConfig`.

    Returns:
        A file for `load_tensors`: the weights, `counts` of the vocabulary; `words` and `history`.

    Raises:
        DataError: the texts hold no two words in a row, or the checkpoint is damaged.
        KeyboardInterrupt: it was interrupted; the epochs completed are kept.
    """
    config = TrainingConfig(**training)
    start = hashlib.sha256(np.ascontiguousarray(embedding_matrix).tobytes()).hexdigest()
    settings = {**asdict(config), "hidden_size": hidden_size, "dropout": dropout}
    settings |= {"words": vocabulary.words, "vectors": start}
    path = data_folder() / f"language-model-{training_key(token_lists, settings)}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")) if is_first() else nullcontext():
        if of_first(path.is_file()):
            return path
        training_set = text_pieces(token_lists, vocabulary)
        validation_set = text_pieces(validation_token_lists, vocabulary)
        checkpoint = path.with_suffix(".checkpoint")
        if checkpoint.exists():
            print(f"the language model goes on from {checkpoint}")
        torch.manual_seed(config.seed)
        model = LanguageModel(embedding_matrix, vocabulary.counts, hidden_size, dropout)
        sets = (training_set, validation_set)
        history = train(model, *sets, config, NEXT_WORD, checkpoint, resume=True)
        if len(history) < config.epochs:
            raise KeyboardInterrupt(
                f"{len(history)} of {config.epochs} epochs of the language model are kept; the "
                "same command goes on from there"
            )
        if is_first():
            tensors = model.state_dict() | {"counts": torch.from_numpy(vocabulary.counts)}
            rows = history.assign(**machine()).to_dict("records")
            save_tensors(path, tensors, {"words": vocabulary.words, "history": rows})
            checkpoint.unlink()
    return of_first(path)


def language_model(hidden_size: int = LANGUAGE_MODEL["hidden_size"]) -> Path:
    """The file of the language model of the reviews without labels, trained unless it was before.

    Args:
        hidden_size: H.
    """
    texts, validation = unlabelled_tokens(), validation_tokens()[:VALIDATION_TEXTS]
    vocabulary = Vocabulary.from_tokens(texts, 5, MAX_WORDS)
    matrix, _ = build_embedding_matrix(vocabulary, load_word_vectors("imdb"))
    settings = {**LANGUAGE_MODEL, "hidden_size": hidden_size}
    return pretrained_language_model(texts, validation, vocabulary, matrix, **settings)
