"""Texts to judge, one by one, from files of any size: a table, JSON Lines, or a text's lines.

A path enters; texts leave in the order of the rows, in memory for one of them at a time. In place
of a row that cannot be read stands a DataError with its number.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

from lstm_sentiment.files.tables import (
    HEAD_BYTES,
    ID_COLUMN,
    MAX_ROW_CHARACTERS,
    REVIEW_COLUMNS,
    SENTIMENT_COLUMNS,
    check_is_text,
    opened,
    stream_reviews,
    the_file_in,
)
from lstm_sentiment.text import DataError

FORMATS = {"csv": (".csv", ".tsv"), "jsonl": (".jsonl", ".ndjson", ".json"), "text": ()}


def format_of(path: str | Path) -> str:
    """The name in FORMATS that the end of a file's name tells, or of the one file in a zip."""
    name = Path(path).name.lower().removesuffix(".gz")
    if name.endswith(".zip"):
        name = name.removesuffix(".zip")
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            name = the_file_in(archive, path).lower()
    return next((form for form, kinds in FORMATS.items() if name.endswith(kinds)), "text")


def stream_texts(path: str | Path, form: str | None, notes: list[str]) -> Iterator[str | DataError]:
    """The reviews of a file or of `tables.STANDARD_INPUT`, as it is read; see `stream_table`.

    Raises:
        DataError: the file cannot be read, or is not of the format `form` (None: of its name).
    """
    form = form or format_of(path)
    if form == "csv":
        yield from (review for _, review in stream_reviews(path, notes))
        return
    with opened(path) as file:
        yield from (_json_lines if form == "jsonl" else _text_lines)(file, str(path))


def _text_lines(file: BinaryIO, source: str) -> Iterator[str | DataError]:
    texts = _each(_text_of, _lines(file, source), source, "UTF-8 text")
    head = list(itertools.islice(texts, 3))
    _check_is_no_table([line for line in head if isinstance(line, str)], source)
    yield from itertools.chain(head, texts)


def _json_lines(file: BinaryIO, source: str) -> Iterator[str | DataError]:
    lines = _lines(file, source)
    first = next(lines, b"").strip()
    if first[:1] == b"[" or first == b"{":
        raise DataError(
            f"{source} is a JSON array, or an object over several lines, not JSON Lines; write "
            "an object a line (jq -c '.[]' makes them of an array)"
        )
    yield from _each(_review_of, itertools.chain([first], lines), source, "a JSON object with text")


def _text_of(line: bytes) -> str:
    return line.removesuffix(b"\n").removesuffix(b"\r").decode()


def _review_of(line: bytes) -> str | None:
    if not line.strip():
        return None
    value = json.loads(line)
    if isinstance(value, dict):
        found = {name.strip().casefold(): field for name, field in value.items()}
        value = next((found[name] for name in REVIEW_COLUMNS if name in found), None)
    if not isinstance(value, str):
        raise ValueError(f"no string under {' or '.join(REVIEW_COLUMNS)}")
    return value


def _each(
    read: Callable[[bytes], str | None], lines: Iterable[bytes], source: str, kind: str
) -> Iterator[str | DataError]:
    """What `read` makes of each line, but None."""
    for number, line in enumerate(lines, start=1):
        text: str | DataError | None
        try:
            text = read(line)
        except (ValueError, RecursionError) as error:
            text = DataError(f"{source}, line {number}, is not {kind} ({error}); mend it")
        if text is not None:
            yield text


def _lines(file: BinaryIO, source: str) -> Iterator[bytes]:
    """The lines of `file`, blank ones too.

    Only a line feed ends a line, or a carriage return where there is none (old Macs): a review may
    hold other characters that `str.splitlines` takes for an end.
    """
    lines = iter(partial(file.readline, MAX_ROW_CHARACTERS + 1), b"")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_ROW_CHARACTERS:
            raise DataError(f"{source} holds too much text in one line ({number:,}); split it")
        line = line if number > 1 else line.removeprefix(codecs.BOM_UTF8)
        if number > 1 or line.endswith(b"\n"):
            yield line
        else:
            yield from (match[0] for match in re.finditer(rb"[^\r]*\r|[^\r]+", line))


def _check_is_no_table(lines: list[str], source: str) -> None:
    """Refuse what would be judged line by line, with its header and labels, as if it were prose."""
    check_is_text("\n".join(lines)[:HEAD_BYTES], source)
    names = {name.strip('" ').casefold() for name in re.split("[,;\t]", "".join(lines[:1]))}
    if names & {*REVIEW_COLUMNS} and names & {*SENTIMENT_COLUMNS, ID_COLUMN}:
        raise DataError(
            f"{source} begins with the header of a table ({lines[0].strip()!r:.40}); add "
            "--format csv to have its column of reviews judged"
        )
