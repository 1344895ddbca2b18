"""Delimited text files as strangers write them, read without losing a row unnoticed.

A file enters; its rows leave, one by one or kept in a `RawTable`, with what had to be guessed or
left out. Memory grows with the rows that are kept, not with what a file unpacks to.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import lzma
import re
import string
import sys
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lstm_sentiment.files.find import checked_path
from lstm_sentiment.text import DataError

REVIEW_COLUMNS = ("review", "text", "reviews", "review_text", "content", "comment")
SENTIMENT_COLUMNS = ("sentiment", "label", "sentiments", "labels", "polarity", "target", "class")
ID_COLUMN = "id"
SENTIMENT_OF_LABEL = {
    **dict.fromkeys(("positive", "pos", "1", "1.0", "true"), "positive"),
    **dict.fromkeys(("negative", "neg", "0", "0.0", "false"), "negative"),
}

# Far above Kaggle's 50,000 reviews (66 million characters, 100,000 fields). They stop a file that
# unpacks without end, a quotation mark that makes one row of a whole file, and rows of a character
# each, which take a hundred times the memory of their text: beside it, about 64 bytes a field and
# three times that a row.
MAX_CHARACTERS, MAX_ROW_CHARACTERS, MAX_FIELDS = 2**30, 2**26, 2**24
FIELDS_FOR_A_ROW = 3
csv.field_size_limit(MAX_ROW_CHARACTERS)

HEAD_BYTES = 4096  # by which encoding and kind of a file are told

# From this many lines on a quoted field is compared with rows: a cast list has the form of some.
MIN_SWALLOWED_LINES, MIN_SWALLOWED_LABELLED_LINES = 20, 3
LONG_REVIEW_LINES = 50  # in a file of one column, lines and rows look alike: worth a word


class RawTable(NamedTuple):
    """A delimited file as read: the rows that fit the header, and what is to be said about it."""

    header: list[str]  # in lower case
    rows: list[list[str]]
    row_numbers: list[int]  # of `rows`; 1 is the first row after the header
    malformed: list[int]  # numbers of the rows that do not fit the header
    notes: list[str]


def read_table(path: str | Path) -> RawTable:
    """All rows of `stream_table`; those that do not fit the header are numbered and left out.

    Raises:
        DataError: as there.
    """
    notes: list[str] = []
    rows = stream_table(path, notes, kept=True)
    _, header = next(rows)
    table = RawTable(header, [], [], [], notes)
    for number, row in rows:
        if len(row) == len(header):
            table.rows.append(row)
            table.row_numbers.append(number)
        else:
            table.malformed.append(number)
    return table


def stream_table(
    path: str | Path, notes: list[str], kept: bool = False
) -> Iterator[tuple[int, Any]]:
    """The header as row 0, in lower case, then each row and its number, as the file is read.

    Plain, .gz or .zip; UTF-8, UTF-16 or Windows-1252; fields separated by comma, semicolon or tab
    and quoted as in RFC 4180; any line ends. Empty lines are no rows, and columns without a name
    behind the last that has one no columns: a row with text there is longer than the header. What
    had to be guessed is appended to `notes` at the end. Unless rows are to be `kept`, a DataError
    stands for a line with wrong quotes, and the file may be of any size.

    Raises:
        DataError: the file is missing, empty, damaged or no text, or its quotes do not balance.
    """
    with opened(path) as stream:
        yield from _rows(_Lines(stream, path, kept), notes)


def column(table: RawTable, accepted: Sequence[str], path: str | Path) -> list[str]:
    """The column with the first of the `accepted` names that `table`, read from `path`, has."""
    position = _position(table.header, accepted, path)
    return [row[position].strip() for row in table.rows]


def _position(header: Sequence[str], accepted: Sequence[str], path: str | Path) -> int:
    for name in accepted:
        if name in header:
            if header.count(name) > 1:
                raise DataError(f"{path} has more than one column {name}; remove or rename one")
            return header.index(name)
    found = [name[:40] for name in header[:10]]
    raise DataError(f"{path} has no column {' or '.join(accepted)}; its first row reads {found}")


def _label_position(header: Sequence[str]) -> int | None:
    return next((header.index(name) for name in SENTIMENT_COLUMNS if name in header), None)


def read_review_column(path: str | Path) -> list[str]:
    """The reviews of `read_reviews_and_ids`."""
    return read_reviews_and_ids(path)[0]


def read_reviews_and_ids(path: str | Path) -> tuple[list[str], list[str]]:
    """The reviews of a file, in order, one for each of its rows; and the rows' column id, or their
    numbers from 1 where there is none.

    Rows without text are kept as "" with a warning, so that predictions line up with the rows.

    Raises:
        DataError: the file cannot be read, has no review column, or a row does not fit the header.
    """
    notes: list[str] = []
    rows = list(stream_reviews(path, notes, kept=True))
    if notes:
        warnings.warn(f"{path}: {'; '.join(notes)}", stacklevel=3)
    return [review for _, review in rows], [number for number, _ in rows]


def stream_reviews(
    path: str | Path, notes: list[str], kept: bool = False
) -> Iterator[tuple[str, Any]]:
    """The id, or number, and the review of each row of `stream_table`; see there.

    Unless rows are to be `kept`, a DataError stands for the review of a row that does not fit.
    """
    rows = stream_table(path, notes, kept)
    _, header = next(rows)
    position = _position(header, REVIEW_COLUMNS, path)
    id_position = _position(header, [ID_COLUMN], path) if ID_COLUMN in header else None
    label_position = _label_position(header)
    blank, longest, no_labels, first = 0, (0, 0), 0, ""
    for number, row in rows:
        if not isinstance(row, DataError) and len(row) != len(header):
            row = DataError(
                f"{path}, row {number}: {len(row)} fields do not fit the header, which has "
                f"{len(header)}; put reviews that hold a separator in quotes"
            )
            if kept:
                raise row
        if isinstance(row, DataError):
            yield str(number), row
            continue
        review = row[position].strip()
        blank += not review
        label = "" if label_position is None else row[label_position].strip()
        if label and label.casefold() not in SENTIMENT_OF_LABEL:
            no_labels += 1
            first = first or f"row {number}, {label!r:.40}"
        longest = max(longest, (1 + max(review.count("\n"), review.count("\r")), -number))
        yield str(number) if id_position is None else row[id_position].strip(), review
    if blank:
        notes.append(f"{blank:,} of {number:,} reviews are blank")
    if no_labels:
        notes.append(
            f"{no_labels:,} of {number:,} rows have a label that is none (first: {first}); if it "
            "is part of the review, put reviews that hold a separator in quotes"
        )
    if longest[0] > LONG_REVIEW_LINES:
        notes.append(
            f"row {-longest[1]} has {longest[0]:,} lines; if these are several reviews, close a "
            "quotation mark before them"
        )


# ---- From bytes to lines ----


STANDARD_INPUT = "standard input"  # in place of a path, it is read, and named so in messages


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """What a file or STANDARD_INPUT holds, unpacked; whatever is wrong with it is a DataError."""
    try:
        if path is STANDARD_INPUT:
            yield _unpacked(sys.stdin.buffer, path)
            return
        path = checked_path(path)
        if path.is_dir():
            raise DataError(f"{path} is a folder where a file is expected; name the file in it")
        with path.open("rb") as file, _unpacked(file, path) as stream:
            yield stream
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist (looked from {Path.cwd()})") from error
    except (
        *(EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, zipfile.BadZipFile),
        ValueError,  # such as a member's name that cannot be decoded
    ) as error:
        raise DataError(f"{path} is damaged or incomplete ({error}); download it again") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a zip file with a password
        raise DataError(f"{path} cannot be read: {error}") from error


def _unpacked(file: Any, path: str | Path) -> Any:
    """What a plain, gzip or zip file holds, told apart by content rather than by name."""
    stream = io.BufferedReader(file)  # a pipe cannot seek, but peek
    head = stream.peek(2)[:2]
    if head == b"\x1f\x8b":
        return gzip.open(stream)
    if head != b"PK" or not file.seekable():
        return stream
    archive = zipfile.ZipFile(stream)
    return archive.open(the_file_in(archive, path))


def the_file_in(archive: zipfile.ZipFile, path: str | Path) -> str:
    """The name of the only file of reviews in the zip file `path`."""
    kinds = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json")
    members = [
        name
        for name in archive.namelist()
        if name.lower().endswith(kinds) and not name.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise DataError(
            f"{path} must hold exactly one file of reviews, found {members[:5]}; unpack it and "
            "name one, or save a workbook as CSV"
        )
    return members[0]


class _Lines:
    """The lines of a stream in UTF-8, UTF-16 or Windows-1252, and what was mended how often."""

    def __init__(self, stream: Any, path: str | Path, kept: bool) -> None:
        self.stream, self.path, self.kept = io.BufferedReader(stream, HEAD_BYTES), path, kept
        self.number = self.characters = self.row_characters = 0
        self.mended: Counter[str] = Counter()
        content = self.stream.peek(HEAD_BYTES)
        if content[257:262] == b"ustar":
            raise DataError(f"{path} is a tar archive; give it a name that ends in .tar or .tar.gz")
        self.encoding = _encoding(content)
        self.head = self._mended(content.decode(*self.encoding)).lstrip("\ufeff")
        check_is_text(self.head, path)
        self.mended.clear()  # the head is read again

    def __iter__(self) -> Iterator[str]:
        with io.TextIOWrapper(self.stream, *self.encoding, newline="") as text:
            for line in iter(partial(text.readline, MAX_ROW_CHARACTERS + 1), ""):
                self.number += 1
                self.characters += len(line)
                self.row_characters += len(line)
                too_much = self.kept and self.characters > MAX_CHARACTERS
                if too_much or self.row_characters > MAX_ROW_CHARACTERS:
                    raise DataError(
                        f"{self.path} holds more than {MAX_CHARACTERS:,} characters, or more than "
                        f"{MAX_ROW_CHARACTERS:,} in one row (line {self.number:,}); split it"
                    )
                yield line if line.isascii() and "\0" not in line else self._mended(line)

    def _mended(self, line: str) -> str:
        self.mended["NUL characters removed"] += line.count("\0")
        line, foreign = re.subn(
            "[\udc80-\udcff]+",
            lambda run: run[0].encode("utf-8", "surrogateescape").decode("cp1252", "replace"),
            line.replace("\0", ""),
        )
        self.mended["places were not UTF-8 and were read as Windows-1252"] += foreign
        return line


def _encoding(head: bytes) -> tuple[str, str]:
    """The encoding by the first bytes of a file, and what to do with bytes that do not fit."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16", "replace"
    if head[1::2].count(0) > len(head) // 4:  # the upper byte of a Latin letter is zero
        return "utf-16-le", "replace"
    if head[0::2].count(0) > len(head) // 4:
        return "utf-16-be", "replace"
    return "utf-8-sig", "surrogateescape"


