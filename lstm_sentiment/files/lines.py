"""Texts to judge: the column review of a table, or the lines of a text."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from lstm_sentiment.files.find import checked_path
from lstm_sentiment.files.tables import MAX_CHARACTERS, is_table, read_review_column
from lstm_sentiment.text import DataError


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
        DataError: it is not UTF-8, or too much; the message names `source`.
    """
    content = file.read(MAX_CHARACTERS + 1)
    if len(content) > MAX_CHARACTERS:
        raise DataError(f"{source} holds more than {MAX_CHARACTERS:,} bytes; split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source} is not UTF-8 text ({error}); save it as such") from error
    if not text:
        return []
    if "\n" not in text:
        text = text.replace("\r", "\n")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
