"""Metrics equal scikit-learn's, intervals mean what they say, metrics.json is whole or absent."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom, chi2
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.evaluation import (
    compare,
    evaluate,
    evaluation_table,
    expected_calibration_error,
    fit_temperature,
    reliability_curve,
    wilson_interval,
    write_metrics,
)
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.report.probes import (
    accuracy_by_length,
    accuracy_by_negation,
    audit,
    influence_by_distance,
    kept_per_word,
    misclassified,
    same_accuracy_p_value,
)
from lstm_sentiment.text import normalised_text, tokenize

predictions = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=60).map(
    lambda rows: tuple(map(np.array, zip(*rows, strict=True)))
)


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray]:
    """300 reviews with predictions that are right in about four of five."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 300)
    return labels, 1 / (1 + np.exp(-(2 * labels - 1) - rng.normal(0, 1.2, 300)))


def drawn_rows(n: int) -> np.ndarray:
    """Row numbers of 5,000 bootstrap samples of n reviews."""
    return np.random.default_rng(9).integers(0, n, (5000, n))


# Metrics and their intervals


@given(predictions)
def test_metrics_equal_those_of_scikit_learn(rows):
    labels, probabilities = rows
    predicted = probabilities >= 0.5
    result = evaluate(labels, probabilities)
    assert result["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    for name in ("precision", "recall", "f1"):
        score = getattr(sk, f"{name}_score")
        assert result[name] == pytest.approx(score(labels, predicted, zero_division=0))
    confusion = sk.confusion_matrix(labels, predicted, labels=[0, 1]).ravel()
    assert list(result["confusion"].values()) == confusion.tolist()


@given(predictions)
def test_every_metric_lies_in_its_interval(rows):
    result = evaluate(*rows)
    for name in ("accuracy", "precision", "recall", "f1"):
        low, high = result[f"{name}_95"]
        assert 0 <= low <= result[name] + 1e-12
        assert result[name] - 1e-12 <= high <= 1


def test_the_threshold_decides_what_is_positive():
    result = evaluate([0, 1, 1], [0.6, 0.7, 0.9], threshold=0.7)
    assert result["confusion"] == {"tn": 1, "fp": 0, "fn": 0, "tp": 2}


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_equals_published_values(successes, n, low, high):
    """Table I, method 3 of Newcombe (1998), Two-sided confidence intervals for a proportion."""
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_holds_the_true_proportion_19_times_in_20():
    n, p = 200, 0.87
    intervals = [wilson_interval(k, n) for k in range(n + 1)]
    covered = sum(binom.pmf(k, n, p) for k, (low, high) in enumerate(intervals) if low <= p <= high)
    assert covered == pytest.approx(0.95, abs=0.015)


def test_no_trials_say_nothing_about_a_proportion():
    assert wilson_interval(0, 0) == (0, 1)


@pytest.mark.parametrize(("successes", "n"), [(-1, 10), (11, 10), (1, 0)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(ValueError, match="successes must be between 0 and n"):
        wilson_interval(successes, n)


def test_f1_interval_equals_a_bootstrap_of_single_reviews(sample):
    labels, probabilities = sample
    rows = drawn_rows(len(labels))
    label, predicted = labels[rows] == 1, probabilities[rows] >= 0.5
    f1 = 2 * (label & predicted).sum(axis=1) / (label.sum(axis=1) + predicted.sum(axis=1))
    interval = np.percentile(f1, [2.5, 97.5])
    assert evaluate(labels, probabilities)["f1_95"] == pytest.approx(interval, abs=0.005)


def test_a_seed_gives_one_interval_and_another_seed_almost_the_same(sample):
    first, again, other = (evaluate(*sample, seed=seed)["f1_95"] for seed in (0, 0, 1))
    assert first == again != other
    assert first == pytest.approx(other, abs=0.005)


def test_results_are_plain_numbers_that_json_can_hold(sample):
    result = evaluate(*sample)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], [], "n > 0"),
        ([1, 0], [0.5], r"\(2,\) and \(1,\)"),
        ([[1]], [[0.5]], r"shape \(n,\)"),
        ([1, 2], [0.5, 0.5], r"labels must be 0 or 1, got \[2\]"),
        ([1, 0], [0.5, 1.5], r"probabilities must be between 0 and 1, got \[1.5\]"),
        ([1, 0], [0.5, float("nan")], r"probabilities .* got \[nan\]"),
    ],
)
def test_impossible_predictions_are_refused_with_the_reason(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        evaluate(labels, probabilities)


@pytest.mark.parametrize("threshold", [float("nan"), -0.1, 1.1])
def test_an_impossible_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match=f"threshold must be between 0 and 1, got {threshold}"):
        evaluate([0, 1], [0.1, 0.9], threshold)


