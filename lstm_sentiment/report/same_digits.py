"""The same digits from every x86-64 processor with AVX2, whatever wider instructions it has.

Libraries choose their loops by the processor, and these round differently; fifty epochs make much
of a last digit. Here they are told to choose what all these processors have. The layer's own loops
come to the same sums on any number of threads, and lose at most some tenths of their speed by it.
PyTorch's matrix products, which the trainings hardly use, take twice as long. So speeds are
compared `in_a_fresh_process`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIBRARIES = {
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own loops,
    "MKL_CBWR": "COMPATIBLE",  # its matrix products: those of AVX2 differ between Intel and AMD
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",  # matrix products of NumPy and SciPy,
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512F AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}
LOOPS = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx,+avx2,+bmi,+bmi2,+f16c,+fma,+lzcnt,+movbe,+popcnt,+sse4.2",
}


def fix_digits() -> None:
    """Set the environment variables above; where that does not serve, say so and why.

    It must come before NumPy, PyTorch and numba are loaded, which read them once.
    """
    import llvmlite.binding

    if not llvmlite.binding.get_host_cpu_features().get("avx2"):
        print("this processor has no AVX2: its digits will differ a little from the committed ones")
        return
    if loaded := {"numpy", "torch", "numba"} & sys.modules.keys():
        print(
            f"{', '.join(sorted(loaded))} came before the digits were fixed; some may differ a "
            "little from the committed ones, unless a new kernel runs all cells"
        )
    os.environ |= LIBRARIES | LOOPS


def in_a_fresh_process(function: Callable, *arguments: Any) -> Any:
    """What `function` returns where libraries and our own loops use all that this processor has."""
    import torch

    environment = {n: value for n, value in os.environ.items() if n not in LIBRARIES | LOOPS}
    with tempfile.TemporaryDirectory() as folder:
        call = Path(folder) / "call"
        torch.save((function, arguments), call)
        subprocess.run([sys.executable, "-m", __name__, call], env=environment, check=True)
        return torch.load(call, weights_only=False)


if __name__ == "__main__":
    import torch

    call = Path(sys.argv[1])
    function, arguments = torch.load(call, weights_only=False)
    torch.save(function(*arguments), call)
