"""The commands, run as a user would: train on a file of one's own, then use the model."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch

from lstm_sentiment import __main__ as commands
from lstm_sentiment import training
from lstm_sentiment.__main__ import main
from lstm_sentiment.classifier import SentimentPredictor
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.studies import study
from lstm_sentiment.studies.presets import PRETRAINED, REPORT
from lstm_sentiment.studies.study import SEARCH_STORAGE, TRIALS
from lstm_sentiment.text import Vocabulary


def write_reviews(path, n, seed):
    """n reviews whose adjectives tell the sentiment."""
    rng = np.random.default_rng(seed)
    filler = [f"word{index}" for index in range(40)]
    rows = []
    for number in range(n):
        sentiment = ("negative", "positive")[number % 2]
        adjectives = {"positive": ["good", "great"], "negative": ["bad", "awful"]}[sentiment]
        words = [*rng.choice(filler, 12), *rng.choice(adjectives, 3), f"id{seed}x{number}"]
        rows.append((" ".join(rng.permutation(words)), sentiment))
    pd.DataFrame(rows, columns=["review", "sentiment"]).to_csv(path, index=False)


def write_vectors(path):
    rng = np.random.default_rng(0)
    words = [f"word{index}" for index in range(40)] + ["good", "great", "bad", "awful"]
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in rng.normal(size=10))}" for word in words]
    path.write_text(f"{len(words)} 10\n" + "\n".join(lines) + "\n")


def test_train_evaluate_predict_submit(tmp_path, data_home, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "train.csv", 300, seed=1)
    write_reviews(tmp_path / "other.csv", 60, seed=2)
    write_vectors(tmp_path / "vectors.txt")
    options = [
        "--epochs",
        "8",
        "--batch-size",
        "16",
        "--hidden-size",
        "16",
        "--learning-rate",
        "0.02",
    ]
    assert main(["train", "--data", "train.csv", "--vectors", "vectors.txt", *options]) == 0
    history = pd.read_csv("artifacts/history.csv")
    assert history["epoch"].tolist() == list(range(1, 9))
    assert "300 usable reviews" in capsys.readouterr().out
    resume = ["--vectors", "vectors.txt", *options, "--resume"]
    assert main(["train", "--data", "train.csv", *resume]) == 0
    assert pd.read_csv("artifacts/history.csv").equals(history), "it was complete already"
    metrics = json.loads((tmp_path / "artifacts" / "metrics.json").read_text())
    assert [metrics[name]["n"] for name in ("train", "validation", "test")] == [210, 60, 30]

    assert main(["evaluate", "other.csv"]) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed[printed.index("{") :])
    assert result["n"] == 60
    assert result["accuracy"] > 0.9

    assert main(["predict", "good great good word1", "awful bad bad word2"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table["sentiment"].tolist() == ["positive", "negative"]

    assert main(["predict", "--words", "good word1", "bad"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table["review"].tolist() == [1, 1, 2]
    assert table["word"].tolist() == ["good", "word1", "bad"]
    assert {"probability", "forget_gate", "input_gate", "output_gate"} <= set(table.columns)

    pd.DataFrame({"review": ["great good", "bad awful", "good"]}).to_csv("kaggle.csv", index=False)
    Path("kaggle.csv").rename("Kaggle.CSV")
    assert main(["predict", "--file", "Kaggle.CSV"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table["review"].tolist() == ["great good", "bad awful", "good"]
    assert main(["submit", "Kaggle.CSV"]) == 0
    submission = pd.read_csv("artifacts/predictions.csv")
    assert submission["ID"].tolist() == [1, 2, 3]
    assert submission["sentiment"].tolist() == ["positive", "negative", "positive"]


def save_tiny_model(folder, **options):
    vocabulary = Vocabulary(["<pad>", "<unk>", "good", "bad"], [0, 5, 4, 3])
    torch.manual_seed(0)
    matrix = torch.randn(4, 4)
    matrix[0] = 0
    SentimentPredictor(SentimentLSTM(matrix, 3, **options), vocabulary, 50, "tail").save(folder)


@pytest.fixture
def predict(tmp_path, monkeypatch, capsys):
    """Run the command in a folder with a tiny model; what it returns, prints and complains of."""
    monkeypatch.chdir(tmp_path)
    save_tiny_model("artifacts")

    def run(content, *options):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "latin-1"))
        return main(["predict", *options]), *capsys.readouterr()

    return run


LINES = {
    "lines": (b"good, bad\nbad\n", ["good, bad", "bad"]),
    "no line end after the last": (b"good\nbad", ["good", "bad"]),
    "lines of Windows, with a byte order mark": (b"\xef\xbb\xbfgood\r\nbad\r\n", ["good", "bad"]),
    "a line separator inside of a review": ("good\u2028\x0cbad\n".encode(), ["good\u2028\x0cbad"]),
    "blank lines": (b"\ngood\n\n", ["", "good", ""]),
    "old Mac": (b"good\rbad\r", ["good", "bad"]),
    "a carriage return inside of a review": (b"good\rbad\nbad\n", ["good\rbad", "bad"]),
    "not ASCII": ("bad caf\u00e9\n".encode(), ["bad caf\u00e9"]),
}


@pytest.mark.filterwarnings("ignore:.*hold no word")
@pytest.mark.parametrize("source", ["file", "standard input"])
@pytest.mark.parametrize("name", LINES)
def test_each_line_is_a_review(predict, name, source):
    content, expected = LINES[name]
    Path("lines.txt").write_bytes(content)
    given = (b"", "good", "--file", "lines.txt") if source == "file" else (content,)
    status, printed, _ = predict(*given)
    table = pd.read_csv(io.StringIO(printed, newline=""), keep_default_na=False)
    assert status == 0
    assert table["review"].tolist() == ["good"] * (source == "file") + expected
    assert table["probability"].between(0, 1).all()


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"good\nna\xefve\n", [], "standard input is not UTF-8 text"),
        (b"", [], "standard input holds no review"),
        (b"", ["--words"], "standard input holds no review"),
        (b"good\n\nbad\n", ["--words"], "review 2: the text has no word"),
        (b"", ["--file", "latin.txt"], "latin.txt is not UTF-8 text"),
        (b"", ["--file", "empty.txt", "--words"], "empty.txt holds no review"),
        (b"", ["--words", "--model", "both_ways", "good"], "review 1: a bidirectional model must"),
    ],
)
def test_what_cannot_be_judged_is_said_in_one_line(predict, content, options, message):
    Path("latin.txt").write_bytes(b"na\xefve\n")
    Path("empty.txt").touch()
    save_tiny_model("both_ways", bidirectional=True)
    status, printed, error = predict(content, *options)
    assert status == 1
    assert printed == ""
    assert error.startswith(f"error: {message}")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_characters_that_the_terminal_lacks_are_printed_all_the_same(
    predict, monkeypatch, encoding
):
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding))
    assert main(["predict", "good \u6620\u753b", "bad \udce9"]) == 0
    commands.sys.stdout.flush()
    table = pd.read_csv(io.BytesIO(printed.getvalue()))
    assert table["review"].tolist() == ["good \u6620\u753b", r"bad \udce9"]


def test_what_is_held_back_takes_no_part_in_training(tmp_path, data_home, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "train.csv", 100, seed=1)
    write_vectors(tmp_path / "vectors.txt")
    reviews = pd.read_csv("train.csv")["review"]
    kaggle = ["something else", reviews[3].upper() + "!", f"<br />{reviews[50]}"]
    pd.DataFrame({"review": kaggle}).to_csv("kaggle.csv", index=False)
    options = ["--vectors", "vectors.txt", "--epochs", "1", "--hidden-size", "4"]
    assert main(["train", "--data", "train.csv", "--hold-back", "kaggle.csv", *options]) == 0
    metrics = json.loads((tmp_path / "artifacts" / "metrics.json").read_text())
    assert sum(metrics[name]["n"] for name in ("train", "validation", "test")) == 98
    assert "2 reviews left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [["evaluate", "missing.csv"], ["submit", "missing.csv"], ["predict", "a"], ["fetch", "no.bin"]],
)
def test_what_is_missing_is_said_in_one_line(command, tmp_path, data_home, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["fetch", "imdb"], "imdb vectors are not fetched: the command train makes"),
        (["train", "--data", "missing.csv", "--model", "file"], "--model file is a file; name"),
        (["submit", "missing.csv", "--output", "data"], "--output data is a folder; name the"),
    ],
)
def test_what_cannot_end_well_is_refused_at_the_start(
    command, message, tmp_path, data_home, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(command) == 1
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize("storage", ["foo://x", "search.db", "sqlite:///missing/folder/x.db"])
def test_a_search_says_which_storage_it_cannot_use(storage, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "drawn_data", None)  # asked for after the storage
    assert main(["study", "search", "--storage", storage]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: --storage {storage} cannot be used: ")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("seed", ["-1", "4294967296", "a"])
@pytest.mark.parametrize("command", [["train", "--seed"], ["study", "leaks", "--seeds"]])
def test_a_seed_that_not_all_libraries_take_is_refused(command, seed, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command, seed])
    assert ended.value.code == 2
    assert "seed" in capsys.readouterr().err


def test_a_preset_and_a_pretrained_model_are_trained(tmp_path, data_home, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "train.csv", 120, seed=1)
    monkeypatch.setattr(commands, "load_unlabelled", lambda exclude: ["a good film", "a bad film"])
    data = ["train", "--data", "train.csv"]
    assert main([*data, "--preset", "lab8-rnn", "--epochs", "1"]) == 0
    saved = json.loads((tmp_path / "artifacts" / "model.json").read_text())
    assert saved["model"]["cell"] == "rnn"
    assert main(["predict", "good great"]) == 0
    tiny = replace(PRETRAINED.pretraining, epochs=1)
    monkeypatch.setattr(commands, "PRETRAINED", PRETRAINED.but(min_count=1, pretraining=tiny))
    assert main([*data, "--pretrain", "--epochs", "1", "--hidden-size", "8"]) == 0
    assert "language model from 86 texts" in capsys.readouterr().out
    assert len(list(data_home.glob("language-model-*.safetensors"))) == 1
    metrics = json.loads((tmp_path / "artifacts" / "metrics.json").read_text())
    assert metrics["data"]["configuration"]["pretraining"]["hidden_size"] == 8


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--preset", "day17", "--epochs", "0"], "epochs"),
        (["--pretrain", "--bidirectional"], "bidirectional"),
        (["--learning-rate", "-1"], "learning_rate"),
        (["--hidden-size", "0"], "hidden_size"),
        (["--hidden-size", "-3"], "hidden_size"),
        (["--pretrain", "--hidden-size", "0"], "hidden_size"),
    ],
)
def test_options_that_do_not_work_are_refused_before_anything_is_read(options, reason, capsys):
    assert main(["train", "--data", "nowhere.csv", *options]) == 1
    assert reason in capsys.readouterr().err


def test_a_study_is_run_and_shown(tmp_path, monkeypatch, capsys):
    table = pd.DataFrame(
        {
            "name": ["a", "a"],
            "configuration": ["{}", "{}"],
            "validation_accuracy": [0.5, 0.7],
            "outside_accuracy": [0.5, 0.6],
            "outside_n": [9, 9],
            "train_n": [9, 9],
            "seconds": [1.0, 2.0],
        }
    )
    asked = []
    monkeypatch.setattr(
        commands, "run_study", lambda name, seeds: asked.append((name, list(seeds))) or table
    )
    assert main(["study", "leaks", "--seeds", "3", "4"]) == 0
    assert asked == [("leaks", [3, 4])]
    assert "0.6000" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "trials"), [([], TRIALS), (["--trials", "0"], 0)])
def test_as_many_trials_are_asked_for_as_were_given(monkeypatch, tmp_path, arguments, trials):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(
        commands, "run_search", lambda *given: asked.append(given) or pd.DataFrame({"value": [1.0]})
    )
    assert main(["study", "search", *arguments]) == 0
    assert asked == [(trials, SEARCH_STORAGE, 0)]


def test_a_negative_number_of_trials_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["study", "search", "--trials", "-3"])
    assert "must be 0 or more, got -3" in capsys.readouterr().err


def test_a_reader_that_has_had_enough_is_no_error():
    code = """