# Comparisons


def test_comparison_counts_the_reviews_only_one_model_gets_right():
    labels = np.ones(20)
    a = np.r_[np.full(15, 0.9), np.full(5, 0.1)]  # right on the first 15
    b = np.r_[np.full(3, 0.1), np.full(14, 0.9), np.full(3, 0.1)]  # right on rows 3 to 16
    result = compare(labels, a, b)
    assert (result["only_a_right"], result["only_b_right"]) == (3, 2)
    assert result["difference"] == pytest.approx(0.05)
    assert result["p_value"] == pytest.approx(1.0)  # 3 against 2 is as even as five can be


def test_exact_mcnemar_p_value_is_that_of_coin_tosses():
    labels = np.ones(30)
    a, b = np.full(30, 0.9), np.r_[np.full(9, 0.1), np.full(21, 0.9)]
    assert compare(labels, a, b)["p_value"] == pytest.approx(2 * 0.5**9)


def test_swapped_models_mirror_the_difference(sample):
    labels, a = sample
    b = np.clip(a + np.random.default_rng(2).normal(0, 0.3, len(a)), 0, 1)
    forth, back = compare(labels, a, b), compare(labels, b, a)
    assert forth["difference"] == -back["difference"]
    assert forth["difference_95"] == pytest.approx(
        [-end for end in back["difference_95"][::-1]], abs=0.01
    )
    assert forth["p_value"] == pytest.approx(back["p_value"])


def test_paired_interval_equals_a_bootstrap_of_single_reviews(sample):
    labels, a = sample
    b = np.clip(a + np.random.default_rng(2).normal(0, 0.3, len(a)), 0, 1)
    gains = ((a >= 0.5) == labels).astype(float) - ((b >= 0.5) == labels)
    interval = np.percentile(gains[drawn_rows(len(gains))].mean(axis=1), [2.5, 97.5])
    assert compare(labels, a, b)["difference_95"] == pytest.approx(interval, abs=0.005)


def test_a_model_does_not_differ_from_itself(sample):
    labels, a = sample
    result = compare(labels, a, a)
    assert (result["difference"], result["difference_95"], result["p_value"]) == (0, [0, 0], 1)


# Tables


def test_groups_of_length_hold_every_review_once_in_order(sample):
    labels, probabilities = sample
    lengths = np.random.default_rng(3).integers(5, 900, len(labels))
    table = accuracy_by_length(labels, probabilities, lengths)
    assert len(table) == 5
    assert table["n"].sum() == len(labels)
    assert table["n"].between(55, 65).all()
    overall = np.average(table["accuracy"], weights=table["n"])
    assert overall == pytest.approx(evaluate(labels, probabilities)["accuracy"])
    assert ((table["low"] < table["accuracy"]) & (table["accuracy"] < table["high"])).all()
    ends = [int(end) for span in table["range"] for end in span.split("-")]
    assert ends == sorted(ends)
    assert (ends[0], ends[-1]) == (lengths.min(), lengths.max())


def test_accuracy_of_a_group_is_that_of_its_reviews():
    table = accuracy_by_length([1, 1, 1, 1], [0.9, 0.1, 0.9, 0.9], [10, 20, 30, 40], groups=2)
    assert table["range"].tolist() == ["10-20", "30-40"]
    assert table["accuracy"].tolist() == [0.5, 1.0]


