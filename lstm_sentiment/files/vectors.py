"""Word-vector files in word2vec and GloVe format."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import re
import warnings
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gensim.models import KeyedVectors
from tqdm import tqdm

from lstm_sentiment.files.find import checked_path
from lstm_sentiment.files.keep import load_tensors
from lstm_sentiment.text import DataError

READ_BYTES = 2**20  # at a time; ten times the longest row, a word and MAX_DIMENSION numbers
MIN_DIMENSION, MAX_DIMENSION = 2, 10_000
WORD2VEC_HEADER = re.compile(rb"(\d{1,12})[ \t]+(\d{1,6})\s*")


@contextlib.contextmanager
def _open_vector_file(path: Path) -> Iterator[Any]:
    """The bytes of a vector file, unpacked when it is gzip."""
    with io.BufferedReader(io.FileIO(path), READ_BYTES) as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        # The second buffer makes reading line by line fast, which GzipFile is not.
        yield io.BufferedReader(gzip.GzipFile(fileobj=file), READ_BYTES) if packed else file


class _VectorHeader(NamedTuple):
    """What the beginning of a vector file says of the rest."""

    rows: int | None  # GloVe files do not say how many rows follow
    dimension: int
    binary: bool


def read_vector_file(path: str | Path, words: Iterable[str] | None = None) -> KeyedVectors:
    """Read a file in word2vec format (text or binary) or GloVe format (text), gzip or not.

    The content decides on the format, not the name. The file is streamed: with `words`, memory
    grows with the vectors kept, not with the file. A word that occurs again keeps its first
    vector, and a warning says how often that happened.

    Args:
        words: keep only these, which must hold no blanks, and their spellings with capitals:
            cased vectors know "Hollywood" only.

    Raises:
        DataError: the file is missing, no vector file, cut off, broken in a row that is read
            (wrong dimension, no number, NaN or infinite), or holds none of `words`.
    """
    path = checked_path(path)
    wanted = None
    if words is not None:
        forms = ((word, word.capitalize(), word.upper()) for word in words)
        wanted = {form.encode() for spellings in forms for form in spellings}
    try:
        with _open_vector_file(path) as file:
            header = _read_vector_header(path, file)
            rows = (_binary_rows if header.binary else _text_rows)(path, file, header, wanted)
            return _collect_rows(path, rows, header.dimension)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); check the path, or fetch the file again"
        ) from error


def _read_vector_header(path: Path, file: io.BufferedReader) -> _VectorHeader:
    """Tell word2vec text, word2vec binary and GloVe apart; leaves `file` at its first row."""
    if file.peek(3)[:3] == codecs.BOM_UTF8:  # a byte order mark
        file.read(3)
    first, _, rest = file.peek(READ_BYTES).partition(b"\n")
    if word2vec := WORD2VEC_HEADER.fullmatch(first):
        file.readline()
        text = _are_numbers(rest.split(maxsplit=2)[1:2])  # what follows the first word
        header = _VectorHeader(int(word2vec[1]), int(word2vec[2]), binary=not text)
    else:
        numbers = first.split()[1:]
        header = _VectorHeader(None, len(numbers) if _are_numbers(numbers) else 0, binary=False)
    if not MIN_DIMENSION <= header.dimension <= MAX_DIMENSION:
        raise DataError(
            f"{path}: not a word-vector file; it begins with {first[:40]!r}, expected a line "
            "'<count> <dimension>' (word2vec) or a word and its numbers (GloVe)"
        )
    return header


def _are_numbers(fields: Sequence[bytes]) -> bool:
    try:
        for field in fields:
            float(field)
    except ValueError:
        return False
    return True


def _text_rows(
    path: Path, file: io.BufferedReader, header: _VectorHeader, wanted: Collection[bytes] | None
) -> Iterator[tuple[int, bytes, np.ndarray]]:
    """Row number, word and (D,) float32 vector of each wanted row; the others are only counted."""
    row = 0
    lines = iter(partial(file.readline, READ_BYTES), b"")
    for line in tqdm(lines, f"reading {path.name}", header.rows, unit=" rows", delay=1):
        if line.isspace():
            continue
        row += 1
        if b"\t" in line:
            line = line.replace(b"\t", b" ")
        if line.count(b" ") < header.dimension:
            raise _row_error(path, row, f"has fewer than {header.dimension} numbers")
        # Most rows are not wanted: told by their first word, they cost no parsing.
        if wanted is None or line[: line.find(b" ")] in wanted:
            word, vector = _parse_text_row(path, row, line, header.dimension)
            if wanted is None or word in wanted:
                yield row, word, vector
    if header.rows not in (None, row):
        raise DataError(
            f"{path}: the first line announces {header.rows} rows, but there are {row}; "
            "the file is damaged or cut off, fetch it again"
        )


def _parse_text_row(path: Path, row: int, line: bytes, dimension: int) -> tuple[bytes, np.ndarray]:
    """Word and vector of a row. The numbers come last: some GloVe words hold blanks (". . .")."""
    word, *numbers = line.rstrip().rsplit(None, dimension)  # also at several blanks
    if b" " in word and _are_numbers(word.split(b" ")[1:]):
        raise _row_error(path, row, f"has more than {dimension} numbers")
    try:
        vector = np.array(numbers, dtype=np.float32)
    except ValueError as error:
        raise _row_error(path, row, f"is broken: {error}") from error
    if len(vector) != dimension:
        raise _row_error(path, row, f"has {len(vector)} numbers instead of {dimension}")
    return word, vector


def _binary_rows(
    path: Path, file: io.BufferedReader, header: _VectorHeader, wanted: Collection[bytes] | None
) -> Iterator[tuple[int, bytes, np.ndarray]]:
    """As `_text_rows`, from rows of a word, a blank and D little-endian float32 numbers."""
    size = 4 * header.dimension
    buffer, start = b"", 0
    numbers = range(1, (header.rows or 0) + 1)
    for row in tqdm(numbers, f"reading {path.name}", unit=" rows", delay=1):
        blank = buffer.find(b" ", start)
        if blank < 0 or len(buffer) <= blank + size:
            buffer, start = buffer[start:] + file.read(READ_BYTES), 0
            blank = buffer.find(b" ")
            if blank < 0 or len(buffer) <= blank + size:
                raise _row_error(path, row, f"is cut off; {header.rows} rows were announced")
        word = buffer[start:blank].lstrip(b"\n")  # some writers end each row with a newline
        start = blank + 1 + size
        if wanted is None or word in wanted:
            yield row, word, np.frombuffer(buffer, "<f4", header.dimension, blank + 1)
    if (buffer[start:] + file.read(READ_BYTES)).strip():
        raise DataError(
            f"{path}: the first line announces {header.rows} rows, but more follow; "
            "the file is damaged, fetch it again"
        )


def _collect_rows(
    path: Path, rows: Iterable[tuple[int, bytes, np.ndarray]], dimension: int
) -> KeyedVectors:
    found: dict[str, int] = {}
    numbers = bytearray()
    repeated = 0
    for row, word, vector in rows:
        key = word.decode("utf-8", errors="replace")
        if key in found:
            repeated += 1
            continue
        if not np.isfinite(vector).all():
            raise _row_error(path, row, "holds a number that is NaN or infinite")
        found[key] = row
        numbers += vector.tobytes()
    if not found:
        raise DataError(f"{path}: holds none of the words asked for; is it of another language?")
    if repeated:
        warnings.warn(
            f"{path}: {repeated} rows repeat a word; its first vector was kept", stacklevel=3
        )
    matrix = np.frombuffer(numbers, dtype=np.float32).reshape(-1, dimension)
    return as_keyed_vectors(list(found), matrix)


def _row_error(path: Path, row: int, problem: str) -> DataError:
    return DataError(f"{path}: row {row} {problem}; the file is damaged, fetch it again")


def kept_vectors(path: Path) -> KeyedVectors:
    """Vectors that `save_tensors` wrote, with their words in the settings.

    Raises:
        DataError: the file is missing or damaged.
    """
    tensors, settings = load_tensors(path)
    return as_keyed_vectors(settings["words"], tensors["vectors"].numpy())


def as_keyed_vectors(words: list[str], matrix: np.ndarray) -> KeyedVectors:
    """gensim's object for a list of n words and their (n, D) vectors, which are not copied."""
    if matrix.ndim != 2 or len(matrix) != len(words):
        raise ValueError(f"matrix must have a row for each of {len(words)} words: {matrix.shape}")
    vectors = KeyedVectors(matrix.shape[1])
    vectors.index_to_key = words
    vectors.key_to_index = {word: index for index, word in enumerate(words)}
    vectors.vectors = matrix  # add_vectors() would copy it several times
    return vectors
