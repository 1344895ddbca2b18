"""The same seed gives the same digits, with PyTorch's deterministic algorithms as well.

There is no GPU here. Models in float64 go through the operations that CUDA would go through, and
none of those may be one that PyTorch documents as not deterministic there.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.studies.language_model import NEXT_WORD, LanguageModel
from lstm_sentiment.training import SENTIMENT, TrainingConfig, train

# By the documentation of `torch.use_deterministic_algorithms`, of what could be used here: those
# that raise, and those that add up in any order unless it is on.
RAISE = {"put_", "histc", "bincount", "median", "kthvalue", "cumsum", "nll_loss2d_forward"}
IN_ANY_ORDER = {"index_add", "index_add_", "index_select_backward", "gather_backward"}
CONFIG = TrainingConfig(
    epochs=2, batch_size=8, learning_rate=0.02, averaging_decay=0.9, adversarial_norm=0.5
)
DROPOUT = {"embedding_dropout": 0.2, "spatial_dropout": 0.2, "dropout": 0.2}
RECURRENT = {"recurrent_dropout": 0.2, "num_layers": 2, "bidirectional": True}


def reviews() -> ReviewDataset:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(1, 30, rng.integers(2, 20)).tolist() for _ in range(40)]
    return ReviewDataset(sequences, rng.integers(0, 2, 40))


def make_model(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    matrix = torch.randn(30, 6)
    matrix[0] = 0
    if name == "language model":
        return LanguageModel(matrix, np.arange(30), 8, dropout=0.2)
    options = {"fused": RECURRENT | DROPOUT, "a table": DROPOUT | {"spatial_dropout": 0.0}}
    model = SentimentLSTM(matrix, 8, pooling="mean_max", **options.get(name, DROPOUT))
    model.lstm.backend = "builtin" if name == "builtin" else "fused"
    return model


def how(name: str) -> tuple:
    if name == "language model":
        return dataclasses.replace(CONFIG, adversarial_norm=0), NEXT_WORD
    return CONFIG, SENTIMENT


class Names(TorchDispatchMode):
    """Collects which operations are called; sums of whole numbers are the same in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation.overloadpacket.__name__ != "cumsum" or args[0].is_floating_point():
            self.found.add(operation.overloadpacket.__name__)
        return operation(*args, **(kwargs or {}))


NAMES = ["fused", "a table", "builtin", "language model"]


@pytest.mark.parametrize("name", NAMES)
def test_training_calls_nothing_that_is_not_deterministic_on_cuda(name):
    model, dataset = make_model(name).double(), reviews()
    with Names() as names:
        train(model, dataset, dataset, *how(name))
    assert "mm" in names.found
    assert not names.found & (RAISE | IN_ANY_ORDER)


@pytest.fixture
def deterministic():
    """Deterministic algorithms only, on two threads."""
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", NAMES)
def test_two_trainings_have_the_same_digits(name, deterministic):
    models, dataset = [make_model(name) for _ in range(2)], reviews()
    one, other = (train(model, dataset, dataset, *how(name)) for model in models)
    columns = {"seconds": 0}
    pd.testing.assert_frame_equal(one.assign(**columns), other.assign(**columns), check_exact=True)
    weights, others = (dict(model.state_dict()) for model in models)
    torch.testing.assert_close(weights, others, rtol=0, atol=0)
