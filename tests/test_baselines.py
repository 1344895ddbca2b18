"""The bag-of-words baseline reads negation and the LSTM's tokens; nn.LSTM can stand in for ours."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from lstm_sentiment.baselines import (
    TorchLSTM,
    differences_from_torch,
    tfidf_logistic_regression,
    with_torch_lstm,
)
from lstm_sentiment.data import ReviewDataset, make_loader
from lstm_sentiment.lstm import LSTMLayer
from lstm_sentiment.model import SentimentLSTM

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
