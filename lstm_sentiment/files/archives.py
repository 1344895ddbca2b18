"""The folder aclImdb of Maas et al. (2011), or its tar archive."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from lstm_sentiment.files.find import checked_path
from lstm_sentiment.files.tables import SENTIMENT_OF_LABEL
from lstm_sentiment.text import DataError

MAX_ARCHIVE_BYTES = 2**30  # three times what the archive of 2011 unpacks to
MAX_REVIEW_BYTES = 2**20  # seventy times the longest review; also for what precedes one in a tar


def load_acl_imdb(path: str | Path, unlabelled: bool = False) -> pd.DataFrame:
    """Reviews of the training part of Maas et al. (2011), labelled (columns `review`, `sentiment`)
    or not (column `review`), from the folder `aclImdb` or its tar archive, all as they are.

    Nothing is unpacked to disk.

    Raises:
        DataError: the archive is damaged, or such reviews are not there.
    """
    path = checked_path(path)
    labels = "unsup" if unlabelled else "pos|neg"
    wanted = re.compile(rf"(?:^|/)train/(?P<label>{labels})/(?P<number>\d{{1,9}})_\d+\.txt$")
    files = _folder_files(path) if path.is_dir() else _archive_files(path)
    found = []
    try:
        for name, open_file in tqdm(files, desc=f"reading {path.name}", unit=" files", delay=1):
            if match := wanted.search(name):
                with open_file() as file:
                    content = file.read(MAX_REVIEW_BYTES + 1)  # whatever size it announces
                if len(content) > MAX_REVIEW_BYTES:
                    raise DataError(f"{path}: a review has more than {MAX_REVIEW_BYTES:,} bytes")
                found.append((match["label"], int(match["number"]), content.decode("utf-8")))
    except DataError:
        raise
    except (
        *(tarfile.TarError, EOFError, zlib.error, OSError, ValueError),
        RecursionError,  # headers of headers of headers
    ) as error:
        raise DataError(f"{path} cannot be read ({error}); download it again") from error
    if not found:
        raise DataError(
            f"{path} holds no reviews under train/{labels}, such as train/pos/0_9.txt; name the "
            "folder or the archive aclImdb"
        )
    found.sort()
    reviews = pd.DataFrame({"review": [text for _, _, text in found]})
    if not unlabelled:
        reviews["sentiment"] = [SENTIMENT_OF_LABEL[label] for label, _, _ in found]
    return reviews


def _folder_files(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    for file in path.rglob("*.txt"):
        yield file.as_posix(), partial(file.open, "rb")


class _BoundedReader:
    """What `tarfile` reads: so much of a stream, and so much of that for each file in it."""

    def __init__(self, stream: Any, path: Path) -> None:
        self.stream, self.path, self.tell = stream, path, stream.tell
        self.next_file()

    def next_file(self) -> None:
        self.left = 4 * MAX_REVIEW_BYTES

    def read(self, size: int) -> bytes:
        self.left -= size
        if size < 0 or self.left < 0:  # a damaged header may announce any size
            raise DataError(f"{self.path} holds a header of {size:,} bytes; download it again")
        self._check_position(self.tell() + size)
        return self.stream.read(size)

    def seek(self, position: int) -> int:
        self._check_position(position)
        return self.stream.seek(position)

    def _check_position(self, position: int) -> None:
        if position > MAX_ARCHIVE_BYTES:
            raise DataError(f"{self.path} unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes")


def _archive_files(path: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as unpacked:
        stream: Any = _BoundedReader(unpacked, path)
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            while member := archive.next():
                archive.members.clear()  # type: ignore[attr-defined]  # it would remember every file
                if member.issparse():  # a few bytes become as many zeros as they say
                    raise DataError(f"{path} holds a sparse file; download it again")
                if member.isfile():
                    yield member.name, partial(archive.extractfile, member)
                stream.next_file()
        if not packed:  # there is no checksum, but a block of zeros at the end
            stream.seek(archive.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise DataError(f"{path} is damaged or cut off; download it again")
        while stream.read(2**20):  # to the end, where gzip compares the checksum
            stream.next_file()
