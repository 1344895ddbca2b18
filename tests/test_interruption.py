"""What is left when training is killed, interrupted, or cannot write."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.files import checkpoints
from lstm_sentiment.files.keep import load_tensors, save_tensors
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.text import DataError
from lstm_sentiment.training import SENTIMENT, TrainingConfig, best_epoch, score, train

CONFIG = TrainingConfig(epochs=4, batch_size=8, learning_rate=0.02)
REVIEWS = ReviewDataset(
    [[2 + n % 3, 4, 5, 6 + n % 2] for n in range(40)], [n % 2 for n in range(40)]
)
MATRIX = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32)
MATRIX[0] = 0


def fresh_model(seed: int = 0, matrix: np.ndarray = MATRIX, hidden_size: int = 8) -> SentimentLSTM:
    torch.manual_seed(seed)
    return SentimentLSTM(matrix, hidden_size, dropout=0.3)


@pytest.fixture
def checkpoint(tmp_path):
    return tmp_path / "training.checkpoint"


@pytest.fixture(scope="module")
def whole():
    """A model after a run without a break, and its history."""
    model = fresh_model()
    return model, fit(model, None)


def fit(model, checkpoint, config=CONFIG, reviews=REVIEWS, **options):
    history = train(model, reviews, REVIEWS, config, checkpoint=checkpoint, **options)
    return history.drop(columns="seconds")


def rows_in(checkpoint):
    return load_tensors(checkpoint)[1]["rows"]


def add_random_states(checkpoint, **states):
    """As a machine with other devices might have kept them."""
    tensors, settings = load_tensors(checkpoint)
    state = torch.load(io.BytesIO(tensors["state"].numpy()), weights_only=True)
    state["random"] |= states
    content = io.BytesIO()
    torch.save(state, content)
    tensors = {"state": torch.frombuffer(content.getbuffer(), dtype=torch.uint8)}
    save_tensors(checkpoint, tensors, settings)


def assert_ends_like(whole, checkpoint, **options):
    """Going on from the checkpoint gives the weights and the history of `whole`."""
    model, (expected, expected_history) = fresh_model(), whole
    history = fit(model, checkpoint, resume=True, **options)
    pd.testing.assert_frame_equal(history, expected_history, check_exact=True)
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def assert_is_best_of(history, model):
    assert score(model, REVIEWS)["loss"] == best_epoch(history)["validation_loss"]


def interrupted_in(epoch: int):
    """The usual task, but somebody presses Ctrl+C while this epoch is validated."""
    epochs = iter(range(1, epoch + 1))

    def measure(*arguments):
        if next(epochs) == epoch:
            raise KeyboardInterrupt
        return score(*arguments)

    return SENTIMENT._replace(score=measure)


def test_two_processes_that_make_the_same_vectors_keep_one_whole_file(tmp_path):
    script = (
        "from lstm_sentiment.embeddings import train_word_vectors\n"
        "texts = [['a', 'good', 'film'], ['a', 'bad', 'film']] * 2_000\n"
        "print(train_word_vectors(texts, vector_size=300)['good'].sum())"
    )
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "LSTM_SENTIMENT_DATA": str(tmp_path),
        "PYTHONHASHSEED": "0",
    }
    command = [sys.executable, "-W", "error:::lstm_sentiment", "-c", script]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    results = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], results
    assert len(list(tmp_path.iterdir())) == 1
    again = subprocess.run(command, env=environment, check=True, **pipes)
    assert {output for output, _ in results} == {again.stdout}


def test_the_keyboard_ends_training_with_a_model_and_its_history(checkpoint, whole, capsys):
    for path in (checkpoint, None):
        model = fresh_model()
        history = fit(model, path, task=interrupted_in(3))
        assert history["epoch"].tolist() == [1, 2]
        assert "2 of 4 epochs" in capsys.readouterr().out
        assert_is_best_of(history, model)
    assert_ends_like(whole, checkpoint)


def test_the_keyboard_while_an_epoch_is_kept_ends_with_the_epoch_before(checkpoint, monkeypatch):
    def interrupted(path, *content):
        if path.exists() and len(rows_in(path)) == 2:
            path.unlink()  # what is returned does not come from the file
            raise KeyboardInterrupt
        save_tensors(path, *content)

    monkeypatch.setattr(checkpoints, "save_tensors", interrupted)
    model = fresh_model()
    history = fit(model, checkpoint)
    assert history["epoch"].tolist() == [1, 2]
    assert_is_best_of(history, model)


def test_a_run_that_completes_no_epoch_returns_nothing_and_leaves_what_was_there(checkpoint):
    fit(fresh_model(), checkpoint)
    kept = checkpoint.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        fit(fresh_model(), checkpoint, task=interrupted_in(1))
    assert checkpoint.read_bytes() == kept


def test_a_finished_run_is_not_trained_again_unless_from_the_start(checkpoint, whole):
    fit(fresh_model(), checkpoint)
    assert_ends_like(whole, checkpoint, task=SENTIMENT._replace(loss=None))  # nothing is trained
    assert fit(fresh_model(), checkpoint, replace(CONFIG, epochs=2))["epoch"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"config": replace(CONFIG, epochs=5)},
        {"config": replace(CONFIG, seed=1)},
        {"model": fresh_model(hidden_size=9)},
        {"model": fresh_model(matrix=MATRIX * np.float32(1.001))},
        {"model": fresh_model(seed=1)},
        {"reviews": ReviewDataset([[4, 5]] * 8, [0, 1] * 4)},
    ],
    ids=["epochs", "seed", "size", "word vectors", "weights", "reviews"],
)
def test_a_checkpoint_of_another_run_is_refused(checkpoint, change):
    fit(fresh_model(), checkpoint)
    options = {"model": fresh_model(), **change}
    with pytest.raises(DataError, match="is of a run with another model, other word vectors or"):
        fit(checkpoint=checkpoint, resume=True, **options)


def test_a_damaged_checkpoint_is_refused(checkpoint):
    fit(fresh_model(), checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-5])
    with pytest.raises(DataError, match=r"training\.checkpoint .*make or fetch it again"):
        fit(fresh_model(), checkpoint, resume=True)


def test_random_states_of_devices_that_are_not_there_are_left(checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    fit(fresh_model(), checkpoint, task=interrupted_in(3))
    add_random_states(checkpoint, mps=torch.ones(16, dtype=torch.uint8), cuda=[torch.ones(3)])
    model = fresh_model()
    assert_ends_like((model, fit(model, None)), checkpoint)


def test_a_checkpoint_runs_no_code(checkpoint):
    fit(fresh_model(), checkpoint)
    add_random_states(checkpoint, tpu=breakpoint)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        fit(fresh_model(), checkpoint, resume=True)


def test_a_loss_that_is_not_finite_leaves_the_epoch_before(checkpoint):
    losses = iter([0.5, torch.nan])
    task = SENTIMENT._replace(score=lambda *_: {"loss": next(losses), "accuracy": 0.5})
    with pytest.raises(FloatingPointError, match="validation_loss became nan in epoch 2"):
        fit(fresh_model(), checkpoint, task=task)
    assert [row["epoch"] for row in rows_in(checkpoint)] == [1]
