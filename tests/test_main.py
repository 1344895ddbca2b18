"""The commands, run as a user would: train on a file of one's own, then use the model."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock

from lstm_sentiment import __version__, scoring, training
from lstm_sentiment.__main__ import main
from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.files import lines
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.predictor import TextPredictor
from lstm_sentiment.studies.presets import LANGUAGE_MODEL
from lstm_sentiment.text import Vocabulary

TRAIN = ["train", "--data", "train.csv"]
TINY = [*TRAIN, "--vectors", "vectors.txt", "--hidden-size", "4"]
MODEL = Path("artifacts/model.safetensors")
FILLER = [f"word{index}" for index in range(40)]
ADJECTIVES = {"positive": ["good", "great"], "negative": ["bad", "awful"]}


def write_reviews(path, n, seed):
    """n reviews whose adjectives tell the sentiment."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        sentiment = ("negative", "positive")[number % 2]
        words = [*rng.choice(FILLER, 12), *rng.choice(ADJECTIVES[sentiment], 3)]
        rows.append((" ".join(rng.permutation([*words, f"id{seed}x{number}"])), sentiment))
    pd.DataFrame(rows, columns=["review", "sentiment"]).to_csv(path, index=False)


@pytest.fixture
def home(tmp_path, data_home, monkeypatch):
    """A working folder with reviews, word vectors and nothing else."""
    monkeypatch.chdir(tmp_path)
    write_reviews("train.csv", 120, seed=1)
    rng = np.random.default_rng(0)
    words = [*FILLER, *ADJECTIVES["positive"], *ADJECTIVES["negative"]]
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in rng.normal(size=10))}" for word in words]
    Path("vectors.txt").write_text(f"{len(words)} 10\n" + "\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def table_of(capsys):
    """The table that a command prints."""

    def run(*command):
        capsys.readouterr()
        assert main(command) == 0
        return pd.read_csv(io.StringIO(capsys.readouterr().out, newline=""), keep_default_na=False)

    return run


def metrics():
    return json.loads(Path("artifacts/metrics.json").read_text())


def save_tiny_model(folder, **options):
    classifier = SentimentClassifier(hidden_size=3, keep="tail", max_length=50, **options)
    classifier.vocabulary_ = Vocabulary(["<pad>", "<unk>", "good", "bad"], [0, 5, 4, 3])
    classifier.classes_ = np.array(["negative", "positive"])
    classifier.max_length_, classifier.temperature_ = 50, 1.0
    matrix = torch.from_numpy(np.eye(4, dtype=np.float32))
    matrix[0] = 0
    classifier.model_ = SentimentLSTM(matrix, 3, **options).eval()
    classifier.save(folder)


def give(monkeypatch, content):
    """Standard input that, as on some systems, is taken for another encoding."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "latin-1"))


def test_train_evaluate_predict_submit(home, capsys, table_of):
    write_reviews("train.csv", 300, seed=1)
    write_reviews("other.csv", 60, seed=2)
    command = [*TINY, "--hidden-size", "16", "--batch-size", "16", "--learning-rate", "0.02"]
    command += ["--epochs", "8"]
    assert main(command) == 0
    history = pd.read_csv("artifacts/history.csv")
    assert history["epoch"].tolist() == list(range(1, 9))
    assert "300 usable reviews" in capsys.readouterr().out
    assert main([*command, "--resume"]) == 0
    assert pd.read_csv("artifacts/history.csv").equals(history), "it was complete already"
    assert [metrics()[name]["n"] for name in ("train", "validation", "test")] == [210, 60, 30]

    capsys.readouterr()
    assert main(["evaluate", "other.csv"]) == 0
    printed = capsys.readouterr().out
    result = json.loads(printed[printed.index("{") :])
    assert result["n"] == 60
    assert result["accuracy"] > 0.9

    table = table_of("predict", "good great good word1", "awful bad bad word2")
    assert table["sentiment"].tolist() == ["positive", "negative"]
    table = table_of("predict", "--words", "good word1", "bad")
    assert table["review"].tolist() == [1, 1, 2]
    assert table["word"].tolist() == ["good", "word1", "bad"]
    assert {"probability", "forget_gate", "input_gate", "output_gate"} <= set(table.columns)

    reviews = ["great good", "bad awful", "good"]
    pd.DataFrame({"review": reviews}).to_csv("Kaggle.CSV", index=False)
    assert table_of("predict", "--file", "Kaggle.CSV")["review"].tolist() == reviews
    assert main(["submit", "Kaggle.CSV", "--output", "to/predictions.csv"]) == 0
    submission = Path("to/predictions.csv").read_text()
    assert submission == "ID,sentiment\n1,positive\n2,negative\n3,positive\n"
    pd.DataFrame({"Id": [501, 17, 9], "review": reviews}).to_csv("Kaggle.CSV", index=False)
    assert main(["submit", "Kaggle.CSV", "--output", "to/predictions.csv"]) == 0
    assert Path("to/predictions.csv").read_text().split()[1:] == (
        ["501,positive", "17,negative", "9,positive"]
    )


def test_programs_get_a_json_object_a_line(home, capsys, table_of):
    save_tiny_model("artifacts")
    texts = ["good,\nbad", 'a "good" \u6620\u753b \udce9']
    for options, numbers in ([], ["probability"]), (["--words"], ["probability", "forget_gate"]):
        table = table_of("predict", *options, *texts)
        assert main(["predict", *options, "--json", *texts]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [[*row] for row in rows] == [[*table.columns]] * len(table)
        assert [row["review"] for row in rows] == (table["review"].tolist() if options else texts)
        for name in numbers:
            assert [row[name] for row in rows] == pytest.approx(table[name].tolist(), abs=1e-4)


LINES = {
    "lines": (b"good, bad\nbad\n", ["good, bad", "bad"]),
    "no line end after the last": (b"good\nbad", ["good", "bad"]),
    "lines of Windows, with a byte order mark": (b"\xef\xbb\xbfgood\r\nbad\r\n", ["good", "bad"]),
    "a line separator inside of a review": ("good\u2028\x0cbad\n".encode(), ["good\u2028\x0cbad"]),
    "blank lines": (b"\ngood\n\n", ["", "good", ""]),
    "old Mac": (b"good\rbad\r", ["good", "bad"]),
    "a carriage return inside of a review": (b"good\rbad\nbad\n", ["good\rbad", "bad"]),
    "a bracket at the beginning": (b"[Spoilers] good\nbad", ["[Spoilers] good", "bad"]),
    "not ASCII": ("bad caf\u00e9\n".encode(), ["bad caf\u00e9"]),
}


@pytest.mark.filterwarnings("ignore:.*hold no word")
@pytest.mark.parametrize("name", LINES)
def test_each_line_of_a_file_or_of_standard_input_is_a_review(home, monkeypatch, table_of, name):
    content, expected = LINES[name]
    save_tiny_model("artifacts")
    Path("lines.txt").write_bytes(content)
    table = table_of("predict", "good", "--file", "lines.txt")
    assert table["review"].tolist() == ["good", *expected]
    assert table["probability"].between(0, 1).all()
    give(monkeypatch, content)
    assert table_of("predict")["review"].tolist() == expected


@pytest.mark.filterwarnings("ignore:.*hold no word")
def test_a_tab_separated_table_is_read_by_its_column_whatever_it_is_called_before(home, table_of):
    save_tiny_model("artifacts")
    Path("a.txt.tsv").write_text("id\treview\n1\tgood good\n")
    assert table_of("predict", "--file", "a.txt.tsv")["review"].tolist() == ["good good"]
    Path("notes.csv.txt").write_text("review\ngood\n")
    assert table_of("predict", "--file", "notes.csv.txt")["review"].tolist() == ["review", "good"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("predict --model tiny --file latin.txt", "latin.txt, line 1, is not UTF-8 text"),
        ("predict --model tiny --file empty.txt --words", "empty.txt holds no review"),
        ("predict --model tiny --file labelled.txt", "labelled.txt begins with the header of a"),
        ("predict --model tiny --file lines.json", "lines.json is a JSON array, or"),
        ("predict --model tiny --words", "review 1: the text has no word"),
        ("predict --model both_ways --words good", "review 1: a bidirectional model must"),
        ("predict --model artifacts good", "artifacts/model.safetensors: not found. Train a"),
        ("evaluate missing.csv", "missing.csv"),
        ("submit train.csv --model tiny --output data", "output data is a folder or a file"),
        ("submit train.csv --output ./train.csv", "output train.csv is a folder or"),
        ("submit train.csv --output linked.csv", "output linked.csv is a folder or"),
        ("page tiny/model.safetensors --model tiny", "output tiny/model.safetensors is a folder"),
        ("submit same.csv --model tiny --output ids.csv", "0 ids are blank, or some are there tw"),
        (" ".join([*TRAIN, "--vectors no.bin"]), "no.bin"),
        ("train --data missing.csv --model train.csv", "--model train.csv is a file"),
        ("train --data missing.csv --model train.csv/folder", "Not a directory: 'train.csv/fold"),
        (" ".join([*TRAIN, "--pretrained", "--bidirectional"]), "bidirectional=True"),
        ("train --data train.csv --model locked", "another training writes to locked"),
        (" ".join([*TINY, "--hidden-size 10000000"]), "there is not enough memory for this"),
    ],
)
def test_what_cannot_end_well_is_said_in_one_line(home, monkeypatch, capsys, command, message):
    Path("latin.txt").write_bytes(b"na\xefve\n")
    Path("empty.txt").touch()
    Path("linked.csv").hardlink_to("train.csv")  # as the other case of its name on some systems
    Path("labelled.txt").write_text('"Review","sentiment"\n"Good","positive"\n')
    Path("lines.json").write_text('[\n{"review": "Good"}\n]\n')
    Path("same.csv").write_text("id,review\n1,Good\n1,Bad\n")
    save_tiny_model("tiny")
    save_tiny_model("both_ways", bidirectional=True)
    Path("locked").mkdir()
    give(monkeypatch, b"\ngood\n")
    with FileLock("locked/training.lock"):
        assert main(command.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"na\xefve\n", ", line 1, is not UTF-8 text"),
        (b"", " holds no review"),
        (b"label\ttext\n1\tGood\n", " begins with the header of a table"),
    ],
)
def test_unreadable_standard_input_is_refused(home, monkeypatch, capsys, content, message):
    save_tiny_model("artifacts")
    give(monkeypatch, content)
    assert main(["predict"]) == 1
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error.startswith(f"error: standard input{message}")


@pytest.mark.filterwarnings("ignore:.*hold no word")
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_characters_that_the_terminal_lacks_are_printed_all_the_same(home, monkeypatch, encoding):
    save_tiny_model("artifacts")
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding))
    assert main(["predict", "good \u6620\u753b", "bad \udce9"]) == 0
    sys.stdout.flush()
    table = pd.read_csv(io.BytesIO(printed.getvalue()))
    assert table["review"].tolist() == ["good \u6620\u753b", r"bad \udce9"]


DAMAGED = {
    "a.csv": (b'id,review\n1,good\n2,bad,bad\n"3" 3,bad\n4,"bad,\nbad"\n', [2, 3]),
    "a.jsonl": (b'{"text": "good"}\n{"text": 1}\n{"tex\n\n"bad,\\nbad"\n', [2, 3]),
    "a.txt": (b"good\nna\xefve\n\xff\nbad,bad\n", [2, 3]),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_row_is_reported_and_stops_the_rest_only_if_strict(
    home, monkeypatch, capsys, table_of, name
):
    content, damaged = DAMAGED[name]
    save_tiny_model("artifacts")
    Path(name).write_bytes(content)
    Path("packed.gz").write_bytes(gzip.compress(content))
    form = lines.format_of(name)
    with pytest.warns(UserWarning, match=f"2 rows have no verdict: .* {damaged[1]}") as warned:
        table = table_of("predict", "--file", name)
    assert len(warned) == 1
    assert table["review"].str.replace("\n", "").tolist() == ["good", "", "", "bad,bad"]
    assert (table["sentiment"] == "").tolist() == [False, True, True, False]
    for command in (["--file", "packed.gz"], ["--file", "-"], []):
        give(monkeypatch, content)
        with pytest.warns(UserWarning, match="2 rows have no verdict"):
            assert table_of("predict", *command, "--format", form).equals(table)
    with pytest.warns(UserWarning, match="2 rows have no verdict"):
        assert main(["predict", "--file", name, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["sentiment"] is None for row in rows] == [False, True, True, False]
    assert main(["predict", "--file", name, "--strict"]) == 1
    printed, error = capsys.readouterr()
    assert printed.splitlines()[1].startswith("good,")
    assert len(printed.splitlines()) == 2
    assert error.startswith(f"error: {name}, ")
    assert f" {damaged[0]}" in error


@pytest.mark.parametrize("ending", ['"good\nbad\n', '"go\n"o"d\nbad\n'])
def test_where_the_next_row_begins_nobody_can_tell_the_rows_before_are_judged(
    home, capsys, monkeypatch, ending
):
    monkeypatch.setattr(scoring, "CHUNK_TEXTS", 2)
    save_tiny_model("artifacts")
    Path("a.csv").write_text("review\ngood\nbad\ngood\n" + ending)
    assert main(["predict", "--file", "a.csv"]) == 1
    printed, error = capsys.readouterr()
    assert [line.split(",")[0] for line in printed.splitlines()] == [
        "review",
        "good",
        "bad",
        "good",
    ]
    assert error.startswith("error: a.csv, row 4 (line 5): ")


def test_rows_are_judged_as_they_are_read(home, monkeypatch):
    """No row is read before those of the chunk before it are written."""
    monkeypatch.setattr(scoring, "CHUNK_TEXTS", 10)
    save_tiny_model("artifacts")
    rows, output = 0, io.StringIO()

    def reading():
        nonlocal rows
        for rows in range(1, 101):
            assert output.getvalue().count("\n") >= (rows - 1) // 10 * 10
            yield "good\rbad" if rows == 55 else "good"

    scoring.write_verdicts(
        scoring.judged(TextPredictor.load("artifacts"), reading()), output, as_json=False
    )
    table = pd.read_csv(io.StringIO(output.getvalue(), newline=""))
    assert table["review"].tolist() == ["good"] * 54 + ["good\rbad"] + ["good"] * 45


@pytest.mark.parametrize("name", ["other.csv", "other.json", "other.txt"])
def test_a_file_of_which_nothing_can_be_read_is_refused(home, capsys, name):
    save_tiny_model("artifacts")
    Path(name).write_bytes(b"review,\ngood,1,\xe9\nbad,2,\xe9\n"[9 * (name != "other.csv") :])
    assert main(["predict", "--file", name]) == 1
    printed, error = capsys.readouterr()
    assert printed == ""
    assert error.startswith(f"error: {name}, ")


def test_what_is_held_back_takes_no_part_in_training(home, capsys):
    reviews = pd.read_csv("train.csv")["review"]
    kaggle = ["something else", reviews[3].upper() + "!", f"<br />{reviews[50]}"]
    pd.DataFrame({"review": kaggle}).to_csv("kaggle.csv", index=False)
    assert main([*TINY, "--hold-back", "kaggle.csv", "--epochs", "1"]) == 0
    assert sum(metrics()[name]["n"] for name in ("train", "validation", "test")) == 118
    assert "2 reviews left out" in capsys.readouterr().out


def test_what_is_drawn_or_held_back_is_not_read_without_labels(home, monkeypatch):
    write_reviews("kaggle.csv", 5, seed=2)
    left_out = []
    monkeypatch.setattr(
        "lstm_sentiment.data.load_unlabelled", lambda exclude: left_out.extend(exclude) or []
    )
    options = ["--vectors", "own", "--epochs", "1", "--hidden-size", "4", "--seed", "3"]
    options += ["--limit", "100"]
    assert main([*TRAIN, "--hold-back", "kaggle.csv", *options]) == 0
    assert len(set(left_out) & set(pd.read_csv("train.csv")["review"])) == 100
    assert set(pd.read_csv("kaggle.csv")["review"]) <= set(left_out)


def test_of_unequal_classes_as_many_are_drawn_as_balance(home, capsys):
    table = pd.read_csv("train.csv")
    table.drop(table.index[table["sentiment"] == "positive"][30:]).to_csv("train.csv", index=False)
    system = ["--preset", "experiment9-baseline", "--epochs", "1", "--limit", "80"]
    assert main([*TRAIN, *system]) == 0
    assert "60 of them are drawn, half of them positive" in capsys.readouterr().out
    assert metrics()["data"]["reviews"] == 60


def test_presets_and_options_reach_the_classifier(home):
    options = "--epochs 1 --preset lab8-rnn --batch-size 8 --hidden-size 5 --learning-rate 0.01"
    options += " --seed 4 --pooling mean_max --bidirectional --vectors vectors.txt"
    assert main([*TRAIN, *options.split()]) == 0
    found = SentimentClassifier.load("artifacts").get_params()
    expected = {"epochs": 1, "batch_size": 8, "hidden_size": 5, "learning_rate": 0.01}
    expected |= {"pooling": "mean_max", "bidirectional": True, "vectors": "vectors.txt"}
    assert found | expected | {"cell": "rnn", "random_state": 4} == found


@pytest.mark.parametrize(
    "option",
    [
        *("train --seed -1", "train --seed 4294967296", "study leaks --seeds a"),
        *("study search --trials -3", "train --epochs 0", "train --hidden-size -3"),
        *("train --learning-rate -1", "train --preset nobody"),
    ],
)
def test_impossible_values_are_refused_before_anything_is_read(option, capsys):
    with pytest.raises(SystemExit) as ended:
        main(option.split())
    assert ended.value.code == 2
    assert option.split()[-2] in capsys.readouterr().err


def test_an_interrupted_training_goes_on(home, monkeypatch, capsys):
    command, calls = [*TINY, "--epochs", "3"], []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) in (1, 4):
            raise KeyboardInterrupt
        return training.score(*arguments)

    monkeypatch.setattr(training, "SENTIMENT", training.SENTIMENT._replace(score=interrupted))
    assert main(command) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    save_tiny_model("artifacts")
    earlier = MODEL.read_bytes()
    assert main(command) == 130
    error = capsys.readouterr().err
    assert "2 of 3 epochs are done" in error
    assert "the same command with --resume goes on" in error
    assert MODEL.read_bytes() == earlier
    assert not Path("artifacts/history.csv").exists()
    assert main([*command, "--resume"]) == 0
    assert MODEL.read_bytes() != earlier
    assert len(pd.read_csv("artifacts/history.csv")) == 3


def test_nothing_of_the_model_before_is_left_beside_a_new_one(home, monkeypatch):
    save = SentimentClassifier.save

    def saved_and_interrupted(classifier, folder):
        save(classifier, folder)
        raise KeyboardInterrupt

    command = [*TINY, "--epochs", "1"]
    assert main(command) == 0
    assert Path("artifacts/history.csv").exists()
    monkeypatch.setattr(SentimentClassifier, "save", saved_and_interrupted)
    assert main(command) == 130
    assert not any(Path("artifacts", name).exists() for name in ("history.csv", "metrics.json"))


def test_a_reader_that_has_had_enough_is_no_error():
    code = """
import sys
from lstm_sentiment import __main__ as commands
def predict(options):
    "As many lines as no pipe holds."
    print("text,sentiment,probability" * 100_000, flush=True)
commands.predict = predict
sys.exit(commands.main(["predict", "a film"]))
"""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize("command", ["--version", "--help", "train --help", "study --help"])
def test_version_and_help_are_printed(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    assert ended.value.code == 0
    expected = __version__ if command == "--version" else "--help"
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--pretrained", "--adversarial"])
def test_training_can_start_from_the_language_model_that_comes_along(home, option):
    assert main([*TRAIN, option, "--epochs", "1"]) == 0
    started = SentimentClassifier.load("artifacts")
    assert bool(started.adversarial_norm) == (option == "--adversarial")
    assert started.hidden_size == LANGUAGE_MODEL["hidden_size"]
    assert "unforgettable" in started.vocabulary_  # no word of the reviews here


def test_without_a_training_the_classifier_that_comes_along_judges(home, capsys):
    assert main(["predict", "A wonderful film.", "A terrible film."]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["sentiment"] for row in rows] == ["positive", "negative"]
