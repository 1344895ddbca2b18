"""One LSTM that learns from labels, and from what a teacher makes of reviews that have none.

The teacher is two models that err differently: an LSTM fine-tuned from the language model, and
NB-weighted bigrams. Its probabilities are the labels of 49,000 more reviews (Hinton et al. 2015,
"Distilling the Knowledge in a Neural Network"). Because people type one sentence, pieces of every
review are learnt from as well, and sentences that negate (`negation.py`). Tokenized reviews enter;
a `SentimentClassifier` leaves, the one that comes with the package if it is given all labels
(`weights.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.pipeline import Pipeline

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.evaluation import evaluate, fit_temperature
from lstm_sentiment.studies import presets, results, reviews
from lstm_sentiment.studies.baselines import nb_weighted_bigrams
from lstm_sentiment.studies.negation import made_sentences
from lstm_sentiment.studies.results import read_study, read_table
from lstm_sentiment.studies.reviews import StudyData
from lstm_sentiment.studies.study import append_row, held_out, versions
from lstm_sentiment.text import tokenize_all

# Two hundred, written for this; half of them negate or turn.
SENTENCES = Path("tests/data/short_sentences.csv")
MADE_SENTENCES = 60_000
TABLE = results.RESULTS / "distillation.csv"
Labelled = tuple[Sequence[Sequence[str]], np.ndarray]


class Teacher(NamedTuple):
    """Probabilities from the mean of two models' log-odds."""

    lstm: SentimentClassifier
    bigrams: Pipeline
    temperature: float = 1.0  # the mean is too cautious: where both are right, it is no surer

    def log_odds(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        both = [each.predict_proba(texts)[:, 1].clip(1e-6, 1 - 1e-6) for each in self[:2]]
        return np.mean(logit(np.asarray(both, dtype=np.float64)), axis=0) / self.temperature

    def predict_proba(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """(n, 2) probabilities of negative and positive."""
        positive = expit(self.log_odds(texts))
        return np.stack([1 - positive, positive], axis=1)


def make_teacher(training: Labelled, validation: Labelled, seed: int = 0) -> Teacher:
    """Of reviews and labels 0 and 1; `validation` chooses the epoch and the temperature."""
    lstm = SentimentClassifier(**presets.PRETRAINED, random_state=seed)
    teacher = Teacher(lstm.fit(*training, validation), nb_weighted_bigrams(*training))
    return teacher._replace(
        temperature=fit_temperature(validation[1], teacher.log_odds(validation[0]))
    )


def distilled(
    training: Labelled,
    validation: Labelled,
    unlabelled: Sequence[Sequence[str]],
    teacher: Teacher,
    seed: int = 0,
) -> SentimentClassifier:
    """The classifier of these labels, of what `teacher` makes of `unlabelled`, and of sentences
    made to negate and turn."""
    token_lists, labels = training
    classes, numbers = np.unique(labels, return_inverse=True)
    sentences, sentiments = made_sentences(token_lists, numbers, MADE_SENTENCES, seed)
    texts = [*token_lists, *sentences]
    labels = np.append(labels, classes[sentiments.astype(int)])
    student = SentimentClassifier(**presets.DISTILLED, random_state=seed)
    return student.fit(texts, labels, validation, unlabelled=unlabelled, teacher=teacher)


def run_distillation(seeds: Iterable[int]) -> pd.DataFrame:
    """Judge teacher and classifier on reviews that no choice has seen: with 7,000 labels, once per
    seed, and with 14,000, once. What the table lacks is added to it; the table is returned.

    Besides a study's columns, rows have the shares right of plain and of turned short sentences.
    """
    for more_labels, seed in [*((False, seed) for seed in seeds), (True, 0)]:
        data = reviews.final_data(more_labels)
        suffix = f", {data.sizes['train_n']:,} labels" if more_labels else ""
        if not _is_there(f"classifier{suffix}", seed):
            for name, row in _judged(data, seed):
                about = {"name": name + suffix, "seed": seed, **data.sizes}
                append_row(TABLE, about | row | versions())
    return read_study("distillation")


def _is_there(name: str, seed: int) -> bool:
    if not TABLE.exists():
        return False
    table = read_table(TABLE)
    return bool(((table["name"] == name) & (table["seed"] == seed)).any())


def _judged(data: StudyData, seed: int) -> Iterator[tuple[str, dict]]:
    """Each model by name, what it is made of, how often it is right, seconds to make them all."""
    start = time.perf_counter()
    training, validation = (
        (data.token_lists[name], data.labels[name]) for name in ("train", "validation")
    )
    teacher = make_teacher(training, validation, seed)
    classifier = distilled(training, validation, data.unlabelled, teacher, seed)
    seconds = time.perf_counter() - start
    configuration = {"teacher": presets.PRETRAINED, "classifier": presets.DISTILLED}
    models = {"fine-tuned LSTM": teacher.lstm, "NB-weighted bigrams": teacher.bigrams}
    for name, model in {**models, "teacher": teacher, "classifier": classifier}.items():
        row = {"configuration": json.dumps(configuration), "seconds": seconds}
        probabilities = {
            part: model.predict_proba(data.token_lists[part])[:, 1]
            for part in ("validation", "choosing", "held_out")
        }
        for part in ("validation", "choosing"):
            row[f"{part}_accuracy"] = evaluate(data.labels[part], probabilities[part])["accuracy"]
        row |= held_out(data, probabilities["held_out"])
        yield name, row | right_sentences(model)


def right_sentences(model: Any) -> dict[str, float]:
    """The share of short sentences, plain and turned, that a model judges right."""
    table = pd.read_csv(SENTENCES)
    positive = model.predict_proba(tokenize_all(table["review"]))[:, 1] >= 0.5
    is_right = pd.Series(positive == (table["sentiment"] == "positive").to_numpy())
    return is_right.groupby(table["kind"]).mean().to_dict()
