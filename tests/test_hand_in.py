"""The hand-in: one command makes a zip whose script runs by itself, or says why it does not."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from lstm_sentiment.report.hand_in import main, make_hand_in, modules_in
from lstm_sentiment.report.record import CODE, RESULTS, TABLES, digest, digests
from lstm_sentiment.text import DataError

REPOSITORY = Path(__file__).resolve().parent.parent
CAPTURED = {"capture_output": True, "encoding": "utf-8", "timeout": 300}

# A package of the same form: modules that use the same names, and imports of every kind.
MODULES = {
    "__init__": '"""Small talk."""\n\nfrom lstm_sentiment.text import GREETING\n',
    "__main__": "raise SystemExit('the commands')\n",
    "lstm": "from lstm_sentiment.text import shout\n\nGREETING = shout('a module of its own')\n",
    "text": '''"""What is said.

from __future__ import nothing, says the docstring.
"""

from __future__ import annotations

from dataclasses import dataclass


def shout(text):
    return text.upper() + "!"


GREETING = shout("grüß dich")


@dataclass
class Talker:
    successor: Talker | None = None
''',
    "fast/__init__": "",
    "fast/steps": "def double(number):\n    return 2 * number\n",
    "files/__init__": "",
    "report/__init__": '"""Calls studies."""\n',
    "report/show": "def late():\n    from ..studies import results\n    return results.GREETING\n",
    "report/unused": "",
    "studies/__init__": "",
    "studies/results": "GREETING = 'from a study'\n",
    "studies/unused": "",
}
CARRIED = [  # in reading order
    *("__init__", "text", "lstm", "fast/__init__", "fast/steps", "files/__init__"),
    *("report/__init__", "report/show", "studies/__init__", "studies/results"),
]
SETUP = "import shutil\nfor folder in ('.', '..'):\n    print(folder)"
REPORT = [
    new_markdown_cell("# Title\n\nA paragraph."),
    new_code_cell(""),
    new_code_cell(SETUP, metadata={"tags": ["setup"]}),
    """%matplotlib inline
import inspect
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from lstm_sentiment import GREETING, lstm
from lstm_sentiment.fast.steps import double
from lstm_sentiment.text import Talker""",
    "%%time\ntext = '''\n%d items\n!'''\n!echo it's for notebooks\nshare = (7\n    % 4)",
    "%%bash\nrm -rf /",
    """from __future__ import annotations
from lstm_sentiment.report import show
print(GREETING, lstm.GREETING, show.late(), text % share, inspect.getsource(Talker), sep="|")
with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
    print([*pool.map(double, [20, 21])])""",
]
PRINTED = """GRÜSS DICH!|A MODULE OF ITS OWN!|from a study|
3 items
!|@dataclass
class Talker:
    successor: Talker | None = None

[40, 42]
"""


def write_run(folder: Path, *cells: str | nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook as a run from top to bottom leaves it, with `record_run` in the last cell."""
    cells = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    code_cells = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    for count, cell in enumerate(code_cells, start=1):
        cell.execution_count = count
    record = {
        "cells": [digest(cell.source) for cell in code_cells],
        "modules": digests(folder / "lstm_sentiment", *CODE),
        "tables": digests(folder / RESULTS, *TABLES),
    }
    note = new_output("display_data", {"text/plain": "..."}, metadata={"lstm_sentiment": record})
    code_cells[-1].outputs = [new_output("stream", text="displayed\n"), note]
    notebook = new_notebook(cells=cells)
    nbformat.write(notebook, folder / "notebooks" / "report.ipynb")
    return notebook


@pytest.fixture
def project(tmp_path):
    """A small project of the same form, with things lying about that are not to be handed in."""
    folder = tmp_path / "a project"
    files = {f"lstm_sentiment/{name}.py": text for name, text in MODULES.items()}
    for name in [
        *(
            "README.md",
            "requirements.txt",
            "requirements-tools.txt",
            "data/README.md",
            "notebooks/kaggle_predictions.csv",
        ),
        *("data/reviews.csv", "artifacts/a.safetensors", "lstm_sentiment/weights/a.safetensors"),
        *("lstm_sentiment/__pycache__/text.pyc", "lstm_sentiment/.ipynb_checkpoints/text.py"),
        *("notebooks/results/growth.json", "notebooks/results/deeper/leaks.csv"),
        *("notebooks/results/leaks.lock", "notebooks/results/leaks.csv.17.part"),
        *("notebooks/results/metrics.png", "notebooks/results/.ipynb_checkpoints/leaks.csv"),
    ]:
        files[name] = f"this is {name}"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    write_run(folder, *REPORT)
    return folder


