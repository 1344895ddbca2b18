"""The report runs from top to bottom, quickly, and writes what it promises."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import papermill
import pytest

from lstm_sentiment.data import load_reviews
from lstm_sentiment.plots import class_balance
from lstm_sentiment.predictor import SentimentPredictor
from lstm_sentiment.report import say, show, show_source

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "report.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    """The folder of a quick run, with a Kaggle file in its data folder."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(
        ROOT / "lstm_sentiment", folder / "lstm_sentiment", ignore=shutil.ignore_patterns("*.pyc")
    )
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
    assert {"words_2d", "words_3d", "learning_curves", "confusion_matrix", "search"} <= figures
    predictions = pd.read_csv(quick_run / "artifacts" / "predictions.csv")
    assert predictions["ID"].tolist() == [1, 2, 3]
    assert predictions["sentiment"].isin(["positive", "negative"]).all()


def test_the_saved_model_answers(quick_run):
    table = SentimentPredictor.load(quick_run / "artifacts").predict(["great", "awful"])
    assert table["probability"].between(0, 1).all()


def test_outside_a_notebook_everything_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    say("**78%** of all")
    show(class_balance(pd.DataFrame({"sentiment": ["positive", "negative"]})), "balance")
    show_source(SentimentPredictor)
    printed = capsys.readouterr().out
    assert printed.startswith("**78%** of all\n")
    assert f"figure: {Path('artifacts/figures/balance.png')}" in printed
    assert "class SentimentPredictor:" in printed
    assert (tmp_path / "artifacts" / "figures" / "balance.png").is_file()


def test_no_check_in_the_report_failed_and_nothing_is_undefined(quick_run):
    notebook = nbformat.read(quick_run / "out.ipynb", as_version=4)
    for text in output_texts(notebook):
        assert "nan" not in text.split()
        assert not re.search(r": False$", text, re.MULTILINE)
        assert "NOT that epoch" not in text
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


def output_texts(notebook):
    """Every text among the outputs of a notebook."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield output.get("text", "")
            for kind, content in output.get("data", {}).items():
                if kind.startswith("text/"):
                    yield content
