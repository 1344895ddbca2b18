"""Speeds are compared only of what computes the same, and are of what they say."""

from __future__ import annotations

import pytest
import torch

from lstm_sentiment.data import ReviewDataset, make_loader
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.report import speed

REVIEWS = ReviewDataset([[2, 3], [4, 5, 6, 7], [8]], [0, 1, 1])
(BATCH,) = make_loader(REVIEWS, 3, shuffle=False)


def small_model(**options) -> SentimentLSTM:
    torch.manual_seed(0)
    matrix = torch.randn(9, 4)
    matrix[0] = 0
    return SentimentLSTM(matrix, 3, **options)


@pytest.fixture
def clock(monkeypatch):
    """Seconds in a list, which only the models' own work advances."""
    seconds = [0.0]
    monkeypatch.setattr("lstm_sentiment.report.speed.time.perf_counter", lambda: seconds[0])
    return seconds


def test_speeds_are_compared_with_the_first_model(clock):
    class Timed(SentimentLSTM):
        seconds = 1.0

        def forward(self, *inputs):
            clock[0] += self.seconds
            return super().forward(*inputs)

    matrix = small_model().embedding.weight.detach()
    first, second = Timed(matrix, 3), Timed(matrix, 3)
    second.seconds = 4.0
    before = second.output.weight.clone()
    table = speed.compare_speed({"first": first, "second": second}, [BATCH, BATCH], rounds=3)
    assert table["model"].tolist() == ["first", "second"]
    for step in ("training", "inference"):
        assert table[f"{step}_ms"].tolist() == [1000, 4000]
        assert table[f"{step}_tokens_per_second"].tolist() == [7, 7 / 4]
        assert table[f"{step}_speedup"].tolist() == [1, 0.25]
    assert torch.equal(second.output.weight, before), "copies learn"


@pytest.mark.parametrize(
    "options",
    [
        {"bidirectional": True},
        {"num_layers": 2, "freeze_embedding": True},
        {"pooling": "mean_max", "embedding_dropout": 0.5, "dropout": 0.5},
        {"bidirectional": True, "pooling": "mean_max", "spatial_dropout": 0.3},
    ],
)
def test_models_that_compute_the_same_agree(options):
    model = small_model(**options).eval()
    assert 0 < speed.largest_disagreement(speed.lstm_contenders(model), BATCH) < 1e-5
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("change", ["lstm.lstm.weight_hh_l0", "output.weight"])
@pytest.mark.parametrize("value", [0.1, torch.nan])
def test_a_model_that_computes_something_else_is_found_out(change, value):
    contenders = speed.lstm_contenders(small_model())
    with torch.no_grad():
        contenders["nn.LSTM, packed"].get_parameter(change)[0, 0] += value
    with pytest.raises(ValueError, match=r"do not compute the same: .* of 'nn\.LSTM, packed' is"):
        speed.largest_disagreement(contenders, BATCH)


def test_a_gradient_that_is_zero_is_no_difference():
    words = ReviewDataset([[2], [3], [4]], [0, 1, 1])  # their weights of earlier states have none
    (batch,) = make_loader(words, 3, shuffle=False)
    assert speed.largest_disagreement(speed.lstm_contenders(small_model()), batch) < 1e-5


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_the_difference_from_torch_is_rounding_and_tells_a_wrong_layer(backend, monkeypatch):
    found = speed.differences_from_torch(1, True, torch.float64, backend)
    assert set(found) == {"outputs", "final_states", "gradients"}
    assert all(0 < difference < 1e-11 for difference in found.values())
    right = torch.sigmoid
    monkeypatch.setattr(torch, "sigmoid", lambda x: right(1.001 * x))
    wrong = speed.differences_from_torch(1, True, torch.float64, "reference")
    assert all(difference > 1e-5 for difference in wrong.values())


def test_the_machine_is_named():
    assert speed.machine()["processor"]
    assert speed.machine()["torch"] == torch.__version__
