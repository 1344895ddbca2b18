"""Metrics equal scikit-learn's, intervals mean what they say, metrics.json is whole or absent."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import expit
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from lstm_sentiment.evaluation import (
    compare,
    evaluate,
    evaluation_table,
    expected_calibration_error,
    fit_temperature,
    wilson_interval,
    write_metrics,
)

PREDICTIONS = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=60).map(
    lambda rows: tuple(map(np.array, zip(*rows, strict=True)))
)


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray]:
    """300 reviews with predictions that are right in about four of five."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 300)
    return labels, expit((2 * labels - 1) + rng.normal(0, 1.2, 300))


def bootstrap_95(statistic, n: int) -> np.ndarray:
    """The middle 95% of a statistic of the row numbers (5000, n) of as many bootstrap samples."""
    rows = np.random.default_rng(9).integers(0, n, (5000, n))
    return np.percentile(statistic(rows), [2.5, 97.5])


# ---- Metrics and their intervals ----


@given(PREDICTIONS)
@example((np.array([0, 1]), np.array([0.5, 0.5])))
def test_metrics_equal_those_of_scikit_learn_and_lie_in_their_intervals(rows):
    labels, probabilities = rows
    predicted = probabilities >= 0.5
    result = evaluate(labels, probabilities)
    assert json.loads(json.dumps(result, allow_nan=False)) == result, "plain numbers"
    confusion = sk.confusion_matrix(labels, predicted, labels=[0, 1]).ravel()
    assert list(result["confusion"].values()) == confusion.tolist()
    scores = sk.precision_recall_fscore_support(
        labels, predicted, average="binary", zero_division=0
    )
    expected = [sk.accuracy_score(labels, predicted), *scores[:3]]
    for name, score in zip(("accuracy", "precision", "recall", "f1"), expected, strict=True):
        assert result[name] == pytest.approx(score)
        low, high = result[f"{name}_95"]
        assert 0 <= low <= score + 1e-12
        assert score - 1e-12 <= high <= 1


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (0, 0, 0, 1),  # no trials say nothing
    ],
)
def test_wilson_interval_equals_published_values(successes, n, low, high):
    """Table I, method 3 of Newcombe (1998), Two-sided confidence intervals for a proportion."""
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_f1_interval_equals_a_bootstrap_of_single_reviews(sample):
    labels, probabilities = sample

    def f1(rows):
        label, predicted = labels[rows] == 1, probabilities[rows] >= 0.5
        return 2 * (label & predicted).sum(axis=1) / (label.sum(axis=1) + predicted.sum(axis=1))

    interval = evaluate(*sample)["f1_95"]
    assert interval == pytest.approx(bootstrap_95(f1, len(labels)), abs=0.005)
    assert interval == evaluate(*sample)["f1_95"]


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (evaluate, ([], []), "n > 0"),
        (evaluate, ([1, 0], [0.5]), r"\(2,\) and \(1,\)"),
        (evaluate, ([[1]], [[0.5]]), r"shape \(n,\)"),
        (evaluate, ([1, 2], [0.5, 0.5]), r"labels must be 0 or 1, got \[2\]"),
        (evaluate, ([1, 0], [0.5, 1.5]), r"probabilities must be between 0 and 1, got \[1.5\]"),
        (evaluate, ([1, 0], [0.5, np.nan]), r"probabilities .* got \[nan\]"),
        (fit_temperature, ([1, 0], [1.0, np.inf]), r"logits must be finite, got \[inf\]"),
        (fit_temperature, ([1, 2], [1.0, 2.0]), r"labels must be 0 or 1, got \[2\]"),
        (wilson_interval, (11, 10), "successes must be between 0 and n = 10, got 11"),
    ],
)
def test_impossible_predictions_are_refused_with_the_reason(check, arguments, message):
    with pytest.raises(ValueError, match=message):
        check(*arguments)


def test_the_table_shows_each_metric_with_its_interval():
    result = evaluate([1, 1, 0, 0], [0.9, 0.8, 0.7, 0.1])
    table = evaluation_table({"model": result})
    low, high = result["precision_95"]
    assert table.loc["model", "n"] == "4"
    assert table.loc["model", "precision"] == f"66.7% [{low:.1%}, {high:.1%}]"
    assert table.loc["model", "recall"].startswith("100.0% [")


