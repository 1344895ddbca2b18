"""Texts to judge: the column review of a table, or the lines of a text."""

from __future__ import annotations

import codecs
import re
from functools import partial
from pathlib import Path
from typing import BinaryIO

from lstm_sentiment.files.find import checked_path
from lstm_sentiment.files.tables import (
    HEAD_BYTES,
    ID_COLUMN,
    MAX_CHARACTERS,
    MAX_ROW_CHARACTERS,
    REVIEW_COLUMNS,
    SENTIMENT_COLUMNS,
    check_is_text,
    is_table,
    read_review_column,
)
from lstm_sentiment.text import DataError

BYTES_FOR_A_LINE = 256  # what a line takes beside its text, with what is made of it


def texts_of(path: str | Path) -> list[str]:
    """The column review of a CSV or TSV file, or the lines of another.

    Raises:
        DataError: the file cannot be read.
    """
    path = checked_path(path)
    if is_table(path):
        return read_review_column(path)
    with path.open("rb") as file:
        return lines_of(file, str(path))


def lines_of(file: BinaryIO, source: str) -> list[str]:
    """The lines of UTF-8 text, blank ones too, so that results stand in the order of the input.

    Only a line feed ends a line, or a carriage return where there is none (old Macs): a review may
    hold other characters that `str.splitlines` takes for an end.

    Raises:
        DataError: it is not UTF-8, too much, or a table; the message names `source`.
    """
    lines: list[str] = []
    size = 0
    for line in iter(partial(file.readline, MAX_ROW_CHARACTERS + 1), b""):
        size += len(line) + BYTES_FOR_A_LINE * (1 + line.count(b"\r"))
        if len(line) > MAX_ROW_CHARACTERS or size > MAX_CHARACTERS:
            raise DataError(f"{source} holds too much text (line {len(lines) + 1:,}); split it")
        try:
            lines.append(line.removeprefix(b"" if lines else codecs.BOM_UTF8).decode())
        except UnicodeDecodeError as error:
            raise DataError(
                f"{source} is not UTF-8 text (line {len(lines) + 1:,}: {error}); save it as such"
            ) from error
    if len(lines) == 1 and not lines[0].endswith("\n"):
        lines = lines[0].removesuffix("\r").split("\r") if lines[0] else []
    _check_is_no_table(lines[:3], source)
    return [line.removesuffix("\n").removesuffix("\r") for line in lines]


def _check_is_no_table(lines: list[str], source: str) -> None:
    """Refuse what would be judged line by line, with its header and labels, as if it were prose."""
    check_is_text("".join(lines)[:HEAD_BYTES], source)
    names = {name.strip('" \r\n').casefold() for name in re.split("[,;\t]", "".join(lines[:1]))}
    if names & {*REVIEW_COLUMNS} and names & {*SENTIMENT_COLUMNS, ID_COLUMN}:
        raise DataError(
            f"{source} begins with the header of a table ({lines[0].strip()!r:.40}); give it as "
            "a file whose name ends in .csv or .tsv to have its column of reviews judged"
        )
