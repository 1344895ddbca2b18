"""The experiments on limits ask what they say they ask."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.report import probes as limits
from lstm_sentiment.report.probes import first_word_task, remembered_first_word, shuffled


def test_only_the_first_word_tells():
    dataset = first_word_task(200, 9, seed=1)
    assert set(dataset.lengths) == {9}
    words = dataset.flat_ids.reshape(200, 9)
    assert (words[:, 0] == 2 + dataset.labels).all()
    assert words[:, 1:].min() == 4, "the answers stand nowhere else"
    assert 60 < dataset.labels.sum() < 140
    assert not np.array_equal(words, first_word_task(200, 9, seed=2).flat_ids.reshape(200, 9))
    with pytest.raises(ValueError, match="length is 0"):
        first_word_task(10, 0, seed=0)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_what_is_near_is_learnt(cell):
    assert remembered_first_word(cell, length=3) > 0.95


def test_shuffling_keeps_each_reviews_words_and_label():
    dataset = ReviewDataset([[2, 3, 4, 5, 6, 7, 8, 9], [5, 5, 6], [1]], [1, 0, 1])
    other = shuffled(dataset, seed=0)
    for row in range(3):
        ours, theirs = dataset[row][0].tolist(), other[row][0].tolist()
        assert Counter(ours) == Counter(theirs)
    assert dataset[0][0].tolist() != other[0][0].tolist()
    assert (dataset.labels == other.labels).all()


def test_the_answers_are_to_sequences_that_neither_trained_nor_chose(monkeypatch):
    used = []
    monkeypatch.setattr(
        limits, "run_trial", lambda model, *sets_and_config: used.extend(sets_and_config[:2])
    )
    monkeypatch.setattr(
        limits, "score", lambda model, dataset: used.append(dataset) or {"accuracy": 1.0}
    )
    assert remembered_first_word("lstm", length=3) == 1.0
    assert [len(dataset) for dataset in used] == [1_000, 500, 500]
    assert not np.array_equal(used[1].flat_ids, used[2].flat_ids)
