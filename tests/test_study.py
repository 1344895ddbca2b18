"""Studies: rows are true of the runs, nothing is computed twice, choices see nothing held out."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.studies import distillation, presets, results, reviews, study
from lstm_sentiment.studies.distillation import Teacher, log_odds, run_distillation
from lstm_sentiment.studies.results import read_study, summarise_study
from lstm_sentiment.studies.reviews import (
    StudyData,
    all_data,
    drawn_data,
    final_data,
    leak_data,
    shuffled_data,
)
from lstm_sentiment.studies.study import missing, run, run_study
from lstm_sentiment.text import DataError, normalised_text, truncate

SMALL = {
    **{"vectors": None, "vector_size": 8, "max_length": 20, "hidden_size": 8, "epochs": 1},
    **{"batch_size": 16, "learning_rate": 0.02, "embedding_rate_factor": 1.0},
}
ADJECTIVES = {"negative": ["bad", "awful"], "positive": ["good", "great"]}


def made_up(n: int, seed: int) -> pd.DataFrame:
    """n reviews whose adjectives tell the sentiment."""
    rng = np.random.default_rng(seed)
    rows = []
    for sentiment in islice(cycle(ADJECTIVES), n):
        filler = [f"word{index}" for index in rng.integers(0, 300, 12)]
        words = [*filler, *rng.choice(ADJECTIVES[sentiment], 3)]
        rows.append((" ".join(rng.permutation(words)), sentiment))
    return pd.DataFrame(rows, columns=["review", "sentiment"])


LABELLED = made_up(240, seed=1)
CACHED = (reviews._parts, reviews.unlabelled_tokens, reviews.drawn_data)


@pytest.fixture(autouse=True)
def small_world(tmp_path, data_home, monkeypatch):
    """240 labelled reviews, 100 of them drawn, 30 texts without labels, tables in a new folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(reviews, "DRAWN", 100)
    monkeypatch.setattr(reviews, "load_reviews", lambda source: (LABELLED, None))
    unlabelled = made_up(30, seed=2)["review"].tolist()
    monkeypatch.setattr(reviews, "load_unlabelled", lambda exclude: unlabelled)
    forget()
    yield
    forget()


def forget():
    for function in CACHED:
        function.cache_clear()


@pytest.fixture
def full_length(monkeypatch):
    """Sets the experiments of the study "full-length": names, and what differs from `SMALL`."""

    def be(**changes):
        settings = {name: {**SMALL, **changed} for name, changed in changes.items()}
        monkeypatch.setattr(presets, "FULL_LENGTH", settings)

    be(small={}, other={"dropout": 0.25})
    return be


def test_a_row_says_what_was_run_on_what_and_how_it_went(full_length):
    full_length(small={}, longer={"epochs": 4, "dropout": 0.25})
    table = run_study("full-length", seeds=[0, 1])
    assert table["name"].tolist() == ["small", "small", "longer", "longer"]
    assert table["seed"].tolist() == [0, 1, 0, 1]
    row = table.iloc[3]
    assert [row[f"{part}_n"] for part in ("train", "validation", "held_out")] == [70, 20, 140]
    assert row["unlabelled_n"] == 30
    assert row["held_out_low"] < row["held_out_accuracy"] < row["held_out_high"]
    assert row["held_out_accuracy"] > 0.8
    assert row["seconds"] > 0
    assert 1 <= row["best_epoch"] <= 4
    assert {"torch", "numpy", "python", "processor", "threads"} <= set(table.columns)
    parameters = json.loads(row["configuration"])
    assert (parameters["dropout"], parameters["random_state"]) == (0.25, 1)
    data = drawn_data()
    again = study.fitted(parameters, data)
    for part in ("validation", "held_out"):
        right = again.predict(data.token_lists[part]) == data.labels[part]
        assert row[f"{part}_accuracy"] == pytest.approx(right.mean())


def test_words_and_vectors_come_from_the_texts_that_the_study_has_for_them():
    data = drawn_data()
    texts = [["seen", "often", *tokens] for tokens in data.token_lists["train"]]
    data = StudyData(data.token_lists, data.labels, texts, texts)
    classifier = study.fitted({**SMALL, "vectors": "own"}, data)
    assert "often" in classifier.vocabulary_
    assert classifier.vectors["often"].shape == (8,)
    assert study.fitted(SMALL, data).model_.embedding.weight.abs().max() < 0.2


