"""The classifier's network: word vectors, the hand-written LSTM, pooling, one linear layer.

`SentimentLSTM` takes word indices and lengths and returns one logit per review; the sigmoid is
applied once, by the loss (`BCEWithLogitsLoss`) in training and by `predict_proba` afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lstm_sentiment.fast.dropout import fast_dropout
from lstm_sentiment.lstm import GRUCell, LSTMCell, LSTMLayer, RecurrentLayer, RNNCell
from lstm_sentiment.text import PADDING_INDEX

POOLINGS = {"last": 1, "mean_max": 2, "last_mean_max": 3}  # states that stand for a review
CELLS = ("lstm", "gru", "rnn")


class SentimentLSTM(nn.Module):
    """Sentiment of a review from its word indices.

    Args:
        embedding_matrix: (V, D) vector of the word with each index; row 0, padding, must be zero.
        hidden_size: H, size of the LSTM's states.
        num_layers, bidirectional, recurrent_dropout: see `RecurrentLayer`.
        pooling: what stands for the review: "last", the last layer's state after the last valid
            word; "mean_max", the mean and the maximum of its states over all valid words; or
            "last_mean_max", all three (Howard & Ruder 2018).
        embedding_dropout: share of the components of each distinct word's vector dropped, in
            training; a word loses the same ones wherever it occurs in the batch, so each distinct
            word is projected only once.
        spatial_dropout: share of the dimensions of the word vectors dropped, in training; a review
            loses the same ones at every step (Gal & Ghahramani 2016), so every step is projected.
        dropout: share of the pooled vector (and of the states between layers) dropped, in training.
        freeze_embedding: keep the word vectors as given instead of fine-tuning them.
        cell: "lstm", or for comparison "gru" or "rnn".

    Raises:
        ValueError: the padding row is not zero, or an option is none of those it can be.
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
    ):
        super().__init__()
        if isinstance(embedding_matrix, Tensor):
            embedding_matrix = embedding_matrix.detach().float().cpu().numpy()
        vectors = torch.from_numpy(np.array(embedding_matrix, dtype=np.float32))  # a copy
        if vectors[PADDING_INDEX].any():
            raise ValueError("row 0 of embedding_matrix stands for padding; it must be zero")
        if pooling not in POOLINGS or cell not in CELLS:
            raise ValueError(
                f"pooling and cell are {pooling!r} and {cell!r}; they must be of {tuple(POOLINGS)} "
                f"and {CELLS}"
            )
        self.pooling = pooling
        self.embedding = nn.Embedding.from_pretrained(
            vectors, freeze=freeze_embedding, padding_idx=PADDING_INDEX
        )
        self.embedding_dropout = Dropout(embedding_dropout)
        self.spatial_dropout = nn.Dropout1d(spatial_dropout)
        sizes = (vectors.shape[1], hidden_size, num_layers, bidirectional)
        dropouts = (dropout, recurrent_dropout)
        self.lstm: RecurrentLayer = (
            LSTMLayer(*sizes, *dropouts)
            if cell == "lstm"
            else RecurrentLayer(GRUCell if cell == "gru" else RNNCell, *sizes, *dropouts)
        )
        self.dropout = Dropout(dropout)
        states = (2 if bidirectional else 1) * POOLINGS[pooling]
        self.output = nn.Linear(states * hidden_size, 1)
        self.float()  # as the vectors, whatever PyTorch's default is

    def forward(
        self, token_ids: Tensor, lengths: Tensor, perturbation: Tensor | None = None
    ) -> Tensor:
        """Word indices (B, T), right-padded with 0, and lengths (B,) to logits (B,).

        `perturbation` (B, T, D) is added to the words' vectors."""
        words, rows = torch.unique(token_ids, return_inverse=True)  # (U,) ascending, (B, T)
        vectors = self.embedding_dropout(self.embedding(words))  # (U, D)
        is_spatial = self.training and self.spatial_dropout.p > 0
        if perturbation is None and not is_spatial:
            return self.classify(vectors, lengths, rows)
        # Not vectors[rows], whose gradient is not the same each time; see `run_cells`.
        spread = nn.functional.embedding(rows, vectors)  # (B, T, D)
        if perturbation is not None:
            spread = spread + perturbation
        if is_spatial:
            spread = self.spatial_dropout(spread.transpose(1, 2)).transpose(1, 2)
        return self.classify(spread, lengths)

    def classify(self, vectors: Tensor, lengths: Tensor, rows: Tensor | None = None) -> Tensor:
        """Word vectors (B, T, D), or a table (U, D) of them with rows (B, T), to logits (B,)."""
        outputs, (h_n, _) = self.lstm(
            vectors, lengths, rows=rows, need_outputs=self.pooling != "last"
        )
        top = h_n[-2:] if self.lstm.bidirectional else h_n[-1:]  # (directions, B, H)
        states = list(top) if self.pooling.startswith("last") else []
        if self.pooling != "last":
            states += mean_max(outputs, lengths.to(outputs.device))
        return self.output(self.dropout(torch.cat(states, dim=1))).squeeze(1)


