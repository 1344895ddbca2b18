"""The LSTM recurrence as one autograd function, with a backward pass derived by hand.

What enters is a table of distinct input vectors and, for every step of every sequence, the row it
reads; what leaves is the hidden state of every step and the final states. The numbers equal those
of `LSTMCell` run step by step; the time does not, because

* each distinct word of a batch is projected once, not once per occurrence;
* all sequences at one step are contiguous and sequences that have ended take no part, so nothing
  is computed on padding;
* the four gates are one matrix product, and all that follows it is one pass over memory;
* the weight gradients are one product over all steps, not one per step.

`recurrence` takes the steps and has the notation (r, k, s, da) and the derivation.
"""

from __future__ import annotations

import weakref
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from lstm_sentiment.fast.steps import GATE_FACTORS, is_compiled, run_backward, run_forward

# Rows of a large product that are computed together. With 4 gates of 128 units in float32 they
# take 2 MB, a usual second-level cache.
BLOCK_ROWS = 1024


# oneDNN prepares a kernel for every new number of rows, which takes longer than running it; so
# large products are filled up to a multiple of this.
ROW_MULTIPLE = 128


class PackedSteps(NamedTuple):
    """Ragged sequences laid out step after step, as in `torch.nn.utils.rnn.PackedSequence`.

    order (B,) sorts the batch by decreasing length and inverse_order (B,) undoes it; sizes[t]
    sequences are still running at step t; positions (N,) says where in a flattened (T, B) array
    each of the N valid steps lies, reversal (N,) where the same sequence read backwards has it.
    """

    order: Tensor
    inverse_order: Tensor
    sizes: list[int]
    positions: Tensor
    reversal: Tensor
    padded_length: int

    @classmethod
    def from_lengths(cls, lengths: Tensor, padded_length: int) -> PackedSteps:
        """Lay out sequences of `lengths` (B,), each padded to `padded_length` steps."""
        lengths, order = torch.sort(lengths, descending=True, stable=True)
        steps = torch.arange(int(lengths[0]), device=lengths.device)
        running = steps[:, None] < lengths  # (T, B)
        step, sequence = running.nonzero(as_tuple=True)  # (N,) each, step by step
        sizes = running.sum(dim=1)
        starts = sizes.cumsum(0) - sizes  # (T,) where each step begins
        return cls(
            order=order,
            inverse_order=torch.argsort(order),
            sizes=sizes.tolist(),
            positions=step * len(lengths) + sequence,
            reversal=starts[lengths[sequence] - 1 - step] + sequence,
            padded_length=padded_length,
        )

    def pack(self, padded: Tensor) -> Tensor:
        """Padded (B, T, ...) to packed (N, ...)."""
        return padded[self.order].transpose(0, 1).flatten(0, 1)[self.positions]

    def read_rows(self, rows: Tensor | None, backwards: bool) -> Tensor | None:
        """Rows (N,) to read in this direction; None stands for 0..N-1, as in `run_cells`."""
        if not backwards:
            return rows
        return self.reversal if rows is None else rows[self.reversal]

    def pad(self, packed: Tensor) -> Tensor:
        """Packed (N, C) to padded (B, T, C), zero after each sequence's end."""
        batch_size, channels = len(self.order), packed.shape[1]
        padded = packed.new_zeros(self.padded_length * batch_size, channels)
        padded = padded.index_copy(0, self.positions, packed)
        return padded.view(-1, batch_size, channels).transpose(0, 1)[self.inverse_order]


@torch.compiler.disable  # its steps are compiled already; the rest of a model still can be
def fused_lstm(
    cell: nn.Module,
    table: Tensor,
    rows: Tensor | None,
    state: tuple[Tensor, Tensor],
    sizes: list[int],
    hidden_mask: Tensor | None,
    need_hidden: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """What `run_cells` of `lstm` computes with an `LSTMCell`, from the same arguments."""
    gates = [cell.forget_gate, cell.input_gate, cell.output_gate, cell.candidate]
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
    if rows is not None:  # the occurrences of a word add up
        d_projected = da.new_zeros(len(table), 4 * hidden_size).index_add_(0, rows, da)

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


# Blocks of memory that no call uses at the moment.
_spare_blocks: list[np.ndarray] = []


def _borrow(like: Tensor, rows: int, columns: list[int]) -> list[Tensor]:
    """Uninitialised (rows, .) tensors for what the backward pass needs.

    On a CPU their memory comes from the call before, and goes to the next when nothing refers to
    them any more, because the system takes long to clear fresh pages (half of the time of a
    training step with `nn.LSTM`, which asks for them every time). As much as the largest batch
    needed stays with the process.
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


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (n, K) -> x W^T + b for a weight (M, K).

    Where `_has_avx512`, it goes through oneDNN; at the sizes used here that takes half the time of
    the product that PyTorch chooses by itself (MKL), which does not use AVX-512 on AMD processors.
    """
    if not _has_avx512(x):
        return nn.functional.linear(x, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, BLOCK_ROWS)
    product = torch.ops.mkldnn._linear_pointwise
    results = [product(block, packed, bias, "none", [], "") for block in _blocks(x)]
    return torch.cat(results)[: len(x)]


def weight_gradient(d_output: Tensor, x: Tensor) -> Tensor:
    """(n, M), (n, K) -> (M, K): d_output^T x.

    Where `_has_avx512`, as the weight gradient of a 1x1 convolution, which leads to oneDNN (see
    `linear`) and takes half the time; with AVX2 only, that would take three times as long.
    """
    if not _has_avx512(x):
        return d_output.t() @ x
    shape = (d_output.shape[1], x.shape[1], 1, 1)
    pairs = zip(_blocks(d_output), _blocks(x), strict=True)
    return sum(conv2d_weight(_as_images(b), shape, _as_images(a)) for a, b in pairs).view(shape[:2])


def fast_dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """What `torch.nn.functional.dropout` does, in an eighth of the time on an AMD processor.

    There PyTorch draws a double for each number of `x`, one after another, which took a tenth of a
    training step. Here 16 random bits decide for each, which meets `p` to 0.00001: a random integer
    of 64 bits, seen as four of 16, serves for four numbers.
    """
    kept = round((1 - p) * 2**16)  # of the 2^16 numbers that 16 bits can be
    if not (training and x.device.type == "cpu" and 0 < kept < 2**16):
        return nn.functional.dropout(x, p, training)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    is_kept = draws.view(torch.int16)[: x.numel()] < kept - 2**15
    return x * is_kept.view(x.shape).to(x.dtype).mul_(2**16 / kept)


def _as_images(rows: Tensor) -> Tensor:
    """(n, C) -> (n/64, C, 64, 1), as convolutions take it, laid out with the channels last."""
    return rows.view(-1, ROW_MULTIPLE // 2, 1, rows.shape[1]).permute(0, 3, 1, 2)


def _blocks(x: Tensor) -> list[Tensor]:
    """x (n, C) in blocks of BLOCK_ROWS, the last filled up with zeros to a ROW_MULTIPLE."""
    *whole, last = x.split(BLOCK_ROWS)
    missing = -len(last) % ROW_MULTIPLE
    return [*whole, nn.functional.pad(last, (0, 0, 0, missing)) if missing else last]


def _has_avx512(tensor: Tensor) -> bool:
    """Whether products in float32 on this processor can use AVX-512, through oneDNN."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
