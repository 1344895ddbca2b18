"""The LSTM by hand: one cell as the textbook writes it, and the layer that runs cells over time.

`LSTMCell` is the equations; `LSTMLayer` takes right-padded sequences with their lengths and returns
every hidden state and the last valid one. The layer runs its cells one step at a time
(`backend="reference"`) or hands their parameters to `fused_lstm` (`backend="fused"`), with equal
results, and exchanges weights with `torch.nn.LSTM` both ways. `GRUCell` and `RNNCell`, one step at
a time, run in the same layer, for comparison.
"""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor, nn

from lstm_sentiment.fast.layer import PackedSteps, fast_dropout, fused_lstm

State = tuple[Tensor, Tensor]


WHOLE_NUMBERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def require_whole(minimum: int = 1, **values: int) -> None:
    """ValueError, with the name, unless each value is a whole number of at least `minimum`."""
    for name, value in values.items():
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or not minimum <= value < 2**63:  # PyTorch's integers have 64 bits
            raise ValueError(
                f"{name} is {value!r}; it must be a whole number, at least {minimum} and below "
                "2**63"
            )


def python_number(value: object) -> object:
    """A number of NumPy as Python's own, which JSON and checkpoints can hold; others unchanged."""
    return value.item() if isinstance(value, np.generic) else value


def require_share(**values: float) -> None:
    """ValueError, with the name, unless each value is a number from 0 to below 1."""
    for name, value in values.items():
        if not (isinstance(value, Real) and 0 <= value < 1):
            raise ValueError(f"{name} is {value!r}; it must be at least 0 and below 1")


def require_positive(**values: float) -> None:
    """ValueError, with the name, unless each value is above 0 and finite, as a float32 too."""
    for name, value in values.items():
        if not (isinstance(value, Real) and 0 < value <= torch.finfo(torch.float32).max):
            raise ValueError(f"{name} is {value!r}; it must be a finite number above 0")


