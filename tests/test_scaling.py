"""What scaling costs is measured through the commands, and marked where it is not measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from lstm_sentiment.studies import results
from lstm_sentiment.studies.scaling import _extrapolated, run_scaling

PACKAGE_FOLDER = Path(__file__).parents[1]


def write_reviews(path):
    texts = [f"{word} film, seen {n} times" for n in range(15) for word in ("good", "bad")]
    sentiments = ["positive", "negative"] * 15
    pd.DataFrame({"review": texts, "sentiment": sentiments}).to_csv(path, index=False)


@pytest.mark.skipif(sys.platform != "linux", reason="others count memory otherwise")
def test_every_size_is_a_row_and_the_largest_is_marked_as_extrapolated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE_FOLDER))
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    write_reviews("reviews.csv")
    sizes = {"predict": (3, 40), "train": ()}  # more than there are, by repetition
    run_scaling("reviews.csv", sizes, processes=[1])
    table = pd.read_csv(tmp_path / "results" / "scaling.csv")
    assert table["command"].tolist() == [*["predict"] * 2, "predict, extrapolated"]
    assert table["reviews"].tolist() == [3, 40, 10**9]
    assert (table["seconds"][:2] > 0).all()
    assert table["peak_mb"].between(50, 5_000).all()
    assert table["machines_for_a_day"].notna().tolist() == [False, False, True]
    with pytest.raises(RuntimeError, match=r"predict --model .* failed"):
        run_scaling("reviews.csv", {"predict": (0, 1), "train": ()}, processes=[1])


def test_a_billion_reviews_take_what_the_line_through_the_largest_sizes_says():
    rows = [{"reviews": n, "seconds": 5 + n / 1_000, "peak_mb": 300.0} for n in (10**5, 10**6)]
    row = _extrapolated(*rows)
    assert row["seconds"] == pytest.approx(10**6 + 5)
    assert (row["peak_mb"], row["machines_for_a_day"]) == (300, 12)
