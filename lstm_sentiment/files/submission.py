"""Kaggle's submission: a table of ID and sentiment."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from lstm_sentiment.files.keep import replacing
from lstm_sentiment.text import DataError


def write_submission(
    sentiments: Iterable[str], path: str | Path, ids: Iterable[str] | None = None
) -> None:
    """Write the columns ID (1..n, unless `ids` are given) and sentiment.

    Raises:
        DataError: an id is blank or there twice.
        OSError: the file cannot be written; what was there before is unchanged.
    """
    sentiments = list(sentiments)
    ids = list(ids or map(str, range(1, len(sentiments) + 1)))
    if "" in ids or len(set(ids)) < len(ids):
        raise DataError(f"{ids.count('')} ids are blank, or some are there twice; mend the column")
    rows = zip(ids, sentiments, strict=True)
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["ID", "sentiment"])
        writer.writerows(rows)
