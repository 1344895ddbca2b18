"""The bag-of-words baseline reads negation and the same tokens as the LSTM."""

from __future__ import annotations

import numpy as np

from lstm_sentiment.baselines import tfidf_logistic_regression

TEXTS = ["a good film", "a bad film", "it isn't good", "it isn't bad"] * 5
LABELS = np.array([1, 0, 0, 1] * 5)


def test_word_pairs_tell_good_from_not_good():
    # No weighting of single words can do this: "good" and "not" each occur equally in both classes.
    model = tfidf_logistic_regression(TEXTS, LABELS)
    assert model.predict(["good film", "bad film", "it is not good", "not bad"]).tolist() == [
        1,
        0,
        0,
        1,
    ]


def test_probabilities_are_of_the_positive_class():
    model = tfidf_logistic_regression(TEXTS, LABELS.astype(np.float32))
    positive, negative = model.predict_proba(["a good film", "a bad film"])[:, 1]
    assert negative < 0.5 < positive


def test_tokens_are_those_of_the_package_tokenizer():
    model = tfidf_logistic_regression(["<br />Didn't WORK"] * 2 + ["fine"] * 2, [0, 0, 1, 1])
    expected = ["did", "did not", "fine", "not", "not work", "work"]
    assert model[0].get_feature_names_out().tolist() == expected


def test_words_seen_once_carry_no_weight():
    model = tfidf_logistic_regression([*TEXTS, "a unique film"], [*LABELS, 1])
    assert "unique" not in model[0].vocabulary_
