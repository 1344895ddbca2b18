"""The LSTM by hand: one cell as the textbook writes it, the loop over time, the layer around it.

`LSTMCell` is the equations. `run_cells` takes a cell through ragged sequences, one step at a time.
`LSTMLayer` accepts right-padded sequences with their lengths and returns every hidden state and the
last valid ones; `fast` computes the same numbers in a fraction of the time, and `torch.nn.LSTM`
exchanges weights with it. `GRUCell` and `RNNCell` run in the same loop, for comparison.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lstm_sentiment.fast.dropout import fast_dropout
from lstm_sentiment.fast.packing import PackedSteps

State = tuple[Tensor, Tensor]


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
        self.forget_gate = nn.Linear(hidden_size + input_size, hidden_size)
        self.input_gate = nn.Linear(hidden_size + input_size, hidden_size)
        self.candidate = nn.Linear(hidden_size + input_size, hidden_size)
        self.output_gate = nn.Linear(hidden_size + input_size, hidden_size)
        for gate in (self.forget_gate, self.input_gate, self.candidate, self.output_gate):
            _initialise(gate, hidden_size)
        nn.init.ones_(self.forget_gate.bias)

    def forward(self, x: Tensor, state: State) -> State:
        """x (B, D) and state (h, c), each (B, H), to the next (h, c)."""
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
    as in an LSTM, spares what is remembered. Weights start as in `LSTMCell`, biases at 0. The reset
    gate acts on the product of weights and h, as in `nn.GRU`; in the paper it acts on h.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.reset_gate = nn.Linear(hidden_size + input_size, hidden_size)
        self.update_gate = nn.Linear(hidden_size + input_size, hidden_size)
        self.candidate_hidden = nn.Linear(hidden_size, hidden_size)
        self.candidate_input = nn.Linear(input_size, hidden_size)
        for linear in (self.reset_gate, self.update_gate, self.candidate_hidden):
            _initialise(linear, hidden_size)
        _initialise(self.candidate_input, 0)

    def forward(self, x: Tensor, state: State) -> State:
        """x (B, D) and state (h, c), each (B, H), to the next (h, h)."""
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

    Like a GRU it has one state, which takes both places of (h, c); it reads h only. Weights start
    as in `LSTMCell`, the bias at 0.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.linear = nn.Linear(hidden_size + input_size, hidden_size)
        _initialise(self.linear, hidden_size)

    def forward(self, x: Tensor, state: State) -> State:
        """x (B, D) and state (h, c), each (B, H), to the next (h, h)."""
        h, _ = state
        h = torch.tanh(self.linear(torch.cat([h, x], dim=1)))  # h' = tanh(W [h, x] + b)
        return h, h


def _initialise(linear: nn.Linear, n_recurrent: int) -> None:
    """Orthogonal weights for the first `n_recurrent` inputs, Glorot's for the others, bias 0."""
    if linear.weight.is_meta:  # there is nothing to set before they are loaded
        return
    # In double precision, six decimals kept: the same for any processor and number of threads.
    q, r = torch.linalg.qr(torch.randn(len(linear.weight), n_recurrent).double())
    linear.weight.data[:, :n_recurrent] = (q * r.diagonal().sign()).round(decimals=6)
    nn.init.xavier_uniform_(linear.weight[:, n_recurrent:])
    nn.init.zeros_(linear.bias)


