"""The folder aclImdb of Maas et al. (2011), or its tar archive."""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pandas as pd
from tqdm import tqdm

from lstm_sentiment.files.find import checked_path
from lstm_sentiment.files.tables import MAX_FILE_BYTES, SENTIMENT_OF_LABEL
from lstm_sentiment.text import DataError

# A thousand times the longest review: what one file of an archive, or one header, may hold.
MAX_MEMBER_BYTES = 2**24


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
