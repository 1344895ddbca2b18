"""The hand-written LSTM, GRU and RNN against PyTorch's, and what must hold for any input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn.utils import prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from lstm_sentiment.fast import layer as fused
from lstm_sentiment.fast import steps as recurrence
from lstm_sentiment.lstm import GRUCell, LSTMCell, LSTMLayer, RNNCell

BACKENDS = ["reference", "fused"]
# Every way of running a layer.
RUNS = [*({"backend": backend} for backend in BACKENDS), {"cell": "gru"}, {"cell": "rnn"}]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


def run_torch(lstm: nn.RNNBase, x, lengths, state):
    """nn.LSTM, nn.GRU or nn.RNN on right-padded x: outputs (B, T, .), and its final states."""
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, state = lstm(packed, state)
    return pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0], state


def loss_of(outputs, state):
    """A number that depends on every output and every final state, each in its own way."""
    generator = torch.Generator().manual_seed(1)
    parts = [outputs, *state]
    weights = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parts]
    return sum((weight * part).sum() for weight, part in zip(weights, parts, strict=True))


def gradients_in_torch_layout(layer: LSTMLayer) -> dict[str, torch.Tensor]:
    """The layer's gradients under the names nn.LSTM gives them, by way of to_torch."""
    carrier = LSTMLayer.from_torch(layer.to_torch())
    with torch.no_grad():
        for target, source in zip(carrier.parameters(), layer.parameters(), strict=True):
            target.copy_(source.grad)
    return dict(carrier.to_torch().named_parameters())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize(
    "lengths", [[6, 2, 6, 1, 4], [5, 5, 5], [4], [1], [1, 1]], ids=lambda lengths: str(lengths)
)
def test_equals_nn_lstm(backend, dtype, num_layers, bidirectional, with_state, lengths):
    torch.manual_seed(0)
    trusted = nn.LSTM(7, 5, num_layers, batch_first=True, bidirectional=bidirectional).to(dtype)
    layer = LSTMLayer.from_torch(trusted, backend=backend)
    lengths = torch.tensor(lengths)
    batch_size = len(lengths)
    x, x_ours = (
        torch.randn(
            batch_size, 6, 7, dtype=dtype, generator=torch.Generator().manual_seed(2)
        ).requires_grad_()
        for _ in range(2)
    )
    state, state_ours = None, None
    if with_state:
        shape = (len(layer.cells), batch_size, 5)
        state = tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for _ in "hc")
        state_ours = tuple(part.detach().clone().requires_grad_() for part in state)

    outputs, final = run_torch(trusted, x, lengths, state)
    outputs_ours, final_ours = layer(x_ours, lengths, state_ours)
    loss_of(outputs, final).backward()
    loss_of(outputs_ours, final_ours).backward()

    pairs = [(outputs_ours, outputs), (x_ours.grad, x.grad), *zip(final_ours, final, strict=True)]
    if with_state:
        pairs += [(a.grad, b.grad) for a, b in zip(state_ours, state, strict=True)]
    gradients = gradients_in_torch_layout(layer)
    for name, parameter in trusted.named_parameters():
        if "bias_hh" not in name:  # its gradient equals bias_ih's, and ours are one bias
            pairs.append((gradients[name], parameter.grad))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE[dtype])


