"""Studies: rows are true of the runs, nothing is computed twice, choices see nothing held out."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.studies import presets, results, reviews, study
from lstm_sentiment.studies.results import read_study, summarise_study
from lstm_sentiment.studies.reviews import StudyData, all_data, drawn_data, leak_data, shuffled_data
from lstm_sentiment.studies.study import Experiment, missing, run, run_study
from lstm_sentiment.text import DataError, normalised_text, truncate

SMALL = {
    **{"vectors": None, "vector_size": 8, "max_length": 20, "hidden_size": 8, "epochs": 1},
    **{"batch_size": 16, "learning_rate": 0.02, "embedding_rate_factor": 1.0},
}


def made_up(n: int, seed: int) -> pd.DataFrame:
    """n reviews whose adjectives tell the sentiment."""
    rng = np.random.default_rng(seed)
    filler = [f"word{index}" for index in range(300)]
    rows = []
    for number in range(n):
        adjectives = (["bad", "awful"], ["good", "great"])[number % 2]
        words = [*rng.choice(filler, 12), *rng.choice(adjectives, 3)]
        rows.append((" ".join(rng.permutation(words)), ("negative", "positive")[number % 2]))
    return pd.DataFrame(rows, columns=["review", "sentiment"])


@pytest.fixture
def small_world(tmp_path, data_home, monkeypatch):
    """240 labelled reviews, 100 of them drawn, 30 texts without labels, tables in a new folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(reviews, "DRAWN", 100)
    monkeypatch.setattr(reviews, "load_reviews", lambda source: (made_up(240, seed=1), None))
    unlabelled = made_up(30, seed=2)["review"].tolist()
    monkeypatch.setattr(reviews, "load_unlabelled", lambda exclude: unlabelled)
    forget()
    yield tmp_path
    forget()


def forget():
    for function in (reviews._parts, reviews._unlabelled_tokens, reviews.drawn_data):
        function.cache_clear()


@pytest.fixture
def ablation(small_world, monkeypatch):
    """Sets the experiments of the study `ablation`: names, and what differs from `SMALL`."""

    def be(**changes):
        monkeypatch.setitem(
            study.STUDIES,
            "ablation",
            lambda: [
                Experiment(name, {**SMALL, **changed}, drawn_data())
                for name, changed in changes.items()
            ],
        )

    be(small={}, other={"dropout": 0.25})
    return be


@pytest.fixture
def trainings(monkeypatch):
    """The parameters of each classifier that is fitted."""
    seen = []
    original = SentimentClassifier.fit

    def fit(self, *arguments, **options):
        seen.append(self.get_params())
        return original(self, *arguments, **options)

    monkeypatch.setattr(SentimentClassifier, "fit", fit)
    return seen


def test_a_row_says_what_was_run_on_what_and_how_it_went(ablation):
    table = run_study("ablation", seeds=[0, 1])
    assert table["name"].tolist() == ["small", "small", "other", "other"]
    assert table["seed"].tolist() == [0, 1, 0, 1]
    row = table.iloc[3]
    assert (row["train_n"], row["validation_n"], row["held_out_n"]) == (70, 20, 140)
    assert row["unlabelled_n"] == 30
    assert row["held_out_low"] < row["held_out_accuracy"] < row["held_out_high"]
    parameters = json.loads(row["configuration"])
    assert parameters["dropout"] == 0.25
    assert parameters["random_state"] == 1
    assert SentimentClassifier(**parameters).keep == "head_and_tail"
    assert row["seconds"] > 0
    assert row["best_epoch"] == 1
    assert {"torch", "numpy", "python", "processor", "threads"} <= set(table.columns)
    summary = summarise_study(table)
    assert summary.index.tolist() == ["small", "other"]
    held_out = table["held_out_accuracy"][:2]
    assert summary.loc["small", "held_out"] == pytest.approx(held_out.mean())
    assert summary.loc["small", "held_out_std"] == pytest.approx(held_out.std())


def test_the_accuracies_are_those_of_the_classifier_on_these_reviews(ablation):
    ablation(longer={"epochs": 4})
    (row,) = run_study("ablation", seeds=[3]).to_dict("records")
    data = drawn_data()
    again = study.fitted({**SMALL, "epochs": 4, "random_state": 3}, data)
    for part in ("validation", "held_out"):
        right = again.predict(data.token_lists[part]) == data.labels[part]
        assert row[f"{part}_accuracy"] == pytest.approx(right.mean())
    assert row["held_out_accuracy"] > 0.8