def script_of(folder: Path, student: str = "ab-123") -> str:
    with zipfile.ZipFile(make_hand_in(student, folder=folder)) as archive:
        return archive.read(f"{student}.py").decode()


def refusal(folder: Path, student: str = "ab-123") -> str:
    with pytest.raises(DataError) as refused:
        make_hand_in(student, folder=folder)
    assert "\n" not in str(refused.value)
    assert not [*folder.glob(f"*{student}.zip*")]
    return str(refused.value)


def run_alone(script: str, folder: Path) -> subprocess.CompletedProcess:
    """Run the script in a new folder, with nothing but the installed packages."""
    folder.mkdir()
    (folder / "ab-123.py").write_text(script, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "ab-123.py"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"},
        **CAPTURED,
    )


def test_the_zip_holds_the_report_the_script_and_the_project(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    Path("artifacts/predictions.csv").write_text("ID,sentiment\n1,positive\n")
    main("1234567")
    said = capsys.readouterr().out
    with zipfile.ZipFile("1234567.zip") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert set(contents) == {
        *(
            "report.ipynb",
            "1234567.py",
            "predictions.csv",
            "README.md",
            "requirements.txt",
            "requirements-tools.txt",
            "data/README.md",
        ),
        *("notebooks/kaggle_predictions.csv", "notebooks/results/metrics.png"),
        *("notebooks/results/growth.json", "notebooks/results/deeper/leaks.csv"),
        *(f"lstm_sentiment/{name}.py" for name in MODULES),
        "lstm_sentiment/weights/a.safetensors",
    }
    assert contents["predictions.csv"] == Path("artifacts/predictions.csv").read_bytes()
    assert contents["report.ipynb"] == Path("notebooks/report.ipynb").read_bytes()
    assert contents["lstm_sentiment/text.py"] == Path("lstm_sentiment/text.py").read_bytes()
    for name, content in contents.items():
        assert f"{len(content):,}  {name}\n" in said


def test_the_script_prints_what_the_report_does_and_starts_processes(project, tmp_path):
    result = run_alone(script_of(project), tmp_path / "empty")
    assert (result.stdout, result.stderr) == (PRINTED, "")


def test_the_script_reads_as_the_report_and_then_its_modules(project):
    script = script_of(project)
    assert [*modules_in(script)] == [f"lstm_sentiment/{name}.py" for name in CARRIED]
    for name, text in modules_in(script).items():
        assert text.strip() == (project / name).read_text(encoding="utf-8").strip()
    assert "# %% [markdown]\n# # Title\n#\n# A paragraph.\n" in script
    assert "# %%time\ntext = '''\n%d items\n!'''\n# !echo it's" in script
    assert "\n# %%bash\n# rm -rf /\n" in script
    assert SETUP not in script
    _, tail = script.split("\nraise SystemExit")
    assert "\n# ==== lstm_sentiment/fast/steps.py ====\ndef double(number):\n" in tail


def test_a_second_zip_replaces_the_first_and_another_notebook_may_be_named(project, tmp_path):
    first = script_of(project)
    write_run(project, "another = 1")
    shutil.move(project / "notebooks" / "report.ipynb", tmp_path / "mine.ipynb")
    path = make_hand_in("ab-123", tmp_path / "mine.ipynb", project)
    with zipfile.ZipFile(path) as archive:
        assert "another = 1" in archive.read("ab-123.py").decode() != first
        assert archive.read("report.ipynb") == (tmp_path / "mine.ipynb").read_bytes()
    assert [*project.glob("*.zip*")] == [path]


IMPORTABLE = ("json", "sys", "numpy", "lstm_sentiment")


@pytest.mark.parametrize(
    "student", ["", "a b", "../other", "-1", "a.b", "1\n", "ärger", "1" * 41, *IMPORTABLE]
)
def test_a_student_id_that_makes_no_good_file_name_is_refused(project, student):
    with pytest.raises(DataError, match=re.escape(repr(student))):
        make_hand_in(student, folder=project)


def test_a_student_id_may_be_that_of_a_script_unpacked_before(project, monkeypatch):
    (project / "ab123.py").write_text("")
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend("")
    assert script_of(Path("."), "ab123")


ERROR = new_output("error", ename="ValueError", evalue="too\nlong", traceback=[])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"outputs": [ERROR]}, "ended in ValueError: too long"),
        ({"source": "%%time\ntext = share = 1"}, "changed after the run"),
    ],
)
def test_a_cell_that_does_not_belong_to_a_whole_run_is_named(project, change, reason):
    notebook = write_run(project, *REPORT)
    notebook.cells[5 - 1].update(change)
    nbformat.write(notebook, project / "notebooks" / "report.ipynb")
    assert re.search(rf"report\.ipynb: cell 5 \(`%%time`\) {reason}", refusal(project))


