"""The hand-written LSTM, GRU and RNN against PyTorch's, and what must hold for any input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_sentiment.lstm import GRUCell, LSTMCell, LSTMLayer, RecurrentLayer, RNNCell

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
CELLS = [LSTMCell, GRUCell, RNNCell]


def make_layer(kind: str, *sizes, **options) -> RecurrentLayer:
    """Every way of running a layer: an LSTM by either backend, or another cell."""
    if kind in LSTMLayer.BACKENDS:
        return LSTMLayer(*sizes, backend=kind, **options)
    return RecurrentLayer({"gru": GRUCell, "rnn": RNNCell}[kind], *sizes, **options)


def run_torch(trusted: nn.RNNBase, x, lengths, state):
    """nn.LSTM, nn.GRU or nn.RNN on right-padded x: outputs (B, T, .), and its final states."""
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, state = trusted(packed, state)
    return pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])[0], state


def loss_of(outputs, state):
    """A number that depends on every output and every final state, each in its own way."""
    generator = torch.Generator().manual_seed(1)
    parts = [outputs, *state]
    weights = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parts]
    return sum((weight * part).sum() for weight, part in zip(weights, parts, strict=True))


def assert_all_close(found, expected, atol):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@st.composite
def cases(draw):
    """Ragged batches of 1 to 9 sequences of a table's vectors, for layers of any form."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=9))
    torch.manual_seed(draw(st.integers(0, 999)))
    input_size = draw(st.integers(1, 6))
    return {
        "lengths": torch.tensor(lengths),
        "rows": torch.randint(0, 5, (len(lengths), max(lengths) + draw(st.integers(0, 2)))),
        "table": torch.randn(5, input_size, dtype=torch.float64),
        "sizes": (
            input_size,
            draw(st.integers(1, 9)),
            draw(st.integers(1, 3)),
            draw(st.booleans()),
        ),
    }


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("backend", LSTMLayer.BACKENDS)
@settings(max_examples=50)
@given(
    case=cases(),
    with_state=st.booleans(),
    with_rows=st.booleans(),
    frozen=st.sampled_from(["nothing", "input", "weights"]),
)
def test_equals_nn_lstm_in_values_states_and_gradients(
    backend, dtype, case, with_state, with_rows, frozen
):
    input_size, hidden_size, num_layers, bidirectional = case["sizes"]
    trusted = nn.LSTM(
        input_size, hidden_size, num_layers, batch_first=True, bidirectional=bidirectional
    ).to(dtype)
    trusted.requires_grad_(frozen != "weights")
    layer = LSTMLayer.from_torch(trusted, backend=backend)
    layer.requires_grad_(frozen != "weights")
    lengths, rows = case["lengths"], case["rows"]
    state = None
    if with_state:
        shape = (len(layer.cells), len(lengths), hidden_size)
        state = tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for _ in "hc")
    table = case["table"].to(dtype).requires_grad_(frozen != "input")

    expected, expected_state = run_torch(trusted, table[rows], lengths, state)
    if with_rows:
        found, found_state = layer(table, lengths, state, rows)
    else:
        found, found_state = layer(table[rows], lengths, state)
    assert_all_close([found, *found_state], [expected, *expected_state], TOLERANCE[dtype])

    inputs = [*(state or ()), *([] if frozen == "input" else [table])]
    parameters, theirs = list(layer.parameters()), dict(trusted.named_parameters())
    if frozen == "weights":
        if inputs:
            found = torch.autograd.grad(loss_of(found, found_state), inputs)
            expected = torch.autograd.grad(loss_of(expected, expected_state), inputs)
            assert_all_close(found, expected, 10 * TOLERANCE[dtype])
        return
    found = torch.autograd.grad(loss_of(found, found_state), [*inputs, *parameters])
    # The two biases of nn.LSTM have one gradient, and ours is one bias.
    names = [name for name in theirs if "bias_hh" not in name]
    expected = torch.autograd.grad(
        loss_of(expected, expected_state), [*inputs, *(theirs[name] for name in names)]
    )
    assert_all_close(found[: len(inputs)], expected[: len(inputs)], 10 * TOLERANCE[dtype])
    with torch.no_grad():  # the gradients take the weights' way into nn.LSTM's layout
        for parameter, gradient in zip(parameters, found[len(inputs) :], strict=True):
            parameter.copy_(gradient)
    ours = dict(layer.to_torch().named_parameters())
    found = [ours[name] for name in names]
    assert_all_close(found, expected[len(inputs) :], 10 * TOLERANCE[dtype])


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


