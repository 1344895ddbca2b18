"""Labelled reviews out of a table: each once, with an account of every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lstm_sentiment.files.tables import (
    REVIEW_COLUMNS,
    SENTIMENT_COLUMNS,
    SENTIMENT_OF_LABEL,
    RawTable,
    column,
)
from lstm_sentiment.text import DataError, normalised_text


@dataclass(frozen=True)
class LoadingAccount:
    """Where reviews came from, and what became of every row; as `str`, a sentence."""

    source: str
    rows_read: int
    removed: dict[str, int]  # rows by reason
    usable: int
    notes: tuple[str, ...]  # on what had to be guessed in reading

    def __str__(self) -> str:
        removed = ", ".join(f"{n:,} {reason}" for reason, n in self.removed.items() if n)
        sentence = (
            f"{self.rows_read:,} rows read from {self.source}; removed: {removed or 'none'}; "
            f"{self.usable:,} usable reviews"
        )
        return "; ".join([sentence, *self.notes]) + "."


def clean(
    name: str, path: Path, table: RawTable, max_loss: float
) -> tuple[pd.DataFrame, LoadingAccount]:
    """Reviews with words and a known label, each once, and the account.

    Raises:
        DataError: a class is missing, or more than the share `max_loss` of rows would be lost.
    """
    texts = column(table, REVIEW_COLUMNS, path)
    labels = column(table, SENTIMENT_COLUMNS, path)
    sentiments = [SENTIMENT_OF_LABEL.get(label.casefold()) for label in labels]
    rows = pd.DataFrame({"review": texts, "sentiment": sentiments}, index=table.row_numbers)
    missing = np.array([not _has_words(text) for text in texts], dtype=bool)
    unknown = rows["sentiment"].isna().to_numpy() & ~missing
    usable = rows[~missing & ~unknown]
    positive = usable["sentiment"] == "positive"
    both = set(usable["review"][positive]) & set(usable["review"][~positive])
    contradictory = usable["review"].isin(both)
    reviews = usable[~contradictory].drop_duplicates("review").reset_index(drop=True)
    lost = {
        "rows whose fields do not fit the header": table.malformed,
        "reviews without a word": rows.index[missing].tolist(),
        "labels that are missing or unknown": rows.index[unknown].tolist(),
        "rows whose review carries both labels": usable.index[contradictory].tolist(),
    }
    rows_read = len(rows) + len(table.malformed)
    unknown_labels = sorted({labels[position][:40] for position in np.flatnonzero(unknown)})
    _check_loss(lost, rows_read, unknown_labels, path, max_loss)
    for sentiment in ("positive", "negative"):
        if not (reviews["sentiment"] == sentiment).any():
            raise DataError(f"{path} holds no {sentiment} review; both classes are needed")
    removed = {reason: len(numbers) for reason, numbers in lost.items()}
    copies = {"exact duplicates": rows_read - sum(removed.values()) - len(reviews)}
    account = LoadingAccount(name, rows_read, copies | removed, len(reviews), tuple(table.notes))
    return reviews, account


def _has_words(text: str) -> bool:
    if text.casefold() in ("nan", "null", "none"):  # how programs write a missing value
        return False
    return text[:1].isalnum() or bool(normalised_text(text))


def _check_loss(
    lost: dict[str, list[int]],
    rows_read: int,
    unknown_labels: Sequence[str],
    path: Path,
    max_loss: float,
) -> None:
    count = sum(map(len, lost.values()))
    if count <= max_loss * rows_read:
        return
    reasons = "; ".join(
        f"{len(numbers):,} {reason} (first: row {numbers[0]})"
        for reason, numbers in lost.items()
        if numbers
    )
    if unknown_labels:
        reasons += f"; labels such as {unknown_labels[:5]}"
    raise DataError(
        f"{path}: {count:,} of {rows_read:,} rows cannot be used, more than the accepted "
        f"{max_loss:.1%}: {reasons}. Mend the file (in Python, max_loss of load_reviews accepts "
        "more)"
    )
