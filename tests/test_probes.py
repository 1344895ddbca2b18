"""Groups of reviews, copies, gradients, gates and the memory task are what they are said to be."""

from __future__ import annotations

from collections import Counter
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.evaluation import wilson_interval
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.report import probes
from lstm_sentiment.report.search import search
from lstm_sentiment.text import normalised_text, tokenize
from lstm_sentiment.training import TrainingConfig


def small_model(**options) -> SentimentLSTM:
    torch.manual_seed(0)
    matrix = torch.randn(8, 4)
    matrix[0] = 0
    return SentimentLSTM(matrix, 3, **options)


# Groups of reviews


def test_groups_of_length_hold_every_review_once_in_order():
    rng = np.random.default_rng(1)
    labels, lengths = rng.integers(0, 2, 300), rng.integers(5, 900, 300)
    probabilities = 1 / (1 + np.exp(-(2 * labels - 1) - rng.normal(0, 1.2, 300)))
    table = probes.accuracy_by_length(labels, probabilities, lengths)
    right, last = (probabilities >= 0.5) == labels, 0
    for row in table.itertuples():
        shortest, longest = map(int, row.range.split("-"))
        group = right[(shortest <= lengths) & (lengths <= longest)]
        assert shortest > last
        assert (row.n, row.accuracy) == (len(group), pytest.approx(group.mean()))
        assert row.low < row.accuracy < row.high
        last = longest
    assert table["n"].sum() == 300
    assert table["n"].between(55, 65).all()
    of_one_length = probes.accuracy_by_length([1, 0, 1], [0.9, 0.1, 0.1], [7, 7, 7])
    assert of_one_length[["range", "n"]].to_numpy().tolist() == [["7-7", 3]]


def test_accuracy_is_that_of_groups_by_negations_per_hundred_words():
    fine = ["fine"]
    reviews = [
        [],
        fine * 9,
        ["nothing", *fine * 149],
        ["never", *fine * 99],  # one in a hundred: the lower end belongs to it
        ["not", "no", "nor", *fine * 103],
        ["without", "hope"],
        tokenize("It didn't work"),
    ]
    probabilities = [0.9, 0.9, 0.9, 0.1, 0.9, 0.8, 0.1]
    table = probes.accuracy_by_negation([1, 0, 1, 1, 1, 1, 0], probabilities, reviews)
    assert table["range"].tolist() == ["none", "under 1", "1 to 2", "2 to 3", "3 and more"]
    assert table["n"].tolist() == [2, 1, 1, 1, 2]
    assert table["accuracy"].tolist() == [0.5, 1, 0, 1, 1]
    assert table["positive"].tolist() == [0.5, 1, 1, 1, 0.5]
    assert table[["low", "high"]].iloc[0].tolist() == list(wilson_interval(1, 2))


# Copies and errors

PLOT = (
    "Two brothers inherit a lighthouse, quarrel about the lamp, sell the boat and discover that "
    "their father once kept a seal in the cellar; the ending is sad but the seal is wonderful."
)


def test_the_audit_counts_copies_and_near_duplicates_within_and_between_sets():
    sets = {
        "train": ["A <b>fine</b> film!", "a fine film", PLOT, "Dull."],
        "test": iter(["A fine film", f"{PLOT} 10/10", "Another one"]),
        "kaggle": [PLOT.upper(), f"My review: {PLOT}", f"{PLOT} 10/10", ""],
    }
    rows = [
        ("train", 4, "train", 2, 0),  # both copies; the plot is alone
        ("test", 3, "train", 1, 1),
        ("test", 3, "test", 0, 0),
        ("kaggle", 4, "train", 1, 2),
        ("kaggle", 4, "test", 1, 2),
        ("kaggle", 4, "kaggle", 0, 3),
    ]
    assert list(probes.audit(sets).itertuples(index=False, name=None)) == rows


short_texts = st.lists(st.text("ab <", max_size=3).map("a{}".format), max_size=8)


