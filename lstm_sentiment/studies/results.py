"""What the studies found: their tables, read with care.

A table under `notebooks/results` enters (see `study.py`); its settings leave, by name, with the
accuracies that their trainings had in the mean.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstm_sentiment.studies.accuracy import Accuracy
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


@dataclass(frozen=True)
class Setting:
    """One setting of a study: `train_n` reviews to learn from, its accuracies, mean `seconds`."""

    name: str
    train_n: int
    validation: Accuracy
    held_out: Accuracy
    seconds: float


class StudyResults:
    """The settings of a study by name, means over seeds; false where the study has no table.

    Args:
        name: of the study.
        table: as `read_study` returns it, or None.
        between_seeds: standard deviation between seeds of the accuracies "validation" and
            "held_out"; none where training knows no chance.
    """

    def __init__(
        self, name: str, table: pd.DataFrame | None, between_seeds: Mapping[str, float] = {}
    ) -> None:
        self.name = name
        self.table = table
        self.between_seeds = between_seeds
        self._summary = pd.DataFrame() if table is None else summarise_study(table)

    def __bool__(self) -> bool:
        return self.table is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._summary.index)

    def __getitem__(self, name: str) -> Setting:
        """DataError: the study has no such row, or not yet."""
        if name not in self._summary.index:
            raise DataError(
                f"the table of the study {self.name} has no row {name!r}; "
                f"python -m lstm_sentiment study {self.name} makes what is missing"
            )
        row = self._summary.loc[name]
        accuracies = {
            part: Accuracy(
                float(row[part]),
                int(row[f"{part}_n"]),
                int(row["seeds"]),
                self.between_seeds.get(part, 0.0),
            )
            for part in PARTS
        }
        return Setting(name, int(row["train_n"]), **accuracies, seconds=float(row["seconds"]))

    def shown(self, without: Iterable[str] = ()) -> pd.DataFrame:
        """To read: accuracies, in parentheses the standard deviation between seeds in points."""
        summary = self._summary.drop(list(without))
        columns = {"seeds": summary["seeds"]}
        for part in PARTS:
            columns[part.replace("_", "-")] = [
                f"{mean:.2%}" if np.isnan(deviation) else f"{mean:.2%} ({100 * deviation:.2f})"
                for mean, deviation in zip(summary[part], summary[f"{part}_std"], strict=True)
            ]
        columns["held-out n"] = summary["held_out_n"].map("{:,.0f}".format)
        columns["seconds"] = summary["seconds"].map("{:,.0f}".format)
        return pd.DataFrame(columns).rename_axis(None)


def study_results(name: str, *needed: str) -> StudyResults:
    """The results of a study; false where a table or one of the rows `needed` is missing.

    What is missing is printed, with the command that makes it. The deviation between seeds is the
    one of the study `ablation`, pooled over its settings: the others have too few seeds to
    estimate one of their own. Baselines know no chance.

    Raises:
        DataError: a table is damaged, or mixes trainings on different data.
    """
    tables = {}
    for study in dict.fromkeys([name] if name == "baselines" else [name, "ablation"]):
        try:
            tables[study] = read_study(study)
        except FileNotFoundError as error:
            missing = f"{error.filename} (looked from {Path.cwd()})"
        else:
            absent = set(needed) - set(tables[study]["name"]) if study == name else ()
            if not absent:
                continue
            missing = f"{', '.join(sorted(absent))} of the study {study}"
        print(f"not here: {missing}; python -m lstm_sentiment study {study} makes it")
        return StudyResults(name, None)
    deviations = seed_deviations(tables["ablation"]) if "ablation" in tables else {}
    return StudyResults(name, tables[name], deviations)


def seed_deviations(table: pd.DataFrame) -> dict[str, float]:
    """The standard deviation of accuracies between seeds, pooled over the settings of a study."""
    summary = summarise_study(table)
    freedom = summary["seeds"] - 1
    return {
        part: float(
            np.sqrt((summary[f"{part}_std"].fillna(0) ** 2 * freedom).sum() / max(1, freedom.sum()))
        )
        for part in PARTS
    }


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
