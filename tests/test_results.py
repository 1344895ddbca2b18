"""Tables of studies are read with care, and their settings averaged over seeds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstm_sentiment.studies import results
from lstm_sentiment.studies.presets import STUDY_NAMES
from lstm_sentiment.studies.results import (
    best_of_search,
    finished_trials,
    read_search,
    read_study,
    readable,
    study_results,
    summarise_study,
)
from lstm_sentiment.text import DataError


def table(rows: dict[str, list[float]]) -> pd.DataFrame:
    """A study's table: per name the held-out accuracies, one per seed; on validation 0.1 more."""
    runs = [(name, seed, found[seed]) for name, found in rows.items() for seed in range(len(found))]
    columns = pd.DataFrame(runs, columns=["name", "seed", "held_out_accuracy"])
    accuracy = columns["held_out_accuracy"]
    return columns.assign(
        held_out_low=accuracy - 0.01,
        held_out_high=accuracy + 0.01,
        validation_accuracy=accuracy + 0.1,
        **{"train_n": 70, "validation_n": 20, "held_out_n": 1400, "unlabelled_n": 30},
        seconds=10 * (columns["seed"] + 1),
        configuration=[json.dumps({"cell": name, "random_state": seed}) for name, seed, _ in runs],
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


def test_a_setting_has_the_means_of_its_trainings(folder):
    rows = table({"base": [0.70, 0.72], "other": [0.8]})
    rows.to_csv(folder / "demo.csv", index=False)
    found = study_results("demo")
    assert found.index.tolist() == ["base", "other"]
    columns = [
        "seeds",
        "validation",
        "held_out",
        "held_out_std",
        "held_out_n",
        "train_n",
        "seconds",
    ]
    assert found.loc["base", columns].tolist() == pytest.approx(
        [2, 0.81, 0.71, np.sqrt(2) * 0.01, 1400, 70, 15]
    )
    text = readable(found)
    assert text["held-out"].tolist() == ["71.00% (1.41)", "80.00%"]
    assert text["held-out n"].tolist() == ["1,400", "1,400"]
    assert text["seconds"].tolist() == ["15", "10"]


@pytest.mark.parametrize(
    "column",
    [
        {"train_n": [70, 71]},
        {"unlabelled_n": [30, 31]},
        {"configuration": ['{"cell": "a"}', '{"cell": "b"}']},
    ],
)
def test_only_rows_that_differ_in_nothing_but_the_seed_are_averaged(column):
    rows = table({"a": [0.70, 0.72]})
    newer = [rows["configuration"][0], '{"cell": "a", "random_state": 1, "k": 2}']
    seeds = summarise_study(rows.assign(configuration=newer)).loc["a", "seeds"]
    assert seeds == 2, "a parameter that is newer than a row"
    with pytest.raises(DataError, match=r"rows of \['a'\] come from different data or setting"):
        summarise_study(rows.assign(**column))


def test_the_latest_row_of_a_name_and_seed_counts(folder):
    rows = pd.concat([table({"a": [0.1], "b": [0.2]}), table({"a": [0.3]})])
    rows.to_csv(folder / "ablation.csv", index=False)
    assert read_study("ablation")["held_out_accuracy"].tolist() == [0.2, 0.3]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:9],
        lambda text: text[:-3],
        lambda text: text[:-1],
        lambda text: text[: text.index("{") + 20] + "\n",
        lambda text: text.replace("name,seed,", "", 1),
        lambda text: text.replace("\na,0,", "\na,0,0,"),
        lambda text: "<<<<<<< mine\n" + text,
        lambda text: text + ">>>>>>> theirs\n",
    ],
)
def test_a_table_that_is_none_is_named(folder, damage):
    path = folder / "ablation.csv"
    table({"a": [0.7]}).to_csv(path, index=False)
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=r"ablation\.csv(, row [12]| cannot be read).*; restore it"):
        read_study("ablation")


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("seed", ["", "-1"]),
        ("train_n", ["0", "70.5"]),
        ("held_out_n", ["many"]),
        ("held_out_accuracy", ["", "1.2"]),
        ("validation_accuracy", ["nan"]),
        ("held_out_low", ["-0.1"]),
        ("seconds", ["inf"]),
        ("configuration", ["{", "", "[]", "3", '"GRU"']),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_its_row(folder, column, values):
    rows = table({"a": [0.7, 0.8], "b": [0.5]}).astype(str)
    for value in values:
        rows.loc[1, column] = value
        rows.to_csv(folder / "ablation.csv", index=False)
        message = rf"ablation\.csv, row 2 \('a'\): {column} is .*restore"
        with pytest.raises(DataError, match=message):
            read_study("ablation")


@pytest.mark.parametrize("name", ["", "nan"])
def test_a_row_without_a_name_is_refused_and_not_left_out(folder, name):
    rows = table({"a": [0.7, 0.8]}).replace({"name": {"a": name}})
    rows.to_csv(folder / "ablation.csv", index=False)
    with pytest.raises(DataError, match=r"row 1 .*: name is blank"):
        read_study("ablation")


def search_table(**columns):
    rows = {"number": range(3), "value": [0.7, 0.9, None], "state": ["COMPLETE"] * 2 + ["FAIL"]}
    settings = ['{"cell": "gru"}', '{"cell": "rnn"}', ""]
    return pd.DataFrame({**rows, "user_attrs_configuration": settings, **columns})


def test_the_best_trial_of_a_search_is_the_best_of_those_completed(folder):
    search_table().to_csv(folder / "search.csv", index=False)
    assert len(read_search()) == 3
    assert best_of_search() == {"cell": "rnn"}
    for damaged, reason in [
        (search_table(state=["PRUNED", "FAIL", "FAIL"]), "no trial in .* was completed"),
        (search_table(value=[0.7, None, None]), r"row 2 \(.1.*value is nan"),
        (search_table(value=[0.7, 1.3, None]), r"row 2 \(.1.*value is 1\.3"),
        (search_table(number=["0", "=======", "1"]), "row 2 .'=======.*number is ======="),
        (search_table(user_attrs_configuration=["{}", "{", ""]), "row 2 .*configuration is '{'"),
        (search_table(state=["COMPLETE", "", "FAIL"]), "row 2 .*state is blank"),
        (search_table().drop(columns="state"), "cannot be read"),
    ]:
        damaged.to_csv(folder / "search.csv", index=False)
        with pytest.raises(DataError, match=rf"(?s){reason}"):
            best_of_search()


def test_finished_trials_are_those_that_ended_each_setting_once():
    states = ["COMPLETE", "RUNNING", "PRUNED", "COMPLETE", "FAIL"]
    rates = [0.1, 0.2, 0.3, 0.1, 0.4]
    trials = pd.DataFrame({"number": range(5), "state": states, "params_rate": rates})
    assert finished_trials(trials)["number"].tolist() == [0, 2]


def test_the_committed_tables_are_sound(monkeypatch):
    committed = Path(__file__).parents[1] / results.RESULTS
    monkeypatch.setattr(results, "RESULTS", committed)
    for name in set(STUDY_NAMES) - {"search", "scaling"}:
        assert study_results(name)["held_out"].between(0.5, 0.95).all(), name
    assert len(read_search()) == 40
    assert best_of_search()["pooling"] == "mean_max"
