"""Metrics equal scikit-learn's, intervals mean what they say, metrics.json is whole or absent."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from lstm_sentiment.evaluation import (
    compare,
    evaluate,
    evaluation_table,
    expected_calibration_error,
    fit_temperature,
    reliability_curve,
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
    return labels, 1 / (1 + np.exp(-(2 * labels - 1) - rng.normal(0, 1.2, 300)))


def drawn_rows(n: int) -> np.ndarray:
    """Row numbers of 5,000 bootstrap samples of n reviews."""
    return np.random.default_rng(9).integers(0, n, (5000, n))


# ---- Metrics and their intervals ----


@given(PREDICTIONS)
def test_metrics_equal_those_of_scikit_learn_and_lie_in_their_intervals(rows):
    labels, probabilities = rows
    predicted = probabilities >= 0.5
    result = evaluate(labels, probabilities)
    assert json.loads(json.dumps(result, allow_nan=False)) == result, "plain numbers"
    assert result["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    for name in ("precision", "recall", "f1"):
        score = getattr(sk, f"{name}_score")
        assert result[name] == pytest.approx(score(labels, predicted, zero_division=0))
    confusion = sk.confusion_matrix(labels, predicted, labels=[0, 1]).ravel()
    assert list(result["confusion"].values()) == confusion.tolist()
    for name in ("accuracy", "precision", "recall", "f1"):
        low, high = result[f"{name}_95"]
        assert 0 <= low <= result[name] + 1e-12
        assert result[name] - 1e-12 <= high <= 1


def test_the_threshold_decides_what_is_positive():
    result = evaluate([0, 1, 1], [0.6, 0.7, 0.9], threshold=0.7)
    assert result["confusion"] == {"tn": 1, "fp": 0, "fn": 0, "tp": 2}


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 0, 0, 1),  # no trials say nothing
    ],
)
def test_wilson_interval_equals_published_values(successes, n, low, high):
    """Table I, method 3 of Newcombe (1998), Two-sided confidence intervals for a proportion."""
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_holds_the_true_proportion_19_times_in_20():
    n, p = 200, 0.87
    intervals = [wilson_interval(k, n) for k in range(n + 1)]
    covered = sum(binom.pmf(k, n, p) for k, (low, high) in enumerate(intervals) if low <= p <= high)
    assert covered == pytest.approx(0.95, abs=0.015)


def test_f1_interval_equals_a_bootstrap_of_single_reviews(sample):
    labels, probabilities = sample
    rows = drawn_rows(len(labels))
    label, predicted = labels[rows] == 1, probabilities[rows] >= 0.5
    f1 = 2 * (label & predicted).sum(axis=1) / (label.sum(axis=1) + predicted.sum(axis=1))
    first, again, other = (evaluate(*sample, seed=seed)["f1_95"] for seed in (0, 0, 1))
    assert first == pytest.approx(np.percentile(f1, [2.5, 97.5]), abs=0.005)
    assert first == again != other == pytest.approx(first, abs=0.005)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "n > 0"),
        (([1, 0], [0.5]), r"\(2,\) and \(1,\)"),
        (([[1]], [[0.5]]), r"shape \(n,\)"),
        (([1, 2], [0.5, 0.5]), r"labels must be 0 or 1, got \[2\]"),
        (([1, 0], [0.5, 1.5]), r"probabilities must be between 0 and 1, got \[1.5\]"),
        (([1, 0], [0.5, float("nan")]), r"probabilities .* got \[nan\]"),
        (([1, 0], [0.5, 0.5], 1.1), r"threshold must be between 0 and 1, got 1\.1"),
    ],
)
def test_impossible_predictions_are_refused_with_the_reason(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*arguments)
    with pytest.raises(ValueError, match="successes must be between 0 and n = 10, got 11"):
        wilson_interval(11, 10)


def test_the_table_shows_each_metric_with_its_interval():
    result = evaluate([1, 1, 0, 0], [0.9, 0.8, 0.7, 0.1])
    table = evaluation_table({"model": result})
    low, high = result["precision_95"]
    assert table.loc["model", "n"] == "4"
    assert table.loc["model", "precision"] == f"66.7% [{low:.1%}, {high:.1%}]"
    assert table.loc["model", "recall"].startswith("100.0% [")


# ---- Comparisons ----


def test_comparison_counts_the_reviews_only_one_model_gets_right():
    labels = np.ones(20)
    a = np.r_[np.full(15, 0.9), np.full(5, 0.1)]  # right on the first 15
    b = np.r_[np.full(3, 0.1), np.full(14, 0.9), np.full(3, 0.1)]  # right on rows 3 to 16
    result = compare(labels, a, b)
    assert (result["only_a_right"], result["only_b_right"]) == (3, 2)
    assert result["difference"] == pytest.approx(0.05)
    assert result["p_value"] == pytest.approx(1.0)  # 3 against 2 is as even as five can be
    b = np.r_[np.full(9, 0.1), np.full(6, 0.9), np.full(5, 0.1)]
    assert compare(labels, a, b)["p_value"] == pytest.approx(2 * 0.5**9), "as of coin tosses"
    result = compare(labels, a, a)
    assert (result["difference"], result["difference_95"], result["p_value"]) == (0, [0, 0], 1)


def test_paired_interval_equals_a_bootstrap_of_single_reviews_and_swaps_with_the_models(sample):
    labels, a = sample
    b = np.clip(a + np.random.default_rng(2).normal(0, 0.3, len(a)), 0, 1)
    gains = ((a >= 0.5) == labels).astype(float) - ((b >= 0.5) == labels)
    interval = np.percentile(gains[drawn_rows(len(gains))].mean(axis=1), [2.5, 97.5])
    forth, back = compare(labels, a, b), compare(labels, b, a)
    assert forth["difference_95"] == pytest.approx(interval, abs=0.005)
    assert back["difference_95"] == pytest.approx(-interval[::-1], abs=0.005)
    assert forth["difference"] == -back["difference"]
    assert forth["p_value"] == pytest.approx(back["p_value"])


# ---- Calibration ----


@given(PREDICTIONS, st.integers(1, 20))
def test_reliability_counts_every_review_in_the_bin_of_its_probability(rows, bins):
    labels, probabilities = rows
    curve = reliability_curve(labels, probabilities, bins)
    assert curve["n"].sum() == len(labels)
    assert np.average(curve["observed"], weights=curve["n"]) == pytest.approx(labels.mean())
    assert np.average(curve["predicted"], weights=curve["n"]) == pytest.approx(probabilities.mean())
    for span, mean in zip(curve["range"], curve["predicted"], strict=True):
        low, high = map(float, span.split("-"))
        assert low - 0.006 <= mean <= high + 0.006  # the ends are rounded to two digits
    for _, row in curve.iterrows():
        interval = wilson_interval(round(row["observed"] * row["n"]), row["n"])
        assert (row["low"], row["high"]) == interval


@pytest.mark.parametrize(
    ("labels", "probabilities", "bins", "error"),
    [
        ([1, 1, 0, 0], [1.0, 1.0, 0.0, 0.0], 10, 0.0),
        ([0, 0, 1, 1], [1.0, 1.0, 0.0, 0.0], 10, 1.0),
        ([1, 1, 1, 0], [0.75] * 4, 10, 0.0),  # three of four
        ([1, 0, 0, 0], [0.9, 0.9, 0.1, 0.3], 10, (2 * 0.4 + 0.1 + 0.3) / 4),
        ([1, 0, 0, 0], [0.9, 0.9, 0.1, 0.3], 2, (2 * 0.4 + 2 * 0.2) / 4),
    ],
)
def test_calibration_error_by_hand(labels, probabilities, bins, error):
    assert expected_calibration_error(labels, probabilities, bins) == pytest.approx(error)
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        expected_calibration_error(labels, probabilities, bins=0)


@pytest.fixture(scope="module")
def calibrated() -> tuple[np.ndarray, np.ndarray]:
    """Logits of 20,000 reviews and labels drawn with just the probabilities that they state."""
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, 20_000)
    return (rng.random(20_000) < expit(logits)).astype(int), logits


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_temperature_undoes_a_known_scale(calibrated, scale):
    labels, logits = calibrated
    temperature = fit_temperature(labels, scale * logits)
    assert temperature == pytest.approx(scale, rel=0.05)
    before, after = (
        expected_calibration_error(labels, expit(scale * logits / t)) for t in (1, temperature)
    )
    assert after < 0.01
    assert before > 0.08 or scale == 1


def test_temperature_equals_the_fit_of_logistic_regression(calibrated):
    labels, logits = calibrated
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    slope = model.fit(3 * logits[:500, None], labels[:500]).coef_.item()
    assert fit_temperature(labels[:500], 3 * logits[:500]) == pytest.approx(1 / slope, rel=1e-3)


@pytest.mark.parametrize(
    ("labels", "logits", "end"),
    [
        ([1, 1, 0], [1.0, 2.0, -1.0], 0.05),  # without an error
        ([0, 0, 1], [1.0, 2.0, -1.0], 20),  # without a clue
        ([1, 0, 1], [2000.0, -2000.0, -500.0], 20),
    ],
)
def test_temperature_has_ends_and_great_logits_do_not_overflow(labels, logits, end):
    with np.errstate(over="raise", invalid="raise"):
        assert fit_temperature(labels, logits) == pytest.approx(end, rel=0.01)


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([1, 0], [1.0, float("inf")], r"logits must be finite, got \[inf\]"),
        ([1, 2], [1.0, 2.0], r"labels must be 0 or 1, got \[2\]"),
        ([1, 0], [1.0], r"\(2,\) and \(1,\)"),
    ],
)
def test_a_temperature_needs_possible_logits(labels, logits, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(labels, logits)


# ---- metrics.json ----


def test_metrics_are_written_whole_or_not_at_all(tmp_path, sample):
    evaluation = evaluate(*sample)
    path = tmp_path / "artifacts" / "metrics.json"
    metrics = {"test": evaluation, "n": np.int64(3), "shares": np.float32([0.5, 0.25])}
    write_metrics(path, metrics)
    before = path.read_text(encoding="utf-8")
    assert json.loads(before) == {"test": evaluation, "n": 3, "shares": [0.5, 0.25]}
    for bad, error in ((float("nan"), ValueError), (object(), AttributeError)):
        with pytest.raises(error):
            write_metrics(path, metrics | {"seconds": bad})
    assert path.read_text(encoding="utf-8") == before
    assert list(path.parent.iterdir()) == [path]
