"""The hand-written LSTM, GRU and RNN against PyTorch's, and what must hold for any input."""

from __future__ import annotations

import pytest
import torch
from examples import loss_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lstm_sentiment.lstm import GRUCell, LSTMCell, LSTMLayer, RecurrentLayer, RNNCell

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
CELLS = {"gru": GRUCell, "rnn": RNNCell}
BACKENDS = [name for name in LSTMLayer.BACKENDS if name != "auto"]
KINDS = [*BACKENDS, *CELLS]
GATES = {
    "LSTM": ["input_gate", "forget_gate", "candidate", "output_gate"],
    "GRU": ["reset_gate", "update_gate"],
    "RNN_TANH": ["linear"],
}


def make_layer(kind: str, *sizes, **options) -> RecurrentLayer:
    """Every way of running a layer: an LSTM by either backend, or another cell."""
    if kind in CELLS:
        return RecurrentLayer(CELLS[kind], *sizes, **options)
    return LSTMLayer(*sizes, backend=kind, **options)


def run_torch(trusted: nn.RNNBase, x, lengths, state):
    """A layer of PyTorch's on right-padded x: outputs (B, T, .), and a tuple of final states."""
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    outputs, state = trusted(packed, state)
    outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])
    return outputs, state if isinstance(state, tuple) else (state,)


def parameters_from_torch(trusted: nn.RNNBase) -> dict[str, torch.Tensor]:
    """A layer's parameters as functions of those of `trusted`, for gradients with respect to it."""
    parameters = {}
    endings = ["", "_reverse"] if trusted.bidirectional else [""]
    suffixes = [f"l{layer}{ending}" for layer in range(trusted.num_layers) for ending in endings]
    for index, suffix in enumerate(suffixes):
        w_x, w_h, b_x, b_h = (
            getattr(trusted, f"{name}_{suffix}").split(trusted.hidden_size)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        for row, gate in enumerate(GATES[trusted.mode]):
            parameters[f"cells.{index}.{gate}.weight"] = torch.cat([w_h[row], w_x[row]], dim=1)
            parameters[f"cells.{index}.{gate}.bias"] = b_h[row] + b_x[row]
        if trusted.mode == "GRU":
            for name, weight, bias in [("input", w_x, b_x), ("hidden", w_h, b_h)]:
                parameters[f"cells.{index}.candidate_{name}.weight"] = weight[2]
                parameters[f"cells.{index}.candidate_{name}.bias"] = bias[2]
    return parameters


def assert_all_close(found, expected, atol):
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@st.composite
def cases(draw):
    """Ragged batches of 1 to 9 sequences of a table's vectors, for layers of any form."""
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=9))
    torch.manual_seed(draw(st.integers(0, 999)))
    input_size, hidden_size = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    return {
        "lengths": torch.tensor(lengths),
        "rows": torch.randint(0, 5, (len(lengths), max(lengths) + draw(st.integers(0, 2)))),
        "table": torch.randn(5, input_size, dtype=torch.float64),
        "sizes": (input_size, hidden_size, draw(st.integers(1, 3)), draw(st.booleans())),
    }


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(
    case=cases(),
    dtype=st.sampled_from(list(TOLERANCE)),
    with_state=st.booleans(),
    with_rows=st.booleans(),
    frozen=st.sampled_from(["nothing", "input", "weights"]),
)
def test_equals_pytorchs_layer_in_values_states_and_gradients(
    kind, case, dtype, with_state, with_rows, frozen
):
    *sizes, bidirectional = case["sizes"]
    torch_class = {"gru": nn.GRU, "rnn": nn.RNN}.get(kind, nn.LSTM)
    trusted = torch_class(*sizes, batch_first=True, bidirectional=bidirectional).to(dtype)
    trusted.requires_grad_(frozen != "weights")
    layer, parameters = make_layer(kind, *case["sizes"]).to(dtype), parameters_from_torch(trusted)
    assert parameters.keys() == dict(layer.named_parameters()).keys()
    lengths, rows = case["lengths"], case["rows"]
    table = case["table"].to(dtype).requires_grad_(frozen != "input")
    is_lstm = torch_class is nn.LSTM
    shape = (len(layer.cells), len(lengths), sizes[1])
    states, state, torch_state = [], None, None
    if with_state:
        states = [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(1 + is_lstm)]
        state = (states[0], states[-1])
        torch_state = state if is_lstm else states[0]

    expected = run_torch(trusted, table[rows], lengths, torch_state)
    arguments = (table, lengths, state, rows) if with_rows else (table[rows], lengths, state)
    outputs, (h_n, c_n) = functional_call(layer, parameters, arguments)
    assert is_lstm or torch.equal(h_n, c_n)
    found = outputs, (h_n, c_n)[: 1 + is_lstm]
    assert_all_close([found[0], *found[1]], [expected[0], *expected[1]], TOLERANCE[dtype])

    sources = [each for each in (table, *states, *trusted.parameters()) if each.requires_grad]
    if sources:
        gradients = torch.autograd.grad(loss_of(*found), sources)
        expected = torch.autograd.grad(loss_of(*expected), sources)
        assert_all_close(gradients, expected, 10 * TOLERANCE[dtype])