@pytest.mark.parametrize(("kind", "torch_class"), [("gru", nn.GRU), ("rnn", nn.RNN)])
@settings(max_examples=25)
@given(case=cases(), with_state=st.booleans())
def test_other_cells_equal_nn_gru_and_nn_rnn(kind, torch_class, case, with_state):
    *sizes, bidirectional = case["sizes"]
    trusted = torch_class(*sizes, batch_first=True, bidirectional=bidirectional).double()
    layer = make_layer(kind, *sizes, bidirectional).double()
    parameters = parameters_from_torch(trusted)
    assert parameters.keys() == dict(layer.named_parameters()).keys()
    lengths, x = case["lengths"], case["table"][case["rows"]].requires_grad_()
    h = torch.zeros(len(layer.cells), len(lengths), sizes[1], dtype=torch.float64)
    h = (torch.randn_like(h) if with_state else h).requires_grad_()

    outputs, h_n = run_torch(trusted, x, lengths, h)
    state = (h, h) if with_state else None
    found, (h_n_found, c_n_found) = functional_call(layer, parameters, (x, lengths, state))
    assert torch.equal(h_n_found, c_n_found)
    sources = [x, *trusted.parameters(), *([h] if with_state else [])]
    expected = torch.autograd.grad(loss_of(outputs, [h_n]), sources)
    gradients = torch.autograd.grad(loss_of(found, [h_n_found]), sources)
    assert_all_close([found, h_n_found, *gradients], [outputs, h_n, *expected], 1e-8)


def test_the_cell_computes_the_textbooks_equations_and_those_of_nn_lstm_cell():
    torch.manual_seed(0)
    layer = LSTMLayer(2, 1)
    x, h, c = torch.tensor([[0.5, -1.0]]), torch.tensor([[0.3]]), torch.tensor([[-0.7]])
    hx = torch.tensor([0.3, 0.5, -1.0])
    named = layer.cells[0].named_children()
    gate = {name: linear.weight[0] @ hx + linear.bias[0] for name, linear in named}
    f, i, o = (gate[name].sigmoid() for name in ("forget_gate", "input_gate", "output_gate"))
    c_next = f * -0.7 + i * gate["candidate"].tanh()
    expected = (o * c_next.tanh()).view(1, 1), c_next.view(1, 1)
    found = layer.cells[0](x, (h, c))
    assert_all_close(found, expected, 1e-6)
    trusted = nn.LSTMCell(2, 1)
    weights = layer.to_torch().state_dict().items()
    trusted.load_state_dict({name.removesuffix("_l0"): value for name, value in weights})
    assert_all_close(found, trusted(x, (h, c)), 1e-6)


def test_a_gru_carries_its_state_past_what_recurrent_dropout_hides_from_its_gates():
    layer = RecurrentLayer(GRUCell, 3, 4, recurrent_dropout=0.5)
    nn.init.constant_(layer.cells[0].update_gate.bias, 1e3)  # it never updates
    h = torch.randn(1, 2, 4)
    assert torch.equal(layer(torch.randn(2, 50, 3), state=(h, h))[1][0], h)
    cell, x = GRUCell(2, 1), torch.tensor([[0.5, -1.0]])
    (of_nothing, _), (of_h, _) = (cell(x, (h, torch.ones(1, 1))) for h in torch.eye(2)[:, :1, None])
    assert not torch.equal(of_nothing, of_h), "the gates do read h"


