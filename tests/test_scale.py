"""The README's recipe for more reviews than one machine holds, on a cluster of two processes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstm_sentiment import SentimentClassifier

REASON = 'dask and pyarrow are not installed (pip install ".[scale]")'
dask = pytest.importorskip("dask", reason=REASON)
distributed = pytest.importorskip("dask.distributed", reason=REASON)
pytest.importorskip("pyarrow", reason=REASON)

README = Path(__file__).parent.parent / "README.md"


def test_the_recipe_scores_parquet_files_on_two_processes(tmp_path, monkeypatch):
    (recipe,) = re.findall(r"```python\n(import dask.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert sum(bool(line.strip()) for line in recipe.splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    Path("reviews").mkdir()
    texts = [f"A {('dull', 'wonderful')[n % 2]} film, number {n}." for n in range(60)]
    for part in range(6):
        rows = range(part * 10, part * 10 + 10)
        table = pd.DataFrame({"id": rows, "review": [texts[row] for row in rows]})
        table.to_parquet(f"reviews/{part}.parquet")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(processes=True, **options) as cluster,
        dask.config.set({"scheduler-address": cluster.scheduler_address}),
    ):
        names = {"__name__": "__main__"}
        exec(recipe, names)
        names["client"].close()
    found = pd.read_parquet("verdicts")
    labels, probabilities = SentimentClassifier.from_pretrained().verdicts(texts)
    assert found["id"].tolist() == list(range(60))
    assert found["review"].tolist() == texts
    assert found["sentiment"].tolist() == labels.tolist()
    np.testing.assert_allclose(found["probability"], probabilities, atol=1e-5)
