"""The classifier: pre-trained embedding, the hand-written LSTM, pooling, one linear layer.

`SentimentLSTM` takes word indices and lengths and returns one logit per review; the sigmoid is
applied once, by the loss (`BCEWithLogitsLoss`) in training and by `predict_proba` afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lstm_sentiment.fast.layer import fast_dropout
from lstm_sentiment.lstm import LSTMLayer, python_number, require_tensor

POOLINGS = ("last", "mean_max")


class Dropout(nn.Dropout):
    """`nn.Dropout`, drawn faster on a CPU; see `fast_dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return fast_dropout(x, self.p, self.training)


class SentimentLSTM(nn.Module):
    """Sentiment of a review from its word indices.

    Args:
        embedding_matrix: (V, D) vector of the word with each index; row 0, padding, must be zero.
        hidden_size: H, size of the LSTM's states.
        num_layers: LSTM layers.
        bidirectional: read the review from both ends.
        pooling: what stands for the review: "last", the last layer's state after the last valid
            word; or "mean_max", the mean and the maximum of its states over all valid words.
        embedding_dropout: share of the components of each distinct word's vector dropped, in
            training; a word loses the same ones wherever it occurs in the batch, so each distinct
            word is projected only once.
        spatial_dropout: share of the dimensions of the word vectors dropped, in training; a review
            loses the same ones at every step (Gal & Ghahramani 2016), so every step is projected.
        recurrent_dropout: see `LSTMLayer`.
        dropout: share of the pooled vector (and of the states between layers) dropped, in training.
        freeze_embedding: keep the word vectors as given instead of fine-tuning them.
        cell: see `LSTMLayer`.
        backend: see `LSTMLayer`.

    Raises:
        ValueError: if `embedding_matrix` is not a matrix of finite numbers with a zero row 0, or
            an option has an impossible value.
    """

    def __init__(
        self,
        embedding_matrix: np.ndarray | Tensor,
        hidden_size: int = 128,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "last",
        embedding_dropout: float = 0.0,
        spatial_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        dropout: float = 0.0,
        freeze_embedding: bool = False,
        cell: str = "lstm",
        backend: str = "fused",
    ):
        super().__init__()
        #: What a saved model needs besides its weights; the backend is the reader's choice.
        self.options = {
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "bidirectional": bidirectional,
            "pooling": pooling,
            "embedding_dropout": embedding_dropout,
            "spatial_dropout": spatial_dropout,
            "recurrent_dropout": recurrent_dropout,
            "dropout": dropout,
            "freeze_embedding": freeze_embedding,
            "cell": cell,
        }
        self.options = {name: python_number(value) for name, value in self.options.items()}
        if pooling not in POOLINGS:
            raise ValueError(f"pooling is {pooling!r}; it must be one of {POOLINGS}")
        self.pooling = pooling
        weights = _checked_matrix(embedding_matrix)
        self.embedding = nn.Embedding.from_pretrained(
            weights.clone(), freeze=freeze_embedding, padding_idx=0
        )
        self.embedding_dropout = Dropout(embedding_dropout)
        self.spatial_dropout = nn.Dropout1d(spatial_dropout)
        self.lstm = LSTMLayer(
            weights.shape[1],
            hidden_size,
            num_layers,
            bidirectional,
            dropout,
            recurrent_dropout,
            backend,
            cell=cell,
        )
        directions = 2 if bidirectional else 1
        parts = 1 if pooling == "last" else 2
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(parts * directions * hidden_size, 1)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Word indices (B, T), right-padded with 0, and lengths (B,) to logits (B,).

        Raises:
            ValueError: if a type, shape, dtype, index or length does not fit; the message names
                the argument.
        """
        require_tensor(token_ids=token_ids, lengths=lengths)
        if token_ids.dim() != 2 or token_ids.numel() == 0 or token_ids.dtype != torch.long:
            raise ValueError(
                f"token_ids has shape {tuple(token_ids.shape)} and dtype {token_ids.dtype}; it "
                "must be (B, T), none of them 0, torch.long"
            )
        words, rows = torch.unique(token_ids, return_inverse=True)  # (U,) ascending, (B, T)
        if words[0] < 0 or words[-1] >= self.embedding.num_embeddings:
            raise ValueError(
                f"token_ids holds {int(words[0])} to {int(words[-1])}; it must stay between 0 and "
                f"{self.embedding.num_embeddings - 1}, the last word of the vocabulary"
            )
        vectors = self.embedding_dropout(self.embedding(words))  # (U, D)
        if self.training and self.spatial_dropout.p:
            # Not vectors[rows], whose gradient is not the same each time; see `run_cells`.
            spread = nn.functional.embedding(rows, vectors).transpose(1, 2)  # (B, D, T)
            return self.classify(self.spatial_dropout(spread).transpose(1, 2), lengths)
        return self.classify(vectors, lengths, rows)

    def classify(self, vectors: Tensor, lengths: Tensor, rows: Tensor | None = None) -> Tensor:
        """Word vectors (B, T, D), or a table (U, D) of them with rows (B, T), to logits (B,)."""
        outputs, (h_n, _) = self.lstm(
            vectors, lengths, rows=rows, need_outputs=self.pooling != "last"
        )
        if self.pooling == "last":
            top = h_n[-2:] if self.lstm.bidirectional else h_n[-1:]  # (directions, B, H)
            pooled = torch.cat(tuple(top), dim=1)  # (B, H or 2H)
        else:
            pooled = _mean_max(outputs, lengths.to(outputs.device))  # (B, 2H or 4H)
        return self.output(self.dropout(pooled)).squeeze(1)

    @torch.inference_mode()
    def predict_proba(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Probability (B,) that each review is positive, without dropout."""
        with evaluating(self):
            return torch.sigmoid(self(token_ids, lengths))


def _checked_matrix(embedding_matrix: np.ndarray | Tensor) -> Tensor:
    weights = torch.as_tensor(embedding_matrix, dtype=torch.float32)
    if weights.dim() != 2 or 0 in weights.shape or weights[0].any():
        raise ValueError(
            f"embedding_matrix has shape {tuple(weights.shape)}; it must be (V, D), none of "
            "them 0, with zeros in row 0, which stands for padding"
        )
    if not weights.isfinite().all():
        raise ValueError("embedding_matrix holds numbers that are NaN or infinite")
    return weights


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` without dropout; afterwards, whatever happens in between, as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def _mean_max(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Mean and maximum over the valid steps: (B, T, C), zero after each length, to (B, 2C)."""
    valid = torch.arange(outputs.shape[1], device=outputs.device) < lengths[:, None]  # (B, T)
    mean = outputs.sum(dim=1) / lengths[:, None]
    maximum = outputs.masked_fill(~valid[:, :, None], -torch.inf).amax(dim=1)
    return torch.cat([mean, maximum], dim=1)
