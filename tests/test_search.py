"""The search: every trial is kept, it goes on where it stopped, and nothing foreign is mixed in."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import ExitStack, closing
from functools import partial
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.studies import results, reviews, search
from lstm_sentiment.studies.presets import BASE
from lstm_sentiment.studies.results import best_of_search, read_search
from lstm_sentiment.studies.reviews import StudyData
from lstm_sentiment.studies.search import START, run_search, suggest
from lstm_sentiment.text import DataError

pytestmark = pytest.mark.filterwarnings("ignore:Selection of the SingletonThreadPool")


@pytest.fixture(autouse=True)
def small_world(tmp_path, monkeypatch):
    """Forty made-up reviews, seven texts without labels, and tables in a new folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(search, "HEARTBEAT", None)  # databases in memory know one writer only
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    labels = np.arange(40) % 2
    lists = [[("bad", "good")[label], "film", f"w{n}"] for n, label in enumerate(labels)]
    sets = ("train", "validation", "held_out")
    data = StudyData(dict.fromkeys(sets, lists), dict.fromkeys(sets, labels), lists, lists[:7])
    monkeypatch.setattr(reviews, "drawn_data", lambda: data)


@pytest.fixture
def database():
    """Gives the URL of a database of that name in memory, where writing takes no time."""
    with ExitStack() as kept:

        def url(name: str) -> str:
            address = f"file:{name}-{id(kept)}?mode=memory&cache=shared"
            kept.enter_context(closing(sqlite3.connect(address, uri=True)))
            return f"sqlite:///{address}&uri=true"

        yield url


@pytest.fixture
def search_on(database):
    """`run_search` in a database of this test."""
    return partial(run_search, storage=database("its_own"))


@pytest.fixture
def accuracies(monkeypatch):
    """Replaces training: trials have these accuracies after both of two epochs, then 0.5."""
    values = []

    def fitted(parameters, data, on_epoch):
        value = values.pop(0) if values else 0.5
        if isinstance(value, BaseException):
            raise value
        history = {"epoch": [1, 2], "validation_accuracy": value, "seconds": 1.0, "is_best": True}
        history = pd.DataFrame(history)
        for row in history.to_dict("records"):
            on_epoch(row)
        return SimpleNamespace(history_=history)

    monkeypatch.setattr(search, "fitted", fitted)
    return values


def test_it_trains_and_the_best_trial_can_be_trained_again(monkeypatch):
    def small(trial):
        rate = trial.suggest_float("learning_rate", 1e-3, 0.1, log=True)
        sizes = {"vector_size": 4, "hidden_size": 4, "min_count": 1, "epochs": 2}
        return {"vectors": None, "learning_rate": rate, **sizes}

    monkeypatch.setattr(search, "suggest", small)
    monkeypatch.setattr(search, "START", {"learning_rate": 0.05})
    table = run_search(trials=3)
    assert table["state"].isin(["COMPLETE", "PRUNED"]).all()
    assert table["params_learning_rate"][0] == 0.05
    assert table["value"].between(0, 1).all()
    assert (table["user_attrs_seconds"] > 0).all()
    assert {"user_attrs_torch", "user_attrs_processor"} <= set(table)
    assert table["user_attrs_train_n"].tolist() == [40] * 3
    best = best_of_search()
    assert best["learning_rate"] in table["params_learning_rate"].tolist()
    assert SentimentClassifier(**best).epochs == 2


def test_it_begins_with_the_base():
    assert suggest(optuna.trial.FixedTrial(START)) == {
        **BASE,
        **{"num_layers": 1, "bidirectional": False, "spatial_dropout": 0.0},
        **{"recurrent_dropout": 0.0, "freeze_embedding": False},
        **{"label_smoothing": 0.0, "averaging_decay": 0.0},
    }


def test_it_keeps_every_trial_and_goes_on(accuracies, search_on):
    search_on(trials=3)
    table = search_on(trials=5)
    assert table["number"].tolist() == [0, 1, 2, 3, 4]
    assert table["params_learning_rate"].is_unique
    assert table["params_learning_rate"][0] == START["learning_rate"]
    assert set(json.loads(table["user_attrs_configuration"][4])) >= set(BASE)
    assert len(search_on(trials=5)) == 5
    (results.RESULTS / "search.csv").unlink()
    assert len(search_on(trials=0)) == len(read_search()) == 5, "no more trials, but their table"


def test_a_trial_below_the_median_is_stopped_and_one_that_diverges_is_a_bad_trial_only(
    accuracies, search_on
):
    accuracies += [0.9, 0.8, FloatingPointError("loss"), 0.7, 0.85, 0.75, 0.5]
    table = search_on(trials=7)
    pruned = table["state"] == "PRUNED"
    assert table.index[pruned].tolist() == [2, 6]
    assert (table["state"][~pruned] == "COMPLETE").all()
    assert table["value"].drop(2).tolist() == [0.9, 0.8, 0.7, 0.85, 0.75, 0.5]
    assert table["user_attrs_seconds"].drop(2).tolist() == [*[2.0] * 5, 1.0]


