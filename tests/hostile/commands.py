"""Commands, several processes and threads, kills and full disks."""

from __future__ import annotations

import functools
import os
import random
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.predictor import TextPredictor
from lstm_sentiment.training import TrainingConfig, train
from tests.examples import csv_text
from tests.hostile import Refused, attack, classifier, command, labelled, text_of


@attack(60, Refused)
def odd_ids_and_outputs_of_a_submission(rng: random.Random, folder: Path) -> None:
    texts = [rng.choice(["good film", "bad film"]) for _ in range(4)]
    ids = [
        rng.choice(["7", "a,b", '"', "caf\u00e9", "=1", " 8", "x\ny"]) + str(n) for n in range(4)
    ]
    if rng.random() < 0.2:
        ids[0] = rng.choice([ids[1], "", " "])
    file, output, pipe = folder / "a.csv", folder / "out.csv", folder / "pipe"
    content = csv_text(zip(ids, texts, strict=True), ["ID", "review"]).encode()
    file.write_bytes(content)
    output.write_text("before")
    os.mkfifo(pipe)
    (folder / "twin").hardlink_to(file)
    (folder / "link").symlink_to(file)
    (folder / "to.csv").symlink_to(output)
    classifier().save(folder / "model")
    names = ["out.csv", "to.csv", "new/out.csv", "a.csv", "link", "twin", "pipe", "model"]
    target, reader = folder / rng.choice(names), os.open(pipe, os.O_RDWR)
    try:
        command("submit", file, "--model", folder / "model", "--output", target)
        written = os.read(reader, 9999) if target == pipe else target.read_bytes()
        verdicts = map(str, classifier().predict(texts))
        rows = zip(map(str.strip, ids), verdicts, strict=True)
        assert written == csv_text(rows, ["ID", "sentiment"]).encode()
    except Refused:
        assert output.read_text() == "before"
        raise
    finally:
        os.close(reader)
        assert file.read_bytes() == content
        assert pipe.is_fifo()
        assert (folder / "to.csv").is_symlink()


@attack(80, Refused)
def nonsense_on_the_command_line(rng: random.Random, folder: Path) -> None:
    (folder / "a.csv").write_text(csv_text(labelled(rng)))
    (folder / "v.txt").write_text("good 1 2\nbad 3 4\n")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "shut").mkdir(mode=0)
    classifier().save(folder / "model")
    odd = ["", "-1", "0", "1e999", "nan", "9" * 30, "%s", "{}", "caf\u00e9", "\udce9", "\x1b[31m"]
    odd += ["a.csv", "v.txt", "loop", "shut", "model", ".", "model/model.safetensors", "a.csv/b"]
    odd += ["--", "--help", "/dev/null", "/dev/full", "~nobody/x", "y" * 300, "sqlite:///a:b@c/d"]
    tiny = ["--data=a.csv", "--vectors=v.txt", "--epochs=1", "--hidden-size=2", "--model=new"]
    starts = {
        ("train", *tiny): ["--hold-back", "--model", "--data", "--vectors", "--seed", "--resume"],
        ("train", "--data=missing.csv"): ["--preset", "--limit", "--batch-size", "--pooling"],
        ("predict", "--model=model"): ["--file", "--model", "--words", "--json", "good"],
        ("submit", "a.csv", "--model=model"): ["--output", "--model"],
        ("evaluate", "a.csv"): ["--model"],
        ("page", "--model=model"): ["--model"],
        ("check",): ["--verbose"],
        ("hand-in",): ["x"],
        ("study", "--trials=-1"): ["search", "--storage", "--seeds"],
        ("bench", "--data=missing.csv"): ["--part", "--json"],
        ("check-cell",): ["--timeout"],
        (): ["--version"],
    }
    start, options = rng.choice([*starts.items()])
    end = [rng.choice(rng.choice([options, odd])) for _ in range(rng.randint(1, 4))]
    kept = [folder / "a.csv"] * (start[:1] != ("page",)) + [folder / "model" / "model.safetensors"]
    before = [path.read_bytes() for path in kept]
    try:
        command(*start, *end, given=rng.choice([b"good\n", b"\xff", b""]))
    finally:
        assert [path.read_bytes() for path in kept] == before


