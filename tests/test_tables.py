"""Claims about reading delimited text: every kind of file is read, or refused with the reason."""

from __future__ import annotations

import csv
import gzip
import os
import tracemalloc
import zipfile

import pytest
from examples import ROWS, csv_text, many, relabelled, tar_of, zipped
from hypothesis import given
from hypothesis import strategies as st

from lstm_sentiment.files import tables
from lstm_sentiment.files.archives import load_acl_imdb
from lstm_sentiment.files.find import checked_path, data_folder, present
from lstm_sentiment.files.tables import (
    REVIEW_COLUMNS,
    SENTIMENT_COLUMNS,
    SENTIMENT_OF_LABEL,
    column,
    is_table,
    read_review_column,
    read_table,
)
from lstm_sentiment.files.vectors import read_vector_file
from lstm_sentiment.text import DataError


@pytest.fixture
def written(tmp_path):
    """Writes bytes or text, as they are, to a file."""

    def write(content):
        path = tmp_path / "reviews.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows_of(path):
    table = read_table(path)
    labels = column(table, SENTIMENT_COLUMNS, path)
    sentiments = [SENTIMENT_OF_LABEL[label.casefold()] for label in labels]
    return list(zip(column(table, REVIEW_COLUMNS, path), sentiments, strict=True))


# ---- Files that are read ----

READABLE = {
    "plain": csv_text(),
    "all fields quoted": csv_text(quoting=csv.QUOTE_ALL),
    "blanks behind the commas": csv_text(quoting=csv.QUOTE_ALL).replace('","', '", "'),
    "semicolons": csv_text(delimiter=";"),
    "tabs": csv_text(delimiter="\t"),
    "windows line ends": csv_text(lineterminator="\r\n"),
    "old mac line ends": csv_text(lineterminator="\r", quoting=csv.QUOTE_ALL),
    "no line end": csv_text().rstrip(),
    "empty lines at the end": csv_text() + "\n\n\r\n",
    "empty lines before the header": "\n \r\n" + csv_text(),
    "byte order mark": csv_text().encode("utf-8-sig"),
    "two byte order marks": b"\xef\xbb\xbf" + csv_text().encode("utf-8-sig"),
    "utf-16": csv_text().encode("utf-16"),
    "utf-16 big-endian": b"\xfe\xff" + csv_text().encode("utf-16-be"),
    "utf-16 without mark": csv_text().encode("utf-16-le"),
    "utf-16 big-endian without mark": csv_text().encode("utf-16-be"),
    "windows-1252": csv_text().encode("cp1252"),
    "NUL characters": csv_text().replace("warm", "wa\0rm"),
    "other names": csv_text(header=("text", "label")),
    "names with capitals and blanks": csv_text(header=(" Review ", "SENTIMENT")),
    "columns swapped": csv_text([row[::-1] for row in ROWS], ("sentiment", "review")),
    "an index column": csv_text(
        [(i, *row) for i, row in enumerate(ROWS)], ("", "review", "sentiment")
    ),
    "separators behind the last field": csv_text([(*row, "") for row in ROWS]),
    "separators behind every field": csv_text(
        [(*row, "") for row in ROWS], ("review", "sentiment", "")
    ),
    "pos and neg": relabelled("pos", "neg"),
    "numbers": relabelled("1", "0"),
    "decimal numbers": relabelled("1.0", "0.0"),
    "truth values": relabelled("True", "False"),
    "labels with blanks and capitals": relabelled(" Positive ", "NEGATIVE"),
    "gzip": gzip.compress(csv_text().encode()),
    "zip": zipped({"IMDB Dataset.csv": csv_text(), "__MACOSX/._IMDB Dataset.csv": "x"}),
}


@pytest.mark.parametrize("content", READABLE.values(), ids=READABLE.keys())
def test_the_same_rows_are_read_from_every_kind_of_file(written, content):
    path = written(content)
    assert rows_of(path) == ROWS
    assert read_table(path).row_numbers == [1, 2, 3, 4]


PRINTABLE = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffd")
TEXTS = st.text(PRINTABLE | st.sampled_from("\n\r\t\",;' ab"), max_size=40).map("A{}".format)


