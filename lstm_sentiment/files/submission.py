"""Kaggle's submission: a table of ID and sentiment."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from lstm_sentiment.files.keep import replacing


def write_submission(
    sentiments: Iterable[str], path: str | Path, ids: Sequence[str] | None = None
) -> None:
    """Write the columns ID (1..n, unless `ids` are given) and sentiment.

    Raises:
        OSError: the file cannot be written; what was there before is unchanged.
    """
    sentiments = list(sentiments)
    ids = range(1, len(sentiments) + 1) if ids is None else ids
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["ID", "sentiment"])
        writer.writerows(zip(ids, sentiments, strict=True))
