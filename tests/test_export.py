"""The hand-in: one command makes a zip whose script runs by itself, or says why it does not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

REPOSITORY = Path(__file__).resolve().parent.parent
TABLES = ["deeper/accuracy.csv", "growth.json", "speed.csv"]  # in the order of their digest

# Alphabetical order is not the order of dependence, and `about` calls `shout` while it loads.
MODULES = {
    "__init__": '''"""Small talk."""

from lstm_sentiment.about import GREETING, Talker
from lstm_sentiment.version import __version__
''',
    "__main__": 'from lstm_sentiment.about import GREETING\n\nshout = "of the command line"\n',
    "about": '''"""What is said.

It is said while loading.
"""

from __future__ import annotations

from dataclasses import dataclass
from json import dumps

from lstm_sentiment.version import __version__
from lstm_sentiment.words import (
    MARK,  # a comment with a ) in it
    shout,
)  # the end

GREETING = shout("grüß dich")


@dataclass
class Talker:
    """Says its word."""

    word: str = f"{MARK}{__version__}"
    successor: Successor | None = None

    def talk(self) -> str:
        return dumps([word.upper() for word in [self.word]])


class Successor:
    pass
''',
    "version": '__version__ = "1.2.3"\n',
    "words": '''from json import dumps

MARK = "v"


def shout(text):
    """Upper case.

from lstm_sentiment.nowhere import nothing, says the docstring.
    """
    return dumps(text.upper(), ensure_ascii=False)[1:-1] + "!"
''',
}
SETUP = "import shutil\nfor folder in ('.', '..'):\n    print(folder)\nimport lstm_sentiment"
PARAMETERS = "import os\n\nquick = os.environ.get('LSTM_SENTIMENT_QUICK') == '1'"
REPORT = """%matplotlib inline
import inspect
import json
from pathlib import Path

from IPython.display import display
from lstm_sentiment import GREETING, Talker, __version__
###
%%time
said = Talker().talk()
!echo this line is for notebooks
###
from __future__ import annotations
from lstm_sentiment.words import MARK
###
if quick:
    %time
    Path("artifacts").mkdir()
facts = [GREETING, __version__, said, MARK, inspect.getsource(Talker)]
Path("artifacts/facts.json").write_text(json.dumps(facts))
display("displayed")"""


def digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()[:12]


def write_notebook(project: Path, report: str = REPORT) -> nbformat.NotebookNode:
    """A notebook that was run from top to bottom; `report` has ### between its cells."""
    cells = [new_markdown_cell("# Title\n\nA paragraph."), new_code_cell("")]
    for text, tags in [(SETUP, ["setup"]), (PARAMETERS, ["parameters"])]:
        cells.append(new_code_cell(text, metadata={"tags": tags}))
    cells += [new_code_cell(text.strip("\n")) for text in report.split("###")]
    for count, cell in enumerate(cells[2:], start=1):
        cell.execution_count = count
    record = {"cells": [digest(cell.source) for cell in cells[2:]]}
    modules = sorted((project / "lstm_sentiment").glob("*.py"))
    record["package"] = digest("".join(path.read_text(encoding="utf-8") for path in modules))
    tables = project / "notebooks" / "results"
    record["results"] = digest("".join((tables / name).read_text("utf-8") for name in TABLES))
    note = new_output("display_data", {"text/plain": "..."}, metadata={"lstm_sentiment": record})
    cells[-1].outputs = [new_output("stream", text="displayed\n"), note]
    notebook = new_notebook(cells=cells)
    nbformat.write(notebook, project / "notebooks" / "report.ipynb")
    return notebook


