"""One review, word by word: the verdict after each word, and what the gates do.

`WordStream` reads word indices one at a time with a trained `SentimentLSTM`; what it has read it
keeps in states of fixed size. `word_by_word` and `gate_openings` follow a whole review, `quantized`
makes the LSTM a quarter of its size.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic

from lstm_sentiment.model import SentimentLSTM

GATES = ("forget_gate", "input_gate", "output_gate")


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
        self._pooled = (zeros, zeros - torch.inf) if model.pooling == "mean_max" else ()

    @property
    def state_bytes(self) -> int:
        """Memory that everything read so far takes."""
        kept = [*self._pooled, *(part for state in self._states for part in state)]
        return sum(tensor.nbytes for tensor in kept)

    @torch.inference_mode()
    def read(self, index: int) -> float:
        """The logit of "positive" after one more word of this index.

        Raises:
            ValueError: the index is no word's.
        """
        model = self.model
        last = model.embedding.num_embeddings - 1
        whole = isinstance(index, Integral) and not isinstance(index, bool)
        if not whole or not 1 <= index <= last:
            raise ValueError(f"index is {index!r}; it must lie between 1 and {last}, and be whole")
        h = model.embedding.weight[index][None]  # (1, D)
        for layer, cell in enumerate(model.lstm.cells):
            self._states[layer] = cell(h, self._states[layer])
            h = self._states[layer][0]  # (1, H)
        self.words += 1
        if self._pooled:
            total, maximum = self._pooled
            self._pooled = (total + h, torch.maximum(maximum, h))
            h = torch.cat([self._pooled[0] / self.words, self._pooled[1]], dim=1)
        return model.output(h).item()


def word_by_word(model: SentimentLSTM, token_ids: Sequence[int]) -> pd.DataFrame:
    """The logit after each word of a review and, of an LSTM, how far its gates were open.

    Returns:
        One row per word: logit and, means over the units of the last layer between 0 and 1,
        forget_gate, input_gate and output_gate.

    Raises:
        ValueError: the network reads backward as well, or an index is no word's.
    """
    logits, openings = _read(model, token_ids)
    return pd.DataFrame({"logit": logits} | {name: o.mean(axis=1) for name, o in openings.items()})


def gate_openings(model: SentimentLSTM, token_ids: Sequence[int]) -> dict[str, np.ndarray]:
    """How far each unit of the last layer has its gates open at each word of a review.

    Returns:
        (T, H) between 0 and 1 for forget_gate, input_gate and output_gate; of a GRU or plain RNN
        nothing.

    Raises:
        ValueError: as `word_by_word`.
    """
    return _read(model, token_ids)[1]


def _read(
    model: SentimentLSTM, token_ids: Sequence[int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The logits (T,) after each word, and what `gate_openings` returns."""
    stream, last_cell = WordStream(model), model.lstm.cells[-1]
    openings = {name: [] for name in GATES if model.lstm.cell == "lstm"}

    def note(values: list[np.ndarray]):
        return lambda module, inputs, output: values.append(output.sigmoid()[0].cpu().numpy())

    handles = [
        getattr(last_cell, name).register_forward_hook(note(values))
        for name, values in openings.items()
    ]
    try:
        logits = [stream.read(index) for index in np.asarray(token_ids).tolist()]
    finally:
        for handle in handles:
            handle.remove()
    shape = (len(logits), model.lstm.hidden_size)
    return np.array(logits), {
        name: np.array(values).reshape(shape) for name, values in openings.items()
    }


def quantized(model: SentimentLSTM) -> SentimentLSTM:
    """A copy for the CPU whose cells and output layer compute with 8-bit integers.

    PyTorch's dynamic quantization: weights are integers, inputs become integers step by step. Word
    vectors stay as they are. It runs the cells one step at a time.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch is moving it to another package
        smaller = quantize_dynamic(copy.deepcopy(model).cpu(), {nn.Linear}, dtype=torch.qint8)
    smaller.lstm.backend = "reference"
    return smaller


def weight_bytes(module: nn.Module) -> int:
    """Memory that the weights of a module take, quantized or not."""
    total = 0
    for value in module.state_dict().values():
        tensors = value if isinstance(value, tuple) else (value,)
        total += sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
    return total
