"""Experiments that take longer than the report may: several seeds, many settings, pre-training.

`python -m lstm_sentiment study NAME` runs one and adds a row to a table under `notebooks/results`
after every training, with the parameters, the seed, the number of reviews, the versions and the
seconds. A row that is there is not computed again, so a study that was interrupted goes on; the
report reads the tables (`results.py`). `reviews.py` says what is learnt from and held out.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.embeddings import load_word_vectors, train_word_vectors
from lstm_sentiment.evaluation import evaluate
from lstm_sentiment.files.keep import replacing
from lstm_sentiment.report.speed import machine
from lstm_sentiment.studies import presets, results, reviews
from lstm_sentiment.studies.results import read_study, read_table, summarise_study
from lstm_sentiment.studies.reviews import StudyData
from lstm_sentiment.text import DataError, Vocabulary
from lstm_sentiment.training import best_epoch


class Experiment(NamedTuple):
    """A row of a study: parameters of `SentimentClassifier`, and the reviews it is given."""

    name: str
    parameters: Mapping
    data: StudyData


def run(
    name: str,
    seeds: Iterable[int] | None = None,
    trials: int | None = None,
    storage: str | None = None,
) -> pd.DataFrame:
    """Run what is missing of a study, and summarise its table.

    Args:
        name: one of `presets.STUDY_NAMES`.
        seeds: each trains once more; the search takes one.
        trials, storage: of the search only, see `search.run_search`.

    Raises:
        DataError: the study has no such option; something could not be run, the rest was; or a
            table is damaged.
    """
    given = {"seeds": seeds, "trials": trials, "storage": storage}
    meant = {"search": given, "baselines": (), "scaling": ()}.get(name, ("seeds",))
    if idle := [
        f"--{option}" for option in given if given[option] is not None and option not in meant
    ]:
        raise DataError(f"study {name} has no option {', '.join(idle)}")
    there = "" if results.RESULTS.is_dir() else ", which does not exist yet"
    print(f"the table is {name}.csv in {results.RESULTS.absolute()}{there}")
    if name == "search":
        return _run_search(seeds or presets.SEEDS[:1], trials, storage)
    if name == "scaling":
        from lstm_sentiment.studies.scaling import run_scaling

        return run_scaling()
    if name == "baselines":
        return summarise_study(run_baselines())
    if name == "distillation":
        from lstm_sentiment.studies.distillation import run_distillation

        return summarise_study(run_distillation(seeds or presets.SEEDS))
    return summarise_study(run_study(name, seeds or presets.SEEDS))


def _run_search(seeds: Iterable[int], trials: int | None, storage: str | None) -> pd.DataFrame:
    try:
        from lstm_sentiment.studies.search import run_search
    except ImportError as error:
        raise DataError(f"the search needs optuna ({error}); run: pip install optuna") from error
    seed, *more = seeds
    if more:
        raise DataError(f"a search has one seed, got {[seed, *more]}; give one")
    given = {"trials": trials, "storage": storage}
    return run_search(seed, **{name: value for name, value in given.items() if value is not None})


def run_study(name: str, seeds: Iterable[int] = presets.SEEDS) -> pd.DataFrame:
    """Run what is missing of one of `STUDIES`; the whole table, as `read_study` reads it.

    Raises:
        DataError: something could not be run, such as vectors that could not be fetched; the rest
            was. Or the table is damaged.
    """
    failures = []
    try:
        for experiment, seed in missing(name, seeds):
            label = f"{experiment.name}, seed {seed}"
            try:
                row = _row(experiment, seed) | _judged(experiment, seed) | versions()
            except (DataError, FloatingPointError) as error:
                failures.append(f"{label}: {error}")
                continue
            append_row(results.RESULTS / f"{name}.csv", row)
            print(f"{label}: {row['validation_accuracy']:.2%} on validation")
    except DataError as error:  # a table that cannot be read ends the study, and is said with them
        failures.append(str(error))
    if failures:
        raise DataError("; ".join(failures))
    return read_study(name)


def missing(name: str, seeds: Iterable[int] = presets.SEEDS) -> Iterator[tuple[Experiment, int]]:
    """The trainings that a study's table lacks, each looked up when its turn comes.

    One is there if the latest row of its name and seed has the same parameters and as many reviews
    and texts. A parameter that a row does not know yet had today's default.

    Raises:
        DataError: the table is damaged.
    """
    path = results.RESULTS / f"{name}.csv"
    for experiment in STUDIES[name]():
        for seed in seeds:
            wanted = _row(experiment, seed)
            table = read_table(path) if path.exists() else pd.DataFrame(columns=list(wanted))
            rows = table[(table["name"] == experiment.name) & (table["seed"] == seed)]
            if rows.empty or not _same(rows.iloc[-1], wanted):
                yield experiment, seed


def _row(experiment: Experiment, seed: int) -> dict:
    """What is known of a row before it is run."""
    parameters = {**_defaults(), **experiment.parameters, "random_state": seed}
    what = {"name": experiment.name, "seed": seed, "configuration": json.dumps(parameters)}
    return what | experiment.data.sizes


def _same(row: Mapping, wanted: Mapping) -> bool:
    parameters = {**_defaults(), **json.loads(row["configuration"])}
    sizes = [name for name in wanted if name.endswith("_n")]
    return parameters == json.loads(wanted["configuration"]) and all(
        row[name] == wanted[name] for name in sizes
    )


def _defaults() -> dict:
    parameters = SentimentClassifier().get_params()
    del parameters["vocabulary"]  # comes from the texts
    return parameters


def _judged(experiment: Experiment, seed: int) -> dict[str, float]:
    """Train; what came out and how long it took."""
    data = experiment.data
    classifier = fitted({**experiment.parameters, "random_state": seed}, data)
    best = best_epoch(classifier.history_)
    probabilities = classifier.predict_proba(data.token_lists["held_out"])[:, 1]
    return {
        "validation_accuracy": best["validation_accuracy"],
        **held_out(data, probabilities),
        "best_epoch": int(best["epoch"]),
        "seconds": classifier.history_["seconds"].sum(),
    }


def fitted(
    parameters: Mapping, data: StudyData, on_epoch: Callable[[dict], None] | None = None
) -> SentimentClassifier:
    """The classifier with these parameters, see `Experiment`, of the reviews of a study.

    Its vocabulary and the vectors "own" come from the texts that the study has for them.

    Raises:
        DataError: word vectors cannot be had.
        FloatingPointError: the training diverged.
        KeyboardInterrupt: it was interrupted; half a training is none.
    """
    token_lists, labels = data.token_lists, data.labels
    classifier = SentimentClassifier(**parameters)
    if classifier.start is None:
        classifier.vocabulary = Vocabulary.from_tokens(
            data.vocabulary_texts, classifier.min_count, classifier.max_words
        )
    if classifier.vectors == "own":
        classifier.vectors = train_word_vectors(data.unlabelled, classifier.vector_size)
    validation = token_lists["validation"], labels["validation"]
    classifier.fit(token_lists["train"], labels["train"], validation, on_epoch=on_epoch)
    if len(classifier.history_) < classifier.epochs:
        raise KeyboardInterrupt
    return classifier


def held_out(data: StudyData, probabilities: np.ndarray) -> dict[str, float]:
    result = evaluate(data.labels["held_out"], probabilities)
    low, high = result["accuracy_95"]
    return {"held_out_accuracy": result["accuracy"], "held_out_low": low, "held_out_high": high}


def append_row(path: Path, row: Mapping) -> None:
    """One more row, whole or not at all, though another process may be adding one as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        table = pd.DataFrame([row])
        if path.exists():
            table = pd.concat([read_table(path), table])
        with replacing(path) as part:
            table.to_csv(part, index=False)


