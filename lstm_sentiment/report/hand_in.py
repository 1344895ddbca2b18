"""What is handed in: `<student>.zip` with the report, a script with all its code, and the project.

The script holds the notebook's cells, which run as they stand, and behind them, as plain code in
the same file, each module of the package that they need, under a line with its path. Before the
first cell it writes the modules out, below artifacts/, and Python imports them from there: each
keeps its own namespace, and tracebacks, `inspect.getsource` (with which the report shows code),
numba's cache, pickle and the processes of multiprocessing find the file that they look for. A
loader that kept modules in memory would have to imitate a file for each of them. The cells come
first because Python runs a script from its top: one line ends the run, and what is behind it is
only read.

A notebook whose outputs may be older than its cells, the code or the studies' tables is refused.
The text of code cells gets into the script as code, all other text as comments, and nothing else of
the notebook does.
"""

from __future__ import annotations

import builtins
import inspect
import itertools
import re
import symtable
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from modulefinder import ModuleFinder
from pathlib import Path

from lstm_sentiment.files.keep import replacing
from lstm_sentiment.report.check import SETUP_TAG, Cell, disorder, outdated, read_cells
from lstm_sentiment.report.numbers import unshown_numbers
from lstm_sentiment.report.record import PACKAGE, RESULTS, visible_files
from lstm_sentiment.text import DataError

NOTEBOOK = Path("notebooks/report.ipynb")
OTHER_FILES = (
    "README.md",
    "data/README.md",
    "requirements.txt",
    "requirements-tools.txt",
    "notebooks/kaggle_predictions.csv",
)
PREDICTIONS = "artifacts/predictions.csv"  # where the report has written the student's own
UNFINISHED_SUFFIXES = (".lock", ".part")  # of a study that is running
MODULES = (
    *("__init__", "text", "data", "embeddings", "lstm", "model", "training", "evaluation"),
    *("predictor", "classifier"),
)
PYTHON_CELL_MAGICS = ("%%time", "%%timeit", "%%capture")  # the cell below them is Python
MAGIC = re.compile(r"\s*([%!?]|[\w., ]+=\s*[%!]|[\w.]+\?{1,2}\s*$)")

BEGINNING = """\
# %% [markdown]
# # All code of the report in one file
#
# First the cells of the report, `report.ipynb`, then the modules of the package `lstm_sentiment`
# that it uses. Beside it, as in the zip, it needs the word vectors in `lstm_sentiment/weights`:
#
#     pip install -r requirements.txt
#     python {student}.py
#
# The environment variable `LSTM_SENTIMENT_QUICK=1` makes it a short run.

# %%
from __future__ import annotations

import re
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path


{modules_in}

code = Path("artifacts", Path(__file__).stem).resolve()
for name, text in modules_in(Path(__file__).read_text(encoding="utf-8")).items():
    path = code / name
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file that stays as it is keeps what numba has compiled for it.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
weights = Path("lstm_sentiment", "weights")
if weights.is_dir():
    shutil.copytree(weights, code / weights, dirs_exist_ok=True)
sys.path.insert(0, str(code))
# As after `python -m`: the processes that multiprocessing starts do not run the report again.
__spec__ = ModuleSpec("report.__main__", None)
"""
END = """\
# %%
raise SystemExit  # The end of the report. What follows are the modules that were written out above.
"""


def main(student: str, notebook: str | Path | None = None) -> None:
    """Make the zip in the current folder, that of the project, and print what it holds, and which
    sentences of the report have numbers that its outputs do not show."""
    path = make_hand_in(student, notebook)
    for unshown in unshown_numbers(read_cells(Path(notebook or NOTEBOOK))):
        print(f"read again: {unshown.number} is in no output of its section: {unshown.sentence}")
    print(f"{path} ({path.stat().st_size:,} bytes) holds")
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            print(f"{entry.file_size:12,}  {entry.filename}")


def make_hand_in(
    student: str, notebook: str | Path | None = None, folder: Path = Path(".")
) -> Path:
    """Make `<student>.zip` in the project's folder, whole or not at all; return its path.

    `notebook` is by default the project's own, notebooks/report.ipynb.

    Raises:
        DataError: the student id makes no good file name, or the notebook is damaged, is not one
            run from top to bottom of the cells, code and tables at hand, or makes no script.
        OSError: a file of the project is missing.
    """
    _check_student_id(student, folder)
    notebook = Path(notebook or folder / NOTEBOOK)
    try:
        cells = read_cells(notebook)
        for fault in itertools.chain(disorder(cells), outdated(cells, folder)):
            raise DataError(fault.text)
        script = _make_script(student, cells, folder)
    except DataError as error:
        raise DataError(f"{notebook}: {error}") from error
    results = visible_files(folder, f"{RESULTS.as_posix()}/**/*")
    package = visible_files(folder, f"{PACKAGE}/**/*")
    files = [
        *map(Path, OTHER_FILES),
        *(path for path in package if "__pycache__" not in path.parts),
        *(path for path in results if path.suffix not in UNFINISHED_SUFFIXES),
    ]
    path = folder / f"{student}.zip"
    with (
        replacing(path) as unfinished,
        zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr("report.ipynb", notebook.read_bytes())
        archive.writestr(f"{student}.py", script.encode())
        for file in files:
            archive.writestr(file.as_posix(), (folder / file).read_bytes())
        if (predictions := folder / PREDICTIONS).is_file():
            archive.writestr(predictions.name, predictions.read_bytes())
    return path


def _check_student_id(student: str, folder: Path) -> None:
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]{0,39}", student):
        raise DataError(
            f"student id {student!r} is not accepted: up to 40 letters (A-Z), digits, '-' and '_' "
            "are, beginning with a letter or a digit"
        )
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != folder.resolve()]
    known = {*sys.stdlib_module_names, PACKAGE}
    if student in known or PathFinder.find_spec(student, elsewhere):
        raise DataError(
            f"student id {student!r} is not accepted: a Python module has that name, and "
            f"{student}.py would be imported in its place"
        )


