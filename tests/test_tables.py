"""Claims about reading delimited text: every kind of file is read, or refused with the reason."""

from __future__ import annotations

import csv
import gzip
import itertools
import os
import tracemalloc
import zipfile

import pytest
from examples import ROWS, csv_text, many, tar_of, zipped
from hypothesis import given
from hypothesis import strategies as st

from lstm_sentiment.files import lines, tables
from lstm_sentiment.files.archives import load_acl_imdb
from lstm_sentiment.files.find import present
from lstm_sentiment.files.keep import load_tensors
from lstm_sentiment.files.tables import column, read_review_column, read_table
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
    reviews = column(table, tables.REVIEW_COLUMNS, path)
    return list(zip(reviews, column(table, tables.SENTIMENT_COLUMNS, path), strict=True))


# ---- Files that are read ----

TRAILING = [(*row, "") for row in ROWS]
READABLE = {
    "blanks behind the commas": csv_text(quoting=csv.QUOTE_ALL).replace('","', '", "'),
    "no line end": csv_text().rstrip(),
    "empty lines at the end": csv_text() + "\n\n\r\n",
    "empty lines before the header": "\n \r\n" + csv_text(),
    "two byte order marks": b"\xef\xbb\xbf" + csv_text().encode("utf-8-sig"),
    "utf-16 big-endian": b"\xfe\xff" + csv_text().encode("utf-16-be"),
    "utf-16 without mark": csv_text().encode("utf-16-le"),
    "utf-16 big-endian without mark": csv_text().encode("utf-16-be"),
    "windows-1252": csv_text().encode("cp1252"),
    "NUL characters": csv_text().replace("warm", "wa\0rm"),
    "other names": csv_text(header=("text", "label")),
    "names with capitals and blanks": csv_text(header=(" Review ", "SENTIMENT")),
    "columns swapped": csv_text([row[::-1] for row in ROWS], ("sentiment", "review")),
    "an index column": csv_text([(7, *row) for row in ROWS], ("", "review", "sentiment")),
    "separators behind the last field": csv_text(TRAILING),
    "separators behind every field": csv_text(TRAILING, ("review", "sentiment", "")),
    "gzip": gzip.compress(csv_text().encode()),
    "zip": zipped({"IMDB Dataset.csv": csv_text(), "__MACOSX/._IMDB Dataset.csv": "x"}),
}


@pytest.mark.parametrize("content", READABLE.values(), ids=READABLE)
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


LONG_REVIEWS = {
    "characters": "good " * 40_000 + "film",
    "prose": "Scene: the hero, who is tired, sleeps; nobody, not even I, minds.\n" * 30 + "End",
    "cast": "\n".join(f"Actor {i}, the butler" for i in range(30)),
    "verdicts": "Story,1\nMusic,0\nCast,1\n" + "It is long.\n" * 3 + "Watch it.",
}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("text", LONG_REVIEWS.values(), ids=LONG_REVIEWS)
def test_a_long_review_is_read_whole_and_no_rows_are_seen_in_it(written, text, delimiter):
    rows = [(text, "positive"), *many(4)]
    assert rows_of(written(csv_text(rows, delimiter=delimiter))) == rows
    numbered = [(i, review) for i, (review, _) in enumerate(rows)]
    path = written(csv_text(numbered, ("id", "review"), delimiter=delimiter))
    assert read_review_column(path) == [review for review, _ in rows]


def test_a_long_last_line_takes_no_longer_than_its_length(written):
    text = "One line\n" + "x" * 1_000_000  # where quadratic matching would take hours
    assert rows_of(written(csv_text([(text, "positive")]))) == [(text, "positive")]


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


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (csv_text().encode("cp1252"), "2 places were not UTF-8 and were read as Windows-1252"),
        (csv_text().replace("warm", "wa\0rm"), "1 NUL characters removed"),
        (csv_text().replace("\nDull", "\n\n\nDull"), "2 empty lines skipped"),
        (csv_text().replace("Two\n", "Two,1\n"), r"1 quoted fields hold .* row \(first: row 3"),
        ('id,review\n7,"Good\n8,Bad"\n9,Fair\n', r"1 quoted fields hold .* row \(first: row 1"),
        (csv_text([*ROWS, ("", "positive")]), "1 of 5 reviews are blank"),
        (
            "review,sentiment\nGood, but too long\nBad,0\nDull,\n",
            r"1 of 3 rows have a label that is none \(first: row 1, 'but too long'\)",
        ),
        ('review\nGood\n"Line' + "\nline" * 50 + '"\nBad\n', "row 2 has 51 lines"),
    ],
)
def test_a_guess_at_the_file_is_said(written, content, note):
    with pytest.warns(UserWarning, match=rf"reviews\.csv: {note}") as warned:
        read_review_column(written(content))
    assert len(warned) == 1


