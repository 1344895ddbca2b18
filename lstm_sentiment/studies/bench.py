"""How fast the hand-written LSTM is, against what people use instead.

Reviews enter; tables leave, one row per thing measured. Whatever is compared takes turns in one
process, so that what else the machine does falls on all alike, and medians are taken.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from lstm_sentiment.data import Batch, ReviewDataset, load_reviews, make_loader
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.report.speed import (
    BATCH_SIZE,
    EMBEDDING_SIZE,
    TIMED,
    compare_speed,
    largest_disagreement,
    lstm_contenders,
    machine,
    training_step,
)
from lstm_sentiment.studies.bench_keras import bench_keras
from lstm_sentiment.studies.presets import BENCH_PARTS, REPORT
from lstm_sentiment.text import (
    DataError,
    Vocabulary,
    choose_max_length,
    encode_labels,
    encode_reviews,
    tokenize_all,
)
from lstm_sentiment.training import make_optimizer, pick_device

REVIEWS_OF_REPORT = 7_000  # to train on


def run(parts: Sequence[str] | None = None, data: str | Path | None = None) -> dict:
    """Measure; twenty minutes for all parts.

    Args:
        parts: some of `presets.BENCH_PARTS`; where None, all but the last, which needs Keras.
        data: labelled reviews, see `load_reviews`.

    Returns:
        `machine`, and a list of rows for each part.

    Raises:
        DataError: there are too few reviews for a batch, or they cannot be read.
    """
    reviews, _ = load_reviews(data)
    if len(reviews) < BATCH_SIZE:
        raise DataError(f"{len(reviews)} reviews; at least {BATCH_SIZE} are needed, a full batch")
    reviews = reviews.sample(frac=1, random_state=0)  # files are often sorted
    token_lists = tokenize_all(reviews["review"])
    vocabulary = Vocabulary.from_tokens(token_lists)
    max_length = choose_max_length([len(tokens) for tokens in token_lists]).max_length
    token_ids = encode_reviews(token_lists, vocabulary, max_length)
    labels = encode_labels(reviews["sentiment"])
    as_in_report = ReviewDataset(token_ids[:REVIEWS_OF_REPORT], labels[:REVIEWS_OF_REPORT])
    measure = {
        "steps": lambda: bench_steps(as_in_report, len(vocabulary)),
        "epoch": lambda: bench_epoch(as_in_report, len(vocabulary)),
        "keras": lambda: bench_keras(token_lists, labels),
    }
    return {"machine": machine()} | {
        part: list(measure[part]()) for part in parts or BENCH_PARTS[:-1]
    }


def bench_steps(
    dataset: ReviewDataset,
    vocabulary_size: int,
    hidden_sizes: Sequence[int] = (64, 128, 256),
    rounds: int = 3,
) -> Iterator[dict]:
    """The LSTM by hand and nn.LSTM, on four batches of the dataset's short to long reviews.

    Yields:
        Per frozen or fine-tuned vectors, one or two directions, hidden size and model: the figures
        of `compare_speed` against nn.LSTM in its best case (the only right one for two directions
        is packed), and `disagreement` in loss and gradients before.
    """
    batches = _typical_batches(dataset, 4)
    for bidirectional, frozen, hidden_size in itertools.product(
        (False, True), (True, False), hidden_sizes
    ):
        model = _make_model(
            vocabulary_size, hidden_size, bidirectional=bidirectional, freeze_embedding=frozen
        )
        contenders = lstm_contenders(model)
        disagreement = largest_disagreement(contenders, batches[0])
        configuration = {
            "vectors": "frozen" if frozen else "fine-tuned",
            "directions": 2 if bidirectional else 1,
            "hidden_size": hidden_size,
        }
        for row in compare_speed(contenders, batches, rounds).to_dict("records"):
            yield {**configuration, **row, "disagreement": disagreement}


def bench_epoch(
    dataset: ReviewDataset,
    vocabulary_size: int,
    embedding_size: int = REPORT["vector_size"],
    hidden_size: int = REPORT["hidden_size"],
) -> list[dict]:
    """One epoch of training as in the report: fine-tuned vectors, dropout, every review once.

    The models take turns of ten batches, each training on by itself.

    Returns:
        Per model: seconds, tokens_per_second, speedup over nn.LSTM in its best case, mean_loss of
        the epoch, and difference_in_ten_steps, the largest of the loss from the first model's in
        the first ten. That is rounding; training lets it grow, so that mean losses differ a little.
    """
    dropouts = {name: REPORT[name] for name in ("embedding_dropout", "dropout")}
    model = _make_model(vocabulary_size, hidden_size, embedding_size, **dropouts)
    contenders = lstm_contenders(model)
    optimizers = {name: make_optimizer(model, TIMED) for name, model in contenders.items()}
    batches = [*make_loader(dataset, BATCH_SIZE, shuffle=True)]
    for contender in contenders.values():
        training_step(contender, batches[0])  # whatever is prepared once
    seconds = {name: 0.0 for name in contenders}
    losses = {name: [] for name in contenders}  # one per batch
    for start in tqdm(range(0, len(batches), 10), desc="an epoch each", leave=False):
        for name, contender in contenders.items():
            torch.manual_seed(start)  # the same dropout for all
            begin = time.perf_counter()
            for batch in batches[start : start + 10]:
                losses[name].append(training_step(contender, batch, optimizers[name]))
            seconds[name] += time.perf_counter() - begin
    first = next(iter(contenders))
    return [
        {
            "model": name,
            "seconds": seconds[name],
            "tokens_per_second": int(dataset.lengths.sum()) / seconds[name],
            "speedup": seconds[first] / seconds[name],
            "mean_loss": statistics.mean(losses[name]),
            "difference_in_ten_steps": max(
                abs(loss - expected)
                for loss, expected in zip(losses[name][:10], losses[first], strict=False)
            ),
        }
        for name in contenders
    ]


def _make_model(
    vocabulary_size: int,
    hidden_size: int = 128,
    embedding_size: int = EMBEDDING_SIZE,
    **options: float,
) -> SentimentLSTM:
    """A model with made-up word vectors, about as long as real ones."""
    torch.manual_seed(0)
    vectors = torch.randn(vocabulary_size, embedding_size) / embedding_size**0.5
    vectors[0] = 0
    return SentimentLSTM(vectors, hidden_size, **options).to(pick_device())


def _typical_batches(dataset: ReviewDataset, count: int) -> list[Batch]:
    """`count` full batches, from those of short to those of long reviews."""
    full = [
        batch
        for batch in make_loader(dataset, BATCH_SIZE, shuffle=True)
        if len(batch.labels) == BATCH_SIZE
    ]
    full.sort(key=lambda batch: int(batch.lengths.sum()))
    return [full[(2 * i + 1) * len(full) // (2 * count)] for i in range(count)]
