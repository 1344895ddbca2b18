"""What the studies found, as the report reads it.

A table under `notebooks/results` enters (see `study.py`); its settings leave, by name, with the
accuracies that their trainings had in the mean. Two of these can be subtracted, which says whether
chance explains their difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm_sentiment.evaluation import Accuracy
from lstm_sentiment.studies.study import read_study, summarise_study
from lstm_sentiment.text import DataError


@dataclass(frozen=True)
class Setting:
    """One setting of a study: `train_n` reviews to learn from, its accuracies, mean `seconds`."""

    name: str
    train_n: int
    validation: Accuracy
    outside: Accuracy
    seconds: float


class StudyResults:
    """The settings of a study by name, means over seeds; false where the study has no table.

    `results["GRU"].outside - results["base"].outside` is a `Difference`.

    Args:
        name: of the study.
        table: as `read_study` returns it, or None.
        between_seeds: standard deviation between seeds of the accuracies "validation" and
            "outside"; none where training knows no chance.
    """

    def __init__(
        self, name: str, table: pd.DataFrame | None, between_seeds: dict[str, float] | None = None
    ) -> None:
        self.name = name
        self.table = table
        self._summary = pd.DataFrame() if table is None else summarise_study(table)
        self.between_seeds = between_seeds or {}

    def __bool__(self) -> bool:
        return self.table is not None

    def __iter__(self):
        return iter(self._summary.index)

    def __getitem__(self, name: str) -> Setting:
        """DataError: the study has no such row, or not yet."""
        if name not in self._summary.index:
            raise DataError(
                f"the table of the study {self.name} has no row {name!r}; "
                f"python -m lstm_sentiment study {self.name} makes what is missing"
            )
        row = self._summary.loc[name]
        of_this_name = self.table[self.table["name"] == name]
        accuracies = {
            part: Accuracy(
                float(row[part]),
                int(of_this_name[f"{part}_n"].iloc[0]),
                int(row["seeds"]),
                self.between_seeds.get(part, 0.0),
            )
            for part in ("validation", "outside")
        }
        return Setting(name, int(row["train_n"]), **accuracies, seconds=float(row["seconds"]))

    def shown(self, without: list[str] | tuple[str, ...] = ()) -> pd.DataFrame:
        """To read: accuracies, in parentheses the standard deviation between seeds in points."""
        summary = self._summary.drop(list(without))
        columns = {"seeds": summary["seeds"]}
        for part in ("validation", "outside"):
            columns[part] = [
                f"{mean:.2%}" if np.isnan(deviation) else f"{mean:.2%} ({100 * deviation:.2f})"
                for mean, deviation in zip(summary[part], summary[f"{part}_std"], strict=True)
            ]
        columns["outside n"] = summary["outside_n"].map("{:,.0f}".format)
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
            missing = error.filename
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
        for part in ("validation", "outside")
    }
