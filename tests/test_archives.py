"""Claims about aclImdb: folder and archive give the same reviews, and no archive does harm."""

from __future__ import annotations

import gzip
import tarfile
import tracemalloc

import pytest
from examples import ACL_REVIEWS, acl_archive, add_acl_reviews, tar_of

from lstm_sentiment.files import archives
from lstm_sentiment.files.archives import load_acl_imdb
from lstm_sentiment.text import DataError

EXPECTED = {
    False: [
        ("Weak.", "negative"),
        ("Awful.", "negative"),
        ("Great.", "positive"),
        ("Café, good.", "positive"),
    ],
    True: [("Unrated.",)],
}


def as_rows(reviews):
    return list(reviews.itertuples(index=False, name=None))


@pytest.fixture
def packed(tmp_path):
    return acl_archive(tmp_path / "aclImdb_v1.tar.gz")


@pytest.mark.parametrize("unlabelled", EXPECTED)
def test_folder_and_archive_of_acl_imdb_give_the_same_reviews(tmp_path, packed, unlabelled):
    folder = add_acl_reviews(tmp_path / "aclImdb")
    for path in (folder, packed, acl_archive(tmp_path / "aclImdb_v1.tar", mode="w")):
        assert as_rows(load_acl_imdb(path, unlabelled)) == EXPECTED[unlabelled]


def test_an_archive_writes_nothing_wherever_its_names_point(tmp_path):
    path = acl_archive(tmp_path / "aclImdb_v1.tar.gz", prefix="../../")
    assert len(load_acl_imdb(path)) == 4
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("mode", "step"), [("w:gz", 7), ("w", 256)])
def test_an_archive_cut_off_anywhere_is_refused(tmp_path, mode, step):
    path = acl_archive(tmp_path / "aclImdb", mode=mode)
    whole = path.read_bytes()
    # One that is not compressed is whole with the first block of zeros behind its files.
    for length in range(0, len(whole) if mode == "w:gz" else len(ACL_REVIEWS) * 1024, step):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"aclImdb (cannot be read|is damaged or cut off)"):
            load_acl_imdb(path)


def test_an_archive_with_a_wrong_checksum_is_refused(packed):
    content = bytearray(packed.read_bytes())
    content[-8] ^= 1  # of the CRC-32 that ends a gzip file
    packed.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        load_acl_imdb(packed)


def header(size, kind, name="aclImdb/train/pos/0_9.txt"):
    """A header of a tar archive, with nothing of the file behind it; `size` may be anything."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def sparse(size):
    """A file of `size` bytes, all of them holes, in the old form of GNU tar."""
    block = bytearray(header(0, tarfile.GNUTYPE_SPARSE))
    block[483:495] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def sparse_extended(size):
    """The same in the form of POSIX."""
    member = tarfile.TarInfo("aclImdb/train/pos/0_9.txt")
    member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(size)}
    return member.tobuf(tarfile.PAX_FORMAT)


END, MEBIBYTES = bytes(1024), 2**25
HARMFUL = {
    "header": (header(MEBIBYTES, tarfile.XHDTYPE) + bytes(MEBIBYTES), "header of 33,554,432"),
    "review": (header(MEBIBYTES, tarfile.REGTYPE) + bytes(MEBIBYTES), "a review has more than"),
    "endless review": (header(2**40, tarfile.REGTYPE) + END, "unexpected end|unpacks to more"),
    "long file": (header(2**40, tarfile.REGTYPE, "x") + END, "unpacks to more than"),
    "sparse terabyte": (sparse(10**12) + END, "holds a sparse file"),
    "sparse, extended": (sparse_extended(10**12) + END, "holds a sparse file"),
    "many small sparse files": (sparse(10**6) * 9 + END, "holds a sparse file"),
    "headers of headers": (header(0, tarfile.XHDTYPE) * 4000 + END, "cannot be read|holds no"),
    "many files": (header(0, tarfile.REGTYPE, "x") * 12_000 + END, "holds no reviews"),
    "tail": (tar_of({"x.txt": b""}) + bytes(2 * MEBIBYTES), "unpacks to more than 33,554,432"),
    "digits": (tar_of({f"train/pos/{'1' * 5000}_9.txt": b"Good"}), "holds no reviews"),
}


@pytest.mark.parametrize(("content", "message"), HARMFUL.values(), ids=HARMFUL)
def test_an_archive_that_claims_much_takes_little_memory(packed, monkeypatch, content, message):
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", MEBIBYTES)
    packed.write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        load_acl_imdb(packed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2**20


def test_files_that_are_no_reviews_may_be_long(packed):
    members = {"train/labeledBow.feat": bytes(2**23), "train/pos/1_8.txt": b"Good"}
    packed.write_bytes(tar_of(members, "w:gz"))
    assert as_rows(load_acl_imdb(packed)) == [("Good", "positive")]


def test_a_folder_that_holds_no_reviews_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no reviews under train/pos\|neg, such as"):
        load_acl_imdb(tmp_path)
    add_acl_reviews(tmp_path)
    for content, message in ((b"caf\xe9", "utf-8"), (bytes(2**20 + 1), "more than 1,048,576")):
        (tmp_path / "train/pos/10_8.txt").write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_acl_imdb(tmp_path)
