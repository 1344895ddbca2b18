"""The LSTM recurrence as one autograd function, with a backward pass derived by hand.

What enters is a table of distinct input vectors and, for every step of every sequence, the row it
reads; what leaves is the hidden state of every step and the final states. The numbers equal those
of `LSTMCell` run step by step; the time does not, because

* each distinct word of a batch is projected once, not once per occurrence;
* all sequences at one step are contiguous and sequences that have ended take no part, so nothing
  is computed on padding;
* the four gates are one matrix and one sigmoid, because tanh(a) = 2 sigmoid(2a) - 1 and PyTorch's
  tanh takes five times as long as its sigmoid;
* steps are taken in chunks whose intermediate results stay in the processor's cache, and the
  weight gradients are one product per chunk, not one per step.

Notation, per step: gates f, i, o; s = sigmoid(2 a_g), so that the candidate g = 2s - 1; k = 2c and
q = sigmoid(k), so that tanh(c) = 2q - 1; r = h / 2. Carrying k and r instead of c and h leaves no
operation that only multiplies by a constant:

    f, i, o, s = sigmoid(a)     a = W_x x + b + W_h h, the rows of s doubled
    k' = f k + 4 i s - 2 i      from c' = f c + i g
    r' = o q - o / 2            from h' = o tanh(c')
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ROWS = 1024  # of 4 gates of 128 units in float32: 2 MB, a usual second-level cache


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
        """Rows (N,) to read in this direction; None stands for 0..N-1, as in `fused_lstm`."""
        if not backwards:
            return rows
        return self.reversal if rows is None else rows[self.reversal]

    def pad(self, packed: Tensor) -> Tensor:
        """Packed (N, C) to padded (B, T, C), zero after each sequence's end."""
        batch_size, channels = len(self.order), packed.shape[1]
        padded = packed.new_zeros(self.padded_length * batch_size, channels)
        padded = padded.index_copy(0, self.positions, packed)
        return padded.view(-1, batch_size, channels).transpose(0, 1)[self.inverse_order]


