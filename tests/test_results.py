"""Accuracies carry their doubt, differences say whether chance explains them, tables are read."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from lstm_sentiment.evaluation import Accuracy, Difference, points
from lstm_sentiment.studies import study
from lstm_sentiment.studies.results import StudyResults, seed_deviations, study_results
from lstm_sentiment.text import DataError


def table(rows: dict[str, list[float]]) -> pd.DataFrame:
    """A study's table: per name the accuracies outside, one per seed; on validation 0.1 more."""
    return pd.DataFrame(
        [
            {
                "name": name,
                "seed": seed,
                "train_n": 70,
                "validation_accuracy": outside + 0.1,
                "validation_n": 20,
                "outside_accuracy": outside,
                "outside_n": 1400,
                "seconds": 10 * (seed + 1),
                "unlabelled_n": 30,
                "configuration": json.dumps({"name": name, "training": {"seed": seed}}),
            }
            for name, accuracies in rows.items()
            for seed, outside in enumerate(accuracies)
        ]
    )


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


def test_a_difference_is_significant_if_it_exceeds_two_standard_errors():
    better, worse = Accuracy(0.8, 400), Accuracy(0.7, 400)
    difference = better - worse
    assert difference.value == pytest.approx(0.1)
    assert difference.error == pytest.approx(2 * np.sqrt(0.8 * 0.2 / 400 + 0.7 * 0.3 / 400))
    assert difference.is_significant
    assert str(difference) == "+10.0 ± 6.1 points"
    assert difference.table_entry == "+10.0 ± 6.1*"
    doubtful = Accuracy(0.8, 40) - Accuracy(0.7, 40)
    assert not doubtful.is_significant
    assert str(doubtful) == "+10.0 ± 19.2 points (not significant)"
    assert doubtful.table_entry == "+10.0 ± 19.2"
    assert (worse - better).is_significant
    assert str(Difference(-0.0001, 0.01)) == "+0.0 ± 1.0 points (not significant)"


def test_the_errors_of_two_differences_add_as_squares():
    assert Difference(0.05, 0.03) - Difference(0.01, 0.04) == Difference(
        pytest.approx(0.04), pytest.approx(0.05)
    )


def test_a_setting_has_the_means_of_its_trainings():
    results = StudyResults(
        "demo", table({"base": [0.70, 0.72], "other": [0.8]}), {"validation": 0.2, "outside": 0.01}
    )
    assert results
    assert list(results) == ["base", "other"]
    base = results["base"]
    assert (base.name, base.train_n, base.seconds) == ("base", 70, 15)
    assert base.outside == Accuracy(pytest.approx(0.71), 1400, 2, 0.01)
    assert base.validation == Accuracy(pytest.approx(0.81), 20, 2, 0.2)
    assert (results["other"].outside - base.outside).value == pytest.approx(0.09)


def test_the_table_to_read_has_deviations_where_there_are_several_seeds():
    shown = StudyResults("demo", table({"base": [0.70, 0.72], "x": [0.8], "y": [0.6]})).shown(["y"])
    assert shown.index.tolist() == ["base", "x"]
    assert shown["outside"].tolist() == ["71.00% (1.41)", "80.00%"]
    assert shown["outside n"].tolist() == ["1,400", "1,400"]
    assert shown["seconds"].tolist() == ["15", "10"]


def test_a_row_that_is_not_there_yet_is_named_with_the_command_that_makes_it():
    results = StudyResults("demo", table({"base": [0.7]}))
    with pytest.raises(DataError, match=r"no row 'GRU'; python -m lstm_sentiment study demo makes"):
        results["GRU"]


def test_deviations_between_seeds_are_pooled_over_settings():
    two = table({"a": [0.70, 0.72], "b": [0.5, 0.56, 0.53], "c": [0.9]})
    squares = 2 * 0.01**2 + (0.03**2 + 0.03**2)
    assert seed_deviations(two)["outside"] == pytest.approx(np.sqrt(squares / 3))
    assert seed_deviations(table({"a": [0.7]})) == {"validation": 0, "outside": 0}


def test_studies_are_read_with_the_deviation_of_the_ablation_and_baselines_without(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    ablation = table({"base": [0.70, 0.74]})
    for name, rows in {
        "ablation": ablation,
        "leaks": table({"honest": [0.7]}),
        "baselines": table({"bag": [0.8]}),
    }.items():
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    deviation = seed_deviations(ablation)["outside"]
    assert study_results("leaks")["honest"].outside.between_seeds == pytest.approx(deviation) != 0
    assert study_results("baselines")["bag"].outside.between_seeds == 0
    assert capsys.readouterr().out == ""
    absent = study_results("presets")
    assert not absent
    assert list(absent) == []
    printed = capsys.readouterr().out
    assert "presets.csv; python -m lstm_sentiment study presets makes it" in printed

    assert study_results("leaks", "honest")
    assert not study_results("leaks", "honest", "copied")
    printed = capsys.readouterr().out
    assert printed == (
        "not here: copied of the study leaks; python -m lstm_sentiment study leaks makes it\n"
    )
    (tmp_path / "ablation.csv").unlink()
    assert study_results("baselines")
    assert not study_results("leaks")
    printed = capsys.readouterr().out
    assert "ablation.csv; python -m lstm_sentiment study ablation makes it" in printed