@given(short_texts, short_texts)
def test_exact_copies_are_those_of_comparing_each_text_with_each(train, test):
    table = probes.audit({"train": train, "test": test}).set_index(["set", "compared_with"])[
        "exact"
    ]
    known = set(map(normalised_text, train))
    assert table["test", "train"] == sum(normalised_text(text) in known for text in test)
    for name, texts in (("train", train), ("test", test)):
        sizes = Counter(map(normalised_text, texts)).values()
        assert table[name, name] == sum(size for size in sizes if size > 1)


def test_the_surest_errors_come_first_in_short_excerpts():
    long_review = "Bad.<br /><br />" + "very " * 500
    sentiments = ["positive"] * 3 + ["negative"] * 2
    reviews = pd.DataFrame(
        {"review": ["a", "b", long_review, "d", "e"], "sentiment": sentiments}, index=range(10, 15)
    )
    table = probes.misclassified(reviews, [0.9, 0.4, 0.05, 0.8, 0.1], n=2)
    assert table["probability"].to_dict() == {12: 0.05, 13: 0.8}
    assert table["excerpt"][12].startswith("Bad. very very")
    assert 100 < len(table["excerpt"][12]) <= 160


@pytest.mark.parametrize(
    ("n", "probabilities", "expected"),
    [
        (1, [0.5, 0.1, 0.1, 0.4, 0.3], "b"),
        (2, [0.5, 0.1, 0.1, 0.7, 0.9, 1.0], "e f"),
        (2, [0.8], "a"),
    ],
)
def test_the_words_that_decided_are_those_over_which_the_odds_move_most(n, probabilities, expected):
    words = list("abcdef")[: len(probabilities)]
    course = pd.DataFrame({"word": words, "probability": probabilities})
    classifier = Mock(word_by_word=lambda text: course)
    assert probes.decisive_words(classifier, "text", n) == expected


# Gradients and gates


def test_influence_is_the_gradient_relative_to_the_last_word():
    model = small_model(dropout=0.9)
    reviews = [[2, 3, 4, 5, 6], [7, 6, 5, 4], [2, 2]]  # the last is too short to tell
    table = probes.influence_by_distance(model, ReviewDataset(reviews), max_distance=3)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert table["distance"].tolist() == [0, 1, 2, 3]
    expected = []
    for review in reviews[:2]:
        vectors = model.embedding.weight[review][None].detach().requires_grad_()
        model.eval().classify(vectors, torch.tensor([len(review)])).backward()
        norms = vectors.grad[0].norm(dim=1).flip(0)[:4]
        expected.append((norms / norms[0]).tolist())
    np.testing.assert_allclose(table["median"], np.mean(expected, axis=0), rtol=1e-4)
    with pytest.raises(ValueError, match="longest review has 5 words"):
        probes.influence_by_distance(model, ReviewDataset(reviews), max_distance=5)


# Memory and order


def test_shuffling_keeps_each_reviews_words_and_label():
    dataset = ReviewDataset([[2, 3, 4, 5, 6, 7, 8, 9], [5, 5, 6], [1]], [1, 0, 1])
    other = probes.shuffled(dataset, seed=0)
    for row in range(3):
        ours, theirs = dataset[row][0].tolist(), other[row][0].tolist()
        assert Counter(ours) == Counter(theirs)
    assert dataset[0][0].tolist() != other[0][0].tolist()
    assert (dataset.labels == other.labels).all()


# The search


def test_a_search_has_a_row_for_every_pair_the_best_first():
    sets = [ReviewDataset([[2 + i % 2] * 3 for i in range(n)], [0, 1] * (n // 2)) for n in (40, 20)]
    config = TrainingConfig(epochs=2, embedding_rate_factor=1.0)
    table = search(small_model, *sets, config, [1e-4, 0.05], [8, 40])
    pairs = set(zip(table["learning_rate"], table["batch_size"], strict=True))
    assert pairs == {(1e-4, 8), (1e-4, 40), (0.05, 8), (0.05, 40)}
    assert table["validation_accuracy"].is_monotonic_decreasing
    assert tuple(table.loc[0, ["learning_rate", "batch_size"]]) == (0.05, 8)
    assert table["best_epoch"].between(1, 2).all()