def parameters_from_torch(trusted: nn.GRU | nn.RNN) -> dict[str, torch.Tensor]:
    """A layer's parameters as functions of those of `trusted`, for gradients with respect to it."""
    parameters = {}
    endings = ["", "_reverse"] if trusted.bidirectional else [""]
    suffixes = [f"l{layer}{ending}" for layer in range(trusted.num_layers) for ending in endings]
    gates = ["reset_gate", "update_gate"] if trusted.mode == "GRU" else ["linear"]
    for index, suffix in enumerate(suffixes):
        w_x, w_h, b_x, b_h = (
            getattr(trusted, f"{name}_{suffix}").split(trusted.hidden_size)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        for row, gate in enumerate(gates):
            parameters[f"cells.{index}.{gate}.weight"] = torch.cat([w_h[row], w_x[row]], dim=1)
            parameters[f"cells.{index}.{gate}.bias"] = b_h[row] + b_x[row]
        if trusted.mode == "GRU":
            parameters[f"cells.{index}.candidate_input.weight"] = w_x[2]
            parameters[f"cells.{index}.candidate_input.bias"] = b_x[2]
            parameters[f"cells.{index}.candidate_hidden.weight"] = w_h[2]
            parameters[f"cells.{index}.candidate_hidden.bias"] = b_h[2]
    return parameters


@pytest.mark.parametrize(("cell", "torch_class"), [("gru", nn.GRU), ("rnn", nn.RNN)])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("lengths", [[6, 2, 6, 1, 4], [5, 5, 5], [1]], ids=str)
def test_other_cells_equal_nn_gru_and_nn_rnn(
    cell, torch_class, num_layers, bidirectional, with_state, lengths
):
    torch.manual_seed(0)
    options = {"num_layers": num_layers, "bidirectional": bidirectional}
    trusted = torch_class(7, 5, batch_first=True, **options).double()
    layer = LSTMLayer(7, 5, cell=cell, **options).double()
    parameters = parameters_from_torch(trusted)
    assert parameters.keys() == dict(layer.named_parameters()).keys()
    lengths = torch.tensor(lengths)
    x = torch.randn(len(lengths), 6, 7, dtype=torch.float64, requires_grad=True)
    h = torch.zeros(len(layer.cells), len(lengths), 5, dtype=torch.float64)
    if with_state:
        h = torch.randn_like(h)
    h.requires_grad_()
    state = (h, h) if with_state else None

    outputs, h_n = run_torch(trusted, x, lengths, h)
    outputs_ours, (h_n_ours, c_n_ours) = functional_call(layer, parameters, (x, lengths, state))
    assert torch.equal(h_n_ours, c_n_ours)

    sources = [x, *trusted.parameters(), *([h] if with_state else [])]
    pairs = [(outputs_ours, outputs), (h_n_ours, h_n)]
    gradients, gradients_ours = (
        torch.autograd.grad(loss_of(o, [s]), sources)
        for o, s in ((outputs, h_n), (outputs_ours, h_n_ours))
    )
    pairs += zip(gradients_ours, gradients, strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE[torch.float64])


def test_cell_equals_nn_lstm_cell():
    torch.manual_seed(0)
    layer = LSTMLayer(4, 3)
    trusted = nn.LSTMCell(4, 3)
    trusted.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in layer.to_torch().state_dict().items()}
    )
    x, state = torch.randn(2, 4), (torch.randn(2, 3), torch.randn(2, 3))
    for ours, theirs in zip(layer.cells[0](x, state), trusted(x, state), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_cell_computes_the_equations_of_the_assignment():
    torch.manual_seed(0)
    cell = LSTMCell(2, 1)
    x, h, c = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.3]]), torch.tensor([[-0.7]])
    hx = torch.tensor([0.3, 0.5, -1.0])
    gate = {name: linear.weight[0] @ hx + linear.bias[0] for name, linear in cell.named_children()}
    f, i, o = (gate[name].sigmoid() for name in ("forget_gate", "input_gate", "output_gate"))
    c_next = f * -0.7 + i * gate["candidate"].tanh()
    h_ours, c_ours = cell(x, (h, c))
    torch.testing.assert_close(c_ours, c_next.view(1, 1))
    torch.testing.assert_close(h_ours, (o * c_next.tanh()).view(1, 1))


def test_the_gru_cell_carries_its_state_past_what_recurrent_dropout_hides_from_its_gates():
    torch.manual_seed(0)
    cell = GRUCell(2, 1)
    h = torch.tensor([0.3])
    x, hidden, linear = torch.tensor([0.5, -1.0]), torch.zeros(1), dict(cell.named_children())
    hx = torch.cat([hidden, x])
    r, z = (linear[name](hx).sigmoid() for name in ("reset_gate", "update_gate"))
    n = (linear["candidate_input"](x) + r * linear["candidate_hidden"](hidden)).tanh()
    h_next, c_next = cell(x[None], (hidden[None], h[None]))
    torch.testing.assert_close(h_next[0], (1 - z) * n + z * h)
    assert torch.equal(h_next, c_next)


