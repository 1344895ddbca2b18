"""Training: it learns, repeats itself, and leaves the best epoch's weights behind."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from lstm_sentiment.data import ReviewDataset, make_loader
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.text import DataError
from lstm_sentiment.training import (
    SENTIMENT,
    TrainingConfig,
    best_epoch,
    make_optimizer,
    make_scheduler,
    one_cycle,
    perturbed,
    pick_device,
    predict_logits,
    predict_proba,
    score,
    train,
    with_perturbation,
)

FAST = TrainingConfig(epochs=6, batch_size=8, learning_rate=0.02)


def order_matters_dataset(n: int, seed: int) -> ReviewDataset:
    """Sequences of words 4..9 in which word 2 or word 3 comes first; the label says which."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    sequences = []
    for label in labels:
        words = rng.integers(4, 10, rng.integers(3, 9))
        first, second = np.sort(rng.choice(len(words), 2, replace=False))
        words[first], words[second] = (2, 3) if label else (3, 2)
        sequences.append(words.tolist())
    return ReviewDataset(sequences, labels)


@pytest.fixture(scope="module")
def datasets():
    return order_matters_dataset(240, seed=1), order_matters_dataset(80, seed=2)


def fresh_model(**options) -> SentimentLSTM:
    torch.manual_seed(0)
    matrix = torch.randn(10, 8)
    matrix[0] = 0
    return SentimentLSTM(matrix.numpy(), hidden_size=16, **options)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_learns_what_no_bag_of_words_can_and_no_surer_than_the_labels(datasets, smoothing):
    model = fresh_model()
    config = TrainingConfig(epochs=25, batch_size=16, learning_rate=0.02, label_smoothing=smoothing)
    history = train(model, *datasets, config)
    assert history["validation_accuracy"].max() > 0.95
    assert history["train_accuracy"].iloc[-1] > 0.95
    confidence = np.abs(predict_logits(model, datasets[0])).mean()
    if smoothing:
        assert confidence == pytest.approx(np.log(0.85 / 0.15), rel=0.3)  # best answer to 0.85
    else:
        assert confidence > 3


@pytest.mark.parametrize("with_file", [True, False])
def test_the_model_left_is_the_best_epochs_and_the_history_is_true_of_it(
    datasets, tmp_path, monkeypatch, with_file
):
    monkeypatch.chdir(tmp_path)
    training_set, validation_set = datasets
    noisy = copy(validation_set)
    noisy.labels = abs(validation_set.labels - (np.arange(80) % 4 == 0))  # confidence does not pay
    model = fresh_model(dropout=0.1)
    config = TrainingConfig(epochs=8, batch_size=8, learning_rate=0.03)
    history = train(model, training_set, noisy, config, checkpoint="c" if with_file else None)
    best = best_epoch(history)
    assert best["epoch"] < 8, "the test needs a run whose last epoch is not its best"
    top = history[history["validation_accuracy"] == history["validation_accuracy"].max()]
    assert best["epoch"] == top.sort_values("validation_loss")["epoch"].iloc[0]
    scores = {name: best[f"validation_{name}"] for name in ("loss", "accuracy")}
    assert score(model, noisy) == scores
    assert not any(module.training for module in model.modules())
    assert [path.name for path in tmp_path.iterdir()] == (["c"] if with_file else [])


def test_the_tasks_rank_decides_which_epoch_is_kept_and_its_scores_are_the_history(datasets):
    model, calls = fresh_model(), []

    def measure(model, dataset):
        calls.append(model.output.weight.detach().clone())
        return {"loss": 1.0, "own": float(len(calls))}

    task = SENTIMENT._replace(score=measure, rank=lambda row: (-abs(row["validation_own"] - 2),))
    history = train(model, *datasets, TrainingConfig(epochs=4, batch_size=80), task)
    assert history["is_best"].tolist() == [True, True, False, False]
    assert history["validation_own"].tolist() == [1, 2, 3, 4]
    assert torch.equal(model.output.weight, calls[1])
    assert not torch.equal(model.output.weight, calls[3])


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_word_vectors_stay_and_others_move(datasets, freeze):
    model = fresh_model(freeze_embedding=freeze)
    before = model.embedding.weight.clone()
    train(model, *datasets, TrainingConfig(epochs=1))
    assert torch.equal(model.embedding.weight, before) == freeze
    assert not model.embedding.weight[0].any()


def test_gradients_are_clipped(datasets, monkeypatch):
    norms = []
    original = torch.optim.Adam.step

    def step(optimizer, *args, **kwargs):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())
        return original(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    train(fresh_model(), *datasets, TrainingConfig(epochs=1, batch_size=8, clip_norm=0.01))
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("broken", "cause"),
    [("output.weight", "learning rate .* too high"), ("embedding.weight", "check their source")],
)
def test_what_is_no_longer_a_number_stops_the_run_with_the_likely_cause(datasets, broken, cause):
    model = fresh_model(freeze_embedding=broken == "output.weight")  # else NaN reaches them too
    with torch.no_grad():
        model.get_parameter(broken)[-1:].fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=f"train_loss.* became nan in epoch 1; .*{cause}"):
        train(model, *datasets, FAST)


