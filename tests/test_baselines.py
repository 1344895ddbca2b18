"""What ignores word order reads negation and the LSTM's tokens; nn.LSTM can stand in for ours."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy import sparse

from lstm_sentiment.data import ReviewDataset, make_loader
from lstm_sentiment.files.vectors import as_keyed_vectors
from lstm_sentiment.lstm import LSTMLayer
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.report.speed import TorchLSTM, differences_from_torch, with_torch_lstm
from lstm_sentiment.studies.baselines import (
    LogCountRatio,
    averaged_word_vectors,
    mean_word_vectors,
    nb_weighted_bigrams,
    tfidf_logistic_regression,
)
from lstm_sentiment.text import DataError

TEXTS = ["a good film", "a bad film", "it isn't good", "it isn't bad"] * 5
LABELS = np.array([1, 0, 0, 1] * 5)


BAGS_OF_WORDS = [tfidf_logistic_regression, nb_weighted_bigrams]


@pytest.mark.parametrize("fit", BAGS_OF_WORDS)
def test_word_pairs_tell_good_from_not_good(fit):
    # No weighting of single words can do this: "good" and "not" each occur equally in both classes.
    model = fit(TEXTS, LABELS)
    assert model.predict(["good film", "bad film", "it is not good", "not bad"]).tolist() == [
        1,
        0,
        0,
        1,
    ]


@pytest.mark.parametrize("fit", BAGS_OF_WORDS)
@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_probabilities_are_of_the_positive_class(fit, order):
    model = fit(TEXTS[order], LABELS[order].astype(np.float32))
    positive, negative = model.predict_proba(["a good film", "a bad film"])[:, 1]
    assert negative < 0.5 < positive


@pytest.mark.parametrize("fit", BAGS_OF_WORDS)
def test_unseen_words_change_nothing(fit):
    model = fit(TEXTS, LABELS)
    for text in ("a good film", ""):
        with_unseen, without = model.predict_proba([f"{text} zzz qqq", text])
        assert with_unseen.tolist() == without.tolist()


@pytest.mark.parametrize("fit", BAGS_OF_WORDS)
def test_tokens_are_those_of_the_package_tokenizer(fit):
    model = fit(["<br />Didn't WORK"] * 2 + ["fine"] * 2, [0, 0, 1, 1])
    expected = ["did", "did not", "fine", "not", "not work", "work"]
    assert model[0].get_feature_names_out().tolist() == expected


@pytest.mark.parametrize("fit", BAGS_OF_WORDS)
def test_words_seen_once_carry_no_weight(fit):
    model = fit([*TEXTS, "a unique film"], [*LABELS, 1])
    assert "unique" not in model[0].vocabulary_


# Columns: good, film, bad. Positive reviews: "good film", "good". Negative: "bad film", "bad".
COUNTS = sparse.csr_matrix([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]])


def test_log_count_ratio_by_hand():
    weigh = LogCountRatio().fit(COUNTS, [1, 1, 0, 0])
    # Smoothed counts are 3, 2, 1 in positive reviews and 1, 2, 3 in negative ones, 6 in each.
    expected = np.log([3 / 1, 2 / 2, 1 / 3])
    np.testing.assert_allclose(weigh.log_ratio_, expected)
    np.testing.assert_allclose(weigh.transform(COUNTS).toarray(), COUNTS.toarray() * expected)


def test_log_count_ratio_allows_for_classes_of_unequal_length():
    ratio = LogCountRatio().fit(COUNTS, [1, 0, 0, 0]).log_ratio_
    # Positive: (1, 1, 0) and negative: (1, 1, 2), each + 1.
    np.testing.assert_allclose(ratio, np.log([2 / 5, 2 / 5, 1 / 5]) - np.log([2 / 7, 2 / 7, 3 / 7]))


@pytest.mark.parametrize("labels", [[1, 1, 1, 1], [1, 1, 2, 2], [0, 1, 2, 2]])
def test_labels_other_than_0_and_1_are_refused(labels):
    with pytest.raises(ValueError, match="labels must be 0 and 1, both, got"):
        LogCountRatio().fit(COUNTS, labels)


VECTORS = as_keyed_vectors(
    ["good", "fine", "bad", "film"],
    np.array([[2, 0, 1], [1, 1, 0], [-2, 0, 1], [0, 4, 0]], dtype=np.float32),
)


def test_mean_word_vectors_counts_known_words_as_often_as_they_occur():
    means = mean_word_vectors([["good", "good", "zzz", "film"], ["zzz"], []], VECTORS)
    np.testing.assert_allclose(means, [[4 / 3, 4 / 3, 2 / 3], [0, 0, 0], [0, 0, 0]], rtol=1e-6)


def test_averaged_word_vectors_tell_words_by_their_vectors():
    token_lists = [["a", "good", "film"], ["a", "bad", "film"], ["good"], ["bad"]] * 5
    model = averaged_word_vectors(token_lists, [1, 0, 1, 0] * 5, VECTORS)
    unseen, negative = model.predict_proba([["fine"], ["bad"]])[:, 1]
    assert negative < 0.5 < unseen
    with_unknown, without = model.predict_proba([["bad", "zzz"], ["bad"]])
    assert with_unknown.tolist() == without.tolist()
    none_known, empty = model.predict_proba([["zzz"], []])
    assert none_known.tolist() == empty.tolist()


def test_texts_that_the_vectors_cannot_read_are_refused():
    with pytest.raises(DataError, match="no word of token_lists has a vector"):
        averaged_word_vectors([["gut"], ["schlecht"]], [1, 0], VECTORS)
    model = averaged_word_vectors([["good"], ["bad"]], [1, 0], VECTORS)
    with pytest.raises(ValueError, match="got strings; tokenize them first"):
        model.predict_proba(["a good film"])


def small_model(**options) -> SentimentLSTM:
    torch.manual_seed(0)
    matrix = torch.randn(9, 4)
    matrix[0] = 0
    return SentimentLSTM(matrix, 3, **options)


BATCH = next(
    iter(make_loader(ReviewDataset([[2, 3], [4, 5, 6, 7], [8]], [0, 1, 1]), 3, shuffle=False))
)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("pooling", ["last", "mean_max"])
def test_nn_lstm_stands_in_with_equal_logits_and_gradients(packed, pooling):
    ours = small_model(pooling=pooling)
    theirs = with_torch_lstm(ours, packed)
    logits = [model(BATCH.token_ids, BATCH.lengths) for model in (ours, theirs)]
    torch.testing.assert_close(*logits)
    for values in logits:
        values.square().sum().backward()
    torch.testing.assert_close(ours.embedding.weight.grad, theirs.embedding.weight.grad)


def test_two_directions_stand_in_packed_and_are_refused_on_padding():
    ours = small_model(bidirectional=True)
    theirs = with_torch_lstm(ours, packed=True)
    torch.testing.assert_close(
        ours(BATCH.token_ids, BATCH.lengths), theirs(BATCH.token_ids, BATCH.lengths)
    )
    with pytest.raises(ValueError, match="packed is False"):
        TorchLSTM(ours.lstm, packed=False)


def test_differences_from_torch_are_rounding_and_would_show_a_mistake(monkeypatch):
    for backend in ("reference", "fused"):
        differences = differences_from_torch(2, True, torch.float64, backend)
        assert differences.keys() == {"outputs", "final_states", "gradients"}
        assert max(differences.values()) < 1e-9

    original = LSTMLayer.from_torch.__func__

    def forgets_a_bias(cls, lstm, backend="fused"):
        changed = copy.deepcopy(lstm)
        torch.nn.init.zeros_(changed.bias_hh_l0)
        return original(cls, changed, backend)

    monkeypatch.setattr(LSTMLayer, "from_torch", classmethod(forgets_a_bias))
    assert min(differences_from_torch(1, False, torch.float64, "fused").values()) > 1e-4