def test_rows_that_do_not_fit_are_numbered(written):
    table = read_table(written("review,label\nGood,1\nBad\n\nFair,0\nPoor,0,x\n"))
    assert (table.row_numbers, table.malformed) == ([1, 3], [2, 4])


def test_the_format_is_told_by_the_end_of_the_name():
    for form, names in {
        "csv": ("a.csv", "A.CSV.GZ", "folder/a.tsv.zip"),
        "jsonl": ("a.jsonl", "a.NDJSON.gz", "a.json"),
        "text": ("notes.csv.txt", "csv", "folder.csv/a", "a.gz"),
    }.items():
        assert {lines.format_of(name) for name in names} == {form}


@pytest.mark.parametrize("name", ["a.csv", "a.ndjson", "a.json", "a.txt"])
def test_the_file_in_a_zip_tells_its_format(tmp_path, name):
    path = tmp_path / "reviews.zip"
    path.write_bytes(zipped({name: '{"review": "Good"}\n', "__MACOSX/._a.csv": "x"}))
    assert lines.format_of(path) == lines.format_of(name)
    if name.endswith("json"):
        assert list(lines.stream_texts(path, None, [])) == ["Good"]


# ---- Files that are refused ----


def locked(content):
    """Mark a zip file's only member as encrypted, in both of its headers."""
    content = bytearray(content)
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def swallowing(header="review,sentiment", form="Review number {0},{1}", last=50):
    """A file of unquoted rows, but for quotation marks that begin row 20 and end `last`."""
    rows = [header, *(form.format(i, ("positive", "negative")[i % 2]) for i in range(60))]
    rows[20] = f'"{rows[20]}'
    rows[last] = rows[last].replace(",", '",')
    return "\n".join(rows)