@given(
    st.lists(st.tuples(TEXTS, st.sampled_from(["positive", "negative"])), min_size=1, max_size=12),
    st.sampled_from(",;\t"),
    st.sampled_from([("\r\n", csv.QUOTE_MINIMAL), ("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL)]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_was_written_is_read_again(tmp_path_factory, rows, delimiter, form, encoding):
    path = tmp_path_factory.mktemp("round") / "trip.csv"
    options = {"delimiter": delimiter, "lineterminator": form[0], "quoting": form[1]}
    path.write_bytes(csv_text(rows, **options).encode(encoding))
    assert rows_of(path) == [(text.strip(), label) for text, label in rows]


def test_a_review_of_ten_megabytes_is_read_whole(written):
    rows = [("good " * 2_000_000, "positive"), ("bad", "negative")]
    assert len(read_review_column(written(csv_text(rows)))[0]) == 10_000_000 - 1


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (csv_text().encode("cp1252"), "2 places were not UTF-8 and were read as Windows-1252"),
        (csv_text().replace("warm", "wa\0rm"), "1 NUL characters removed"),
        (csv_text().replace("\nDull", "\n\n\nDull"), "2 empty lines skipped"),
        (
            csv_text().replace("Two\n", "Two,1\n"),
            r"1 quoted fields hold a line .* row \(first: row 3",
        ),
    ],
)
def test_a_guess_at_the_file_is_said(written, content, note):
    path = written(content)
    assert len(read_table(path).notes) == 1
    with pytest.warns(UserWarning, match=rf"reviews\.csv: {note}"):
        read_review_column(path)


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("a.csv", True),
        ("A.CSV.GZ", True),
        ("a.tsv.zip", True),
        ("notes.csv.txt", False),
        ("csv", False),
    ],
)
def test_a_table_is_told_by_the_end_of_its_name(name, is_one):
    assert is_table(f"folder.csv/{name}") is is_one


# ---- Files that are refused ----


def locked(content):
    """Mark a zip file's only member as encrypted, in both of its headers."""
    content = bytearray(content)
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


PLAIN_ROWS = [f"Review number {i},{('positive', 'negative')[i % 2]}" for i in range(60)]
NUMBERED_ROWS = [f"{i},{row}" for i, row in enumerate(PLAIN_ROWS)]


def swallowing(rows=PLAIN_ROWS, header="review,sentiment", first=20, last=50):
    """A file of unquoted rows, but for quotation marks that begin row `first` and end `last`."""
    rows = [header, *rows]
    rows[first] = f'"{rows[first]}'
    rows[last] = rows[last].replace(",", '",')
    return "\n".join(rows)


LZMA_ZIP = zipped({"a.csv": csv_text(many())}, compression=zipfile.ZIP_LZMA)
UTF_8_NAME = zipped({"\u00e9.csv": csv_text()})

