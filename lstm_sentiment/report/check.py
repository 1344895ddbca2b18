"""Whether a notebook is one whole run, its outputs belong to its code, and no section is missing.

`hand_in` refuses a notebook for the first fault found here; the command `check` says all of them,
of any student's notebook. It reads the saved file only and runs nothing of it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lstm_sentiment.files.find import checked_path
from lstm_sentiment.report.numbers import unshown_numbers
from lstm_sentiment.report.record import CODE, PACKAGE, RESULTS, TABLES, digest, digests
from lstm_sentiment.text import DataError

SETUP_TAG = "setup"  # of cells that find or install the package
RUN_AGAIN = "restart the kernel, run all cells and save"
# The rubric's sections in its order, and what their headings are known by.
SECTIONS = {
    "data loading and exploration": r"load|explor|\beda\b|data ?set|\bdata\b",
    "preprocessing": r"pre-?process|clean",
    "word vectors": r"word[ -]?(vec|2vec|embed)|word2vec|fasttext|glove|pca|pre-?trained",
    "embedding matrix": r"embedding (matrix|layer)",
    "dataset and loaders": r"data ?set|loaders?\b|split",
    "the custom LSTM": r"^(?!.*limit).*(lstm|long short)",
    "testing and analysis": r"\btest|evaluat|analys|performance",
    "Kaggle": r"kaggle|submission|predictions",
    "limitations of LSTMs": r"limit",
}
# A line of Markdown that heads what follows: `# so`, `**so**` alone, or `<h2>so</h2>`.
HEADING = re.compile(r"^ {0,3}#+ (.+)$|^\*\*([^*\n]+)\*\*:?\s*$|<h\d[^>]*>(.*?)</h\d>", re.M | re.I)


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell of the notebook that is not empty; `number` counts all cells, from 1."""

    number: int
    is_code: bool
    tags: Sequence[str]
    source: str
    count: int | None
    outputs: Sequence[Mapping]

    def __str__(self) -> str:
        return f"cell {self.number} (`{self.source.strip().splitlines()[0][:60]}`)"


class Fault(NamedTuple):
    """What is wrong with a notebook: in the words of a list of them, and in full."""

    kind: str
    text: str


def main(notebooks: Iterable[Path], verbose: bool) -> bool:
    """Print a line for each notebook, all faults below it if asked to; whether none has any."""
    all_good = True
    for path in notebooks:
        to_read_again: list[str] = []
        try:
            cells = read_cells(path)
            faults = [*disorder(cells), *missing_sections(cells)]
            if record_in(cells):
                faults += outdated(cells, _project_of(path))
            to_read_again = [
                f"{unshown.number} is in no output of its section: {unshown.sentence}"
                for unshown in unshown_numbers(cells)
            ]
        except Exception as error:  # one damaged notebook of sixty must not end the others' turn
            known = isinstance(error, DataError | OSError)
            reason = getattr(error, "strerror", None) or str(error)
            faults = [Fault(reason if known else f"cannot be checked ({error!r})", str(error))]
        all_good &= not faults
        kinds = Counter(fault.kind for fault in faults).items()
        verdict = ", ".join(f"{kind} ({n})" if n > 1 else kind for kind, n in kinds) or "good"
        if to_read_again:
            verdict += f"; {len(to_read_again)} numbers to read again"
        details = [*(fault.text for fault in faults), *(f"read again: {n}" for n in to_read_again)]
        for line in [f"{path}: {verdict}", *(f"    {line}" for line in details if verbose)]:
            print(printable(line))
    return all_good