SWALLOWED = "row 20: a quoted field holds 31 lines, 30 of which"
LZMA_ZIP = zipped({"a.csv": csv_text(many())}, compression=zipfile.ZIP_LZMA)
MISNAMED_ZIP = zipped({"é.csv": csv_text()}).replace("é".encode(), b"\xff\xff")
REFUSED = {
    "30 rows in quotes": (swallowing(), SWALLOWED),
    "30 rows in quotes, by tabs": (swallowing().replace(",", "\t"), SWALLOWED),
    "30 rows in quotes, old Mac": (swallowing().replace("\n", "\r"), SWALLOWED),
    "30 rows in quotes, three columns": (swallowing("id,review,label", "{0},It,{1}"), SWALLOWED),
    "30 rows in quotes, no labels": (swallowing("id,review", "{0},Fine"), SWALLOWED),
    "3 rows in quotes": (swallowing(last=23), "row 20: .* 4 lines, 3 of which"),
    "two columns of reviews": (csv_text(header=("text", "text")), "more than one column text"),
    "JSON": ('[{"review": "Good", "label": 1},\n{}]', "JSON or RTF.*begins with '.{35}"),
    "RTF": ("{\\rtf1 review,sentiment\n\\par Good,positive}", "JSON or RTF"),
    "an error in plain text": ("404: Not Found", "no rows.*begins with '404: Not Found'"),
    "a tar archive": (tar_of({"aclImdb/train/pos/0_9.txt": b"Good"}), "is a tar archive; give"),
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
    "unquoted commas": ("review,sentiment\nGood, but long,1\nBad,0\n", "row 1: 3 fields do not"),
    "unquoted commas, nameless column": ("review,\nGood, but long\n", "row 1: 2 fields .* quotes"),
    "other separator below": ("review,sentiment\nGood;1\nBad;0\n", "row 1: 1 fields do not fit"),
    "damaged gzip": (gzip.compress(csv_text(many()).encode())[:500], "damaged or incomplete"),
    "garbled gzip": (b"\x1f\x8b" + bytes(range(200)), "damaged or incomplete"),
    "damaged zip": (zipped({"a.csv": csv_text()})[:-30], "damaged or incomplete"),
    "damaged LZMA in a zip": (LZMA_ZIP[:60] + b"\0\xff" + LZMA_ZIP[62:], "damaged or incomplete"),
    "a name in a zip that is no UTF-8": (MISNAMED_ZIP, "damaged or incomplete"),
    "changed zip": (zipped({"a.csv": csv_text()}).replace(b"warm", b"cold"), "damaged"),
    "locked zip": (locked(zipped({"a.csv": csv_text()})), "cannot be read"),
    "zip of two tables": (zipped({"a.csv": "", "b.csv": ""}), r"exactly one .*'a.csv', 'b.csv'"),
    "zip without table": (zipped({"sheet.xml": ""}), "exactly one"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_file_that_cannot_be_used_is_refused_by_name_with_the_reason(written, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_review_column(written(content))
    assert "reviews.csv" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_file_the_system_does_not_let_us_read_is_refused(written, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    path = written(csv_text())
    monkeypatch.setattr("pathlib.Path.open", denied)
    with pytest.raises(DataError, match=r"reviews\.csv cannot be read: .*Permission denied"):
        read_table(path)


@pytest.mark.parametrize(
    ("limit", "value", "content"),
    [
        ("MAX_CHARACTERS", 10_000, bytes(1_000_000)),
        ("MAX_CHARACTERS", 10_000, csv_text().encode() + b"\n" * 1_000_000),
        ("MAX_ROW_CHARACTERS", 10_000, b"review\n" + b"x" * 1_000_000),
        ("MAX_ROW_CHARACTERS", 10_000, b'review\n"' + b"x\n" * 100_000),
        ("MAX_FIELDS", 1000, b"review\n" + b"x\n" * 100_000),
        ("MAX_FIELDS", 1000, b"review,\n" + b"," * 100_000),
    ],
    ids=["one line", "lines", "one review", "one quoted review", "rows", "fields"],
)
def test_a_small_file_that_becomes_much_is_refused(written, monkeypatch, limit, value, content):
    monkeypatch.setattr(tables, limit, value)
    with pytest.raises(DataError, match=r"reviews\.csv holds (more than .* split|too many rows)"):
        read_table(written(gzip.compress(content, 1)))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_line_that_does_not_end_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(lines, "MAX_ROW_CHARACTERS", 10_000)
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'"Good"\n' * 2000 + b"x" * 20_000))
    texts = lines.stream_texts(path, None, [])
    assert sum(text.strip('"') == "Good" for text in itertools.islice(texts, 2000)) == 2000
    with pytest.raises(DataError, match=r"a\..* holds too much text in one line \(2,001\)"):
        next(texts)


MANY_ROWS = {
    "a.csv": (b"review,label\n", b"Good,1\n"),
    "b.csv": (b"review\nGood", b"\n"),
    "a.jsonl": (b"", b'{"review": "Good"}\n'),
    "a.txt": (b"", b"Good\n"),
    "b.txt": (b"", b"Good\r"),
}


@pytest.mark.parametrize("name", MANY_ROWS)
def test_reading_more_rows_takes_no_more_memory(tmp_path, name):
    path, (head, row) = tmp_path / name, MANY_ROWS[name]
    peaks = []
    for count in (1_000, 100_000):
        path.write_bytes(gzip.compress(head + count * row, 1))
        tracemalloc.start()
        read = sum(1 for _ in lines.stream_texts(path, None, []))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert read == (1 if name == "b.csv" else count)
    assert peaks[1] < peaks[0] + 100_000 + (2 * count * len(row) if name == "b.txt" else 0)


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


# ---- Paths ----


@pytest.mark.parametrize("read", [read_table, load_acl_imdb, read_vector_file, load_tensors])
def test_what_is_no_file_is_refused_and_nothing_waits_for_a_pipe(read, tmp_path):
    paths = {
        tmp_path / "missing": "missing.* (does not exist|cannot be read)",
        tmp_path: "is a folder|cannot be read|holds no reviews",
        "a\0b.csv": "cannot be read: embedded null byte",
        "x" * 5000: "cannot be read: .*File name too long",
        "~nobody-of-this-name/x.csv": "cannot be read: Could not determine home",
        os.devnull: "neither a file nor a folder",
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        paths[tmp_path / "pipe"] = "pipe is neither a file nor a folder"
    for path, message in paths.items():
        with pytest.raises(DataError, match=message) as caught:
            read(path)
        assert len(str(caught.value)) < 400


def test_known_names_are_found_in_the_data_folder_packed_or_not(tmp_path, monkeypatch):
    monkeypatch.delenv("LSTM_SENTIMENT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert present(["a.csv"]) == []  # the usual folder may be missing
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("b.csv", "a.csv.zip", "a.csv"):
        (folder / name).touch()
    known = ["a.csv", "missing.csv", "b.csv"]
    assert list(map(str, present(known))) == ["data/a.csv", "data/a.csv.zip", "data/b.csv"]
    monkeypatch.setenv("LSTM_SENTIMENT_DATA", str(folder))
    (folder / "missing.csv").symlink_to(folder / "gone.csv")
    with pytest.raises(DataError, match=r"missing\.csv is a link to .*gone\.csv, which does not"):
        present(known)
