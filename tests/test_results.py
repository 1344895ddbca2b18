"""Accuracies carry their doubt, differences say whether chance explains them, tables are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstm_sentiment.studies import results
from lstm_sentiment.studies.accuracy import Accuracy, Difference, points
from lstm_sentiment.studies.results import (
    StudyResults,
    best_of_search,
    finished_trials,
    read_search,
    read_study,
    seed_deviations,
    study_results,
    summarise_study,
)
from lstm_sentiment.text import DataError


def table(rows: dict[str, list[float]]) -> pd.DataFrame:
    """A study's table: per name the held-out accuracies, one per seed; on validation 0.1 more."""
    return pd.DataFrame(
        [
            {
                "name": name,
                "seed": seed,
                "train_n": 70,
                "validation_accuracy": held_out + 0.1,
                "validation_n": 20,
                "held_out_accuracy": held_out,
                "held_out_low": held_out - 0.01,
                "held_out_high": held_out + 0.01,
                "held_out_n": 1400,
                "seconds": 10 * (seed + 1),
                "unlabelled_n": 30,
                "configuration": json.dumps({"cell": name, "random_state": seed}),
            }
            for name, accuracies in rows.items()
            for seed, held_out in enumerate(accuracies)
        ]
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("difference", "said"),
    [(0.0123, "+1.2 points"), (-0.05, "-5.0 points"), (-0.0001, "+0.0 points")],
)
def test_a_difference_of_shares_is_said_in_points(difference, said):
    assert points(difference) == said


def test_an_accuracy_says_its_interval_and_its_seeds():
    assert str(Accuracy(0.9, 100)) == "90.0% (84.1% to 95.9%; n = 100, one seed)"
    assert str(Accuracy(0.9, 1_000_000, 4, 0.02)) == (
        "90.0% (88.0% to 92.0%; n = 1,000,000, mean of 4 seeds)"
    )


def test_the_interval_holds_the_true_accuracy_19_times_in_20():
    rng = np.random.default_rng(0)
    true, n, seeds, between_seeds = 0.88, 1_000, 3, 0.01
    trainings = true + rng.normal(0, between_seeds, (4_000, seeds))
    # The same reviews judge all seeds: their chance is one, that of the seeds is averaged.
    chance_of_reviews = rng.binomial(n, true, 4_000) / n - true
    found = trainings.mean(axis=1) + chance_of_reviews
    intervals = [Accuracy(value, n, seeds, between_seeds).interval for value in found]
    assert np.mean([low <= true <= high for low, high in intervals]) == pytest.approx(
        0.95, abs=0.01
    )


def test_a_difference_says_whether_chance_explains_it():
    better, worse = Accuracy(0.8, 400), Accuracy(0.7, 400)
    difference = better - worse
    assert difference.error == pytest.approx(2 * np.sqrt(0.8 * 0.2 / 400 + 0.7 * 0.3 / 400))
    assert difference.is_significant
    assert str(difference) == "+10.0 ± 6.1 points"
    assert difference.table_entry == "+10.0 ± 6.1*"
    doubtful = Accuracy(0.8, 40) - Accuracy(0.7, 40)
    assert not doubtful.is_significant
    assert str(doubtful) == "+10.0 ± 19.2 points (not significant)"
    assert (worse - better).is_significant
    assert difference - doubtful == Difference(
        pytest.approx(0), pytest.approx(np.hypot(difference.error, doubtful.error))
    )


def test_a_setting_has_the_means_of_its_trainings():
    found = StudyResults(
        "demo", table({"base": [0.70, 0.72], "other": [0.8]}), {"validation": 0.2, "held_out": 0.01}
    )
    assert found
    assert list(found) == ["base", "other"]
    base = found["base"]
    assert (base.name, base.train_n, base.seconds) == ("base", 70, 15)
    assert base.held_out == Accuracy(pytest.approx(0.71), 1400, 2, 0.01)
    assert base.validation == Accuracy(pytest.approx(0.81), 20, 2, 0.2)
    assert (found["other"].held_out - base.held_out).value == pytest.approx(0.09)
    with pytest.raises(DataError, match=r"no row 'GRU'; python -m lstm_sentiment study demo makes"):
        found["GRU"]


def test_the_table_to_read_has_deviations_where_there_are_several_seeds():
    shown = StudyResults("demo", table({"base": [0.70, 0.72], "x": [0.8], "y": [0.6]})).shown(["y"])
    assert shown.index.tolist() == ["base", "x"]
    assert shown["held-out"].tolist() == ["71.00% (1.41)", "80.00%"]
    assert shown["held-out n"].tolist() == ["1,400", "1,400"]
    assert shown["seconds"].tolist() == ["15", "10"]


def test_deviations_between_seeds_are_pooled_over_settings():
    two = table({"a": [0.70, 0.72], "b": [0.5, 0.56, 0.53], "c": [0.9]})
    squares = 2 * 0.01**2 + (0.03**2 + 0.03**2)
    assert seed_deviations(two)["held_out"] == pytest.approx(np.sqrt(squares / 3))
    assert seed_deviations(table({"a": [0.7]})) == {"validation": 0, "held_out": 0}


