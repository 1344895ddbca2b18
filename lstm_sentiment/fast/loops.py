"""The steps of `steps` as loops that numba compiles, shared out among threads.

Each thread takes some of the sequences through all their steps, so that no thread waits for another
before the end, and all that follows the matrix product of a step is one pass over memory.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from numba.core.caching import FunctionCache
from torch import Tensor

TILE_ROWS = 4  # sequences that `_multiply` takes together


def forward(sizes: list[int], tensors: tuple[Tensor | None, ...]) -> None:
    """`run_forward` of `steps` with the rest of its arguments, float32 on the CPU."""
    _on_threads(_forward_loops, _forward_on_threads, sizes, tensors)


def backward(sizes: list[int], tensors: tuple[Tensor | None, ...]) -> None:
    """`run_backward` of `steps` with the rest of its arguments, float32 on the CPU."""
    _on_threads(_backward_loops, _backward_on_threads, sizes, tensors)


def _on_threads(
    loops: Callable,
    loops_on_threads: Callable,
    sizes: Sequence[int],
    tensors: tuple[Tensor | None, ...],
) -> None:
    """Share the sequences out among as many threads as PyTorch uses, by their numbers of steps."""
    sizes = np.array(sizes)
    nothing = np.empty((0, 0), dtype=np.float32)
    arrays = [nothing if tensor is None else tensor.detach().numpy() for tensor in tensors]
    batch_size = int(sizes[0])
    threads = min(_usable_threads(), math.ceil(batch_size / TILE_ROWS))
    if threads == 1:
        loops(0, batch_size, sizes, *arrays)
        return
    lengths = (sizes[:, None] > np.arange(batch_size)).sum(axis=0)  # (B,)
    shares = np.searchsorted(lengths.cumsum(), sizes.sum() * np.arange(1, threads) / threads)
    bounds = np.array([0, *(shares // TILE_ROWS * TILE_ROWS), batch_size])
    numba.set_num_threads(threads)
    loops_on_threads(bounds, sizes, *arrays)


def _usable_threads() -> int:
    """As many as PyTorch uses; one where several would not be safe."""
    if not _has_safe_threads():
        return 1
    return min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


@functools.cache
def _has_safe_threads() -> bool:
    """Whether numba can share PyTorch's OpenMP threads, or those of TBB.

    Its third kind of threads must not be called from two Python threads at once.
    """
    for name in ("omppool", "tbbpool"):
        with contextlib.suppress(ImportError):
            importlib.import_module(f"numba.np.ufunc.{name}")
            return True
    return False


class _Cache(FunctionCache):
    """Compiled code on disk, which nothing depends on: what is damaged is compiled and kept anew,
    and a disk may be full."""

    def load_overload(self, *signature: Any) -> Any:
        try:
            return super().load_overload(*signature)
        except Exception:  # unpickling what was damaged ends in any kind
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, *compiled: Any) -> None:
        with contextlib.suppress(Exception):
            super().save_overload(*compiled)


def _compiled(function: Callable, parallel: bool = False) -> Callable:
    """`function` compiled for this processor at its first call, and kept on disk where possible.

    A sum may be taken in any order and a multiplication joined with an addition, as every matrix
    product does; NaN stays NaN.
    """
    options: dict[str, Any] = {
        "fastmath": {"contract", "reassoc"},
        "error_model": "numpy",
        "nogil": True,
        "parallel": parallel,
    }
    dispatcher = numba.njit(**options)(function)
    with contextlib.suppress(RuntimeError):  # there is no folder to keep it in
        dispatcher._cache = _Cache(function)
    return dispatcher


# The loops compute in float32, which a Python number would turn into float64.
_ZERO, _HALF, _ONE, _TWO, _FOUR = (np.float32(number) for number in (0, 0.5, 1, 2, 4))
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


@_compiled
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
        result = _ZERO
    return result


@_compiled
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
        _multiply(r_read[at + first : at + stop], weight, products)
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


@_compiled
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
        _multiply(da[start + first : start + stop], weight, products)
        for b in range(first, stop):
            for j in range(hidden_size):
                dh[b, j] = products[b - first, j]
            if mask.size:
                for j in range(hidden_size):
                    dh[b, j] *= mask[b, j]


@_compiled
def _four(gates):
    """The (H,) of each gate in (4H,)."""
    hidden_size = len(gates) // 4
    return (
        gates[:hidden_size],
        gates[hidden_size : 2 * hidden_size],
        gates[2 * hidden_size : 3 * hidden_size],
        gates[3 * hidden_size :],
    )


@_compiled
def _multiply(x, weight, result):
    """result[:n] = x W^T for x (n, K) and W (M, K).

    Four rows with three columns at a time: each number fetched from memory then serves three or
    four products, and the twelve sums and what they are made of fit into the 16 vector registers
    that a processor with AVX2 has.
    """
    rows, columns = len(x) // 4 * 4, len(weight) // 3 * 3
    for j in range(0, columns, 3):
        w0, w1, w2 = weight[j], weight[j + 1], weight[j + 2]
        for b in range(0, rows, 4):
            x0, x1, x2, x3 = x[b], x[b + 1], x[b + 2], x[b + 3]
            s00 = s01 = s02 = _ZERO
            s10 = s11 = s12 = _ZERO
            s20 = s21 = s22 = _ZERO
            s30 = s31 = s32 = _ZERO
            for k in range(x.shape[1]):
                s00 += x0[k] * w0[k]
                s01 += x0[k] * w1[k]
                s02 += x0[k] * w2[k]
                s10 += x1[k] * w0[k]
                s11 += x1[k] * w1[k]
                s12 += x1[k] * w2[k]
                s20 += x2[k] * w0[k]
                s21 += x2[k] * w1[k]
                s22 += x2[k] * w2[k]
                s30 += x3[k] * w0[k]
                s31 += x3[k] * w1[k]
                s32 += x3[k] * w2[k]
            result[b, j], result[b, j + 1], result[b, j + 2] = s00, s01, s02
            c = b + 1
            result[c, j], result[c, j + 1], result[c, j + 2] = s10, s11, s12
            c = b + 2
            result[c, j], result[c, j + 1], result[c, j + 2] = s20, s21, s22
            c = b + 3
            result[c, j], result[c, j + 1], result[c, j + 2] = s30, s31, s32
        for b in range(rows, len(x)):
            x0 = x[b]
            s00 = s01 = s02 = _ZERO
            for k in range(x.shape[1]):
                s00 += x0[k] * w0[k]
                s01 += x0[k] * w1[k]
                s02 += x0[k] * w2[k]
            result[b, j], result[b, j + 1], result[b, j + 2] = s00, s01, s02
    for j in range(columns, len(weight)):
        for b in range(len(x)):
            s00 = _ZERO
            for k in range(x.shape[1]):
                s00 += x[b, k] * weight[j, k]
            result[b, j] = s00


def _forward_shares(bounds, *arguments):
    for share in numba.prange(len(bounds) - 1):
        _forward_loops(bounds[share], bounds[share + 1], *arguments)


def _backward_shares(bounds, *arguments):
    for share in numba.prange(len(bounds) - 1):
        _backward_loops(bounds[share], bounds[share + 1], *arguments)


_forward_on_threads = _compiled(_forward_shares, parallel=True)
_backward_on_threads = _compiled(_backward_shares, parallel=True)
