"""Large matrix products and dropout, as fast as this processor allows.

They compute what PyTorch's functions of the same purpose compute, where those leave time lying.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

# Rows of a large product that are computed together. With 4 gates of 128 units in float32 they
# take 2 MB, a usual second-level cache.
BLOCK_ROWS = 1024
# oneDNN prepares a kernel for every new number of rows, which takes longer than running it; so
# large products are filled up to a multiple of this.
ROW_MULTIPLE = 128


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
