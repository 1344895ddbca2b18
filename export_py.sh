#!/usr/bin/env bash
# Make the file to hand in:  ./export_py.sh <student id>
#
# Writes <student id>.zip in the current folder. It holds the report (report.ipynb), <student id>.py
# with the code of package (but for its commands) and notebook, which runs by itself, and what is
# needed to run the notebook. Notebook cells tagged `setup` (they find or install the package) are
# left out of the .py.
set -eu

refuse() {
    echo "export_py.sh: $1" >&2
    exit "$2"
}

[ $# -eq 1 ] || refuse "expected one argument, got $#; usage: export_py.sh <student id>" 2
project=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null && pwd)

usable='import importlib.util, sys
sys.exit(sys.version_info < (3, 10) or importlib.util.find_spec("jupytext") is None)'
python=
for candidate in python3 python; do
    if "$candidate" -c "$usable" >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || refuse "neither python3 nor python is Python 3.10 or newer with jupytext; \
activate the project's environment, or: pip install -r requirements.txt" 1

PYTHONUTF8=1 exec "$python" - "$project" "$1" <<'PYTHON'
import sys

sys.path = [folder for folder in sys.path if folder]  # import nothing from the current folder

import ast
import builtins
import copy
import graphlib
import hashlib
import importlib.util
import os
import re
import symtable
import time
import zipfile
from pathlib import Path

import jupytext

PACKAGE = "lstm_sentiment"
NOTEBOOK = "notebooks/report.ipynb"
RESULTS = "notebooks/results"
OTHER_FILES = [
    "README.md", "data/README.md", "requirements.txt", "notebooks/kaggle_predictions.csv"
]
UNFINISHED_SUFFIXES = (".lock", ".part")  # of a study that is running
SETUP_TAG = "setup"
INTRODUCTION = """# All code of the project in one file

First the modules of the package `{package}`, each after those that it uses, then the cells
of the report, `report.ipynb`. No other file of the project is needed:

    pip install -r requirements.txt
    python {student}.py

The environment variable `LSTM_SENTIMENT_QUICK=1` makes it a short run."""


class ExportError(Exception):
    """Why nothing is exported, in words for the person who asked for it."""


def check_student_id(student):
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]{0,39}", student):
        raise ExportError(
            f"student id {student!r} is not accepted: up to 40 letters (A-Z), digits, '-' and '_' "
            "are, beginning with a letter or a digit"
        )
    if importlib.util.find_spec(student):
        raise ExportError(
            f"student id {student!r} is not accepted: a Python module has that name, and "
            f"{student}.py would be imported in its place"
        )


# The notebook: read, checked, turned into a script.


def read_notebook(path):
    try:
        notebook = jupytext.read(path)
        check_notebook(notebook)
    except ExportError:
        raise
    except Exception as error:  # nbformat fails on a damaged file in many ways
        raise ExportError(f"{NOTEBOOK} cannot be read as a notebook: {error}") from error
    return notebook


def check_notebook(notebook):
    """Refuse what does not look like one run of all cells, in order and without an error."""
    expected_count = 0
    for number, cell in enumerate(notebook.cells, start=1):
        code = cell.source.strip()
        if cell.cell_type != "code" or not code:
            continue
        expected_count += 1
        place = f"{NOTEBOOK}, cell {number} (`{code.splitlines()[0][:60]}`)"
        advice = "restart the kernel, run all cells and save"
        for output in cell.outputs:
            if output.output_type == "error":
                raise ExportError(f"{place} ended in {output.ename}: {output.evalue}")
        if cell.execution_count is None:
            raise ExportError(f"{place} has not been run; {advice}")
        if cell.execution_count != expected_count:
            raise ExportError(
                f"{place} ran as number {cell.execution_count} where a run from top to bottom has "
                f"{expected_count}, so outputs may be older than the code; {advice}"
            )
    if not expected_count:
        raise ExportError(f"{NOTEBOOK} holds no code")


def digest(text):
    """As `record_run` of the package makes it."""
    return hashlib.sha256(text.strip().encode()).hexdigest()[:12]


def digest_of_files(project, folder, *patterns):
    """As `record_run` of the package makes it; of nothing where the folder is missing."""
    paths = sorted(path for pattern in patterns for path in visible_files(project, folder, pattern))
    return digest("".join((project / path).read_text(encoding="utf-8") for path in paths))


