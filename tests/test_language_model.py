"""The language model: its loss is the one defined, it learns, goes on where it stopped, is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from lstm_sentiment.data import ReviewDataset, make_loader
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.studies import language_model
from lstm_sentiment.studies.language_model import (
    PIECE_LENGTH,
    LanguageModel,
    PretrainingConfig,
    cross_entropy,
    perplexity,
    pretrain,
    pretrained_language_model,
    start_from,
    text_pieces,
)
from lstm_sentiment.text import DataError, Vocabulary

TEXTS = [("the film was good and the end was not bad " * 3).split()] * 24
VOCABULARY = Vocabulary.from_tokens(TEXTS)
FAST = PretrainingConfig(hidden_size=12, epochs=4, batch_size=4, learning_rate=0.02, dropout=0.2)


def vectors(seed=0):
    matrix = np.random.default_rng(seed).normal(0, 0.3, (len(VOCABULARY), 6)).astype(np.float32)
    matrix[0] = 0
    return matrix


def fresh_model(dropout=0.0):
    torch.manual_seed(0)
    return LanguageModel(vectors(), VOCABULARY.counts, hidden_size=12, dropout=dropout)


@pytest.mark.parametrize(("n", "words"), [(1, 2), (300, 7), (1500, 1100)])
def test_cross_entropy_and_its_gradients_equal_pytorchs(n, words):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(n, 5), torch.randn(words, 5), torch.randn(words)
    targets = torch.randint(words, (n,))
    results = []
    for function in (
        cross_entropy,
        lambda x, w, b, t: functional.cross_entropy(functional.linear(x, w, b), t),
    ):
        inputs = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
        loss = function(*inputs, targets)
        (2 * loss).backward()
        results.append((loss.detach(), *(tensor.grad for tensor in inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_loss_is_that_of_the_next_word_among_all_words():
    model = fresh_model().eval()
    ids = torch.tensor([VOCABULARY.encode(["the", "film", "was", "not", "bad"])])
    h = c = torch.zeros(1, 12)
    losses = []
    with torch.no_grad():
        for word, following in zip(ids[0, :-1], ids[0, 1:], strict=True):
            h, c = model.lstm.cells[0](model.embedding(word)[None], (h, c))
            scores = model.projection(h) @ model.embedding.weight[1:].t() + model.bias
            losses.append(-scores.log_softmax(1)[0, following - 1])
        assert model(ids, torch.tensor([5])).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_padding_changes_nothing_and_every_word_counts_once():
    model = fresh_model().eval()
    long, short = VOCABULARY.encode(TEXTS[0]), VOCABULARY.encode(TEXTS[0][:4])
    batch = torch.tensor([long, short + [0] * (len(long) - 4)])
    with torch.no_grad():
        together = model(batch, torch.tensor([len(long), 4])).item()
        alone = [model(torch.tensor([ids]), torch.tensor([len(ids)])) for ids in (long, short)]
    weights = [len(long) - 1, 3]
    assert together == pytest.approx(np.average(alone, weights=weights), rel=1e-5)


def test_with_every_word_in_the_batch_the_sampled_loss_is_the_whole_one():
    model = fresh_model()
    ids = torch.tensor([VOCABULARY.encode(tokens) for tokens in TEXTS])
    model.shares = torch.full_like(model.shares, 0.5)  # each is there with probability 1 - 2^-700
    model.shares[0] = 0
    with torch.no_grad():
        model.bias[0] = -100.0  # the unknown word is not
        lengths = torch.full((len(ids),), ids.shape[1])
        sampled, whole = model.train()(ids, lengths), model.eval()(ids, lengths)
    assert sampled.item() == pytest.approx(whole.item(), rel=1e-5)


def test_in_training_scores_are_corrected_for_how_seldom_a_word_is_in_a_batch():
    model = fresh_model().train()
    ids = torch.tensor([VOCABULARY.encode(["film", "was", "good"])])
    words = ids[0].sort().values
    with torch.no_grad():
        outputs, _ = model.lstm(model.embedding(ids))
        predicted = model.projection(outputs[0, :2])
        present = 1 - (1 - model.shares[words]) ** 2  # of two words that are predicted
        scores = predicted @ model.embedding(words).t() + model.bias[words - 1] - present.log()
        targets = torch.tensor([(words == word).nonzero().item() for word in ids[0, 1:]])
        expected = functional.cross_entropy(scores, targets)
        assert model(ids, torch.tensor([3])).item() == pytest.approx(expected.item(), rel=1e-5)


def test_it_learns_what_follows_what(tmp_path):
    dataset = text_pieces(TEXTS, VOCABULARY)
    model = fresh_model()
    before = perplexity(model, dataset)
    history = pretrain(model, dataset, dataset, replace(FAST, epochs=12), tmp_path / "checkpoint")
    after = history["validation_perplexity"].iloc[-1]
    assert before > 5
    assert after < 1.5, "all but the words after 'was' and 'the' follow from the one before"
    assert perplexity(model, dataset) == pytest.approx(after)
    assert not model.embedding.weight[0].any()


def test_an_interrupted_run_ends_like_one_that_was_not(tmp_path, monkeypatch):
    dataset = text_pieces(TEXTS, VOCABULARY)
    whole = fresh_model(FAST.dropout)
    expected = pretrain(whole, dataset, dataset, FAST, tmp_path / "whole")

    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return perplexity(*arguments)

    monkeypatch.setattr(language_model, "perplexity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(fresh_model(FAST.dropout), dataset, dataset, FAST, tmp_path / "part")
    monkeypatch.undo()
    resumed = fresh_model(FAST.dropout)
    torch.manual_seed(99)
    history = pretrain(resumed, dataset, dataset, FAST, tmp_path / "part")
    columns = ["epoch", "training_loss", "validation_perplexity", "torch"]
    assert history[columns].equals(expected[columns])
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_trained_model_is_kept_and_another_setting_is_another(data_home, monkeypatch):
    arguments = (TEXTS, VOCABULARY, vectors(), TEXTS[:2])
    first, history = pretrained_language_model(*arguments, FAST)
    assert {path.suffix for path in data_home.iterdir()} == {".safetensors", ".lock"}

    def fail(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(language_model, "pretrain", fail)
    second, history_again = pretrained_language_model(*arguments, FAST)
    pd.testing.assert_frame_equal(history_again, history)
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    others = [
        (*arguments, replace(FAST, dropout=0.3)),
        (TEXTS[1:], *arguments[1:], FAST),
        (TEXTS, VOCABULARY, vectors(seed=1), TEXTS[:2], FAST),
    ]
    for other in others:
        with pytest.raises(AssertionError, match="trained again"):
            pretrained_language_model(*other)


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept[:-9],
        lambda kept: b"",
        lambda kept: b"{}" * 99,
        lambda kept: kept[:-9] + bytes([kept[-9] ^ 1]) + kept[-8:],
        lambda kept: kept.replace(b'epoch\\":1', b'epoch\\":7'),
    ],
)
def test_a_damaged_kept_model_is_refused(data_home, damage):
    arguments = (TEXTS, VOCABULARY, vectors(seed=0), TEXTS[:2], replace(FAST, epochs=1))
    pretrained_language_model(*arguments)
    (path,) = data_home.glob("language-model-*.safetensors")
    kept = path.read_bytes()
    path.write_bytes(damage(kept))
    assert path.read_bytes() != kept
    with pytest.raises(DataError, match=f"{path.name}.*delete it, and it is trained again"):
        pretrained_language_model(*arguments)


def test_the_classifier_starts_from_its_vectors_and_lstm():
    trained = fresh_model()
    model = SentimentLSTM(np.zeros((len(VOCABULARY), 6)), hidden_size=12)
    start_from(model, trained)
    assert torch.equal(model.embedding.weight, trained.embedding.weight)
    for ours, theirs in zip(model.lstm.parameters(), trained.lstm.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(ValueError, match="other sizes"):
        start_from(SentimentLSTM(np.zeros((len(VOCABULARY), 6)), hidden_size=13), trained)


def test_dropout_and_clipping_act_in_training(tmp_path):
    dataset = text_pieces(TEXTS, VOCABULARY)

    def last_loss(clip_norm):
        config = replace(FAST, epochs=2, clip_norm=clip_norm)
        history = pretrain(fresh_model(), dataset, dataset, config, tmp_path / f"{clip_norm}")
        return history["training_loss"].iloc[-1]

    assert last_loss(1e-9) > 1.1 * last_loss(100.0), "Adam's epsilon is larger than the gradient"
    model = fresh_model(dropout=0.5).train()
    (batch,) = make_loader(dataset, len(dataset), shuffle=False)
    first, second = (model(batch.token_ids, batch.lengths).item() for _ in range(2))
    assert first != second


def test_judging_the_language_model_leaves_it_in_training():
    model = fresh_model(dropout=0.5).train()
    perplexity(model, text_pieces(TEXTS, VOCABULARY))
    assert model.training


def test_long_texts_are_cut_into_pieces_and_those_of_one_word_left_out():
    texts = [["good"] * 900, ["bad"], [], ["film", "good"]]
    dataset = text_pieces(texts, VOCABULARY)
    assert sorted(dataset.lengths) == [2, 900 - 2 * PIECE_LENGTH, PIECE_LENGTH, PIECE_LENGTH]
    assert isinstance(dataset, ReviewDataset)
    with pytest.raises(DataError, match="two words"):
        text_pieces([["good"], []], VOCABULARY)


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    dataset = text_pieces(TEXTS, VOCABULARY)
    model = fresh_model()
    with torch.no_grad():
        model.projection.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="language model"):
        pretrain(model, dataset, dataset, FAST, tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden_size", 0),
        ("epochs", 0),
        ("epochs", 1.5),
        ("batch_size", 0),
        ("batch_size", "32"),
        ("learning_rate", 0),
        ("learning_rate", np.inf),
        ("clip_norm", np.nan),
        ("dropout", -0.1),
        ("dropout", 1),
        ("seed", -1),
    ],
)
def test_impossible_settings_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} is"):
        PretrainingConfig(**{name: value})


def test_evaluation_computes_no_gradients(monkeypatch):
    def fail(*_):
        raise AssertionError("a gradient was computed")

    monkeypatch.setattr(language_model, "weight_gradient", fail)
    assert perplexity(fresh_model(), text_pieces(TEXTS[:1], VOCABULARY)) > 1


def test_second_derivatives_of_the_cross_entropy_are_refused():
    x = torch.randn(4, 3, requires_grad=True)
    loss = cross_entropy(x, torch.randn(5, 3), torch.zeros(5), torch.tensor([0, 1, 2, 3]))
    with pytest.raises(NotImplementedError, match="second derivatives"):
        torch.autograd.grad(loss, x, create_graph=True)
