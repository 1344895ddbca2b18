"""What is left when training is killed, interrupted, or cannot write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lstm_sentiment import training
from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.text import DataError
from lstm_sentiment.training import TrainingConfig, run_trial, score, train

CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=4, batch_size=8, learning_rate=0.02)
REVIEWS = ReviewDataset(
    [[2 + n % 3, 4, 5, 6 + n % 2] for n in range(40)], [n % 2 for n in range(40)]
)


def fresh_model(seed: int = 0) -> SentimentLSTM:
    """Its word vectors are the same for every seed."""
    matrix = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    matrix[0] = 0
    torch.manual_seed(seed)
    return SentimentLSTM(matrix, hidden_size=8, dropout=0.3)


def fit(model: SentimentLSTM, folder: Path, config: TrainingConfig = CONFIG, **options):
    checkpoint = folder / "training.checkpoint"
    return train(model, REVIEWS, REVIEWS, config, checkpoint, CPU, **options)


def interrupt_in_epoch(epoch: int, monkeypatch) -> None:
    original = training.score
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == epoch:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(training, "score", interrupted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that were forked")
def test_killed_at_any_moment_it_ends_like_a_run_without_a_break(tmp_path):
    script = Path(__file__).with_name("kill_and_resume.py")
    environment = os.environ | {"PYTHONPATH": str(script.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kills = json.loads((tmp_path / "kills.json").read_text())
    assert kills["statuses"].count(-signal.SIGKILL) >= 20
    assert kills["while_writing"] >= 3
    assert len(set(kills["completed"])) > 3, "kills at different epochs"
    for name in ("weights.safetensors", "history.csv"):
        expected, killed, full = (
            (tmp_path / run / name).read_bytes() for run in ("alone", "killed", "full")
        )
        assert killed == expected
        assert full == expected
    assert kills["full_status"] == 2
    assert "is the disk full?" in done.stderr
    assert kills["completed_when_full"] == 3, "the last checkpoint that was written is intact"


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
    command = [sys.executable, "-W", "error", "-c", script]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    results = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], results
    assert len(list(tmp_path.iterdir())) == 1
    again = subprocess.run(command, env=environment, check=True, **pipes)
    assert {output for output, _ in results} == {again.stdout}


def test_the_keyboard_ends_training_with_a_model_and_its_history(tmp_path, monkeypatch, capsys):
    interrupt_in_epoch(3, monkeypatch)
    model = fresh_model()
    history = fit(model, tmp_path)
    monkeypatch.undo()
    assert history["epoch"].tolist() == [1, 2]
    assert "2 of 4 epochs" in capsys.readouterr().out
    best = history[history["is_best"]].iloc[-1]
    assert score(model, REVIEWS)["loss"] == best["validation_loss"]

    resumed, whole = fresh_model(), fresh_model()
    history = fit(resumed, tmp_path, resume=True).drop(columns="seconds")
    expected = fit(whole, tmp_path / "whole").drop(columns="seconds")
    pd.testing.assert_frame_equal(history, expected, check_exact=True)
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_keyboard_before_the_first_epoch_leaves_nothing_to_return(tmp_path, monkeypatch):
    interrupt_in_epoch(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        fit(fresh_model(), tmp_path)


def test_the_keyboard_while_an_epoch_is_kept_ends_with_the_epoch_before(tmp_path, monkeypatch):
    original = training.write_checkpoint

    def interrupted(path, parts, facts):
        if len(facts["rows"]) == 3:
            path.unlink()  # what is returned does not come from the file
            raise KeyboardInterrupt
        original(path, parts, facts)

    monkeypatch.setattr(training, "write_checkpoint", interrupted)
    model = fresh_model()
    history = fit(model, tmp_path)
    assert history["epoch"].tolist() == [1, 2]
    best = history[history["is_best"]].iloc[-1]
    assert score(model, REVIEWS)["loss"] == best["validation_loss"]


def test_a_run_that_completes_no_epoch_leaves_the_checkpoint_of_another(tmp_path, monkeypatch):
    fit(fresh_model(), tmp_path)
    kept = (tmp_path / "training.checkpoint").read_bytes()
    interrupt_in_epoch(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        fit(fresh_model(), tmp_path)
    assert (tmp_path / "training.checkpoint").read_bytes() == kept


def test_an_interrupted_trial_is_no_trial(monkeypatch):
    interrupt_in_epoch(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_trial(fresh_model(), REVIEWS, REVIEWS, CONFIG)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = fit(fresh_model(), tmp_path)
    model = fresh_model()
    again = fit(model, tmp_path, resume=True)
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    best = first[first["is_best"]].iloc[-1]
    assert score(model, REVIEWS)["loss"] == best["validation_loss"]


def test_without_resume_it_starts_anew(tmp_path):
    fit(fresh_model(), tmp_path, TrainingConfig(epochs=1))
    assert fit(fresh_model(), tmp_path)["epoch"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("change", ["settings", "model", "reviews", "word vectors", "weights"])
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change):
    fit(fresh_model(), tmp_path)
    model, config, reviews = fresh_model(), CONFIG, REVIEWS
    if change == "settings":
        config = TrainingConfig(epochs=5, batch_size=8, learning_rate=0.02)
    elif change == "model":
        model = SentimentLSTM(model.embedding.weight.detach(), hidden_size=9)
    elif change == "word vectors":
        with torch.no_grad():
            model.embedding.weight[4, 0] += 1e-3
    elif change == "weights":
        model = fresh_model(seed=1)
    else:
        reviews = ReviewDataset([[4, 5]] * 8, [0, 1] * 4)
    with pytest.raises(DataError, match="is of a run with another model, other word vectors or"):
        train(model, reviews, REVIEWS, config, tmp_path / "training.checkpoint", CPU, resume=True)


@pytest.mark.parametrize(
    "damage", [lambda kept: kept[: len(kept) // 2], lambda kept: b"", lambda kept: b"text\n" * 99]
)
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    fit(fresh_model(), tmp_path)
    checkpoint = tmp_path / "training.checkpoint"
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(DataError, match="delete it and start anew"):
        fit(fresh_model(), tmp_path, resume=True)


def test_any_flipped_bit_of_a_checkpoint_is_refused_or_does_no_harm(tmp_path):
    expected = fresh_model()
    fit(expected, tmp_path)
    checkpoint = tmp_path / "training.checkpoint"
    good = checkpoint.read_bytes()
    refused = 0
    for position in np.random.default_rng(0).integers(0, len(good), 60):
        damaged = bytearray(good)
        damaged[position] ^= 1
        checkpoint.write_bytes(damaged)
        model = fresh_model()
        try:
            fit(model, tmp_path, resume=True)
        except DataError:
            refused += 1
            continue
        for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
            assert torch.equal(ours, theirs), f"byte {position}"
    assert refused > 20


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept.pop("random"),
        lambda kept: kept["random"].pop("cpu"),
        lambda kept: kept["random"].update(cpu=torch.ones(3)),
        lambda kept: kept.update(facts=5),
        lambda kept: kept["facts"].pop("rows"),
        lambda kept: kept["facts"].update(rows=5),
        lambda kept: kept["facts"].pop("best_weights"),
        lambda kept: kept.update(parts={}),
        lambda kept: kept["parts"].update(model=5),
        lambda kept: kept["parts"].update(optimizer=None),
        lambda kept: kept["parts"].update(optimizer=5),
    ],
)
def test_a_checkpoint_that_lacks_a_part_is_refused(tmp_path, change):
    fit(fresh_model(), tmp_path)
    checkpoint = tmp_path / "training.checkpoint"
    kept = torch.load(checkpoint, weights_only=True)
    change(kept)
    torch.save(kept, checkpoint)
    with pytest.raises(DataError, match="delete it and start anew"):
        fit(fresh_model(), tmp_path, resume=True)


def test_random_states_of_devices_that_are_not_there_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    expected = fresh_model()
    fit(expected, tmp_path)
    checkpoint = tmp_path / "training.checkpoint"
    kept = torch.load(checkpoint, weights_only=True)
    kept["random"] |= {"mps": torch.ones(16, dtype=torch.uint8), "cuda": [torch.ones(3)], "tpu": 1}
    torch.save(kept, checkpoint)
    model = fresh_model()
    fit(model, tmp_path, resume=True)
    assert torch.equal(model.output.weight, expected.output.weight)


def test_a_loss_that_is_not_finite_is_located_and_explained(tmp_path):
    model = fresh_model()
    with torch.no_grad():
        model.embedding.weight[4, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="step 1 of 5 of epoch 1; word vectors are not"):
        fit(model, tmp_path)


def test_a_validation_loss_that_is_not_finite_leaves_the_epoch_before(tmp_path, monkeypatch):
    original = training.score
    losses = iter([None, torch.nan])

    def broken(*arguments):
        loss = next(losses)
        return original(*arguments) | ({} if loss is None else {"loss": loss})

    monkeypatch.setattr(training, "score", broken)
    with pytest.raises(
        FloatingPointError, match="validation loss became nan at the end of epoch 2; the learning"
    ):
        fit(fresh_model(), tmp_path)
    kept = torch.load(tmp_path / "training.checkpoint", weights_only=True)
    assert [row["epoch"] for row in kept["facts"]["rows"]] == [1]


def test_settings_may_hold_numbers_of_numpy(tmp_path):
    config = replace(CONFIG, batch_size=np.int64(8), learning_rate=np.float32(0.02))
    fit(fresh_model(), tmp_path, config)
    fit(fresh_model(), tmp_path, config, resume=True)
    other = replace(config, learning_rate=np.float32(0.03))
    with pytest.raises(DataError, match="other settings"):
        fit(fresh_model(), tmp_path, other, resume=True)
    matrix = fresh_model().embedding.weight.detach()
    model = SentimentLSTM(matrix, hidden_size=np.int64(8))
    assert len(fit(model, tmp_path / "sizes", config)) == 4
