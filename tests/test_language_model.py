"""The language model: its loss is the one defined, it learns, goes on where it stopped, is kept."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from lstm_sentiment.classifier import SentimentClassifier
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
    with_language_model,
)
from lstm_sentiment.text import DataError, Vocabulary, tokenize
from lstm_sentiment.training import TrainingConfig, train

TEXTS = [("the film was good and the end was not bad " * 3).split()] * 24
VOCABULARY = Vocabulary.from_tokens(TEXTS)
SIZES = {"hidden_size": 12, "dropout": 0.2}
TRAINING = {"batch_size": 4, "learning_rate": 0.02, "embedding_rate_factor": 1.0}


def vectors(seed=0):
    matrix = np.random.default_rng(seed).normal(0, 0.3, (len(VOCABULARY), 6)).astype(np.float32)
    matrix[0] = 0
    return matrix


def fresh_model(dropout=0.0):
    torch.manual_seed(0)
    return LanguageModel(vectors(), VOCABULARY.counts, hidden_size=12, dropout=dropout)


def pretrained(texts=TEXTS, start=None, epochs=3, **settings):
    start = vectors() if start is None else start
    settings = {**SIZES, **TRAINING, "epochs": epochs, **settings}
    return pretrained_language_model(texts, TEXTS[:2], VOCABULARY, start, **settings)


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


def test_second_derivatives_of_the_cross_entropy_are_refused():
    x = torch.randn(4, 3, requires_grad=True)
    loss = cross_entropy(x, torch.randn(5, 3), torch.zeros(5), torch.tensor([0, 1, 2, 3]))
    with pytest.raises(NotImplementedError, match="second derivatives"):
        torch.autograd.grad(loss, x, create_graph=True)


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


def test_dropout_acts_in_training_and_judging_changes_neither_that_nor_weights(monkeypatch):
    monkeypatch.setattr(fast_cross_entropy, "weight_gradient", None)  # none is computed
    model, dataset = fresh_model(dropout=0.5).train(), text_pieces(TEXTS[:1], VOCABULARY)
    first, second = (perplexity(model, dataset)["loss"] for _ in range(2))
    assert first == second
    assert model.training
    ids, lengths = torch.tensor([dataset[0][0].tolist()]), torch.tensor(dataset.lengths)
    with torch.no_grad():
        assert model(ids, lengths) != model(ids, lengths)


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
    recorded = json.loads((Path(__file__).parent / "recorded.json").read_text())
    texts = list(dict.fromkeys(recorded["texts"]))
    token_lists = [[tokenize(texts[row]) for row in part] for part in recorded["split"][:2]]
    vocabulary = Vocabulary.from_tokens(token_lists[0])
    assert vocabulary.words == recorded["vocabulary"]
    torch.manual_seed(1)
    matrix = np.array(recorded["matrix"], dtype=np.float32)
    model = LanguageModel(matrix, vocabulary.counts, 8, 0.1)
    shapes = {name: list(weight.shape) for name, weight in model.state_dict().items()}
    assert shapes == recorded["parameters"]["language model"]
    config = TrainingConfig(epochs=2, batch_size=8, seed=1, embedding_rate_factor=1.0)
    sets = [text_pieces(lists, vocabulary) for lists in token_lists]
    history = train(model, *sets, config, NEXT_WORD)
    found = history[["train_loss", "validation_perplexity"]]
    np.testing.assert_allclose(found, recorded["language_model"], rtol=1e-4)


def test_what_is_kept_serves_again_and_other_texts_vectors_or_settings_do_not(
    data_home, monkeypatch
):
    path = pretrained()
    assert {found.suffix for found in data_home.iterdir()} == {".safetensors", ".lock"}
    tensors, settings = load_tensors(path)
    assert settings["words"] == VOCABULARY.words
    assert tensors["counts"].tolist() == VOCABULARY.counts.tolist()
    assert [row["epoch"] for row in settings["history"]] == [1, 2, 3]
    fresh_model().load_state_dict({name: tensors[name] for name in fresh_model().state_dict()})

    def fail(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(language_model, "train", fail)
    assert pretrained() == path
    others = {"dropout": 0.3}, {"texts": TEXTS[1:]}, {"start": vectors(seed=1)}, {"epochs": 2}
    for other in others:
        with pytest.raises(AssertionError, match="trained again"):
            pretrained(**other)


def test_a_second_process_waits_and_takes_what_the_first_has_made(data_home, monkeypatch):
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return train(*arguments, **options)

    monkeypatch.setattr(language_model, "train", counted)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: pretrained(epochs=1), range(2))
    assert first == second
    assert len(calls) == 1


@pytest.mark.parametrize("stop_in_epoch", [1, 2])
def test_an_interrupted_run_ends_like_one_that_was_not(
    data_home, monkeypatch, capsys, stop_in_epoch
):
    expected, whole = load_tensors(pretrained())
    for path in data_home.iterdir():
        path.unlink()
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == stop_in_epoch:
            raise KeyboardInterrupt
        return perplexity(*arguments)

    with monkeypatch.context() as context:
        context.setattr(language_model, "NEXT_WORD", NEXT_WORD._replace(score=interrupted))
        with pytest.raises(KeyboardInterrupt):
            pretrained()
    assert not list(data_home.glob("*.safetensors"))
    assert len(list(data_home.glob("*.checkpoint"))) == stop_in_epoch - 1
    capsys.readouterr()
    torch.manual_seed(99)
    tensors, settings = load_tensors(pretrained())
    goes_on = "the language model goes on from" in capsys.readouterr().out
    assert goes_on == (stop_in_epoch == 2)
    assert not list(data_home.glob("*.checkpoint"))
    for name, values in expected.items():
        assert torch.equal(tensors[name], values), name
    for row, expected_row in zip(settings["history"], whole["history"], strict=True):
        assert {**row, "seconds": 0} == {**expected_row, "seconds": 0}


def test_the_classifier_starts_from_its_words_vectors_and_lstm(data_home):
    parameters = {
        **{"vector_size": 6, "min_count": 1, "hidden_size": 12, "embedding_dropout": 0.0},
        "start": {"dropout": 0.2, "epochs": 1, **TRAINING},
    }
    settings = with_language_model(parameters, TEXTS, TEXTS[:2])
    tensors, kept = load_tensors(settings["start"])
    assert kept["words"] == VOCABULARY.words
    frozen = SentimentClassifier(**settings, epochs=1, learning_rate=1e-12, vocabulary=None)
    frozen.fit([["good"], ["bad"], ["unheard"]] * 4, [1, 0, 1] * 4)
    assert frozen.vocabulary_.words == VOCABULARY.words
    weights = frozen.model_.state_dict()
    for name in ("embedding.weight", *(name for name in tensors if name.startswith("lstm."))):
        torch.testing.assert_close(weights[name], tensors[name])
    assert with_language_model({"start": None}, TEXTS, TEXTS) == {"start": None}


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"num_layers": 2}, {"cell": "gru"}])
def test_what_cannot_start_from_a_language_model_is_refused_at_once(data_home, options):
    with pytest.raises(DataError, match=rf"{next(iter(options))}="):
        with_language_model({"start": {"epochs": 1}, **options}, TEXTS, TEXTS)
    assert not list(data_home.iterdir())


@pytest.mark.parametrize("damage", [lambda kept: kept[:-9], lambda kept: kept[:-1] + b"x"])
def test_a_damaged_kept_model_is_refused(data_home, damage):
    path = pretrained(epochs=1)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=path.name):
        SentimentClassifier(start=pretrained(epochs=1), hidden_size=12).fit(TEXTS, [0, 1] * 12)


def test_long_texts_are_cut_into_pieces_and_those_of_one_word_left_out():
    texts = [["good"] * 900, ["bad"], [], ["film", "good"]]
    dataset = text_pieces(texts, VOCABULARY)
    assert sorted(dataset.lengths) == [2, 900 - 2 * PIECE_LENGTH, PIECE_LENGTH, PIECE_LENGTH]
    with pytest.raises(DataError, match="two words"):
        text_pieces([["good"], []], VOCABULARY)


def test_a_loss_that_is_not_a_number_stops_the_run(data_home):
    broken = vectors()
    broken[2:] = np.nan
    with pytest.raises(FloatingPointError, match="train_loss"):
        pretrained(start=broken)
    assert not list(data_home.glob("*.safetensors"))
