"""The steps of an LSTM, one after another, forward and backward.

What must be done step by step is here; what all steps share (the projection of the inputs, the
weight gradients) is in `function`. It exists twice with one signature: as PyTorch operations, for
any device and dtype; and, for float32 on a CPU, as compiled `loops`.

Notation, per step: gates f, i, o; s = sigmoid(2 a_g), so that the candidate g = 2s - 1; k = 2c and
q = sigmoid(k), so that tanh(c) = 2q - 1; r = h / 2. Carrying k and r instead of c and h leaves only
sigmoids (PyTorch's tanh takes five times as long) and nothing that only multiplies by a constant:

    f, i, o, s = sigmoid(a)     a = W_x x + b + W_h h, the rows of s doubled
    k' = f k + i (4s - 2)       from c' = f c + i g
    r' = o (q - 1/2)            from h' = o tanh(c'), q = sigmoid(k')

Backward, last step first, with dh and dk the gradients of the loss that reach h' and k':

    do = dh (2q - 1)                           h' = o (2q - 1)
    dk += 2 dh o q (1 - q)                     q = sigmoid(k')
    df = dk k, di = dk (4s - 2), ds = 4 dk i   k' = f k + i (4s - 2)
    da = dgate gate (1 - gate)                 gates = sigmoid(a), all four at once
    dk <- dk f, dh <- W_h^T da                 what the step before receives

The constant factors of the gates, GATE_FACTORS, are left out of da and put into the matrices that
da meets.

Slower, when it was tried: these steps as PyTorch operations only; one compiled loop per step after
a product by oneDNN, bound by Python and the price of a call; torch.compile of ten steps at a time,
which also took half a minute to compile; Python threads in place of numba's OpenMP threads, because
those of PyTorch spin on the same processors while they wait.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lstm_sentiment.fast import loops
from lstm_sentiment.fast.compiled import is_compiled

GATE_FACTORS = (1, 4, 2, 4)  # of f, i, o, s


def run_forward(
    sizes: list[int],
    projected: Tensor,
    rows: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    r: Tensor,
    k: Tensor,
    gates: Tensor,
    r_read: Tensor,
    k_read: Tensor,
    hidden: Tensor | None,
) -> None:
    """Take T steps. Sequences are sorted by decreasing length.

    Args:
        sizes: sequences still running at each of the T steps, N in all.
        projected: (U, 4H) W_x x + b of the distinct inputs.
        rows: (N,) the row of it that each sequence reads at each step.
        weight: (4H, H) what r meets.
        mask: (B, H) factors on the r of the step before, or None.
        r, k: (B, H) the state; replaced by each sequence's last.
        gates, r_read, k_read: (N, 4H), (N, H), (N, H) to fill with the gates of each step and what
            it found in r (times the mask) and k; with B rows instead, each step overwrites them.
        hidden: (N, H) to fill with h' of each step, or None.
    """
    if is_compiled(projected):
        arguments = (projected, rows, weight, mask, r, k, gates, r_read, k_read, hidden)
        loops.forward(sizes, arguments)
        return
    start = 0
    for n in sizes:
        at = start if len(gates) == len(rows) else 0
        gate, r_here, k_here = gates[at : at + n], r_read[at : at + n], k_read[at : at + n]
        r_n, k_n = r[:n], k[:n]
        torch.mul(r_n, 1 if mask is None else mask[:n], out=r_here)
        k_here.copy_(k_n)
        torch.addmm(projected[rows[start : start + n]], r_here, weight.t(), out=gate).sigmoid_()
        f, i, o, s = gate.chunk(4, dim=1)
        k_n.mul_(f).sub_(i, alpha=2).addcmul_(i, s, value=4)
        torch.mul(o, k_n.sigmoid(), out=r_n).sub_(o, alpha=0.5)
        if hidden is not None:
            torch.mul(r_n, 2, out=hidden[start : start + n])
        start += n


def run_backward(
    sizes: list[int],
    gates: Tensor,
    k_read: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    grad_hidden: Tensor | None,
    dh: Tensor,
    dk: Tensor,
    da: Tensor,
) -> None:
    """Take the T steps of `run_forward` back.

    Args:
        sizes, gates, k_read, mask: as there.
        weight: (H, 4H) what da meets to become dh.
        grad_hidden: (N, H) gradient that reaches h' of each step from outside, or None.
        dh, dk: (B, H) the gradients that reach each sequence's last h' and k'; replaced by those of
            its first h and k.
        da: (N, 4H) to fill.
    """
    if is_compiled(gates):
        arguments = (gates, k_read, weight, mask, grad_hidden, dh, dk, da)
        loops.backward(sizes, arguments)
        return
    start = len(gates)
    for n in reversed(sizes):
        start -= n
        here = slice(start, start + n)
        gate, da_n, k, dh_n, dk_n = gates[here], da[here], k_read[here], dh[:n], dk[:n]
        f, i, o, s = gate.chunk(4, dim=1)
        df, di, do, ds = da_n.chunk(4, dim=1)
        q = (f * k).sub_(i, alpha=2).addcmul_(i, s, value=4).sigmoid_()
        if grad_hidden is not None:
            dh_n += grad_hidden[here]
        torch.mul(dh_n, q, out=do).sub_(dh_n, alpha=0.5)
        dk_n.add_(torch.ops.aten.sigmoid_backward(dh_n * o, q), alpha=2)
        torch.mul(dk_n, k, out=df)
        torch.mul(dk_n, s, out=di).sub_(dk_n, alpha=0.5)
        torch.mul(dk_n, i, out=ds)
        torch.ops.aten.sigmoid_backward(da_n, gate, grad_input=da_n)
        dk_n.mul_(f)
        torch.mm(da_n, weight.t(), out=dh_n)
        if mask is not None:
            dh_n.mul_(mask[:n])