def test_reviews_of_equal_length_stay_in_one_group():
    table = accuracy_by_length([1, 0, 1], [0.9, 0.1, 0.1], [7, 7, 7])
    assert table[["range", "n"]].to_numpy().tolist() == [["7-7", 3]]


def test_lengths_must_belong_to_the_labels():
    with pytest.raises(ValueError, match=r"lengths must have shape \(2,\).*got \(3,\)"):
        accuracy_by_length([1, 0], [0.9, 0.1], [1, 2, 3])


@pytest.mark.parametrize(
    ("words", "group"),
    [
        ([], "none"),
        (["fine"] * 9, "none"),
        (["nothing", *["fine"] * 149], "under 1"),
        (["never", *["fine"] * 99], "1 to 2"),  # one in a hundred: the lower end belongs to it
        (["not", "no", "nor", *["fine"] * 103], "2 to 3"),
        (["not", "no", "nor", *["fine"] * 97], "3 and more"),
        (["without", "hope"], "3 and more"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_reviews_are_grouped_by_negations_per_hundred_words(words, group):
    table = accuracy_by_negation([1], [0.9], [words])
    assert table["range"].tolist() == [group]


def test_accuracy_by_negation_is_that_of_each_groups_reviews():
    reviews = [tokenize(text) for text in ("A fine film", "Fine!", "It didn't work", "Never again")]
    table = accuracy_by_negation([1, 0, 1, 0], [0.9, 0.9, 0.8, 0.2], reviews)
    assert table.columns.tolist() == ["range", "n", "accuracy", "low", "high", "positive"]
    assert table[["range", "n", "accuracy", "positive"]].to_numpy().tolist() == [
        ["none", 2, 0.5, 0.5],
        ["3 and more", 2, 1.0, 0.5],
    ]
    assert table[["low", "high"]].iloc[0].tolist() == list(wilson_interval(1, 2))


def test_there_must_be_tokens_for_each_label():
    with pytest.raises(ValueError, match="token_lists must hold 2 reviews as labels, got 1"):
        accuracy_by_negation([1, 0], [0.9, 0.1], [["fine"]])


# Calibration


def test_reliability_is_the_share_of_positive_reviews_among_similar_probabilities():
    curve = reliability_curve([0, 1, 1, 1, 0], [0.0, 0.21, 0.22, 0.23, 1.0], bins=5)
    assert curve.columns.tolist() == ["range", "n", "predicted", "observed", "low", "high"]
    assert curve["range"].tolist() == ["0.00-0.20", "0.20-0.40", "0.80-1.00"]
    assert curve["n"].tolist() == [1, 3, 1]
    assert curve["predicted"].tolist() == pytest.approx([0, 0.22, 1])
    assert curve["observed"].tolist() == [0, 1, 0]
    assert curve[["low", "high"]].iloc[1].tolist() == list(wilson_interval(3, 3))


@given(predictions, st.integers(1, 20))
def test_reliability_counts_every_review_in_the_bin_of_its_probability(rows, bins):
    labels, probabilities = rows
    curve = reliability_curve(labels, probabilities, bins)
    assert curve["n"].sum() == len(labels)
    assert np.average(curve["observed"], weights=curve["n"]) == pytest.approx(labels.mean())
    assert np.average(curve["predicted"], weights=curve["n"]) == pytest.approx(probabilities.mean())
    for span, mean in zip(curve["range"], curve["predicted"], strict=True):
        low, high = map(float, span.split("-"))
        assert low - 0.006 <= mean <= high + 0.006  # the ends are rounded to two digits


@pytest.mark.parametrize(
    ("labels", "probabilities", "bins", "error"),
    [
        ([1, 1, 0, 0], [1.0, 1.0, 0.0, 0.0], 10, 0.0),
        ([0, 0, 1, 1], [1.0, 1.0, 0.0, 0.0], 10, 1.0),
        ([1, 1, 1, 0], [0.75] * 4, 10, 0.0),  # three of four
        ([1, 0, 0, 0], [0.9, 0.9, 0.1, 0.3], 10, (2 * 0.4 + 0.1 + 0.3) / 4),
        ([1, 0, 0, 0], [0.9, 0.9, 0.1, 0.3], 2, (2 * 0.4 + 2 * 0.2) / 4),
    ],
)
def test_calibration_error_by_hand(labels, probabilities, bins, error):
    assert expected_calibration_error(labels, probabilities, bins) == pytest.approx(error)


def test_a_bin_is_the_least_there_can_be():
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        expected_calibration_error([1, 0], [0.5, 0.5], bins=0)


@pytest.fixture(scope="module")
def calibrated() -> tuple[np.ndarray, np.ndarray]:
    """Logits of 20,000 reviews and labels drawn with just the probabilities that they state."""
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, 20_000)
    return (rng.random(20_000) < expit(logits)).astype(int), logits


def test_calibration_error_is_small_where_probabilities_are_true_and_grows_with_overconfidence(
    calibrated,
):
    labels, logits = calibrated
    errors = [expected_calibration_error(labels, expit(scale * logits)) for scale in (1, 2, 4)]
    assert errors[0] < 0.01
    assert 0.08 < errors[1] < errors[2] - 0.05


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_temperature_undoes_a_known_scale(calibrated, scale):
    labels, logits = calibrated
    temperature = fit_temperature(labels, scale * logits)
    assert temperature == pytest.approx(scale, rel=0.05)
    assert expected_calibration_error(labels, expit(scale * logits / temperature)) < 0.01


def test_temperature_equals_the_fit_of_logistic_regression(calibrated):
    labels, logits = calibrated
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8)
    slope = model.fit(3 * logits[:500, None], labels[:500]).coef_.item()
    assert fit_temperature(labels[:500], 3 * logits[:500]) == pytest.approx(1 / slope, rel=1e-3)


@pytest.mark.parametrize(("labels", "end"), [([1, 1, 0], 0.05), ([0, 0, 1], 20)])
def test_temperature_has_ends_for_models_without_an_error_and_without_a_clue(labels, end):
    assert fit_temperature(labels, [1.0, 2.0, -1.0]) == pytest.approx(end, rel=0.01)


def test_great_logits_do_not_overflow():
    with np.errstate(over="raise", invalid="raise"):
        assert fit_temperature([1, 0, 1], [2000.0, -2000.0, -500.0]) == pytest.approx(20, rel=0.01)


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([1, 0], [1.0, float("inf")], r"logits must be finite, got \[inf\]"),
        ([1, 2], [1.0, 2.0], r"labels must be 0 or 1, got \[2\]"),
        ([1, 0], [1.0], r"\(2,\) and \(1,\)"),
        ([], [], "n > 0"),
    ],
)
def test_a_temperature_needs_possible_logits(labels, logits, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(labels, logits)


# Copies


PLOT = (
    "Two brothers inherit a lighthouse, quarrel about the lamp, sell the boat and discover that "
    "their father once kept a seal in the cellar; the ending is sad but the seal is wonderful."
)


def test_the_audit_counts_copies_and_near_duplicates_within_and_between_sets():
    sets = {
        "train": ["A <b>fine</b> film!", "a fine film", PLOT, "Dull."],
        "test": iter(["A fine film", f"{PLOT} 10/10", "Another one"]),
        "kaggle": [PLOT.upper(), f"My review: {PLOT}", f"{PLOT} 10/10", ""],
    }
    rows = [
        ("train", 4, "train", 2, 0),  # both copies; the plot is alone
        ("test", 3, "train", 1, 1),
        ("test", 3, "test", 0, 0),
        ("kaggle", 4, "train", 1, 2),
        ("kaggle", 4, "test", 1, 2),
        ("kaggle", 4, "kaggle", 0, 3),
    ]
    table = audit(sets)
    assert table.columns.tolist() == ["set", "n", "compared_with", "exact", "near"]
    assert list(table.itertuples(index=False, name=None)) == rows


short_texts = st.lists(st.text("ab <", max_size=3).map("a{}".format), max_size=8)


@given(short_texts, short_texts)
def test_exact_copies_are_those_of_comparing_each_text_with_each(train, test):
    table = audit({"train": train, "test": test}).set_index(["set", "compared_with"])["exact"]
    known = set(map(normalised_text, train))
    assert table["test", "train"] == sum(normalised_text(text) in known for text in test)
    for name, texts in (("train", train), ("test", test)):
        sizes = Counter(map(normalised_text, texts)).values()
        assert table[name, name] == sum(size for size in sizes if size > 1)


def test_sets_without_texts_have_no_copies():
    table = audit({"train": [], "test": ["Fine", "fine"]})
    assert table["exact"].tolist() == [0, 0, 2]
    assert audit({}).empty


def test_copies_are_found_under_other_markup_and_spelling():
    train = ["A <b>fine</b> film!", "Dull."]
    table = audit({"train": train, "test": ["a fine   FILM", "a finer film", "dull", "dull!"]})
    assert table.set_index(["set", "compared_with"])["exact"]["test", "train"] == 3


def test_misclassified_lists_the_surest_errors_first():
    reviews = pd.DataFrame(
        {"review": ["a", "b", "c", "d", "e"], "sentiment": ["positive"] * 3 + ["negative"] * 2},
        index=[10, 11, 12, 13, 14],
    )
    table = misclassified(reviews, [0.9, 0.4, 0.05, 0.8, 0.1], n=2)
    assert table.columns.tolist() == ["excerpt", "sentiment", "probability"]
    assert table.index.tolist() == [12, 13]
    assert table["probability"].tolist() == [0.05, 0.8]


def test_excerpts_are_short_and_free_of_markup():
    reviews = pd.DataFrame(
        {"review": ["Bad.<br /><br />" + "very " * 500], "sentiment": ["negative"]}
    )
    excerpt = misclassified(reviews, [0.99])["excerpt"].item()
    assert excerpt.startswith("Bad. very very")
    assert 100 < len(excerpt) <= 160


# metrics.json


@pytest.fixture
def results(sample) -> dict:
    evaluation = evaluate(*sample)
    return {
        "test": evaluation,
        "validation": evaluation,
        "train": evaluation,
        "baselines": {"tfidf": evaluation},
        "data": {"reviews": np.int64(300)},
        "seconds": {"training": np.float32(1.5)},
    }


def test_metrics_come_back_from_their_file(tmp_path, results):
    path = tmp_path / "artifacts" / "metrics.json"
    write_metrics(path, results)
    back = json.loads(path.read_text(encoding="utf-8"))
    assert back["baselines"]["tfidf"] == results["test"]
    assert (back["data"], back["seconds"]) == ({"reviews": 300}, {"training": 1.5})
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: m.pop("validation"), r"lack the keys \['validation'\]"),
        (lambda m: m["test"].pop("f1"), r"metrics.test lacks the keys \['f1'\]"),
        (lambda m: m["baselines"].update(rnn={"n": 3}), "metrics.baselines.rnn lacks"),
        (lambda m: m["test"].update(accuracy=87.0), "metrics.test.accuracy must be .* got 87.0"),
        (lambda m: m["seconds"].update(training=float("nan")), "JSON"),
        (lambda m: m["data"].update(frame=pd.DataFrame()), "DataFrame has no form in JSON"),
    ],
)
def test_bad_metrics_are_refused_and_the_old_file_stays(tmp_path, results, damage, message):
    path = tmp_path / "metrics.json"
    write_metrics(path, results)
    before = path.read_bytes()
    results = json.loads(before)
    damage(results)
    with pytest.raises(ValueError, match=message):
        write_metrics(path, results)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_evaluation_table_shows_each_metric_with_its_interval():
    result = evaluate([1, 1, 0, 0], [0.9, 0.8, 0.7, 0.1])
    table = evaluation_table({"model": result})
    low, high = result["precision_95"]
    assert table.loc["model", "n"] == "4"
    assert table.loc["model", "precision"] == f"66.7% [{low:.1%}, {high:.1%}]"
    assert table.loc["model", "recall"].startswith("100.0% [")