def check_is_text(head: str, path: str | Path) -> None:
    """DataError where the beginning of a file says that it is no text, or of another format."""
    head = head.lstrip().lower()
    if head.startswith(("<!doctype", "<html", "<?xml")):
        raise DataError(f"{path} is a web page, not a CSV file; download the file itself")
    if head.startswith("version https://git-lfs"):
        raise DataError(f"{path} is a Git LFS pointer, not the file; fetch it with 'git lfs pull'")
    if re.match(r"\{\\rtf|[\[{]\s*[\[{\"]", head):  # a review may begin with "[Spoilers]"
        raise DataError(
            f"{path} is JSON or RTF, not CSV; save the table as CSV, or have JSON Lines judged "
            f"with predict --format jsonl (it begins with {head[:40]!r})"
        )
    strange = sum(char == "\ufffd" or (char < " " and not char.isspace()) for char in head)
    if strange > len(head) // 20:
        raise DataError(f"{path} is not a text file; save the table as CSV in UTF-8")


# ---- From lines to rows ----


def _rows(lines: _Lines, notes: list[str]) -> Iterator[tuple[int, Any]]:
    path, unread = lines.path, iter(lines)
    first_line = next((line for line in unread if line.strip(string.whitespace + "\ufeff")), None)
    if first_line is None:
        raise DataError(f"{path} is empty; download it again")
    first_line = first_line.lstrip("\ufeff")  # some programs put two byte order marks
    delimiter = max(",;\t", key=first_line.lstrip().count)
    if delimiter not in first_line.lstrip():
        # With one column a comma belongs to the review: separate at what no text contains.
        delimiter = "\x1f"
    records = _records(itertools.chain([first_line], unread), delimiter, lines)
    header = next(records)
    if isinstance(header, DataError):
        raise header
    names = [name.strip().casefold() for name in header]
    width = max((i for i, name in enumerate(names, start=1) if name), default=1)
    swallowing: list[int] = []
    end, number = lines.number, 0
    for number, row in enumerate(records, start=1):
        if number == 1:
            yield 0, names[:width]
        several, end = lines.number > end + 1, lines.number
        if isinstance(row, list):
            if several and _swallows_rows(row, names, delimiter, f"{path}, row {number}"):
                swallowing.append(number)
            if len(row) > width and not any(row[width:]):
                row = row[:width]  # separators behind the last field
        yield number, row
    if not number:
        raise DataError(
            f"{path} has a header and no rows; download it again (it begins with "
            f"{lines.head[:40]!r})"
        )
    notes.extend(f"{count:,} {what}" for what, count in lines.mended.items() if count)
    if swallowing:
        notes.append(
            f"{len(swallowing):,} quoted fields hold a line that looks like a row (first: row "
            f"{swallowing[0]}); if it is one, a quotation mark is missing before it"
        )