REFUSED = {
    "30 rows in quotes": (swallowing(), r"row 20: a quoted field holds 31 lines, 30 of"),
    "30 rows in quotes, by tabs": (swallowing().replace(",", "\t"), "row 20: a quoted"),
    "30 rows in quotes, old Mac": (swallowing().replace("\n", "\r"), "row 20: a quoted"),
    "3 rows in quotes": (swallowing(first=20, last=23), "row 20: .* 4 lines, 3 of which"),
    "30 rows in quotes, three columns": (
        swallowing(NUMBERED_ROWS, "id,review,label"),
        "row 20: a quoted field holds 31 lines, 30 of",
    ),
    "30 rows in quotes, no labels": (
        swallowing([row[: row.rindex(",")] for row in NUMBERED_ROWS], "id,review"),
        "row 20: a quoted field holds 31 lines, 30 of",
    ),
    "two columns of reviews": (
        csv_text([row[:1] * 2 for row in ROWS], ("text", "text")),
        "more than one column text",
    ),
    "JSON": ('[{"review": "Good", "label": 1},\n{}]', "JSON or RTF.*begins with '.{35}"),
    "RTF": ("{\\rtf1 review,sentiment\n\\par Good,positive}", "JSON or RTF"),
    "an error in plain text": ("404: Not Found", "no rows.*begins with '404: Not Found'"),
    "a tar archive": (tar_of({"aclImdb/train/pos/0_9.txt": b"Good"}), "is a tar archive; give"),
    "damaged LZMA in a zip": (LZMA_ZIP[:60] + b"\0\xff" + LZMA_ZIP[62:], "damaged or incomplete"),
    "a name in a zip that is no UTF-8": (
        UTF_8_NAME.replace("\u00e9".encode(), b"\xff\xff"),
        "damaged or incomplete",
    ),
    "empty": ("", "is empty"),
    "only blanks": (" \n\r\n\t", "is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", "is empty"),
    "only NUL bytes": (bytes(5000), "is empty"),
    "header alone": (csv_text([]), "no rows"),
    "no header": (csv_text(ROWS[1:], ROWS[0]), "no column review or text"),
    "other columns": (csv_text(header=("film", "stars")), r"reads \['film', 'stars'\]"),
    "web page": ("<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "xml": ("\n <?xml version='1.0'?><Error>denied</Error>", "web page"),
    "git lfs pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "lfs pull"),
    "binary": (bytes(range(256)) * 20, "not a text file"),
    "quote never closed": ('review,sentiment\n"Good,positive\nBad,negative\n', "ends inside"),
    "download cut off": (csv_text()[:60], r"row 2 \(line 3\): the file ends inside"),
    "quote inside quotes": ('review,sentiment\nFine,1\n"A "b" c",0\n', r"row 2 \(line 3\): wrong"),
    "unquoted commas": ("review,sentiment\nGood, but long,1\nBad,0\n", "row 1: 1 rows do not fit"),
    "unquoted commas, last column without a name": (
        "review,\nGood, but far too long\nBad,\n",
        "row 1: 1 rows do not fit .* in quotes",
    ),
    "other separator below": ("review,sentiment\nGood;1\nBad;0\n", "2 rows do not fit"),
    "damaged gzip": (gzip.compress(csv_text(many()).encode())[:500], "damaged or incomplete"),
    "garbled gzip": (b"\x1f\x8b" + bytes(range(200)), "damaged or incomplete"),
    "damaged zip": (zipped({"a.csv": csv_text()})[:-30], "damaged or incomplete"),
    "changed zip": (zipped({"a.csv": csv_text()}).replace(b"warm", b"cold"), "damaged"),
    "locked zip": (locked(zipped({"a.csv": csv_text()})), "cannot be read"),
    "zip of two tables": (zipped({"a.csv": "", "b.csv": ""}), r"exactly one .*'a.csv', 'b.csv'"),
    "zip without table": (zipped({"sheet.xml": ""}), "exactly one"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_file_that_cannot_be_used_is_refused_by_name_with_the_reason(written, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_review_column(written(content))
    assert "reviews.csv" in str(caught.value)
    assert len(str(caught.value)) < 1000


LINES_OF_PROSE = "\n".join(
    f"Scene {i}: the hero, who is tired, sleeps; nobody, not even I, minds." for i in range(30)
)
CAST_LIST = "\n".join(f"Actor {i}, the butler" for i in range(30))
VERDICTS = "Story,1\nMusic,0\nWatch it."


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("text", [LINES_OF_PROSE, CAST_LIST, VERDICTS])
def test_a_review_of_many_lines_is_a_review(written, text, delimiter):
    rows = [(text, "positive"), *many(4)]
    assert rows_of(written(csv_text(rows, delimiter=delimiter))) == rows
    numbered = [(i, review) for i, (review, _) in enumerate(rows)]
    path = written(csv_text(numbered, ("id", "review"), delimiter=delimiter))
    assert read_review_column(path) == [review for review, _ in rows]


@pytest.mark.parametrize(("lines", "warned"), [(50, False), (51, True)])
def test_rows_in_quotes_are_suspected_in_a_file_of_one_column(written, lines, warned, recwarn):
    path = written('review\nGood\n"Line' + "\nline" * (lines - 1) + '"\nBad\n')
    assert len(read_review_column(path)) == 3
    assert [f"row 2 has {lines} lines" in str(warning.message) for warning in recwarn] == (
        [True] if warned else []
    )


def test_a_file_the_system_does_not_let_us_read_is_refused(written, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    path = written(csv_text())
    monkeypatch.setattr("pathlib.Path.open", denied)
    with pytest.raises(DataError, match=r"reviews\.csv cannot be read: .*Permission denied"):
        read_table(path)


@pytest.mark.parametrize(
    ("limit", "content"),
    [
        ({"MAX_CHARACTERS": 10_000}, bytes(1_000_000)),
        ({"MAX_CHARACTERS": 10_000}, csv_text().encode() + b"\n" * 1_000_000),
        ({"MAX_ROW_CHARACTERS": 10_000}, b"review\n" + b"x" * 1_000_000),
        ({"MAX_ROW_CHARACTERS": 10_000}, b'review\n"' + b"x\n" * 100_000),
        ({"MAX_FIELDS": 1000}, b"review\n" + b"x\n" * 100_000),
        ({"MAX_FIELDS": 1000}, b"review,\n" + b"," * 100_000),
    ],
    ids=["one line", "lines", "one review", "one quoted review", "rows", "fields"],
)
def test_a_small_file_that_becomes_much_is_refused(written, monkeypatch, limit, content):
    for name, value in limit.items():
        monkeypatch.setattr(tables, name, value)
    with pytest.raises(DataError, match=r"reviews\.csv holds (more than .* split|too many rows)"):
        read_table(written(gzip.compress(content, 1)))


def test_a_file_may_be_longer_than_a_row(written, monkeypatch):
    monkeypatch.setattr(tables, "MAX_ROW_CHARACTERS", 100)
    assert rows_of(written(csv_text(many()))) == many()


def test_empty_lines_take_no_memory(written):
    path = written(gzip.compress(b"review\nGood" + b"\n" * 300_000 + b"Bad\n", 1))
    tracemalloc.start()
    table = read_table(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (table.rows, table.notes) == ([["Good"], ["Bad"]], ["299,999 empty lines skipped"])
    assert peak < 2**20


# ---- Reviews without labels ----

TEXTS_TO_KEEP = ["Good, but long; really", "Bad", "Good, but long; really", 'Says "no"']


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(["Review", *TEXTS_TO_KEEP]),  # commas need no quotes in a file of one column
        csv_text([(text,) for text in TEXTS_TO_KEEP], ("Review",), quoting=csv.QUOTE_ALL),
        csv_text(enumerate(TEXTS_TO_KEEP), ("id", "Review")),
    ],
)
def test_reviews_without_labels_keep_their_order_and_their_copies(written, content):
    assert read_review_column(written(content)) == TEXTS_TO_KEEP


def test_a_blank_review_keeps_its_row_with_a_warning(written):
    path = written('id,review\n1,Good\n2,""\n3,Bad\n')
    with pytest.warns(UserWarning, match=r"reviews\.csv: 1 of 3 reviews are blank"):
        assert read_review_column(path) == ["Good", "", "Bad"]


def test_rows_that_do_not_fit_are_numbered(written):
    table = read_table(written("review,label\nGood,1\nBad\n\nFair,0\nPoor,0,x\n"))
    assert (table.row_numbers, table.malformed) == ([1, 3], [2, 4])


# ---- Paths ----


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
    for read in (read_table, read_review_column, load_acl_imdb, read_vector_file):
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert len(str(caught.value)) < 300


def test_a_path_that_is_nothing_or_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        read_review_column(tmp_path)
    with pytest.raises(DataError, match=r"missing\.csv does not exist"):
        read_review_column(tmp_path / "missing.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_nothing_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "reviews.csv")
    with pytest.raises(DataError, match=r"reviews\.csv is neither a file nor a folder"):
        checked_path(tmp_path / "reviews.csv")


def test_the_data_folder_is_data_or_what_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.delenv("LSTM_SENTIMENT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert str(data_folder()) == "data"
    assert present(["x.csv"]) == []  # the usual folder may be missing
    monkeypatch.setenv("LSTM_SENTIMENT_DATA", str(tmp_path))
    assert data_folder() == tmp_path
    monkeypatch.setenv("LSTM_SENTIMENT_DATA", str(tmp_path / "typo"))
    with pytest.raises(DataError, match=r"LSTM_SENTIMENT_DATA names '.*typo', which is no folder"):
        present(["x.csv"])


def test_known_names_are_found_packed_or_not_in_their_order(data_home):
    for name in ("b.csv", "a.csv.zip", "a.csv"):
        (data_home / name).touch()
    found = [path.name for path in present(["a.csv", "missing.csv", "b.csv"])]
    assert found == ["a.csv", "a.csv.zip", "b.csv"]


def test_a_link_to_nothing_is_said(data_home):
    (data_home / "x.csv").symlink_to(data_home / "gone.csv")
    with pytest.raises(DataError, match=r"x\.csv is a link to .*gone\.csv, which does not"):
        present(["x.csv"])