def make_project(folder: Path) -> Path:
    """A small project of the same form, with things lying about that are not to be handed in."""
    for name, text in MODULES.items():
        path = folder / "lstm_sentiment" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name in [
        "README.md",
        "requirements.txt",
        "data/README.md",
        "notebooks/kaggle_predictions.csv",
        "data/reviews.csv",
        "lstm_sentiment/notes.txt",
        "lstm_sentiment/__pycache__/words.pyc",
        "lstm_sentiment/.ipynb_checkpoints/words.py",
        *(f"notebooks/results/{name}" for name in TABLES),
        "notebooks/results/metrics.png",
        "notebooks/results/speed.lock",
        "notebooks/results/speed.csv.17.part",
        "notebooks/results/.ipynb_checkpoints/speed.csv",
        "artifacts/model.json",
    ]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"this is {name}", encoding="utf-8")
    shutil.copy(REPOSITORY / "export_py.sh", folder)
    write_notebook(folder)
    return folder


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "a project")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """The folder from which the command is given."""
    folder = tmp_path / "desk"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run_script(
    script: Path | str, *arguments: str, cwd: Path | None = None, path: Path | None = None
) -> subprocess.CompletedProcess:
    """Run export_py.sh, looking for Python in the folder `path` first; by default, this one's."""
    folders = [str(path or Path(sys.executable).parent), os.environ["PATH"]]
    return subprocess.run(
        ["bash", str(script), *arguments],
        cwd=cwd,
        env={**os.environ, "PATH": os.pathsep.join(folders)},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )


class Exported(NamedTuple):
    project: Path
    desk: Path
    said: str
    contents: dict[str, bytes]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """What one export made of the small project, called by a relative path."""
    desk = tmp_path_factory.mktemp("desk")
    project = make_project(tmp_path_factory.mktemp("elsewhere") / "a project")
    script = os.path.relpath(project / "export_py.sh", desk)
    result = run_script(script, "ab-123_4", cwd=desk)
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(desk / "ab-123_4.zip") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    return Exported(project, desk, result.stdout, contents)


def refusal(project: Path, student: str, monkeypatch) -> str:
    """The message with which the Python part of export_py.sh ends; faster than a new process."""
    text = (project / "export_py.sh").read_text(encoding="utf-8")
    python_part = text.split("<<'PYTHON'\n")[1].rsplit("PYTHON\n")[0]
    monkeypatch.setattr(sys, "argv", ["-", str(project), student])
    monkeypatch.setattr(sys, "path", sys.path)
    with pytest.raises(SystemExit) as refused:
        exec(compile(python_part, "export", "exec"), {"__name__": "export"})
    assert str(refused.value).startswith("export_py.sh: ")
    return str(refused.value)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_zip_holds_the_notebook_the_script_and_what_the_notebook_needs(exported):
    assert set(exported.contents) == {
        "report.ipynb",
        "ab-123_4.py",
        "README.md",
        "requirements.txt",
        "data/README.md",
        "notebooks/kaggle_predictions.csv",
        *(f"notebooks/results/{name}" for name in [*TABLES, "metrics.png"]),
        *(f"lstm_sentiment/{name}.py" for name in MODULES),
    }
    notebook = (exported.project / "notebooks" / "report.ipynb").read_bytes()
    assert exported.contents["report.ipynb"] == notebook
    assert exported.contents["lstm_sentiment/about.py"].decode() == MODULES["about"]
    for name, content in exported.contents.items():
        assert f"{len(content):,}  {name}\n" in exported.said
    assert [path.name for path in exported.desk.iterdir()] == ["ab-123_4.zip"]