def test_influence_is_the_gradient_relative_to_the_last_word():
    torch.manual_seed(0)
    matrix = torch.randn(8, 4)
    matrix[0] = 0
    model = SentimentLSTM(matrix, 3, dropout=0.9)
    reviews = [[2, 3, 4, 5, 6], [7, 6, 5, 4], [2, 2]]  # the last is too short to tell
    table = influence_by_distance(model, ReviewDataset(reviews), max_distance=3)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert table["distance"].tolist() == [0, 1, 2, 3]
    expected = []
    model.eval()
    for review in reviews[:2]:
        vectors = matrix[review][None].requires_grad_()
        model.classify(vectors, torch.tensor([len(review)])).backward()
        norms = vectors.grad[0].norm(dim=1).flip(0)[:4]
        expected.append((norms / norms[0]).tolist())
    np.testing.assert_allclose(table["median"], np.mean(expected, axis=0), rtol=1e-4)
    assert (table["low"] <= table["high"]).all()
    with pytest.raises(ValueError, match="longest review has 5 words"):
        influence_by_distance(model, ReviewDataset(reviews), max_distance=5)


def test_a_forgetful_cell_has_no_influence_from_afar():
    matrix = torch.randn(8, 4)
    matrix[0] = 0
    model = SentimentLSTM(matrix, 3)
    cell = model.lstm.cells[0]
    with torch.no_grad():
        cell.forget_gate.bias.fill_(-20)
        for gate in (cell.input_gate, cell.candidate, cell.output_gate):
            gate.weight[:, :3] = 0  # nothing comes by way of h either
    table = influence_by_distance(model, ReviewDataset([[2, 3, 4, 5, 6]]), max_distance=3)
    assert table["median"].iloc[0] == 1
    assert (table["median"].iloc[1:] < 1e-6).all()


