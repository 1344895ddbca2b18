"""Matrix products: on a CPU loops that numba compiles, elsewhere PyTorch's.

They are about as fast as the libraries that PyTorch calls for them (MKL, oneDNN), whose kernels
differ from processor to processor; their sums do not depend on the number of threads.
"""

from __future__ import annotations

import numba
import numpy as np
from torch import Tensor, nn

from lstm_sentiment.fast.compiled import ZERO, compiled, is_compiled, on_threads

# What a thread works on at a time is to stay in its second-level cache, 512 kB or more.
BLOCK_ROWS = 64
BLOCK_COLUMNS = 128
BLOCK_SUMMED = 256


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (n, K) -> x W^T + b for a weight (M, K)."""
    if not (is_compiled(x) and is_compiled(weight)):
        return nn.functional.linear(x, weight, bias)
    result = x.new_empty(len(x), len(weight))
    added = np.empty(0, dtype=np.float32) if bias is None else bias.detach().numpy()
    arrays = [tensor.detach().contiguous().numpy() for tensor in (x, weight)]
    arguments = (*arrays, added, result.numpy())
    on_threads(_linear_loops, _linear_on_threads, np.ones(len(x)), arguments)
    return result


def weight_gradient(d_output: Tensor, x: Tensor) -> Tensor:
    """(n, M), (n, K) -> (M, K): d_output^T x."""
    if not is_compiled(x):
        return d_output.t() @ x
    result = x.new_zeros(d_output.shape[1], x.shape[1])
    arrays = [tensor.detach().contiguous().numpy() for tensor in (d_output, x)]
    arguments = (*arrays, BLOCK_SUMMED, result.numpy())
    on_threads(_gradient_loops, _gradient_on_threads, np.ones(len(result)), arguments)
    return result


@compiled
def multiply(x, weight, result):
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
            s00 = s01 = s02 = ZERO
            s10 = s11 = s12 = ZERO
            s20 = s21 = s22 = ZERO
            s30 = s31 = s32 = ZERO
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
            s00 = s01 = s02 = ZERO
            for k in range(x.shape[1]):
                s00 += x0[k] * w0[k]
                s01 += x0[k] * w1[k]
                s02 += x0[k] * w2[k]
            result[b, j], result[b, j + 1], result[b, j + 2] = s00, s01, s02
    for j in range(columns, len(weight)):
        for b in range(len(x)):
            s00 = ZERO
            for k in range(x.shape[1]):
                s00 += x[b, k] * weight[j, k]
            result[b, j] = s00


@compiled
def _linear_loops(first, last, x, weight, bias, result):
    for start in range(first, last, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, last)
        multiply(x[start:stop], weight, result[start:stop])
        if bias.size:
            for i in range(start, stop):
                for j in range(len(weight)):
                    result[i, j] += bias[j]


@compiled
def _gradient_loops(first, last, d_output, x, summed, result):
    """Rows `first` to `last` of the result, the columns of `d_output`: a sum over the rows of both,
    `summed` at a time, which are turned so that what is summed lies side by side."""
    # `summed` is no constant, by which a compiler might choose another order than elsewhere.
    n, width = x.shape
    x_turned = np.empty((width, summed), dtype=np.float32)
    d_turned = np.empty((BLOCK_COLUMNS, summed), dtype=np.float32)
    products = np.empty((BLOCK_COLUMNS, width), dtype=np.float32)
    for start in range(0, n, summed):
        stop = min(start + summed, n)
        _turn(x[start:stop], x_turned)
        for left in range(first, last, BLOCK_COLUMNS):
            right = min(left + BLOCK_COLUMNS, last)
            turned = d_turned[: right - left]
            _turn(d_output[start:stop, left:right], turned)
            multiply(turned, x_turned, products)
            for i in range(left, right):
                for j in range(width):
                    result[i, j] += products[i - left, j]


@compiled
def _turn(block, turned):
    """Rows (n, K) to the first n columns of (K, summed); the others become zero."""
    n = len(block)
    for start in range(0, n, 16):  # a few rows at a time, whose columns then share cache lines
        for j in range(len(turned)):
            for i in range(start, min(start + 16, n)):
                turned[j, i] = block[i, j]
    turned[:, n:] = ZERO


def _linear_shares(bounds, *arguments):
    for share in numba.prange(len(bounds) - 1):
        _linear_loops(bounds[share], bounds[share + 1], *arguments)


def _gradient_shares(bounds, *arguments):
    for share in numba.prange(len(bounds) - 1):
        _gradient_loops(bounds[share], bounds[share + 1], *arguments)


_linear_on_threads = compiled(_linear_shares, parallel=True)
_gradient_on_threads = compiled(_gradient_shares, parallel=True)