@pytest.mark.parametrize("backend", LSTMLayer.BACKENDS)
def test_gradients_with_recurrent_dropout_are_those_of_small_differences(backend):
    torch.manual_seed(0)
    options = {"num_layers": 2, "bidirectional": True, "recurrent_dropout": 0.5}
    layer = LSTMLayer(3, 2, backend=backend, **options).double()
    table = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    state = tuple(torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True) for _ in "hc")

    def run(table, h, c, *_):
        torch.manual_seed(0)  # the same dropout mask each time
        rows = torch.tensor([[0, 3, 1], [2, 2, 0]])
        outputs, (h_n, c_n) = layer(table, torch.tensor([2, 3]), (h, c), rows)
        return outputs, h_n, c_n

    assert torch.autograd.gradcheck(run, (table, *state, *layer.parameters()))


KINDS = st.sampled_from([*LSTMLayer.BACKENDS, "gru", "rnn"])


@given(case=cases(), kind=KINDS, dtype=st.sampled_from(list(TOLERANCE)))
def test_a_sequence_depends_on_nothing_behind_its_length_nor_on_its_batch(case, kind, dtype):
    layer = make_layer(kind, *case["sizes"]).to(dtype)
    x, lengths = case["table"][case["rows"]].to(dtype), case["lengths"]
    padding = torch.arange(x.shape[1]) >= lengths[:, None]
    outputs, state = layer(x, lengths)
    other, other_state = layer(x.masked_fill(padding[:, :, None], torch.nan), lengths)
    assert torch.equal(outputs, other)
    assert all(torch.equal(a, b) for a, b in zip(state, other_state, strict=True))
    assert not outputs[padding].any()
    for row, length in enumerate(lengths.tolist()):
        alone, alone_state = layer(x[row : row + 1, :length])
        expected = [outputs[row, :length], *(part[:, row] for part in state)]
        found = [alone[0], *(part[:, 0] for part in alone_state)]
        assert_all_close(found, expected, TOLERANCE[dtype])


@given(case=cases(), kind=KINDS)
def test_without_outputs_and_without_gradients_the_states_are_the_same(case, kind):
    layer = make_layer(kind, *case["sizes"])
    table = case["table"].float()
    _, expected = layer(table, case["lengths"], rows=case["rows"])
    outputs, found = layer(table, case["lengths"], rows=case["rows"], need_outputs=False)
    assert outputs is None
    assert_all_close(found, expected, 1e-6)
    with torch.inference_mode():
        _, found = layer(table, case["lengths"], rows=case["rows"])
    assert_all_close(found, expected, 1e-6)


@pytest.mark.parametrize("cell_class", CELLS)
def test_recurrent_dropout_keeps_one_mask_for_all_steps_and_is_off_in_evaluation(cell_class):
    torch.manual_seed(0)
    layer = RecurrentLayer(cell_class, 3, 50, recurrent_dropout=0.5)
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
@pytest.mark.parametrize("training", [False, True])
def test_weights_and_mode_survive_the_way_to_nn_lstm_and_back(bidirectional, training):
    layer = LSTMLayer(4, 3, num_layers=2, bidirectional=bidirectional, dropout=0.3)
    trusted = layer.train(training).to_torch()
    back = LSTMLayer.from_torch(trusted)
    assert back.dropout == trusted.dropout == 0.3
    assert back.training == trusted.training == training
    state, state_back = layer.state_dict(), back.state_dict()
    assert state.keys() == state_back.keys()
    assert all(torch.equal(state[name], state_back[name]) for name in state)


def test_from_torch_takes_a_layer_without_bias():
    trusted, x = nn.LSTM(3, 2, bias=False, batch_first=True), torch.randn(1, 4, 3)
    torch.testing.assert_close(LSTMLayer.from_torch(trusted)(x)[0], trusted(x)[0])