def test_a_gru_carries_its_state_past_what_recurrent_dropout_hides_from_its_gates():
    layer = RecurrentLayer(GRUCell, 3, 4, recurrent_dropout=0.5)
    nn.init.constant_(layer.cells[0].update_gate.bias, 1e3)  # it never updates
    h = torch.randn(1, 2, 4)
    assert torch.equal(layer(torch.randn(2, 50, 3), state=(h, h))[1][0], h)


@pytest.mark.parametrize("backend", BACKENDS)
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


@given(case=cases(), kind=st.sampled_from(KINDS), dtype=st.sampled_from(list(TOLERANCE)))
def test_a_sequence_depends_on_nothing_behind_its_length_nor_on_its_batch(case, kind, dtype):
    layer = make_layer(kind, *case["sizes"]).to(dtype)
    x, lengths = case["table"][case["rows"]].to(dtype), case["lengths"]
    padding = torch.arange(x.shape[1]) >= lengths[:, None]
    outputs, state = layer(x, lengths)
    other, other_state = layer(x.masked_fill(padding[:, :, None], torch.nan), lengths)
    assert_all_close([other, *other_state], [outputs, *state], 0)
    assert not outputs[padding].any()
    for row, length in enumerate(lengths.tolist()):
        alone, alone_state = layer(x[row : row + 1, :length])
        expected = [outputs[row, :length], *(part[:, row] for part in state)]
        found = [alone[0], *(part[:, 0] for part in alone_state)]
        assert_all_close(found, expected, TOLERANCE[dtype])


@given(case=cases(), kind=st.sampled_from(KINDS))
def test_without_outputs_and_without_gradients_the_states_are_the_same(case, kind):
    layer = make_layer(kind, *case["sizes"])
    arguments = case["table"].float(), case["lengths"], None, case["rows"]
    _, expected = layer(*arguments)
    outputs, found = layer(*arguments, need_outputs=False)
    assert outputs is None
    assert_all_close(found, expected, 1e-6)
    with torch.inference_mode():
        assert_all_close(layer(*arguments)[1], expected, 1e-6)


@pytest.mark.parametrize("cell_class", [LSTMCell, GRUCell, RNNCell])
def test_recurrent_dropout_keeps_one_mask_for_all_steps_and_is_off_in_evaluation(cell_class):
    torch.manual_seed(0)
    layer = RecurrentLayer(cell_class, 3, 50, recurrent_dropout=0.5)
    x, seen = torch.randn(1, 4, 3), []
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.cells[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1][0] == 0))
    layer(x)
    assert torch.equal(seen[1], seen[2])  # step 0 starts from zeros anyway
    assert torch.equal(seen[2], seen[3])
    assert 10 < seen[1].sum() < 40
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


@pytest.mark.parametrize("training", [False, True])
def test_weights_and_mode_survive_the_way_to_nn_lstm_and_back(training):
    layer = LSTMLayer(4, 3, num_layers=2, bidirectional=True, dropout=0.3)
    trusted = layer.train(training).to_torch()
    back = LSTMLayer.from_torch(trusted)
    assert back.dropout == trusted.dropout == 0.3
    assert back.training == trusted.training == training
    expected, found = parameters_from_torch(trusted), back.state_dict()
    for name, weight in layer.state_dict().items():
        assert torch.equal(expected[name], weight)
        assert torch.equal(found.pop(name), weight)
    assert not found
    trusted, x = nn.LSTM(3, 2, bias=False, batch_first=True), torch.randn(1, 4, 3)
    torch.testing.assert_close(LSTMLayer.from_torch(trusted)(x)[0], trusted(x)[0])