class Dropout(nn.Dropout):
    """`nn.Dropout`, drawn faster on a CPU; see `fast_dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return fast_dropout(x, self.p, self.training)


def mean_max(outputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and maximum over the valid steps: (B, T, C), zero after each length, to twice (B, C)."""
    valid = torch.arange(outputs.shape[1], device=outputs.device) < lengths[:, None]  # (B, T)
    mean = outputs.sum(dim=1) / lengths[:, None]
    return mean, outputs.masked_fill(~valid[:, :, None], -torch.inf).amax(dim=1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`model` without dropout; afterwards, whatever happens in between, as it was."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training


class WordStream:
    """A review that arrives word by word, read in constant memory and constant time per word.

    Args:
        model: the network; it must read forward only.

    Raises:
        ValueError: the network reads backward as well, and would have to wait for the end.
    """

    def __init__(self, model: SentimentLSTM) -> None:
        if model.lstm.bidirectional:
            raise ValueError("a bidirectional model must see a review's end before it can begin")
        self.model = model
        self.words = 0
        zeros = model.embedding.weight.new_zeros(1, model.lstm.hidden_size)
        self._states = [(zeros, zeros) for _ in model.lstm.cells]
        #: Sum and maximum of the hidden states so far, where the network looks at them.
        self._pooled = () if model.pooling == "last" else (zeros, zeros - torch.inf)
        self._last_step: tuple[Tensor, Tensor] | None = None

    @property
    def state_bytes(self) -> int:
        """Memory that everything read so far takes."""
        kept = [*self._pooled, *(part for state in self._states for part in state)]
        return sum(tensor.nbytes for tensor in kept)

    @torch.inference_mode()
    def read(self, index: int) -> float:
        """The logit of "positive" after one more word of this index.

        Raises:
            IndexError: the index is no word's.
        """
        if not 1 <= index < self.model.embedding.num_embeddings:  # -1 would be the last word
            raise IndexError(f"index {index} is not of the vocabulary")
        x = self.model.embedding.weight[index][None]  # (1, D)
        for layer, cell in enumerate(self.model.lstm.cells):
            self._last_step = (self._states[layer][0], x)
            self._states[layer] = cell(x, self._states[layer])
            x = self._states[layer][0]  # (1, H)
        self.words += 1
        if self._pooled:
            total, maximum = self._pooled
            self._pooled = (total + x, torch.maximum(maximum, x))
            last = [x] if self.model.pooling == "last_mean_max" else []
            x = torch.cat([*last, self._pooled[0] / self.words, self._pooled[1]], dim=1)
        return self.model.output(x).item()

    @torch.inference_mode()
    def gates(self) -> dict[str, np.ndarray]:
        """How far each unit of the last layer had its gates open at the last word.

        Returns:
            (H,) between 0 and 1 for forget_gate, input_gate and output_gate; nothing before the
            first word, or of cells that are no LSTM's.
        """
        cell = self.model.lstm.cells[-1]
        if self._last_step is None or not isinstance(cell, LSTMCell):
            return {}
        hx = torch.cat(self._last_step, dim=1)
        names = ("forget_gate", "input_gate", "output_gate")
        return {name: getattr(cell, name)(hx).sigmoid()[0].float().cpu().numpy() for name in names}
