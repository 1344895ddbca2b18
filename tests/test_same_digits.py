"""Processors with AVX2 are all made to take the same loops; speeds are measured without that."""

from __future__ import annotations

import os
import subprocess
import sys

import llvmlite.binding
import pytest

from lstm_sentiment.report.same_digits import fix_digits

HAS_AVX2 = llvmlite.binding.get_host_cpu_features().get("avx2")
REPORTED = """
from lstm_sentiment.report.same_digits import fix_digits, in_a_fresh_process
fix_digits()
import os, numba, torch
from torch.backends.cpu import get_cpu_capability
print(get_cpu_capability(), numba.config.CPU_NAME, "avx512" in numba.config.CPU_FEATURES)
print(in_a_fresh_process(get_cpu_capability), in_a_fresh_process(os.getenv, "MKL_CBWR"))
"""


@pytest.mark.skipif(not HAS_AVX2, reason="this processor has no AVX2")
def test_what_is_wider_than_avx2_is_left_alone_but_where_speeds_are_compared():
    command = [
        sys.executable,
        "-c",
        "from torch.backends.cpu import *; print(get_cpu_capability())",
    ]
    best = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    command = [sys.executable, "-c", REPORTED]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"AVX2 haswell False\n{best} None\n"


@pytest.mark.skipif(not HAS_AVX2, reason="this processor has no AVX2")
def test_it_says_that_it_came_too_late(capsys, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    fix_digits()
    assert "torch came before the digits were fixed; some may differ" in capsys.readouterr().out
    assert os.environ["ATEN_CPU_CAPABILITY"] == "avx2"


def test_it_says_that_a_processor_has_no_avx2(capsys, monkeypatch):
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", dict)
    fix_digits()
    assert "this processor has no AVX2" in capsys.readouterr().out
