"""The search of settings with optuna: every trial kept, shared between machines, resumable."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.files.keep import replacing
from lstm_sentiment.studies import results, reviews
from lstm_sentiment.studies.presets import BASE, SEARCH_STORAGE, TRIALS
from lstm_sentiment.studies.study import fitted, versions
from lstm_sentiment.text import DataError
from lstm_sentiment.training import best_epoch

STUDY_NAME = "lstm_sentiment"
CONFIGURATION = "configuration"
HEARTBEAT = 60  # seconds; a trial is given up two of them after its last
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)  # trials that failed or still run do not count


def suggest(trial: optuna.Trial) -> dict:
    """The settings to try next.

    More units are left out: in the ablation they take twice as long and are no better.
    """
    settings = {
        "hidden_size": trial.suggest_categorical("hidden_size", [64, 128]),
        "num_layers": trial.suggest_int("num_layers", 1, 2),
        "pooling": trial.suggest_categorical("pooling", ["last", "mean_max"]),
        "bidirectional": trial.suggest_categorical("bidirectional", [False, True]),
        "embedding_dropout": trial.suggest_float("embedding_dropout", 0.0, 0.7),
        "spatial_dropout": trial.suggest_categorical("spatial_dropout", [0.0, 0.3]),
        "recurrent_dropout": trial.suggest_categorical("recurrent_dropout", [0.0, 0.2]),
        "dropout": trial.suggest_float("dropout", 0.0, 0.7),
        "freeze_embedding": trial.suggest_categorical("freeze_embedding", [False, True]),
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128]),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2),
        "averaging_decay": trial.suggest_categorical("averaging_decay", [0.0, 0.99]),
    }
    if not settings["freeze_embedding"]:
        factor = trial.suggest_float("embedding_rate_factor", 0.01, 1.0, log=True)
        settings["embedding_rate_factor"] = factor
    vectors = trial.suggest_categorical("vectors", ["imdb", "google-news-26k"])
    keep = trial.suggest_categorical("keep", ["head_and_tail", "head", "tail"])
    return {**BASE, **settings, "vectors": vectors, "keep": keep}


# `BASE` in the terms of `suggest`: the first trial, which the others have to beat.
_first = optuna.trial.FixedTrial({**SentimentClassifier().get_params(), **BASE})
suggest(_first)
START = _first.params


def run_search(seed: int = 0, trials: int = TRIALS, storage: str = SEARCH_STORAGE) -> pd.DataFrame:
    """Search the settings of `suggest` by their validation accuracy, until there are `trials`.

    The first trial is `START`, then the sampler is TPE (Bergstra et al. 2011); a trial is pruned
    when after an epoch it is below the median of the earlier ones. Every trial is kept in
    `storage`, the URL of a database: a search that was interrupted goes on there, and several
    machines, each with a `seed` of its own, can share one (those that begin together each try
    `START`). A trial whose process was killed is tried again by whoever asks next. All trials are
    written to a table, which is returned.

    Raises:
        DataError: the storage cannot be used, its trials are of another search or of another
            number of reviews or texts, or the table holds more trials than it and would lose them.
    """
    data = reviews.drawn_data()
    study = _open_search(storage, data.sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    # A sampler that goes on with the same seed would propose the first trials once more.
    sampler_seed = (1000 * seed + len(study.trials)) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=sampler_seed)
    begun = (
        trial.state == TrialState.WAITING or (trial.params == START and trial.state in ENDED)
        for trial in study.trials
    )
    if not any(begun):  # a first trial that was killed stays RUNNING and is none
        study.enqueue_trial(START)

    def objective(trial: optuna.Trial) -> float:
        def report(row: dict) -> None:
            trial.report(row["validation_accuracy"], row["epoch"])
            trial.set_user_attr("seconds", trial.user_attrs.get("seconds", 0) + row["seconds"])
            if trial.should_prune():
                raise optuna.TrialPruned

        parameters = suggest(trial)
        facts = {CONFIGURATION: json.dumps(parameters), **data.sizes, **versions()}
        for name, value in facts.items():
            trial.set_user_attr(name, value)
        try:
            classifier = fitted(parameters, data, report)
        except FloatingPointError as error:  # a rate too high is a bad trial, not the search's end
            raise optuna.TrialPruned(str(error)) from error
        return best_epoch(classifier.history_)["validation_accuracy"]

    def write(study: optuna.Study, _) -> None:
        with replacing(results.RESULTS / "search.csv") as part:
            _table(study).to_csv(part, index=False)

    if sum(trial.state in ENDED for trial in study.trials) < trials:
        enough = MaxTrialsCallback(trials, states=ENDED)
        study.optimize(objective, callbacks=[write, enough])
    write(study, None)
    return _table(study)


def _open_search(storage: str, sizes: dict[str, int]) -> optuna.Study:
    """What `storage` holds of the search.

    Refused is what would mix trials of other data or settings, or lose those that the table holds.
    """
    # Wherever a mistyped URL has its password.
    shown = storage if storage.startswith("sqlite:///") else storage.partition(":")[0] + "://..."
    Path("artifacts").mkdir(exist_ok=True)  # for the default storage
    try:
        study = optuna.create_study(
            storage=_database(storage),
            study_name=STUDY_NAME,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        )
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError, OSError) as error:
        # Their messages may hold the password.
        raise DataError(
            f"--storage {shown} cannot be used ({type(error).__name__}): check that it is a URL of "
            "a database that exists, that its driver is installed, user and password"
        ) from None
    ended = [trial for trial in study.trials if trial.state in ENDED]
    sizes = {name: sizes[name] for name in ("train_n", "validation_n", "unlabelled_n")}
    is_maximum = study.directions == [optuna.study.StudyDirection.MAXIMIZE]
    if not is_maximum or not all(_is_of_this_search(trial, sizes) for trial in ended):
        raise DataError(f"{shown} holds another study of the name {STUDY_NAME}; give another one")
    if any(trial.user_attrs[name] != size for trial in ended for name, size in sizes.items()):
        raise DataError(
            f"the trials in {shown} are of other data; give another --storage, or delete that one"
        )
    path = results.RESULTS / "search.csv"
    n_written = len(results.read_search()) if path.exists() else 0
    if n_written > len(study.trials):
        raise DataError(
            f"{path} holds {n_written} trials, {shown} {len(study.trials)}: it would lose what "
            "another storage found; give that one as --storage, or move the table away"
        )
    return study


def _database(url: str) -> RDBStorage:
    """It knows trials whose process was killed by their missing heartbeat, and queues them anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        again = RetryHeartbeatStaleTrialCallback()
        options = {"heartbeat_interval": HEARTBEAT, "heartbeat_stale_trial_callback": again}
        try:
            return RDBStorage(url, **options)
        except (IntegrityError, ProgrammingError):  # another made the same tables at this moment
            return RDBStorage(url, **options)


def _is_of_this_search(trial: optuna.trial.FrozenTrial, sizes: dict[str, int]) -> bool:
    """Whether a trial chose from the same settings, and says on what it was run."""
    if not set(trial.params) <= set(START) or not {*sizes, CONFIGURATION} <= set(trial.user_attrs):
        return False
    known = SentimentClassifier().get_params()
    return set(json.loads(trial.user_attrs[CONFIGURATION])) <= set(known)


def _table(study: optuna.Study) -> pd.DataFrame:
    """One row per trial, the pruned ones included; params_ and user_attrs_ begin its columns."""
    return study.trials_dataframe(("number", "value", "state", "params", "user_attrs"))
