"""An accuracy with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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

    def __str__(self) -> str:
        low, high = self.interval
        seeds = f"mean of {self.seeds} seeds" if self.seeds > 1 else "one seed"
        return f"{self.value:.1%} ({low:.1%} to {high:.1%}; n = {self.n:,}, {seeds})"