def test_start_weights_do_not_depend_on_the_number_of_threads():
    threads, weights = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        torch.manual_seed(0)
        weights.append(LSTMCell(4, 128).forget_gate.weight)
    torch.set_num_threads(threads)
    assert torch.equal(*weights)


@pytest.mark.parametrize("cell_class", [LSTMCell, GRUCell, RNNCell])
def test_a_fresh_cell_has_orthogonal_recurrent_weights_and_an_lstm_remembers(cell_class):
    for name, linear in cell_class(4, 8).named_children():
        weight_h = linear.weight[:, :8]
        if name != "candidate_input":
            torch.testing.assert_close(weight_h @ weight_h.T, torch.eye(8), rtol=0, atol=1e-5)
        assert torch.equal(linear.bias, torch.full((8,), float(name == "forget_gate")))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.ones(2, 3)}, r"x must be \(B, T, D\)"),
        ({"x": torch.ones(2, 3, 4, 1)}, r"x must be \(B, T, D\)"),
        ({"x": torch.ones(2, 3, 5)}, "D is 4"),
        ({"x": torch.ones(2, 3, 4).long()}, "dtype"),
        ({"lengths": torch.tensor([-1, 3])}, "lengths is .*-1, .* between 1 and 3"),
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
    layer, errors = make_layer(kind, 4, 3), (ValueError, RuntimeError)
    with torch.set_grad_enabled(gradients), pytest.raises(errors, match=message):
        layer(**{"x": torch.ones(2, 3, 4), **arguments})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_steps", [10, 1_200])
def test_weights_of_another_dtype_than_the_input_are_refused(kind, n_steps):
    layer = make_layer(kind, 4, 3).double()
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients), pytest.raises(RuntimeError, match="dtype"):
            layer(torch.ones(1, n_steps, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_on_the_cpu_stays_there_whatever_the_default_device(kind):
    layer, x = make_layer(kind, 4, 3, recurrent_dropout=0.5), torch.ones(2, 3, 4)
    with torch.device("meta"):
        outputs, _ = layer(x)
        layer.recurrent_dropout = 0.0
        layer(x, torch.tensor([3, 2], device="cpu"))
    assert outputs.device.type == "cpu"


def test_what_a_layer_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"RNN\(3, 4\) is no nn\.LSTM"):
        LSTMLayer.from_torch(nn.RNN(3, 4))
    with pytest.raises(ValueError, match="backend is 'fast'; it must be one of"):
        LSTMLayer(4, 3, backend="fast")(torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match=r"recurrent_dropout is 0\.2"):
        LSTMLayer(4, 3, recurrent_dropout=0.2).to_torch()
    with pytest.raises(ValueError, match="proj_size=2"):
        LSTMLayer.from_torch(nn.LSTM(4, 3, proj_size=2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_compiled_model_computes_the_same(backend):
    layer = LSTMLayer(3, 4, backend=backend)
    x, lengths = torch.randn(2, 5, 3), torch.tensor([5, 2])
    found = torch.compile(layer, backend="eager")(x, lengths)[0]
    torch.testing.assert_close(found, layer(x, lengths)[0], rtol=0, atol=1e-6)
    found.sum().backward()
    assert layer.cells[0].forget_gate.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_under_autocast_it_computes_in_the_dtype_of_its_weights(backend):
    layer, before = LSTMLayer(3, 4, backend=backend), nn.Linear(3, 3)
    x, state = torch.randn(2, 5, 3), (torch.randn(1, 2, 4), torch.randn(1, 2, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, found_state = layer(x, state=state)
        after_linear, _ = layer(before(x), state=tuple(part.bfloat16() for part in state))
    expected, expected_state = layer(x, state=state)
    assert_all_close([found, *found_state], [expected, *expected_state], 0)
    assert after_linear.dtype == torch.float32
    after_linear.sum().backward()
    assert before.weight.grad.isfinite().all()
