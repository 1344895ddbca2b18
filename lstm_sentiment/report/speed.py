"""The hand-written LSTM beside `torch.nn.LSTM`: the same numbers, in what time."""

from __future__ import annotations

import copy
import platform
import statistics
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from tqdm import tqdm

from lstm_sentiment.data import Batch
from lstm_sentiment.lstm import LSTMLayer
from lstm_sentiment.model import SentimentLSTM, evaluating
from lstm_sentiment.training import TrainingConfig, make_optimizer, pick_device

EMBEDDING_SIZE = 300
BATCH_SIZE = 64
TOLERANCE = 1e-4  # of the loss, and of a gradient's largest component
TIMED = TrainingConfig()  # how a timed step trains


class TorchLSTM(nn.Module):
    """`torch.nn.LSTM` behind the interface of `LSTMLayer`, to stand in for it in a model.

    Args:
        layer: the layer whose weights and sizes it takes over.
        packed: run on packed sequences, the way that is right for any direction; otherwise on
            padding too, which is faster and, for one layer in one direction, as right, because
            padding comes after the last valid step, whose state is picked out.

    Raises:
        ValueError: not packed, but with more than one layer or direction.
    """

    def __init__(self, layer: LSTMLayer, packed: bool):
        super().__init__()
        if not packed and (layer.num_layers > 1 or layer.bidirectional):
            raise ValueError("packed is False; more than one layer or direction needs True")
        self.lstm = layer.to_torch()
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias_hh"):  # two biases that act as one would learn twice as fast
                parameter.requires_grad_(False)
        self.bidirectional = layer.bidirectional
        self.packed = packed

    def forward(
        self, x: Tensor, lengths: Tensor, rows: Tensor | None = None, need_outputs: bool = True
    ) -> tuple[Tensor | None, tuple[Tensor, Tensor | None]]:
        """As `LSTMLayer.forward`; without packing there is no c_n."""
        if rows is not None:
            x = nn.functional.embedding(rows, x)  # (B, T, D), faster than x[rows]
        if self.packed:
            sequences = pack_padded_sequence(x, lengths.cpu(), True, enforce_sorted=False)
            outputs, state = self.lstm(sequences)
            if need_outputs:
                outputs, _ = pad_packed_sequence(outputs, True, total_length=x.shape[1])
            return outputs, state
        outputs, _ = self.lstm(x)  # (B, T, H)
        last = outputs[torch.arange(len(x)), lengths - 1]  # (B, H)
        valid = torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
        return outputs * valid[:, :, None] if need_outputs else None, (last[None], None)


def with_torch_lstm(model: SentimentLSTM, packed: bool) -> SentimentLSTM:
    """A copy of `model` in which `torch.nn.LSTM`, with the same weights, does the recurrence."""
    copied = copy.deepcopy(model)
    copied.lstm = TorchLSTM(model.lstm, packed)
    return copied


def lstm_contenders(model: SentimentLSTM) -> dict[str, SentimentLSTM]:
    """`model` and its equals, by name: what a speed of the hand-written LSTM is compared with.

    First nn.LSTM in its best case, "padded" where that is right, which it is for one layer in one
    direction, else "packed"; then `model`, so that in a comparison in turns the two run one right
    after the other.
    """
    step_by_step = copy.deepcopy(model)
    step_by_step.lstm.backend = "reference"
    packed = {"nn.LSTM, packed": with_torch_lstm(model, packed=True)}
    by_hand = {"by hand, fused": model, "by hand, cells step by step": step_by_step}
    if model.lstm.num_layers > 1 or model.lstm.bidirectional:
        return packed | by_hand
    return {"nn.LSTM, padded": with_torch_lstm(model, packed=False)} | by_hand | packed


def lstm_gradients(lstm: LSTMLayer | TorchLSTM) -> dict[str, Tensor]:
    """The gradients of all weights by the names that `nn.LSTM` gives them.

    Its two biases act as one and have one gradient, which stands under the name of the first.
    """
    if isinstance(lstm, TorchLSTM):
        gradients = {name: p.grad for name, p in lstm.lstm.named_parameters()}
    else:
        carrier = copy.deepcopy(lstm)  # gradients travel like weights do
        carrier.recurrent_dropout = 0.0
        with torch.no_grad():
            for target, source in zip(carrier.parameters(), lstm.parameters(), strict=True):
                target.copy_(source.grad)
        gradients = dict(carrier.to_torch().named_parameters())
    return {name: value for name, value in gradients.items() if "bias_hh" not in name}


def differences_from_torch(
    num_layers: int, bidirectional: bool, dtype: torch.dtype, backend: str
) -> dict[str, float]:
    """Run an `LSTMLayer` and an `nn.LSTM` with the same weights on the same random ragged batch.

    Returns:
        The largest absolute difference in `outputs`, `final_states` and `gradients` (of the sum of
        squares of all of these, with respect to the input and every parameter).
    """
    torch.manual_seed(0)
    ours = LSTMLayer(30, 20, num_layers, bidirectional, backend=backend).to(dtype)
    lengths = torch.tensor([40, 1, 17, 40, 8])
    x = torch.randn(5, 40, 30, dtype=dtype)
    results = []
    for lstm in (ours, TorchLSTM(ours, packed=True)):
        own_x = x.clone().requires_grad_()
        outputs, state = lstm(own_x, lengths)
        sum(part.square().sum() for part in (outputs, *state)).backward()
        gradients = [own_x.grad, *lstm_gradients(lstm).values()]
        results.append({"outputs": [outputs], "final_states": state, "gradients": gradients})
    of_ours, of_torch = results
    return {
        name: max((a - b).abs().max().item() for a, b in zip(parts, of_torch[name], strict=True))
        for name, parts in of_ours.items()
    }