def check_age(notebook, project):
    """Refuse outputs that are older than a cell, than the package or than a study's table."""
    cells = [
        (number, cell)
        for number, cell in enumerate(notebook.cells, start=1)
        if cell.cell_type == "code" and cell.source.strip()
    ]
    records = [o.get("metadata", {}).get(PACKAGE) for _, cell in cells for o in cell.outputs]
    record = next(filter(None, records), None)
    advice = "restart the kernel, run all cells and save"
    if record is None:
        raise ExportError(f"{NOTEBOOK} does not end with `record_run()`; {advice}")
    for (number, cell), recorded in zip(cells, record["cells"]):
        if digest(cell.source) != recorded:
            raise ExportError(
                f"{NOTEBOOK}, cell {number} (`{cell.source.strip().splitlines()[0][:60]}`) was "
                f"changed after it was run, so outputs are older than the code; {advice}"
            )
    if len(cells) != len(record["cells"]):
        raise ExportError(f"{NOTEBOOK}: cells were added or removed after the run; {advice}")
    if digest_of_files(project, PACKAGE, "*.py") != record["package"]:
        raise ExportError(
            f"{PACKAGE} was changed after {NOTEBOOK} was run, so outputs are older than the code; "
            f"{advice}"
        )
    if digest_of_files(project, RESULTS, "*.csv", "*.json") != record.get("results"):
        raise ExportError(
            f"a table under {RESULTS} was changed after {NOTEBOOK} was run, so outputs are older "
            f"than the results; {advice}"
        )


def notebook_to_script(notebook):
    """The cells in jupytext's percent format: magics become comments, setup cells are left out."""
    notebook = copy.copy(notebook)
    notebook.cells = [c for c in notebook.cells if SETUP_TAG not in c.metadata.get("tags", [])]
    notebook.metadata["jupytext"] = dict.fromkeys(
        ["notebook_metadata_filter", "cell_metadata_filter"], "-all"
    )
    return jupytext.writes(notebook, fmt="py:percent")


# Sources that are to share one namespace: each module, and the notebook's script.


class Source:
    """Python text, named `label` in messages; refused if it cannot share a file with the others."""

    def __init__(self, label, text):
        self.label, self.text = label, text
        self.tree = ast.parse(text, filename=label)
        self.docstring = ast.get_docstring(self.tree)
        self.package_imports = [
            node for node in ast.walk(self.tree) if self._is_package_import(node)
        ]

    def _is_package_import(self, node):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = ["" if node.level else node.module]
        else:
            return False
        if not any(module.split(".")[0] in ("", PACKAGE) for module in modules):
            return False
        absolute = isinstance(node, ast.ImportFrom) and not node.level and node in self.tree.body
        if not absolute or any(alias.asname or alias.name == "*" for alias in node.names):
            raise ExportError(
                f"{self.label}: `{ast.unparse(node)}` cannot be put into one file; write "
                f"`from {PACKAGE}.module import name`, outside of any function or block"
            )
        return True

    def flat_code(self):
        """The text less what has no place or no meaning inside one file."""
        body = self.tree.body
        dropped = body[:1] if self.docstring is not None else []
        dropped += self.package_imports
        for node in body:
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                if [alias.name for alias in node.names] != ["annotations"]:
                    raise ExportError(f"{self.label}: `{ast.unparse(node)}` would change the rest")
                dropped.append(node)
        return self._without(dropped)

    def _without(self, statements):
        lines = self.text.split("\n")
        for node in sorted(statements, key=lambda node: -node.lineno):
            first, end = node.lineno - 1, node.end_lineno
            behind = lines[end - 1].encode()[node.end_col_offset :].decode().strip()
            if node.col_offset or not (behind == "" or behind.startswith("#")):
                raise ExportError(f"{self.label}, line {end}: write one statement a line")
            blank_above = not lines[first - 1].strip() if first else True
            while blank_above and end < len(lines) and not lines[end].strip():
                end += 1
            del lines[first:end]
        return "\n".join(lines).strip("\n")

    def undefined_names(self, defined):
        """Global names that this source reads and that nothing defines, sorted."""
        scopes = [symtable.symtable(self.flat_code(), self.label, "exec")]
        for scope in scopes:
            scopes.extend(scope.get_children())
        symbols = (symbol for scope in scopes for symbol in scope.get_symbols())
        # From Python 3.12 on, a comprehension's variable counts as the module's: it is assigned.
        read = (s for s in symbols if s.is_global() and s.is_referenced() and not s.is_assigned())
        return sorted({symbol.get_name() for symbol in read} - set(defined))


class TopLevelNames(ast.NodeVisitor):
    """What a source binds at its top level: `origins` says of each name where it comes from."""

    def __init__(self, source):
        self.label, self.origins = source.label, {}
        self.ignored = source.package_imports
        self.visit(source.tree)

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Store):
            self.origins[node.id] = self.label

    def visit_FunctionDef(self, node):
        self.origins[node.name] = self.label

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_ListComp(self, node):
        """A comprehension's variable is its own."""

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_Lambda = visit_ListComp

    def visit_Import(self, node):
        for alias in node.names:
            bound = alias.name if alias.asname else alias.name.split(".")[0]
            self.origins.setdefault(alias.asname or bound, f"import {bound}")

    def visit_ImportFrom(self, node):
        if node not in self.ignored and node.module != "__future__":
            for alias in node.names:
                origin = f"import {node.module}.{alias.name}"
                self.origins.setdefault(alias.asname or alias.name, origin)