@attack(40, OSError)
def a_full_disk(rng: random.Random, folder: Path) -> None:
    path = folder / "model.safetensors"
    classifier().save(path)
    before, (_, most) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (rng.randrange(len(before)), most))
    try:
        classifier().save(path)
    except OSError as error:
        if error.filename != str(path):
            raise AssertionError(error.filename) from error
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        assert path.read_bytes() == before
        assert [*folder.iterdir()] == [path]


def fork(function: Callable, *arguments: object) -> int:
    child = os.fork()
    if child == 0:
        try:
            tqdm.set_lock(threading.RLock())  # its own is shared: killed with it, all would wait
            function(*arguments)
        finally:
            os._exit(0)
    return child


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def save_again_and_again(path: Path, temperature: float, times: int) -> None:
    predictor = classifier()
    predictor.temperature_ = temperature
    for _ in range(times):
        predictor.save(path)


@attack(60)
def a_kill_while_a_model_is_saved(rng: random.Random, folder: Path) -> None:
    path = folder / "model.safetensors"
    classifier().save(path)
    child = fork(save_again_and_again, path, 2.0, 10**9)
    time.sleep(rng.uniform(0, 0.05))
    kill(child)
    assert TextPredictor.load(path).temperature_ in (2.0, classifier().temperature_)


@attack(20)
def several_that_save_at_once(rng: random.Random, folder: Path) -> None:
    path = folder / "model.safetensors"
    classifier().save(path)
    children = [fork(save_again_and_again, path, float(n), 10) for n in (2, 3, 4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(classifier().save, [path] * 4))
    for _ in range(9):
        assert TextPredictor.load(path).temperature_ in (classifier().temperature_, 2, 3, 4)
    for child in children:
        os.waitpid(child, 0)
    assert [each.name for each in folder.iterdir()] == [path.name]


CONFIG = TrainingConfig(4, batch_size=10, averaging_decay=0.5, adversarial_norm=0.1)


def train_in(folder: Path) -> tuple:
    """History and weights of a training that goes on from what is in the folder."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(2, 2000, rng.integers(2, 30)).tolist() for _ in range(40)]
    reviews, matrix = ReviewDataset(rows, [row[0] % 2 for row in rows]), rng.normal(size=(2000, 30))
    matrix[0] = 0
    torch.manual_seed(0)
    model = SentimentLSTM(matrix, hidden_size=16, embedding_dropout=0.2, dropout=0.3)
    torch.manual_seed(os.getpid())  # the random state must come from the checkpoint or the seed
    history = train(model, reviews, reviews, CONFIG, checkpoint=folder / "kept", resume=True)
    return history.drop(columns="seconds"), model.state_dict()


@functools.cache
def left_alone() -> tuple:
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        train_in(Path(first))  # loads what is loaded once
        start = time.monotonic()
        return *train_in(Path(second)), time.monotonic() - start


def train_until_the_disk_is_full(folder: Path, size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    train_in(folder)


@attack(20)
def a_training_that_is_killed_or_fills_the_disk(rng: random.Random, folder: Path) -> None:
    history, weights, seconds = left_alone()
    for _ in range(3):
        left, while_writing = {*folder.glob("*.part")}, rng.random() < 0.5
        most = rng.choice([2**30, 2**30, rng.randrange(10**6)])  # a checkpoint has more
        child = fork(train_until_the_disk_is_full, folder, most)
        end = time.monotonic() + rng.uniform(0, 0.7) * seconds
        while time.monotonic() < end and not (while_writing and {*folder.glob("*.part")} - left):
            time.sleep(1e-4)
        kill(child)
    found, found_weights = train_in(folder)
    assert found.equals(history)
    assert all(torch.equal(weights[name], found_weights[name]) for name in weights)


@attack(30)
def eight_threads_that_ask(rng: random.Random, folder: Path) -> None:
    predictor, texts = classifier(), [text_of(rng) for _ in range(8)]
    expected = predictor.predict_proba(texts)[:, 1]
    predictor.model_.train(rng.random() < 0.5)
    modes = [module.training for module in predictor.model_.modules()]

    def ask(number: int) -> None:
        text = texts[number % 8]
        answers = [predictor.word_by_word(text)["probability"].iloc[-1]]
        answers += [predictor.predict_proba([text])[0, 1], predictor.stream().read(text)]
        assert np.allclose(answers, expected[number % 8], atol=1e-5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(16)))
    assert [module.training for module in predictor.model_.modules()] == modes
    predictor.model_.eval()