def test_a_gru_that_never_updates_forgets_nothing_under_recurrent_dropout():
    layer = LSTMLayer(3, 4, recurrent_dropout=0.5, cell="gru")
    nn.init.constant_(layer.cells[0].update_gate.bias, 1e3)
    h = torch.randn(1, 2, 4)
    assert torch.equal(layer(torch.randn(2, 50, 3), state=(h, h))[1][0], h)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("hidden_dropout", [0.0, 0.5])
def test_gradcheck(backend, hidden_dropout):
    torch.manual_seed(0)
    layer = LSTMLayer(
        3, 2, num_layers=2, bidirectional=True, recurrent_dropout=hidden_dropout, backend=backend
    ).double()
    parameters = list(layer.parameters())
    table = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([[0, 3, 1], [2, 2, 0]])
    state = tuple(torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True) for _ in "hc")

    def run(table, h, c, *_):
        torch.manual_seed(0)  # the same dropout mask each time
        outputs, (h_n, c_n) = layer(table, torch.tensor([2, 3]), (h, c), rows)
        return outputs, h_n, c_n

    assert torch.autograd.gradcheck(run, (table, *state, *parameters))


@st.composite
def ragged_batches(draw):
    """Sizes, lengths and a seed for a batch of padded sequences."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=14))
    return {
        "lengths": torch.tensor(lengths),
        "padded_length": max(lengths) + draw(st.integers(0, 3)),
        "input_size": draw(st.integers(1, 6)),
        "hidden_size": draw(st.integers(1, 6)),
        "num_layers": draw(st.integers(1, 2)),
        "bidirectional": draw(st.booleans()),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64])),
        "seed": draw(st.integers(0, 1000)),
    }


def layer_and_input(case, **options):
    torch.manual_seed(case["seed"])
    layer = LSTMLayer(
        case["input_size"],
        case["hidden_size"],
        case["num_layers"],
        case["bidirectional"],
        **options,
    ).to(case["dtype"])
    shape = (len(case["lengths"]), case["padded_length"], case["input_size"])
    return layer, torch.randn(shape, dtype=case["dtype"])


@pytest.mark.parametrize("compiled", [True, False])
@settings(deadline=None, max_examples=60)
@given(
    case=ragged_batches(),
    recurrent_dropout=st.sampled_from([0.0, 0.4]),
    threads=st.sampled_from([1, 2]),
)
def test_fused_equals_reference(compiled, case, recurrent_dropout, threads):
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(recurrence, "numba", None)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        check_that_fused_equals_reference(case, recurrent_dropout)


def check_that_fused_equals_reference(case, recurrent_dropout):
    layer, x = layer_and_input(case, recurrent_dropout=recurrent_dropout)
    results = {}
    for backend in BACKENDS:
        layer.backend = backend
        layer.zero_grad()
        x_used = x.clone().requires_grad_()
        torch.manual_seed(0)
        outputs, state = layer(x_used, case["lengths"])
        loss_of(outputs, state).backward()
        gradients = [parameter.grad for parameter in layer.parameters()]
        results[backend] = [outputs, *state, x_used.grad, *gradients]
    for found, expected in zip(results["fused"], results["reference"], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=TOLERANCE[case["dtype"]])


@pytest.mark.parametrize("compiled", [True, False])
def test_batches_of_any_size_one_after_another(compiled, monkeypatch):
    """Memory passes from one call to the next, larger and smaller, with and without gradients."""
    if not compiled:
        monkeypatch.setattr(recurrence, "numba", None)
    torch.manual_seed(0)
    layer = LSTMLayer(20, 16)
    for batch_size, longest in [(3, 7), (40, 60), (1, 2), (64, 33), (5, 300), (3, 7)]:
        lengths = torch.randint(1, longest + 1, (batch_size,))
        table, rows = torch.randn(50, 20), torch.randint(0, 50, (batch_size, longest))
        gradients = {}
        for layer.backend in BACKENDS:
            layer.zero_grad()
            outputs, state = layer(table, lengths, rows=rows)
            with torch.inference_mode():  # in between, in the same memory if it were not kept
                layer(torch.randn(batch_size, longest, 20))
            loss_of(outputs, state).backward()
            gradients[layer.backend] = [parameter.grad for parameter in layer.parameters()]
        for found, expected in zip(gradients["fused"], gradients["reference"], strict=True):
            scale = expected.abs().max().item()
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * scale)


def test_two_graphs_at_once_and_one_used_twice_keep_their_numbers():
    torch.manual_seed(0)
    layer = LSTMLayer(4, 3)
    x, y = torch.randn(2, 5, 4), torch.randn(3, 6, 4)
    alone = torch.autograd.grad(loss_of(*layer(x)), layer.parameters())
    first, second = loss_of(*layer(x)), loss_of(*layer(y))
    torch.autograd.grad(second, layer.parameters())
    for _ in range(2):
        again = torch.autograd.grad(first, layer.parameters(), retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(alone, again, strict=True))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_a_number_is_not_hidden(compiled, value, monkeypatch):
    if not compiled:
        monkeypatch.setattr(recurrence, "numba", None)
    layer = LSTMLayer(4, 3)
    x = torch.randn(2, 5, 4)
    x[0, 2, 1] = value
    with torch.no_grad():
        layer.cells[0].candidate.weight[0, -4:] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    outputs, _ = layer(x)
    reference = LSTMLayer(4, 3, backend="reference")
    reference.load_state_dict(layer.state_dict())
    assert torch.equal(outputs.isnan(), reference(x)[0].isnan())
    assert outputs.isnan().any() == (value is torch.nan)


def test_extreme_inputs_saturate_the_gates_as_in_the_reference():
    layer = LSTMLayer(4, 3)
    x = 1e4 * torch.randn(8, 20, 4)
    outputs, (_, c) = layer(x)
    layer.backend = "reference"
    outputs_reference, (_, c_reference) = layer(x)
    torch.testing.assert_close(outputs, outputs_reference, rtol=0, atol=1e-5)
    torch.testing.assert_close(c, c_reference, rtol=0, atol=1e-5)


def test_threads_are_as_many_as_pytorchs_and_one_where_several_are_not_safe(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert recurrence._usable_threads() == min(2, recurrence.numba.config.NUMBA_NUM_THREADS)
    monkeypatch.setattr(recurrence, "_has_safe_threads", lambda: False)
    assert recurrence._usable_threads() == 1


@settings(deadline=None, max_examples=40)
@given(case=ragged_batches(), run=st.sampled_from(RUNS))
def test_what_stands_after_a_length_changes_nothing(case, run):
    layer, x = layer_and_input(case, **run)
    padding = torch.arange(case["padded_length"]) >= case["lengths"][:, None]
    other = x.masked_fill(padding[:, :, None], torch.nan)
    outputs, state = layer(x, case["lengths"])
    outputs_other, state_other = layer(other, case["lengths"])
    assert torch.equal(outputs, outputs_other)
    assert all(torch.equal(a, b) for a, b in zip(state, state_other, strict=True))
    assert not outputs[padding].any()


@settings(deadline=None, max_examples=40)
@given(case=ragged_batches(), run=st.sampled_from(RUNS))
def test_a_sequence_does_not_depend_on_its_batch(case, run):
    layer, x = layer_and_input(case, **run)
    outputs, (h_n, c_n) = layer(x, case["lengths"])
    for row, length in enumerate(case["lengths"].tolist()):
        alone, (h_alone, c_alone) = layer(x[row : row + 1, :length])
        tolerance = {"rtol": 0, "atol": TOLERANCE[case["dtype"]]}
        torch.testing.assert_close(alone[0], outputs[row, :length], **tolerance)
        torch.testing.assert_close(h_alone[:, 0], h_n[:, row], **tolerance)
        torch.testing.assert_close(c_alone[:, 0], c_n[:, row], **tolerance)


@pytest.mark.parametrize("run", RUNS, ids=str)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_table_with_rows_equals_the_spread_out_input(run, bidirectional):
    torch.manual_seed(0)
    layer = LSTMLayer(4, 3, num_layers=2, bidirectional=bidirectional, **run)
    table = torch.randn(5, 4)
    rows = torch.randint(0, 5, (3, 6))
    lengths = torch.tensor([2, 6, 4])
    results = []
    for arguments in ({"x": table, "rows": rows}, {"x": table[rows]}):
        layer.zero_grad()
        outputs, state = layer(lengths=lengths, **arguments)
        loss_of(outputs, state).backward()
        results.append([outputs, *state, *(parameter.grad for parameter in layer.parameters())])
    for from_table, spread_out in zip(*results, strict=True):
        torch.testing.assert_close(from_table, spread_out, rtol=0, atol=1e-5)


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_states_equal_those_with_outputs_where_outputs_are_not_needed(run):
    layer = LSTMLayer(4, 3, **run)
    x = torch.randn(2, 5, 4)
    outputs, state = layer(x, need_outputs=False)
    assert outputs is None
    assert torch.equal(state[0], layer(x)[1][0])


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_recurrent_dropout_keeps_one_mask_for_all_steps_and_is_off_in_evaluation(cell):
    torch.manual_seed(0)
    layer = LSTMLayer(3, 50, recurrent_dropout=0.5, backend="reference", cell=cell)
    x = torch.randn(1, 4, 3)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    seen = []
    layer.cells[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1][0] == 0))
    layer(x)
    assert torch.equal(seen[1], seen[2])  # step 0 starts from zeros anyway
    assert torch.equal(seen[2], seen[3])
    assert 10 < seen[1].sum() < 40
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_weights_survive_the_way_to_torch_and_back(bidirectional):
    layer = LSTMLayer(4, 3, num_layers=2, bidirectional=bidirectional, dropout=0.3)
    back = LSTMLayer.from_torch(layer.to_torch())
    assert back.dropout == 0.3
    state, state_back = layer.state_dict(), back.state_dict()
    assert state.keys() == state_back.keys()
    assert all(torch.equal(state[name], state_back[name]) for name in state)


def test_from_torch_takes_a_layer_without_bias():
    torch.manual_seed(0)
    trusted = nn.LSTM(3, 2, bias=False, batch_first=True)
    x = torch.randn(1, 4, 3)
    torch.testing.assert_close(LSTMLayer.from_torch(trusted)(x)[0], trusted(x)[0])


@pytest.mark.parametrize("cell_class", [LSTMCell, GRUCell, RNNCell])
def test_a_fresh_cell_has_orthogonal_recurrent_weights_and_an_lstm_remembers(cell_class):
    for name, linear in cell_class(4, 8).named_children():
        weight_h = linear.weight[:, :8]
        if name != "candidate_input":
            torch.testing.assert_close(weight_h @ weight_h.T, torch.eye(8), rtol=0, atol=1e-5)
        assert torch.equal(linear.bias, torch.full((8,), float(name == "forget_gate")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.ones(2, 3)}, r"x has shape \(2, 3\)"),
        ({"x": torch.ones(2, 3, 5)}, r"it must be \(B, T, 4\)"),
        ({"x": torch.ones(0, 3, 4)}, "none of them 0"),
        ({"x": torch.ones(2, 3, 4, dtype=torch.long)}, "x has dtype torch.int64"),
        (
            {"x": torch.ones(2, 3, 4).double()},
            "x has dtype torch.float64; it must be torch.float32",
        ),
        ({"lengths": torch.tensor([-1, 3])}, "lengths holds -1 to 3"),
        ({"lengths": torch.tensor([3])}, r"lengths has shape \(1,\)"),
        ({"lengths": torch.tensor([3.0, 2.0])}, "lengths has .* dtype torch.float32"),
        ({"lengths": torch.tensor([0, 3])}, "lengths holds 0 to 3"),
        ({"lengths": [2, 3]}, "lengths is a list; it must be a torch.Tensor"),
        ({"lengths": np.array([2, 3])}, "lengths is a ndarray"),
        ({"lengths": torch.tensor([True, True])}, "lengths has .* dtype torch.bool"),
        ({"lengths": torch.tensor([2 + 0j, 3])}, "lengths has .* dtype torch.complex64"),
        ({"x": None}, "x is a NoneType"),
        ({"x": np.ones((2, 3, 4), np.float32)}, "x is a ndarray"),
        ({"x": torch.ones(5, 4), "rows": [[0], [1]]}, "rows is a list"),
        ({"state": (torch.zeros(1, 2, 3),) * 3}, r"must be the pair \(h, c\)"),
        ({"state": (torch.zeros(1, 2, 3), None)}, "c is a NoneType"),
        ({"lengths": torch.tensor([4, 3])}, "between 1 and T = 3"),
        ({"state": (torch.zeros(1, 2, 5), torch.zeros(1, 2, 3))}, "state's h has shape"),
        ({"x": torch.ones(2, 3, 4), "rows": torch.zeros(2, 3).long()}, "with rows it must be"),
        ({"x": torch.ones(5, 4), "rows": torch.full((2, 3), 5)}, "rows holds 5 to 5"),
        ({"x": torch.ones(5, 4), "rows": torch.zeros(2, 3)}, "rows has .* dtype torch.float32"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    layer = LSTMLayer(4, 3)
    with pytest.raises(ValueError, match=message):
        layer(**{"x": torch.ones(2, 3, 4), **arguments})


@pytest.mark.parametrize("cell_class", [LSTMCell, GRUCell, RNNCell])
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 5), (2, 3), (2, 3)], r"x has shape \(2, 5\); it must be \(B, 4\)"),
        ([(4,), (1, 3), (1, 3)], r"x has shape \(4,\)"),
        ([(2, 4), (1, 3), (2, 3)], r"h has shape \(1, 3\)"),
        ([(2, 4), (2, 3), (2, 4)], r"c has shape \(2, 4\); it must be \(B, 3\)"),
    ],
)
def test_what_does_not_fit_a_cell_is_named(cell_class, shapes, message):
    x, h, c = map(torch.zeros, shapes)
    with pytest.raises(ValueError, match=message):
        cell_class(4, 3)(x, (h, c))


@pytest.mark.parametrize("cell_class", [LSTMCell, GRUCell, RNNCell])
def test_what_is_no_tensor_and_no_pair_is_named(cell_class):
    x, h = torch.zeros(2, 4), torch.zeros(2, 3)
    for arguments, message in [
        ((x, None), "state is a NoneType; it must be the pair"),
        ((x, (h, h, h)), r"state is a tuple; it must be the pair \(h, c\)"),
        ((x, (h, None)), "c is a NoneType; it must be a torch.Tensor"),
        ((None, (h, h)), "x is a NoneType"),
        ((x.numpy(), (h, h)), "x is a ndarray"),
    ]:
        with pytest.raises(ValueError, match=message):
            cell_class(4, 3)(*arguments)


@pytest.mark.parametrize("cell_class", [LSTMCell, GRUCell, RNNCell])
@pytest.mark.parametrize("size", [0, -1, 2.0, "3", True, None, 2**63])
def test_impossible_sizes_of_a_cell_are_named(cell_class, size):
    with pytest.raises(ValueError, match=r"input_size is .* it must be a whole number, at least 1"):
        cell_class(size, 4)
    with pytest.raises(ValueError, match="hidden_size is"):
        cell_class(4, size)


@pytest.mark.parametrize("cell_class", [LSTMCell, GRUCell, RNNCell])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
@pytest.mark.parametrize("name", ["x", "h", "c"])
def test_a_dtype_that_does_not_fit_a_cell_is_named(cell_class, dtype, name):
    tensors = {"x": torch.zeros(2, 4), "h": torch.zeros(2, 3), "c": torch.zeros(2, 3)}
    tensors[name] = tensors[name].to(dtype)
    x, h, c = tensors.values()
    with pytest.raises(ValueError, match=f"{name} has dtype {dtype}; it must be torch.float32"):
        cell_class(4, 3)(x, (h, c))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"num_layers": 1.5}, "num_layers is 1.5; it must be a whole number"),
        ({"dropout": "half"}, "dropout is 'half'"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"recurrent_dropout": -0.1}, "recurrent_dropout is -0.1"),
        ({"backend": "fast"}, r"must be one of \['fused', 'reference'\]"),
        ({"cell": "LSTM"}, r"cell is 'LSTM'; it must be one of \['gru', 'lstm', 'rnn'\]"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LSTMLayer(**{"input_size": 4, "hidden_size": 3, **options})


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_two_states_for_a_cell_that_has_one_are_refused(cell):
    state = (torch.ones(1, 2, 3), torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match=f"h and c differ; a {cell} has one state"):
        LSTMLayer(4, 3, cell=cell)(torch.ones(2, 3, 4), state=state)


def test_what_nn_lstm_cannot_express_is_refused():
    with pytest.raises(ValueError, match=r"recurrent_dropout is 0\.2"):
        LSTMLayer(4, 3, recurrent_dropout=0.2).to_torch()
    with pytest.raises(ValueError, match="cell is 'gru'; only 'lstm'"):
        LSTMLayer(4, 3, cell="gru").to_torch()
    with pytest.raises(ValueError, match="proj_size is 2"):
        LSTMLayer.from_torch(nn.LSTM(4, 3, proj_size=2))


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_goes_to_nn_lstm_and_back(training):
    layer = LSTMLayer(4, 3, num_layers=2, dropout=0.5).train(training)
    trusted = layer.to_torch()
    assert trusted.training == training
    assert LSTMLayer.from_torch(trusted).training == training


def test_second_derivatives_are_those_of_nn_lstm_or_refused():
    torch.manual_seed(0)
    trusted = nn.LSTM(3, 4, batch_first=True).double()

    def penalised(layer):
        x = torch.linspace(-1, 1, 30, dtype=torch.float64).view(2, 5, 3).requires_grad_()
        outputs = layer(x)[0].sum()
        (gradient,) = torch.autograd.grad(outputs, x, create_graph=True)
        (outputs + gradient.square().sum()).backward()
        return x.grad

    expected = penalised(trusted)
    found = penalised(LSTMLayer.from_torch(trusted, backend="reference"))
    assert torch.allclose(found, expected)
    with pytest.raises(NotImplementedError, match=r'second derivatives.*backend="reference"'):
        penalised(LSTMLayer.from_torch(trusted))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_model_computes_the_same(backend):
    torch.manual_seed(0)
    layer = LSTMLayer(3, 4, backend=backend)
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    expected = layer(x, lengths)[0]
    compiled = torch.compile(layer, backend="eager")(x, lengths)[0]
    assert torch.allclose(compiled, expected, atol=1e-6)
    compiled.sum().backward()
    assert layer.cells[0].forget_gate.weight.grad.abs().sum() > 0


def gradients_of(layer, run):
    layer.zero_grad()
    run().sum().backward()
    return [parameter.grad.clone() for parameter in layer.parameters()]


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(use_reentrant):
    torch.manual_seed(0)
    layers = nn.ModuleList([LSTMLayer(6, 6) for _ in range(3)])
    x = torch.randn(8, 40, 6, requires_grad=True)

    def run(checkpointed):
        outputs = x
        for layer in layers:
            forward = lambda inputs, layer=layer: layer(inputs)[0]  # noqa: E731
            outputs = (
                checkpoint(forward, outputs, use_reentrant=use_reentrant)
                if checkpointed
                else forward(outputs)
            )
        return outputs

    expected = gradients_of(layers, lambda: run(False))
    for _ in range(3):  # memory is handed on from one to the next
        found = gradients_of(layers, lambda: run(True))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_memory_is_given_back_after_the_backward_pass_though_the_loss_is_kept(monkeypatch):
    blocks = []
    monkeypatch.setattr(fused, "_spare_blocks", blocks)
    monkeypatch.setattr(fused, "is_compiled", lambda tensor: True)
    layer = LSTMLayer(3, 4)
    losses = []
    for _ in range(5):
        loss = layer(torch.randn(2, 5, 3))[0].sum()
        loss.backward()
        losses.append(loss)
    assert len(blocks) == 2, "one for the forward pass, one for the backward pass, used again"


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_under_autocast_it_computes_in_the_dtype_of_its_weights(backend, compiled, monkeypatch):
    torch.manual_seed(0)
    if not compiled:  # as on a GPU
        monkeypatch.setattr(fused, "_has_avx512", lambda tensor: False)
        monkeypatch.setattr(recurrence, "is_compiled", lambda tensor: False)
        monkeypatch.setattr(fused, "is_compiled", lambda tensor: False)
    layer, before = LSTMLayer(3, 4, backend=backend), nn.Linear(3, 3)
    x, state = torch.randn(2, 5, 3), (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, (h, _) = layer(x, state=state)
        after_linear, _ = layer(before(x), state=tuple(part.bfloat16() for part in state))
    expected, (h_expected, _) = layer(x, state=state)
    assert torch.equal(found, expected)
    assert torch.equal(h, h_expected)
    assert after_linear.dtype == torch.float32
    after_linear.sum().backward()
    assert before.weight.grad.isfinite().all()
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(ValueError, match="must be the pair"),
    ):
        layer(x, state=(state[0],))


needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available()
    or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"),
    reason="this PyTorch comes without oneDNN",
)
WITH_AND_WITHOUT_ONEDNN = [False, pytest.param(True, marks=needs_onednn)]


@pytest.mark.parametrize("onednn", WITH_AND_WITHOUT_ONEDNN)
@pytest.mark.parametrize("n", [1, fused.ROW_MULTIPLE, 2 * fused.BLOCK_ROWS + 5])
def test_products_are_the_same_through_onednn(n, onednn, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(fused, "_has_avx512", lambda tensor: onednn)
    x, d_output, weight, bias = (torch.randn(*shape) for shape in [(n, 6), (n, 8), (8, 6), (8,)])
    with torch.no_grad():
        assert torch.allclose(fused.linear(x, weight), x @ weight.t(), atol=1e-5)
        assert torch.allclose(fused.linear(x, weight, bias), x @ weight.t() + bias, atol=1e-5)
        expected = (d_output.double().t() @ x.double()).float()
        assert torch.allclose(fused.weight_gradient(d_output, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("onednn", WITH_AND_WITHOUT_ONEDNN)
def test_a_backward_pass_under_autocast_loses_no_precision(onednn, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(fused, "_has_avx512", lambda tensor: onednn)
    layer, x = LSTMLayer(3, 4), torch.randn(2, 5, 3)
    expected = gradients_of(layer, lambda: layer(x)[0])
    outputs = layer(x)[0].sum()
    layer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs.backward()
    found = [parameter.grad for parameter in layer.parameters()]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True))


def test_hooks_on_cells_and_gates_run_with_either_backend():
    torch.manual_seed(0)
    layer = LSTMLayer(3, 4)
    calls = []
    handle = layer.cells[0].register_forward_hook(lambda *_: calls.append("cell"))
    layer(torch.randn(2, 5, 3))
    assert len(calls) == 5
    handle.remove()
    layer(torch.randn(2, 5, 3))
    assert len(calls) == 5
    gate = layer.cells[0].forget_gate
    prune.random_unstructured(gate, "weight", 0.5)
    x = torch.randn(2, 5, 3)
    for _ in range(2):
        layer(x)[0].sum().backward()
    assert (gate.weight_orig.grad[gate.weight_mask == 0] == 0).all()
    assert (gate.weight_orig.grad[gate.weight_mask == 1] != 0).all()


@pytest.mark.parametrize("other", [nn.RNN(3, 4), nn.GRU(3, 4), LSTMLayer(3, 4)])
def test_only_an_nn_lstm_is_taken_over(other):
    with pytest.raises(ValueError, match=rf"lstm is a {type(other).__name__}; it must be a"):
        LSTMLayer.from_torch(other)
