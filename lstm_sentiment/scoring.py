"""Verdicts at any size: rows enter as they are read, and a row for each is written, in order.

Memory is that of one chunk. A DataError among the rows stands for one that cannot be read.
"""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from lstm_sentiment.text import DataError, tokenize, truncate

if TYPE_CHECKING:
    from lstm_sentiment.predictor import TextPredictor

NAMES = ("review", "sentiment", "probability")
# What is judged at once: enough for batches of similar length, in little memory.
CHUNK_TEXTS, CHUNK_CHARACTERS = 2048, 2**24
REPORTED = 5  # damaged rows whose fault is told; the others have empty fields as well


def write_verdicts(rows: Iterable[tuple], output: TextIO, as_json: bool) -> None:
    """Write what `judged` gives as CSV or as JSON Lines; a damaged row has empty fields."""
    # Before Python 3.13 a carriage return is not reason enough for quotes, and would end the row.
    plain, quoted = (
        csv.writer(output, quoting=quoting, lineterminator="\n")
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for number, (text, label, positive) in enumerate(rows):
        if as_json:
            values = text, label, positive and round(positive, 4)
            print(json.dumps(dict(zip(NAMES, values, strict=True))), file=output)
            continue
        if not number:
            plain.writerow(NAMES)
        writer = quoted if "\r" in (text or "") else plain
        writer.writerow([text, label, None if positive is None else f"{positive:.4f}"])


def write_words(
    predictor: TextPredictor, rows: Iterable[str | DataError], output: TextIO, as_json: bool
) -> None:
    """Write a row per word of each text, with the text's number, from 1, in the column review.

    Raises:
        DataError: a text cannot be read or followed word by word; the message names its number.
    """
    for number, text in enumerate(rows, start=1):
        if isinstance(text, DataError):
            raise text
        try:
            table = predictor.word_by_word(text)
        except ValueError as error:
            raise DataError(f"review {number}: {error}") from error
        table.insert(0, "review", number)
        if as_json:
            print(*map(json.dumps, table.round(4).to_dict("records")), sep="\n", file=output)
        else:
            table.to_csv(output, index=False, header=number == 1, float_format="%.4f")


def judged(
    predictor: TextPredictor, rows: Iterable[str | DataError], strict: bool = False
) -> Iterator[tuple[str | None, str | None, float | None]]:
    """Each text with its label and the probability of the second class, under a progress bar.

    For a damaged row there are three times None, so that output and input stay side by side.

    Raises:
        DataError: what reading the rows raises or, if `strict`, the first damaged row, when those
            before it are judged. Or none of the first rows can be read.
    """
    read = damaged = unknown = 0
    faults: list[str] = []
    try:
        with tqdm(desc="judging", unit=" rows", delay=1) as bar:
            for chunk in _chunks(rows, strict):
                token_lists = [tokenize(row) for row in chunk if isinstance(row, str)]
                if not (read or token_lists):
                    raise chunk[0]  # it is a file of another kind
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", ".*hold no word")  # said once, below
                    verdicts = zip(*predictor.verdicts(token_lists), strict=True)
                known, how = predictor.vocabulary_, (predictor.max_length_, predictor.keep)
                unknown += sum(
                    not any(word in known for word in truncate(words, *how))
                    for words in token_lists
                )
                for row in chunk:
                    if isinstance(row, str):
                        label, positive = next(verdicts)
                        yield row, str(label), float(positive)
                    else:
                        damaged += 1
                        faults += [str(row)] * (damaged <= REPORTED)
                        yield None, None, None
                read += len(chunk)
                bar.update(len(chunk))
    finally:
        if damaged:
            told = "; ".join(faults) + ("; ..." if damaged > REPORTED else "")
            warnings.warn(f"{damaged:,} rows have no verdict: {told}", stacklevel=2)
        if unknown:
            told = "hold no word the model knows; their probabilities mean nothing"
            warnings.warn(f"{unknown:,} of {read:,} texts {told}", stacklevel=2)


def _chunks(rows: Iterable[str | DataError], strict: bool) -> Iterator[list[Any]]:
    """`rows` in lists to be judged at once; an error is raised when what came before it is."""
    chunk: list[str | DataError] = []
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
    except DataError as error:
        failure = error
    if chunk:
        yield chunk
    if failure:
        raise failure