def test_words_and_vectors_come_from_the_texts_that_the_study_has_for_them(small_world, trainings):
    data = drawn_data()
    texts = [["seen", "often", *tokens] for tokens in data.token_lists["train"]]
    data = StudyData(data.token_lists, data.labels, texts, texts)
    classifier = study.fitted({**SMALL, "vectors": "imdb"}, data)
    assert "often" in classifier.vocabulary_
    assert trainings[0]["vectors"]["often"].shape == (8,)
    assert study.fitted(SMALL, data).model_.embedding.weight.abs().max() < 0.2


def test_a_network_that_starts_from_a_language_model_leaves_its_epochs(small_world):
    start = {"dropout": 0.1, "epochs": 2, "batch_size": 8, "embedding_rate_factor": 1.0}
    parameters = {**SMALL, "vectors": "imdb", "start": start}
    classifier = study.fitted(parameters, drawn_data())
    assert str(classifier.start).endswith(".safetensors")
    epochs = pd.read_csv(results.RESULTS / "pretraining.csv")
    assert epochs["epoch"].tolist() == [1, 2]
    assert (epochs["validation_perplexity"] > 1).all()
    assert json.loads(epochs["configuration"][0]) == start
    assert epochs["unlabelled_n"].tolist() == [30, 30]


def test_what_is_there_is_not_run_again(ablation, trainings):
    run_study("ablation", seeds=[0])
    run_study("ablation", seeds=[0])
    assert len(trainings) == 2
    assert not list(missing("ablation", [0]))
    table = run_study("ablation", seeds=[0, 5])
    assert len(trainings) == 4
    pairs = sorted(zip(table["name"], table["seed"], strict=True))
    assert pairs == [("other", 0), ("other", 5), ("small", 0), ("small", 5)]


def test_what_changed_is_run_again_and_back_as_well(ablation, trainings):
    for rate in (0.02, 0.01, 0.02):
        ablation(small={"learning_rate": rate})
        (row,) = run_study("ablation", seeds=[0]).to_dict("records")
        assert json.loads(row["configuration"])["learning_rate"] == rate
    assert len(trainings) == 3


def test_a_parameter_that_a_row_does_not_know_had_todays_default(ablation):
    run_study("ablation", seeds=[0])
    path = results.RESULTS / "ablation.csv"
    without = path.read_text().replace('""schedule"": ""one_cycle"", ', "")
    assert without != path.read_text()
    path.write_text(without)
    assert not list(missing("ablation", [0]))
    ablation(small={"schedule": "constant"})
    assert [experiment.name for experiment, _ in missing("ablation", [0])] == ["small"]


def test_a_row_of_other_data_is_run_again_and_never_averaged_with(ablation, monkeypatch):
    run_study("ablation", seeds=[0, 1])
    monkeypatch.setattr(reviews, "DRAWN", 80)
    forget()
    table = run_study("ablation", seeds=[0])
    assert table["train_n"].tolist() == [70, 70, 56, 56]
    with pytest.raises(DataError, match="different data"):
        summarise_study(table)


@pytest.mark.parametrize("name", study.STUDIES)
def test_with_the_committed_tables_no_training_would_be_repeated(name, monkeypatch, request):
    """Each row there belongs to a setting of the study as it is now, and each setting has one."""

    def of_size(train, validation, held_out):
        sizes = {"train": train, "validation": validation, "held_out": held_out}
        lists = {part: [["a"]] * n for part, n in sizes.items()}
        labels = {part: np.zeros(n) for part, n in sizes.items()}
        return StudyData(lists, labels, [["a"]], [["b"]] * 49_147)

    monkeypatch.setattr(results, "RESULTS", request.config.rootpath / "notebooks" / "results")
    drawn = of_size(7_000, 2_000, 14_893)
    monkeypatch.setattr(reviews, "drawn_data", lambda: drawn)
    monkeypatch.setattr(reviews, "all_data", lambda: of_size(20_319, 893, 2_681))
    table = read_study(name)
    not_there = {(experiment.name, seed) for experiment, seed in missing(name)}
    there = set(zip(table["name"], table["seed"], strict=True))
    assert there & not_there == set()
    settings = {experiment.name for experiment in study.STUDIES[name]()}
    assert settings == set(table["name"])
    assert {setting for setting, seed in not_there if seed == 0} == set()


