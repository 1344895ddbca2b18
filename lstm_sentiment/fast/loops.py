"""The steps of `steps` as loops that numba compiles, shared out among threads.

Each thread takes some of the sequences through all their steps, so that no thread waits for another
before the end, and all that follows the matrix product of a step is one pass over memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
from torch import Tensor

from lstm_sentiment.fast.compiled import ZERO, compiled, on_threads
from lstm_sentiment.fast.products import multiply


def forward(sizes: list[int], tensors: tuple[Tensor | None, ...]) -> None:
    """`run_forward` of `steps` with the rest of its arguments, float32 on the CPU."""
    _through_all_steps(_forward_loops, _forward_on_threads, sizes, tensors)


def backward(sizes: list[int], tensors: tuple[Tensor | None, ...]) -> None:
    """`run_backward` of `steps` with the rest of its arguments, float32 on the CPU."""
    _through_all_steps(_backward_loops, _backward_on_threads, sizes, tensors)


def _through_all_steps(
    loops: Callable,
    loops_on_threads: Callable,
    sizes: list[int],
    tensors: tuple[Tensor | None, ...],
) -> None:
    """Share the sequences out among threads by their numbers of steps."""
    running = np.array(sizes)
    nothing = np.empty((0, 0), dtype=np.float32)
    arrays = [nothing if tensor is None else tensor.detach().numpy() for tensor in tensors]
    lengths = (running[:, None] > np.arange(running[0])).sum(axis=0)  # (B,)
    on_threads(loops, loops_on_threads, lengths, (running, *arrays))


_HALF, _ONE, _TWO, _FOUR = (np.float32(number) for number in (0.5, 1, 2, 4))
# tanh(x) = x P(x^2) / Q(x^2), the approximation that the library Eigen uses in float32: right to
# 2e-7 up to +-_TANH_END, where tanh is 1, and made of nothing that a compiler could not do for
# several numbers at once, unlike exp.
_TANH_END = np.float32(7.90531110763549805)
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = np.array(
    [
        4.89352455891786e-03,
        6.37261928875436e-04,
        1.48572235717979e-05,
        5.12229709037114e-08,
        -8.60467152213735e-11,
        2.00018790482477e-13,
        -2.76076847742355e-16,
    ],
    dtype=np.float32,
)
_Q0, _Q1, _Q2, _Q3 = np.array(
    [4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06],
    dtype=np.float32,
)


@compiled
def _sigmoid(x):
    """sigmoid(x) = 1/2 + tanh(x / 2) / 2; a shut gate passes nothing, it is 0."""
    x = _HALF * x
    y = x * x
    p = _P0 + y * (_P1 + y * (_P2 + y * (_P3 + y * (_P4 + y * (_P5 + y * _P6)))))
    q = _Q0 + y * (_Q1 + y * (_Q2 + y * _Q3))
    result = _HALF + _HALF * x * p / q
    if x > _TANH_END:
        result = _ONE
    elif x < -_TANH_END:
        result = ZERO
    return result


@compiled
def _forward_loops(
    first, last, sizes, projected, rows, weight, mask, r, k, gates, r_read, k_read, hidden
):
    hidden_size = r.shape[1]
    products = np.empty((last - first, 4 * hidden_size), dtype=np.float32)
    start = 0
    for n in sizes:
        stop = min(n, last)
        at = start if len(gates) == len(rows) else 0
        for b in range(first, stop):
            r_here, k_here, r_b, k_b = r_read[at + b], k_read[at + b], r[b], k[b]
            for j in range(hidden_size):
                r_here[j] = r_b[j]
                k_here[j] = k_b[j]
            if mask.size:
                for j in range(hidden_size):
                    r_here[j] *= mask[b, j]
        multiply(r_read[at + first : at + stop], weight, products)
        for b in range(first, stop):
            x, product, gate = projected[rows[start + b]], products[b - first], gates[at + b]
            for j in range(4 * hidden_size):
                gate[j] = _sigmoid(x[j] + product[j])
            f, i, o, s = _four(gate)
            r_b, k_b = r[b], k[b]
            for j in range(hidden_size):
                k_b[j] = f[j] * k_b[j] + i[j] * (_FOUR * s[j] - _TWO)
                r_b[j] = o[j] * (_sigmoid(k_b[j]) - _HALF)
            if hidden.size:
                for j in range(hidden_size):
                    hidden[start + b, j] = _TWO * r_b[j]
        start += n


@compiled
def _backward_loops(first, last, sizes, gates, k_read, weight, mask, grad_hidden, dh, dk, da):
    hidden_size = dh.shape[1]
    products = np.empty((last - first, hidden_size), dtype=np.float32)
    start = len(gates)
    for n in sizes[::-1]:
        start -= n
        stop = min(n, last)
        for b in range(first, stop):
            f, i, o, s = _four(gates[start + b])
            df, di, do, ds = _four(da[start + b])
            k_b, dh_b, dk_b = k_read[start + b], dh[b], dk[b]
            if grad_hidden.size:
                for j in range(hidden_size):
                    dh_b[j] += grad_hidden[start + b, j]
            for j in range(hidden_size):
                q = _sigmoid(f[j] * k_b[j] + i[j] * (_FOUR * s[j] - _TWO))
                dk_j = dk_b[j] + _TWO * dh_b[j] * o[j] * q * (_ONE - q)
                df[j] = dk_j * k_b[j] * f[j] * (_ONE - f[j])
                di[j] = dk_j * (s[j] - _HALF) * i[j] * (_ONE - i[j])
                do[j] = dh_b[j] * (q - _HALF) * o[j] * (_ONE - o[j])
                ds[j] = dk_j * i[j] * s[j] * (_ONE - s[j])
                dk_b[j] = dk_j * f[j]
        multiply(da[start + first : start + stop], weight, products)
        for b in range(first, stop):
            for j in range(hidden_size):
                dh[b, j] = products[b - first, j]
            if mask.size:
                for j in range(hidden_size):
                    dh[b, j] *= mask[b, j]


@compiled
def _four(gates):
    """The (H,) of each gate in (4H,)."""
    hidden_size = len(gates) // 4
    return (
        gates[:hidden_size],
        gates[hidden_size : 2 * hidden_size],
        gates[2 * hidden_size : 3 * hidden_size],
        gates[3 * hidden_size :],
    )


def _forward_shares(bounds, *arguments):
    for share in numba.prange(len(bounds) - 1):
        _forward_loops(bounds[share], bounds[share + 1], *arguments)


def _backward_shares(bounds, *arguments):
    for share in numba.prange(len(bounds) - 1):
        _backward_loops(bounds[share], bounds[share + 1], *arguments)


_forward_on_threads = compiled(_forward_shares, parallel=True)
_backward_on_threads = compiled(_backward_shares, parallel=True)