# ---- Comparisons ----


@pytest.mark.parametrize(
    ("right", "only_a", "only_b", "p_value"),
    [
        (range(3, 17), 3, 2, 1.0),  # as even as five can be
        (range(9, 15), 9, 0, 2 * 0.5**9),  # as of coin tosses
        (range(15), 0, 0, 1.0),
    ],
)
def test_comparison_counts_the_reviews_only_one_model_gets_right(right, only_a, only_b, p_value):
    """Of 20 reviews a is right on the first 15, b on those named."""
    a, b = (np.where(np.isin(range(20), rows), 0.9, 0.1) for rows in (range(15), right))
    result = compare(np.ones(20), a, b)
    assert (result["only_a_right"], result["only_b_right"]) == (only_a, only_b)
    assert result["difference"] == pytest.approx((only_a - only_b) / 20)
    assert result["p_value"] == pytest.approx(p_value)


def test_paired_interval_equals_a_bootstrap_of_single_reviews_and_swaps_with_the_models(sample):
    labels, a = sample
    b = np.clip(a + np.random.default_rng(2).normal(0, 0.3, len(a)), 0, 1)
    gains = ((a >= 0.5) == labels).astype(float) - ((b >= 0.5) == labels)
    interval = bootstrap_95(lambda rows: gains[rows].mean(axis=1), len(gains))
    forth, back = compare(labels, a, b), compare(labels, b, a)
    assert forth["difference_95"] == pytest.approx(interval, abs=0.005)
    assert back["difference_95"] == pytest.approx(-interval[::-1], abs=0.005)


# ---- Calibration ----


@pytest.mark.parametrize(
    ("labels", "probabilities", "error"),
    [
        ([1, 1, 0, 0], [1.0, 1.0, 0.0, 0.0], 0.0),
        ([0, 0, 1, 1], [1.0, 1.0, 0.0, 0.0], 1.0),
        ([1, 1, 1, 0], [0.75] * 4, 0.0),  # three of four
        ([1, 0, 0, 0], [0.9, 0.9, 0.1, 0.3], (2 * 0.4 + 0.1 + 0.3) / 4),
    ],
)
def test_calibration_error_by_hand(labels, probabilities, error):
    assert expected_calibration_error(labels, probabilities) == pytest.approx(error)


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_temperature_equals_the_fit_of_logistic_regression_and_calibrates(scale):
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, 20_000)
    labels = (rng.random(20_000) < expit(logits)).astype(int)
    temperature = fit_temperature(labels, scale * logits)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    slope = model.fit(scale * logits[:, None], labels).coef_.item()
    assert temperature == pytest.approx(1 / slope, rel=1e-3)
    assert expected_calibration_error(labels, expit(scale * logits / temperature)) < 0.01


@pytest.mark.parametrize(
    ("labels", "logits"),
    [
        ([0, 0, 1], [1.0, 2.0, -1.0]),  # without a clue
        ([1, 0, 1], [2000.0, -2000.0, -500.0]),
    ],
)
def test_temperature_has_an_end_and_great_logits_do_not_overflow(labels, logits):
    with np.errstate(over="raise", invalid="raise"):
        assert fit_temperature(labels, logits) == pytest.approx(20, rel=0.01)


def test_few_reviews_without_an_error_do_not_ask_for_certainty():
    labels = np.arange(40) % 2
    temperatures = [fit_temperature(labels[:n], (6 * labels - 3)[:n]) for n in (4, 40)]
    odds = expit(3 / np.array(temperatures))
    np.testing.assert_allclose(odds, [3 / 4, 21 / 22], rtol=1e-3)  # (n / 2 + 1) / (n / 2 + 2)


# ---- metrics.json ----


def test_metrics_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "artifacts" / "metrics.json"
    metrics = {"accuracy": 0.75, "n": np.int64(3), "shares": np.float32([0.5, 0.25])}
    write_metrics(path, metrics)
    before = path.read_text(encoding="utf-8")
    assert json.loads(before) == {"accuracy": 0.75, "n": 3, "shares": [0.5, 0.25]}
    for bad, error in ((float("nan"), ValueError), (object(), AttributeError)):
        with pytest.raises(error):
            write_metrics(path, metrics | {"seconds": bad})
    assert path.read_text(encoding="utf-8") == before
    assert list(path.parent.iterdir()) == [path]
