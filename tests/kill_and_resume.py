"""Kills a training again and again, and compares what it ends with to one that was left alone.

Run by test_interruption.py in a process of its own, from which the children are forked: that has
imported all they need, so each is ready to train at once.

Usage: kill_and_resume.py FOLDER, which gets the weights and histories, and what happened to whom.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas  # noqa: F401 - what children would otherwise import, for seconds
import torch

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.files.keep import load_tensors, save_tensors, unpack_state
from lstm_sentiment.lstm import LSTMLayer
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.training import TrainingConfig, train

KILLS = 12  # at least, and of them while the checkpoint was written at least
KILLS_WHILE_WRITING = 3
MOST_ATTEMPTS = 60  # on a busy machine some children are done, or past the writing, too early
CONFIG = TrainingConfig(
    epochs=10, batch_size=8, learning_rate=0.02, averaging_decay=0.5, adversarial_norm=0.1
)


def reviews(n: int, seed: int) -> ReviewDataset:
    rng = np.random.default_rng(seed)
    sequences = [rng.integers(2, 2_000, rng.integers(2, 30)).tolist() for _ in range(n)]
    return ReviewDataset(sequences, [sequence[0] % 2 for sequence in sequences])


def run(folder: Path, on_epoch=None) -> None:
    """Train, from the checkpoint if there is one, and leave weights and history in `folder`."""
    torch.manual_seed(os.getpid())  # the random state must come from the checkpoint or the seed
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(2_000, 50, generator=generator)
    matrix[0] = 0
    model = SentimentLSTM(matrix.numpy(), hidden_size=16, embedding_dropout=0.2, dropout=0.3)
    for parameter in model.parameters():
        if parameter is not model.embedding.weight:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    sets = reviews(80, 1), reviews(40, 2)
    file = folder / "training.checkpoint"
    history = train(model, *sets, CONFIG, checkpoint=file, resume=True, on_epoch=on_epoch)
    save_tensors(folder / "weights.safetensors", model.state_dict(), {})
    history.drop(columns="seconds").to_csv(folder / "history.csv", index=False)


def epochs_in(folder: Path) -> int:
    tensors, settings = load_tensors(folder / "training.checkpoint")
    return len(unpack_state(tensors, settings["state"])["rows"])


def fork(function, *arguments) -> int:
    """The child's number; it ends with status 2 after an OSError, with 1 after any other error."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        function(*arguments)
        status = 0
    except OSError as error:
        print(error, file=sys.stderr)
        status = 2
    finally:
        os._exit(status)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_until_it_writes(folder: Path, unfinished: set[Path], seconds: float) -> None:
    """Return as soon as there is another unfinished file, or after so many seconds."""
    end = time.monotonic() + seconds
    while set(folder.glob("*.part")) <= unfinished and time.monotonic() < end:
        time.sleep(1e-4)


def run_until_the_disk_is_full(folder: Path) -> None:
    def fill(row: dict) -> None:
        if row["epoch"] == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails as on a full disk
    run(folder, fill)


def kill_again_and_again(folder: Path, duration: float) -> dict:
    """Kills at random moments, every third time while a checkpoint is written."""
    rng = np.random.default_rng(0)
    statuses, completed, unfinished = [], [], set()
    for attempt in range(MOST_ATTEMPTS):
        if statuses.count(-signal.SIGKILL) >= KILLS and len(unfinished) >= KILLS_WHILE_WRITING:
            break
        child = fork(run, folder)
        if attempt % 3 == 0:
            wait_until_it_writes(folder, unfinished, duration / 2)
        else:
            time.sleep(rng.uniform(0, duration / 2))
        os.kill(child, signal.SIGKILL)
        statuses.append(wait(child))
        unfinished |= set(folder.glob("*.part"))  # only what was killed leaves one
        if (folder / "training.checkpoint").exists():
            completed.append(epochs_in(folder))
            if completed[-1] == CONFIG.epochs:
                (folder / "training.checkpoint").unlink()  # once more from the start
    return {"statuses": statuses, "completed": completed, "while_writing": len(unfinished)}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # imports for seconds when first called
    LSTMLayer(2, 2)(torch.zeros(1, 1, 2))  # loads the compiled steps
    alone, killed, full = (folder / name for name in ("alone", "killed", "full"))
    for each in (alone, killed, full):
        each.mkdir()
    start = time.monotonic()
    assert wait(fork(run, alone)) == 0
    kills = kill_again_and_again(killed, time.monotonic() - start)
    assert wait(fork(run, killed)) == 0
    kills["full_status"] = wait(fork(run_until_the_disk_is_full, full))
    kills["epochs_when_full"] = epochs_in(full)
    assert wait(fork(run, full)) == 0
    (folder / "kills.json").write_text(json.dumps(kills))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
