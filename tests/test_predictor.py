"""A saved model gives the same answers as the one that was trained; anything else is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from lstm_sentiment.classifier import SentimentPredictor, _model_digest, write_submission
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.text import DataError, Vocabulary

TEXTS = ["A good film!", "bad, bad, bad", "Not a word of it known: qwertz.", "", "film " * 500]


@pytest.fixture
def predictor():
    vocabulary = Vocabulary(["<pad>", "<unk>", "a", "good", "bad", "film"], [0, 5, 9, 4, 3, 2])
    torch.manual_seed(0)
    matrix = torch.randn(len(vocabulary), 4)
    matrix[0] = 0
    model = SentimentLSTM(matrix, 3, bidirectional=True, pooling="mean_max", dropout=0.5)
    return SentimentPredictor(model, vocabulary, max_length=50, keep="head_and_tail")


@pytest.mark.filterwarnings("ignore:.*hold no word")
def test_save_and_load_give_the_same_predictions(predictor, tmp_path):
    predictor.save(tmp_path / "model")
    loaded = SentimentPredictor.load(tmp_path / "model")
    assert (loaded.predict_proba(TEXTS) == predictor.predict_proba(TEXTS)).all()
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]


@pytest.mark.filterwarnings("ignore:.*hold no word")
def test_predictions_are_probabilities_and_their_sides(predictor):
    table = predictor.predict(TEXTS)
    assert len(table) == len(TEXTS)
    assert table["probability"].between(0, 1).all()
    assert ((table["probability"] >= 0.5) == (table["sentiment"] == "positive")).all()
    assert predictor.predict([]).empty


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "qwertz",
        "\u4e00\u90e8\u597d\u7535\u5f71",
        "\U0001f44d" * 9,
        "<br />",
        "\ud83d",
        "word " * 100_000,
    ],
)
def test_a_text_that_says_nothing_to_the_model_gets_a_probability_and_a_warning(predictor, text):
    with pytest.warns(UserWarning, match=r"1 of 2 texts \(the first is number 2\) hold no word"):
        probabilities = predictor.predict_proba(["good", text])
    assert ((probabilities > 0) & (probabilities < 1)).all()


@pytest.mark.filterwarnings("error")
def test_a_very_long_text_gets_a_probability(predictor):
    assert 0 < predictor.predict_proba(["a good film " * 100_000])[0] < 1


@pytest.mark.parametrize("text", [None, 3, float("nan"), b"good"])
def test_what_is_no_text_is_refused(predictor, text):
    with pytest.raises(DataError, match="text must be a string, got"):
        predictor.predict(["good", text])


def test_one_text_where_a_list_is_expected_is_refused(predictor):
    for function in (predictor.predict, predictor.predict_proba):
        with pytest.raises(DataError, match="texts must be a list of strings, got a str"):
            function("a good film")


@pytest.mark.filterwarnings("ignore:.*hold no word")
def test_a_prediction_does_not_depend_on_its_company(predictor):
    together = predictor.predict_proba(TEXTS)
    alone = [predictor.predict_proba([text])[0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_vocabulary_of_another_size_is_refused(predictor):
    shorter = Vocabulary(predictor.vocabulary.words[:-1], predictor.vocabulary.counts[:-1])
    with pytest.raises(DataError, match=r"5 words, the model's embedding 6 rows"):
        SentimentPredictor(predictor.model, shorter, 50, "tail")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "max_length is 0; it must be a whole number, at least 1"),
        ({"max_length": 50.0}, "max_length is 50.0; it must be a whole number"),
        ({"keep": "middle"}, "keep must be one of .*, got 'middle'"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be a finite number above 0"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": 10**400}, "temperature is 1000"),
        ({"temperature": "1"}, "temperature is '1'; it must be a finite number above 0"),
        ({"vocabulary": ["<pad>", "<unk>", "a"]}, "vocabulary is a list; it must be a Vocabulary"),
    ],
)
def test_impossible_settings_are_named(predictor, options, message):
    settings = {"vocabulary": predictor.vocabulary, "max_length": 50, "keep": "tail", **options}
    with pytest.raises(ValueError, match=message):
        SentimentPredictor(predictor.model, **settings)


@pytest.mark.filterwarnings("error")
def test_settings_may_be_numbers_of_numpy(predictor, tmp_path):
    settings = (np.int64(50), "head_and_tail", np.float32(1.5))
    SentimentPredictor(predictor.model, predictor.vocabulary, *settings).save(tmp_path)
    loaded = SentimentPredictor.load(tmp_path)
    assert (loaded.max_length, loaded.temperature) == (50, 1.5)


def test_nothing_saved_is_said(tmp_path):
    with pytest.raises(DataError, match="Train a model first"):
        SentimentPredictor.load(tmp_path)


def _change_description(folder, **changes):
    """As if it had been saved with the changes, and with the weights as they are now."""
    path = folder / "model.json"
    description = json.loads(path.read_text()) | changes
    del description["sha256"]
    description["sha256"] = _model_digest(description, folder)
    path.write_text(json.dumps(description))


def _change_weights(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)
    _change_description(folder)


def _change_options(folder, **changes):
    options = json.loads((folder / "model.json").read_text())["model"]
    _change_description(folder, model=options | changes)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "model.json").write_text("[]"), "not a model of format"),
        (lambda folder: _change_description(folder, format=99), "not a model of format"),
        (lambda folder: _change_description(folder, model={"hidden": 3}), "are no model"),
        (lambda folder: _change_options(folder, dropout=2), "are no model .*dropout is 2"),
        (lambda folder: _change_options(folder, hidden_size=6000), "not that of the weights"),
        (lambda folder: _change_options(folder, num_layers=20_000), "not that of the weights"),
        (lambda folder: _change_description(folder, model=[]), "are no model"),
        (
            lambda folder: (folder / "model.json").write_text("[" * 200_000 + "]" * 200_000),
            "cannot be read",
        ),
        (lambda folder: _change_description(folder, vocabulary={"words": []}), "are no model"),
        (lambda folder: _change_description(folder, temperature=None), "temperature is None"),
        (lambda folder: _change_description(folder, temperature=10**400), "temperature is 1000"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-10]
            ),
            "cannot be read",
        ),
        (
            lambda folder: _change_weights(
                folder, lambda weights: {"output.bias": weights["output.bias"]}
            ),
            "are no model",
        ),
        (
            lambda folder: _change_weights(
                folder, lambda weights: weights | {"embedding.weight": torch.zeros(0, 4)}
            ),
            r"are no model .*embedding_matrix has shape \(0, 4\)",
        ),
        (
            lambda folder: _change_weights(
                folder, lambda weights: weights | {"output.weight": torch.tensor(1.0)}
            ),
            "are no model",
        ),
        (
            lambda folder: _change_weights(
                folder, lambda weights: weights | {"output.bias": torch.tensor([torch.nan])}
            ),
            r"output.bias hold numbers that are NaN or infinite",
        ),
    ],
)
def test_a_damaged_or_foreign_model_is_refused_with_the_reason(
    predictor, tmp_path, damage, message
):
    predictor.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=message):
        SentimentPredictor.load(tmp_path)


def test_killed_between_the_two_files_the_model_is_refused(predictor, tmp_path, monkeypatch):
    predictor.save(tmp_path)
    with torch.no_grad():
        predictor.model.output.bias += 1

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lstm_sentiment.classifier.replacing", killed)
    with pytest.raises(KeyboardInterrupt):
        predictor.save(tmp_path)
    with pytest.raises(DataError, match="of different trainings"):
        SentimentPredictor.load(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_flipped_bit_anywhere_is_refused(predictor, tmp_path, name):
    predictor.save(tmp_path)
    path = tmp_path / name
    good = path.read_bytes()
    for position in range(0, len(good), len(good) // 50):
        damaged = bytearray(good)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            SentimentPredictor.load(tmp_path)


def test_the_submission_is_what_kaggle_asks_for(tmp_path):
    path = tmp_path / "new" / "predictions.csv"
    write_submission(["positive", "negative", "positive"], path)
    assert path.read_text() == "ID,sentiment\n1,positive\n2,negative\n3,positive\n"
    assert pd.read_csv(path)["ID"].tolist() == [1, 2, 3]


def one_way(temperature=1.0):
    vocabulary = Vocabulary(["<pad>", "<unk>", "a", "good", "bad", "film"], [0, 5, 9, 4, 3, 2])
    torch.manual_seed(0)
    matrix = torch.randn(len(vocabulary), 4)
    matrix[0] = 0
    return SentimentPredictor(SentimentLSTM(matrix, 3), vocabulary, 50, "tail", temperature)


def test_temperature_makes_probabilities_more_cautious_and_changes_no_verdict(tmp_path):
    sure, cautious = one_way(), one_way(temperature=2.0)
    texts = ["a good film", "bad", "a bad film"]
    ours, theirs = sure.predict(texts), cautious.predict(texts)
    assert (ours["sentiment"] == theirs["sentiment"]).all()
    logit = np.log(ours["probability"] / (1 - ours["probability"]))
    np.testing.assert_allclose(theirs["probability"], 1 / (1 + np.exp(-logit / 2)), atol=1e-5)
    cautious.save(tmp_path)
    assert SentimentPredictor.load(tmp_path).temperature == 2.0


def test_a_stream_ends_where_the_whole_text_does():
    predictor = one_way(temperature=1.5)
    stream = predictor.stream()
    assert stream.read("") == 0.5
    for piece in ("A good", "film,", "", "not bad at all!"):
        probability = stream.read(piece)
    assert stream.state_bytes == predictor.stream().state_bytes > 0
    whole = predictor.predict_proba(["A good film, not bad at all!"])[0]
    assert probability == pytest.approx(whole, abs=1e-5)


def test_word_by_word_names_each_word_and_ends_with_the_verdict():
    predictor = one_way(temperature=1.5)
    table = predictor.word_by_word("A good film, isn't it?")
    assert table["word"].tolist() == ["a", "good", "film", "is", "not", "it"]
    whole = predictor.predict_proba(["A good film, isn't it?"])[0]
    assert table["probability"].iloc[-1] == pytest.approx(whole, abs=1e-5)
    gates = table[["forget_gate", "input_gate", "output_gate"]]
    assert ((gates > 0) & (gates < 1)).all(axis=None)
    with pytest.raises(DataError, match="no word"):
        predictor.word_by_word("...")


def test_what_reads_backward_cannot_stream(predictor):
    with pytest.raises(ValueError, match="bidirectional"):
        predictor.stream()


def test_a_model_with_numbers_of_numpy_is_saved(tmp_path):
    matrix = np.zeros((4, 3), np.float32)
    model = SentimentLSTM(matrix, hidden_size=np.int64(2), dropout=np.float32(0.5))
    vocabulary = Vocabulary(["<pad>", "<unk>", "good", "bad"], [0, 5, 4, 3])
    SentimentPredictor(model, vocabulary, max_length=9, keep="head").save(tmp_path)
    assert SentimentPredictor.load(tmp_path).model.options == model.options


def test_a_loaded_model_has_no_dropout(predictor, tmp_path):
    predictor.save(tmp_path)
    loaded = SentimentPredictor.load(tmp_path)
    assert not any(module.training for module in loaded.model.modules())