def require_tensor(**values: Tensor) -> None:
    """ValueError, with the name, unless each value is a tensor."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is a {type(value).__name__}; it must be a torch.Tensor")


class LSTMCell(nn.Module):
    """One step of a long short-term memory (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    Args:
        input_size: D, size of the input x.
        hidden_size: H, size of the hidden state h and of the cell state c.

    The forget gate's bias starts at 1, so that a fresh cell remembers (Jozefowicz et al. 2015);
    recurrent weights start orthogonal (Saxe et al. 2014), input weights by Glorot & Bengio (2010).
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        require_whole(input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.forget_gate = nn.Linear(hidden_size + input_size, hidden_size)
        self.input_gate = nn.Linear(hidden_size + input_size, hidden_size)
        self.candidate = nn.Linear(hidden_size + input_size, hidden_size)
        self.output_gate = nn.Linear(hidden_size + input_size, hidden_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for gate in (self.forget_gate, self.input_gate, self.candidate, self.output_gate):
            _initialise(gate, self.hidden_size)
        nn.init.ones_(self.forget_gate.bias)

    def forward(self, x: Tensor, state: State) -> State:
        """x (B, D) and state (h, c), each (B, H), to the next (h, c)."""
        _check_step(self, x, state)
        h, c = state
        hx = torch.cat([h, x], dim=1)  # (B, H + D)
        f = torch.sigmoid(self.forget_gate(hx))  # f = sigma(W_f [h, x] + b_f)
        i = torch.sigmoid(self.input_gate(hx))  # i = sigma(W_i [h, x] + b_i)
        g = torch.tanh(self.candidate(hx))  # g = tanh(W_c [h, x] + b_c)
        c = f * c + i * g  # c' = f * c + i * g
        o = torch.sigmoid(self.output_gate(hx))  # o = sigma(W_o [h, x] + b_o)
        h = o * torch.tanh(c)  # h' = o * tanh(c')
        return h, c


class GRUCell(nn.Module):
    """One step of a gated recurrent unit (Cho et al. 2014), in the form of `torch.nn.GRU`.

    It has one state, which takes both places of (h, c): h is what the gates read, c what is carried
    on. The two differ only where recurrent dropout acts, which thins out what the gates read and,
    as in an LSTM, spares what is remembered.

    Args:
        input_size: D, size of the input x.
        hidden_size: H, size of the state.

    Weights start as in `LSTMCell`, biases at 0. The reset gate acts on the product of weights and
    h, as in `nn.GRU`; in the paper it acts on h.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        require_whole(input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.reset_gate = nn.Linear(hidden_size + input_size, hidden_size)
        self.update_gate = nn.Linear(hidden_size + input_size, hidden_size)
        self.candidate_hidden = nn.Linear(hidden_size, hidden_size)
        self.candidate_input = nn.Linear(input_size, hidden_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for linear in (self.reset_gate, self.update_gate, self.candidate_hidden):
            _initialise(linear, self.hidden_size)
        _initialise(self.candidate_input, 0)

    def forward(self, x: Tensor, state: State) -> State:
        """x (B, D) and state (h, c), each (B, H), to the next (h, h)."""
        _check_step(self, x, state)
        h, c = state
        hx = torch.cat([h, x], dim=1)  # (B, H + D)
        r = torch.sigmoid(self.reset_gate(hx))  # r = sigma(W_r [h, x] + b_r)
        z = torch.sigmoid(self.update_gate(hx))  # z = sigma(W_z [h, x] + b_z)
        # n = tanh(W_n x + b_n + r * (U_n h + d_n))
        n = torch.tanh(self.candidate_input(x) + r * self.candidate_hidden(h))
        h = (1 - z) * n + z * c  # h' = (1 - z) * n + z * h
        return h, h


class RNNCell(nn.Module):
    """One step of a plain recurrent network (Elman 1990): h' = tanh(W [h, x] + b).

    Like a GRU it has one state, which takes both places of (h, c); it reads h only.

    Args:
        input_size: D, size of the input x.
        hidden_size: H, size of the state.

    Weights start as in `LSTMCell`, the bias at 0.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        require_whole(input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.linear = nn.Linear(hidden_size + input_size, hidden_size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        _initialise(self.linear, self.hidden_size)

    def forward(self, x: Tensor, state: State) -> State:
        """x (B, D) and state (h, c), each (B, H), to the next (h, h)."""
        _check_step(self, x, state)
        h, _ = state
        h = torch.tanh(self.linear(torch.cat([h, x], dim=1)))  # h' = tanh(W [h, x] + b)
        return h, h


CELLS = {"lstm": LSTMCell, "gru": GRUCell, "rnn": RNNCell}


class LSTMLayer(nn.Module):
    """One or several cells run over the time dimension of right-padded sequences.

    Args:
        input_size: D.
        hidden_size: H.
        num_layers: cells stacked on each other; each reads the hidden states of the one below.
        bidirectional: a second cell per layer reads each sequence from its last valid step back.
        dropout: share of hidden states dropped between layers, in training.
        recurrent_dropout: share of the previous hidden state dropped, in training; one mask per
            sequence, the same at every step (Gal & Ghahramani 2016).
        backend: "fused" (fast) or "reference" (the cells, one step at a time); may be set later.
        cell: "lstm", "gru" or "rnn"; the last two run one step at a time with either backend.

    Example:
        >>> lstm = LSTMLayer(input_size=50, hidden_size=32)
        >>> outputs, (h, c) = lstm(torch.randn(2, 7, 50), lengths=torch.tensor([7, 3]))
        >>> outputs.shape, h.shape
        (torch.Size([2, 7, 32]), torch.Size([1, 2, 32]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        backend: str = "fused",
        cell: str = "lstm",
    ):
        super().__init__()
        require_whole(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        require_share(dropout=dropout, recurrent_dropout=recurrent_dropout)
        if backend not in _BACKENDS:
            raise ValueError(f"backend is {backend!r}; it must be one of {sorted(_BACKENDS)}")
        if cell not in CELLS:
            raise ValueError(f"cell is {cell!r}; it must be one of {sorted(CELLS)}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.backend = backend
        self.cell = cell
        directions = 2 if bidirectional else 1
        # In the order of torch.nn.LSTM's states: layer 0 forward, layer 0 backward, layer 1 ...
        self.cells = nn.ModuleList(
            CELLS[cell](input_size if layer == 0 else directions * hidden_size, hidden_size)
            for layer in range(num_layers)
            for _ in range(directions)
        )

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        state: State | None = None,
        rows: Tensor | None = None,
        need_outputs: bool = True,
    ) -> tuple[Tensor | None, State]:
        """Run the sequences through all layers.

        Args:
            x: (B, T, D) inputs; or, with `rows`, a table (U, D) of the distinct ones.
            lengths: (B,) valid steps of each sequence, 1 to T; all T where None. What stands after
                a sequence's length has no influence.
            state: initial (h, c), each (num_layers * directions, B, H); zeros where None. A GRU or
                RNN has one state: (h, h).
            rows: (B, T) row of the table that each step reads. A word that occurs often in a batch
                is then projected only once.
            need_outputs: False spares the time to lay out the hidden states of every step.

        Returns:
            outputs: (B, T, H), (B, T, 2H) if bidirectional: the last layer's hidden states, zero
                after a sequence's length; None if not needed.
            (h_n, c_n): each (num_layers * directions, B, H), the states after each sequence's last
                valid step (for the backward direction, after its first). Of a GRU or RNN they
                are equal.

        Under `torch.autocast` it computes in the dtype of its weights. Where hooks are set on a
        cell or a gate (pruning sets some), the cells are run, whatever the backend.

        Raises:
            ValueError: if a shape, dtype or length does not fit; the message names the argument.
        """
        require_tensor(x=x)
        if torch.is_autocast_enabled(x.device.type):
            dtype = _weights_dtype(self, x)
            if state is not None:
                _check_pair(state)
                state = tuple(part.to(dtype) for part in state)
            with torch.autocast(x.device.type, enabled=False):
                return self.forward(x.to(dtype), lengths, state, rows, need_outputs)
        batch_size, padded_length = self._check_input(x, rows)
        lengths = self._check_lengths(lengths, batch_size, padded_length).to(x.device)
        h, c = self._check_state(state, batch_size, x)
        steps = PackedSteps.from_lengths(lengths, padded_length)
        h, c = h[:, steps.order], c[:, steps.order]
        packed, packed_rows = (steps.pack(x), None) if rows is None else (x, steps.pack(rows))
        by_steps = self.cell != "lstm" or self._has_hooks()
        run = run_cells if by_steps else _BACKENDS[self.backend]

        last_h, last_c = [], []
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            if layer > 0:
                packed = fast_dropout(packed, self.dropout, self.training)
                packed_rows = None
            need_hidden = need_outputs or layer < self.num_layers - 1
            hidden_by_direction = []
            for direction in range(directions):
                index = layer * directions + direction
                backwards = direction == 1
                hidden, h_n, c_n = run(
                    self.cells[index],
                    packed,
                    steps.read_rows(packed_rows, backwards),
                    (h[index], c[index]),
                    steps.sizes,
                    self._hidden_mask(h[index]),
                    need_hidden,
                )
                if need_hidden:
                    hidden_by_direction.append(hidden[steps.reversal] if backwards else hidden)
                last_h.append(h_n)
                last_c.append(c_n)
            if need_hidden:
                packed = torch.cat(hidden_by_direction, dim=1) if self.bidirectional else hidden

        outputs = steps.pad(packed) if need_outputs else None
        h_n = torch.stack(last_h)[:, steps.inverse_order]
        c_n = torch.stack(last_c)[:, steps.inverse_order]
        return outputs, (h_n, c_n)

    def _has_hooks(self) -> bool:
        """Whether a cell or gate has hooks, which only run where it is called."""
        kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        return any(getattr(module, kind) for module in self.cells.modules() for kind in kinds)

    def _check_input(self, x: Tensor, rows: Tensor | None) -> tuple[int, int]:
        """Batch size and padded length, once the shapes are known to be right."""
        expected = _weights_dtype(self, x)
        if x.dtype != expected:
            raise ValueError(f"x has dtype {x.dtype}; it must be {expected}, as the weights are")
        if rows is None:
            if x.dim() != 3 or x.shape[2] != self.input_size or 0 in x.shape:
                raise ValueError(
                    f"x has shape {tuple(x.shape)}; it must be (B, T, {self.input_size}), "
                    "none of them 0"
                )
            return x.shape[0], x.shape[1]
        require_tensor(rows=rows)
        if x.dim() != 2 or x.shape[1] != self.input_size:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; with rows it must be (U, {self.input_size})"
            )
        if rows.dim() != 2 or 0 in rows.shape or rows.dtype != torch.long:
            raise ValueError(
                f"rows has shape {tuple(rows.shape)} and dtype {rows.dtype}; it must be (B, T), "
                "none of them 0, torch.long"
            )
        if rows.min() < 0 or rows.max() >= len(x):
            raise ValueError(
                f"rows holds {int(rows.min())} to {int(rows.max())}; "
                f"it must stay between 0 and {len(x) - 1}, the last row of x"
            )
        return rows.shape[0], rows.shape[1]

    @staticmethod
    def _check_lengths(lengths: Tensor | None, batch_size: int, padded_length: int) -> Tensor:
        if lengths is None:
            return torch.full((batch_size,), padded_length)
        require_tensor(lengths=lengths)
        if lengths.shape != (batch_size,) or lengths.dtype not in WHOLE_NUMBERS:
            raise ValueError(
                f"lengths has shape {tuple(lengths.shape)} and dtype {lengths.dtype}; "
                f"it must be ({batch_size},) whole numbers"
            )
        if lengths.min() < 1 or lengths.max() > padded_length:
            raise ValueError(
                f"lengths holds {int(lengths.min())} to {int(lengths.max())}; "
                f"each must lie between 1 and T = {padded_length}"
            )
        return lengths

    def _check_state(self, state: State | None, batch_size: int, x: Tensor) -> State:
        shape = (len(self.cells), batch_size, self.hidden_size)
        if state is None:
            zeros = x.new_zeros(shape)
            return zeros, zeros
        _check_pair(state)
        for name, part in zip("hc", state, strict=True):
            if part.shape != shape or part.dtype != x.dtype:
                raise ValueError(
                    f"the initial state's {name} has shape {tuple(part.shape)} and dtype "
                    f"{part.dtype}; it must be {shape} and {x.dtype}"
                )
        if self.cell != "lstm" and not torch.equal(*state):
            raise ValueError(
                f"the initial state's h and c differ; a {self.cell} has one state, give it as both"
            )
        return state

    def _hidden_mask(self, h: Tensor) -> Tensor | None:
        """Factors (B, H) that recurrent dropout applies to the previous hidden state."""
        if not (self.training and self.recurrent_dropout):
            return None
        return fast_dropout(torch.ones_like(h), self.recurrent_dropout, training=True)

    @classmethod
    def from_torch(cls, lstm: nn.LSTM, backend: str = "fused") -> LSTMLayer:
        """A layer with a copy of the weights of `lstm`, whose two biases become their sum.

        It is in training or evaluation mode as `lstm` is, and batch-first whatever `lstm` is. All
        its weights can be trained.

        Raises:
            ValueError: if `lstm` is no nn.LSTM, or projects its hidden states (`proj_size`).
        """
        if not isinstance(lstm, nn.LSTM):
            raise ValueError(f"lstm is a {type(lstm).__name__}; it must be a torch.nn.LSTM")
        if lstm.proj_size:
            raise ValueError(
                f"proj_size is {lstm.proj_size}; a projected nn.LSTM has no equal here"
            )
        layer = cls(
            lstm.input_size,
            lstm.hidden_size,
            lstm.num_layers,
            lstm.bidirectional,
            lstm.dropout,
            backend=backend,
        ).to(lstm.weight_ih_l0)
        with torch.no_grad():
            for cell, suffix in zip(layer.cells, layer._torch_suffixes(), strict=True):
                weight_x = getattr(lstm, f"weight_ih_{suffix}")
                weight_h = getattr(lstm, f"weight_hh_{suffix}")
                bias = weight_x.new_zeros(len(weight_x))
                if lstm.bias:
                    bias = getattr(lstm, f"bias_ih_{suffix}") + getattr(lstm, f"bias_hh_{suffix}")
                for gate, w_x, w_h, b in zip(
                    _torch_gates(cell),
                    weight_x.chunk(4),
                    weight_h.chunk(4),
                    bias.chunk(4),
                    strict=True,
                ):
                    gate.weight.copy_(torch.cat([w_h, w_x], dim=1))
                    gate.bias.copy_(b)
        return layer.train(lstm.training)

    def to_torch(self) -> nn.LSTM:
        """A batch-first `torch.nn.LSTM` with a copy of this layer's weights, in the same mode.

        Raises:
            ValueError: if the layer has other cells or recurrent dropout, which `nn.LSTM` does not
                know.
        """
        if self.cell != "lstm":
            raise ValueError(f"cell is {self.cell!r}; only 'lstm' can become an nn.LSTM")
        if self.recurrent_dropout:
            raise ValueError(
                f"recurrent_dropout is {self.recurrent_dropout}; nn.LSTM has none, set it to 0"
            )
        lstm = nn.LSTM(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            batch_first=True,
            dropout=self.dropout if self.num_layers > 1 else 0.0,  # it acts between layers
            bidirectional=self.bidirectional,
        ).to(self.cells[0].forget_gate.weight)
        with torch.no_grad():
            for cell, suffix in zip(self.cells, self._torch_suffixes(), strict=True):
                weight = torch.cat([gate.weight for gate in _torch_gates(cell)])
                bias = torch.cat([gate.bias for gate in _torch_gates(cell)])
                getattr(lstm, f"weight_hh_{suffix}").copy_(weight[:, : self.hidden_size])
                getattr(lstm, f"weight_ih_{suffix}").copy_(weight[:, self.hidden_size :])
                getattr(lstm, f"bias_ih_{suffix}").copy_(bias)
                getattr(lstm, f"bias_hh_{suffix}").zero_()
        return lstm.train(self.training)

    def _torch_suffixes(self) -> list[str]:
        """How nn.LSTM names the parameters of each cell: l0, l0_reverse, l1, ..."""
        endings = ["", "_reverse"] if self.bidirectional else [""]
        return [f"l{layer}{ending}" for layer in range(self.num_layers) for ending in endings]


def _check_pair(state: State) -> None:
    if not isinstance(state, tuple | list) or len(state) != 2:
        raise ValueError(f"state is a {type(state).__name__}; it must be the pair (h, c)")
    require_tensor(h=state[0], c=state[1])


def _weights_dtype(module: nn.Module, x: Tensor) -> torch.dtype:
    return next((weight.dtype for weight in module.parameters()), x.dtype)  # none: quantized


def _check_step(cell: nn.Module, x: Tensor, state: State) -> None:
    """That x (B, D) and state (h, c), each (B, H), fit a cell.

    Raises:
        ValueError: a type, shape or dtype does not; the message names the argument.
    """
    require_tensor(x=x)
    _check_pair(state)
    h, c = state
    dtype = _weights_dtype(cell, x)
    expected = {"x": cell.input_size, "h": cell.hidden_size, "c": cell.hidden_size}
    for (name, size), tensor in zip(expected.items(), (x, h, c), strict=True):
        if tensor.dim() != 2 or tensor.shape[1] != size or len(tensor) != len(x):
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; it must be (B, {size}), B the same for "
                "x, h and c"
            )
        if tensor.dtype != dtype:
            raise ValueError(
                f"{name} has dtype {tensor.dtype}; it must be {dtype}, as the weights are"
            )


def _initialise(linear: nn.Linear, n_recurrent: int) -> None:
    """Orthogonal weights for the first `n_recurrent` inputs, Glorot's for the others, bias 0."""
    nn.init.orthogonal_(linear.weight[:, :n_recurrent])
    nn.init.xavier_uniform_(linear.weight[:, n_recurrent:])
    nn.init.zeros_(linear.bias)


def _torch_gates(cell: LSTMCell) -> list[nn.Linear]:
    """The gates in the order in which nn.LSTM stacks them."""
    return [cell.input_gate, cell.forget_gate, cell.candidate, cell.output_gate]


def run_cells(
    cell: LSTMCell | GRUCell | RNNCell,
    table: Tensor,
    rows: Tensor | None,
    state: State,
    sizes: list[int],
    hidden_mask: Tensor | None,
    need_hidden: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The cell, one step at a time, over sequences sorted by decreasing length.

    Args:
        cell: what takes x and (h, c) to the next (h, c).
        table: (U, D) inputs.
        rows: (N,) the row of it that each sequence reads at each step; None: 0 to N - 1.
        state: (h, c), each (B, H).
        sizes: sequences still running at each of the T steps, N in all.
        hidden_mask: (B, H) factors on the previous h (recurrent dropout), or None.
        need_hidden: whether to return the hidden states of all steps.

    Returns:
        those hidden states (N, H) or None, and h and c (B, H) after each sequence's last step.
    """
    h, c = state
    hidden, ended = [], []
    # Not table[rows]: on several threads its gradient would add up in another order each time.
    inputs = table if rows is None else nn.functional.embedding(rows, table)
    for x in inputs.split(sizes):
        n = len(x)
        if n < len(h):  # the others' last step was the one before
            ended.append((h[n:], c[n:]))
            h, c = h[:n], c[:n]
        h, c = cell(x, (h if hidden_mask is None else h * hidden_mask[:n], c))
        hidden.append(h)
    h_n, c_n = (torch.cat(parts) for parts in zip((h, c), *reversed(ended), strict=True))
    return torch.cat(hidden) if need_hidden else None, h_n, c_n


_BACKENDS = {"reference": run_cells, "fused": fused_lstm}
