"""The report runs from top to bottom, quickly, and writes what it promises."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import IPython
import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

import lstm_sentiment
from lstm_sentiment.classifier import SentimentPredictor
from lstm_sentiment.data import load_reviews
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.plots import class_balance
from lstm_sentiment.report import show as report
from lstm_sentiment.report.show import ask, explain, record_run, reserve, say, show, show_source
from lstm_sentiment.studies.language_model import PretrainingConfig
from lstm_sentiment.studies.presets import PRETRAINED
from lstm_sentiment.studies.study import STUDIES
from lstm_sentiment.text import DataError, Vocabulary, tokenize_all

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "report.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def cell_with(text):
    """The source of the one code cell of the report that contains `text`."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (source,) = [cell.source for cell in code_cells(notebook) if text in cell.source]
    return source


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    """The folder of a quick run, with a Kaggle file in its data folder and the studies' tables."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(
        ROOT / "lstm_sentiment", folder / "lstm_sentiment", ignore=shutil.ignore_patterns("*.pyc")
    )
    shutil.copytree(ROOT / "notebooks" / "results", folder / "notebooks" / "results")
    (folder / "data").mkdir()
    kaggle = pd.DataFrame({"review": ["A fine film.", 'Dreadful, "boring" stuff', "So, so"]})
    kaggle.to_csv(folder / "data" / "subset1000_IMDB_Dataset.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSTM_SENTIMENT_QUICK", "1")
        patch.delenv("LSTM_SENTIMENT_DATA", raising=False)
        papermill.execute_notebook(
            NOTEBOOK, folder / "out.ipynb", cwd=folder, kernel_name="python3", progress_bar=False
        )
    return folder


def test_every_cell_ran(quick_run):
    notebook = nbformat.read(quick_run / "out.ipynb", as_version=4)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    text = json.dumps(notebook.cells)
    for number in range(1, 10):
        assert f"## {number}. " in text


def test_metrics_have_the_promised_form(quick_run):
    metrics = json.loads((quick_run / "artifacts" / "metrics.json").read_text())
    assert metrics["train"]["n"] == 1050
    assert metrics["validation"]["n"] == 300
    assert metrics["test"]["n"] == 150
    assert metrics["train"]["accuracy"] > 0.65, "the quick model learnt nothing"
    assert {"accuracy", "precision", "recall", "f1"} <= metrics["test"].keys()
    assert metrics["baselines"]["TF-IDF + logistic regression"]["n"] == 150
    assert metrics["seconds"]["report"] > metrics["seconds"]["training"] > 0


def test_the_history_has_a_row_for_each_epoch_and_the_search_one_for_each_pair(quick_run):
    history = pd.read_csv(quick_run / "artifacts" / "history.csv")
    assert history["epoch"].tolist() == list(range(1, 13))
    search = pd.read_csv(quick_run / "artifacts" / "search.csv")
    assert len(search) == search[["learning_rate", "batch_size"]].drop_duplicates().shape[0] >= 4


def test_figures_and_predictions_are_written(quick_run):
    figures = {path.stem for path in (quick_run / "artifacts" / "figures").glob("*.png")}
    assert {
        "words_2d_imdb",
        "words_3d_imdb",
        "learning_curves",
        "confusion_matrix",
        "search",
    } <= figures
    predictions = pd.read_csv(quick_run / "artifacts" / "predictions.csv")
    assert predictions["ID"].tolist() == [1, 2, 3]
    assert predictions["sentiment"].isin(["positive", "negative"]).all()


def test_as_a_web_page_every_figure_is_described_and_no_field_is_dead(quick_run):
    config = ROOT / "notebooks" / "nbconvert" / "config.py"
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--config", str(config)]
    result = subprocess.run(
        [*command, str(quick_run / "out.ipynb")], capture_output=True, text=True, check=True
    )
    assert "warn" not in result.stderr.lower()
    page = (quick_run / "out.html").read_text(encoding="utf-8")
    images = re.findall(r"<img\s[^>]*>", page)
    assert len(images) > 15
    assert all(re.search(r'alt="[^"]{10,}"', image) for image in images)
    assert '<pre>explain(predictor, "your review")' in page


def test_the_saved_model_answers(quick_run):
    table = SentimentPredictor.load(quick_run / "artifacts").predict(["great", "awful"])
    assert table["probability"].between(0, 1).all()


@pytest.fixture
def session(tmp_path, monkeypatch):
    """An empty session of Colab, in which the committed notebook is open.

    `commands` are those that were run in it, without their effect; `opened` is the answer of Colab
    to the question which notebook that is.
    """
    commands = []
    colab = ModuleType("google.colab")
    opened = {"ipynb": json.loads(NOTEBOOK.read_text(encoding="utf-8"))}
    colab._message = SimpleNamespace(blocking_request=lambda request, timeout_sec: opened)

    def run(command, check):
        commands.append(command)
        if "clone" in command:
            (tmp_path / command[-1] / "lstm_sentiment").mkdir(parents=True)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(subprocess, "run", run)
    return SimpleNamespace(folder=tmp_path, commands=commands, colab=colab, opened=opened)


INSTALL = [sys.executable, "-m", "pip", "install", "-q", "-r", "requirements.txt"]


def test_on_colab_the_uploaded_zip_and_csv_are_enough(session):
    with zipfile.ZipFile(session.folder / "1234567.zip", "w") as archive:
        archive.writestr("lstm_sentiment/__init__.py", "")
    (session.folder / "subset1000_IMDB_Dataset.csv").write_text("review")
    exec(cell_with("def find_project"), {})
    assert session.commands == [INSTALL]
    assert (session.folder / "data" / "subset1000_IMDB_Dataset.csv").read_text() == "review"
    assert sys.path[0] == str(session.folder) == str(Path.cwd())


def test_on_colab_the_project_is_fetched_from_its_address(session):
    source = cell_with("def find_project")
    address = "https://example.org/lstm_sentiment"
    assert 'repository = ""' in source
    exec(source.replace('repository = ""', f'repository = "{address}"'), {})
    clone = ["git", "clone", "-q", "--depth=1", address, "project"]
    assert session.commands == [clone, INSTALL]
    assert Path.cwd() == session.folder / "project"


def test_the_badge_opens_the_notebook_of_the_repository_and_the_first_cell_fetches_it(session):
    workflow = (ROOT / ".github" / "workflows" / "badge.yml").read_text(encoding="utf-8")
    (write_address,) = re.findall(r"^ +(notebook=.*\n +sed .*)$", workflow, re.MULTILINE)
    (session.folder / "notebooks").mkdir()
    for path in (Path("README.md"), NOTEBOOK.relative_to(ROOT)):
        shutil.copy(ROOT / path, session.folder / path)
    for _ in range(2):  # again, it changes nothing
        subprocess.check_call(
            ["bash", "-ec", write_address],
            env={"PATH": os.environ["PATH"], "GITHUB_REPOSITORY": "a-student/his.project"}
            | {"GITHUB_REF_NAME": "main"},
        )
    link = (
        "(https://colab.research.google.com/github/a-student/his.project/blob/main/notebooks/"
        "report.ipynb)"
    )
    assert f"colab-badge.svg)]{link}" in Path("README.md").read_text(encoding="utf-8")
    notebook = json.loads(Path("notebooks/report.ipynb").read_text(encoding="utf-8"))
    assert f"colab-badge.svg)]{link}" in "".join(notebook["cells"][0]["source"])
    assert notebook["cells"][1:] == session.opened["ipynb"]["cells"][1:]

    session.opened["ipynb"] = notebook
    shutil.rmtree("notebooks")
    exec(cell_with("def find_project"), {})
    address = "https://github.com/a-student/his.project"
    assert session.commands == [["git", "clone", "-q", "--depth=1", address, "project"], INSTALL]


@pytest.mark.parametrize("interface_has_changed", [False, True])
def test_on_colab_without_either_it_says_what_to_do(session, interface_has_changed):
    if interface_has_changed:
        del session.colab._message
    else:  # opened from elsewhere than GitHub
        session.opened.clear()
    with pytest.raises(SystemExit, match="upload the hand-in zip into the session or set"):
        exec(cell_with("def find_project"), {})
    assert session.commands == []


def test_beside_the_notebook_the_project_is_found_and_nothing_is_installed(session, monkeypatch):
    monkeypatch.delitem(sys.modules, "google.colab")
    (session.folder / "lstm_sentiment").mkdir()
    (session.folder / "notebooks").mkdir()
    monkeypatch.chdir(session.folder / "notebooks")
    exec(cell_with("def find_project"), {})
    assert Path.cwd() == session.folder
    assert session.commands == []


@pytest.mark.parametrize("rerun", [False, True])
def test_the_studies_are_run_again_where_it_is_asked_for(rerun):
    done = []
    cells = {
        **vars(lstm_sentiment),
        "rerun_studies": rerun,
        "run_all_again": lambda: done.append("run again"),
        "clear_output": lambda: None,
        "study_results": lambda name, *needed: done.append(name) or needed,
    }
    exec(cell_with("run_all_again()"), cells)
    assert done[0] == ("run again" if rerun else "ablation"), "tables are read after it"
    assert {*done} - {"run again"} == {*STUDIES, "baselines"}
    assert "copies made before the split" in cells["leak_study"], "rows that sentences speak of"


def test_the_report_may_train_the_language_model(tmp_path, data_home, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("artifacts").mkdir()
    texts = [f"a {word} film , so {word}" for word in ("good", "bad", "fine", "dull") * 5]
    sets = {"train": 12, "validation": 4, "test": 4}
    tiny = PRETRAINED.but(
        {"hidden_size": 6},
        {"epochs": 2},
        min_count=1,
        vectors=None,
        vector_size=4,
        pretraining=PretrainingConfig(hidden_size=6, epochs=1, batch_size=4),
    )
    shown = []
    cells = {
        **vars(lstm_sentiment),
        "train_language_model": True,
        "PRETRAINED": tiny,
        "unlabelled": texts,
        "token_lists": {name: tokenize_all(texts[:n]) for name, n in sets.items()},
        "labels": {name: np.array([1, 0] * (n // 2), np.float32) for name, n in sets.items()},
        "display": shown.append,
        "clear_output": lambda: None,
    }
    exec(cell_with("if train_language_model"), cells)
    assert [path.suffix for path in data_home.glob("language-model-*.safetensors")]
    (history,) = shown
    assert history["is_best"].all()
    found = cells["language_probabilities"]
    assert {name: len(values) for name, values in found.items()} == sets
    assert all(((values > 0) & (values < 1)).all() for values in found.values())


def test_outside_a_notebook_everything_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    say("""
        **78%** of all
        2. are

        - one
        item
        - another
    """)
    show(class_balance(pd.DataFrame({"sentiment": ["positive", "negative"]})), "balance")
    show_source(SentimentPredictor)
    printed = capsys.readouterr().out
    assert printed.startswith("**78%** of all 2. are\n\n- one item\n- another\n")
    assert f"figure: {Path('artifacts/figures/balance.png')}" in printed
    assert "class SentimentPredictor:" in printed
    assert (tmp_path / "artifacts" / "figures" / "balance.png").is_file()


def test_a_text_for_a_reserved_place_is_printed_where_there_are_no_places(capsys):
    put = reserve()
    assert capsys.readouterr().out == ""
    put("**78%** of all,\n\n    - indented")
    assert capsys.readouterr().out == "**78%** of all,\n\n- indented\n"


@pytest.fixture
def predictor(tmp_path, monkeypatch):
    """The last word that it reads decides; of a longer text it keeps the first two."""
    monkeypatch.chdir(tmp_path)
    vocabulary = Vocabulary(["<pad>", "<unk>", "good", "bad"], [0, 5, 4, 3])
    model = SentimentLSTM(torch.tensor([[0.0], [0.1], [1.0], [-1.0]]), hidden_size=1)
    cell = model.lstm.cells[0]
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter is not model.embedding.weight:
                parameter.zero_()
        cell.candidate.weight[0, 1] = 9  # of the word; that of the state stays 0
        cell.forget_gate.bias.fill_(-9)
        for gate in (cell.input_gate, cell.output_gate):
            gate.bias.fill_(9)
        model.output.weight.fill_(3)
    return SentimentPredictor(model, vocabulary, max_length=2, keep="head")


@pytest.mark.filterwarnings("error")
def test_an_explanation_gives_the_verdict_of_predict(predictor, capsys):
    explain(predictor, "A bad film")
    printed = capsys.readouterr().out
    probability = predictor.predict_proba(["A bad film"])[0]
    assert printed.startswith(f"**negative**, with a probability of {1 - probability:.0%}. ")
    assert "reads all 3 words, the verdict those 2 that the model keeps. Words the" in printed
    assert "does not know: a, film.\n" in printed
    assert f"figure: {Path('artifacts/figures/words_and_gates.png')}" in printed

    text = "good, good, bad"
    assert predictor.word_by_word(text)["probability"].iloc[-1] < 0.5, "uncut it is negative"
    explain(predictor, text)
    probability = predictor.predict_proba([text])[0]
    assert f"**positive**, with a probability of {probability:.0%}" in capsys.readouterr().out

    explain(predictor, "good")
    assert "curve" not in capsys.readouterr().out


@pytest.mark.filterwarnings("error")
def test_of_a_text_without_a_known_word_it_is_said_that_the_verdict_means_nothing(
    predictor, capsys
):
    explain(predictor, "qwertz asdf")
    printed = capsys.readouterr().out
    assert "The model knows no word of this text, so the verdict means nothing." in printed
    with pytest.raises(DataError, match="no word"):
        explain(predictor, "...")


def test_outside_a_notebook_it_is_said_how_to_ask(predictor, capsys):
    ask(predictor)
    printed = capsys.readouterr().out
    assert 'explain(predictor, "your review")' in printed
    assert 'python -m lstm_sentiment predict "your review"' in printed


def test_in_a_notebook_there_is_a_field_and_a_sentence_for_those_who_only_look(
    predictor, monkeypatch
):
    pytest.importorskip("ipywidgets", minversion="8")
    shown = []
    shell = SimpleNamespace(display_formatter=DisplayFormatter())
    monkeypatch.setattr(report, "get_ipython", lambda: shell)
    monkeypatch.setattr(report, "display", lambda data, **options: shown.append((data, options)))
    ask(predictor)
    [(data, options)] = shown
    assert options["raw"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"].startswith('explain(predictor, "your review"), or:')


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def test_a_run_is_recorded_with_the_package_as_imported_and_the_tables_as_read(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    package, results = tmp_path / "lstm_sentiment", tmp_path / "notebooks" / "results"
    for folder in (package / ".ipynb_checkpoints", results):
        folder.mkdir(parents=True)
    (package / "b.py").write_text("b = 2")
    (package / "a.py").write_text("a = 1\n")
    (package / ".ipynb_checkpoints" / "a.py").write_text("a = 0")
    inputs = ["", "first = 1\n", "record_run()"]
    shell = SimpleNamespace(history_manager=SimpleNamespace(input_hist_raw=inputs))
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    # A second copy of the module, imported as it would be in IPython.
    specification = importlib.util.spec_from_file_location("report_in_ipython", report.__file__)
    in_ipython = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(in_ipython)
    records = []
    in_ipython.display = lambda data, raw, metadata: records.append(metadata["lstm_sentiment"])

    in_ipython.record_run()
    (package / "a.py").write_text("a = 'edited during the run'")
    (results / "study.csv").write_text("name\n")
    (results / "bench.json").write_text("{}")
    (results / "metrics.png").write_bytes(b"\x89PNG")
    in_ipython.record_run()
    expected = {
        "cells": [digest("first = 1"), digest("record_run()")],
        "package": digest("a = 1\nb = 2"),
    }
    assert records == [
        expected | {"results": digest("")},
        expected | {"results": digest("{}name")},
    ]


def test_outside_of_ipython_no_run_is_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    record_run()
    assert capsys.readouterr().out == ""


def test_no_check_in_the_report_failed_and_nothing_is_undefined(quick_run):
    notebook = nbformat.read(quick_run / "out.ipynb", as_version=4)
    for text in output_texts(notebook):
        if not text.startswith("```"):  # source code may speak of NaN
            assert not re.search(r"\bnan\b", text, re.IGNORECASE)
        assert not re.search(r": False$", text, re.MULTILINE)
        assert "NOT that epoch" not in text
        assert "MORE than rounding" not in text
        assert "Warning" not in text


def test_the_committed_report_is_one_whole_run():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 12
    assert NOTEBOOK.stat().st_size < 6_000_000


def test_the_committed_report_holds_no_whole_review():
    printed = "\n".join(output_texts(nbformat.read(NOTEBOOK, as_version=4)))
    long_reviews = [review for review in load_reviews("bundle")["review"] if len(review) > 220]
    assert len(long_reviews) > 20_000
    assert not [review for review in long_reviews if review[:200] in printed]


def test_whoever_is_cited_is_listed_and_the_other_way_round():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    (references,) = [text for text in prose if text.startswith("## References")]
    listed = set(re.findall(r"^- ([A-Z]\w+)[^(]*\((\d{4})\)\.", references, re.MULTILINE))
    outputs = [output.get("data", {}) for cell in code_cells(notebook) for output in cell.outputs]
    written = [data["text/markdown"] for data in outputs if "text/markdown" in data]
    others = "\n".join([*(text for text in prose if text != references), *written])
    name = r"[A-Z][a-zé]+"
    cited = re.findall(rf"\b({name})(?: & {name}| et\s+al\.)?\s\(?((?:19|20)\d\d)\b", others)
    assert len(listed) > 15
    assert set(cited) == listed


def output_texts(notebook):
    """Every text among the outputs of a notebook."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield output.get("text", "")
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/"):
                    yield content


def test_the_readme_says_of_the_kaggle_file_what_was_measured():
    results = ROOT / "notebooks" / "results" / "kaggle_metrics.json"
    test = json.loads(results.read_text(encoding="utf-8"))["test"]
    low, high = test["accuracy_95"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    said = (
        f"{test['accuracy']:.1%} of the {test['n']:,} reviews held out for testing (95% interval "
    )
    assert said + f"{low:.1%} to {high:.1%}" in readme
    predictions = pd.read_csv(ROOT / "notebooks" / "kaggle_predictions.csv")
    assert predictions["ID"].tolist() == list(range(1, 1001))
    assert predictions["sentiment"].isin(["positive", "negative"]).all()
