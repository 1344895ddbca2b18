"""The language model: its loss is the one defined, it learns, goes on where it stopped, is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
from recorded import RECORDED
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from lstm_sentiment.fast import cross_entropy as fast_cross_entropy
from lstm_sentiment.fast.cross_entropy import cross_entropy
from lstm_sentiment.files.keep import load_tensors
from lstm_sentiment.studies import language_model
from lstm_sentiment.studies.language_model import (
    NEXT_WORD,
    PIECE_LENGTH,
    LanguageModel,
    perplexity,
    pretrained_language_model,
    text_pieces,
)
from lstm_sentiment.text import DataError, Vocabulary, tokenize
from lstm_sentiment.training import TrainingConfig, train

TEXTS = [("the film was good and the end was not bad " * 3).split()] * 24
VOCABULARY = Vocabulary.from_tokens(TEXTS)
TRAINING = {"batch_size": 4, "learning_rate": 0.02, "embedding_rate_factor": 1.0}


def vectors(seed=0):
    matrix = np.random.default_rng(seed).normal(0, 0.3, (len(VOCABULARY), 6)).astype(np.float32)
    matrix[0] = 0
    return matrix


def fresh_model(dropout=0.0):
    torch.manual_seed(0)
    return LanguageModel(vectors(), VOCABULARY.counts, hidden_size=12, dropout=dropout)


def batch_of(*texts):
    """Word indices, padded, and lengths."""
    token_lists = [torch.tensor(VOCABULARY.encode(text)) for text in texts]
    return pad_sequence(token_lists, batch_first=True), torch.tensor(list(map(len, texts)))


def cross_entropy_of_pytorch(x, weight, bias, targets):
    return functional.cross_entropy(functional.linear(x, weight, bias), targets)


def pretrained(texts=TEXTS, start=None, epochs=3, **settings):
    start = vectors() if start is None else start
    settings = {"hidden_size": 12, "dropout": 0.2, "epochs": epochs, **TRAINING, **settings}
    return pretrained_language_model(texts, TEXTS[:2], VOCABULARY, start, **settings)


@pytest.mark.parametrize(("n", "words"), [(1, 2), (300, 7), (1500, 1100)])
def test_cross_entropy_and_its_gradients_equal_pytorchs(n, words):
    torch.manual_seed(0)
    inputs = [torch.randn(shape, requires_grad=True) for shape in ((n, 5), (words, 5), (words,))]
    targets = torch.randint(words, (n,))
    ours, theirs = cross_entropy(*inputs, targets), cross_entropy_of_pytorch(*inputs, targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    gradients = [torch.autograd.grad(2 * loss, inputs) for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        torch.autograd.grad(cross_entropy(*inputs, targets), inputs, create_graph=True)


@torch.no_grad()
def test_the_loss_is_that_of_the_next_word_among_all_words():
    model = fresh_model().eval()
    ids, lengths = batch_of(["the", "film", "was", "not", "bad"])
    h = c = torch.zeros(1, 12)
    losses = []
    for word, following in zip(ids[0, :-1], ids[0, 1:], strict=True):
        h, c = model.lstm.cells[0](model.embedding(word)[None], (h, c))
        scores = model.projection(h) @ model.embedding.weight[1:].t() + model.bias
        losses.append(-scores.log_softmax(1)[0, following - 1])
    assert model(ids, lengths).item() == pytest.approx(np.mean(losses), rel=1e-5)


@torch.no_grad()
def test_padding_changes_nothing_and_every_word_counts_once():
    model = fresh_model().eval()
    long, short = TEXTS[0], TEXTS[0][:4]
    alone = [model(*batch_of(text)) for text in (long, short)]
    expected = np.average(alone, weights=[len(long) - 1, 3])
    assert model(*batch_of(long, short)).item() == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_in_training_scores_are_corrected_for_how_seldom_a_word_is_in_a_batch():
    model = fresh_model().train()
    ids, lengths = batch_of(["film", "was", "good"])
    words = ids[0].sort().values
    outputs, _ = model.lstm(model.embedding(ids))
    predicted = model.projection(outputs[0, :2])
    present = 1 - (1 - model.shares[words]) ** 2  # of two words that are predicted
    bias = model.bias[words - 1] - present.log()
    targets = torch.searchsorted(words, ids[0, 1:])
    expected = cross_entropy_of_pytorch(predicted, model.embedding(words), bias, targets)
    assert model(ids, lengths).item() == pytest.approx(expected.item(), rel=1e-5)


def test_dropout_acts_in_training_and_judging_changes_neither_that_nor_weights(monkeypatch):
    monkeypatch.setattr(fast_cross_entropy, "weight_gradient", None)  # none is computed
    model, dataset = fresh_model(dropout=0.5).train(), text_pieces(TEXTS[:1], VOCABULARY)
    assert perplexity(model, dataset) == perplexity(model, dataset)
    assert model.training
    with torch.no_grad():
        assert model(*batch_of(TEXTS[0])) != model(*batch_of(TEXTS[0]))


def test_it_learns_what_follows_what_and_the_last_epoch_is_kept():
    dataset = text_pieces(TEXTS, VOCABULARY)
    model = fresh_model()
    before = perplexity(model, dataset)["perplexity"]
    history = train(model, dataset, dataset, TrainingConfig(epochs=12, **TRAINING), NEXT_WORD)
    after = history["validation_perplexity"].iloc[-1]
    assert before > 5
    assert after < 1.5, "all but the words after 'was' and 'the' follow from the one before"
    assert perplexity(model, dataset)["perplexity"] == pytest.approx(after)
    assert after == pytest.approx(np.exp(history["validation_loss"].iloc[-1]))
    assert history["is_best"].all()
    assert not model.embedding.weight[0].any()


def test_numbers_are_those_recorded_when_it_had_a_loop_of_its_own():
    texts = list(dict.fromkeys(RECORDED["texts"]))
    token_lists = [[tokenize(texts[row]) for row in part] for part in RECORDED["split"][:2]]
    vocabulary = Vocabulary.from_tokens(token_lists[0])
    assert vocabulary.words == RECORDED["vocabulary"]
    torch.manual_seed(1)
    matrix = np.array(RECORDED["matrix"], dtype=np.float32)
    model = LanguageModel(matrix, vocabulary.counts, 8, 0.1)
    shapes = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    assert shapes == RECORDED["parameters"]["language model"]
    config = TrainingConfig(epochs=2, batch_size=8, seed=1, embedding_rate_factor=1.0)
    sets = [text_pieces(lists, vocabulary) for lists in token_lists]
    history = train(model, *sets, config, NEXT_WORD)
    found = history[["train_loss", "validation_perplexity"]]
    np.testing.assert_allclose(found, RECORDED["language_model"], rtol=1e-4)


@pytest.fixture
def trainings(monkeypatch):
    """Counts the calls of `train`."""
    counted = Mock(wraps=train)
    monkeypatch.setattr(language_model, "train", counted)
    return counted


def test_what_is_kept_serves_again_and_other_texts_vectors_or_settings_do_not(data_home, trainings):
    path = pretrained()
    assert {found.suffix for found in data_home.iterdir()} == {".safetensors", ".lock"}
    tensors, settings = load_tensors(path)
    assert settings["words"] == VOCABULARY.words
    assert tensors["counts"].tolist() == VOCABULARY.counts.tolist()
    assert [row["epoch"] for row in settings["history"]] == [1, 2, 3]
    assert pretrained() == path
    assert trainings.call_count == 1
    others = {"dropout": 0.3}, {"texts": TEXTS[1:]}, {"start": vectors(seed=1)}, {"epochs": 2}
    assert len({path, *(pretrained(**other) for other in others)}) == trainings.call_count == 5


def test_a_second_process_waits_and_takes_what_the_first_has_made(data_home, trainings):
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: pretrained(epochs=1), range(2))
    assert first == second
    assert trainings.call_count == 1


def test_an_interrupted_run_goes_on_and_ends_like_one_that_was_not(data_home, monkeypatch, capsys):
    expected, whole = load_tensors(pretrained())
    for path in data_home.iterdir():
        path.unlink()
    first, *_ = whole["history"]
    score = {name: first[f"validation_{name}"] for name in ("loss", "perplexity")}
    judged = Mock(side_effect=[score, KeyboardInterrupt])
    with monkeypatch.context() as context:
        context.setattr(language_model, "NEXT_WORD", NEXT_WORD._replace(score=judged))
        with pytest.raises(KeyboardInterrupt):
            pretrained()
    assert {path.suffix for path in data_home.iterdir()} == {".checkpoint", ".lock"}
    torch.manual_seed(99)
    judged = Mock(wraps=perplexity)
    monkeypatch.setattr(language_model, "NEXT_WORD", NEXT_WORD._replace(score=judged))
    tensors, settings = load_tensors(pretrained())
    assert judged.call_count == 2, "the first epoch is not repeated"
    assert "the language model goes on from" in capsys.readouterr().out
    assert not list(data_home.glob("*.checkpoint"))
    torch.testing.assert_close(tensors, expected, rtol=0, atol=0)
    histories = [pd.DataFrame(kept["history"]).assign(seconds=0) for kept in (settings, whole)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)


def test_long_texts_are_cut_into_pieces_and_those_of_one_word_left_out():
    texts = [["good"] * 900, ["bad"], [], ["film", "good"]]
    dataset = text_pieces(texts, VOCABULARY)
    assert sorted(dataset.lengths) == [2, 900 - 2 * PIECE_LENGTH, PIECE_LENGTH, PIECE_LENGTH]
    with pytest.raises(DataError, match="two words"):
        text_pieces([["good"], []], VOCABULARY)