def test_the_script_runs_by_itself_and_shows_its_sources(exported, desk):
    Path("alone.py").write_bytes(exported.contents["ab-123_4.py"])
    result = subprocess.run(
        [sys.executable, "alone.py"],
        env={**os.environ, "LSTM_SENTIMENT_QUICK": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "displayed"
    *facts, source = json.loads(Path("artifacts/facts.json").read_text())
    assert facts == ["GRÜSS DICH!", "1.2.3", '["V1.2.3"]', "v"]
    assert source.startswith('@dataclass\nclass Talker:\n    """Says its word."""')


def test_the_script_reads_as_the_modules_and_then_the_notebook(exported):
    script = exported.contents["ab-123_4.py"].decode()
    assert script.count("from __future__ import annotations") == 1
    assert "import lstm_sentiment" not in script
    headings = [line for line in script.split("\n") if line.startswith(("# ## ", "# # "))]
    assert headings[-1] == "# # Title"
    order = [heading.removeprefix("# ## lstm_sentiment/") for heading in headings[1:-1]]
    assert sorted(order) == ["__init__.py", "about.py", "version.py", "words.py"]
    assert order.index("about.py") > max(order.index("version.py"), order.index("words.py"))
    about = script[script.index("# ## lstm_sentiment/about.py") :]
    assert about.startswith(
        """# ## lstm_sentiment/about.py
#
# What is said.
#
# It is said while loading.

# %%
from dataclasses import dataclass
from json import dumps

GREETING = shout("grüß dich")


@dataclass
class Talker:
"""
    )
    assert "# %%\n# %%time\nsaid = Talker().talk()\n# !echo this line is for notebooks\n" in script


def test_a_second_export_replaces_the_first_and_a_refused_one_does_not(project, desk, monkeypatch):
    Path("1234567.zip").write_text("the first")
    write_notebook(project, "undefined_name")
    refusal(project, "1234567", monkeypatch)
    assert Path("1234567.zip").read_text() == "the first"
    write_notebook(project)
    assert run_script(project / "export_py.sh", "1234567").returncode == 0
    assert zipfile.is_zipfile("1234567.zip")
    assert [path.name for path in desk.iterdir()] == ["1234567.zip"]


@pytest.mark.parametrize(
    "student",
    ["", "a b", "../other", "a/b", "-1234567", "a.b", "1234567\n", "ärger", "1" * 41, "json"],
)
def test_a_student_id_that_makes_no_good_file_name_is_refused(project, desk, monkeypatch, student):
    assert repr(student) in refusal(project, student, monkeypatch)
    assert not list(desk.iterdir())


@pytest.mark.parametrize("arguments", [[], ["1234567", "7654321"]])
def test_anything_but_one_argument_is_answered_with_the_usage(project, arguments):
    result = run_script(project / "export_py.sh", *arguments)
    assert result.returncode == 2
    assert "usage: export_py.sh <student id>" in result.stderr


def test_a_cell_in_error_is_named(project, desk, monkeypatch):
    notebook = write_notebook(project)
    error = new_output("error", ename="ValueError", evalue="too long", traceback=[])
    notebook.cells[5].outputs = [error]
    nbformat.write(notebook, project / "notebooks" / "report.ipynb")
    message = refusal(project, "1234567", monkeypatch)
    assert "report.ipynb, cell 6 (`%%time`) ended in ValueError: too long" in message


@pytest.mark.parametrize(
    ("count", "reason"), [(None, "has not been run"), (7, "as number 7"), (3, "as number 3")]
)
def test_a_cell_that_was_not_run_in_its_turn_is_named(project, desk, monkeypatch, count, reason):
    notebook = write_notebook(project)
    notebook.cells[5].execution_count = count
    nbformat.write(notebook, project / "notebooks" / "report.ipynb")
    message = refusal(project, "1234567", monkeypatch)
    assert "report.ipynb, cell 6 (`%%time`)" in message
    assert reason in message
    assert not list(desk.iterdir())


def test_a_cell_that_was_changed_after_the_run_is_named(project, desk, monkeypatch):
    change(project / "notebooks" / "report.ipynb", 'display(\\"displayed', 'display(\\"altered')
    message = refusal(project, "ab-123", monkeypatch)
    assert re.search(r"cell \d+ \(`.*`\) was changed after it was run", message)


def test_a_cell_that_was_removed_after_the_run_is_noticed(project, desk, monkeypatch):
    notebook = write_notebook(project)
    record = notebook.cells[-1].outputs[-1].metadata.lstm_sentiment
    record["cells"].append("0" * 12)
    nbformat.write(notebook, project / "notebooks" / "report.ipynb")
    assert "cells were added or removed after" in refusal(project, "ab-123", monkeypatch)


def test_a_package_that_was_changed_after_the_run_is_noticed(project, desk, monkeypatch):
    path = project / "lstm_sentiment" / "words.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# new\n", encoding="utf-8")
    message = refusal(project, "ab-123", monkeypatch)
    assert "lstm_sentiment was changed after notebooks/report.ipynb was run" in message


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_was_changed_after_the_run_is_noticed(project, desk, monkeypatch, name):
    (project / "notebooks" / "results" / "metrics.png").write_text("drawn anew")
    assert run_script(project / "export_py.sh", "ab-123").returncode == 0
    (project / "notebooks" / "results" / name).write_text("another row")
    message = refusal(project, "ab-123", monkeypatch)
    assert "a table under notebooks/results was changed after notebooks/report.ipynb" in message


def test_a_record_without_tables_is_refused_and_tables_may_be_missing(project, desk, monkeypatch):
    notebook = write_notebook(project)
    record = notebook.cells[-1].outputs[-1].metadata.lstm_sentiment
    record["results"] = digest("")
    nbformat.write(notebook, project / "notebooks" / "report.ipynb")
    shutil.rmtree(project / "notebooks" / "results")
    assert run_script(project / "export_py.sh", "ab-123").returncode == 0
    del record["results"]
    nbformat.write(notebook, project / "notebooks" / "report.ipynb")
    assert "a table under notebooks/results was changed" in refusal(project, "ab-123", monkeypatch)


def test_a_notebook_that_does_not_say_what_was_run_is_refused(project, desk, monkeypatch):
    notebook = write_notebook(project)
    del notebook.cells[-1].outputs[-1]
    nbformat.write(notebook, project / "notebooks" / "report.ipynb")
    assert "does not end with `record_run()`" in refusal(project, "ab-123", monkeypatch)


@pytest.mark.parametrize("text", ["", "{}", '{"cells": 3, "nbformat": 4}', "oid sha256:0"])
def test_a_damaged_notebook_is_refused(project, desk, monkeypatch, text):
    (project / "notebooks" / "report.ipynb").write_text(text)
    assert "report.ipynb cannot be read" in refusal(project, "1234567", monkeypatch)


def test_a_missing_part_is_refused(project, desk, monkeypatch):
    (project / "requirements.txt").unlink()
    assert "requirements.txt" in refusal(project, "1234567", monkeypatch)
    assert not list(desk.iterdir())


@pytest.mark.parametrize(
    "statement",
    [
        "import lstm_sentiment.words",
        "import lstm_sentiment as package",
        "from .words import MARK",
        "from lstm_sentiment.words import MARK as SIGN",
        "from lstm_sentiment.words import *",
        "def late():\n    from lstm_sentiment.words import MARK",
        "if True:\n    from lstm_sentiment.words import MARK",
        "from lstm_sentiment import words",
        "from lstm_sentiment.words import misspelt",
        "from __future__ import generator_stop",
    ],
)
@pytest.mark.parametrize("place", ["module", "notebook"])
def test_an_import_that_one_file_cannot_hold_is_refused(
    project, desk, monkeypatch, statement, place
):
    if place == "module":
        (project / "lstm_sentiment" / "zeal.py").write_text(statement)
    else:
        write_notebook(project, statement)
    message = refusal(project, "1234567", monkeypatch)
    assert f"`{statement.splitlines()[-1].strip()}`" in message
    assert ("lstm_sentiment/zeal.py" if place == "module" else "notebooks/report.ipynb") in message


@pytest.mark.parametrize(
    ("line", "name", "other"),
    [
        ("def shout(): pass", "shout", "lstm_sentiment/words.py"),
        ("for MARK in 'abc': pass", "MARK", "lstm_sentiment/words.py"),
        ("from os import path as dumps", "dumps", "lstm_sentiment/words.py"),
        ("sorted = 3", "sorted", "Python itself"),
    ],
)
@pytest.mark.parametrize("place", ["module", "notebook"])
def test_a_name_with_two_meanings_is_refused(project, desk, monkeypatch, line, name, other, place):
    if place == "module":
        (project / "lstm_sentiment" / "zeal.py").write_text(line)
    else:
        write_notebook(project, line)
    message = refusal(project, "1234567", monkeypatch)
    assert f"both define {name!r}" in message
    assert other in message
    assert ("lstm_sentiment/zeal.py" if place == "module" else "notebooks/report.ipynb") in message


def test_names_of_functions_and_comprehensions_are_their_own(project, desk):
    write_notebook(
        project,
        "def local():\n    shout = 3\n    return shout\n\n\nclass Own:\n    MARK = 2\n\n\n"
        "print([dumps for dumps in 'ok'], {sorted: local() for sorted in 'ok'}, Own.MARK)",
    )
    result = run_script(project / "export_py.sh", "1234567")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("shutil.which('python')", "shutil"),  # imported by the setup cell alone
        ("def later():\n    return folder", "folder"),
        ("display(3)", "display"),
        ("print(__file__)", "__file__"),
    ],
)
def test_a_name_that_the_script_would_not_know_is_refused(project, desk, monkeypatch, code, name):
    write_notebook(project, code)
    assert f"report.ipynb uses {name!r}" in refusal(project, "1234567", monkeypatch)


