"""Delimited text files as strangers write them, read without losing a row unnoticed."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lstm_sentiment.files.find import checked_path
from lstm_sentiment.text import DataError

REVIEW_COLUMNS = ("review", "text", "reviews", "review_text", "content", "comment")


SENTIMENT_COLUMNS = ("sentiment", "label", "sentiments", "labels", "polarity", "target", "class")


SENTIMENT_OF_LABEL = {
    **dict.fromkeys(("positive", "pos", "1", "1.0", "true"), "positive"),
    **dict.fromkeys(("negative", "neg", "0", "0.0", "false"), "negative"),
}


# Far above the 66 MB of Kaggle's 50,000 reviews; stops an archive that unpacks without end.
MAX_FILE_BYTES = 2**30


# From this many lines on a quoted field is compared with rows: a cast list has the form of some.
MIN_SWALLOWED_LINES, MIN_SWALLOWED_LABELLED_LINES = 20, 3


LONG_REVIEW_LINES = 50  # in a file of one column, lines and rows look alike: worth a word


class _RawTable(NamedTuple):
    """A delimited file as read: the rows that fit the header, and what is to be said about it."""

    header: list[str]
    rows: list[list[str]]
    row_numbers: list[int]  # of `rows`; 1 is the first row after the header
    malformed: list[int]  # numbers of the rows that do not fit the header
    notes: list[str]


def _read_table(path: Path) -> _RawTable:
    """Read a delimited text file without losing a row unnoticed.

    Plain, .gz or .zip; UTF-8, UTF-16 or Windows-1252; fields separated by comma, semicolon or tab
    and quoted as in RFC 4180; any line ends. Empty lines are no rows.

    Raises:
        DataError: the file is missing, empty, damaged or no text, or its quotes do not balance.
    """
    text, notes = _decode(_read_bytes(path))
    _check_is_text(text, path)
    records = _parse_csv(text, path)
    while not records[-1]:
        records.pop()
    if not all(records):
        notes.append(f"{sum(not record for record in records):,} empty lines skipped")
    header, *body = [record for record in records if record]
    if not body:
        raise DataError(
            f"{path} has a header and no rows; download it again (it begins with {text[:40]!r})"
        )
    rows, row_numbers, malformed = [], [], []
    for number, row in enumerate(body, start=1):
        if len(row) > len(header) and not any(row[len(header) :]):
            row = row[: len(header)]  # separators behind the last field
        if len(row) == len(header):
            rows.append(row)
            row_numbers.append(number)
        else:
            malformed.append(number)
    header = [name.strip().casefold() for name in header]
    return _RawTable(header, rows, row_numbers, malformed, notes)


def _read_bytes(path: Path) -> bytes:
    """The bytes of a plain, gzip or zip file, told apart by content rather than by name."""
    path = checked_path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder where a file is expected; name the CSV file in it")
    try:
        with path.open("rb") as file, _unpacked(file, path) as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
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
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{path} holds more than {MAX_FILE_BYTES:,} bytes; split it")
    if content[257:262] == b"ustar":
        raise DataError(f"{path} is a tar archive; give it a name that ends in .tar or .tar.gz")
    return content


def _unpacked(file: BinaryIO, path: Path) -> BinaryIO:
    magic = file.read(2)
    file.seek(0)
    if magic == b"\x1f\x8b":
        return gzip.open(file)
    if magic != b"PK":
        return file
    archive = zipfile.ZipFile(file)
    members = [
        name
        for name in archive.namelist()
        if name.lower().endswith((".csv", ".tsv", ".txt")) and not name.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        raise DataError(
            f"{path} must hold exactly one .csv file, found {members[:5]}; unpack it and "
            "name one, or save a workbook as CSV"
        )
    return archive.open(members[0])


def _decode(content: bytes) -> tuple[str, list[str]]:
    """The text of UTF-8, UTF-16 or Windows-1252 bytes, with notes on what had to be guessed."""
    head = content[:4096]
    notes = []
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", errors="replace")
    elif head[1::2].count(0) > len(head) // 4:  # the upper byte of a Latin letter is zero
        text = content.decode("utf-16-le", errors="replace")
    elif head[0::2].count(0) > len(head) // 4:
        text = content.decode("utf-16-be", errors="replace")
    else:
        text, foreign = _decode_bytewise(content)
        if foreign:
            notes.append(f"{foreign:,} places were not UTF-8 and were read as Windows-1252")
    if "\0" in text:
        notes.append(f"{text.count(chr(0)):,} NUL characters removed")
        text = text.replace("\0", "")
    return text.lstrip("\ufeff"), notes  # some programs put a second byte order mark


def _decode_bytewise(content: bytes) -> tuple[str, int]:
    """UTF-8, with the bytes that are none read as Windows-1252; at how many places."""
    try:
        return content.decode("utf-8-sig"), 0
    except UnicodeDecodeError:
        return re.subn(
            "[\udc80-\udcff]+",
            lambda run: run[0].encode("utf-8", "surrogateescape").decode("cp1252", "replace"),
            content.decode("utf-8-sig", "surrogateescape"),
        )


def _check_is_text(text: str, path: Path) -> None:
    head = text[:4096].lstrip().lower()
    if not head and not text.strip():
        raise DataError(f"{path} is empty; download it again")
    if head.startswith(("<!doctype", "<html", "<?xml")):
        raise DataError(f"{path} is a web page, not a CSV file; download the file itself")
    if head.startswith("version https://git-lfs"):
        raise DataError(f"{path} is a Git LFS pointer, not the file; fetch it with 'git lfs pull'")
    if head.startswith(("{", "[")):
        raise DataError(
            f"{path} is JSON or RTF, not CSV; save the table as CSV (it begins with {head[:40]!r})"
        )
    strange = sum(char == "\ufffd" or (char < " " and not char.isspace()) for char in head)
    if strange > len(head) // 20:
        raise DataError(f"{path} is not a text file; save the table as CSV in UTF-8")


def _parse_csv(text: str, path: Path) -> list[list[str]]:
    """All records of the file, an empty one for an empty line."""
    first_line = re.search(r"\S[^\r\n]*", text)[0]
    delimiter = max(",;\t", key=first_line.count)
    if delimiter not in first_line:
        # With one column a comma belongs to the review: separate at what no text contains.
        delimiter = "\x1f"
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    records, next_line, header = [], 1, []
    previous_limit = csv.field_size_limit(MAX_FILE_BYTES)
    try:
        for record in reader:
            if reader.line_num - next_line >= MIN_SWALLOWED_LABELLED_LINES:
                _check_closed_quotes(record, header, delimiter, f"{path}, row {len(records)}")
            records.append(record)
            next_line = reader.line_num + 1
            if len(records) == 1:
                header = [name.strip().casefold() for name in record]
    except csv.Error as error:
        unfinished = "end of data" in str(error)
        raise DataError(
            f"{path}, row {len(records)} (line {next_line}): "
            + ("the file ends inside a quoted field" if unfinished else f"wrong quoting ({error})")
            + "; double the quotes inside a quoted review, or download the file again"
        ) from error
    finally:
        csv.field_size_limit(previous_limit)
    return records


def _check_closed_quotes(
    record: Sequence[str], header: Sequence[str], delimiter: str, where: str
) -> None:
    """Refuse a quoted field most of whose lines are rows: a quotation mark was not closed there.

    Such a line has as many fields as the header, none of which begins with a blank as after a
    comma in prose, and a known label where the header has labels. A file of one column gives
    nothing to go by.
    """
    label = next((header.index(name) for name in SENTIMENT_COLUMNS if name in header), None)
    delimiters = len(header) - 1
    least = MIN_SWALLOWED_LINES if label is None else MIN_SWALLOWED_LABELLED_LINES
    for field in record if delimiters > 0 else ():
        if field.count(delimiter) < least * delimiters:  # for speed
            continue
        lines = field.splitlines()[:-1]  # the last line ends within a row
        fitting = [line.split(delimiter) for line in lines if line.count(delimiter) == delimiters]
        rows = sum(
            not any(text[:1] == " " for text in fields)
            and (label is None or fields[label].strip().casefold() in SENTIMENT_OF_LABEL)
            for fields in fitting
        )
        if rows >= least and rows > len(lines) / 2:
            raise DataError(
                f"{where}: a quoted field holds {len(lines) + 1:,} lines, {rows:,} of which look "
                "like rows; close its quotation mark, or double one that is meant as text"
            )


def _column(table: _RawTable, accepted: Sequence[str], path: Path) -> list[str]:
    for name in accepted:
        if name in table.header:
            if table.header.count(name) > 1:
                raise DataError(f"{path} has more than one column {name}; remove or rename one")
            position = table.header.index(name)
            return [row[position].strip() for row in table.rows]
    found = [name[:40] for name in table.header[:10]]
    raise DataError(f"{path} has no column {' or '.join(accepted)}; its first row reads {found}")


def read_review_column(path: str | Path) -> list[str]:
    """The reviews of a file, in order, one for each of its rows.

    Rows without text are kept as "" with a warning, so that predictions line up with the rows.

    Raises:
        DataError: the file cannot be read, has no review column, or a row does not fit the header.
    """
    path = checked_path(path)
    table = _read_table(path)
    reviews = _column(table, REVIEW_COLUMNS, path)
    if table.malformed:
        raise DataError(
            f"{path}, row {table.malformed[0]}: {len(table.malformed)} rows do not fit the header; "
            "put reviews that hold a separator in quotes"
        )
    notes = list(table.notes)
    if not all(reviews):
        notes.append(f"{reviews.count(''):,} of {len(reviews):,} reviews are blank")
    lines = [1 + max(text.count("\n"), text.count("\r")) for text in reviews]
    if max(lines) > LONG_REVIEW_LINES:
        notes.append(
            f"row {1 + lines.index(max(lines))} has {max(lines):,} lines; if these are several "
            "reviews, close a quotation mark before them"
        )
    if notes:
        warnings.warn(f"{path}: {'; '.join(notes)}", stacklevel=2)
    return reviews
