"""Kaggle's submission: a table of ID and sentiment."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from lstm_sentiment.files.keep import replacing


def write_submission(
    sentiments: Iterable[str], path: str | Path, ids: Iterable[str] | None = None
) -> None:
    """Write the columns ID (1..n, unless `ids` are given) and sentiment.

    Raises:
        OSError: the file cannot be written; what was there before is unchanged.
    """
    sentiments = list(sentiments)
    rows = zip(ids or range(1, len(sentiments) + 1), sentiments, strict=True)
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["ID", "sentiment"])
        writer.writerows(rows)