def test_what_cannot_be_run_does_not_stop_the_rest(ablation):
    ablation(missing={"vectors": "./missing.txt"}, diverging={"learning_rate": 1e38}, small={})
    with pytest.raises(DataError, match=r"missing, seed 0.*missing\.txt.*; diverging, seed 0: "):
        run_study("ablation", seeds=[0])
    assert read_study("ablation")["name"].tolist() == ["small"]


def test_a_search_without_a_best_trial_is_said_with_the_other_failures(small_world, monkeypatch):
    settings = {"missing": {**SMALL, "vectors": "./missing.txt"}, "small": SMALL}
    monkeypatch.setattr(presets, "FULL_LENGTH", settings)
    results.RESULTS.mkdir()
    (results.RESULTS / "search.csv").write_text("number,value,state\n")
    with pytest.raises(DataError, match=r"missing, seed 0: .*; .*search\.csv"):
        run_study("full-length", seeds=[0])
    assert read_study("full-length")["name"].tolist() == ["small"]


def test_half_a_training_is_no_row(ablation, monkeypatch):
    original = SentimentClassifier.fit

    def fit(self, *arguments, **options):
        original(self, *arguments, **options)
        self.history_ = self.history_.head(0)
        return self

    monkeypatch.setattr(SentimentClassifier, "fit", fit)
    with pytest.raises(KeyboardInterrupt):
        run_study("ablation", seeds=[0])
    assert not results.RESULTS.exists()


def test_a_damaged_table_is_named_and_stays_as_it_is(ablation):
    run_study("ablation", seeds=[0])
    path = results.RESULTS / "ablation.csv"
    path.write_text(path.read_text()[:-3])
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"ablation\.csv cannot be read"):
        run_study("ablation", seeds=[0, 1])
    with pytest.raises(DataError, match=r"ablation\.csv cannot be read"):
        study._append(path, {"name": "a", "seed": 0})
    assert path.read_bytes() == before


def test_two_processes_fill_one_table(ablation):
    (row,) = run_study("ablation", seeds=[0]).head(1).to_dict("records")
    path = results.RESULTS / "together.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: study._append(path, row | {"seed": seed}), range(24)))
    assert sorted(pd.read_csv(path)["seed"]) == list(range(24))
    study._append(path, row | {"new": 1.5})
    assert pd.read_csv(path)["new"].isna().sum() == 24


def test_the_command_says_where_it_writes_and_refuses_options_without_a_meaning(ablation, capsys):
    summary = run("ablation", seeds=[0])
    assert summary["seeds"].tolist() == [1, 1]
    said = f"ablation.csv in {results.RESULTS}"
    assert f"{said}, which does not exist yet\n" in capsys.readouterr().out
    run("ablation", seeds=[0])
    assert f"{said}\n" in capsys.readouterr().out
    for name, options, idle in [
        ("ablation", {"trials": 0}, "--trials"),
        ("leaks", {"storage": "x"}, "--storage"),
        ("baselines", {"seeds": [0], "trials": 3}, "--seeds, --trials"),
    ]:
        with pytest.raises(DataError, match=f"study {name} has no option {idle}$"):
            run(name, **options)
    with pytest.raises(DataError, match="one seed"):
        run("search", seeds=[1, 2])


def test_baselines_are_measured_on_the_same_reviews(small_world):
    assert len(run("baselines")) == 3
    table = read_study("baselines").set_index("name")
    assert (table["held_out_n"] == 140).all()
    assert table.loc["NB-weighted bigrams", "held_out_accuracy"] > 0.9
    assert "ngram_range=(1, 2)" in table.loc["NB-weighted bigrams", "configuration"]
    assert not table["configuration"].str.contains("0x").any()
    run("baselines")
    assert len(pd.read_csv(results.RESULTS / "baselines.csv")) == 3


# ---- The reviews ----


def test_sets_do_not_overlap_and_nothing_held_out_is_near_to_a_drawn_review(
    small_world, monkeypatch
):
    table = made_up(240, seed=1)
    copies = [f"{table['review'][0]} indeed", f"{table['review'][200]} indeed"]
    extended = pd.concat(
        [table, pd.DataFrame({"review": copies, "sentiment": "negative"})], ignore_index=True
    )
    monkeypatch.setattr(reviews, "load_reviews", lambda source: (extended, None))
    monkeypatch.setattr(reviews, "draw_balanced", lambda everything, n: table.head(100))
    texts = {
        name: {" ".join(tokens) for tokens in lists}
        for name, lists in drawn_data().token_lists.items()
    }
    assert copies[0] not in texts["held_out"], "its original was drawn"
    assert copies[1] in texts["held_out"], "its original was not"
    assert len(texts["held_out"]) == 141
    assert len(set.union(*texts.values())) == 70 + 20 + 141


