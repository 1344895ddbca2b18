"""Which outputs of a rerun differ from those of another run, times apart.

The same code on the same data prints the same; another processor rounds otherwise, and fifty epochs
make much of it. Pictures are not compared: their numbers stand in tables.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from lstm_sentiment.report.check import Cell, read_cells
from lstm_sentiment.report.numbers import NUMBER, text_of
from lstm_sentiment.text import DataError

TIMES_TAG = "times"  # of cells whose numbers are all times, or come of them
TIME = re.compile(r"\d[\d.,]*(?= (?:ms|s|seconds|minutes|times)\b)|(?<=seconds per epoch: )[\d.]+")


def main(notebook: Path, other: Path) -> bool:
    """Print a line for each cell whose output differs; whether none does.

    Raises:
        DataError: one is no notebook, or their code differs.
    """
    code, other_code = ([c for c in read_cells(path) if c.is_code] for path in (notebook, other))
    if [cell.source for cell in code] != [cell.source for cell in other_code]:
        raise DataError(f"{notebook} and {other} are not of the same code")
    lines = list(differences(code, other_code))
    print(f"{notebook}: {len(lines)} of {len(code)} outputs are not those of {other}")
    print(*lines, sep="\n", end="\n" if lines else "")
    return not lines


def differences(code: list[Cell], other_code: list[Cell]) -> Iterator[str]:
    """For each cell that differs, its first words that do, here and there."""
    for cell, other in zip(code, other_code, strict=True):
        pairs = itertools.zip_longest(_words(cell), _words(other), fillvalue="(nothing)")
        differ = [f"{here} / {there}" for here, there in pairs if here != there]
        if differ:
            yield f"    {cell}: {differ[0]}" + (f" and {len(differ) - 1} more" * (len(differ) > 1))


def _words(cell: Cell) -> list[str]:
    text = " ".join(map(text_of, cell.outputs))
    return (NUMBER if TIMES_TAG in cell.tags else TIME).sub("(time)", text).split()
