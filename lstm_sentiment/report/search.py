"""Learning rate and batch size, every pair of them tried in a short training."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace

import pandas as pd
from torch import nn

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.training import TrainingConfig, best_epoch, train


def search(
    make_model: Callable[[], nn.Module],
    training_set: ReviewDataset,
    validation_set: ReviewDataset,
    config: TrainingConfig,
    learning_rates: Iterable[float],
    batch_sizes: Iterable[int],
) -> pd.DataFrame:
    """Train a new model from `make_model` with each learning rate and batch size.

    Returns:
        One row per pair, best first: learning_rate, batch_size, best_epoch, its
        validation_accuracy and validation_loss, and the seconds of the whole training.
    """
    rows = []
    for learning_rate, batch_size in itertools.product(learning_rates, batch_sizes):
        trial = replace(config, learning_rate=learning_rate, batch_size=batch_size)
        history = train(make_model(), training_set, validation_set, trial)
        if len(history) < trial.epochs:
            raise KeyboardInterrupt  # half a trial is none
        best = best_epoch(history)
        rows.append(
            {
                "learning_rate": learning_rate,
                "batch_size": batch_size,
                "best_epoch": int(best["epoch"]),
                "validation_accuracy": best["validation_accuracy"],
                "validation_loss": best["validation_loss"],
                "seconds": history["seconds"].sum(),
            }
        )
    return pd.DataFrame(rows).sort_values(
        ["validation_accuracy", "validation_loss"], ascending=[False, True], ignore_index=True
    )
