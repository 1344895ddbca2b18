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
    duplicates_removed: int
    malformed_removed: int  # rows whose fields do not fit the header
    missing_removed: int  # reviews without a word
    unknown_label_removed: int  # labels that are missing or unknown
    contradictory_removed: int  # rows whose review carries both labels
    usable: int
    notes: tuple[str, ...]  # on what had to be guessed in reading

    def __str__(self) -> str:
        reasons = {"duplicates_removed": "exact duplicates", **LOSS_REASONS}
        removed = ", ".join(
            f"{getattr(self, reason):,} {words}"
            for reason, words in reasons.items()
            if getattr(self, reason)
        )
        sentence = (
            f"{self.rows_read:,} rows read from {self.source}; removed: {removed or 'none'}; "
            f"{self.usable:,} usable reviews"
        )
        return "; ".join([sentence, *self.notes]) + "."


LOSS_REASONS = {
    "malformed_removed": "rows whose fields do not fit the header",
    "missing_removed": "reviews without a word",
    "unknown_label_removed": "labels that are missing or unknown",
    "contradictory_removed": "rows whose review carries both labels",
}


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
        "malformed_removed": table.malformed,
        "missing_removed": rows.index[missing].tolist(),
        "unknown_label_removed": rows.index[unknown].tolist(),
        "contradictory_removed": usable.index[contradictory].tolist(),
    }
    rows_read = len(rows) + len(table.malformed)
    unknown_labels = sorted({labels[position][:40] for position in np.flatnonzero(unknown)})
    _check_loss(lost, rows_read, unknown_labels, path, max_loss)
    for sentiment in ("positive", "negative"):
        if not (reviews["sentiment"] == sentiment).any():
            raise DataError(f"{path} holds no {sentiment} review; both classes are needed")
    counts = {reason: len(numbers) for reason, numbers in lost.items()}
    counts["duplicates_removed"] = rows_read - sum(counts.values()) - len(reviews)
    account = LoadingAccount(
        name, rows_read, **counts, usable=len(reviews), notes=tuple(table.notes)
    )
    return reviews, account


def _has_words(text: str) -> bool:
    if text[:5].casefold() in ("nan", "null", "none"):  # how programs write a missing value
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
        f"{len(numbers):,} {LOSS_REASONS[reason]} (first: row {numbers[0]})"
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