def _records(texts: Iterable[str], delimiter: str, lines: _Lines) -> Iterator[Any]:
    """The header and the rows; empty lines between them are counted.

    A DataError with wrong quotes is raised, unless the row may be skipped: where one of several
    lines ends, nobody can tell.
    """
    reader = csv.reader(texts, delimiter=delimiter, strict=True, skipinitialspace=True)
    number = fields = 0  # the header is row 0
    blank = end = lines.number - 1
    while True:
        try:
            record: Any = next(reader, None)
        except csv.Error as error:
            unfinished = "end of data" in str(error)
            record = DataError(
                f"{lines.path}, row {number} (line {end + 1}): "
                + (
                    "the file ends inside a quoted field"
                    if unfinished
                    else f"wrong quoting ({error})"
                )
                + "; double the quotes inside a quoted review, or download the file again"
            )
            if unfinished or lines.kept or lines.number > end + 1:
                raise record from error
        if record is None:
            return
        lines.row_characters, end = 0, lines.number
        if not record:
            blank += 1
            continue
        if lines.kept:
            fields += len(record) + FIELDS_FOR_A_ROW
        if fields > MAX_FIELDS:
            raise DataError(f"{lines.path} holds too many rows and fields; split it")
        lines.mended["empty lines skipped"] += blank
        blank = 0
        yield record
        number += 1


