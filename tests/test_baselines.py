"""What ignores word order reads negation and the LSTM's tokens."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from lstm_sentiment.files.vectors import as_keyed_vectors
from lstm_sentiment.studies.baselines import (
    LogCountRatio,
    averaged_word_vectors,
    mean_word_vectors,
    nb_weighted_bigrams,
    tfidf_logistic_regression,
)
from lstm_sentiment.text import DataError, tokenize

TEXTS = ["a good film", "a bad film", "it isn't good", "it isn't bad"] * 5
LABELS = np.array([1, 0, 0, 1] * 5)
bags_of_words = pytest.mark.parametrize("fit", [tfidf_logistic_regression, nb_weighted_bigrams])


@bags_of_words
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_word_pairs_tell_good_from_not_good_and_unseen_words_change_nothing(fit, order):
    # No weighting of single words can do this: "good" and "not" each occur equally in both classes.
    texts = ["good film", "bad film", "it is not good", "not bad"]
    model = fit(TEXTS[order], LABELS[order].astype(np.float32))
    positive = model.predict_proba(texts)[:, 1]
    assert (positive > 0.5).tolist() == [True, False, False, True]
    with_unseen, empty = model.predict_proba(["good film zzz qqq", ""])[:, 1]
    assert with_unseen == positive[0]
    assert empty != positive[0]


@bags_of_words
def test_texts_and_their_tokens_are_the_same_to_it(fit):
    token_lists = [tokenize(text) for text in TEXTS]
    of_texts, of_tokens = fit(TEXTS, LABELS), fit(token_lists, LABELS)
    expected = of_texts.predict_proba(TEXTS)
    for model, texts in ((of_tokens, token_lists), (of_tokens, TEXTS), (of_texts, token_lists)):
        np.testing.assert_array_equal(model.predict_proba(texts), expected)


@bags_of_words
def test_tokens_are_those_of_the_package_and_words_seen_once_carry_no_weight(fit):
    model = fit([*["<br />Didn't WORK"] * 2, *["fine"] * 2, "a unique film"], [0, 0, 1, 1, 1])
    expected = ["did", "did not", "fine", "not", "not work", "work"]
    assert model[0].get_feature_names_out().tolist() == expected


# Columns: good, film, bad. Positive reviews: "good film", "good". Negative: "bad film", "bad".
COUNTS = sparse.csr_matrix([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]])


@pytest.mark.parametrize(
    ("labels", "ratio"),
    [
        # Smoothed counts are 3, 2, 1 in positive reviews and 1, 2, 3 in negative ones, 6 in each.
        ([1, 1, 0, 0], [3 / 1, 2 / 2, 1 / 3]),
        # Here they are 2, 2, 1 of 5 and 2, 2, 3 of 7.
        ([1, 0, 0, 0], [7 / 5, 7 / 5, 7 / 5 / 3]),
    ],
)
def test_log_count_ratio_by_hand(labels, ratio):
    weigh = LogCountRatio().fit(COUNTS, labels)
    np.testing.assert_allclose(weigh.log_ratio_, np.log(ratio), atol=1e-12)
    expected = COUNTS.toarray() * np.log(ratio)
    np.testing.assert_allclose(weigh.transform(COUNTS).toarray(), expected, atol=1e-12)


@pytest.mark.parametrize("labels", [[1, 1, 1, 1], [1, 1, 2, 2], [0, 1, 2, 2]])
def test_labels_other_than_0_and_1_are_refused(labels):
    with pytest.raises(ValueError, match="labels must be 0 and 1, both, got"):
        LogCountRatio().fit(COUNTS, labels)


VECTORS = as_keyed_vectors(
    ["good", "fine", "bad", "film"],
    np.array([[2, 0, 1], [1, 1, 0], [-2, 0, 1], [0, 4, 0]], dtype=np.float32),
)


def test_mean_word_vectors_counts_known_words_as_often_as_they_occur():
    means = mean_word_vectors(["Good, good zzz film!", ["zzz"], []], VECTORS)
    np.testing.assert_allclose(means, [[4 / 3, 4 / 3, 2 / 3], [0, 0, 0], [0, 0, 0]], rtol=1e-6)


def test_averaged_word_vectors_tell_words_by_their_vectors():
    texts = [["a", "good", "film"], "A bad film", ["good"], ["bad"]] * 5
    model = averaged_word_vectors(texts, [1, 0, 1, 0] * 5, VECTORS)
    unseen, negative = model.predict_proba([["fine"], ["bad"]])[:, 1]
    assert negative < 0.5 < unseen
    with pytest.raises(DataError, match="no word of the texts has a vector"):
        averaged_word_vectors([["gut"], ["schlecht"]], [1, 0], VECTORS)