def test_all_labels_trains_on_most_of_them_and_on_none_of_the_reports_test_reviews(small_world):
    data = all_data()
    sizes = {name: len(lists) for name, lists in data.token_lists.items()}
    assert sizes == {"train": 90 + 106, "validation": 9, "held_out": 25}
    tested = {normalised_text(text) for text in reviews._parts()["test"]["review"]}
    assert len(tested) == 10
    for lists in data.token_lists.values():
        assert not tested & {" ".join(tokens) for tokens in lists}


def test_leaks_are_what_they_say(small_world):
    honest = leak_data("copies")
    assert len(honest.token_lists["train"]) == 140
    assert honest.token_lists["validation"] == drawn_data().token_lists["validation"]

    def near(lists, others):
        """How many of `lists` share nearly all words with one of `others`."""
        sets = [set(tokens) for tokens in others]
        return sum(
            any(len(set(tokens) & other) >= 0.8 * len(set(tokens) | other) for other in sets)
            for tokens in lists
        )

    leaky = leak_data("copies split")
    assert [len(leaky.token_lists[name]) for name in ("train", "validation")] == [140, 40]
    assert near(honest.token_lists["validation"], honest.token_lists["train"]) == 0
    assert near(leaky.token_lists["validation"], leaky.token_lists["train"]) > 20
    for name in ("train", "validation"):
        assert len(leaky.labels[name]) == len(leaky.token_lists[name])
    of_training = leak_data("training text")
    with_validation = leak_data("validation text")
    assert of_training.unlabelled == drawn_data().token_lists["train"]
    assert len(with_validation.vocabulary_texts) == 90
    assert with_validation.token_lists == of_training.token_lists


def test_shuffled_reviews_hold_the_words_that_would_be_read_in_another_order(
    small_world, monkeypatch
):
    some = made_up(240, seed=1)
    some.loc[::7, "review"] += " so it goes" * 20
    monkeypatch.setattr(reviews, "load_reviews", lambda source: (some, None))
    honest, other = drawn_data(), shuffled_data()
    longest = max(map(len, other.token_lists["train"]))
    assert longest < max(map(len, honest.token_lists["train"])), "some are cut"
    for name, lists in honest.token_lists.items():
        pairs = list(zip(lists, other.token_lists[name], strict=True))
        assert all(sorted(truncate(ours, longest)) == sorted(theirs) for ours, theirs in pairs)
        assert np.mean([truncate(ours, longest) != theirs for ours, theirs in pairs]) > 0.9


def test_nothing_that_is_judged_is_read_without_its_label(small_world, data_home, monkeypatch):
    left_out = []
    kaggle = pd.DataFrame({"review": ["a hidden film"]})
    kaggle.to_csv(data_home / "subset1000_IMDB_Dataset.csv", index=False)
    monkeypatch.setattr(
        reviews, "load_unlabelled", lambda exclude: left_out.extend(exclude) or ["a"]
    )
    assert drawn_data().unlabelled == [["a"]]
    assert {"a hidden film", *made_up(240, seed=1)["review"]} == set(left_out)


def test_without_texts_the_training_reviews_of_the_split_are_taken(
    small_world, monkeypatch, capsys
):
    monkeypatch.setattr(reviews, "load_unlabelled", lambda exclude: [])
    for data in (drawn_data(), all_data()):
        assert data.unlabelled == data.token_lists["train"]
    assert "training reviews are taken" in capsys.readouterr().out


def test_every_study_gives_each_of_its_networks_reviews(small_world):
    assert {*study.STUDIES, "baselines", "search"} == set(presets.STUDY_NAMES)
    for experiments in study.STUDIES.values():
        experiments = list(experiments())
        names = [experiment.name for experiment in experiments]
        assert len(set(names)) == len(names) > 0
        for experiment in experiments:
            assert set(experiment.data.token_lists) == {"train", "validation", "held_out"}
            for part, lists in experiment.data.token_lists.items():
                assert len(lists) == len(experiment.data.labels[part]) > 0
