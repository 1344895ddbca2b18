"""How numba compiles the loops of this folder, and how PyTorch's threads share them out."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from numba.core.caching import FunctionCache
from torch import Tensor

ZERO = np.float32(0)  # the loops compute in float32, which a Python number would make float64
TILE_ROWS = 4  # rows that `products.multiply` takes together


def is_compiled(tensor: Tensor) -> bool:
    """Whether tensors of this device and dtype go through the compiled loops."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


def compiled(function: Callable, parallel: bool = False) -> Callable:
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


def on_threads(
    loops: Callable, loops_on_threads: Callable, work: np.ndarray, arguments: Sequence[Any]
) -> None:
    """Share rows out among as many threads as PyTorch uses, by the work that each row makes.

    `loops(first, last, *arguments)` does some of them, `loops_on_threads(bounds, *arguments)` those
    between any two neighbours. No share begins within TILE_ROWS, so that no result depends on the
    number of threads.
    """
    threads = min(_usable_threads(), -(-len(work) // TILE_ROWS))
    if threads == 1:
        loops(0, len(work), *arguments)
        return
    done = np.cumsum(work)
    shares = np.searchsorted(done, done[-1] * np.arange(1, threads) / threads)
    bounds = np.array([0, *(shares // TILE_ROWS * TILE_ROWS), len(work)])
    numba.set_num_threads(threads)
    loops_on_threads(bounds, *arguments)


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
