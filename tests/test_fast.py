"""What `fast` computes is what the cells compute, in any size, on any number of threads."""

from __future__ import annotations

import errno
import functools
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from examples import loss_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from lstm_sentiment.fast import products
from lstm_sentiment.fast.compiled import compiled
from lstm_sentiment.fast.dropout import fast_dropout
from lstm_sentiment.fast.products import linear, weight_gradient
from lstm_sentiment.lstm import LSTMCell, LSTMLayer


def results_of(layer: LSTMLayer, backend: str, *arguments, **options):
    """Outputs, states and the gradients of the weights."""
    layer.backend = backend
    torch.manual_seed(0)  # the same dropout
    outputs, state = layer(*arguments, **options)
    gradients = torch.autograd.grad(loss_of(outputs, state), layer.parameters())
    return [outputs, *state, *gradients]


def assert_equal_but_for_rounding(found, expected):
    """Rounding adds up in gradients, up to 1.4e-5; a wrong formula differs by more than 0.01."""
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(1.0, theirs.abs().max().item())
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("threads", [1, 2])
@settings(max_examples=50)
@given(
    batch_size=st.integers(1, 33),
    longest=st.integers(1, 40),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 20)),
    recurrent_dropout=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 999),
)
def test_fused_equals_the_cells(threads, batch_size, longest, sizes, recurrent_dropout, seed):
    torch.manual_seed(seed)
    layer = LSTMLayer(*sizes, bidirectional=True, recurrent_dropout=recurrent_dropout)
    lengths = torch.randint(1, longest + 1, (batch_size,))
    lengths[0] = longest
    table, rows = torch.randn(30, sizes[0]), torch.randint(0, 30, (batch_size, longest))
    expected = results_of(layer, "reference", table, lengths, rows=rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = results_of(layer, "fused", table, lengths, rows=rows)
    assert_equal_but_for_rounding(found, expected)


def test_batches_of_any_size_one_after_another_with_and_without_gradients():
    """Memory passes from one call to the next."""
    torch.manual_seed(0)
    layer = LSTMLayer(20, 16)
    for batch_size, longest in [(3, 7), (40, 60), (1, 2), (64, 33), (5, 300), (3, 7)]:
        lengths = torch.randint(1, longest + 1, (batch_size,))
        table, rows = torch.randn(50, 20), torch.randint(0, 50, (batch_size, longest))
        expected = results_of(layer, "reference", table, lengths, rows=rows)
        layer.backend = "fused"
        outputs, state = layer(table, lengths, rows=rows)
        with torch.inference_mode():  # in between, in the same memory if it were not kept
            layer(torch.randn(batch_size, longest, 20))
            alone = layer(table, lengths, rows=rows)
        gradients = torch.autograd.grad(loss_of(outputs, state), layer.parameters())
        assert_equal_but_for_rounding([outputs, *state, *gradients], expected)
        assert_equal_but_for_rounding([alone[0], *alone[1]], expected[:3])


def test_two_graphs_at_once_and_one_used_twice_keep_their_numbers():
    layer = LSTMLayer(4, 3)
    x, y = torch.randn(2, 5, 4), torch.randn(3, 6, 4)
    alone = torch.autograd.grad(loss_of(*layer(x)), layer.parameters())
    first, second = loss_of(*layer(x)), loss_of(*layer(y))
    torch.autograd.grad(second, layer.parameters())
    for _ in range(2):
        again = torch.autograd.grad(first, layer.parameters(), retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))


def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="tells memory on Linux only")
def test_memory_is_used_again_though_the_losses_are_kept():
    layer, x = LSTMLayer(16, 64), torch.randn(32, 100, 16)
    losses = []
    for step in range(23):
        losses.append(layer(x)[0].sum())
        losses[-1].backward()
        if step == 2:
            before = megabytes()
    # A step needs 7 MB, 20 steps 140: four gates and two states of 64 units, 3,200 steps.
    assert megabytes() - before < 35


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="tells memory on Linux only")
def test_of_the_memory_of_many_graphs_at_once_most_goes_back():
    code = """
import gc, sys
sys.path.insert(0, "tests")
import torch
from lstm_sentiment import LSTMLayer
from test_fast import megabytes
layer, x = LSTMLayer(1, 64), torch.zeros(64, 350, 1)
layer(x[:1])  # numba is loaded
before = megabytes()
graphs = [layer(x, need_outputs=False) for _ in range(32)]  # 34 MB each
print(megabytes() - before)
del graphs
gc.collect()
print(megabytes() - before)
"""
    command = [sys.executable, "-c", code]  # a process that no other test has used
    root = Path(__file__).parents[1]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    in_use, after = map(float, result.stdout.split())
    assert in_use > 1_000
    assert after < in_use / 2


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nan_is_not_hidden_and_great_numbers_saturate_the_gates(value, dtype):
    torch.manual_seed(0)
    layer, x = LSTMLayer(4, 3).to(dtype), torch.randn(2, 5, 4, dtype=dtype)
    x[0, 2, 1] = value
    with torch.no_grad():
        layer.cells[0].candidate.weight[0, -4:] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    found, (_, c) = layer(x)
    layer.backend = "reference"
    expected, (_, c_expected) = layer(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5, equal_nan=True)
    torch.testing.assert_close(c, c_expected, rtol=0, atol=1e-5, equal_nan=True)
    assert found.isnan().any() == (value is torch.nan)


