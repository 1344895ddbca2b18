"""Configurations: each of the systems by others is built as described, text to network."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from lstm_sentiment.lstm import GRUCell, LSTMCell, RNNCell
from lstm_sentiment.studies.language_model import PretrainingConfig
from lstm_sentiment.studies.presets import (
    PRESETS,
    PRETRAINED,
    REPORT,
    Configuration,
    SelfTrainingConfig,
    build_model,
    prepare,
)
from lstm_sentiment.text import DataError

TOKENS = {
    "train": [["a", "good", "film"] * 9, ["a", "bad", "film"], ["good"], ["bad", "bad"]] * 3,
    "validation": [["good", "film", "unseen"], ["bad", "film"]],
}
LABELS = {"train": np.array([1.0, 0, 1, 0] * 3), "validation": np.array([1.0, 0])}
UNLABELLED = [["a", "very", "good", "film"], ["a", "very", "bad", "film"]] * 5


def prepared(configuration, unlabelled=UNLABELLED):
    return prepare(configuration, TOKENS, LABELS, TOKENS["train"], unlabelled)


# As their authors describe them: cell, D, H, spatial and recurrent dropout.
SYSTEMS = {
    "lab8-rnn": (RNNCell, 64, 128, 0.0, 0.0),
    "lab8-lstm": (LSTMCell, 64, 128, 0.0, 0.0),
    "practical11": (LSTMCell, 128, 128, 0.2, 0.2),
    "experiment9-baseline": (LSTMCell, 32, 32, 0.0, 0.0),
    "experiment9-tuned": (LSTMCell, 128, 64, 1 - (1 - 0.3) * (1 - 0.2), 0.2),
    "day17": (LSTMCell, 64, 64, 0.0, 0.0),
}


def test_every_system_is_there():
    assert PRESETS.keys() == SYSTEMS.keys()


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_preset_builds_the_network_described(name):
    cell, vector_size, hidden_size, spatial, recurrent = SYSTEMS[name]
    configuration = PRESETS[name]
    parts = prepared(configuration, unlabelled=[])
    model = build_model(configuration, parts)
    assert type(model.lstm.cells[0]) is cell
    assert model.lstm.num_layers == 1
    assert not model.lstm.bidirectional
    assert model.embedding.embedding_dim == vector_size
    assert model.embedding.weight.requires_grad
    assert model.lstm.hidden_size == hidden_size
    assert model.spatial_dropout.p == pytest.approx(spatial)
    assert model.lstm.recurrent_dropout == recurrent
    assert model.pooling == "last"
    assert configuration.max_words == 10_000
    training = configuration.training
    assert (training.epochs, training.batch_size) == (5, 64)
    assert (training.learning_rate, training.embedding_rate_factor) == (1e-3, 1.0)
    assert training.schedule == "constant"
    assert training.clip_norm == 1e9
    assert not model.embedding.weight[0].any()
    assert 0 < model.embedding.weight.abs().max() <= 0.05


def test_the_cells_of_all_kinds_can_be_chosen():
    for name, cell in {"lstm": LSTMCell, "gru": GRUCell, "rnn": RNNCell}.items():
        configuration = REPORT.but({"cell": name}, vectors=None)
        assert type(build_model(configuration, prepared(configuration)).lstm.cells[0]) is cell


def test_reviews_become_indices_of_the_chosen_length(data_home):
    configuration = Configuration(vectors=None, vector_size=4, max_length=5, keep="head")
    parts = prepared(configuration)
    words = parts.vocabulary.words
    assert {"good", "bad", "film", "a"} == set(words[2:])
    first = parts.datasets["train"][0][0].tolist()
    assert [words[index] for index in first] == ["a", "good", "film", "a", "good"]
    unseen = parts.datasets["validation"][0][0].tolist()
    assert [words[index] for index in unseen] == ["good", "film", "<unk>"]
    assert parts.datasets["train"].labels.tolist() == LABELS["train"].tolist()
    chosen = prepared(replace(configuration, max_length=None)).max_length
    assert 1 < chosen < 27, "padding to the longest review would be padding for the most part"


def test_what_changes_is_what_was_asked_for_and_the_original_stays():
    before = asdict(REPORT)
    other = REPORT.but({"pooling": "mean_max"}, {"seed": 3}, keep="head")
    assert asdict(REPORT) == before
    assert other.model == {**REPORT.model, "pooling": "mean_max"}
    assert other.training == replace(REPORT.training, seed=3)
    assert other.keep == "head"
    assert json.loads(json.dumps(asdict(other)))["training"]["seed"] == 3


def test_the_vocabulary_is_as_large_as_asked_and_the_length_is_the_training_reviews():
    configuration = Configuration(vectors=None, vector_size=4, min_count=1, max_words=4)
    parts = prepared(configuration)
    assert parts.vocabulary.words == ["<pad>", "<unk>", "a", "film"], "the most frequent"
    longer = {**TOKENS, "validation": [["good"] * 500, ["bad"] * 500]}
    others = prepare(configuration, longer, LABELS, TOKENS["train"], UNLABELLED)
    assert others.max_length == parts.max_length < 500


def test_the_seed_decides_on_the_first_weights():
    configuration = Configuration(vectors=None, vector_size=4, model={"hidden_size": 3})
    parts = prepared(configuration)

    def weights(seed):
        return build_model(configuration.but(training={"seed": seed}), parts).output.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_a_pretrained_model_starts_from_the_language_model(data_home):
    configuration = PRETRAINED.but(
        {"hidden_size": 6},
        min_count=1,
        vectors=None,
        vector_size=4,
        pretraining=PretrainingConfig(hidden_size=6, epochs=1, batch_size=4),
    )
    parts = prepare(configuration, TOKENS, LABELS, UNLABELLED, UNLABELLED)
    assert "very" in parts.vocabulary
    model = build_model(configuration, parts)
    assert torch.equal(model.embedding.weight, parts.language_model.embedding.weight)


@pytest.mark.parametrize(
    ("texts", "training", "message"),
    [
        (0, {}, "texts is 0"),
        (5, {"epochs": 0}, "epochs is 0"),
        (5, {"epoch": 3}, "training of self_training: .*'epoch'"),
    ],
)
def test_a_second_training_that_cannot_be_is_refused_at_once(texts, training, message):
    with pytest.raises(ValueError, match=message):
        SelfTrainingConfig(texts, training)


@pytest.mark.parametrize(
    "options", [{"hidden_size": 7}, {"bidirectional": True}, {"num_layers": 2}, {"cell": "gru"}]
)
def test_what_cannot_start_from_the_language_model_is_refused_at_once(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PRETRAINED.but(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": {"hiden": 3}}, r"model has the options \['hiden'\]; it may have .*hidden_size"),
        ({"model": {"embedding_matrix": 3}}, "embedding_matrix"),
        ({"model": {"hidden_size": 0}}, "hidden_size is 0"),
        ({"model": {"hidden_size": 2.5}}, r"hidden_size is 2\.5"),
        ({"model": {"num_layers": 0}}, "num_layers is 0"),
        ({"max_length": 0}, "max_length is 0"),
        ({"max_length": 2.5}, r"max_length is 2\.5"),
        ({"keep": "x"}, "keep must be one of"),
        ({"min_count": 0}, "min_count is 0"),
        ({"max_words": 0}, "max_words is 0"),
        ({"vector_size": 0}, "vector_size is 0"),
    ],
)
def test_impossible_options_are_named_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        REPORT.but(**options)


def test_vectors_that_are_trained_here_need_texts():
    with pytest.raises(DataError, match="texts"):
        prepared(REPORT, unlabelled=[])