def _swallows_rows(record: Sequence[str], names: Sequence[str], delimiter: str, where: str) -> bool:
    """Whether a quoted field holds a line that looks like a row: a quotation mark is missing.

    Such a line has as many fields as the header, none of which begins with a blank as after a
    comma in prose, and a known label or an id with a digit where the header has them. A file of
    neither gives little to go by, one of a single column nothing.

    Raises:
        DataError: many lines of a field, and most of them, do.
    """
    label = _label_position(names)
    id_ = names.index(ID_COLUMN) if ID_COLUMN in names else None
    least = MIN_SWALLOWED_LINES if label is None else MIN_SWALLOWED_LABELLED_LINES
    delimiters, found = len(names) - 1, False
    for field in record if delimiters > 0 else ():
        rows = 0
        lines = re.split(r"\r\n?|\n", field)
        for line in lines if len(lines) > 1 else ():
            if line.count(delimiter) == delimiters:
                fields = line.split(delimiter)
                known = label is None or fields[label].strip().casefold() in SENTIMENT_OF_LABEL
                known &= id_ is None or bool(re.fullmatch(r"\S*\d\S*", fields[id_].strip()))
                rows += known and not any(text[:1] == " " for text in fields)
        if rows >= least and rows > len(lines) / 2:
            raise DataError(
                f"{where}: a quoted field holds {len(lines):,} lines, {rows:,} of which look "
                "like rows; close its quotation mark, or double one that is meant as text"
            )
        found |= rows > 0 and (label, id_) != (None, None)
    return found