def versions() -> dict[str, str]:
    """What a training ran on, and with what."""
    return machine() | {name: version(name) for name in ("numpy", "gensim", "scikit-learn")}


def run_baselines() -> pd.DataFrame:
    """Fit the models that are no network on the same reviews; the table."""
    from lstm_sentiment.studies import baselines

    data = reviews.drawn_data()
    vectors = load_word_vectors("imdb")
    fits = {
        "TF-IDF + logistic regression": baselines.tfidf_logistic_regression,
        "NB-weighted bigrams": baselines.nb_weighted_bigrams,
        "averaged word vectors": lambda *training: baselines.averaged_word_vectors(
            *training, vectors
        ),
    }
    rows = []
    for name, fit in fits.items():
        start = time.perf_counter()
        model = fit(data.token_lists["train"], data.labels["train"])
        seconds = time.perf_counter() - start
        probabilities = {
            part: model.predict_proba(data.token_lists[part])[:, 1] for part in results.PARTS
        }
        validation = evaluate(data.labels["validation"], probabilities["validation"])
        description = re.sub(r" at 0x\w+|\s+", " ", repr(model))
        row = {"name": name, "seed": 0, "configuration": json.dumps({"model": description})}
        row |= data.sizes | {"validation_accuracy": validation["accuracy"]}
        row |= held_out(data, probabilities["held_out"])
        rows.append(row | {"seconds": seconds} | versions())
    with replacing(results.RESULTS / "baselines.csv") as part:
        pd.DataFrame(rows).to_csv(part, index=False)
    return read_study("baselines")


# ---- The studies ----


def _each(settings: Mapping[str, Mapping], data: StudyData) -> Iterator[Experiment]:
    for name, parameters in settings.items():
        yield Experiment(name, parameters, data)


def _ablation() -> Iterator[Experiment]:
    yield from _each(presets.ABLATION, reviews.drawn_data())
    yield Experiment("words in random order", presets.BASE, reviews.shuffled_data())


def _full_length() -> Iterator[Experiment]:
    yield from _each(presets.FULL_LENGTH, reviews.drawn_data())
    if (results.RESULTS / "search.csv").exists():
        yield Experiment(
            "best of the search, 6 epochs", results.best_of_search(), reviews.drawn_data()
        )


def _all_labels() -> Iterator[Experiment]:
    settings = {"base": presets.BASE, "17 epochs": presets.LONGER, **presets.PRESETS}
    return _each(settings, reviews.all_data())


def _presets() -> Iterator[Experiment]:
    return _each({**presets.PRESETS, "base": presets.BASE}, reviews.drawn_data())


def _leaks() -> Iterator[Experiment]:
    for name, kind in presets.LEAKS.items():
        yield Experiment(name, presets.BASE, reviews.leak_data(kind))


STUDIES: dict[str, Callable[[], Iterator[Experiment]]] = {
    "ablation": _ablation,
    "full-length": _full_length,
    "all-labels": _all_labels,
    "presets": _presets,
    "leaks": _leaks,
}
