"""What scoring and training cost by number of reviews and of processes, through the commands.

Rows leave: seconds, and the memory of the largest process at its peak.
"""

from __future__ import annotations

import csv
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lstm_sentiment.data import load_reviews
from lstm_sentiment.files.keep import replacing
from lstm_sentiment.report.speed import machine
from lstm_sentiment.studies import results
from lstm_sentiment.weights import weights_file

SIZES = {"predict": (10**3, 10**4, 10**5, 10**6), "train": (10**3, 10**4)}
EXTRAPOLATED_TO = 10**9


def run_scaling(data: str = "bundle", sizes=SIZES, processes=(1, 2)) -> pd.DataFrame:
    """Measure, for hours and on Linux, and replace the table scaling.csv.

    Args:
        data: see `load_reviews`; repeated as often as it takes to score.
        sizes: of each command, the numbers of reviews, ascending; two or more for `predict`.
        processes: how many share the reviews.

    Raises:
        RuntimeError: a command failed; what it said stands above.
    """
    texts = load_reviews(data)[0]["review"].tolist()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for n_processes in processes:
            for n in sizes["predict"]:
                commands = _predictions(texts, n, n_processes, Path(folder))
                rows.append({"command": "predict", "reviews": n} | _measured(commands, n_processes))
            rows.append(_extrapolated(*rows[-2:]))
            for n in sizes["train"]:
                launcher = f"-m torch.distributed.run --standalone --nproc-per-node {n_processes}"
                command = f"-m lstm_sentiment train --limit {n} --epochs 1 --data".split()
                command = [*launcher.split(), *command, data, "--model", folder]
                rows.append({"command": "train", "reviews": n} | _measured([command], n_processes))
    table = pd.DataFrame(rows).assign(**machine())
    with replacing(results.RESULTS / "scaling.csv") as part:
        table.to_csv(part, index=False)
    return table


def _predictions(texts: Sequence[str], n: int, n_processes: int, folder: Path) -> list[list[str]]:
    paths = [folder / f"{process}.csv" for process in range(n_processes)]
    for process, path in enumerate(paths):
        share = itertools.islice(itertools.cycle(texts), process, n, n_processes)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([text] for text in itertools.chain(["review"], share))
    command = ["-m", "lstm_sentiment", "predict", "--model", str(weights_file("classifier"))]
    return [[*command, "--file", str(path)] for path in paths]


def _measured(commands: Sequence[Sequence[str]], n_processes: int) -> dict[str, float]:
    threads = str(max(1, (os.cpu_count() or 1) // n_processes))
    options = {"env": os.environ | {"OMP_NUM_THREADS": threads}, "stdout": subprocess.DEVNULL}
    start = time.perf_counter()
    running = [subprocess.Popen([sys.executable, *command], **options) for command in commands]
    peaks = []  # in kB, on Linux; a launcher's is the largest of what it has launched
    for process in running:
        _, process.returncode, usage = os.wait4(process.pid, 0)
        peaks.append(usage.ru_maxrss)
    seconds = time.perf_counter() - start
    if any(process.returncode for process in running):
        raise RuntimeError(f"{' '.join(commands[0])} failed")
    return {"processes": n_processes, "seconds": seconds, "peak_mb": max(peaks) * 1024 / 1e6}


def _extrapolated(smaller: dict, larger: dict) -> dict:
    """By the line through the two largest sizes; a file that is streamed adds no memory."""
    slope = (larger["seconds"] - smaller["seconds"]) / (larger["reviews"] - smaller["reviews"])
    total = larger["seconds"] + slope * (EXTRAPOLATED_TO - larger["reviews"])
    about = {"command": "predict, extrapolated", "reviews": EXTRAPOLATED_TO, "seconds": total}
    return larger | about | {"machines_for_a_day": -int(-total // 86_400)}