import sys
from lstm_sentiment import __main__ as commands
def predict(options):
    "As many lines as no pipe holds."
    print("text,sentiment,probability" * 100_000, flush=True)
commands.predict_command = predict
sys.exit(commands.main(["predict", "a film"]))
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "idle"),
    [
        (["ablation", "--trials", "3"], "--trials"),
        (["leaks", "--storage", "sqlite://"], "--storage"),
        (["baselines", "--seeds", "1"], "--seeds"),
    ],
)
def test_an_option_that_a_study_would_ignore_is_refused(arguments, idle, capsys):
    assert main(["study", *arguments]) == 1
    assert f"study {arguments[0]} has no option {idle}" in capsys.readouterr().err


def test_help_is_printed(capsys):
    for arguments in (["--help"], ["train", "--help"], ["study", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
    assert "--seeds" in capsys.readouterr().out


def test_an_interrupted_training_goes_on(tmp_path, data_home, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "train.csv", 100, seed=1)
    write_vectors(tmp_path / "vectors.txt")
    options = ["--data", "train.csv", "--vectors", "vectors.txt", "--epochs", "3"]
    original = training.score
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) in (1, 4):
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(training, "score", interrupted)
    assert main(["train", *options]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert not list(tmp_path.glob("artifacts/*"))
    save_tiny_model("artifacts")
    earlier = Path("artifacts/model.json").read_bytes()
    assert main(["train", *options]) == 130
    error = capsys.readouterr().err
    assert "2 of 3 epochs are done" in error
    assert "the same command with --resume goes on" in error
    assert Path("artifacts/model.json").read_bytes() == earlier
    assert not Path("artifacts/history.csv").exists()
    assert main(["train", *options, "--resume"]) == 0
    assert Path("artifacts/model.json").read_bytes() != earlier
    assert len(pd.read_csv("artifacts/history.csv")) == 3


def test_a_tab_separated_table_is_read_by_its_column(tmp_path):
    path = tmp_path / "reviews.tsv"
    path.write_text("id\treview\n1\ta good film\n")
    assert commands._texts_of(path) == ["a good film"]


def test_of_unequal_classes_as_many_are_drawn_as_balance(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "train.csv", 300, seed=1)
    table = pd.read_csv("train.csv")
    fewer = pd.concat(
        [table[table["sentiment"] == "positive"].head(60), table.query("sentiment == 'negative'")]
    )
    fewer.to_csv("train.csv", index=False)
    monkeypatch.setattr(commands, "load_unlabelled", lambda exclude: [])
    system = ["--preset", "experiment9-baseline", "--epochs", "1", "--limit", "200"]
    assert main(["train", "--data", "train.csv", *system]) == 0
    assert "120 of them are drawn, half of them positive" in capsys.readouterr().out
    assert json.loads(Path("artifacts/metrics.json").read_text())["data"]["reviews"] == 120


def test_every_option_reaches_the_configuration():
    options = (
        "train --epochs 3 --batch-size 8 --hidden-size 5 --learning-rate 0.01 --seed 4 "
        "--pooling mean_max --bidirectional --vectors v.txt"
    )
    configuration = commands._configuration(commands._parser().parse_args(options.split()))
    model = {"hidden_size": 5, "pooling": "mean_max", "bidirectional": True}
    training = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "seed": 4}
    assert configuration == REPORT.but(model, training, vectors="v.txt")


def test_what_is_drawn_or_held_back_is_not_read_without_labels(tmp_path, data_home, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_reviews(tmp_path / "train.csv", 120, seed=1)
    write_reviews(tmp_path / "kaggle.csv", 5, seed=2)
    left_out = []
    monkeypatch.setattr(commands, "load_unlabelled", lambda exclude: left_out.extend(exclude) or [])
    options = ["--epochs", "1", "--hidden-size", "4", "--seed", "3", "--limit", "100"]
    command = ["train", "--data", "train.csv", "--hold-back", "kaggle.csv", *options]
    monkeypatch.setattr(commands, "REPORT", REPORT.but(vector_size=4))
    assert main(command) == 0
    known = set(pd.read_csv("train.csv")["review"])
    assert len(set(left_out) & known) == 100
    assert set(pd.read_csv("kaggle.csv")["review"]) <= set(left_out)


def test_a_search_and_a_submission_are_where_and_as_large_as_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(
        commands, "run_search", lambda *given: asked.append(given) or pd.DataFrame()
    )
    assert main(["study", "search", "--trials", "7", "--seeds", "5", "--storage", "sqlite://"]) == 0
    assert asked == [(7, "sqlite://", 5)]
    predictor = Mock()
    predictor.predict.return_value = pd.DataFrame({"sentiment": ["positive"]})
    monkeypatch.setattr(commands.SentimentPredictor, "load", lambda folder: predictor)
    pd.DataFrame({"review": ["a film"]}).to_csv("kaggle.csv", index=False)
    assert main(["submit", "kaggle.csv", "--output", "to/x.csv"]) == 0
    assert pd.read_csv("to/x.csv")["sentiment"].tolist() == ["positive"]