@pytest.mark.parametrize("cell_class", CELLS)
def test_a_fresh_cell_has_orthogonal_recurrent_weights_and_an_lstm_remembers(cell_class):
    for name, linear in cell_class(4, 8).named_children():
        weight_h = linear.weight[:, :8]
        if name != "candidate_input":
            torch.testing.assert_close(weight_h @ weight_h.T, torch.eye(8), rtol=0, atol=1e-5)
        assert torch.equal(linear.bias, torch.full((8,), float(name == "forget_gate")))


@pytest.mark.parametrize("kind", [*LSTMLayer.BACKENDS, "gru", "rnn"])
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.ones(2, 3)}, r"x must be \(B, T, D\)"),
        ({"x": torch.ones(2, 3, 4, 1)}, r"x must be \(B, T, D\)"),
        ({"lengths": torch.tensor([-1, 3])}, "lengths is .*-1, .* between 1 and 3"),
        ({"lengths": torch.tensor([0, 3])}, "lengths is .* between 1 and 3"),
        ({"lengths": torch.tensor([4, 3])}, "lengths is .* between 1 and 3"),
        ({"lengths": torch.tensor([3])}, "lengths is .* for each of 2 sequences"),
        ({"lengths": torch.tensor([3.0, 2.0])}, "lengths is .* a whole number"),
        ({"x": torch.ones(0, 3, 4)}, "lengths is .* at least one"),
        ({"state": (torch.zeros(1, 2, 5), torch.zeros(1, 2, 3))}, "initial h has shape"),
        ({"state": (torch.zeros(1, 2, 3), torch.zeros(1, 1, 3))}, "initial c has shape"),
        ({"state": (torch.zeros(1, 2, 3).double(),) * 2}, "initial h .* torch.float64"),
        ({"x": torch.ones(2, 3, 4), "rows": torch.zeros(2, 3).long()}, "with rows"),
        ({"x": torch.ones(5, 4), "rows": torch.full((2, 3), 5)}, "rows holds 5 to 5"),
        ({"x": torch.ones(5, 4), "rows": torch.full((2, 3), -1)}, "rows holds -1 to -1"),
    ],
)
def test_what_would_be_silently_wrong_or_unsafe_is_refused_by_name(
    kind, gradients, arguments, message
):
    layer = make_layer(kind, 4, 3)
    with torch.set_grad_enabled(gradients), pytest.raises(ValueError, match=message):
        layer(**{"x": torch.ones(2, 3, 4), **arguments})


@pytest.mark.parametrize("backend", LSTMLayer.BACKENDS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"x": torch.ones(2, 3, 5)},
        {"x": torch.ones(2, 3, 4).double()},
        {"x": torch.ones(2, 3, 4).long()},
    ],
)
def test_what_pytorch_refuses_never_reaches_the_steps(backend, arguments):
    with pytest.raises(RuntimeError):
        LSTMLayer(4, 3, backend=backend)(**arguments)


def test_what_a_layer_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"RNN\(3, 4\) is no nn\.LSTM"):
        LSTMLayer.from_torch(nn.RNN(3, 4))
    with pytest.raises(ValueError, match="backend is 'fast'; it must be one of"):
        LSTMLayer(4, 3, backend="fast")
    with pytest.raises(ValueError, match=r"recurrent_dropout is 0\.2"):
        LSTMLayer(4, 3, recurrent_dropout=0.2).to_torch()
    with pytest.raises(ValueError, match="proj_size=2"):
        LSTMLayer.from_torch(nn.LSTM(4, 3, proj_size=2))


@pytest.mark.parametrize("backend", LSTMLayer.BACKENDS)
def test_a_compiled_model_computes_the_same(backend):
    torch.manual_seed(0)
    layer = LSTMLayer(3, 4, backend=backend)
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    expected = layer(x, lengths)[0]
    found = torch.compile(layer, backend="eager")(x, lengths)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    found.sum().backward()
    assert layer.cells[0].forget_gate.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("backend", LSTMLayer.BACKENDS)
def test_under_autocast_it_computes_in_the_dtype_of_its_weights(backend):
    torch.manual_seed(0)
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
