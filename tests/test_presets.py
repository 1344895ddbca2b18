"""Presets: each of the systems by others is built as described, from text to network."""

from __future__ import annotations

import pytest

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.lstm import LSTMCell, RNNCell
from lstm_sentiment.studies import presets
from lstm_sentiment.studies.presets import LANGUAGE_MODEL, PRESETS, REPORT
from lstm_sentiment.training import TrainingConfig

TEXTS = [["a", "good", "film"] * 9, ["a", "bad", "film"], ["good"], ["bad", "bad"]] * 3
LABELS = [1, 0, 1, 0] * 3

# As their authors describe them: cell, D, H, spatial and recurrent dropout.
SYSTEMS = {
    "lab8-rnn": (RNNCell, 64, 128, 0.0, 0.0),
    "lab8-lstm": (LSTMCell, 64, 128, 0.0, 0.0),
    "practical11": (LSTMCell, 128, 128, 0.2, 0.2),
    "experiment9-baseline": (LSTMCell, 32, 32, 0.0, 0.0),
    "experiment9-tuned": (LSTMCell, 128, 64, 1 - (1 - 0.3) * (1 - 0.2), 0.2),
    "day17": (LSTMCell, 64, 64, 0.0, 0.0),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds_and_trains_the_network_described(name):
    cell, vector_size, hidden_size, spatial, recurrent = SYSTEMS[name]
    classifier = SentimentClassifier(**PRESETS[name])
    classifier.fit(TEXTS, LABELS, validation=(TEXTS[:4], LABELS[:4]))
    model = classifier.model_
    assert [type(cell) for cell in model.lstm.cells] == [cell]
    assert (model.embedding.embedding_dim, model.lstm.hidden_size) == (vector_size, hidden_size)
    assert model.embedding.weight.requires_grad
    assert model.spatial_dropout.p == pytest.approx(spatial)
    assert model.lstm.recurrent_dropout == recurrent
    assert model.embedding_dropout.p == model.dropout.p == 0
    assert model.pooling == "last"
    assert len(classifier.history_) == 5
    assert (classifier.max_length_, classifier.keep) == (200, "tail")


def test_every_system_is_there_and_the_reports_is_the_classifiers_default():
    assert PRESETS.keys() == SYSTEMS.keys()
    assert SentimentClassifier(**REPORT).get_params() == SentimentClassifier().get_params()


def test_every_setting_of_a_study_differs_and_is_one_of_the_classifiers():
    for settings in (presets.ABLATION, presets.FULL_LENGTH, PRESETS):
        complete = {
            str(SentimentClassifier(**parameters).get_params()) for parameters in settings.values()
        }
        assert len(complete) == len(settings)
    sizes = ("hidden_size", "dropout")
    training = {name: value for name, value in LANGUAGE_MODEL.items() if name not in sizes}
    assert TrainingConfig(**training).embedding_rate_factor == 1.0