def test_cells_that_came_or_went_after_the_run_are_noticed(project):
    notebook = write_run(project, *REPORT)
    last = notebook.cells[-1]
    notebook.cells.append(new_code_cell("behind", execution_count=last.execution_count + 1))
    nbformat.write(notebook, project / "notebooks" / "report.ipynb")
    assert "added or removed after the run" in refusal(project)
    notebook.cells.pop()
    del last.outputs[-1]
    nbformat.write(notebook, project / "notebooks" / "report.ipynb")
    assert "its last cell is not `record_run()`" in refusal(project)


@pytest.mark.parametrize(
    "name",
    ["lstm_sentiment/text.py", "lstm_sentiment/fast/steps.py", "notebooks/results/ablation.csv"],
)
def test_what_numbers_come_from_and_changed_after_the_run_is_named(project, name):
    with (project / name).open("a", encoding="utf-8") as file:
        file.write("\n# new\n")
    assert f"{name} changed after the run" in refusal(project)


def test_how_the_report_shows_and_what_it_does_not_read_may_change(project):
    for name in ("report/show.py", "studies/results.py", "__main__.py"):
        with (project / "lstm_sentiment" / name).open("a", encoding="utf-8") as file:
            file.write("\nNEW = 1\n")
    (project / RESULTS / "metrics.png").write_text("drawn anew")
    assert "\nNEW = 1\n" in script_of(project)


@pytest.mark.parametrize("text", ["", "{}", '{"cells": 3, "nbformat": 4}', "oid sha256:0"])
def test_a_damaged_notebook_is_refused(project, text):
    (project / "notebooks" / "report.ipynb").write_text(text)
    assert "report.ipynb: cannot be read as a notebook" in refusal(project)


def test_a_missing_file_is_named_and_nothing_is_left(project):
    (project / "requirements.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"requirements\.txt"):
        make_hand_in("ab-123", folder=project)
    assert not [*project.glob("*.zip*")]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("shutil.which('python')", "uses 'shutil'"),  # imported by the setup cell alone
        ("def later():\n    return folder", "uses 'folder'"),
        ("display(3)", "uses 'display'"),
        ("x = = 1", "line 1: invalid syntax: x = = 1"),
        ("await x", "line 1: 'await' outside function: await x"),
        ("if True:\n    %time", "line 1"),
    ],
)
def test_a_cell_that_would_fail_in_the_script_is_named(project, code, reason):
    write_run(project, new_code_cell(SETUP, metadata={"tags": ["setup"]}), code)
    message = refusal(project)
    assert f"cell 2 (`{code.splitlines()[0]}`)" in message
    assert reason in message


def test_names_are_known_from_any_cell_and_any_kind_of_statement(project):
    write_run(
        project,
        "def f():\n    global late\n    late = later\n    return [own for own in 'ab'], __name__",
        "import os.path as later\nfor i, (j, *k) in []: pass\nprint(i, j, k, late, (w := 3), w)",
        "class C:\n    x = 1\n    y = x\n\n\nlambda z: (z, C, f, os2)\nfrom os import sep as os2",
    )
    assert script_of(project)


# What is not code.

