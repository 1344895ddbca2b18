"""LSTMLayer beside nn.LSTM and beside its own cells."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_sentiment.lstm import LSTMLayer
from tests.hostile import attack

BACKENDS = LSTMLayer.BACKENDS


def answer_of(run: Callable, x: torch.Tensor, *sources: torch.Tensor) -> torch.Tensor:
    """Outputs, states and the gradients of x and of what else is given, in one row."""
    x = x.detach().requires_grad_()
    outputs, state = run(x)
    parts = [outputs, *state]
    loss = sum((part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in parts)
    parts += torch.autograd.grad(loss, [x, *sources], materialize_grads=True)
    return torch.cat([part.detach().flatten() for part in parts])


@attack(120)
def a_layer_of_any_shape(rng: random.Random, folder: Path) -> None:
    dtype = rng.choice([torch.float32, torch.float64])
    sizes = rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 3)
    options = {"bidirectional": rng.random() < 0.5, "bias": rng.random() < 0.8, "dtype": dtype}
    theirs = nn.LSTM(*sizes, batch_first=True, **options)
    layer = LSTMLayer.from_torch(theirs, rng.choice(BACKENDS))
    n, steps = rng.randint(1, 6), rng.randint(1, 12)
    lengths = torch.tensor([rng.randint(1, steps) for _ in range(n)])
    x = torch.randn(steps, n, sizes[0], dtype=dtype).transpose(0, 1) * rng.choice([1e-3, 1, 10])
    state = torch.randn(2, len(layer.cells), n, sizes[1], dtype=dtype, requires_grad=True)

    def run(x):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, last = theirs(packed, tuple(state))
        return pad_packed_sequence(outputs, batch_first=True, total_length=steps)[0], last

    expected = answer_of(run, x, state)
    found = answer_of(lambda x: layer(x, lengths, tuple(state)), x, state)
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)
    theirs = layer.to_torch()
    assert torch.allclose(answer_of(run, x, state), expected, atol=1e-4, rtol=1e-4)


class Adapted(nn.Linear):
    """As adapters of low rank change a layer."""

    def forward(self, x):
        return super().forward(x) + x.mean()


@attack(80)
def gates_that_are_replaced_or_saturated(rng: random.Random, folder: Path) -> None:
    layer = LSTMLayer(3, 4, 2, bidirectional=rng.random() < 0.5)
    x, lengths = torch.randn(3, 6, 3), torch.tensor([6, 1, 4])
    cell = rng.choice([*layer.cells])
    name, gate = rng.choice([*cell.named_children()])
    changes = [
        lambda: setattr(cell, name, Adapted(gate.in_features, 4)),
        lambda: setattr(cell, name, nn.Sequential(gate, nn.Tanh())),
        lambda: setattr(cell, name, cell.input_gate),
        lambda: gate.register_forward_hook(lambda module, entered, left: left / 2),
        lambda: gate.register_forward_pre_hook(lambda module, entered: entered[0] / 2),
        lambda: setattr(gate, "forward", lambda entered: entered[:, :4]),
        lambda: setattr(cell, "forward", lambda x, state: (state[0] + x.mean(), state[1])),
        lambda: prune.random_unstructured(gate, "weight", 0.5),
        lambda: parametrizations.weight_norm(gate),
        lambda: parametrizations.orthogonal(gate),
        lambda: gate.register_parameter("bias", None),
        *4 * [lambda: x.mul_(rng.choice([1e2, 1e4, 1e6]))],
    ]
    rng.choice(changes)()
    answers = []
    for layer.backend in BACKENDS:
        answers.append(answer_of(lambda x: layer(x, lengths), x, *layer.parameters()))
    atol = 1e-5 * max(10.0, float(x.abs().max()))  # gradients of weights grow with x
    assert answers[-1].isfinite().all()
    assert all(torch.allclose(each, answers[-1], atol=atol, rtol=1e-3) for each in answers)


@attack(120, ValueError, RuntimeError)
def odd_tensors(rng: random.Random, folder: Path) -> None:
    """Every backend answers as the cells do, or refuses what they refuse."""
    shape = rng.choice([*12 * [(2, 5, 3)], (0, 5, 3), (5, 3), (2, 0, 3), (2, 5, 4), (2, 5, 0)])
    x, lengths, zeros = torch.randn(shape), torch.tensor([5, 2]), torch.zeros(1, 2, 4)
    padded = torch.arange(5)[:, None] >= lengths[:, None, None]  # has no influence
    odd = [lambda x: x, lambda x: x.mT.contiguous().mT, lambda x: x[:1].expand_as(x)]
    odd += [*odd, torch.Tensor.double, torch.Tensor.bfloat16, torch.Tensor.long]
    if shape == (2, 5, 3):
        odd += 2 * [lambda x: x.masked_fill(padded, torch.nan)]
    wrong = torch.tensor([rng.choice([0, -1, 6, 10**12]), 2])
    others = [None, lengths.byte(), lengths / 1, lengths > 0, lengths[:1], wrong]
    lengths = rng.choice([*9 * [lengths], *others])
    others = [(zeros, zeros), (zeros[:, :1], zeros), (zeros, zeros.double())]
    state = rng.choice([*9 * [None], *others])
    arguments = rng.choice(odd)(x), lengths, state
    layer, ends = LSTMLayer(3, 4), []
    for layer.backend in ("reference", rng.choice(BACKENDS)):
        try:
            outputs, last = layer(*arguments)
            ends.append(torch.cat([part.flatten() for part in (outputs, *last)]))
        except (ValueError, RuntimeError) as error:
            ends.append(error)
    if isinstance(ends[0], Exception):
        assert isinstance(ends[1], Exception), arguments
        raise ends[1]
    assert torch.allclose(*ends, atol=1e-5, equal_nan=lengths is None)