def test_only_what_is_missing_or_changed_is_run_and_back_as_well(full_length, monkeypatch):
    trainings = Mock(wraps=study.fitted)
    monkeypatch.setattr(study, "fitted", trainings)
    run_study("full-length", seeds=[0])
    assert not list(missing("full-length", [0]))
    table = run_study("full-length", seeds=[0, 5])
    pairs = sorted(zip(table["name"], table["seed"], strict=True))
    assert pairs == [("other", 0), ("other", 5), ("small", 0), ("small", 5)]
    assert trainings.call_count == 4
    for rate in (0.01, 0.02):
        full_length(small={"learning_rate": rate})
        latest = run_study("full-length", seeds=[0]).set_index(["name", "seed"]).loc["small", 0]
        assert json.loads(latest["configuration"])["learning_rate"] == rate
    assert trainings.call_count == 6


def test_a_parameter_that_a_row_does_not_know_had_todays_default(full_length):
    run_study("full-length", seeds=[0])
    path = results.RESULTS / "full-length.csv"
    without = path.read_text().replace('""schedule"": ""one_cycle"", ', "")
    assert without != path.read_text()
    path.write_text(without)
    assert not list(missing("full-length", [0]))
    full_length(small={"schedule": "constant"})
    assert [experiment.name for experiment, _ in missing("full-length", [0])] == ["small"]


def test_a_row_of_other_data_is_run_again_and_never_averaged_with(full_length, monkeypatch):
    run_study("full-length", seeds=[0, 1])
    monkeypatch.setattr(reviews, "DRAWN", 80)
    forget()
    table = run_study("full-length", seeds=[0])
    assert table["train_n"].tolist() == [70, 70, 56, 56]
    with pytest.raises(DataError, match="different data"):
        summarise_study(table)


@pytest.mark.parametrize("name", study.STUDIES)
def test_with_the_committed_tables_no_training_would_be_repeated(name, monkeypatch, request):
    """Each row there belongs to a setting of the study as it is now, and each setting has one."""

    def of_size(**sizes):
        lists = {part: [["a"]] * n for part, n in sizes.items()}
        labels = {part: np.zeros(n) for part, n in sizes.items()}
        return StudyData(lists, labels, [["a"]], [["b"]] * 49_147)

    drawn = of_size(train=7_000, validation=2_000, held_out=14_893)
    everything = of_size(train=20_319, validation=893, held_out=2_681)
    monkeypatch.setattr(results, "RESULTS", request.config.rootpath / "notebooks" / "results")
    monkeypatch.setattr(reviews, "drawn_data", lambda: drawn)
    monkeypatch.setattr(reviews, "all_data", lambda: everything)
    table = read_study(name)
    not_there = {(experiment.name, seed) for experiment, seed in missing(name)}
    assert not not_there & set(zip(table["name"], table["seed"], strict=True))
    assert 0 not in {seed for _, seed in not_there}
    settings = [experiment.name for experiment in study.STUDIES[name]()]
    assert sorted(settings) == sorted(set(table["name"]))


def test_what_cannot_be_run_does_not_stop_the_rest(full_length):
    full_length(missing={"vectors": "./missing.txt"}, diverging={"learning_rate": 1e38}, small={})
    results.RESULTS.mkdir()
    (results.RESULTS / "search.csv").write_text("number,value,state\n")  # has no best trial
    expected = r"missing, seed 0.*missing\.txt.*; diverging, seed 0: .*; .*search\.csv"
    with pytest.raises(DataError, match=expected):
        run_study("full-length", seeds=[0])
    assert read_study("full-length")["name"].tolist() == ["small"]