def test_only_rows_that_differ_in_nothing_but_the_seed_are_averaged():
    rows = table({"a": [0.70, 0.72]})
    newer = rows.assign(
        configuration=[
            rows["configuration"][0],
            json.dumps({"cell": "a", "random_state": 1, "k": 2}),
        ]
    )
    assert summarise_study(newer).loc["a", "seeds"] == 2, "a parameter that is newer than a row"
    for changed in (
        rows.assign(train_n=[70, 71]),
        rows.assign(unlabelled_n=[30, 31]),
        rows.assign(configuration=['{"cell": "a"}', '{"cell": "b"}']),
    ):
        with pytest.raises(DataError, match=r"rows of \['a'\] come from different data or setting"):
            summarise_study(changed)


def test_studies_are_read_with_the_deviation_of_the_ablation_and_baselines_without(folder, capsys):
    ablation = table({"base": [0.70, 0.74]})
    tables = {"leaks": table({"honest": [0.7]}), "baselines": table({"bag": [0.8]})}
    for name, rows in {"ablation": ablation, **tables}.items():
        rows.to_csv(folder / f"{name}.csv", index=False)
    deviation = seed_deviations(ablation)["held_out"]
    assert study_results("leaks")["honest"].held_out.between_seeds == pytest.approx(deviation) != 0
    assert study_results("baselines")["bag"].held_out.between_seeds == 0
    assert study_results("leaks", "honest")
    assert capsys.readouterr().out == ""
    absent = study_results("presets")
    assert not absent
    assert list(absent) == []
    printed = capsys.readouterr().out
    assert "presets.csv" in printed
    assert printed.endswith("python -m lstm_sentiment study presets makes it\n")
    assert not study_results("leaks", "honest", "copied")
    assert capsys.readouterr().out == (
        "not here: copied of the study leaks; python -m lstm_sentiment study leaks makes it\n"
    )
    (folder / "ablation.csv").unlink()
    assert study_results("baselines")
    assert not study_results("leaks")
    assert "python -m lstm_sentiment study ablation makes it" in capsys.readouterr().out


def test_the_latest_row_of_a_name_and_seed_counts(folder):
    table({"a": [0.1], "b": [0.2]}).to_csv(folder / "ablation.csv", index=False)
    table({"a": [0.3]}).to_csv(folder / "ablation.csv", index=False, header=False, mode="a")
    assert read_study("ablation")["held_out_accuracy"].tolist() == [0.2, 0.3]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:9],
        lambda text: text[:-3],
        lambda text: text[: text.index("{") + 20] + "\n",
        lambda text: text.replace("name,seed,", "", 1),
        lambda text: "<<<<<<< mine\n" + text,
    ],
)
def test_a_table_that_is_none_is_named(folder, damage):
    path = folder / "ablation.csv"
    table({"a": [0.7]}).to_csv(path, index=False)
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=r"ablation\.csv(, row 1| cannot be read).*; restore it"):
        read_study("ablation")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("seed", ""),
        ("seed", "-1"),
        ("train_n", "0"),
        ("train_n", "70.5"),
        ("held_out_n", "many"),
        ("held_out_accuracy", ""),
        ("held_out_accuracy", "1.2"),
        ("validation_accuracy", "nan"),
        ("held_out_low", "-0.1"),
        ("seconds", "inf"),
        ("configuration", "{"),
        ("configuration", ""),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_its_row(folder, column, value):
    rows = table({"a": [0.7, 0.8], "b": [0.5]}).astype(str)
    rows.loc[1, column] = value
    rows.to_csv(folder / "ablation.csv", index=False)
    with pytest.raises(DataError, match=rf"ablation\.csv, row 2 \('a'\): {column} is .*restore"):
        read_study("ablation")


def test_a_merge_conflict_in_a_table_is_refused_with_its_row(folder):
    path = folder / "ablation.csv"
    table({"a": [0.7, 0.8]}).to_csv(path, index=False)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "<<<<<<< mine", *lines[2:], ">>>>>>> theirs", ""]))
    with pytest.raises(DataError, match=r"row 2 \('<<<<<<< mine'\)"):
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


COMMITTED = Path(__file__).parents[1] / results.RESULTS
STUDIES = sorted({path.stem for path in COMMITTED.glob("*.csv")} - {"search", "pretraining"})


@pytest.mark.parametrize("name", STUDIES)
def test_the_committed_tables_are_sound(name, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", COMMITTED)
    found = study_results(name)
    assert found
    assert all(0.5 < found[setting].held_out.value < 0.95 for setting in found)


def test_the_committed_trials_and_epochs_are_sound(monkeypatch):
    monkeypatch.setattr(results, "RESULTS", COMMITTED)
    assert len(read_search()) == 40
    assert best_of_search()["pooling"] == "mean_max"
    epochs = pd.read_csv(COMMITTED / "pretraining.csv")
    assert epochs["validation_perplexity"].is_monotonic_decreasing
