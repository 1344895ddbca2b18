"""Vector files of every format are read exactly, or refused with the reason."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lstm_sentiment.files import vectors as vector_files
from lstm_sentiment.files.vectors import as_keyed_vectors, read_vector_file
from lstm_sentiment.text import DataError

WORDS = ["the", "good", "bad", "film", "Hollywood", "café"]


def random_vectors(words=WORDS, dimension=5):
    matrix = np.random.default_rng(0).normal(size=(len(words), dimension)).astype(np.float32)
    return as_keyed_vectors(list(words), matrix)


def assert_same_vectors(actual, expected):
    assert actual.index_to_key == expected.index_to_key
    np.testing.assert_array_equal(actual.vectors, expected.vectors)


def write_vectors(path, vectors, form):
    """`form`: "text", "glove" (text without header) or "binary"; gzip when path ends in .gz."""
    vectors.save_word2vec_format(
        path, binary=form == "binary", write_header=form != "glove", sort_attr=None
    )
    return path


@pytest.fixture
def written(tmp_path):
    """Writes bytes to a file."""

    def write(content):
        path = tmp_path / "vectors.txt"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("form", ["text", "glove", "binary"])
@pytest.mark.parametrize("name", ["vectors", "vectors.gz"])
def test_each_format_reads_as_gensim_reads_it_or_only_the_words_asked_for(form, name, tmp_path):
    path = write_vectors(tmp_path / name, random_vectors(), form)
    expected = KeyedVectors.load_word2vec_format(
        path, binary=form == "binary", no_header=form == "glove"
    )
    assert_same_vectors(read_vector_file(path), expected)
    kept = ["bad", "Hollywood", "café"]
    assert_same_vectors(
        read_vector_file(path, words=["bad", "hollywood", "café", "absent"]),
        as_keyed_vectors(kept, expected[kept]),
    )


@settings(max_examples=50)
@given(
    matrix=st.tuples(st.integers(1, 6), st.integers(2, 40)).flatmap(
        lambda shape: arrays(
            np.float32, shape, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
        )
    ),
    form=st.sampled_from(["text", "binary"]),
)
def test_any_finite_vectors_come_back_exactly(matrix, form, tmp_path_factory):
    vectors = as_keyed_vectors([f"wörd{i}" for i in range(len(matrix))], matrix)
    path = write_vectors(tmp_path_factory.mktemp("vectors") / "vectors", vectors, form)
    assert_same_vectors(read_vector_file(path), vectors)


@pytest.mark.parametrize("form", ["text", "binary"])
@pytest.mark.parametrize("name", ["vectors", "vectors.gz"])
def test_memory_does_not_grow_with_the_file(form, name, tmp_path, monkeypatch):
    monkeypatch.setattr(vector_files, "READ_BYTES", 2**15)  # well below the size of either file

    def peak_while_reading(rows):
        words = [f"word{i}" for i in range(rows)]
        path = write_vectors(tmp_path / name, random_vectors(words, 100), form)
        tracemalloc.start()
        read_vector_file(path, words=["word0", "word7", f"word{rows - 1}"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_while_reading(10)  # the first reading imports what later ones find
    small, large = peak_while_reading(500), peak_while_reading(2_000)
    assert large < 1.2 * small


def test_the_last_numbers_of_a_row_are_the_vector_when_a_word_holds_blanks(written):
    path = written(b". 1 2\n. . . 3 4\ngood 5 6\nat me@home.org 7 8\n")
    assert read_vector_file(path).index_to_key == [".", ". . .", "good", "at me@home.org"]
    kept = read_vector_file(path, words=[".", "good", "at"])
    assert {word: list(kept[word]) for word in kept.index_to_key} == {".": [1, 2], "good": [5, 6]}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf2 2\ngood 1 2\nbad 3 4\n",
        b"\xef\xbb\xbfgood 1 2\nbad 3 4\n",
        b"2\t2\ngood\t1\t2\nbad\t3\t4\n",
        b"good\t1\t2\nbad\t3\t4\n",
        b"2  2\ngood  1  2\nbad  3   4\n",
        b"2 2\r\ngood 1 2 \r\nbad 3 4\r\n\r\n",
    ],
    ids=["mark", "mark, GloVe", "tabs", "tabs, GloVe", "several blanks", "Windows line ends"],
)
@pytest.mark.parametrize("words", [None, ["good", "bad"]])
def test_marks_tabs_blanks_and_line_ends_do_no_harm(written, content, words):
    vectors = read_vector_file(written(content), words)
    assert vectors.index_to_key == ["good", "bad"]
    assert vectors.vectors.tolist() == [[1, 2], [3, 4]]


def test_a_repeated_word_keeps_its_first_vector_and_is_counted(written):
    path = written(b"3 2\ngood 1 2\nbad 3 4\ngood 5 6\n")
    with pytest.warns(UserWarning, match="1 rows repeat a word"):
        assert read_vector_file(path)["good"].tolist() == [1, 2]


BINARY = b"2 3\n" + b"good " + np.float32([1, 2, 3]).tobytes() + b"bad " + bytes(12)
BROKEN_FILES = {
    "empty": (b"", "not a word-vector file"),
    "old Mac line ends": (b"2 2\rgood 1 2\rbad 3 4\r", "not a word-vector file"),
    "UTF-16": ("2 2\ngood 1 2\nbad 3 4\n".encode("utf-16"), "not a word-vector file"),
    "no numbers": (b"the film was good\n", "not a word-vector file"),
    "absurd dimension": (b"2 99999\ngood 1\n", "not a word-vector file"),
    "fewer rows": (b"3 2\ngood 1 2\nbad 3 4\n", "announces 3 rows, but there are 2"),
    "more rows": (b"1 2\ngood 1 2\nbad 3 4\n", "announces 1 rows, but there are 2"),
    "cut row": (b"2 3\ngood 1 2 3\nbad 4 5", "row 2 has fewer than 3 numbers"),
    "long row": (b"good 1 2 3\nbad 4 5 6 7\n", "row 2 has more than 3 numbers"),
    "no number": (b"2 2\ngood 1 2\nbad x 4\n", "row 2 is broken"),
    "NaN": (b"2 2\ngood 1 2\nbad nan 4\n", "row 2 holds a number that is NaN or infinite"),
    "infinite": (b"2 2\ngood 1 -inf\nbad 3 4\n", "row 1 holds a number that is NaN or infinite"),
    "binary cut off": (BINARY[:-5], "row 2 is cut off; 2 rows were announced"),
    "binary with more rows": (BINARY + b"film " + bytes(12), "2 rows, but more follow"),
    "binary NaN": (BINARY[:-12] + b"\xff" * 12, "row 2 holds a number that is NaN"),
    "other language": (b"2 2\ngut 1 2\nschlecht 3 4\n", "holds none of the words"),
    "gzip cut off": (gzip.compress(b"good 1 2\nbad 3 4\n" * 999)[:-20], "cannot be read"),
    "gzip damaged": (gzip.compress(b"good 1 2\n")[:-8] + b"\0" * 8, "cannot be read"),
    "gzip with a broken block": (gzip.compress(b"")[:10] + b"\xff" * 20, "cannot be read"),
}


@pytest.mark.parametrize(("content", "reason"), BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_broken_file_is_refused_with_its_name_and_the_reason(written, content, reason):
    path = written(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_vector_file(path, words=["good", "bad"])
    assert str(path) in str(caught.value)


@settings(max_examples=200)
@given(content=st.binary(max_size=80), header=st.sampled_from([b"", b"2 3\n", b"good 1 2\n"]))
def test_any_bytes_are_read_or_refused_never_a_crash(content, header, tmp_path_factory):
    path = tmp_path_factory.mktemp("vectors") / "vectors"
    path.write_bytes(header + content)
    try:
        vectors = read_vector_file(path)
    except DataError:
        return
    assert np.isfinite(vectors.vectors).all()
    assert len(vectors.vectors) == len(vectors.index_to_key)