def check_shared_names(sources):
    """Refuse a name with two meanings, an import of what is not there, a name nothing defines."""
    meaning = dict.fromkeys(dir(builtins), ("builtin", "Python itself"))
    for source in sources:
        for name, origin in TopLevelNames(source).origins.items():
            other_origin, other_label = meaning.setdefault(name, (origin, source.label))
            if origin != other_origin:
                raise ExportError(
                    f"{other_label} and {source.label} both define {name!r}, with different "
                    "meanings; in one file the second would replace the first: rename one"
                )
    for source in sources:
        for node in source.package_imports:
            for alias in node.names:
                if alias.name not in meaning:
                    raise ExportError(
                        f"{source.label}: `{ast.unparse(node)}`: no module defines {alias.name!r} "
                        "(modules themselves cannot be imported in one file)"
                    )
        for name in source.undefined_names(meaning):
            raise ExportError(
                f"{source.label} uses {name!r}, which nothing in one file would define "
                f"(cells tagged {SETUP_TAG!r} are left out of it)"
            )


def visible_files(project, folder, pattern):
    """Files below a folder of the project, as sorted relative paths; nothing hidden."""
    paths = (p.relative_to(project) for p in (project / folder).rglob(pattern) if p.is_file())
    return sorted(path for path in paths if not any(part[0] == "." for part in path.parts))


def read_modules(project):
    """The package's modules as sources, each after those it imports from."""
    modules = {}
    for path in visible_files(project, PACKAGE, "*.py"):
        if path.name != "__main__.py":
            parts = path.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = (project / path).read_text(encoding="utf-8")
            modules[name] = Source(path.as_posix(), text)
    needs = {
        name: [node.module for node in source.package_imports if node.module in modules]
        for name, source in modules.items()
    }
    try:
        return [modules[name] for name in graphlib.TopologicalSorter(needs).static_order()]
    except graphlib.CycleError as error:
        circle = " -> ".join(error.args[1])
        raise ExportError(f"modules import from each other in a circle: {circle}") from error


# The script and the zip.


def markdown_cell(text):
    return "\n".join(["# %% [markdown]", *(f"# {line}".rstrip() for line in text.split("\n"))])


def make_script(student, modules, notebook):
    check_shared_names([*modules, notebook])
    introduction = INTRODUCTION.format(package=PACKAGE, student=student)
    cells = [markdown_cell(introduction), "# %%\nfrom __future__ import annotations"]
    for module in modules:
        code = module.flat_code()
        if code or module.docstring:
            cells.append(markdown_cell(f"## {module.label}\n\n{module.docstring or ''}".strip()))
        if code:
            cells.append(f"# %%\n{code}")
    script = "\n\n".join([*cells, notebook.flat_code()]) + "\n"
    compile(script, f"{student}.py", "exec", dont_inherit=True)
    return script


def collect(project, student):
    """What goes into the zip: name -> bytes. The notebook lies beside the package."""
    notebook = read_notebook(project / NOTEBOOK)
    modules = read_modules(project)
    script = make_script(student, modules, Source(NOTEBOOK, notebook_to_script(notebook)))
    check_age(notebook, project)
    contents = {
        "report.ipynb": (project / NOTEBOOK).read_bytes(),
        f"{student}.py": script.encode(),
    }
    files = visible_files(project, PACKAGE, "*.py")
    results = visible_files(project, RESULTS, "*")
    files += [path for path in results if path.suffix not in UNFINISHED_SUFFIXES]
    for path in [*map(Path, OTHER_FILES), *files]:
        contents[path.as_posix()] = (project / path).read_bytes()
    return contents


def write_zip(path, contents):
    """Write the zip wholly or not at all; a zip of that name is replaced."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with zipfile.ZipFile(unfinished, "w") as archive:
            for name, content in contents.items():
                entry = zipfile.ZipInfo(name, time.localtime()[:6])
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def main(project, student):
    try:
        check_student_id(student)
        contents = collect(Path(project), student)
        path = Path(f"{student}.zip")
        write_zip(path, contents)
    except SyntaxError as error:
        line = (error.text or "").strip()
        sys.exit(f"export_py.sh: {error.filename}, line {error.lineno}: {error.msg}: {line}")
    except (ExportError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"export_py.sh: {error}")
    print(f"{path} ({path.stat().st_size:,} bytes) holds")
    for name, content in contents.items():
        print(f"{len(content):12,}  {name}")


main(*sys.argv[1:])
PYTHON