def test_the_way_back_along_the_cell_state_alone():
    torch.manual_seed(0)
    matrix = torch.randn(8, 4)
    matrix[0] = 0
    model, reviews = SentimentLSTM(matrix, 3), ReviewDataset([[2, 3, 4, 5, 6], [7, 6, 5, 4]])
    cell = model.lstm.cells[0]

    def both_ways():
        return (
            influence_by_distance(model, reviews, 3, through_hidden_state=through)["median"]
            for through in (True, False)
        )

    with torch.no_grad():
        cell.forget_gate.bias.fill_(-20)  # only the hidden state carries anything on
    everything, cell_state = both_ways()
    assert (everything.iloc[1:] > 1e-4).all()
    assert (cell_state.iloc[1:] < 1e-6).all()
    with torch.no_grad():
        cell.forget_gate.bias.fill_(1)
        for gate in (cell.forget_gate, cell.input_gate, cell.candidate, cell.output_gate):
            gate.weight[:, :3] = 0  # only the cell state does
    everything, cell_state = both_ways()
    np.testing.assert_allclose(everything, cell_state, rtol=1e-4)
    assert cell_state.iloc[3] > 1e-3
    with pytest.raises(ValueError, match="'gru' has no cell state"):
        influence_by_distance(SentimentLSTM(matrix, 3, cell="gru"), reviews, 3, False)


def test_a_gradient_that_keeps_nine_tenths_per_word_is_found_in_the_middle_of_its_curve():
    distance = np.arange(41)
    median = 0.9**distance
    median[:10] = 1  # beside the last word anything may be
    table = pd.DataFrame({"distance": distance, "median": median})
    assert kept_per_word(table) == pytest.approx(0.9)


def test_groups_of_one_accuracy_are_told_from_groups_of_two():
    same = pd.DataFrame({"n": [200, 200, 200], "accuracy": [0.85, 0.86, 0.85]})
    other = same.assign(accuracy=[0.85, 0.95, 0.85])
    assert same_accuracy_p_value(same) > 0.9
    assert same_accuracy_p_value(other) < 0.01
    # By hand, with the correction of Yates: 20 and 30 right, 25 expected of each.
    table = pd.DataFrame({"n": [40, 40], "accuracy": [0.5, 0.75]})
    corrected = 2 * (abs(20 - 25) - 0.5) ** 2 / 25 + 2 * (abs(20 - 15) - 0.5) ** 2 / 15
    assert same_accuracy_p_value(table) == pytest.approx(chi2.sf(corrected, 1))
    assert same_accuracy_p_value(same.assign(accuracy=1.0)) == 1
