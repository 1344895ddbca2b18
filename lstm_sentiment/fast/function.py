"""The LSTM recurrence as one autograd function, with a backward pass derived by hand.

What enters is a table of distinct input vectors and, for every step of every sequence, the row it
reads; what leaves is the hidden state of every step and the final states. The numbers equal those
of `LSTMCell` run step by step; the time does not, because

* each distinct word of a batch is projected once, not once per occurrence;
* all sequences at one step are contiguous and sequences that have ended take no part, so nothing
  is computed on padding;
* the four gates are one matrix product, and all that follows it is one pass over memory;
* the weight gradients are one product over all steps, not one per step.

`steps` takes the steps and has the notation (r, k, s, da) and the derivation.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lstm_sentiment.fast.compiled import is_compiled
from lstm_sentiment.fast.products import linear, weight_gradient
from lstm_sentiment.fast.steps import GATE_FACTORS, run_backward, run_forward


def fused_lstm(*arguments: Any) -> tuple[Tensor | None, Tensor, Tensor]:
    """What `run_cells` of `lstm` computes with an `LSTMCell`, from the same arguments.

    torch.compile leaves it as it is: its steps are compiled already. Only there `disable` is
    called, which takes seconds and a folder for temporary files.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.disable(_fused_lstm)(*arguments)
    return _fused_lstm(*arguments)


def _fused_lstm(
    cell: nn.Module,
    table: Tensor,
    rows: Tensor | None,
    state: tuple[Tensor, Tensor],
    sizes: list[int],
    hidden_mask: Tensor | None,
    need_hidden: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    gates: list[Any] = [cell.forget_gate, cell.input_gate, cell.output_gate, cell.candidate]
    weight = torch.cat([gate.weight for gate in gates])  # (4H, H + D), over [h, x]
    bias = torch.cat([gate.bias for gate in gates])  # (4H,)
    keep = torch.is_grad_enabled()  # within the function it never is
    return _FusedLSTM.apply(
        table, rows, weight, bias, *state, sizes, hidden_mask, need_hidden, keep
    )


class _FusedLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, rows, weight, bias, h0, c0, sizes, hidden_mask, need_hidden, keep):
        batch_size, hidden_size = h0.shape
        doubled_s = torch.ones_like(bias)
        doubled_s[3 * hidden_size :] = 2
        scaled = weight * doubled_s[:, None]
        weight_r = 2 * scaled[:, :hidden_size]  # it is r = h / 2 that meets it
        weight_x = scaled[:, hidden_size:].contiguous()

        projected = linear(table, weight_x, bias * doubled_s)  # (U, 4H)
        rows_read = torch.arange(len(table), device=table.device) if rows is None else rows
        r, k = h0 / 2, 2 * c0
        n_rows = sum(sizes) if keep else batch_size
        gates, r_read, k_read = _borrow(table, n_rows, [4 * hidden_size, hidden_size, hidden_size])
        hidden = table.new_empty(sum(sizes), hidden_size) if need_hidden else None
        run_forward(
            sizes, projected, rows_read, weight_r, hidden_mask, r, k, gates, r_read, k_read, hidden
        )
        of_steps = (gates, r_read, k_read) if keep else ()
        ctx.save_for_backward(table, rows, weight_r, weight_x, doubled_s, hidden_mask, *of_steps)
        ctx.sizes, ctx.device_type = sizes, table.device.type
        ctx.set_materialize_grads(False)
        return hidden, 2 * r, k / 2

    @staticmethod
    def backward(ctx, grad_hidden, grad_h, grad_c):
        refuse_second_derivatives('set backend="reference"')
        with torch.autocast(ctx.device_type, enabled=False):
            return _gradients(ctx, grad_hidden, grad_h, grad_c)


def _gradients(ctx, grad_hidden, grad_h, grad_c) -> tuple[Tensor | None, ...]:
    """The steps backwards, then what all of them share.

    Over all steps dW_h = sum of da h^T, dW_x = sum of da x^T, db = sum of da.
    """
    table, rows, weight_r, weight_x, doubled_s, hidden_mask, *of_steps = ctx.saved_tensors
    gates, r_read, k_read = of_steps
    hidden_size = weight_r.shape[1]
    factors = table.new_tensor(GATE_FACTORS).repeat_interleave(hidden_size)[:, None]
    # A sequence that ends early waits here with its final gradient until its last step comes.
    dh, dk = (table.new_zeros(ctx.sizes[0], hidden_size) for _ in range(2))
    if grad_h is not None:
        dh.copy_(grad_h)
    if grad_c is not None:
        dk.copy_(grad_c / 2)
    if grad_hidden is not None:
        grad_hidden = grad_hidden.contiguous()
    weight_back = (weight_r * (factors / 2)).t().contiguous()
    (da,) = _borrow(table, len(gates), [4 * hidden_size])
    run_backward(ctx.sizes, gates, k_read, weight_back, hidden_mask, grad_hidden, dh, dk, da)
    d_projected = da
    if rows is not None:  # the occurrences of a word add up, on CUDA in the same order each time
        d_projected = torch.ops.aten.embedding_dense_backward(da, rows, len(table), -1, False)

    d_table = None
    if ctx.needs_input_grad[0]:
        d_table = linear(d_projected, (weight_x * factors).t().contiguous())
    d_weight_r, d_weight_x = weight_gradient(da, r_read), weight_gradient(d_projected, table)
    factors *= doubled_s[:, None]
    d_weight = torch.cat([2 * d_weight_r, d_weight_x], dim=1) * factors
    d_bias = d_projected.sum(0) * factors[:, 0]
    return d_table, None, d_weight, d_bias, dh, 2 * dk, None, None, None, None


def refuse_second_derivatives(instead: str) -> None:
    """In a backward pass written by hand: its own gradient would be left out without a word."""
    if torch.is_grad_enabled():
        raise NotImplementedError(
            "create_graph=True asks for second derivatives, which a backward pass written by hand "
            f"does not have; {instead}"
        )


# Blocks of memory that no call uses at the moment, enough for a step of training through several
# layers and directions. Of more, which graphs kept at once leave, the oldest go back to the system.
_spare_blocks: deque[np.ndarray] = deque(maxlen=8)


def _borrow(like: Tensor, rows: int, columns: list[int]) -> list[Tensor]:
    """Uninitialised (rows, .) tensors for what the backward pass needs.

    On a CPU their memory comes from the call before, and goes to the next when nothing refers to
    them any more, because the system takes long to clear fresh pages (half of the time of a
    training step with `nn.LSTM`, which asks for them every time). At most 8 times as much as the
    largest batch needs in a layer stays with the process.
    """
    if not is_compiled(like):
        return [like.new_empty(rows, n) for n in columns]
    size = rows * sum(columns)
    try:
        block = _spare_blocks.pop()
    except IndexError:
        block = np.empty(0, np.float32)
    if len(block) < size:
        block = torch.empty(size, dtype=torch.float32, device="cpu").numpy()
    lent = block[:size]  # lives as long as any tensor in this memory, whoever holds it
    weakref.finalize(lent, _spare_blocks.append, block).atexit = False
    with torch.inference_mode(False):  # it may serve for training
        parts = torch.from_numpy(lent).split([rows * n for n in columns])
        return [part.view(rows, -1) for part in parts]