def test_half_a_training_is_no_row(full_length, monkeypatch):
    original = SentimentClassifier.fit

    def fit(self, *arguments, **options):
        original(self, *arguments, **options)
        self.history_ = self.history_.head(0)
        return self

    monkeypatch.setattr(SentimentClassifier, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        run_study("full-length", seeds=[0])
    assert not results.RESULTS.exists()


def test_two_processes_fill_one_table(full_length):
    (row,) = run_study("full-length", seeds=[0]).head(1).to_dict("records")
    path = results.RESULTS / "together.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: study.append_row(path, row | {"seed": seed}), range(24)))
    assert sorted(pd.read_csv(path)["seed"]) == list(range(24))
    study.append_row(path, row | {"new": 1.5})
    assert pd.read_csv(path)["new"].isna().sum() == 24


def test_the_command_says_where_it_writes_and_refuses_options_without_a_meaning(
    full_length, capsys
):
    assert {*study.STUDIES, "baselines", "distillation", "search", "scaling"} == set(
        presets.STUDY_NAMES
    )
    said = f"full-length.csv in {results.RESULTS}"
    for end in (", which does not exist yet\n", "\n"):
        assert run("full-length", seeds=[0])["seeds"].tolist() == [1, 1]
        assert said + end in capsys.readouterr().out
    for name, options, idle in [
        ("full-length", {"trials": 0}, "has no option --trials$"),
        ("leaks", {"storage": "x"}, "has no option --storage$"),
        ("baselines", {"seeds": [0], "trials": 3}, "has no option --seeds, --trials$"),
        ("search", {"seeds": [1, 2]}, "one seed"),
    ]:
        with pytest.raises(DataError, match=idle):
            run(name, **options)


def test_baselines_are_measured_on_the_same_reviews():
    for _ in range(2):
        assert len(run("baselines")) == 3
    table = pd.read_csv(results.RESULTS / "baselines.csv").set_index("name")
    assert table["held_out_n"].tolist() == [140] * 3
    assert table.loc["NB-weighted bigrams", "held_out_accuracy"] > 0.9
    assert "ngram_range=(1, 2)" in table.loc["NB-weighted bigrams", "configuration"]
    assert not table["configuration"].str.contains("0x").any()


# ---- The reviews ----


def test_sets_do_not_overlap_and_nothing_held_out_is_near_to_a_drawn_review(monkeypatch):
    copies = [f"{LABELLED['review'][row]} indeed" for row in (0, 200)]
    extended = pd.DataFrame({"review": copies, "sentiment": "negative"})
    extended = pd.concat([LABELLED, extended], ignore_index=True)
    monkeypatch.setattr(reviews, "load_reviews", lambda source: (extended, None))
    monkeypatch.setattr(reviews, "draw_balanced", lambda everything, n: LABELLED.head(100))
    sets = drawn_data().token_lists.items()
    texts = {name: {" ".join(tokens) for tokens in lists} for name, lists in sets}
    assert copies[0] not in texts["held_out"], "its original was drawn"
    assert copies[1] in texts["held_out"], "its original was not"
    assert len(texts["held_out"]) == 141
    assert len(set.union(*texts.values())) == 70 + 20 + 141


def test_all_labels_trains_on_most_of_them_and_on_none_of_the_reports_test_reviews():
    data = all_data()
    sizes = {name: len(lists) for name, lists in data.token_lists.items()}
    assert sizes == {"train": 90 + 106, "validation": 9, "held_out": 25}
    tested = {normalised_text(text) for text in reviews._parts()["test"]["review"]}
    assert len(tested) == 10
    for lists in data.token_lists.values():
        assert not tested & {" ".join(tokens) for tokens in lists}


def test_leaks_are_what_they_say():
    def near(data):
        """How many validation reviews share nearly all words with one of training."""
        trained = [set(tokens) for tokens in data.token_lists["train"]]
        return sum(
            any(len(words & other) >= 0.8 * len(words | other) for other in trained)
            for words in map(set, data.token_lists["validation"])
        )

    honest, leaky = leak_data("copies"), leak_data("copies split")
    assert len(honest.token_lists["train"]) == len(leaky.token_lists["train"]) == 140
    assert honest.token_lists["validation"] == drawn_data().token_lists["validation"]
    assert len(leaky.token_lists["validation"]) == 40
    assert near(honest) == 0
    assert near(leaky) > 20
    for data in (honest, leaky):
        for part, lists in data.token_lists.items():
            is_positive = [not set(ADJECTIVES["positive"]).isdisjoint(tokens) for tokens in lists]
            assert is_positive == data.labels[part].astype(bool).tolist()
    of_training, with_validation = leak_data("training text"), leak_data("validation text")
    assert of_training.unlabelled == drawn_data().token_lists["train"]
    assert len(with_validation.vocabulary_texts) == 90
    assert with_validation.token_lists == of_training.token_lists


def test_shuffled_reviews_hold_the_words_that_would_be_read_in_another_order(monkeypatch):
    some = LABELLED.copy()
    some.loc[::7, "review"] += " so it goes" * 20
    monkeypatch.setattr(reviews, "load_reviews", lambda source: (some, None))
    honest, other = drawn_data(), shuffled_data()
    longest = max(map(len, other.token_lists["train"]))
    assert longest < max(map(len, honest.token_lists["train"])), "some are cut"
    for name, lists in honest.token_lists.items():
        read, shuffled = [truncate(ours, longest) for ours in lists], other.token_lists[name]
        assert list(map(sorted, read)) == list(map(sorted, shuffled))
        assert np.mean([a != b for a, b in zip(read, shuffled, strict=True)]) > 0.9


def test_nothing_that_is_judged_is_read_without_its_label(data_home, monkeypatch):
    left_out = []
    kaggle = pd.DataFrame({"review": ["a hidden film"]})
    kaggle.to_csv(data_home / "subset1000_IMDB_Dataset.csv", index=False)
    monkeypatch.setattr(
        reviews, "load_unlabelled", lambda exclude: left_out.extend(exclude) or ["a"]
    )
    assert drawn_data().unlabelled == [["a"]]
    assert set(left_out) == {"a hidden film", *LABELLED["review"]}


def test_without_texts_the_training_reviews_of_the_split_are_taken(monkeypatch, capsys):
    monkeypatch.setattr(reviews, "load_unlabelled", lambda exclude: [])
    for data in (drawn_data(), all_data()):
        assert data.unlabelled == data.token_lists["train"]
    assert "training reviews are taken" in capsys.readouterr().out


@pytest.fixture
def small_distillation(monkeypatch, request):
    for name in ("PRETRAINED", "ADVERSARIAL"):
        monkeypatch.setattr(presets, name, {**SMALL, "epochs": 2})
    monkeypatch.setattr(presets, "DISTILLED", {**SMALL, "pieces": 1})
    monkeypatch.setattr(distillation, "language_model", lambda **_: None)
    monkeypatch.setattr(reviews, "CHOOSING", 60)
    made = ["not", "bad"], ["not", "good"]
    monkeypatch.setattr(distillation, "made_sentences", lambda *_: (made, np.array([1.0, 0.0])))
    sentences = request.config.rootpath / "tests" / "data" / "short_sentences.csv"
    monkeypatch.setattr(distillation, "SENTENCES", sentences)
    monkeypatch.setattr(distillation, "TABLE", results.RESULTS / "distillation.csv")


@pytest.mark.filterwarnings("ignore:.*hold no word the model knows")
def test_teacher_and_classifier_are_judged_on_reviews_that_chose_nothing(small_distillation):
    few, more = final_data(), final_data(more_labels=True)
    assert few.sizes["held_out_n"] == more.sizes["held_out_n"] == 140 - 60
    assert few.token_lists["held_out"] == more.token_lists["held_out"]
    for data in (few, more):
        others = [lists for name, lists in data.token_lists.items() if name != "held_out"]
        texts = {" ".join(tokens) for lists in others for tokens in lists}
        assert not texts & {" ".join(tokens) for tokens in few.token_lists["held_out"]}
    assert (few.sizes["train_n"], more.sizes["train_n"]) == (70, 70 + 60)

    table = run_distillation([0, 1])
    lstms = "fine-tuned LSTM", "with adversarial steps"
    names = ["NB-weighted bigrams", *lstms, "teacher", "classifier"]
    more_names = [f"{name}, 130 labels" for name in names]
    assert table["name"].tolist() == [*names, *names, *more_names]
    assert table["seed"].tolist() == [0] * 5 + [1] * 5 + [0] * 5
    assert table["held_out_accuracy"].between(0.4, 1).all()
    assert table["choosing_accuracy"].isna().tolist() == [False] * 10 + [True] * 5
    assert (table["seconds"] > 0).all()
    assert (table.loc[0, "held_out_accuracy"], table.loc[0, "plain"]) > (0.9, 0.4)
    bigrams = table["name"].str.startswith("NB")
    gained = table["only_right"] - table["only_bigrams_right"]
    before = table["held_out_accuracy"].where(bigrams).ffill()
    np.testing.assert_allclose(table["held_out_accuracy"] - before, gained / 80, atol=1e-9)
    assert (table["p_value"][bigrams] == 1).all()
    before = results.RESULTS.joinpath("distillation.csv").read_bytes()
    run_distillation([0, 1])
    assert results.RESULTS.joinpath("distillation.csv").read_bytes() == before


def test_a_teacher_weighs_what_its_models_say_by_how_often_they_are_right():
    def model(*probabilities):
        proba = np.array([[1 - p, p] for p in probabilities])
        return Mock(predict_proba=Mock(return_value=proba))

    truth = [1, 0, 1, 0]
    right, guesses, too_sure = model(0.9, 0.1, 0.8, 0.3), model(*[0.6] * 4), model(1, 0, 1, 1)
    models = right, guesses, too_sure
    odds = log_odds(models, [["a"]] * 4)
    assert odds.shape == (4, 3)
    assert np.isfinite(odds).all()
    teacher = Teacher(models, LogisticRegression().fit(odds, truth))
    said = teacher.predict_proba([["a"]] * 4)
    assert (said[:, 1] > 0.5).tolist() == [True, False, True, False]
    assert said.sum(axis=1) == pytest.approx(1)
