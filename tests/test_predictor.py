"""A saved model gives the same answers as the one that was trained; anything else is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from lstm_sentiment.data import DataError
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.predictor import SentimentPredictor, write_submission
from lstm_sentiment.text import Vocabulary

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
        ({"max_length": 0}, "max_length must be a whole number of at least 1, got 0"),
        ({"max_length": 50.0}, "max_length must be a whole number of at least 1, got 50.0"),
        ({"keep": "middle"}, "keep must be one of .*, got 'middle'"),
        ({"temperature": 0.0}, "temperature must be a finite number above 0, got 0.0"),
        ({"temperature": -1}, "temperature must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"temperature": float("inf")}, "temperature must be"),
        ({"temperature": "1"}, "temperature must be a finite number above 0, got '1'"),
    ],
)
def test_impossible_settings_are_named(predictor, options, message):
    settings = {"max_length": 50, "keep": "tail", **options}
    with pytest.raises(ValueError, match=message):
        SentimentPredictor(predictor.model, predictor.vocabulary, **settings)


def test_nothing_saved_is_said(tmp_path):
    with pytest.raises(DataError, match="Train a model first"):
        SentimentPredictor.load(tmp_path)


def _change_description(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "model.json").write_text("[]"), "not a model of format"),
        (lambda folder: _change_description(folder, format=99), "not a model of format"),
        (lambda folder: _change_description(folder, model={"hidden": 3}), "are no model"),
        (lambda folder: _change_description(folder, model={"hidden_size": 7}), "are no model"),
        (lambda folder: _change_description(folder, vocabulary={"words": []}), "are no model"),
        (lambda folder: _change_description(folder, temperature=None), "temperature must be"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(
                (folder / "model.safetensors").read_bytes()[:-10]
            ),
            "cannot be read",
        ),
        (
            lambda folder: save_file(
                {"output.bias": load_file(folder / "model.safetensors")["output.bias"]},
                folder / "model.safetensors",
            ),
            "are no model",
        ),
        (
            lambda folder: save_file(
                load_file(folder / "model.safetensors")
                | {"output.bias": torch.tensor([torch.nan])},
                folder / "model.safetensors",
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
