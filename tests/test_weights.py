"""What comes with the package: small, described, and as good as its cards say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lstm_sentiment.data import load_reviews
from lstm_sentiment.embeddings import load_word_vectors
from lstm_sentiment.files.keep import load_tensors
from lstm_sentiment.predictor import TextPredictor
from lstm_sentiment.weights import FOLDER, weights_file

ROOT = Path(__file__).parents[1]
NAMES = ("vectors", "language_model", "classifier")


@pytest.fixture(scope="module")
def shipped():
    return TextPredictor.from_pretrained()


@pytest.mark.parametrize("name", NAMES)
def test_each_has_its_card_with_command_data_limits_and_licence(name):
    card = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    command = f"python -m lstm_sentiment.studies.weights {name.replace('_', '-')}"
    for part in (command, "**Data.**", "**Limits.**", "**Licence.**"):
        assert part in card, part


def test_all_are_small_and_there_is_nothing_else():
    files = {path.stem: path.stat().st_size for path in FOLDER.glob("*.safetensors")}
    assert files.keys() == set(NAMES)
    assert sum(files.values()) < 26e6


def test_the_classifier_is_one_small_forward_lstm(shipped):
    lstm = shipped.model_.lstm
    assert (lstm.num_layers, lstm.bidirectional, type(lstm).__name__) == (1, False, "LSTMLayer")
    assert lstm.hidden_size <= 256
    assert len(shipped.vocabulary_) <= 25_000
    assert shipped.classes_.tolist() == ["negative", "positive"]


@pytest.mark.parametrize(("name", "plain", "turned"), [("short", 0.95, 0.85), ("blind", 0.92, 0.8)])
def test_it_judges_sentences_negated_ones_too(shipped, name, plain, turned):
    assert shipped.predict(["A wonderful film.", "Don't bother."]).tolist() == (
        ["positive", "negative"]
    )
    table = pd.read_csv(ROOT / "tests" / "data" / f"{name}_sentences.csv")
    right = pd.Series(shipped.predict(table["review"]) == table["sentiment"])
    shares = right.groupby(table["kind"]).mean()
    assert shares["plain"] >= plain
    assert shares["turned"] >= turned


def test_rounding_word_vectors_to_8_bits_costs_nothing(shipped):
    """As they were rounded, they are moved once more, by up to half a step."""
    reviews = load_reviews("bundle")[0].iloc[::25]
    weight = shipped.model_.embedding.weight
    before, original = shipped.predict_proba(reviews["review"])[:, 1], weight.detach().clone()
    step = weight.detach().abs().amax(dim=1, keepdim=True) / 127
    torch.manual_seed(0)
    with torch.no_grad():
        weight += (torch.rand(weight.shape) - 0.5) * step
        after = shipped.predict_proba(reviews["review"])[:, 1]
        weight.copy_(original)
    is_positive = (reviews["sentiment"] == "positive").to_numpy()
    accuracies = [np.mean((p >= 0.5) == is_positive) for p in (before, after)]
    assert len(reviews) > 900
    assert abs(accuracies[0] - accuracies[1]) <= 0.001


def test_vectors_and_language_model_know_what_reviewers_write():
    vectors = load_word_vectors("imdb")
    assert (len(vectors), vectors.vector_size) == (39_912, 200)
    assert vectors.similarity("awful", "terrible") > vectors.similarity("awful", "guitar") + 0.3
    tensors, settings = load_tensors(weights_file("language_model"))
    assert len(settings["words"]) == len(tensors["embedding.weight"]) == 25_000
    perplexities = [epoch["validation_perplexity"] for epoch in settings["history"]]
    card = (FOLDER / "language_model.md").read_text(encoding="utf-8")
    assert all(f"{value:.1f}" in card for value in perplexities)


def test_the_report_uses_no_model_that_may_have_learnt_its_test_reviews():
    notebook = (ROOT / "notebooks" / "report.ipynb").read_text(encoding="utf-8")
    assert "from_pretrained(" not in notebook.replace("Embedding.from_pretrained(", "")
    assert "weights_file(" not in notebook.replace("kept_vectors(weights_file(", "")