# The script.


def _make_script(student: str, cells: Sequence[Cell], folder: Path) -> str:
    codes = {
        cell: _plain_python(cell) for cell in cells if cell.is_code and SETUP_TAG not in cell.tags
    }
    _check_names(codes)
    parts = [BEGINNING.format(student=student, modules_in=inspect.getsource(modules_in))]
    for cell in cells:
        if not cell.is_code:
            parts.append(f"# %% [markdown]\n{_comment(cell.source)}\n")
        elif cell in codes:
            parts.append(f"# %%\n{_without_future(codes[cell])}\n")
    parts.append(END)
    try:
        modules = _modules_for("\n".join(parts), folder)
        for path, text in modules.items():
            parts.append(f"\n# ==== {path} ====\n{_without_future(text)}")
        script = re.sub("\r\n?", "\n", "\n".join(parts))  # as Python reads it
        compile(script, f"{student}.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise DataError(f"no script can be made of it: {error}") from error
    if modules_in(script) != modules:
        raise DataError(f"a cell or a module holds a line such as `# ==== {PACKAGE}/text.py ====`")
    return script


def modules_in(script: str) -> dict[str, str]:
    """Path and text of each module that stands in the script, under a line with its path."""
    heading = r"(?m)^# ==== (lstm_sentiment/[\w/]+\.py) ====\n"
    _, *parts = re.split(heading, script)
    # At the top of the script this line serves all; within, Python accepts it as a comment only.
    texts = [re.sub(r"(?m)^# (?=from __future__ )", "", text) for text in parts[1::2]]
    return {path: text.strip("\n") + "\n" for path, text in zip(parts[::2], texts, strict=True)}


def _without_future(code: str) -> str:
    return re.sub(r"(?m)^(?=from __future__ )", "# ", code)


def _comment(text: str) -> str:
    """As comment lines, whichever character ends a line of the text for whichever reader."""
    return "\n".join(f"# {line}".rstrip() for line in text.splitlines())


def _plain_python(cell: Cell) -> str:
    """The cell's code, with what only IPython understands as comments."""
    lines = cell.source.strip("\n").split("\n")
    if lines[0].startswith("%%") and lines[0].split()[0] not in PYTHON_CELL_MAGICS:
        return _comment(cell.source)  # another language
    while True:
        code = "\n".join(lines)
        try:
            compile(code, "cell", "exec", dont_inherit=True)
            return code
        except (SyntaxError, ValueError) as error:  # ValueError: null bytes, half a character
            number = getattr(error, "lineno", None) or 1
            number = min(number, len(lines))
            line = lines[number - 1]
            if not MAGIC.match(line):
                reason = getattr(error, "msg", error)
                message = f"{cell}, line {number}: {reason}: {line.strip()}"
                raise DataError(message) from error
            lines[number - 1] = re.sub(r"^(\s*)", r"\1# ", line)


def _check_names(codes: Mapping[Cell, str]) -> None:
    """Refuse a name that the notebook knows from IPython or a setup cell, and no script would."""
    known, used = set(dir(builtins)), []
    for cell, code in codes.items():
        top = symtable.symtable(code, "cell", "exec")
        known |= {symbol.get_name() for symbol in top.get_symbols() if symbol.is_local()}
        for scope in _scopes(top):
            for symbol in scope.get_symbols():
                if symbol.is_global() and symbol.is_assigned():
                    known.add(symbol.get_name())
                elif symbol.is_global() and symbol.is_referenced():
                    used.append((cell, symbol.get_name()))
    stars = any(re.search(r"import\s+\*", code) for code in codes.values())
    for cell, name in used:
        if name not in known and not stars:
            raise DataError(
                f"{cell} uses {name!r}, which the script would not know: define or import it in a "
                f"cell that is not tagged {SETUP_TAG!r}"
            )


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _scopes(child)


def _modules_for(cells: str, folder: Path) -> dict[str, str]:
    """Path and text of the modules that the cells need, in reading order.

    The core, `fast` and `files` are there whole; of `report` and `studies` what is imported.
    """
    finder = ModuleFinder([str(folder)])  # what lies elsewhere is not followed
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch, "cells.py")
        script.write_text(cells, encoding="utf-8")
        finder.run_script(str(script))
    texts = {}
    for file in visible_files(folder, f"{PACKAGE}/**/*.py"):
        path = file.as_posix()
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        optional = path.startswith((f"{PACKAGE}/report/", f"{PACKAGE}/studies/"))
        if name in finder.modules or not optional:
            texts[path] = (folder / file).read_text(encoding="utf-8").strip("\n") + "\n"
    del texts[f"{PACKAGE}/__main__.py"]  # the commands
    return {path: texts[path] for path in sorted(texts, key=_reading_order)}


def _reading_order(path: str) -> tuple:
    """The core first; what is named in no list comes last, by name."""
    _, *folders, module = path.removesuffix(".py").split("/")
    place = MODULES.index(module) if module in MODULES else len(MODULES)
    return folders, place, path