CLOSES_STRING = '"""\nboom = 1\n"""\n%% boom\n# %%\nboom = 2'
ENDS_LINE = "".join(f"text{end}boom = 3" for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")


@pytest.mark.parametrize("text", [CLOSES_STRING, ENDS_LINE, "boom = 0", "!x\n%time\\\nboom = 1"])
@pytest.mark.parametrize("new_cell", [new_markdown_cell, new_raw_cell])
def test_what_is_not_a_code_cell_stays_a_comment(project, text, new_cell):
    metadata = {"cell_marker": '"""', "lines_to_next_cell": 0, "tags": ["setup"]}
    write_run(project, new_cell(text, metadata=metadata), "x = 1")
    script = script_of(project)
    code = [line for line in re.split("[\n\r]", script) if not line.startswith("#")]
    assert "boom" in script
    assert "boom" not in "".join(code)
    assert "boom" not in ast.unparse(ast.parse(script))


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@pytest.mark.parametrize(("new_cell", "mark"), [(new_markdown_cell, ""), (new_code_cell, "# ")])
def test_a_cell_cannot_pose_as_a_module(project, new_cell, mark, end):
    posing = f"{mark}==== lstm_sentiment/%s.py ===={end}{mark}x = 2"
    write_run(project, new_cell(posing % "other"), "x = 1")
    assert "holds a line such as `# ==== " in refusal(project)
    write_run(project, new_cell(posing % "text"), "x = 1")
    assert modules_in(script_of(project))["lstm_sentiment/text.py"] == MODULES["text"]


@pytest.mark.parametrize("character", ["\\u0000", "\\ud800"])
def test_text_that_no_script_can_hold_is_refused(project, character):
    write_run(project, new_markdown_cell("HERE"), "x = 1")
    path = project / "notebooks" / "report.ipynb"
    path.write_text(path.read_text(encoding="utf-8").replace("HERE", character))
    assert "no script can be made of it" in refusal(project)


# The command, and this project.


def run_export(folder: Path, *arguments: str, python: Path = Path(sys.executable).parent):
    """Run export_py.sh, which looks for Python in the folder `python` first."""
    return subprocess.run(
        ["bash", str(folder / "export_py.sh"), *arguments],
        env={**os.environ, "PATH": os.pathsep.join([str(python), os.environ["PATH"]])},
        **CAPTURED,
    )


needs_bash = pytest.mark.skipif(os.name == "nt", reason="there, python -m lstm_sentiment hand-in")


@needs_bash
def test_the_script_says_how_it_is_called_and_which_python_it_needs(tmp_path):
    for arguments in ([], ["1234567", "7654321"]):
        result = run_export(REPOSITORY, *arguments)
        assert (result.returncode, "usage: export_py.sh <student id>" in result.stderr) == (2, True)
    for name in ("python3", "python"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    result = run_export(REPOSITORY, "1234567", python=tmp_path)
    assert result.returncode == 1
    assert "pip install -r requirements.txt" in result.stderr


@pytest.fixture
def copy(tmp_path):
    """What this project's hand-in needs of it, and what numba has compiled already."""
    folder = tmp_path / "copy"
    for name in ("lstm_sentiment", "notebooks"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for name in (
        "README.md",
        "data/README.md",
        "requirements.txt",
        "requirements-tools.txt",
        "export_py.sh",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


@needs_bash
def test_a_run_of_this_package_is_accepted_and_its_script_runs_compiled_code(copy, tmp_path):
    computation = """import torch
from lstm_sentiment import LSTMLayer
from lstm_sentiment.report.show import record_run
torch.manual_seed(0)
x = torch.ones(2, 5, 3, requires_grad=True)
outputs, _ = LSTMLayer(3, 4, backend="fused")(x, torch.tensor([5, 2]))
outputs.sum().backward()
print(f"{outputs.sum():.4f} {x.grad.sum():.4f}")"""
    setup = new_code_cell("import sys\nsys.path.insert(0, '.')", metadata={"tags": ["setup"]})
    cells = [setup, new_code_cell(computation), new_code_cell("record_run()")]
    notebook = new_notebook(cells=cells)
    NotebookClient(notebook, resources={"metadata": {"path": copy}}, timeout=300).execute()
    nbformat.write(notebook, copy / "notebooks" / "report.ipynb")
    result = run_export(copy, "1234567")
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(copy / "1234567.zip") as archive:
        alone = run_alone(archive.read("1234567.py").decode(), tmp_path / "empty")
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout == notebook.cells[1].outputs[0].text
    assert [*(tmp_path / "empty" / "artifacts").rglob("*.nbi")], "numba keeps what it compiled"


def test_the_script_of_the_report_carries_all_that_the_report_imports(copy, tmp_path):
    script = script_of(copy)
    assert not re.search("hand_in|studies/bench", "".join(modules_in(script)))
    cells, end, modules = script.partition("\nraise SystemExit")
    beginning = script[: script.index("# %% [markdown]", 1)]
    nodes = [node for node in ast.parse(cells).body if isinstance(node, ast.ImportFrom)]
    ours = [ast.unparse(node) for node in nodes if "lstm_sentiment" in node.module]
    assert ours
    alone = "\n".join([beginning, *ours, end + modules])
    result = run_alone(alone, tmp_path / "empty")
    assert result.returncode == 0, result.stderr