def test_predictions_come_in_the_datasets_order_without_dropout(datasets):
    model, dataset = fresh_model(dropout=0.9).train(), datasets[1]
    logits = predict_logits(model, dataset)
    assert model.training
    model.eval()
    reviews = [dataset[row][0] for row in range(len(dataset))]
    alone = [model(ids[None], torch.tensor([len(ids)])).item() for ids in reviews]
    np.testing.assert_allclose(logits, alone, atol=1e-5)
    np.testing.assert_allclose(predict_proba(model, dataset), 1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_the_learning_rate_rises_and_falls_to_zero():
    factor = one_cycle(100)
    factors = np.array([factor(step) for step in range(101)])
    assert factors.argmax() in (9, 10)
    assert factors.max() == 1
    assert (np.diff(factors[:10]) > 0).all()
    assert (np.diff(factors[10:]) < 0).all()
    assert factors[-1] == pytest.approx(0)
    assert one_cycle(1)(0) == 1


@pytest.mark.parametrize(("schedule", "last"), [("constant", 1.0), ("one_cycle", 0.0)])
def test_each_part_learns_at_its_own_rate_by_the_schedule_named(schedule, last):
    factors = {"embedding_rate_factor": 0.5, "recurrent_rate_factor": 0.2}
    config = TrainingConfig(epochs=2, learning_rate=1.0, schedule=schedule, **factors)
    model = fresh_model()
    optimizer = make_optimizer(model, config)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == {
        parameter: {"embedding": 0.5, "lstm": 0.2, "output": 1.0}[name.split(".")[0]]
        for name, parameter in model.named_parameters()
    }
    scheduler = make_scheduler(optimizer, config, steps_per_epoch=5)
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    factors = {group["lr"] / group["initial_lr"] for group in optimizer.param_groups}
    assert list(factors) == pytest.approx([last])


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": -1}, {"schedule": "cosine"}])
def test_settings_that_would_train_nothing_are_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        TrainingConfig(**options)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_present_is_picked(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device().type == expected


def test_averaged_weights_are_what_is_validated_and_kept(datasets, monkeypatch):
    """With one step an epoch, the average after step n is known from the weights of each step."""
    weights, rows = [], []
    original, model = torch.optim.Adam.step, fresh_model()

    def step(optimizer, *args, **kwargs):
        original(optimizer, *args, **kwargs)
        weights.append(model.output.weight.detach().clone())

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    config = TrainingConfig(epochs=3, batch_size=240, learning_rate=0.1, averaging_decay=0.5)
    train(model, *datasets, config, on_epoch=rows.append)
    first, second, third = weights
    averages = [first, (first + second) / 2, first / 4 + second / 4 + third / 2]
    best = [row["epoch"] for row in rows if row["is_best"]][-1]
    torch.testing.assert_close(model.output.weight.detach(), averages[best - 1])
    assert score(model, datasets[1])["loss"] == rows[best - 1]["validation_loss"]


def test_every_epoch_is_reported_and_may_end_the_run(datasets):
    seen = []

    def stop(row):
        seen.append(row["epoch"])
        if row["epoch"] == 2:
            raise StopIteration

    with pytest.raises(StopIteration):
        train(fresh_model(), *datasets, FAST, on_epoch=stop)
    assert seen == [1, 2]


ADVERSARIAL = TrainingConfig(epochs=1, batch_size=80, adversarial_norm=0.5)


@pytest.mark.parametrize("freeze", [False, True])
def test_adversarial_steps_move_each_review_uphill(datasets, monkeypatch, freeze):
    model, seen, losses = fresh_model(freeze_embedding=freeze), [], []
    start = model.embedding.weight.detach().clone()

    def recording(model, batch, config):
        seen.append(batch)
        loss, measured = SENTIMENT.loss(model, batch, config)
        losses.append(loss.item())
        return loss, measured

    monkeypatch.setattr(torch.optim.Adam, "step", lambda optimizer, *args, **kwargs: None)
    train(model, *datasets, ADVERSARIAL, SENTIMENT._replace(loss=recording))
    assert len(losses) == 6
    for clean, changed in zip(seen[::2], seen[1::2], strict=True):
        assert not clean.perturbation.any()
        norms = changed.perturbation.flatten(1).norm(dim=1)
        torch.testing.assert_close(norms, torch.full_like(norms, 0.5))
        assert not changed.perturbation[clean.token_ids == 0].any(), "padding stays zero"
    assert all(after > before for before, after in zip(losses[::2], losses[1::2], strict=True))
    assert torch.equal(model.embedding.weight, start)


def test_an_adversarial_step_learns_from_both_losses(datasets):
    model, trained = fresh_model(), fresh_model()
    (batch,) = make_loader(datasets[1], 80, shuffle=False)
    batch = with_perturbation(batch, model)
    SENTIMENT.loss(model, batch, ADVERSARIAL)[0].backward()
    SENTIMENT.loss(model, perturbed(batch, ADVERSARIAL), ADVERSARIAL)[0].backward()
    config = replace(ADVERSARIAL, clip_norm=1e9)
    train(trained, datasets[1], datasets[1], config)
    torch.testing.assert_close(trained.output.weight.grad, model.output.weight.grad)


def test_a_review_whose_gradient_has_vanished_stays_where_it_is(datasets):
    (batch,) = make_loader(datasets[1], 80, shuffle=False)
    batch = with_perturbation(batch, fresh_model())
    batch.perturbation.grad = torch.zeros_like(batch.perturbation)
    assert not perturbed(batch, replace(ADVERSARIAL, adversarial_norm=5.0)).perturbation.any()


def test_reviews_without_labels_are_neither_scored_nor_learnt_from(datasets):
    without = ReviewDataset([[2, 3], [4]])
    with pytest.raises(DataError, match="to score have no labels"):
        score(fresh_model(), without)
    with pytest.raises(DataError, match="to learn from have no labels"):
        train(fresh_model(), without, datasets[1], FAST)


def test_bfloat16_weights_can_be_trained_and_asked(datasets):
    model = fresh_model().bfloat16()
    history = train(model, *datasets, TrainingConfig(epochs=1))
    assert np.isfinite(history["validation_loss"]).all()
    logits = predict_logits(model, datasets[1])
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
