"""How good predictions are and how sure that is: intervals, comparisons, calibration, errors.

True labels (0 negative, 1 positive) and predicted probabilities of "positive" enter; plain
dictionaries that can be written as JSON and small tables leave.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import binomtest

from lstm_sentiment.files.keep import replacing

CONFUSION_CELLS = ("tn", "fp", "fn", "tp")  # the order of the number 2 * label + prediction
BOOTSTRAP_SAMPLES = 10_000  # another seed then moves an interval's ends by about 0.0005
# Where it ends, probabilities are all but 0 and 1, or all but 0.5.
TEMPERATURE_RANGE = (0.05, 20.0)


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95% interval for a proportion of `successes` among `n` trials (Wilson, 1927).

    Unlike the textbook p ± 1.96 s it stays within [0, 1] and keeps a width where p is 0 or 1.
    No trials say nothing: n = 0 gives (0, 1). ValueError unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n = {n}, got {successes}")
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(int(successes), int(n)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def evaluate(labels: ArrayLike, probabilities: ArrayLike) -> dict:
    """Accuracy, precision, recall and F1 of the class "positive", each with a 95% interval.

    labels, probabilities: (n,); a probability of at least 0.5 predicts "positive".
    Accuracy, precision and recall are proportions and get Wilson's interval: precision among the
    reviews predicted positive, recall among the positive ones. F1 is no proportion of anything and
    gets the percentile bootstrap (Efron, 1979) over reviews. A metric without a
    denominator (nothing predicted positive) is 0.

    Returns n, accuracy, precision, recall, f1, each metric's `<name>_95` as [low, high], and
    `confusion`, the counts tn, fp, fn, tp. ValueError for empty, unequal or impossible input.
    """
    labels, probabilities = _checked_predictions(labels, probabilities)
    n = len(labels)
    counts = np.bincount(2 * labels + (probabilities >= 0.5), minlength=4)
    tn, fp, fn, tp = counts.tolist()
    result: dict = {"n": n}
    proportions = {"accuracy": (tn + tp, n), "precision": (tp, tp + fp), "recall": (tp, tp + fn)}
    for name, (successes, trials) in proportions.items():
        result[name] = successes / trials if trials else 0.0
        result[f"{name}_95"] = list(wilson_interval(successes, trials))
    # To draw n reviews with replacement and count is to draw the four counts multinomially.
    resampled = np.random.default_rng(0).multinomial(n, counts / n, size=BOOTSTRAP_SAMPLES)
    result["f1"] = float(_f1(counts))
    result["f1_95"] = _middle_95(_f1(resampled))
    result["confusion"] = dict(zip(CONFUSION_CELLS, counts.tolist(), strict=True))
    return result


def evaluation_table(results: Mapping[str, Mapping]) -> pd.DataFrame:
    """Results of `evaluate` side by side, to read: n and each metric with its 95% interval."""
    rows = {}
    for name, result in results.items():
        rows[name] = {"n": f"{result['n']:,}"}
        for metric in ("accuracy", "precision", "recall", "f1"):
            low, high = result[f"{metric}_95"]
            rows[name][metric] = f"{result[metric]:.1%} [{low:.1%}, {high:.1%}]"
    return pd.DataFrame.from_dict(rows, orient="index")


def compare(labels: ArrayLike, probabilities_a: ArrayLike, probabilities_b: ArrayLike) -> dict:
    """Two models on the same reviews: is one more accurate, or is it chance?

    Arguments are (n,); both models decide at 0.5. Returns `difference`, the accuracy of a minus
    that of b, with `difference_95` from a bootstrap over reviews that keeps a review's two answers
    together; the reviews on which just one is right, `only_a_right` and `only_b_right`; and
    `p_value` of McNemar's test (1947) in its exact form: how probable a split of those reviews at
    least as uneven is if both models are equally accurate.
    """
    truth, a = _checked_predictions(labels, probabilities_a)
    _, b = _checked_predictions(labels, probabilities_b)
    a_right, b_right = ((p >= 0.5) == truth for p in (a, b))
    only_a, only_b, n = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum()), len(a)
    chances = np.array([only_a, only_b, n - only_a - only_b]) / n
    resampled = np.random.default_rng(0).multinomial(n, chances, size=BOOTSTRAP_SAMPLES)
    discordant = only_a + only_b
    return {
        "n": n,
        "difference": (only_a - only_b) / n,
        "difference_95": _middle_95((resampled[:, 0] - resampled[:, 1]) / n),
        "only_a_right": only_a,
        "only_b_right": only_b,
        "p_value": float(binomtest(only_a, discordant).pvalue) if discordant else 1.0,
    }


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean distance, over reviews, between predicted and observed in ten equally wide bins.

    ECE = Σ_bins n_bin / n · |observed - predicted| (Naeini et al., 2015; Guo et al., 2017, who take
    the probability of the predicted class where this takes that of "positive"). The bins of a
    calibrated model differ by chance too: 0.02 to 0.03 in all with 1,000 reviews.
    """
    labels, probabilities = _checked_predictions(labels, probabilities)
    bins = np.minimum((probabilities * 10).astype(int), 9)
    return float(abs(np.bincount(bins, labels - probabilities)).sum() / len(labels))


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """The temperature T at which sigmoid(logits / T) has the least cross-entropy with `labels`.

    labels, logits: (n,) of validation reviews, never of those on which calibration is measured.
    Temperature scaling (Guo et al., 2017): T above 1 says that the model is too sure. The verdicts
    do not change; the calibrated probabilities are `scipy.special.expit(logits / T)`.

    The labels 0 and 1 are drawn in a little, the more the fewer there are (Platt 1999), so that a
    few reviews without an error do not ask for certainty. T is sought between 0.05 and 20; a model
    no better than chance gets the upper end.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits).all():
        raise ValueError(f"logits must be finite, got {logits[~np.isfinite(logits)][:5].tolist()}")
    labels, _ = _checked_predictions(labels, expit(logits))
    positive, negative = labels.sum(), (1 - labels).sum()
    targets = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def cross_entropy(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return (np.logaddexp(0, scaled) - targets * scaled).mean()

    # It has one valley: convex in 1 / T, of which log T is a monotone function.
    found = minimize_scalar(cross_entropy, bounds=np.log(TEMPERATURE_RANGE), method="bounded")
    return float(np.exp(found.x))


def write_metrics(path: str | Path, metrics: Mapping) -> None:
    """Write `metrics`, such as results of `evaluate` by name, as JSON: whole or not at all.

    Numbers of NumPy are written as numbers. ValueError: a number is NaN or infinite.
    """
    text = json.dumps(metrics, indent=2, allow_nan=False, default=lambda value: value.tolist())
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def _checked_predictions(
    labels: ArrayLike, probabilities: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) as int64 and probabilities (n,) as float64, or a ValueError that says why not."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != probabilities.shape or len(labels) == 0:
        raise ValueError(
            "labels and probabilities must be of one shape (n,) with n > 0, "
            f"got {labels.shape} and {probabilities.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be 0 or 1, got {np.setdiff1d(labels, (0, 1))[:5].tolist()}")
    impossible = ~((probabilities >= 0) & (probabilities <= 1))  # NaN included
    if impossible.any():
        raise ValueError(
            f"probabilities must be between 0 and 1, got {probabilities[impossible][:5].tolist()}"
        )
    return labels.astype(np.int64), probabilities


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 = 2 tp / (2 tp + fp + fn) of counts (..., 4), ordered tn, fp, fn, tp; 0 where 0 / 0."""
    _, fp, fn, tp = np.moveaxis(counts, -1, 0)
    return 2 * tp / np.maximum(2 * tp + fp + fn, 1)


def _middle_95(samples: np.ndarray) -> list[float]:
    return np.quantile(samples, [0.025, 0.975]).tolist()
