"""What the studies found: their tables, read with care.

A table under `notebooks/results` enters (see `study.py`); its settings leave, by name, with the
accuracies that their trainings had in the mean.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstm_sentiment.text import DataError

RESULTS = Path("notebooks/results")
PARTS = ("validation", "held_out")

COUNTS = ("train_n", "validation_n", "held_out_n", "unlabelled_n")
SHARES = ("validation_accuracy", "held_out_accuracy", "held_out_low", "held_out_high")
#: The least and the greatest number that a column of a study's table can hold.
LIMITS = {
    "seed": (0, 2**32 - 1),
    **{name: (1, np.inf) for name in COUNTS},
    **{name: (0, 1) for name in SHARES},
    "seconds": (0, np.inf),
}
WHOLE = ("seed", *COUNTS)
SEARCH_SETTINGS = "user_attrs_configuration"
ADVICE = "restore it, or delete it and run the study again"


def study_results(name: str) -> pd.DataFrame:
    """The settings of a study by name, see `summarise_study`; `read_study` says what it raises."""
    return summarise_study(read_study(name))


def readable(summary: pd.DataFrame) -> pd.DataFrame:
    """To read: accuracies, in parentheses the standard deviation between seeds in points."""
    columns = {"seeds": summary["seeds"]}
    for part in PARTS:
        points = 100 * summary[f"{part}_std"]
        deviations = points.map(" ({:.2f})".format, na_action="ignore").fillna("")
        columns[part.replace("_", "-")] = summary[part].map("{:.2%}".format) + deviations
    columns["held-out n"] = summary["held_out_n"].map("{:,}".format)
    columns["seconds"] = summary["seconds"].map("{:,.0f}".format)
    return pd.DataFrame(columns).rename_axis(None)


def summarise_study(table: pd.DataFrame) -> pd.DataFrame:
    """Per name, in their order: seeds, mean and standard deviation of both accuracies, numbers of
    reviews, mean seconds.

    Raises:
        DataError: rows of one name come from different numbers of reviews or texts, or differ in
            more than the seed.
    """
    groups = table.groupby("name", sort=False)
    mixed = [
        name
        for name, rows in groups
        if (rows[list(COUNTS)].nunique() > 1).any() or not _same_settings(rows["configuration"])
    ]
    if mixed:
        raise DataError(
            f"rows of {mixed} come from different data or settings; run the study again with all "
            "seeds"
        )
    columns = {"seeds": groups.size()}
    for part in PARTS:
        columns[part] = groups[f"{part}_accuracy"].mean()
        columns[f"{part}_std"] = groups[f"{part}_accuracy"].std()
        columns[f"{part}_n"] = groups[f"{part}_n"].first()
    columns |= {"train_n": groups["train_n"].first(), "seconds": groups["seconds"].mean()}
    return pd.DataFrame(columns)


def _same_settings(configurations: Iterable[str]) -> bool:
    """Whether settings that all rows have, the seed aside, are equal: some may be newer."""
    settings = [json.loads(text) for text in configurations]
    common = set.intersection(*map(set, settings)) - {"random_state"}
    return all(row[name] == settings[0][name] for row in settings for name in common)


def read_study(name: str) -> pd.DataFrame:
    """The table of a study: one row per training, the latest of each name and seed.

    name, seed, train_n, the accuracies on validation and held-out reviews with their number and,
    held out, the 95% interval, best_epoch, seconds, unlabelled_n (texts behind word vectors and
    language model), configuration (JSON), processor, threads and versions.

    Raises:
        DataError: the table is damaged; the message says in which row.
        FileNotFoundError: there is none.
    """
    table = read_table(RESULTS / f"{name}.csv")
    return table.drop_duplicates(["name", "seed"], keep="last", ignore_index=True)


def read_table(path: Path) -> pd.DataFrame:
    """All rows of a study's table, each checked.

    Raises:
        DataError: the table is damaged; the message says in which row.
        FileNotFoundError: there is none.
    """
    table = _read_csv(path, ["name", "configuration", *LIMITS])
    return _checked(path, table, LIMITS, "configuration")


def read_search() -> pd.DataFrame:
    """The table search.csv: one row per trial, with number, value and state, params_ and
    user_attrs_.

    Raises:
        DataError: the table is damaged; the message says in which row.
        FileNotFoundError: there is none.
    """
    path = RESULTS / "search.csv"
    table = _read_csv(path, ["number", "value", "state"])
    if SEARCH_SETTINGS not in table:  # no trial has begun
        table[SEARCH_SETTINGS] = None
    table = _checked(path, table, {"number": (0, np.inf)})
    _checked(path, table[table["state"] == "COMPLETE"], {"value": (0, 1)}, SEARCH_SETTINGS)
    return table


def best_of_search() -> dict:
    """The parameters of the trial that was best on validation, from the table of the search.

    Raises:
        DataError: the table is damaged, or no trial was completed.
        FileNotFoundError: there is no such table.
    """
    trials = read_search()
    complete = trials[trials["state"] == "COMPLETE"]
    if complete.empty:
        raise DataError(f"no trial in {RESULTS / 'search.csv'} was completed; let the search go on")
    return json.loads(complete.loc[complete["value"].idxmax(), SEARCH_SETTINGS])


def finished_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials of the table search.csv that ended, without repetitions of the same settings.

    Two processes that begin together both try the first.
    """
    ended = trials[trials["state"].isin(["COMPLETE", "PRUNED"])]
    settings = [column for column in trials if column.startswith("params_")]
    return ended.drop_duplicates(settings)


def _read_csv(path: Path, needed: Iterable[str]) -> pd.DataFrame:
    try:
        text = path.read_text(encoding="utf-8")
        table = pd.read_csv(io.StringIO(text))
        is_shifted = not isinstance(table.index, pd.RangeIndex)  # pandas makes names of surplus
        if is_shifted or not text.endswith("\n") or not set(needed) <= set(table):
            raise ValueError("it is cut off, or no such table")
    except ValueError as error:
        raise DataError(f"{path} cannot be read ({error}); {ADVICE}") from error
    return table


def _checked(
    path: Path, table: pd.DataFrame, limits: Mapping[str, tuple], settings: str | None = None
) -> pd.DataFrame:
    """`table` with columns of numbers within `limits`; the column `settings` holds JSON."""
    numbers = table[list(limits)].apply(pd.to_numeric, errors="coerce")
    labels = [name for name in ("name", "state") if name in table]
    wrong = {row: f"{name} is blank" for name in labels for row in table.index[table[name].isna()]}
    for name, (least, greatest) in limits.items():
        possible = numbers[name].between(least, greatest) & (numbers[name] < np.inf)
        if name in WHOLE:
            possible &= numbers[name] % 1 == 0
        wrong |= {row: f"{name} is {table[name][row]}" for row in table.index[~possible]}
    for row, text in table[settings].items() if settings else ():
        if not _is_object(text):
            wrong.setdefault(row, f"{settings} is {text!r:.40}")
    if wrong:
        row = min(wrong)
        raise DataError(
            f"{path}, row {row + 1} ({str(table.loc[row].iloc[0])[:40]!r}): {wrong[row]}; {ADVICE}"
        )
    return table.assign(**numbers)


def _is_object(text: Any) -> bool:
    """Whether it is JSON of names and values."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, TypeError):
        return False
