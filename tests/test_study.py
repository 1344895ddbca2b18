"""Studies: rows are true of the runs, nothing is computed twice, choices never see "outside"."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import optuna
import pandas as pd
import pytest

from lstm_sentiment import training
from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.studies import study
from lstm_sentiment.studies.presets import Configuration, SelfTrainingConfig
from lstm_sentiment.studies.study import (
    STUDIES,
    all_data,
    drawn_data,
    leak_data,
    official_data,
    read_study,
    run_baselines,
    run_search,
    run_study,
    summarise_study,
)
from lstm_sentiment.text import DataError, normalised_text, truncate
from lstm_sentiment.training import TrainingConfig, predict_proba

SMALL = Configuration(
    vectors=None,
    vector_size=8,
    max_length=20,
    model={"hidden_size": 8},
    training=TrainingConfig(epochs=2, batch_size=16, learning_rate=0.02, embedding_rate_factor=1.0),
)


def reviews(n: int, seed: int) -> pd.DataFrame:
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
    monkeypatch.setattr(study, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(study, "DRAWN", 100)
    monkeypatch.setattr(study, "load_reviews", lambda source: reviews(240, seed=1))
    unlabelled = reviews(30, seed=2)["review"].tolist()
    monkeypatch.setattr(study, "load_unlabelled", lambda exclude: unlabelled)
    monkeypatch.setitem(
        study.STUDIES,
        "ablation",
        lambda: [
            ("small", SMALL, drawn_data()),
            ("other", SMALL.but({"dropout": 0.5}), drawn_data()),
        ],
    )
    caches = (study._parts, study._unlabelled_tokens, study._official_test, study.drawn_data)
    for function in caches:
        function.cache_clear()
    yield tmp_path
    for function in caches:
        function.cache_clear()


def test_a_row_says_what_was_run_on_what_and_how_it_went(small_world):
    table = run_study("ablation", seeds=[0, 1])
    assert table["name"].tolist() == ["small", "small", "other", "other"]
    assert table["seed"].tolist() == [0, 1, 0, 1]
    row = table.iloc[3]
    assert (row["train_n"], row["validation_n"], row["outside_n"]) == (70, 20, 140)
    assert row["outside_low"] < row["outside_accuracy"] < row["outside_high"]
    settings = json.loads(row["configuration"])
    assert settings["model"] == {"hidden_size": 8, "dropout": 0.5}
    assert settings["training"]["seed"] == 1
    assert row["seconds"] > 0
    assert row["best_epoch"] in (1, 2)
    assert {"torch", "numpy", "python", "processor", "threads"} <= set(table.columns)
    summary = summarise_study(table)
    assert summary.index.tolist() == ["small", "other"]
    assert summary.loc["small", "outside"] == pytest.approx(table["outside_accuracy"][:2].mean())
    assert summary.loc["small", "outside_std"] == pytest.approx(table["outside_accuracy"][:2].std())
    assert summary["seeds"].tolist() == [2, 2]
    assert summary["train_n"].tolist() == [70, 70]


def test_shuffled_reviews_hold_the_same_words_in_another_order(small_world):
    data, mixed = drawn_data(), study.shuffled_data()
    assert mixed.vocabulary_texts == data.vocabulary_texts
    for name, lists in data.token_lists.items():
        assert [sorted(tokens) for tokens in mixed.token_lists[name]] == [
            sorted(tokens) for tokens in lists
        ]
        changed = [a != b for a, b in zip(mixed.token_lists[name], lists, strict=True)]
        assert np.mean(changed) > 0.9


def test_what_is_there_is_not_run_again(small_world, monkeypatch):
    run_study("ablation", seeds=[0])
    calls = []
    original = study.run_trial

    def counting(*arguments, **options):
        calls.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(study, "run_trial", counting)
    run_study("ablation", seeds=[0])
    assert not calls
    table = run_study("ablation", seeds=[0, 5])
    assert len(calls) == 2
    assert sorted(zip(table["name"], table["seed"], strict=True)) == [
        ("other", 0),
        ("other", 5),
        ("small", 0),
        ("small", 5),
    ]


def test_a_changed_configuration_is_run_again_and_replaces_the_row(small_world, monkeypatch):
    run_study("ablation", seeds=[0])
    changed = SMALL.but(training={"epochs": 1})
    monkeypatch.setitem(study.STUDIES, "ablation", lambda: [("small", changed, drawn_data())])
    table = run_study("ablation", seeds=[0]).set_index("name")
    assert len(table) == 2
    assert json.loads(table.loc["small", "configuration"])["training"]["epochs"] == 1


def test_sets_do_not_overlap_and_outside_has_no_near_copy_of_a_drawn_review(
    small_world, monkeypatch
):
    table = reviews(240, seed=1)
    copies = [f"{table['review'][0]} indeed", f"{table['review'][200]} indeed"]
    extended = pd.concat(
        [table, pd.DataFrame({"review": copies, "sentiment": "negative"})], ignore_index=True
    )
    monkeypatch.setattr(study, "load_reviews", lambda source: extended)
    monkeypatch.setattr(study, "draw_balanced", lambda everything, n: table.head(100))
    parts = study._parts()
    outside = parts["outside"]["review"].tolist()
    assert copies[0] not in outside, "its original was drawn"
    assert copies[1] in outside, "its original was not"
    assert len(outside) == 141
    texts = {
        name: {normalised_text(text) for text in part["review"]} for name, part in parts.items()
    }
    for first in texts:
        for second in texts:
            assert first == second or not texts[first] & texts[second]


def test_all_labels_trains_on_most_of_them(small_world):
    data = all_data()
    sizes = {name: len(lists) for name, lists in data.token_lists.items()}
    assert sizes == {"train": 90 + 106, "validation": 9, "outside": 25}
    tested = set(study._parts()["test"]["review"])
    for lists in data.token_lists.values():
        assert not tested & {" ".join(tokens) for tokens in lists}


def test_the_official_test_reviews_are_used_where_they_are(small_world, data_home):
    assert len(official_data().token_lists["outside"]) == 140
    for label, word in (("pos", "good"), ("neg", "bad")):
        folder = data_home / "aclImdb" / "test" / label
        folder.mkdir(parents=True)
        for number in range(3):
            (folder / f"{number}_7.txt").write_text(f"a {word} film number {number}")
    labelled = reviews(240, seed=1)["review"][0]
    (folder / "9_7.txt").write_text(f"{labelled} indeed")  # a near copy, and left out
    study._official_test.cache_clear()
    data = official_data()
    assert len(data.token_lists["outside"]) == 6
    assert len(data.token_lists["train"]) == 184


def test_leaks_are_what_they_say(small_world):
    honest = leak_data("copies")
    assert len(honest.token_lists["train"]) == 140
    assert honest.token_lists["validation"] == drawn_data().token_lists["validation"]

    def near(lists, others):
        """How many of `lists` share nine tenths of their words with one of `others`."""
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


def test_every_study_names_systems_that_can_be_built(small_world, monkeypatch):
    monkeypatch.setitem(STUDIES, "ablation", study._ablation)
    named = {name: list(experiments()) for name, experiments in STUDIES.items()}
    assert set(named) == {
        "ablation", "full-length", "language-model", "all-labels", "presets", "leaks"
    }  # fmt: skip
    for experiments in named.values():
        names = [name for name, _, _ in experiments]
        assert len(set(names)) == len(names) > 0
        for _, configuration, data in experiments:
            assert SentimentLSTM(np.zeros((3, 4)), **configuration.model)
            assert set(data.token_lists) == {"train", "validation", "outside"}
            for part, lists in data.token_lists.items():
                assert len(lists) == len(data.labels[part]) > 0
    sizes = {len(data.token_lists["train"]) for _, _, data in named["all-labels"]}
    assert min(sizes) > len(drawn_data().token_lists["train"])


def test_the_base_is_tried_again_where_its_trial_was_interrupted(small_world, monkeypatch):
    monkeypatch.setattr(study, "START", {"learning_rate": 2e-3})
    monkeypatch.setattr(study, "BASE", SMALL)

    def suggest(trial):
        rate = trial.suggest_float("learning_rate", 1e-4, 0.1, log=True)
        return SMALL.but(training={"learning_rate": rate})

    monkeypatch.setattr(study, "suggest", suggest)
    with monkeypatch.context() as context:
        context.setattr(study, "run_trial", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_search(1)
    table = run_search(2)
    assert table["state"].tolist() == ["FAIL", "COMPLETE", "COMPLETE"]
    assert table["params_learning_rate"].tolist()[:2] == [2e-3, 2e-3]
    assert table["params_learning_rate"][2] != 2e-3


def test_a_trial_below_the_median_is_stopped(small_world, monkeypatch):
    """Five train to the end; the sixth is worse than all of them after its first epoch."""
    accuracies = iter([0.9, 0.8, 0.7, 0.85, 0.75, 0.5])

    def run_trial(model, training_set, validation_set, config, on_epoch):
        accuracy = next(accuracies)
        for epoch in (1, 2):
            on_epoch({"epoch": epoch, "validation_accuracy": accuracy, "seconds": 1.0})
        return {"validation_accuracy": accuracy}

    monkeypatch.setattr(study, "run_trial", run_trial)
    monkeypatch.setattr(study, "BASE", SMALL)
    monkeypatch.setattr(study, "suggest", lambda trial: SMALL)
    table = run_search(6)
    assert table["state"].tolist() == [*["COMPLETE"] * 5, "PRUNED"]
    assert table["value"].tolist() == [0.9, 0.8, 0.7, 0.85, 0.75, 0.5]
    assert table["user_attrs_seconds"].tolist() == [*[2.0] * 5, 1.0]


def test_a_trial_that_diverges_is_a_bad_trial_only(small_world, monkeypatch):
    outcomes = iter([{"validation_accuracy": 0.8}, FloatingPointError("loss"), None])

    def run_trial(*arguments):
        outcome = next(outcomes) or {"validation_accuracy": 0.7}
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(study, "run_trial", run_trial)
    monkeypatch.setattr(study, "BASE", SMALL)
    monkeypatch.setattr(study, "suggest", lambda trial: SMALL)
    assert run_search(3)["state"].tolist() == ["COMPLETE", "PRUNED", "COMPLETE"]


def test_the_base_is_tried_again_where_its_trial_was_killed(small_world, monkeypatch):
    monkeypatch.setattr(study, "START", {"learning_rate": 2e-3})
    storage = f"sqlite:///{small_world / 'killed.db'}"
    killed = optuna.create_study(storage=storage, study_name="lstm_sentiment", direction="maximize")
    killed.enqueue_trial(study.START)
    killed.ask().suggest_float("learning_rate", 1e-4, 0.1, log=True)  # and is never told

    def suggest(trial):
        trial.suggest_float("learning_rate", 1e-4, 0.1, log=True)
        return SMALL

    monkeypatch.setattr(study, "suggest", suggest)
    monkeypatch.setattr(study, "BASE", SMALL)
    monkeypatch.setattr(study, "run_trial", lambda *arguments: {"validation_accuracy": 0.5})
    table = run_search(1, storage)
    assert table["state"].tolist() == ["RUNNING", "COMPLETE"]
    assert table["params_learning_rate"].tolist() == [2e-3, 2e-3]


def test_nothing_that_is_judged_is_read_without_its_label(small_world, data_home, monkeypatch):
    left_out = []
    monkeypatch.setattr(study, "load_unlabelled", lambda exclude: left_out.extend(exclude) or ["a"])
    kaggle = pd.DataFrame({"review": ["a hidden film"]})
    kaggle.to_csv(data_home / "subset1000_IMDB_Dataset.csv", index=False)
    monkeypatch.setattr(
        study, "_official_test", lambda: pd.DataFrame({"review": ["an official film"]})
    )
    assert study._unlabelled_tokens() == [["a"]]
    assert {"a hidden film", "an official film", *reviews(240, seed=1)["review"]} == set(left_out)


def test_two_searches_share_a_storage(small_world, monkeypatch):
    monkeypatch.setattr(study, "BASE", SMALL)
    monkeypatch.setattr(study, "run_trial", lambda *arguments: {"validation_accuracy": 0.5})
    storage = f"sqlite:///{small_world / 'shared.db'}"
    run_search(3, storage, seed=0)
    table = run_search(6, storage, seed=1)
    assert len(table) == 6
    assert table["params_learning_rate"].nunique() == 6
    (study.RESULTS / "search.csv").unlink()
    alone = run_search(3, f"sqlite:///{small_world / 'alone.db'}", seed=0)
    first_settings = table.filter(like="params_").head(2)
    assert alone.filter(like="params_").head(2).equals(first_settings), "the seed decides"
    (study.RESULTS / "search.csv").unlink()
    other = run_search(3, f"sqlite:///{small_world / 'other.db'}", seed=1).filter(like="params_")
    assert not other.iloc[1].equals(first_settings.iloc[1]), "the seed decides"


def test_a_search_does_not_go_on_with_trials_of_other_data(small_world, monkeypatch):
    monkeypatch.setattr(study, "BASE", SMALL)
    monkeypatch.setattr(study, "run_trial", lambda *arguments: {"validation_accuracy": 0.5})
    run_search(2)
    other = leak_data("copies")
    monkeypatch.setattr(study, "drawn_data", lambda: other)
    with pytest.raises(DataError, match="are of other data"):
        run_search(3)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "state,value\nPRUNED,0.5\n"])
def test_a_search_without_a_best_trial_is_said_to_be_so(small_world, text):
    study.RESULTS.mkdir()
    (study.RESULTS / "search.csv").write_text(text)
    with pytest.raises(DataError, match="names no best trial"):
        study.best_of_search()


def test_settings_that_differ_are_not_averaged(small_world, monkeypatch):
    run_study("ablation", seeds=[0, 1])
    other = SMALL.but(training={"learning_rate": 0.03})
    monkeypatch.setitem(STUDIES, "ablation", lambda: [("small", other, drawn_data())])
    table = run_study("ablation", seeds=[0])
    with pytest.raises(
        DataError, match=r"rows of \['small'\] come from different data or settings"
    ):
        summarise_study(table)


def test_a_second_network_learns_from_the_verdicts_of_the_first(small_world, monkeypatch):
    """It starts anew, with settings of its own and the 140 labels and 20 of the texts."""
    seen = []
    original = study.run_trial

    def run_trial(model, training_set, validation_set, config):
        seen.append((model, training_set, config))
        return original(model, training_set, validation_set, config)

    monkeypatch.setattr(study, "run_trial", run_trial)
    taught = SMALL.but(self_training=SelfTrainingConfig(texts=20, training={"epochs": 1}))
    monkeypatch.setitem(STUDIES, "ablation", lambda: [("taught", taught, drawn_data())])
    (row,) = run_study("ablation", seeds=[1]).to_dict("records")
    (teacher, labelled, first), (student, both, second) = seen
    assert (len(labelled), len(both)) == (70, 90)
    assert second == replace(first, epochs=1)
    assert first.seed == 1
    assert teacher is not student
    texts = ReviewDataset([both[place][0] for place in range(70, 90)])
    assert both.labels[:70].tolist() == labelled.labels.tolist()
    assert both.labels[70:] == pytest.approx(predict_proba(teacher, texts), abs=1e-6)
    assert row["best_epoch"] == 1


def test_the_words_of_a_shuffled_review_are_those_that_would_be_read(small_world, monkeypatch):
    some = reviews(240, seed=1)
    some.loc[::7, "review"] += " so it goes" * 20
    monkeypatch.setattr(study, "load_reviews", lambda source: some)
    honest, other = drawn_data(), study.shuffled_data()
    longest = max(map(len, other.token_lists["train"]))
    assert longest < max(map(len, honest.token_lists["train"])), "some are cut"
    for ours, theirs in zip(
        honest.token_lists["outside"], other.token_lists["outside"], strict=True
    ):
        assert sorted(truncate(ours, longest)) == sorted(theirs)
    assert honest.token_lists["outside"] != other.token_lists["outside"]


def test_a_folder_without_official_test_reviews_has_none(small_world, data_home):
    (data_home / "aclImdb" / "train" / "unsup").mkdir(parents=True)
    assert study._official_test() is None


def test_a_row_of_other_data_is_run_again_and_never_averaged_with(small_world, monkeypatch):
    run_study("ablation", seeds=[0, 1])
    monkeypatch.setattr(study, "DRAWN", 80)
    study._parts.cache_clear()
    study.drawn_data.cache_clear()
    table = run_study("ablation", seeds=[0])
    assert table["train_n"].tolist() == [70, 70, 56, 56]
    with pytest.raises(DataError, match="different data"):
        summarise_study(table)
    assert set(summarise_study(run_study("ablation", seeds=[0, 1]))["seeds"]) == {2}


def test_going_back_to_a_configuration_runs_it_again(small_world, monkeypatch):
    changed = SMALL.but(training={"epochs": 1})
    for configuration in (SMALL, changed, SMALL):
        monkeypatch.setitem(
            study.STUDIES, "ablation", lambda chosen=configuration: [("a", chosen, drawn_data())]
        )
        (row,) = run_study("ablation", seeds=[0]).to_dict("records")
        assert json.loads(row["configuration"])["training"]["epochs"] == (
            configuration.training.epochs
        )


def test_what_cannot_be_run_does_not_stop_the_rest(small_world, monkeypatch):
    missing = SMALL.but(vectors="./missing.txt")
    monkeypatch.setitem(
        study.STUDIES,
        "ablation",
        lambda: [("missing", missing, drawn_data()), ("small", SMALL, drawn_data())],
    )
    with pytest.raises(DataError, match=r"missing, seed 0.*missing\.txt"):
        run_study("ablation", seeds=[0])
    assert read_study("ablation")["name"].tolist() == ["small"]


def test_without_texts_the_training_reviews_of_the_split_are_taken(
    small_world, monkeypatch, capsys
):
    monkeypatch.setattr(study, "load_unlabelled", lambda exclude: [])
    for data in (drawn_data(), all_data()):
        assert data.unlabelled == data.token_lists["train"]
    assert "training reviews are taken" in capsys.readouterr().out


def test_two_processes_fill_one_table(small_world):
    path = study.RESULTS / "together.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: study._append(path, {"name": "a", "seed": n}), range(24)))
    assert sorted(pd.read_csv(path)["seed"]) == list(range(24))
    study._append(path, {"name": "b", "seed": 0, "new": 1.5})
    table = pd.read_csv(path)
    assert table["new"].isna().sum() == 24
    assert table.iloc[-1].to_dict() == {"name": "b", "seed": 0, "new": 1.5}


def test_baselines_are_measured_on_the_same_reviews(small_world):
    table = run_baselines().set_index("name")
    assert len(table) == 3
    assert (table["outside_n"] == 140).all()
    assert table.loc["NB-weighted bigrams", "outside_accuracy"] > 0.9
    assert "ngram_range=(1, 2)" in table.loc["NB-weighted bigrams", "configuration"]
    assert not table["configuration"].str.contains("0x").any()
    assert len(run_baselines()) == 3


def test_a_search_keeps_every_trial_and_goes_on(small_world, monkeypatch):
    def suggest(trial):
        rate = trial.suggest_float("learning_rate", 1e-4, 0.1, log=True)
        return SMALL.but(training={"learning_rate": rate}, keep="tail")

    monkeypatch.setattr(study, "suggest", suggest)
    monkeypatch.setattr(study, "START", {"learning_rate": 2e-3})
    monkeypatch.setattr(study, "BASE", SMALL)
    first = run_search(3)
    assert first["number"].tolist() == [0, 1, 2]
    second = run_search(5)
    assert second["number"].tolist() == [0, 1, 2, 3, 4]
    assert second["params_learning_rate"].is_unique
    assert first["params_learning_rate"][0] == 2e-3
    kept = pd.read_csv(study.RESULTS / "search.csv")
    assert len(kept) == 5
    complete = kept[kept["state"] == "COMPLETE"]
    best = second.loc[second.loc[second["state"] == "COMPLETE", "value"].idxmax()]
    found = study.best_of_search()
    assert found.training.learning_rate == best["params_learning_rate"]
    assert found == SMALL.but(training={"learning_rate": best["params_learning_rate"]}, keep="tail")
    assert [name for name, _, _ in study._full_length()][-1] == "best of the search, 6 epochs"
    assert complete["value"].between(0, 1).all()
    assert (complete["user_attrs_validation_n"] == 20).all()
    assert "tail" in complete["user_attrs_configuration"].iloc[0]
    assert (kept["user_attrs_seconds"] > 0).all()
    assert {"user_attrs_torch", "user_attrs_processor"} <= set(kept.columns)
    assert len(run_search(5)) == 5
    (study.RESULTS / "search.csv").unlink()
    assert len(run_search(0)) == 5, "no more trials, but their table"
    assert len(pd.read_csv(study.RESULTS / "search.csv")) == 5


def test_an_interrupted_search_goes_on(small_world, monkeypatch):
    monkeypatch.setattr(study, "suggest", lambda trial: SMALL)
    monkeypatch.setattr(study, "BASE", SMALL)
    original = training.score
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == SMALL.training.epochs + 1:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(training, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_search(3)
    table = run_search(3)
    assert table["state"].isin(["COMPLETE", "PRUNED"]).sum() == 3
    assert len(table) == 4, "the interrupted trial is kept as well"


def test_a_search_begins_with_the_base():
    first = study.suggest(optuna.trial.FixedTrial(study.START))
    written_out = {
        "num_layers": 1,
        "pooling": "last",
        "bidirectional": False,
        "spatial_dropout": 0.0,
        "recurrent_dropout": 0.0,
        "freeze_embedding": False,
    }
    assert first == study.BASE.but(written_out)


def test_what_a_search_may_suggest_can_be_built():
    search = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        configuration = study.suggest(search.ask())
        assert SentimentLSTM(np.zeros((3, 4)), **configuration.model)
        assert 0 < configuration.training.learning_rate <= 0.01
        assert configuration.keep in ("head_and_tail", "head", "tail")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "\n",
        lambda text: text[:9],
        lambda text: text[:-3],
        lambda text: text[: text.index("{") + 20],
        lambda text: text[: text.index("{") + 20] + "\n",
        lambda text: text.replace("name,seed,", "", 1),
    ],
)
def test_a_damaged_table_is_named(small_world, damage):
    run_study("ablation", seeds=[0])
    path = study.RESULTS / "ablation.csv"
    path.write_text(damage(path.read_text()))
    before = path.read_bytes()
    for function in (read_study, run_study):
        with pytest.raises(DataError, match=r"ablation\.csv cannot be read"):
            function("ablation")
    with pytest.raises(DataError, match=r"ablation\.csv cannot be read"):
        study._append(path, {"name": "a", "seed": 0})
    assert path.read_bytes() == before


def test_a_study_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"name is 'nosuch'; it must be one of \['ablation', "):
        run_study("nosuch")


def test_read_study_keeps_the_latest_row(small_world):
    study.RESULTS.mkdir()
    rows = pd.DataFrame(
        {"name": ["a", "b", "a"], "seed": [0, 0, 0], "outside_accuracy": [0.1, 0.2, 0.3]}
    )
    rows.to_csv(study.RESULTS / "ablation.csv", index=False)
    assert read_study("ablation")["outside_accuracy"].tolist() == [0.2, 0.3]


def test_everything_can_be_run_again_the_search_before_what_needs_it(small_world, monkeypatch):
    done = []
    for function in ("run_baselines", "run_search"):
        monkeypatch.setattr(study, function, lambda function=function: done.append(function))
    monkeypatch.setattr(study, "run_study", done.append)
    study.RESULTS.mkdir()
    old = [study.RESULTS / "leaks.csv", study.RESULTS / "search.csv", Path("artifacts/search.db")]
    kept = study.RESULTS / "bench.json"
    for path in (*old, kept):
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    study.run_all_again()
    assert done == ["run_baselines", "run_search", *study.STUDIES]
    assert not any(path.exists() for path in old)
    assert kept.exists()


def test_finished_trials_are_those_that_ended_each_setting_once():
    trials = pd.DataFrame(
        {
            "number": range(5),
            "state": ["COMPLETE", "RUNNING", "PRUNED", "COMPLETE", "FAIL"],
            "params_rate": [0.1, 0.2, 0.3, 0.1, 0.4],
        }
    )
    assert study.finished_trials(trials)["number"].tolist() == [0, 2]


def test_a_search_does_not_replace_trials_that_its_storage_does_not_know(small_world):
    study.RESULTS.mkdir()
    path = study.RESULTS / "search.csv"
    path.write_text("number,value,state\n0,0.8,COMPLETE\n")
    with pytest.raises(DataError, match=r"holds 1 trials, .*search\.db 0: it would lose"):
        run_search(0)
    assert "0.8" in path.read_text()
    with pytest.raises(ValueError, match="trials is -3"):
        run_search(-3)
