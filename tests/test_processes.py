"""Two processes of torch's launcher compute what one does, and one of them writes.

The launcher runs this file as well: `main` is what each of its two processes does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lstm_sentiment.__main__ import main as command
from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.files.keep import load_tensors, save_tensors
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.predictor import TextPredictor
from lstm_sentiment.processes import of_first, process_group
from lstm_sentiment.studies.language_model import pretrained_language_model
from lstm_sentiment.text import Vocabulary
from lstm_sentiment.training import SENTIMENT, TrainingConfig, score, train

RUNS = {  # options of the network, of training
    "everything": (
        {"pooling": "last_mean_max", "num_layers": 2, "bidirectional": True},
        {"adversarial_norm": 1.0, "averaging_decay": 0.9, "label_smoothing": 0.1},
    ),
    "frozen vectors": ({"freeze_embedding": True, "cell": "gru"}, {"clip_norm": 0.01}),
    "with dropout": ({"embedding_dropout": 0.3, "dropout": 0.3}, {}),
}
PARTS = ("train", "validation", "test")
TEXTS = [("the film was good and the end was not bad " * 3).split()[n % 5 :] for n in range(25)]


def trained(name, checkpoint=None, task=SENTIMENT):
    """The model after two epochs, and its history."""
    options, settings = RUNS[name]
    rng = np.random.default_rng(0)
    # The last batch has one review: the second process has no share in it.
    sequences = [rng.integers(2, 200, rng.integers(1, 40)).tolist() for _ in range(129)]
    reviews = ReviewDataset(sequences, [sequence[0] % 2 for sequence in sequences])
    torch.manual_seed(0)
    matrix = torch.randn(200, 10)
    matrix[0] = 0
    model = SentimentLSTM(matrix, hidden_size=8, **options)
    config = TrainingConfig(epochs=2, batch_size=16, learning_rate=0.01, **settings)
    history = train(model, reviews, reviews, config, task, checkpoint, resume=True)
    return model, history.drop(columns="seconds")


def interrupted(name, checkpoint):
    """Ends after the first epoch."""
    epochs = iter([1])

    def measure(*arguments):
        if not next(epochs, None):
            raise KeyboardInterrupt
        return score(*arguments)

    trained(name, checkpoint, SENTIMENT._replace(score=measure))


def language_model(epochs=2):
    vocabulary = Vocabulary.from_tokens(TEXTS)
    matrix = np.random.default_rng(0).normal(0, 0.3, (len(vocabulary), 6)).astype(np.float32)
    matrix[0] = 0
    settings = {"batch_size": 4, "learning_rate": 0.02, "embedding_rate_factor": 1.0}
    sets = TEXTS, TEXTS[:2]
    return pretrained_language_model(*sets, vocabulary, matrix, 12, 0.0, epochs=epochs, **settings)


def main(folder: Path) -> None:
    """Each process leaves its models and histories in a folder of its own."""
    own = folder / os.environ["RANK"]
    draws = []

    def drawing(*arguments):
        draws.append(torch.rand(()).item())
        return SENTIMENT.loss(*arguments)

    with process_group():
        for name in RUNS:
            keep(own / name, *trained(name))
        keep(own / "resumed", *trained("everything", folder / "of one process"))
        interrupted("with dropout", folder / "of two processes")
        of_first(None)
        keep(own / "resumed with dropout", *trained("with dropout", folder / "of two processes"))
        trained("frozen vectors", task=SENTIMENT._replace(loss=drawing))
        path = language_model()
        print(load_tensors(path)[1]["history"][-1]["validation_perplexity"])
    (own / "draws.json").write_text(json.dumps(draws))


def keep(path, model, history):
    save_tensors(path.with_suffix(".safetensors"), model.state_dict(), {})
    history.to_csv(path.with_suffix(".csv"), index=False)


def launched(*arguments, **environment):
    """What two processes print."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *launcher, *map(str, arguments)],
        env=os.environ | paths | environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes have left, and printed into the file `printed`."""
    folder = tmp_path_factory.mktemp("processes")
    interrupted("everything", folder / "of one process")
    data = str(folder / "data")
    (folder / "printed").write_text(launched(__file__, folder, LSTM_SENTIMENT_DATA=data))
    return folder


def assert_same(found, model, history, **tolerance):
    """What lies under the path `found` is that model, and its history."""
    found_history = pd.read_csv(found.with_suffix(".csv"))
    pd.testing.assert_frame_equal(found_history, history, check_dtype=False, **tolerance)
    weights, _ = load_tensors(found.with_suffix(".safetensors"))
    torch.testing.assert_close(weights, dict(model.state_dict()), **tolerance)


@pytest.mark.parametrize("name", ["everything", "frozen vectors"])
@pytest.mark.parametrize("rank", ["0", "1"])
def test_two_processes_compute_what_one_does(folder, name, rank):
    assert_same(folder / rank / name, *trained(name), rtol=1e-4, atol=1e-5)


def test_what_one_process_began_two_go_on_with(folder):
    assert_same(folder / "0" / "resumed", *trained("everything"), rtol=1e-4, atol=1e-5)


def test_dropout_differs_between_processes_and_is_the_same_after_a_break(folder):
    draws = [json.loads((folder / rank / "draws.json").read_text()) for rank in "01"]
    assert len(draws[0]) == 18
    assert len({*draws[0], *draws[1]}) == 36
    names = ("with dropout", "resumed with dropout")
    kept = [folder / rank / f"{name}.safetensors" for rank in "01" for name in names]
    weights = [load_tensors(path)[0] for path in kept]
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=0, atol=0)
    model, _ = trained("with dropout")
    assert not torch.equal(weights[0]["output.weight"], model.output.weight)


def test_the_language_model_is_trained_and_written_once(folder, data_home):
    assert {path.suffix for path in (folder / "data").iterdir()} == {".safetensors", ".lock"}
    *_, perplexity = (folder / "printed").read_text().split()
    expected = load_tensors(language_model())[1]["history"][-1]["validation_perplexity"]
    assert float(perplexity) == pytest.approx(expected, rel=0.05)


def test_the_command_trains_in_two_processes_and_speaks_and_writes_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [f"{word} film, seen {n} times" for n in range(30) for word in ("good", "bad")]
    reviews = pd.DataFrame({"review": texts, "sentiment": ["positive", "negative"] * 30})
    reviews.to_csv("train.csv", index=False)
    options = ["train", "--data", "train.csv", "--preset", "day17", "--epochs", "2"]
    options += ["--learning-rate", "0.05"]
    printed = launched("-m", "lstm_sentiment", *options)
    assert printed.count("60 usable reviews") == 1
    history = pd.read_csv("artifacts/history.csv")
    assert history["epoch"].tolist() == [1, 2]
    metrics = json.loads(Path("artifacts/metrics.json").read_text())
    right = sum(metrics[name]["accuracy"] * metrics[name]["n"] for name in PARTS)
    verdicts = TextPredictor.load("artifacts").predict(texts)
    assert right == pytest.approx((verdicts == reviews["sentiment"]).sum())
    assert right >= 45, "it has learnt enough for shares in disorder to be seen"
    assert command([*options, "--resume"]) == 0
    assert pd.read_csv("artifacts/history.csv").equals(history), "it was complete already"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