@pytest.mark.parametrize("scale", [1e5, 1e9])
def test_shut_gates_pass_no_gradient_however_large_their_inputs(scale):
    torch.manual_seed(0)
    layer, x = LSTMLayer(4, 3), scale * torch.randn(2, 5, 4)
    expected = results_of(layer, "reference", x)
    assert_equal_but_for_rounding(results_of(layer, "fused", x), expected)


def test_second_derivatives_are_those_of_nn_lstm_or_refused():
    torch.manual_seed(0)
    trusted = nn.LSTM(3, 4, batch_first=True).double()

    def penalised(layer):
        x = torch.linspace(-1, 1, 30, dtype=torch.float64).view(2, 5, 3).requires_grad_()
        outputs = layer(x)[0].sum()
        (gradient,) = torch.autograd.grad(outputs, x, create_graph=True)
        (outputs + gradient.square().sum()).backward()
        return x.grad

    found = penalised(LSTMLayer.from_torch(trusted, backend="reference"))
    torch.testing.assert_close(found, penalised(trusted))
    with pytest.raises(NotImplementedError, match=r'second derivatives.*backend="reference"'):
        penalised(LSTMLayer.from_torch(trusted))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(use_reentrant):
    torch.manual_seed(0)
    layers = nn.ModuleList([LSTMLayer(6, 6) for _ in range(3)])
    x = torch.randn(8, 40, 6, requires_grad=True)

    def gradients(run):
        layers.zero_grad()
        outputs = x
        for layer in layers:
            outputs, _ = run(layer, outputs)
        outputs.sum().backward()
        return [parameter.grad.clone() for parameter in layers.parameters()]

    expected = gradients(lambda layer, inputs: layer(inputs))
    checkpointed = functools.partial(checkpoint, use_reentrant=use_reentrant)
    for _ in range(3):  # memory is handed on from one to the next
        assert_equal_but_for_rounding(gradients(checkpointed), expected)


def test_hooks_on_cells_and_gates_run_and_replaced_weights_learn():
    torch.manual_seed(0)
    layer, x, calls = LSTMLayer(3, 4), torch.randn(2, 5, 3), []
    handle = layer.cells[0].register_forward_hook(lambda *_: calls.append("cell"))
    layer(x)
    handle.remove()
    layer(x)
    assert len(calls) == 5
    gate = layer.cells[0].forget_gate
    prune.random_unstructured(gate, "weight", 0.5)
    for _ in range(2):
        layer(x)[0].sum().backward()
    assert (gate.weight_orig.grad[gate.weight_mask == 0] == 0).all()
    assert (gate.weight_orig.grad[gate.weight_mask == 1] != 0).all()


class OneMore(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 1


class HalfOpen(LSTMCell):
    def forward(self, x, state):
        h, c = super().forward(x, state)
        return h / 2, c


def double_state(cell):
    forward = cell.forward
    cell.forward = lambda x, state: tuple(2 * part for part in forward(x, state))


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: setattr(cell, "__class__", HalfOpen),
        lambda cell: setattr(cell, "forget_gate", OneMore(7, 4)),
        lambda cell: setattr(cell, "forget_gate", nn.Linear(7, 4, bias=False)),
        lambda cell: setattr(cell, "forget_gate", nn.Sequential(nn.Linear(7, 4), nn.Tanh())),
        lambda cell: setattr(cell.forget_gate, "forward", lambda hx: hx[:, :4]),
        double_state,
    ],
)
def test_a_cell_whose_parts_are_replaced_runs_as_it_is_and_is_no_nn_lstm(change):
    layer, x = LSTMLayer(3, 4), torch.randn(2, 5, 3)
    before = layer(x)[0]
    change(layer.cells[0])
    found = layer(x)[0]
    layer.backend = "reference"
    torch.testing.assert_close(found, layer(x)[0], rtol=0, atol=0)
    assert not torch.allclose(found, before, atol=1e-3)
    with pytest.raises(ValueError, match="replaced or hooked"):
        layer.to_torch()