def fused_lstm(
    table: Tensor,
    rows: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    state: tuple[Tensor, Tensor],
    sizes: list[int],
    hidden_mask: Tensor | None = None,
    need_hidden: bool = True,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Run one LSTM direction over packed steps.

    Args:
        table: (U, D) distinct input vectors.
        rows: (N,) the table row each packed step reads; None where U = N and step n reads row n.
        weight: (4H, H + D) forget, input, output gate and candidate over [h, x].
        bias: (4H,).
        state: initial (h, c), each (B, H), sequences by decreasing length.
        sizes: sequences running at each step, N in all.
        hidden_mask: (B, H) factors for the previous hidden state (recurrent dropout), or None.
        need_hidden: False spares the hidden states of every step.

    Returns:
        hidden states (N, H) or None, last h (B, H) and last c (B, H) of every sequence.
    """
    return _FusedLSTM.apply(table, rows, weight, bias, *state, sizes, hidden_mask, need_hidden)


class _FusedLSTM(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, rows, weight, bias, h0, c0, sizes, hidden_mask, need_hidden):
        hidden_size = h0.shape[1]
        doubled_s = torch.ones_like(bias)
        doubled_s[3 * hidden_size :] = 2
        scaled = weight * doubled_s[:, None]
        weight_r = 2 * scaled[:, :hidden_size]  # it is r = h / 2 that meets it
        weight_x = scaled[:, hidden_size:].contiguous()

        projected = _linear_map(weight_x, len(table), bias * doubled_s)(table)  # (U, 4H)
        recur = _linear_map(weight_r, sizes[0])
        r, k = h0 / 2, 2 * c0
        ended, hidden, saved = [], [], []
        for chunk in _chunks(sizes):
            if rows is None:
                gates = projected[chunk.rows]  # (n, 4H)
            else:
                gates = projected.index_select(0, rows[chunk.rows])
            halves = gates.new_empty(len(gates), hidden_size)  # r after each step
            cells, squashed = torch.empty_like(halves), torch.empty_like(halves)  # k and q
            r_read, k_read = [], []  # what each step finds in r and k
            for gate, f, i, o, s, k_next, q, r_next in zip(
                *_by_step(gates, chunk.sizes),
                cells.split(chunk.sizes),
                squashed.split(chunk.sizes),
                halves.split(chunk.sizes),
                strict=True,
            ):
                n = len(gate)
                if n < len(r):
                    ended.append((r[n:], k[n:]))
                    r, k = r[:n], k[:n]
                r_used = r if hidden_mask is None else r * hidden_mask[:n]
                r_read.append(r_used)
                k_read.append(k)
                gate.add_(recur(r_used)).sigmoid_()
                torch.mul(f, k, out=k_next).sub_(i, alpha=2).addcmul_(i, s, value=4)
                torch.sigmoid(k_next, out=q)
                torch.mul(o, q, out=r_next).sub_(o, alpha=0.5)
                r, k = r_next, k_next
            saved.append((chunk, gates, squashed, r_read, k_read))
            if need_hidden:
                hidden.append(2 * halves)

        ctx.save_for_backward(table, rows, weight_r, weight_x, doubled_s, hidden_mask)
        ctx.saved = saved
        ctx.set_materialize_grads(False)
        r_last, k_last = (torch.cat(parts) for parts in zip((r, k), *reversed(ended), strict=True))
        return torch.cat(hidden) if need_hidden else None, 2 * r_last, k_last / 2

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_hidden, grad_h, grad_c):
        """The chain rule through one step, last step first.

        dh and dk are the gradients of the loss that reach h' and k' from later on:

            do = dh (2q - 1)                           h' = o (2q - 1)
            dk += 2 dh o q (1 - q)                     q = sigmoid(k')
            df = dk k, di = dk (4s - 2), ds = 4 dk i   k' = f k + i (4s - 2)
            da = dgate gate (1 - gate)                 gates = sigmoid(a), all four at once
            dk <- dk f, dh <- W_h^T da                 what the step before receives

        and over all steps dW_h = sum of da h^T, dW_x = sum of da x^T, db = sum of da. The constant
        factors of the gates (1, 4, 2, 4 for f, i, o, s) are left out of da and put into the
        matrices it meets. Where the output of a step is used too, its gradient joins dh.
        """
        table, rows, weight_r, weight_x, doubled_s, hidden_mask = ctx.saved_tensors
        hidden_size = weight_r.shape[1]
        batch_size = ctx.saved[0][0].sizes[0]
        factors = table.new_tensor([1, 4, 2, 4]).repeat_interleave(hidden_size)[:, None]
        # A sequence that ends early waits here with its final gradient until its last step comes.
        dh_all = table.new_zeros(batch_size, hidden_size) if grad_h is None else grad_h.clone()
        dk_all = torch.zeros_like(dh_all) if grad_c is None else grad_c / 2
        unrecur = _linear_map((weight_r * (factors / 2)).t().contiguous(), batch_size)
        d_projected = table.new_zeros(len(table), 4 * hidden_size)
        d_weight_r = torch.zeros_like(weight_r)
        for chunk, gates, squashed, r_read, k_read in reversed(ctx.saved):
            da_chunk = torch.empty_like(gates) if rows is not None else d_projected[chunk.rows]
            dh_chunk = [None] * len(r_read)
            if grad_hidden is not None:
                dh_chunk = grad_hidden[chunk.rows].split(chunk.sizes)
            steps = zip(
                *_by_step(gates, chunk.sizes),
                *_by_step(da_chunk, chunk.sizes),
                squashed.split(chunk.sizes),
                k_read,
                dh_chunk,
                strict=True,
            )
            for gate, f, i, o, s, da, df, di, do, ds, q, k, dh_here in reversed(list(steps)):
                n = len(gate)
                dh, dk = dh_all[:n], dk_all[:n]
                if dh_here is not None:
                    dh += dh_here
                torch.mul(dh, q, out=do).sub_(dh, alpha=0.5)
                dk.add_(torch.ops.aten.sigmoid_backward(dh * o, q), alpha=2)
                torch.mul(dk, k, out=df)
                torch.mul(dk, s, out=di).sub_(dk, alpha=0.5)
                torch.mul(dk, i, out=ds)
                torch.ops.aten.sigmoid_backward(da, gate, grad_input=da)
                dk.mul_(f)
                dh.copy_(unrecur(da))
                if hidden_mask is not None:
                    dh.mul_(hidden_mask[:n])
            d_weight_r += _weight_gradient(da_chunk, torch.cat(r_read))
            if rows is not None:  # the occurrences of a word add up
                d_projected.index_add_(0, rows[chunk.rows], da_chunk)

        d_table = None
        if ctx.needs_input_grad[0]:
            d_table = _linear_map((weight_x * factors).t().contiguous(), len(table))(d_projected)
        d_weight_x = d_projected.t() @ table
        factors *= doubled_s[:, None]
        d_weight = torch.cat([2 * d_weight_r, d_weight_x], dim=1) * factors
        d_bias = d_projected.sum(0) * factors[:, 0]
        return d_table, None, d_weight, d_bias, dh_all, 2 * dk_all, None, None, None


class _Chunk(NamedTuple):
    """Consecutive steps whose intermediate results fit into a processor's cache together."""

    rows: slice  # of the packed steps
    sizes: list[int]  # sequences running at each of its steps


def _chunks(sizes: list[int]) -> list[_Chunk]:
    """Cut the steps into chunks of about CHUNK_ROWS packed rows."""
    chunks, first, start = [], 0, 0
    for step in range(1, len(sizes) + 1):
        rows = sum(sizes[first:step])
        if rows >= CHUNK_ROWS or step == len(sizes):
            chunks.append(_Chunk(slice(start, start + rows), sizes[first:step]))
            first, start = step, start + rows
    return chunks


def _by_step(gates: Tensor, sizes: list[int]) -> list[tuple[Tensor, ...]]:
    """(n, 4H) to the (., 4H) of every step, and the (., H) of every step for each gate."""
    return [gates.split(sizes), *(part.split(sizes) for part in gates.chunk(4, dim=1))]


def _linear_map(weight: Tensor, batch_size: int, bias: Tensor | None = None) -> Callable:
    """The map x (n, K) -> x W^T + b for a weight (M, K) that will be used many times.

    In float32 on a CPU it goes through oneDNN, with the weight laid out once for about
    `batch_size` rows; at the sizes used here that takes half the time of the matrix product
    PyTorch chooses by itself (MKL), which does not use AVX-512 on AMD processors.
    """
    if _has_onednn(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, batch_size)
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return lambda x: torch.nn.functional.linear(x, weight, bias)


def _weight_gradient(d_output: Tensor, x: Tensor) -> Tensor:
    """(n, M), (n, K) -> (M, K): d_output^T x.

    Where there is oneDNN, as the weight gradient of a 1x1 convolution, which leads there (see
    `_linear_map`) and takes half the time.
    """
    if not _has_onednn(x):
        return d_output.t() @ x
    n, channels_out, channels_in = len(x), d_output.shape[1], x.shape[1]
    return torch.nn.grad.conv2d_weight(
        x.view(1, n, 1, channels_in).permute(0, 3, 1, 2),
        (channels_out, channels_in, 1, 1),
        d_output.view(1, n, 1, channels_out).permute(0, 3, 1, 2),
    ).view(channels_out, channels_in)


def _has_onednn(tensor: Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
