"""Verdicts at any size: rows enter as they are read, and a row for each is written, in order.

Memory is that of one chunk, however many rows there are. A DataError among the rows stands for one
that could not be read.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from lstm_sentiment.text import DataError

if TYPE_CHECKING:
    from lstm_sentiment.predictor import TextPredictor

    Row = str | DataError

NAMES = ("review", "sentiment", "probability")
# What is judged at once: enough for batches of similar length, in little memory.
CHUNK_TEXTS, CHUNK_CHARACTERS = 2048, 2**24
REPORTED = 5  # rows that a warning tells of, beside their number


def write_verdicts(rows: Iterable[tuple], output: TextIO, as_json: bool) -> None:
    """Write what `judged` gives as CSV or as JSON Lines; a damaged row has empty fields."""
    # Before Python 3.13 a carriage return is not reason enough for quotes, and would end the row.
    plain, quoted = (
        csv.writer(output, quoting=quoting, lineterminator="\n")
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for number, (text, label, positive) in enumerate(rows, start=1):
        if as_json:
            values = text, label, None if positive is None else round(positive, 4)
            print(json.dumps(dict(zip(NAMES, values, strict=True))), file=output)
            continue
        if number == 1:
            plain.writerow(NAMES)
        writer = quoted if text and "\r" in text else plain
        writer.writerow([text, label, None if positive is None else f"{positive:.4f}"])


def judged(
    predictor: TextPredictor, rows: Iterable[Row], strict: bool = False
) -> Iterator[tuple[str | None, str | None, float | None]]:
    """Each of `rows` with its label and the probability of the second class, as they are read.

    In place of a damaged row there are three times None, so that output and input stay side by
    side. How many are damaged or hold no known word is warned of at the end; progress is shown on
    standard error.

    Raises:
        DataError: what reading the rows raises or, if `strict`, the first damaged row; the rows
            before it are given first. Or none of the first rows can be read.
    """
    read, damaged, unknown = 0, _Few(), _Few()
    try:
        with tqdm(desc="judging", unit=" rows", delay=1) as bar:
            for chunk in chunks(rows, strict):
                texts = [row for row in chunk if isinstance(row, str)]
                if not read and not texts and isinstance(chunk[0], DataError):
                    raise chunk[0]  # it is a file of another kind
                verdicts = zip(*predictor.judge(texts, progress=False), strict=True)
                for row in chunk:
                    read += 1
                    if isinstance(row, DataError):
                        damaged.add(row)
                        yield None, None, None
                        continue
                    label, positive, has_no_word = next(verdicts)
                    if has_no_word:
                        unknown.add(read)
                    yield row, str(label), float(positive)
                bar.update(len(chunk))
    finally:
        if damaged.count:
            warnings.warn(f"{damaged.count:,} rows have no verdict: {damaged}", stacklevel=2)
        if unknown.count:
            warnings.warn(
                f"{unknown.count:,} of {read:,} texts (number {unknown}) hold no word the model "
                "knows; their probabilities mean nothing",
                stacklevel=2,
            )


def chunks(rows: Iterable[Row], strict: bool = False) -> Iterator[list[Row]]:
    """`rows` in lists to be judged at once; see `judged` for `strict` and what is raised."""
    chunk: list[Row] = []
    size, failure = 0, None
    try:
        for row in rows:
            if isinstance(row, str):
                size += len(row)
            elif strict:
                raise row
            chunk.append(row)
            if len(chunk) == CHUNK_TEXTS or size >= CHUNK_CHARACTERS:
                yield chunk
                chunk, size = [], 0
    except DataError as error:  # once the rows before it are judged
        failure = error
    if chunk:
        yield chunk
    if failure:
        raise failure


class _Few:
    """How many there are, and the first few."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def add(self, item: Any) -> None:
        self.count += 1
        if self.count <= REPORTED:
            self.first += f"{'; ' if self.first else ''}{item}"

    def __str__(self) -> str:
        return self.first + ("; ..." if self.count > REPORTED else "")