@pytest.mark.parametrize("n", [1, 7, 2 * products.BLOCK_SUMMED + 5])
@pytest.mark.parametrize(("m", "k"), [(8, 6), (products.BLOCK_COLUMNS + 9, 20)])
def test_products_are_right_and_the_same_with_any_number_of_threads(n, m, k):
    torch.manual_seed(0)
    x, d_output, weight, bias = (torch.randn(*shape) for shape in [(n, k), (n, m), (m, k), (m,)])
    products_on = {}
    for threads in (2, 3, 1):  # the last is what the other tests have
        torch.set_num_threads(threads)
        products_on[threads] = (
            linear(x, weight),
            linear(x, weight, bias),
            weight_gradient(d_output, x),
        )
    expected = (x @ weight.t(), x @ weight.t() + bias, d_output.t() @ x)
    torch.testing.assert_close(products_on[1], expected, rtol=1e-4, atol=1e-4)
    for found in (products_on[2], products_on[3]):
        torch.testing.assert_close(found, products_on[1], rtol=0, atol=0)


def test_a_backward_pass_under_autocast_loses_no_precision():
    layer, x = LSTMLayer(3, 4), torch.randn(2, 5, 3)
    expected = torch.autograd.grad(layer(x)[0].sum(), layer.parameters())
    outputs = layer(x)[0].sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs.backward()
    found = [parameter.grad for parameter in layer.parameters()]
    assert_equal_but_for_rounding(found, expected)


# ---- Dropout ----


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_keeps_each_number_with_the_same_chance(p, dtype):
    torch.manual_seed(0)
    n = 400_000
    kept = fast_dropout(torch.ones(n // 8, 8, dtype=dtype), p, training=True)
    factors, rtol = torch.tensor([0, 1 / (1 - p)]).to(dtype), 1e-4 + torch.finfo(dtype).eps
    torch.testing.assert_close(kept.unique(), factors, rtol=rtol, atol=0)
    is_kept = (kept > 0).double()
    deviation = np.sqrt(p * (1 - p) / n)
    assert abs(is_kept.mean() - (1 - p)) < 5 * deviation
    # Columns are drawn from different bits of the same numbers.
    assert (is_kept.mean(0) - (1 - p)).abs().max() < 5 * np.sqrt(8) * deviation
    assert (is_kept.T.corrcoef() - torch.eye(8)).abs().max() < 5 * np.sqrt(8 / n)


def test_dropout_is_otherwise_as_pytorch_has_it():
    x = torch.randn(3, 5, 7, requires_grad=True)
    for p, training in ((0.0, True), (1.0, True), (0.5, False)):
        expected = nn.functional.dropout(x, p, training)
        assert torch.equal(fast_dropout(x, p, training), expected)
    torch.manual_seed(0)
    dropped = fast_dropout(x, 0.5, training=True)
    dropped.sum().backward()
    assert torch.equal(dropped, x * x.grad)
    torch.manual_seed(0)
    assert torch.equal(fast_dropout(x, 0.5, training=True), dropped)
    assert not torch.equal(fast_dropout(x, 0.5, training=True), dropped)
    assert fast_dropout(torch.empty(0, 4), 0.5, training=True).shape == (0, 4)


@pytest.mark.parametrize("content", [b"", b"garbage\n"])
@pytest.mark.parametrize("damaged", ["*.nbi", "*.nbc"])
def test_compiled_code_that_is_damaged_on_disk_is_made_anew(
    tmp_path, monkeypatch, damaged, content
):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def times_seven(number):
        return 7 * number

    def calls():
        """Call it in a process that has not compiled it yet, as it were."""
        function = compiled(times_seven)
        assert function(6) == 42
        return sum(function.stats.cache_hits.values())

    assert [calls(), calls()] == [0, 1]
    (file,) = tmp_path.rglob(damaged)
    file.write_bytes(content)
    assert [calls(), calls()] == [0, 1]


def test_a_full_disk_stops_no_compiled_code(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.replace", full)
    assert compiled(lambda number: 7 * number)(6) == 42