def test_modules_in_a_circle_are_refused(project, desk, monkeypatch):
    change(
        project / "lstm_sentiment" / "words.py",
        'MARK = "v"',
        'from lstm_sentiment.about import Successor\n\nMARK = "v"',
    )
    message = refusal(project, "1234567", monkeypatch)
    assert "circle" in message
    assert "lstm_sentiment.about" in message
    assert "lstm_sentiment.words" in message


@pytest.mark.parametrize("code", ["import os; from lstm_sentiment.words import MARK", "x = = 1"])
def test_code_that_would_not_survive_is_refused_with_its_line(project, desk, monkeypatch, code):
    write_notebook(project, code)
    message = refusal(project, "1234567", monkeypatch)
    assert "notebooks/report.ipynb, line " in message


def stub(path: Path, commands: str) -> None:
    path.write_text(f"#!/bin/sh\n{commands}\n")
    path.chmod(0o755)


def test_the_python_that_has_jupytext_is_taken(project, desk, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("python3", "python"):
        stub(folder / name, "exit 1")
    result = run_script(project / "export_py.sh", "1234567", path=folder)
    assert result.returncode == 1
    assert "pip install -r requirements.txt" in result.stderr
    stub(folder / "python", f'exec "{sys.executable}" "$@"')
    result = run_script(project / "export_py.sh", "1234567", path=folder)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(
    not (REPOSITORY / "notebooks" / "report.ipynb").exists(), reason="the report is not written yet"
)
def test_the_script_of_this_project_makes_the_report_by_itself(tmp_path, desk):
    result = run_script(REPOSITORY / "export_py.sh", "1234567")
    assert result.returncode == 0, result.stderr
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile("1234567.zip") as archive:
        archive.extractall(unpacked)
    shutil.rmtree(unpacked / "lstm_sentiment")
    environment = {
        "LSTM_SENTIMENT_DATA": str(tmp_path / "data"),
        **os.environ,
        "LSTM_SENTIMENT_QUICK": "1",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",  # on a busy machine, threads that wait for each other take minutes
    }
    (tmp_path / "data").mkdir()
    result = subprocess.run(
        [sys.executable, "1234567.py"],
        cwd=unpacked,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    metrics = json.loads((unpacked / "artifacts" / "metrics.json").read_text())
    assert metrics["test"]["n"] == 150
    for name in ("model.safetensors", "model.json", "figures/learning_curves.png"):
        assert (unpacked / "artifacts" / name).stat().st_size > 0