def printable(line: str) -> str:
    """What a stranger wrote, unable to steer the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def read_cells(path: Path) -> list[Cell]:
    """The cells of a notebook in any version of the format.

    Raises:
        DataError: the file is no notebook, such as a device, which may have no end, or nbformat,
            which reads it, is not installed.
        FileNotFoundError: there is no such file.
    """
    try:
        import nbformat  # an extra of the package
    except ImportError as error:
        raise DataError("nbformat is missing; pip install -r requirements.txt") from error
    path = checked_path(path)
    try:
        cells = [
            Cell(
                number,
                cell.cell_type == "code",
                cell.metadata.get("tags", ()),
                "".join(cell.source),
                cell.get("execution_count"),
                cell.get("outputs", []),
            )
            for number, cell in enumerate(nbformat.read(path, as_version=4).cells, start=1)
        ]
    except FileNotFoundError:
        raise
    except Exception as error:  # nbformat fails on a damaged file in many ways
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise DataError(f"cannot be read as a notebook ({reason})") from error
    return [cell for cell in cells if cell.source.strip()]


def disorder(cells: Sequence[Cell]) -> Iterator[Fault]:
    """What does not look like one run of all cells, in order and without an error."""
    shift = 0
    for expected, cell in enumerate((cell for cell in cells if cell.is_code), start=1):
        for output in cell.outputs:
            if output.get("output_type") == "error":
                reason = " ".join(f"{output.get('ename')}: {output.get('evalue')}".split())
                yield Fault("ended in an error", f"{cell} ended in {reason[:200]}")
        if cell.count is None:
            yield Fault("not run", f"{cell} has not been run; {RUN_AGAIN}")
        elif cell.count - expected != shift:  # one cell that ran twice is one fault, not all below
            shift = cell.count - expected
            if shift:
                yield Fault(
                    "out of order",
                    f"{cell} ran as number {cell.count} where a run from top to bottom has "
                    f"{expected}, so outputs may be older than the code; {RUN_AGAIN}",
                )


def record_in(cells: Iterable[Cell]) -> dict | None:
    """What `show.record_run` noted in a cell's output."""
    for output in itertools.chain.from_iterable(cell.outputs for cell in cells):
        record = output.get("metadata", {}).get(PACKAGE)
        if isinstance(record, dict) and isinstance(record.get("cells"), list):
            return record
    return None


def outdated(cells: Sequence[Cell], folder: Path | None) -> Iterator[Fault]:
    """Outputs older than a cell, or a module or table of the project's folder, by the record."""
    record = record_in(cells)
    if record is None:
        yield Fault("no record of its run", f"its last cell is not `record_run()`; {RUN_AGAIN}")
        return
    code_cells = [cell for cell in cells if cell.is_code]
    if len(code_cells) != len(record["cells"]):
        yield Fault(
            "cells changed after the run",
            "cells were added or removed after the run, or stand behind `record_run()`; "
            f"{RUN_AGAIN}",
        )
        return
    changed = [
        str(cell)
        for cell, recorded in zip(code_cells, record["cells"], strict=True)
        if digest(cell.source) != recorded
    ]
    parts = [(PACKAGE, CODE, "modules"), (RESULTS, TABLES, "tables")] if folder else []
    for below, patterns, name in parts:
        recorded, now = record.get(name, {}), digests(folder / below, *patterns)
        differ = [path for path in {*recorded, *now} if recorded.get(path) != now.get(path)]
        changed += sorted(f"{Path(below).as_posix()}/{path}" for path in differ)
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        yield Fault(
            "outputs older than the code",
            f"{', '.join(changed[:3])}{more} changed after the run, so outputs may be older than "
            f"the code; {RUN_AGAIN}",
        )


def _project_of(notebook: Path) -> Path | None:
    """The folder whose modules and tables the notebook ran on: beside it, or one above."""
    folders = notebook.resolve().parents[:2]
    return next((folder for folder in folders if (folder / PACKAGE).is_dir()), None)


def missing_sections(cells: Iterable[Cell]) -> Iterator[Fault]:
    """The rubric's sections that no heading begins, or none at its place in the rubric's order."""
    prose = "\n\n".join(cell.source for cell in cells if not cell.is_code)
    prose = re.sub(r"(?s)```.*?```", "", prose)
    titles = [next(filter(None, match.groups()), "") for match in HEADING.finditer(prose)]
    # The longest chain of sections whose headings stand in order; one heading may begin several.
    chains: dict[int, list[int]] = {-1: []}  # by the last section in them
    for title in titles:
        for number, pattern in enumerate(SECTIONS.values()):
            if re.search(pattern, title, re.IGNORECASE):
                before = max((chains[n] for n in chains if n < number), key=len)
                chains[number] = max([*before, number], chains.get(number, []), key=len)
    found = max(chains.values(), key=len)
    missing: dict[str, list[str]] = {}
    for number, (name, pattern) in enumerate(SECTIONS.items()):
        if number not in found:
            elsewhere = any(re.search(pattern, title, re.IGNORECASE) for title in titles)
            how = "not at its place" if elsewhere else "missing"
            missing.setdefault(how, []).append(f"{number + 1} ({name})")
    for how, names in missing.items():
        numbers = ", ".join(name[0] for name in names)
        yield Fault(f"section {numbers} {how}", f"no heading for {', '.join(names)}: {how}")