def training_step(
    model: SentimentLSTM, batch: Batch, optimizer: torch.optim.Optimizer | None = None
) -> float:
    """Forward and backward pass and, with an optimizer, its step, as in training; the loss."""
    device = next(model.parameters()).device
    model.train()
    model.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(
        model(batch.token_ids.to(device), batch.lengths), batch.labels.to(device)
    )
    loss.backward()
    if optimizer is not None:
        nn.utils.clip_grad_norm_(model.parameters(), TIMED.clip_norm)
        optimizer.step()
    return loss.item()


def inference_step(model: SentimentLSTM, batch: Batch) -> float:
    """One forward pass without dropout and gradients; the mean logit."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        return model(batch.token_ids.to(device), batch.lengths).mean().item()


def largest_disagreement(models: Mapping[str, SentimentLSTM], batch: Batch) -> float:
    """How far losses and gradients of the models lie from the first one's on `batch`.

    The largest difference in the loss, or in any gradient relative to its largest component.

    Raises:
        ValueError: more than `TOLERANCE`; the models do not compute the same.
    """
    results = {}
    for name, model in models.items():
        # `evaluating` restores the mode, which a training step changes.
        with evaluating(model), torch.random.fork_rng():
            torch.manual_seed(0)  # the same dropout for all
            loss = training_step(model, batch)
        gradients = lstm_gradients(model.lstm)
        for part in (model.embedding, model.output):
            gradients |= {f"{part} {key}": p.grad for key, p in part.named_parameters()}
        results[name] = loss, gradients
        model.zero_grad()
    (first_loss, expected), *_ = results.values()
    differences = {}
    for name, (loss, gradients) in results.items():
        differences[f"the loss of {name!r}"] = abs(loss - first_loss)
        for key, gradient in gradients.items():
            if gradient is not None:  # frozen vectors have none
                largest = expected[key].abs().max().clamp(min=1e-30)  # all zeros with short reviews
                difference = (gradient - expected[key]).abs().max() / largest
                differences[f"the gradient of {key} of {name!r}"] = difference.item()
    where, largest = max(differences.items(), key=lambda item: np.nan_to_num(item[1], nan=np.inf))
    if not largest <= TOLERANCE:
        raise ValueError(f"the models do not compute the same: {where} is {largest:.1e} off")
    return largest


def compare_speed(
    models: Mapping[str, SentimentLSTM], batches: Sequence[Batch], rounds: int = 5
) -> pd.DataFrame:
    """Time a training step and inference of each model on the same batches.

    In each round every model takes one turn over all batches, as it would in training; one step on
    each batch before is not counted. A training step is forward and backward pass, clipping and
    the optimizer's step.

    Returns:
        A row per model: model; for training and inference the milliseconds per batch
        (training_ms), the valid tokens per second (training_tokens_per_second) and how many times
        as fast as the first model it is (training_speedup): medians over rounds.
    """
    models = {name: copy.deepcopy(model) for name, model in models.items()}  # they will learn
    optimizers = {name: make_optimizer(model, TIMED) for name, model in models.items()}
    steps = {
        "training": lambda name, batch: training_step(models[name], batch, optimizers[name]),
        "inference": lambda name, batch: inference_step(models[name], batch),
    }
    seconds = {(step, name): [] for step in steps for name in models}
    for step, name in tqdm(seconds, desc="warming up", leave=False):
        for batch in batches:
            steps[step](name, batch)
    for _ in tqdm(range(rounds), desc="timing", unit="round", leave=False):
        for step, name in seconds:
            start = time.perf_counter()
            for batch in batches:
                steps[step](name, batch)
            seconds[step, name].append(time.perf_counter() - start)
    tokens = sum(int(batch.lengths.sum()) for batch in batches)
    first = next(iter(models))
    rows = []
    for name in models:
        row = {"model": name}
        for step in steps:
            ours = seconds[step, name]
            row[f"{step}_ms"] = 1000 * statistics.median(ours) / len(batches)
            row[f"{step}_tokens_per_second"] = tokens / statistics.median(ours)
            row[f"{step}_speedup"] = statistics.median(
                theirs / mine for theirs, mine in zip(seconds[step, first], ours, strict=True)
            )
        rows.append(row)
    return pd.DataFrame(rows)


def milliseconds_per_call(call: Callable[[], object]) -> float:
    """How long a call takes: the median of 25, after one that is not counted."""
    call()
    return 1000 * statistics.median(timeit.repeat(call, number=1, repeat=25))


def machine() -> dict:
    """What a training or a measurement ran on."""
    return {
        "processor": _processor_name(),
        "threads": torch.get_num_threads(),
        "device": str(pick_device()),
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # else an object of torch's own class
    }


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
