"""Training: it learns, repeats itself, and leaves the best epoch's weights behind."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.report.probes import quantized
from lstm_sentiment.text import DataError
from lstm_sentiment.training import (
    TrainingConfig,
    make_optimizer,
    make_scheduler,
    one_cycle,
    pick_device,
    predict_logits,
    predict_proba,
    save_weights,
    score,
    search,
    train,
)

CPU = torch.device("cpu")
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
    return SentimentLSTM(matrix, hidden_size=16, **options)


def test_learns_what_no_bag_of_words_can(datasets, tmp_path):
    model = fresh_model()
    config = TrainingConfig(epochs=25, batch_size=16, learning_rate=0.02)
    history = train(model, *datasets, config, tmp_path / "best", CPU)
    assert history["validation_accuracy"].max() > 0.95
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] / 3
    assert history["epoch"].tolist() == list(range(1, 26))


def test_the_model_left_is_the_best_epochs_and_the_history_is_true_of_it(datasets, tmp_path):
    training_set, validation_set = datasets
    ids = [validation_set[row][0].tolist() for row in range(len(validation_set))]
    flipped = np.where(np.arange(80) % 4 == 0, 1 - validation_set.labels, validation_set.labels)
    noisy = ReviewDataset(ids, flipped)  # on which growing confidence does not pay
    model = fresh_model()
    config = TrainingConfig(epochs=8, batch_size=8, learning_rate=0.03)
    history = train(model, training_set, noisy, config, tmp_path / "best", CPU)
    best = history[history["is_best"]].iloc[-1]
    assert best["epoch"] < 8, "the test needs a run whose last epoch is not its best"
    assert best["validation_accuracy"] == history["validation_accuracy"].max()
    assert score(model, noisy) == {
        "loss": best["validation_loss"],
        "accuracy": best["validation_accuracy"],
    }


def test_same_seed_same_history_another_seed_another(datasets, tmp_path):
    def run(seed):
        config = TrainingConfig(epochs=2, batch_size=8, seed=seed)
        history = train(fresh_model(dropout=0.3), *datasets, config, tmp_path / "best", CPU)
        return history.drop(columns="seconds")

    first = run(0)
    pd.testing.assert_frame_equal(first, run(0), check_exact=True)
    assert not first.equals(run(1))


def test_both_backends_train_to_the_same_model(datasets, tmp_path):
    histories = []
    for backend in ("fused", "reference"):
        model = fresh_model(backend=backend, embedding_dropout=0.2, dropout=0.2)
        histories.append(train(model, *datasets, FAST, tmp_path / "best", CPU))
    fused, reference = histories
    np.testing.assert_allclose(fused["train_loss"], reference["train_loss"], atol=1e-3)


def test_frozen_word_vectors_stay_and_others_move(datasets, tmp_path):
    frozen, moving = fresh_model(freeze_embedding=True), fresh_model()
    before = frozen.embedding.weight.clone()
    for model in (frozen, moving):
        train(model, *datasets, FAST, tmp_path / "best", CPU)
    assert torch.equal(frozen.embedding.weight, before)
    assert not torch.equal(moving.embedding.weight, before)
    assert not moving.embedding.weight[0].any()


def test_gradients_are_clipped(datasets, tmp_path, monkeypatch):
    norms = []
    original = torch.optim.Adam.step

    def step(optimizer, *args, **kwargs):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())
        return original(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    config = TrainingConfig(epochs=1, batch_size=8, clip_norm=0.01)
    train(fresh_model(), *datasets, config, tmp_path / "best", CPU)
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_a_loss_that_is_not_a_number_stops_the_run(datasets, tmp_path):
    model = fresh_model()
    with torch.no_grad():
        model.output.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="learning rate"):
        train(model, *datasets, FAST, tmp_path / "best", CPU)


def test_predictions_come_in_the_datasets_order_without_dropout(datasets):
    model = fresh_model(dropout=0.9).train()
    dataset = datasets[1]
    logits = predict_logits(model, dataset)
    assert model.training
    model.eval()
    for row in (0, 41, 79):
        ids, _, _ = dataset[row]
        alone = model(ids[None], torch.tensor([len(ids)])).item()
        assert logits[row] == pytest.approx(alone, abs=1e-5)
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


def test_search_reports_every_pair_best_first(datasets):
    config = TrainingConfig(epochs=1)
    table = search(fresh_model, *datasets, config, [0.001, 0.02], [8, 80])
    pairs = set(zip(table["learning_rate"], table["batch_size"], strict=True))
    assert pairs == {(0.001, 8), (0.001, 80), (0.02, 8), (0.02, 80)}
    assert table["validation_accuracy"].is_monotonic_decreasing
    assert table["validation_loss"].nunique() == 4


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"embedding_rate_factor": 0.0},
        {"recurrent_rate_factor": 0.0},
        {"label_smoothing": 1.0},
        {"averaging_decay": -0.1},
        {"adversarial_norm": -1.0},
        {"schedule": "cosine"},
        {"epochs": 2.5},
        {"epochs": True},
        {"epochs": "3"},
        {"batch_size": 1.5},
        {"learning_rate": np.inf},
        {"learning_rate": "fast"},
        {"clip_norm": np.inf},
        {"adversarial_norm": np.inf},
        {"averaging_decay": np.nan},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": 2**63},
    ],
)
def test_wrong_settings_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TrainingConfig(**options)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_best_device_present_is_picked(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device().type == expected


def test_smoothed_labels_hold_confidence_back(datasets, tmp_path):
    sure, smoothed = fresh_model(), fresh_model()
    for model, smoothing in ((sure, 0.0), (smoothed, 0.3)):
        config = TrainingConfig(
            epochs=25, batch_size=16, learning_rate=0.02, label_smoothing=smoothing
        )
        train(model, *datasets, config, tmp_path / "best", CPU)
    logits = [np.abs(predict_logits(model, datasets[0])).mean() for model in (sure, smoothed)]
    assert logits[1] < logits[0]
    assert logits[1] == pytest.approx(np.log(0.85 / 0.15), rel=0.3)  # the best answer to 0.85


def test_averaged_weights_are_what_is_validated_and_kept(datasets, tmp_path):
    """With one step an epoch, the average after step n is known from the weights of each step."""
    weights, rows = [], []
    config = TrainingConfig(epochs=3, batch_size=240, learning_rate=0.1, averaging_decay=0.5)
    original = torch.optim.Adam.step
    model = fresh_model()

    class Recording(torch.optim.Adam):
        def step(self, *args, **kwargs):
            result = original(self, *args, **kwargs)
            weights.append(model.output.weight.detach().clone())
            return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "Adam", Recording)
        train(model, *datasets, config, tmp_path / "best", CPU, rows.append)
    first, second, third = weights
    averages = [first, (first + second) / 2, first / 4 + second / 4 + third / 2]
    best = [row["epoch"] for row in rows if row["is_best"]][-1]
    torch.testing.assert_close(model.output.weight.detach(), averages[best - 1])
    assert score(model, datasets[1])["loss"] == rows[best - 1]["validation_loss"]


def test_the_parts_learn_at_their_own_rates():
    config = TrainingConfig(learning_rate=0.1, embedding_rate_factor=0.5, recurrent_rate_factor=0.2)
    model = fresh_model()
    rates = {
        id(parameter): group["lr"]
        for group in make_optimizer(model, config).param_groups
        for parameter in group["params"]
    }
    assert len(rates) == len(list(model.parameters()))
    assert rates[id(model.embedding.weight)] == pytest.approx(0.05)
    assert [rates[id(p)] for p in model.lstm.parameters()] == pytest.approx([0.02] * 8)
    assert [rates[id(p)] for p in model.output.parameters()] == [0.1, 0.1]


@pytest.mark.parametrize(("schedule", "last"), [("constant", 0.1), ("one_cycle", 0.0)])
def test_the_schedule_named_is_followed(schedule, last):
    config = TrainingConfig(epochs=2, learning_rate=0.1, schedule=schedule)
    optimizer = make_optimizer(fresh_model(), config)
    scheduler = make_scheduler(optimizer, config, steps_per_epoch=5)
    for _ in range(10):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(last)


def test_every_epoch_is_reported_and_may_end_the_run(datasets, tmp_path):
    seen = []

    def stop(row):
        seen.append(row["epoch"])
        if row["epoch"] == 2:
            raise StopIteration

    with pytest.raises(StopIteration):
        train(fresh_model(), *datasets, FAST, tmp_path / "best", CPU, stop)
    assert seen == [1, 2]


def test_adversarial_steps_move_the_word_vectors_uphill_and_back(datasets, tmp_path, monkeypatch):
    model = fresh_model()
    start = model.embedding.weight.detach().clone()
    seen = []
    model.register_forward_pre_hook(
        lambda module, _: (
            seen.append(module.embedding.weight.detach().clone()) if module.training else None
        )
    )
    losses = []
    original = torch.nn.BCEWithLogitsLoss.forward

    def recording(self, *inputs):
        loss = original(self, *inputs)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(torch.nn.BCEWithLogitsLoss, "forward", recording)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda optimizer, *args, **kwargs: None)
    config = TrainingConfig(epochs=1, batch_size=80, adversarial_norm=0.5)
    train(model, *datasets, config, tmp_path / "best", CPU)
    assert len(seen) == len(losses) == 6
    for clean, moved in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(clean, start)
        assert (moved - start).norm().item() == pytest.approx(0.5, rel=1e-5)
        assert not (moved - start)[0].any(), "padding stays zero"
    assert all(moved > clean for clean, moved in zip(losses[::2], losses[1::2], strict=True))
    assert torch.equal(model.embedding.weight, start)


def test_an_adversarial_loss_that_is_not_finite_stops_the_run(datasets, tmp_path, monkeypatch):
    model = fresh_model()
    start = model.embedding.weight.detach().clone()
    losses = []
    original = torch.nn.BCEWithLogitsLoss.forward

    def broken(self, *inputs):
        losses.append(original(self, *inputs))
        return losses[-1] * (torch.inf if len(losses) == 4 else 1)

    monkeypatch.setattr(torch.nn.BCEWithLogitsLoss, "forward", broken)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda optimizer, *args, **kwargs: None)
    config = TrainingConfig(epochs=1, batch_size=80, adversarial_norm=0.5)
    message = r"adversarial loss became inf in step 2 of 3 of epoch 1; .* or adversarial_norm \(0.5"
    with pytest.raises(FloatingPointError, match=message):
        train(model, *datasets, config, tmp_path / "best", CPU)
    assert torch.equal(model.embedding.weight, start)
    assert not (tmp_path / "best").exists()


def test_a_search_of_nothing_is_refused(datasets):
    with pytest.raises(ValueError, match="batch_sizes must hold at least one value each"):
        search(fresh_model, *datasets, FAST, [0.01], [])


def test_reviews_without_labels_are_refused(datasets, tmp_path):
    unlabelled = ReviewDataset([[2, 3], [4]])
    for sets, name in [
        ((unlabelled, datasets[1]), "training_set"),
        ((datasets[0], unlabelled), "validation_set"),
    ]:
        with pytest.raises(DataError, match=f"{name} has no labels"):
            train(fresh_model(), *sets, FAST, tmp_path / "best", CPU)
    with pytest.raises(DataError, match="dataset has no labels"):
        score(fresh_model(), unlabelled)


def test_weights_that_do_not_fit_on_the_disk_are_an_os_error(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "weights.safetensors"
    save_weights(fresh_model(), path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # writing fails as on a full disk
    try:
        with pytest.raises(OSError, match=r"cannot be written; is the disk full\?"):
            save_weights(fresh_model(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def test_frozen_word_vectors_cannot_be_moved(datasets, tmp_path):
    config = TrainingConfig(epochs=1, adversarial_norm=1.0)
    with pytest.raises(ValueError, match="frozen"):
        train(fresh_model(freeze_embedding=True), *datasets, config, tmp_path / "best", CPU)


def test_a_trained_model_is_left_without_dropout(datasets, tmp_path):
    model = fresh_model(dropout=0.5)
    train(model, *datasets, TrainingConfig(epochs=1), tmp_path / "checkpoint")
    assert not any(module.training for module in model.modules())


def test_bfloat16_weights_can_be_trained_and_asked(datasets, tmp_path):
    model = fresh_model().bfloat16()
    history = train(model, *datasets, TrainingConfig(epochs=1), tmp_path / "checkpoint")
    assert np.isfinite(history["validation_loss"]).all()
    logits = predict_logits(model, datasets[1])
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_a_quantized_model_is_not_saved(datasets, tmp_path):
    with pytest.raises(ValueError, match="quantized model cannot be saved"):
        save_weights(quantized(fresh_model()), tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []
