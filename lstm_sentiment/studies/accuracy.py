"""Accuracies that can be subtracted, with what chance makes of their difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def points(difference: float) -> str:
    """A difference of two shares, in percentage points: 0.012 is "+1.2 points"."""
    return f"{_signed(difference)} points"


def _signed(difference: float) -> str:
    return f"{round(100 * difference, 1) + 0:+.1f}"  # + 0: no -0.0


@dataclass(frozen=True)
class Difference:
    """How far one accuracy lies above another, and two standard errors of that, as shares."""

    value: float
    error: float

    @property
    def is_significant(self) -> bool:
        """Whether it exceeds its error, as chance alone would make it in one case of 20."""
        return abs(self.value) > self.error

    def __sub__(self, other: Difference) -> Difference:
        return Difference(self.value - other.value, float(np.hypot(self.error, other.error)))

    def __str__(self) -> str:
        doubt = "" if self.is_significant else " (not significant)"
        return f"{_signed(self.value)} ± {100 * self.error:.1f} points{doubt}"


@dataclass(frozen=True)
class Accuracy:
    """The share of `n` reviews that are judged right, in the mean of trainings with other seeds.

    Args:
        value: the share.
        n: number of reviews, the same for all seeds.
        seeds: number of trainings.
        between_seeds: standard deviation between trainings that differ in the seed alone.
    """

    value: float
    n: int
    seeds: int = 1
    between_seeds: float = 0.0

    @property
    def variance(self) -> float:
        """Of the binomial distribution, and of the mean over seeds."""
        return self.value * (1 - self.value) / self.n + self.between_seeds**2 / self.seeds

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95%, by the normal distribution."""
        margin = 1.96 * float(np.sqrt(self.variance))
        return self.value - margin, self.value + margin

    def __sub__(self, other: Accuracy) -> Difference:
        """As if tested on different reviews; where they share them, the true error is smaller."""
        error = 2 * np.sqrt(self.variance + other.variance)
        return Difference(self.value - other.value, float(error))

    def __str__(self) -> str:
        low, high = self.interval
        seeds = f"mean of {self.seeds} seeds" if self.seeds > 1 else "one seed"
        return f"{self.value:.1%} ({low:.1%} to {high:.1%}; n = {self.n:,}, {seeds})"
