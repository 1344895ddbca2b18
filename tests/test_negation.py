"""Sentences made to negate and turn: read aloud, each has the sentiment that its label says."""

from __future__ import annotations

import re

import pytest

from lstm_sentiment.studies.negation import (
    KEEPING,
    LAST_WINS,
    REVERSING,
    adjectives,
    made_sentences,
    patterns,
)

GOOD = [["a", "very", "fine", "film", "so", "moving"]] * 15
BAD = [["a", "very", "dull", "film", "too", "slow", "really", "long"]] * 15
REVIEWS = [*GOOD, *BAD, *[["very", "long"]] * 12, *[["so", "rare"]] * 7]
LABELS = [1] * 15 + [0] * 15 + [1] * 19


@pytest.fixture(scope="module")
def many():
    """Labels of sentences, of each pattern some hundred."""
    sentences, labels = made_sentences(REVIEWS, LABELS, 40_000)
    return {" ".join(words): int(label) for words, label in zip(sentences, labels, strict=True)}


def test_adjectives_follow_very_and_have_the_sentiment_of_their_reviews():
    assert adjectives(REVIEWS, LABELS) == [("dull", "slow"), ("fine", "moving")]


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("it is not fine", 0),
        ("hardly dull", 1),
        ("it is dull but moving", 1),
        ("i expected a gem and got a mess", 0),
        ("not only fine but moving", 1),
        ("it could not be better", 1),
        ("without skill", 0),
        ("it did not bore me", 1),
    ],
)
def test_a_negation_reverses_the_last_of_two_wins_and_other_words_keep_their_sentiment(
    many, sentence, label
):
    assert many[sentence] == label


def test_half_are_positive_the_same_seed_gives_the_same_and_every_pattern_can_be_filled():
    sentences, labels = made_sentences(REVIEWS, LABELS, 2_000, seed=1)
    assert 0.4 < labels.mean() < 0.6
    assert made_sentences(REVIEWS, LABELS, 2_000, seed=1)[0] == sentences
    everything = [pattern for text in (REVERSING, LAST_WINS, KEEPING) for pattern in patterns(text)]
    assert len(everything) == len(set(everything)) > 90
    assert not [word for words in sentences for word in words if not re.fullmatch(r"[\w]+", word)]
