"""Word vectors are found by name, trained here and kept, and put into the matrix exactly."""

from __future__ import annotations

import gensim.downloader
import gensim.models
import numpy as np
import pandas as pd
import pytest

from lstm_sentiment.embeddings import (
    build_embedding_matrix,
    load_word_vectors,
    train_word_vectors,
    training_key,
)
from lstm_sentiment.files.vectors import as_keyed_vectors
from lstm_sentiment.text import DataError, Vocabulary

WORDS = ["the", "good", "bad", "film", "Hollywood", "café"]


def random_matrix(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture
def vectors():
    return as_keyed_vectors(list(WORDS), random_matrix(len(WORDS), 5))


@pytest.fixture
def path(vectors, tmp_path):
    vectors.save_word2vec_format(tmp_path / "vectors.txt", sort_attr=None)
    return tmp_path / "vectors.txt"


def assert_same_vectors(actual, expected):
    assert actual.index_to_key == expected.index_to_key
    np.testing.assert_array_equal(actual.vectors, expected.vectors)


# ---- Where vectors come from ----


def test_a_path_is_read_whether_given_as_text_or_path(vectors, path):
    assert_same_vectors(load_word_vectors(str(path)), vectors)
    assert load_word_vectors(path, words=["good", "absent"]).index_to_key == ["good"]


def test_another_name_is_asked_of_gensim(path, tmp_path, monkeypatch):
    collection = {"glove-twitter-25": str(path)}
    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path / "gensim-data"))
    monkeypatch.setattr(gensim.downloader, "load", lambda name, return_path: collection[name])
    assert load_word_vectors("glove-twitter-25", words=["good"]).index_to_key == ["good"]


@pytest.mark.parametrize("name", ["absent.bin", "./absent", "a/b"])
def test_what_looks_like_a_path_is_not_looked_for_elsewhere(name):
    with pytest.raises(DataError, match=r"absent|a/b"):
        load_word_vectors(name)


# ---- Training on reviews ----


@pytest.fixture(scope="module")
def token_lists():
    """Texts in which good/fine and bad/awful stand in the same places."""
    rng = np.random.default_rng(0)
    frames = {("good", "fine"): "loved this warm story", ("bad", "awful"): "hated that cold plot"}
    groups = [(rng.choice(pair), frame.split()) for pair, frame in list(frames.items()) * 300]
    return [[*frame, str(word), *frame] for word, frame in groups]


TRAINING = {"vector_size": 12, "epochs": 4, "min_count": 2}


def test_words_used_alike_get_like_vectors_and_the_seed_decides(token_lists, data_home):
    first, other = (train_word_vectors(token_lists, **TRAINING, seed=seed) for seed in (1, 2))
    assert first.vector_size == 12
    assert first.similarity("good", "fine") > first.similarity("good", "awful") + 0.2
    for path in data_home.iterdir():
        path.unlink()
    assert_same_vectors(train_word_vectors(token_lists, **TRAINING, seed=1), first)
    assert not np.array_equal(other.vectors, first.vectors)


def test_vectors_are_kept_for_the_same_texts_and_settings_only(token_lists, data_home, monkeypatch):
    trained = train_word_vectors(pd.Series(token_lists), **TRAINING)
    train_word_vectors(token_lists[1:], **TRAINING)
    train_word_vectors(token_lists, **TRAINING | {"vector_size": 13})
    assert len(list(data_home.iterdir())) == 3
    assert training_key([["new york"]], {}) != training_key([["new", "york"]], {})
    monkeypatch.setattr(gensim.models, "Word2Vec", None)  # nothing can be trained
    assert_same_vectors(train_word_vectors(token_lists, **TRAINING), trained)


def test_damaged_kept_vectors_are_trained_and_kept_again(token_lists, data_home, monkeypatch):
    trained = train_word_vectors(token_lists, **TRAINING)
    (path,) = data_home.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.warns(UserWarning, match="trained again"):
        assert_same_vectors(train_word_vectors(token_lists, **TRAINING), trained)
    monkeypatch.setattr(gensim.models, "Word2Vec", None)  # nothing can be trained
    assert_same_vectors(train_word_vectors(token_lists, **TRAINING), trained)


def test_vectors_that_cannot_be_kept_are_returned_all_the_same(token_lists, data_home):
    data_home.rmdir()
    data_home.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="could not be kept"):
        assert "good" in train_word_vectors(token_lists, **TRAINING)


def test_own_vectors_are_trained_on_texts_or_tokens_and_limited_to_words(token_lists, data_home):
    texts = [" ".join(tokens) + "!" for tokens in token_lists]
    trained = train_word_vectors(token_lists, 12)
    assert_same_vectors(load_word_vectors("own", texts=texts, vector_size=12), trained)
    vectors = load_word_vectors("own", words=["good", "absent"], texts=texts, vector_size=12)
    assert vectors.index_to_key == ["good"]
    np.testing.assert_array_equal(vectors["good"], trained["good"])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no word occurs 5 times in the 0 texts"),
        ([["good", "film"]], "no word occurs 5 times"),
        ("a good film " * 100, "list of strings, got a str"),
    ],
)
def test_training_needs_texts_with_frequent_words(data_home, texts, message):
    with pytest.raises(DataError, match=message):
        load_word_vectors("own", texts=texts)


# ---- The embedding matrix ----


@pytest.fixture
def vocabulary():
    words = ["<pad>", "<unk>", "the", "good", "zzyzx", "hollywood", "qwx"]
    return Vocabulary(words, [0, 10, 50, 20, 12, 5, 3])


def test_row_i_is_the_vector_of_word_i_and_coverage_counts_the_others(vocabulary, vectors):
    matrix, coverage = build_embedding_matrix(vocabulary, vectors)
    assert matrix.shape == (len(vocabulary), vectors.vector_size)
    assert matrix.dtype == np.float32
    for word, found in (("the", "the"), ("good", "good"), ("hollywood", "Hollywood")):
        np.testing.assert_array_equal(matrix[vocabulary[word]], vectors[found])
    assert not matrix[0].any()
    assert (coverage.type_share, coverage.token_share) == (3 / 5, 75 / 100)
    assert coverage.misses == [("zzyzx", 12), ("qwx", 3)]
    uncounted = Vocabulary(vocabulary.words, [0] * 7)
    assert build_embedding_matrix(uncounted, vectors)[1].token_share == 0


def test_words_without_a_vector_get_seeded_random_rows_of_like_spread(vectors):
    words = ["<pad>", "<unk>", *WORDS, *(f"unknown{i}" for i in range(2_000))]
    vocabulary = Vocabulary(words, np.ones(len(words), dtype=int))
    matrix, again, other = (
        build_embedding_matrix(vocabulary, vectors, seed)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(matrix, again)
    unknown = np.r_[1, 8 : len(words)]
    assert (matrix[unknown] != other[unknown]).all()
    assert matrix[unknown].std() == pytest.approx(vectors.vectors.std(), rel=0.05)


def test_vectors_that_are_of_another_language_or_not_finite_are_refused(vocabulary, vectors):
    with pytest.raises(DataError, match=r"no word of the vocabulary .* another language"):
        build_embedding_matrix(vocabulary, as_keyed_vectors(["gut"], random_matrix(1, 5)))
    for number in (np.nan, np.inf):
        vectors.vectors[1, 3] = number
        with pytest.raises(DataError, match="NaN or infinity"):
            build_embedding_matrix(vocabulary, vectors)
