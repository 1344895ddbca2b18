"""What recurrent networks cannot do well, made measurable.

A task whose answer is the first word, for networks that have to carry it to the end; and reviews
whose words come in random order, for a network that is said to read.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.training import TrainingConfig, run_trial, score

TASK_WORDS = 12  # 2 and 3 are the answers, the others mean nothing
TASK_TRAINING = TrainingConfig(
    epochs=12, batch_size=50, learning_rate=5e-3, embedding_rate_factor=1.0
)


def first_word_task(n: int, length: int, seed: int) -> ReviewDataset:
    """`n` sequences of `length` words, of which the first is the label and the others are noise."""
    if length < 1:
        raise ValueError(f"length is {length}; it must be at least 1")
    rng = np.random.default_rng(seed)
    words = rng.integers(4, TASK_WORDS, (n, length))
    labels = rng.integers(0, 2, n)
    words[:, 0] = 2 + labels
    return ReviewDataset(list(words), labels)


def remembered_first_word(cell: str, length: int, seed: int = 0) -> float:
    """Accuracy on 500 new sequences of a network trained on 1,000 of `first_word_task`.

    It has 32 units of `cell`, "lstm", "gru" or "rnn", reads forward and answers from its last
    state. Its best epoch is chosen on 500 others. Half of the answers are right by chance.
    """
    torch.manual_seed(seed)
    matrix = torch.randn(TASK_WORDS, 16)
    matrix[0] = 0
    model = SentimentLSTM(matrix, hidden_size=32, cell=cell)
    sets = [first_word_task(n, length, 3 * seed + k) for k, n in enumerate((1_000, 500, 500))]
    run_trial(model, *sets[:2], replace(TASK_TRAINING, seed=seed))
    return score(model, sets[2])["accuracy"]


def shuffled(dataset: ReviewDataset, seed: int) -> ReviewDataset:
    """The same reviews, the words of each in random order."""
    rng = np.random.default_rng(seed)
    token_ids = [rng.permutation(dataset[row][0].numpy()) for row in range(len(dataset))]
    return ReviewDataset(token_ids, dataset.labels)
