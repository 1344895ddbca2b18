"""The benchmark measures what it says, and times nothing that computes something else."""

from __future__ import annotations

import io
import os

import numpy as np
import pandas as pd
import pytest
import torch

from lstm_sentiment.__main__ import main
from lstm_sentiment.data import ReviewDataset, make_loader
from lstm_sentiment.files.vectors import as_keyed_vectors
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.report.speed import (
    Rereader,
    RunningAverage,
    compare_speed,
    largest_disagreement,
    lstm_contenders,
    reading_time,
    time_by_operation,
    word_latency,
)
from lstm_sentiment.studies import bench
from lstm_sentiment.studies.baselines import averaged_word_vectors
from lstm_sentiment.studies.bench import (
    bench_compilation,
    bench_epoch,
    bench_growth,
    bench_memory_kept,
    bench_preparation,
    bench_steps,
    in_own_process,
)

CONTENDERS = ["nn.LSTM, padded", "by hand, fused", "by hand, cells step by step", "nn.LSTM, packed"]


def small_model(**options):
    torch.manual_seed(0)
    matrix = torch.randn(9, 4)
    matrix[0] = 0
    return SentimentLSTM(matrix, 3, **options)


def small_dataset(reviews):
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 12, reviews)
    return ReviewDataset(
        [generator.integers(2, 9, n).tolist() for n in lengths], [0, 1] * (reviews // 2)
    )


BATCH = next(
    iter(make_loader(ReviewDataset([[2, 3], [4, 5, 6, 7], [8]], [0, 1, 1]), 3, shuffle=False))
)


@pytest.fixture
def in_this_process(monkeypatch):
    """Calls instead of processes, which take seconds to start."""
    calls = []

    def call(function, *arguments):
        calls.append(function)
        return function(*arguments), 1.0 + len(calls), 10.0 * len(calls)

    monkeypatch.setattr(bench, "in_own_process", call)
    return calls


def test_speeds_are_compared_with_the_first_model(monkeypatch):
    clock = [0.0]  # seconds, which only the models' own work advances
    monkeypatch.setattr("lstm_sentiment.report.speed.time.perf_counter", lambda: clock[0])

    class Timed(SentimentLSTM):
        seconds = 1.0

        def forward(self, token_ids, lengths):
            clock[0] += self.seconds
            return super().forward(token_ids, lengths)

    matrix = small_model().embedding.weight.detach()
    first, second = Timed(matrix, 3), Timed(matrix, 3)
    second.seconds = 4.0
    table = compare_speed({"first": first, "second": second}, [BATCH, BATCH], rounds=3)
    assert table["model"].tolist() == ["first", "second"]
    for step in ("training", "inference"):
        assert table[f"{step}_ms"].tolist() == [1000, 4000]
        assert table[f"{step}_tokens_per_second"].tolist() == [7, 7 / 4]
        assert table[f"{step}_speedup"].tolist() == [1, 0.25]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("frozen", [False, True])
def test_models_that_compute_the_same_agree(bidirectional, frozen):
    model = small_model(bidirectional=bidirectional, freeze_embedding=frozen)
    assert 0 < largest_disagreement(lstm_contenders(model), BATCH) < 1e-5


@pytest.mark.parametrize("change", ["lstm.lstm.weight_hh_l0", "output.weight"])
def test_a_model_that_computes_something_else_is_found_out(change):
    contenders = lstm_contenders(small_model())
    with torch.no_grad():
        contenders["nn.LSTM, packed"].get_parameter(change)[0, 0] += 0.1
    with pytest.raises(ValueError, match=r"do not compute the same: .* of 'nn\.LSTM, packed' is"):
        largest_disagreement(contenders, BATCH)


def test_a_model_that_is_not_a_number_is_found_out():
    contenders = lstm_contenders(small_model())
    with torch.no_grad():
        contenders["by hand, fused"].output.bias[0] = torch.nan
    with pytest.raises(ValueError, match="do not compute the same"):
        largest_disagreement(contenders, BATCH)


def test_a_gradient_that_is_zero_is_no_difference():
    words = ReviewDataset([[2], [3], [4]], [0, 1, 1])  # their weights of earlier states have none
    (batch,) = make_loader(words, 3, shuffle=False)
    assert largest_disagreement(lstm_contenders(small_model()), batch) < 1e-5


def test_too_few_reviews_for_a_batch_are_refused_in_one_line(data_home, capsys):
    reviews = pd.DataFrame({"review": ["good", "bad"], "sentiment": ["positive", "negative"]})
    reviews.to_csv(data_home / "few.csv", index=False)
    assert main(["bench", "--data", str(data_home / "few.csv"), "--part", "steps"]) == 1
    assert capsys.readouterr().err.endswith("2 reviews; at least 64 are needed, a full batch\n")


def test_measuring_leaves_a_model_in_the_mode_it_was_in():
    model = small_model().eval()
    largest_disagreement(lstm_contenders(model), BATCH)
    time_by_operation(model, [BATCH])
    assert not any(module.training for module in model.modules())


def test_where_the_time_goes_adds_up():
    table = time_by_operation(small_model(), [BATCH])
    assert table["share"].sum() == pytest.approx(1)
    assert table["milliseconds"].is_monotonic_decreasing
    assert "_FusedLSTM" in set(table["operation"])


def test_steps_are_timed_for_every_combination(in_this_process):
    rows = pd.DataFrame(bench_steps(small_dataset(512), 9, hidden_sizes=[4], rounds=1))
    one_way = rows[rows["directions"] == 1]
    assert one_way["model"].tolist() == CONTENDERS * 2
    both_ways = rows[rows["directions"] == 2]
    assert both_ways["model"].tolist() == [CONTENDERS[-1], *CONTENDERS[1:-1]] * 2
    assert one_way["vectors"].tolist() == ["frozen"] * 4 + ["fine-tuned"] * 4
    first = rows[rows["training_speedup"] == 1]
    assert first["model"].str.startswith("nn.LSTM").all()
    assert (rows["disagreement"] < 1e-4).all()
    assert rows["peak_mb"].tolist() == [10.0 * (i + 1) for i in range(14)]


def test_an_epoch_is_the_same_for_every_model():
    rows = pd.DataFrame(bench_epoch(small_dataset(130), 9, embedding_size=4, hidden_size=3))
    assert rows["model"].tolist() == CONTENDERS
    np.testing.assert_allclose(rows["mean_loss"], rows["mean_loss"][0], atol=1e-4)
    assert (rows["difference_in_ten_steps"] < 1e-5).all()
    assert (rows["seconds"] > 0).all()
    assert rows["speedup"][0] == 1


def test_growth_has_a_row_per_size(in_this_process):
    sizes = {"review_counts": [64, 128, 1_000, 2_000], "lengths": [3, 6]}
    rows = bench_growth(small_dataset(130), 9, **sizes, rounds=1)
    cases = ["64 reviews", "128 reviews", "130 reviews", "3 tokens each", "6 tokens each"]
    assert [row["case"] for row in rows] == cases
    assert all(row["nanoseconds_per_token"] > 0 for row in rows)


def test_compilation_is_timed_with_an_empty_folder_and_leaves_nothing(monkeypatch):
    folders = []

    def call(function):
        folders.append(os.environ["NUMBA_CACHE_DIR"])
        return 3.5, 4.0, 0.0

    monkeypatch.setattr(bench, "in_own_process", call)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    rows = list(bench_compilation())
    assert [row["seconds"] for row in rows] == [3.5, 3.5]
    assert len(set(folders)) == 1
    assert not os.path.exists(folders[0])
    assert os.environ["NUMBA_CACHE_DIR"] == "mine"


def test_time_is_compared_with_and_without_the_systems_part(monkeypatch):
    seen = []

    def call(function, *arguments):
        seen.append(os.environ.get("MALLOC_TRIM_THRESHOLD_"))
        return function(*arguments), 1.0, 0.0

    monkeypatch.setattr(bench, "in_own_process", call)
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    rows = pd.DataFrame(bench_memory_kept(small_dataset(512), 9, rounds=1))
    assert rows["case"].tolist() == ["as usual"] * 2 + ["freed memory kept"] * 2
    assert rows["model"].tolist() == ["nn.LSTM, padded", "by hand, fused"] * 2
    assert seen == [None, "17179869184"]
    assert "MALLOC_TRIM_THRESHOLD_" not in os.environ


def test_preparation_is_compared_task_by_task(in_this_process):
    texts = [f"Review {i} is <br />not so bad." for i in range(60)]
    reviews = pd.DataFrame({"review": texts, "sentiment": ["positive", "negative"] * 30})
    rows = pd.DataFrame(bench_preparation(reviews, vector_count=100, rounds=1))
    assert rows["task"].tolist() == [
        *["tokenizing 60 reviews"] * 2,
        *["embedding matrix out of a text file, 100 x 300"] * 2,
        *["loading 120 reviews from CSV"] * 2,
    ]
    assert rows["speedup"].tolist() == [1, 2 / 3, 1, 4 / 5, 1, 6 / 7]
    assert rows["peak_mb"].tolist() == [10, 20, 30, 40, 50, 60]


def test_another_process_measures_time_and_memory():
    result, seconds, peak = in_own_process(np.ones, 20_000_000)  # 160 MB
    assert result.sum() == 20_000_000
    assert 0 < seconds < 30
    assert 150 < peak < 400 or np.isnan(peak)


def test_the_command_prints_tables_or_json(data_home, monkeypatch, capsys):
    texts = [f"Good film number {i % 7}, seen {i} times." for i in range(64)]
    reviews = pd.DataFrame({"review": texts, "sentiment": ["positive", "negative"] * 32})
    reviews.to_csv(data_home / "some.csv", index=False)
    command = ["bench", "--data", str(data_home / "some.csv"), "--part", "compilation"]
    monkeypatch.setattr(bench, "in_own_process", lambda function: (2.5, 3.0, 0.0))
    assert main(command) == 0
    assert "kept on disk" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    results = pd.read_json(io.StringIO(capsys.readouterr().out), typ="series")
    assert results["machine"]["torch"] == torch.__version__
    assert [row["seconds"] for row in results["compilation"]] == [2.5, 2.5]


def test_reading_time_has_a_row_per_length_and_reads_that_many_words(monkeypatch):
    model, read, forward = small_model(), [], SentimentLSTM.forward

    def noted(self, ids, lengths):
        assert not torch.is_grad_enabled(), "what training would keep is not timed"
        read.append(ids.shape[1])
        return forward(self, ids, lengths)

    monkeypatch.setattr(SentimentLSTM, "forward", noted)
    table = reading_time(model, [2, 3, 4, 5, 6, 7], [2, 5], rounds=3)
    assert table["words"].tolist() == [2, 5]
    assert (table["milliseconds"] > 0).all()
    assert read == [2, 5] * 3, "lengths take turns"


def test_each_reader_is_given_what_came_before_and_then_word_after_word():
    heard = {"stream": [], "again": []}

    class Stream:
        read = heard["stream"].append

    readers = {"stream": Stream, "again": lambda: Rereader(heard["again"].append)}
    table = word_latency(readers, ["a", "b", "c", "d"], [1, 2], turns=2)
    assert heard["stream"] == ["a", "a b", "b", "c", "c", "d"]
    assert [text.split() for text in heard["again"]] == [
        text.split() for text in ("a", "a b", "a b", "a b c", "a b c", "a b c d")
    ]
    assert table.index.tolist() == ["stream", "again"]
    assert table.columns.tolist() == [1, 2]
    assert (table > 0).all(axis=None)


def test_a_running_average_gives_the_verdict_on_the_whole_text():
    words = ["good", "bad", "film", "plot", "long", "short", "dull"]
    vectors = as_keyed_vectors(words, np.random.default_rng(0).normal(size=(7, 5)))
    token_lists = [["good", "film"], ["bad", "film"], ["good", "plot"], ["dull", "plot"]]
    averaged = averaged_word_vectors(token_lists, [1, 0, 1, 0], vectors)
    average = RunningAverage(averaged, vectors)
    expected = averaged.predict_proba([["good", "film"], ["good", "film", "dull"]])[:, 1]
    assert average.read("Good, unheard-of film") == pytest.approx(expected[0])
    assert average.read("dull") == pytest.approx(expected[1])
