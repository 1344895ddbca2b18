"""How long four published configurations take in Keras, in which they were written, and here.

Keras and TensorFlow are no dependencies of this package: `pip install keras tensorflow`.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from lstm_sentiment.data import ReviewDataset, make_loader
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.report.speed import training_step
from lstm_sentiment.studies.presets import PRESETS
from lstm_sentiment.text import DataError, Vocabulary, encode_reviews
from lstm_sentiment.training import TrainingConfig, make_optimizer, predict_logits

SYSTEMS = ("practical11", "experiment9-baseline", "experiment9-tuned", "day17")
REVIEWS = 2_560  # to train on and to predict, in each round
# Of experiment9-tuned's 0.44; the rest is the LSTM's own dropout of its input.
SPATIAL_DROPOUT = {"experiment9-tuned": 0.3}


def bench_keras(
    token_lists: Sequence[Sequence[str]], labels: np.ndarray, rounds: int = 3
) -> Iterator[dict]:
    """An epoch of training, and a prediction, of the same reviews by Keras and here in turn.

    Yields:
        Per system: medians over the rounds of keras_seconds and seconds of training, and of how
        many times as fast training and prediction are here.

    Raises:
        DataError: Keras is not installed.
    """
    try:
        import keras
    except ImportError as error:
        raise DataError(f"this needs Keras ({error}); pip install keras tensorflow") from error
    for name in SYSTEMS:
        tasks = _tasks(keras, name, token_lists[:REVIEWS], labels[:REVIEWS])
        for task in tasks:
            task()  # whatever is compiled or prepared once
        times = np.array([[timeit.timeit(task, number=1) for task in tasks] for _ in range(rounds)])
        keras_seconds, seconds, keras_inference, inference = times.T
        yield {
            "system": name,
            "keras_seconds": float(np.median(keras_seconds)),
            "seconds": float(np.median(seconds)),
            "training_speedup": float(np.median(keras_seconds / seconds)),
            "inference_speedup": float(np.median(keras_inference / inference)),
        }


def _tasks(keras: Any, name: str, token_lists: Sequence, labels: np.ndarray) -> list[Callable]:
    """To train an epoch and to predict, by Keras and by the package."""
    preset: dict[str, Any] = {"spatial_dropout": 0.0, "recurrent_dropout": 0.0, **PRESETS[name]}
    vocabulary = Vocabulary.from_tokens(token_lists, preset["min_count"], preset["max_words"])
    ids = encode_reviews(token_lists, vocabulary, preset["max_length"], preset["keep"])
    shape = len(vocabulary), preset["vector_size"]
    size = preset["batch_size"]

    layers, spatial = keras.layers, SPATIAL_DROPOUT.get(name, 0.0)
    lstm = layers.LSTM(
        preset["hidden_size"],
        dropout=1 - (1 - preset["spatial_dropout"]) / (1 - spatial),
        recurrent_dropout=preset["recurrent_dropout"],
    )
    output = layers.Dense(1, activation="sigmoid")
    theirs = keras.Sequential(
        [layers.Embedding(*shape), layers.SpatialDropout1D(spatial), lstm, output]
    )
    theirs.compile(keras.optimizers.Adam(preset["learning_rate"]), "binary_crossentropy")
    padded = keras.utils.pad_sequences(ids, preset["max_length"])

    dropouts = {key: preset[key] for key in ("spatial_dropout", "recurrent_dropout")}
    ours = SentimentLSTM(torch.zeros(shape), preset["hidden_size"], **dropouts)
    torch.nn.init.uniform_(ours.embedding.weight.data[1:], -0.05, 0.05)
    config = TrainingConfig(1, size, preset["learning_rate"], "constant", embedding_rate_factor=1.0)
    optimizer, dataset = make_optimizer(ours, config), ReviewDataset(ids, labels)

    def train_here() -> None:
        for batch in make_loader(dataset, size, shuffle=True):
            training_step(ours, batch, optimizer)

    return [
        lambda: theirs.fit(padded, labels, size, verbose=0),
        train_here,
        lambda: theirs.predict(padded, 256, verbose=0),
        lambda: predict_logits(ours, dataset),
    ]
