"""The benchmark measures what it says, and times nothing that computes something else."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.studies import bench
from lstm_sentiment.studies.bench import bench_epoch, bench_steps, run
from lstm_sentiment.studies.bench_keras import SYSTEMS, bench_keras
from lstm_sentiment.studies.presets import BENCH_PARTS
from lstm_sentiment.text import DataError

CONTENDERS = ["nn.LSTM, padded", "by hand, fused", "by hand, cells step by step", "nn.LSTM, packed"]


def small_dataset(reviews):
    rng = np.random.default_rng(0)
    token_ids = [rng.integers(2, 9, n).tolist() for n in rng.integers(1, 12, reviews)]
    return ReviewDataset(token_ids, [0, 1] * (reviews // 2))


def some_reviews(folder, n):
    """A CSV file of n reviews, the positive ones first."""
    rows = [(f"Film {i}, seen again.", ("positive", "negative")[2 * i // n]) for i in range(n)]
    path = folder / "some.csv"
    pd.DataFrame(rows, columns=["review", "sentiment"]).to_csv(path, index=False)
    return path


def test_steps_are_timed_for_every_combination():
    rows = pd.DataFrame(bench_steps(small_dataset(512), 9, hidden_sizes=[4], rounds=1))
    one_way, both_ways = (rows[rows["directions"] == n] for n in (1, 2))
    assert one_way["model"].tolist() == CONTENDERS * 2
    assert both_ways["model"].tolist() == [CONTENDERS[-1], *CONTENDERS[1:-1]] * 2
    assert one_way["vectors"].tolist() == ["frozen"] * 4 + ["fine-tuned"] * 4
    assert rows[rows["training_speedup"] == 1]["model"].str.startswith("nn.LSTM").all()
    assert rows["disagreement"].between(0, 1e-4).all()
    assert (rows[["training_ms", "inference_ms"]] > 0).all(axis=None)


def test_an_epoch_is_the_same_for_every_model():
    rows = pd.DataFrame(bench_epoch(small_dataset(130), 9, embedding_size=4, hidden_size=3))
    assert rows["model"].tolist() == CONTENDERS
    np.testing.assert_allclose(rows["mean_loss"], rows["mean_loss"][0], atol=1e-4)
    assert (rows["difference_in_ten_steps"] < 1e-5).all()
    assert (rows["seconds"] > 0).all()
    assert rows["speedup"][0] == 1


def test_the_parts_asked_for_are_measured_on_the_reviews_given(data_home, monkeypatch):
    for part in BENCH_PARTS:
        monkeypatch.setattr(bench, f"bench_{part}", lambda *given: map(len, given[:1]))
    monkeypatch.setattr(bench, "REVIEWS_OF_REPORT", 70)
    path = some_reviews(data_home, 100)
    found = run(["epoch", "steps"], path)
    assert json.loads(json.dumps(found["machine"]))["torch"] == torch.__version__
    assert list(found.items())[1:] == [("epoch", [70]), ("steps", [70])]
    assert list(run(data=path)) == ["machine", *BENCH_PARTS[:-1]]
    with pytest.raises(DataError, match="2 reviews; at least 64 are needed, a full batch"):
        run(["steps"], some_reviews(data_home, 2))


def test_systems_are_compared_with_keras_where_it_is_installed(monkeypatch):
    token_lists, labels = [["good", "film"], ["bad", "film"]] * 40, np.array([1.0, 0.0] * 40)
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(DataError, match=r"this needs Keras .*; pip install keras tensorflow"):
        next(bench_keras(token_lists, labels))
    monkeypatch.undo()
    pytest.importorskip("keras", reason="Keras is no dependency")
    rows = pd.DataFrame(bench_keras(token_lists, labels, rounds=1))
    assert rows["system"].tolist() == list(SYSTEMS)
    assert (rows.drop(columns="system") > 0).all(axis=None)