def test_the_base_is_tried_again_where_its_trial_was_interrupted_or_killed(accuracies, database):
    storage = database("killed")
    name = search.STUDY_NAME
    killed = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    killed.enqueue_trial(START)
    suggest(killed.ask())  # and is never told
    accuracies += [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        run_search(trials=1, storage=storage)
    table = run_search(trials=2, storage=storage)
    assert table["state"].tolist() == ["RUNNING", "FAIL", "COMPLETE", "COMPLETE"]
    rates = table["params_learning_rate"]
    assert rates[:3].tolist() == [START["learning_rate"]] * 3
    assert rates[3] != START["learning_rate"]


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_whose_process_was_killed_is_tried_again(accuracies, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "HEARTBEAT", 1)
    url, name = f"sqlite:///{tmp_path}/stale.db", search.STUDY_NAME
    storage = search._database(url)
    killed = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    killed.enqueue_trial(START)
    trial = killed.ask()
    suggest(trial)
    storage.record_heartbeat(trial._trial_id)
    assert run_search(trials=1, storage=url)["state"].tolist() == ["RUNNING", "COMPLETE"]
    time.sleep(3.5)  # two heartbeats are missing, of which SQLite keeps whole seconds
    table = run_search(trials=3, storage=url)
    assert table["state"].tolist() == ["FAIL", *3 * ["COMPLETE"]]
    rates = table["params_learning_rate"]
    assert rates[:3].tolist() == [START["learning_rate"]] * 3
    assert rates[3] != START["learning_rate"]


def test_the_seed_decides_and_searches_with_other_seeds_share_a_storage(accuracies, database):
    def settings(seed: int, name: str, trials: int = 2) -> pd.DataFrame:
        table = run_search(seed, trials=trials, storage=database(name))
        (results.RESULTS / "search.csv").unlink()
        return table.filter(like="params_")

    first, greatest = settings(0, "first"), 2**32 - 1
    assert first.equals(settings(0, "same"))
    assert not first.equals(settings(greatest, "other"))
    assert settings(greatest, "first", trials=4)["params_learning_rate"].nunique() == 4


FACTS = {"configuration": "{}", "train_n": 40, "validation_n": 40, "unlabelled_n": 7}


@pytest.mark.parametrize(
    ("direction", "parameter", "facts", "reason"),
    [
        ("minimize", "dropout", FACTS, "another study"),
        ("maximize", "depth", FACTS, "another study"),
        ("maximize", "dropout", {**FACTS, "configuration": '{"model": {}}'}, "another study"),
        ("maximize", "dropout", {}, "another study"),
        ("maximize", "dropout", {**FACTS, "unlabelled_n": 8}, "other data"),
    ],
)
def test_trials_of_another_study_or_other_data_are_refused_and_the_table_stays(
    accuracies, database, search_on, direction, parameter, facts, reason
):
    search_on(trials=1)
    before = (results.RESULTS / "search.csv").read_bytes()
    storage = database("foreign")
    study = optuna.create_study(storage=storage, study_name=search.STUDY_NAME, direction=direction)
    between = {parameter: optuna.distributions.FloatDistribution(0, 1)}
    trial = {"params": {parameter: 0.5}, "distributions": between, "user_attrs": facts}
    study.add_trial(optuna.create_trial(value=0.9, **trial))
    with pytest.raises(DataError, match=f"foreign.* (holds|are of) {reason}"):
        run_search(trials=3, storage=storage)
    assert (results.RESULTS / "search.csv").read_bytes() == before


def test_trials_that_the_storage_does_not_know_are_not_replaced(accuracies, database, search_on):
    search_on(trials=1)
    with pytest.raises(DataError, match=r"holds 1 trials, .*new\S* 0: it would lose"):
        run_search(trials=0, storage=database("new"))
    assert len(read_search()) == 1


@pytest.mark.parametrize(
    "storage",
    [
        "nosuch://me:s3cr?et/1@host/db",
        "postgresql://me:s3cr?et/1@127.0.0.1:1/db",
        "mysql://127.0.0.1/db?user=me&password=s3cr?et/1",
        "sqlite:////no/such/folder/s.db",
        "postgresql://me:s3cr?et/1",
        "no URL",
    ],
)
def test_a_storage_that_cannot_be_used_is_said_without_its_password(storage):
    with pytest.raises(DataError, match=r"^--storage .* cannot be used") as raised:
        run_search(trials=1, storage=storage)
    assert "s3cr" not in str(raised.value)
    assert raised.value.__suppress_context__
    assert storage.split(":")[0] in str(raised.value)
