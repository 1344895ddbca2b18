"""The tables and pictures of word vectors compare what they say they compare."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lstm_sentiment.files.vectors import as_keyed_vectors
from lstm_sentiment.report import words as word_tables
from lstm_sentiment.text import Vocabulary

WORDS = ["the", "good", "bad", "film", "Hollywood", "café"]


def random_matrix(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture
def vectors():
    return as_keyed_vectors(list(WORDS), random_matrix(len(WORDS), 5))


def test_pairs_are_compared_and_those_without_a_vector_marked(vectors):
    pairs = [("good", "bad", "opposite"), ("good", "absent", "synonym"), ("the", "the", "same")]
    table = word_tables.cosine_table(vectors, pairs)
    a, b = vectors["good"], vectors["bad"]
    assert table["relation"].tolist() == ["opposite", "synonym", "same"]
    expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b), np.nan, 1.0]
    np.testing.assert_allclose(table["cosine_similarity"], expected, rtol=1e-5)


def test_relations_have_a_mean_with_students_interval():
    similarities = [0.1, 0.2, 0.3, np.nan, 0.8, 0.9]  # no vector, no influence
    table = pd.DataFrame({"relation": ["x"] * 4 + ["y"] * 2, "cosine_similarity": similarities})
    result = word_tables.mean_by_relation(table)
    assert result["pairs"].tolist() == [3, 2]
    assert result["mean"].tolist() == pytest.approx([0.2, 0.85])
    margin = 4.302653 * 0.1 / np.sqrt(3)  # the table of t, two degrees of freedom
    assert result.loc["x", ["low", "high"]].tolist() == pytest.approx([0.2 - margin, 0.2 + margin])


def test_nearest_words_come_in_their_order_and_from_the_frequent_ones():
    directions = np.array([[1, 0], [1, 1], [0, 1], [1, 0.1]])
    space = as_keyed_vectors(["sun", "moon", "star", "rare"], directions)
    table = word_tables.nearest_words({"sky": space}, ["sun"], n=2, among=3)
    assert table["sun", "sky"].tolist() == ["moon (0.71)", "star (0.00)"]


def test_words_of_feeling_of_film_making_and_others_are_chosen_from_those_with_vectors():
    frequent = [f"word{i}" for i in range(30)]
    chosen = ["great", "superb", "excellent", "awful", "boring", "story", "actor", "scenes"]
    words = ["<pad>", "<unk>", *frequent, *chosen, "perfect"]
    vocabulary = Vocabulary(words, range(len(words), 0, -1))
    vectors = as_keyed_vectors([*frequent, *chosen], random_matrix(38, 4))
    table = word_tables.choose_words(vocabulary, vectors, n=8)
    groups = {group: rows["word"].tolist() for group, rows in table.groupby("group")}
    assert groups == {
        "positive": ["great", "superb"],  # at most a quarter each, the most frequent
        "negative": ["awful", "boring"],
        "film": ["story", "actor"],
        "other": ["word0", "word1"],
    }
    counts = dict(zip(words, vocabulary.counts, strict=True))
    assert table["count"].tolist() == [counts[word] for word in table["word"]]
    everything = word_tables.choose_words(vocabulary, vectors, n=300)
    assert sorted(everything["word"]) == sorted(vectors.index_to_key)


def test_projection_keeps_directions_and_tells_what_each_axis_explains(vectors):
    longer = as_keyed_vectors(list(WORDS), vectors.vectors * np.arange(1, 7)[:, None])
    coordinates, shares = word_tables.project(vectors, WORDS, 3)
    assert coordinates.shape == (6, 3)
    np.testing.assert_allclose(coordinates, word_tables.project(longer, WORDS, 3)[0], atol=1e-5)
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    singular_values = np.linalg.svd(unit - unit.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(shares, (singular_values**2 / (singular_values**2).sum())[:3], 1e-4)


def test_mean_cosines_are_those_of_all_pairs(vectors):
    words = pd.DataFrame({"word": WORDS[:5], "group": ["a", "b", "b", "a", "a"]})
    table = word_tables.mean_cosines(vectors, words)
    of_a, of_b = ["the", "film", "Hollywood"], ["good", "bad"]
    within = [vectors.similarity(x, y) for x in of_a for y in of_a if x < y]
    assert table.loc["a", "a"] == pytest.approx(np.mean(within), abs=1e-6)
    across = np.mean([vectors.similarity(x, y) for x in of_a for y in of_b])
    assert table.loc["a", "b"] == pytest.approx(across, abs=1e-6) == table.loc["b", "a"]


def test_separation_is_the_area_under_the_roc_curve_of_each_axis_whatever_its_direction():
    groups = ["good", "good", "bad", "bad", "other"]
    coordinates = np.array([[3, 1, 1], [4, 0, 3], [1, 2, 2], [2, 5, 4], [9, 9, 9.0]])
    found = word_tables.separation(coordinates, groups, ["good"], ["bad"])
    assert found.tolist() == [1.0, 1.0, 0.75]