def run_cells(
    cell: nn.Module,
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


class RecurrentLayer(nn.Module):
    """One or several cells run over the time dimension of right-padded sequences.

    Args:
        cell_class: makes a cell from input_size and hidden_size.
        input_size: D.
        hidden_size: H.
        num_layers: cells stacked on each other; each reads the hidden states of the one below.
        bidirectional: a second cell per layer reads each sequence from its last valid step back.
        dropout: share of hidden states dropped between layers, in training.
        recurrent_dropout: share of the previous hidden state dropped, in training; one mask per
            sequence, the same at every step (Gal & Ghahramani 2016).
    """

    def __init__(
        self,
        cell_class: type[nn.Module],
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ):
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        directions = 2 if bidirectional else 1
        # In the order of torch.nn.LSTM's states: layer 0 forward, layer 0 backward, layer 1 ...
        self.cells = nn.ModuleList(
            cell_class(input_size if layer == 0 else directions * hidden_size, hidden_size)
            for layer in range(num_layers)
            for _ in range(directions)
        )

    run = staticmethod(run_cells)  # `LSTMLayer` has faster ways

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
                valid step (for the backward direction, after its first).

        Raises:
            ValueError: a length, a row or the state does not fit; the message names it.
        """
        batch_size, padded_length = (x if rows is None else rows).shape[:2]
        steps = PackedSteps.from_lengths(lengths, batch_size, padded_length, x.device)
        h, c = self._checked_state(state, batch_size, x)
        h, c = h[:, steps.order], c[:, steps.order]
        packed, packed_rows = (steps.pack(x), None) if rows is None else (x, steps.pack(rows))
        _check_table(packed, packed_rows, self.input_size)

        last_h, last_c = [], []
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            if layer > 0:
                packed, packed_rows = fast_dropout(packed, self.dropout, self.training), None
            need_hidden = need_outputs or layer < self.num_layers - 1
            hidden_by_direction: list[Tensor] = []
            for index in range(layer * directions, (layer + 1) * directions):
                is_backward = index > layer * directions
                hidden, h_n, c_n = self.run(
                    self.cells[index],
                    packed,
                    steps.backwards(packed_rows) if is_backward else packed_rows,
                    (h[index], c[index]),
                    steps.sizes,
                    self._hidden_mask(h[index]),
                    need_hidden,
                )
                last_h.append(h_n)
                last_c.append(c_n)
                if hidden is not None:
                    hidden_by_direction.append(hidden[steps.reversal] if is_backward else hidden)
            if need_hidden:
                one = len(hidden_by_direction) == 1
                packed = hidden_by_direction[0] if one else torch.cat(hidden_by_direction, dim=1)

        outputs = steps.pad(packed) if need_outputs else None
        h_n = torch.stack(last_h)[:, steps.inverse_order]
        c_n = torch.stack(last_c)[:, steps.inverse_order]
        return outputs, (h_n, c_n)

    def _hidden_mask(self, h: Tensor) -> Tensor | None:
        """Factors (B, H) that recurrent dropout applies to the previous hidden state."""
        if not (self.training and self.recurrent_dropout):
            return None
        return fast_dropout(torch.ones_like(h), self.recurrent_dropout, training=True)

    def _checked_state(self, state: State | None, batch_size: int, x: Tensor) -> State:
        shape = (len(self.cells), batch_size, self.hidden_size)
        if state is None:
            zeros = x.new_zeros(shape)
            return zeros, zeros
        for name, part in zip("hc", state, strict=True):
            if part.shape != shape or part.dtype != x.dtype:
                raise ValueError(
                    f"the initial {name} has shape {tuple(part.shape)} and dtype {part.dtype}; "
                    f"it must be {shape} and {x.dtype}"
                )
        return state

    def extra_repr(self) -> str:
        names = ("input_size", "hidden_size", "num_layers", "bidirectional", "dropout")
        return ", ".join(f"{name}={getattr(self, name)}" for name in (*names, "recurrent_dropout"))


class LSTMLayer(RecurrentLayer):
    """`RecurrentLayer` of `LSTMCell`s, run fast, and interchangeable with `torch.nn.LSTM`.

    Args, besides those of `RecurrentLayer`:
        backend: "reference" (the cells, one step at a time; replaced or hooked parts run so in
            any), "fused" (one autograd function for all steps, see `fast`), "builtin" (PyTorch's
            own kernels, on a GPU those of cuDNN; with recurrent dropout as "fused") or "auto":
            builtin on CUDA, else fused. May be set later. After it ran on several threads, a forked
            child that runs it hangs, as with `nn.LSTM`.

    Example:
        >>> lstm = LSTMLayer(input_size=50, hidden_size=32)
        >>> outputs, (h, c) = lstm(torch.randn(2, 7, 50), lengths=torch.tensor([7, 3]))
        >>> outputs.shape, h.shape
        (torch.Size([2, 7, 32]), torch.Size([1, 2, 32]))
    """

    BACKENDS = ("auto", "fused", "builtin", "reference")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        backend: str = "auto",
    ):
        super().__init__(
            LSTMCell, input_size, hidden_size, num_layers, bidirectional, dropout, recurrent_dropout
        )
        self.backend = backend

    def run(self, cell, table, rows, state, sizes, hidden_mask, need_hidden):
        """As `run_cells`, by the backend; few steps without gradients, such as one text, by the
        cells as well: they never wait for anything to be loaded or compiled."""
        if self.backend not in self.BACKENDS:
            raise ValueError(f"backend is {self.backend!r}; it must be one of {self.BACKENDS}")
        builtin = self.backend == "builtin" or (self.backend == "auto" and table.is_cuda)
        few = sum(sizes) < FEW_STEPS and not torch.is_grad_enabled() and not builtin
        if self.backend == "reference" or few or not _is_as_written(cell):
            return run_cells(cell, table, rows, state, sizes, hidden_mask, need_hidden)
        if builtin and hidden_mask is None:
            from lstm_sentiment.fast.builtin import builtin_lstm

            return builtin_lstm(cell, table, rows, state, sizes)
        from lstm_sentiment.fast.function import fused_lstm

        return fused_lstm(cell, table, rows, state, sizes, hidden_mask, need_hidden)

    def forward(self, x: Tensor, lengths=None, state=None, rows=None, need_outputs=True):
        """See `RecurrentLayer.forward`. Under autocast it computes in the dtype of its weights."""
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x, lengths, state, rows, need_outputs)
        dtype = _torch_gates(self.cells[0])[0].weight.dtype
        with torch.autocast(x.device.type, enabled=False):
            state = None if state is None else tuple(part.to(dtype) for part in state)
            return super().forward(x.to(dtype), lengths, state, rows, need_outputs)

    @classmethod
    def from_torch(cls, lstm: nn.LSTM, backend: str = "auto") -> LSTMLayer:
        """A layer with a copy of the weights of `lstm`, whose two biases become their sum.

        It is in training or evaluation mode as `lstm` is, and batch-first whatever `lstm` is.

        Raises:
            ValueError: `lstm` is another network, or projects its hidden states (`proj_size`).
        """
        if lstm.mode != "LSTM" or lstm.proj_size:
            raise ValueError(f"{lstm} is no nn.LSTM, or projects its states; it has no equal here")
        sizes = (lstm.input_size, lstm.hidden_size, lstm.num_layers, lstm.bidirectional)
        layer = cls(*sizes, lstm.dropout, backend=backend).to(next(lstm.parameters()))
        with torch.no_grad():
            for cell, (w_x, w_h, *biases) in zip(layer.cells, lstm.all_weights, strict=True):
                weights = torch.cat([w_h, w_x], dim=1)
                bias = sum(biases, w_x.new_zeros(len(w_x)))
                parts = zip(_torch_gates(cell), weights.chunk(4), bias.chunk(4), strict=True)
                for gate, gate_weight, gate_bias in parts:
                    gate.weight.copy_(gate_weight)
                    gate.bias.copy_(gate_bias)
        return layer.train(lstm.training)

    def to_torch(self) -> nn.LSTM:
        """A batch-first `torch.nn.LSTM` with a copy of this layer's weights, in the same mode.

        Raises:
            ValueError: the layer has recurrent dropout, or a cell with replaced or hooked parts.
        """
        if self.recurrent_dropout or not all(map(_is_as_written, self.cells)):
            raise ValueError(
                f"recurrent_dropout is {self.recurrent_dropout} (it must be 0), or part of a cell "
                "is replaced or hooked; nn.LSTM has neither"
            )
        lstm = nn.LSTM(
            self.input_size,
            self.hidden_size,
            self.num_layers,
            batch_first=True,
            dropout=self.dropout if self.num_layers > 1 else 0.0,  # it acts between layers
            bidirectional=self.bidirectional,
        ).to(_torch_gates(self.cells[0])[0].weight)
        with torch.no_grad():
            for cell, (w_x, w_h, b_x, b_h) in zip(self.cells, lstm.all_weights, strict=True):
                weight = torch.cat([gate.weight for gate in _torch_gates(cell)])
                w_h.copy_(weight[:, : self.hidden_size])
                w_x.copy_(weight[:, self.hidden_size :])
                b_x.copy_(torch.cat([gate.bias for gate in _torch_gates(cell)]))
                b_h.zero_()
        return lstm.train(self.training)


# A text of the usual length has fewer; above, loading the compiled steps pays within a call.
FEW_STEPS = 512


def _torch_gates(cell: nn.Module) -> list[nn.Linear]:
    """The gates in the order in which nn.LSTM stacks them."""
    assert isinstance(cell, LSTMCell)
    return [cell.input_gate, cell.forget_gate, cell.candidate, cell.output_gate]


def _is_as_written(cell: nn.Module) -> bool:
    """Whether calling the cell does what `LSTMCell` says: nothing is replaced, nothing hooked."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    called = [getattr(part.forward, "__func__", None) for part in (cell, *cell.children())]
    return (
        called == [LSTMCell.forward, *4 * [nn.Linear.forward]]
        and all(gate.bias is not None for gate in cell.children())
        and not any(getattr(module, kind) for module in cell.modules() for kind in kinds)
    )


def _check_table(table: Tensor, rows: Tensor | None, input_size: int) -> None:
    """That inputs are vectors (D,) and rows (N,) point at them: compiled loops do not look."""
    if table.dim() != 2 or table.shape[1] != input_size:
        raise ValueError(f"x must be (B, T, D), or (U, D) with rows; D is {input_size}")
    if rows is not None and (rows.min() < 0 or rows.max() >= len(table)):
        raise ValueError(
            f"rows holds {int(rows.min())} to {int(rows.max())}; it must stay between 0 and "
            f"{len(table) - 1}, the last row of x"
        )
