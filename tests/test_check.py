"""Any student's notebook is judged in a line: was it one whole run, and is every section there?"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lstm_sentiment.__main__ import main
from lstm_sentiment.report.check import missing_sections, read_cells
from lstm_sentiment.report.record import CODE, digest, digests

REPOSITORY = Path(__file__).resolve().parent.parent
HEADINGS = [
    *("# 1. Loading the dataset", "## Text preprocessing", "## Word2Vec vectors and PCA"),
    *("**Embedding matrix**", "## Dataset and DataLoader", "<h2 id=a>Custom LSTM</h2>"),
    *("# Testing", "## Kaggle submission", "## Limitations of LSTMs"),
]
ERROR = new_output("error", ename="ValueError", evalue="\x1b[31mtoo\nlong", traceback=[])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, changes=(), headings=HEADINGS, record=None):
    """A notebook with five code cells, some of which are changed after the run."""
    cells = [new_code_cell(f"x = {n}", execution_count=n) for n in range(1, 6)]
    if record is not None:
        cells[-1].outputs = [new_output("display_data", {}, metadata={"lstm_sentiment": record})]
    for n, change in changes:
        cells[n - 1].update(change)
    prose = [new_markdown_cell(f"{heading}\n\nProse.") for heading in headings]
    nbformat.write(new_notebook(cells=[*prose, *cells]), path)
    return path


def line_of(capsys, *arguments):
    status = main(["check", *map(str, arguments)])
    return status, capsys.readouterr().out


def test_a_whole_run_with_all_sections_is_good(folder, capsys):
    assert line_of(capsys, write("a.ipynb")) == (0, "a.ipynb: good\n")


@pytest.mark.parametrize(
    ("changes", "verdict", "details"),
    [
        (
            [(2, {"outputs": [ERROR]})],
            "ended in an error",
            "`x = 2`) ended in ValueError: \ufffd[31",
        ),
        ([(2, {"execution_count": None})], "not run", "`x = 2`) has not been run"),
        ([(2, {"execution_count": 7})], "out of order", "`x = 2`) ran as number 7 where"),
        ([(n, {"execution_count": n + 4}) for n in range(1, 6)], "out of order", "`x = 1`) ran as"),
        ([(n, {"execution_count": None}) for n in (3, 5)], "not run (2)", "`x = 5`) has not"),
    ],
)
def test_what_is_no_whole_run_is_counted_and_said_in_full_on_demand(
    folder, capsys, changes, verdict, details
):
    path = write("a.ipynb", changes)
    assert line_of(capsys, path) == (1, f"a.ipynb: {verdict}\n")
    status, said = line_of(capsys, path, "--verbose")
    assert status == 1
    assert details in said
    assert "\x1b" not in said


def record_of(folder):
    sources = [f"x = {n}" for n in range(1, 6)]
    modules = digests(folder / "lstm_sentiment", *CODE)
    return {"cells": [digest(source) for source in sources], "modules": modules, "tables": {}}


def test_outputs_older_than_a_cell_or_a_module_beside_the_notebook_are_found(folder, capsys):
    (folder / "lstm_sentiment").mkdir()
    (folder / "lstm_sentiment" / "text.py").write_text("x = 1")
    (folder / "notebooks").mkdir()
    path, record = Path("notebooks", "a.ipynb"), record_of(folder)
    assert line_of(capsys, write(path, record=record))[0] == 0
    write(path, [(2, {"source": "x = 9"})], record=record)
    assert line_of(capsys, path) == (1, f"{path}: outputs older than the code\n")
    write(path, record=record)
    (folder / "lstm_sentiment" / "text.py").write_text("x = 2")
    assert "lstm_sentiment/text.py changed after" in line_of(capsys, path, "--verbose")[1]


def test_a_notebook_far_from_the_project_is_compared_with_its_own_cells_only(folder, capsys):
    record = record_of(folder) | {"modules": {"text.py": "elsewhere"}}
    assert line_of(capsys, write("a.ipynb", record=record))[0] == 0
    assert line_of(capsys, write("a.ipynb", record={"cells": 3}))[0] == 0, "nobody's record"
    write("a.ipynb", [(2, {"source": "x = 9"})], record=record)
    assert line_of(capsys, "a.ipynb")[0] == 1


@pytest.mark.parametrize(
    ("headings", "missing"),
    [
        ([h for h in HEADINGS if "Kaggle" not in h], ["section 8 missing"]),
        (HEADINGS[:4] + HEADINGS[5:], ["section 5 not at its place"]),
        (["# Dataset, cleaning", *HEADINGS[2:]], []),
        ([h.replace("Custom LSTM", "Model") for h in HEADINGS], ["section 6 missing"]),
        (["```\n# kaggle\n```", *HEADINGS[:7], HEADINGS[8]], ["section 8 missing"]),
        ([HEADINGS[8], *HEADINGS[:8]], ["section 9 not at its place"]),
        (HEADINGS[2:6], ["section 1 not at its place", "section 2, 7, 8, 9 missing"]),
    ],
)
def test_sections_are_known_by_headings_in_the_rubrics_order(folder, headings, missing):
    faults = missing_sections(read_cells(write(Path("a.ipynb"), headings=headings)))
    assert [fault.kind for fault in faults] == missing


def test_numbers_to_read_again_are_told_but_are_no_fault(folder, capsys):
    write("a.ipynb", headings=[*HEADINGS, "It is 87% and 12,345."])
    assert line_of(capsys, "a.ipynb") == (0, "a.ipynb: good; 2 numbers to read again\n")
    assert "87% is in no output" in line_of(capsys, "a.ipynb", "--verbose")[1]


def test_of_many_notebooks_none_ends_the_others_turn(folder, capsys):
    for name, text in [("empty", ""), ("text", "hello"), ("odd", '{"cells": 3, "nbformat": 4}')]:
        Path(f"{name}.ipynb").write_text(text)
    write("a.ipynb", [(2, {"outputs": [new_output("display_data", {"text/html": "HERE"})]})])
    Path("a.ipynb").write_text(Path("a.ipynb").read_text().replace('"HERE"', "3"))
    names = [f"{name}.ipynb" for name in ("empty", "text", "odd", "absent", "a")]
    names.append(os.devnull)  # others have no end
    status, said = line_of(capsys, *names, write("good.ipynb"))
    assert status == 1
    lines = said.splitlines()
    assert [line.partition(":")[0] for line in lines] == [*names, "good.ipynb"]
    assert all("cannot be read as a notebook" in line for line in lines[:3])
    assert lines[3] == "absent.ipynb: No such file or directory"
    assert lines[4].startswith("a.ipynb: cannot be checked (TypeError(")
    assert lines[5].endswith("is neither a file nor a folder; copy what it holds to a file")
    assert lines[6] == "good.ipynb: good"


def test_this_projects_report_has_all_sections():
    cells = read_cells(REPOSITORY / "notebooks" / "report.ipynb")
    assert [*missing_sections(cells)] == []


def test_a_rerun_is_compared_output_by_output_times_apart(folder, capsys):
    def run(path, loss, seconds, width):
        texts = [f"loss {loss} in {seconds} seconds", f"<td>{loss}</td><td>{seconds}</td>", "same"]
        outputs = [
            [new_output("stream", text=texts[0])],
            [new_output("display_data", {"text/html": texts[1], "text/plain": "a table"})],
            [new_output("display_data", {"image/png": width, "text/plain": texts[2]})],
        ]
        changes = [(n, {"outputs": each}) for n, each in enumerate(outputs, start=1)]
        changes[1][1]["metadata"] = {"tags": ["times"]}
        return write(path, changes)

    first = run("first.ipynb", 0.27, 10, "AA==")
    assert line_of(capsys, run("b.ipynb", 0.27, 12, "BB=="), "--against", first) == (
        0,
        "b.ipynb: good\nb.ipynb: 0 of 5 outputs are not those of first.ipynb\n",
    )
    status, out = line_of(capsys, run("c.ipynb", 0.28, 10, "AA=="), "--against", first)
    assert (status, out.splitlines()[1:]) == (
        1,
        [
            "c.ipynb: 1 of 5 outputs are not those of first.ipynb",
            "    cell 10 (`x = 1`): 0.28 / 0.27",
        ],
    )
    assert (
        main(["check", str(write("d.ipynb", [(1, {"source": "y"})])), "--against", "b.ipynb"]) == 1
    )
    assert "are not of the same code" in capsys.readouterr().err
