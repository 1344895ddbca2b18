"""One LSTM that learns from labels, and from what a teacher makes of reviews that have none.

The teacher is two models that err differently: an LSTM fine-tuned from the language model with
adversarial steps, and NB-weighted bigrams. Its probabilities are the labels of 49,000 more reviews
(Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"). Because people type one
sentence, pieces of every review are learnt from as well, and sentences that negate (`negation.py`).
Tokenized reviews enter; a `SentimentClassifier` leaves, the one that comes with the package if it
is given all labels (`weights.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.evaluation import compare, evaluate
from lstm_sentiment.studies import presets, results, reviews
from lstm_sentiment.studies.baselines import nb_weighted_bigrams
from lstm_sentiment.studies.language_model import language_model
from lstm_sentiment.studies.negation import made_sentences
from lstm_sentiment.studies.results import read_study, read_table
from lstm_sentiment.studies.reviews import StudyData
from lstm_sentiment.studies.study import append_row, held_out, versions
from lstm_sentiment.text import tokenize_all

# Two hundred, written for this; half of them negate or turn.
SENTENCES = Path("tests/data/short_sentences.csv")
MADE_SENTENCES = 60_000
TABLE = results.RESULTS / "distillation.csv"
CONFIGURATION = json.dumps(
    {
        "fine-tuned LSTM": presets.PRETRAINED,
        "teacher": presets.ADVERSARIAL,
        "classifier": presets.DISTILLED,
    }
)
Labelled = tuple[Sequence[Sequence[str]], np.ndarray]


class Teacher(NamedTuple):
    """Models that err differently, and how much each of their log-odds counts."""

    models: tuple[Pipeline, SentimentClassifier]
    weights: LogisticRegression

    def predict_proba(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """(n, 2) probabilities of negative and positive."""
        return self.weights.predict_proba(log_odds(self.models, texts))


def make_teacher(models: tuple[Pipeline, SentimentClassifier], validation: Labelled) -> Teacher:
    """Of two models and reviews with labels 0 and 1, by which they are weighed."""
    weights = LogisticRegression().fit(log_odds(models, validation[0]), validation[1])
    return Teacher(models, weights)


def log_odds(models: Iterable[Any], texts: Sequence[Sequence[str]]) -> np.ndarray:
    """(n, models) of "positive"; none is surer than a million to one."""
    said = [model.predict_proba(texts)[:, 1] for model in models]
    return logit(np.stack(said, axis=1).astype(np.float64).clip(1e-6, 1 - 1e-6))


def distilled(
    training: Labelled,
    validation: Labelled,
    unlabelled: Sequence[Sequence[str]],
    teacher: Teacher,
    seed: int = 0,
) -> SentimentClassifier:
    """The classifier of these labels, of what `teacher` makes of `unlabelled`, and of sentences
    made to negate and turn; it starts from a language model of its own size."""
    token_lists, labels = training
    classes, numbers = np.unique(labels, return_inverse=True)
    sentences, sentiments = made_sentences(token_lists, numbers, MADE_SENTENCES, seed)
    texts = [*token_lists, *sentences]
    labels = np.append(labels, classes[sentiments.astype(int)])
    start = language_model(hidden_size=presets.DISTILLED["hidden_size"])
    student = SentimentClassifier(**presets.DISTILLED, start=start, random_state=seed)
    return student.fit(texts, labels, validation, unlabelled=unlabelled, teacher=teacher)


def run_distillation(seeds: Iterable[int]) -> pd.DataFrame:
    """Judge the classifier and all that leads to it on reviews that no choice has seen: with 7,000
    labels, once per seed, and with 14,000, once. What the table lacks is added to it; the table is
    returned.

    Besides a study's columns, rows have the shares right of plain and of turned short sentences,
    and, of held-out reviews, how many only this model judges right and how many only the bigrams
    do, with the p-value of McNemar's test. Their seconds are those of the training that the row
    adds: of the teacher to weigh the two before it, of the classifier without its teacher's.
    """
    for more_labels, seed in [*((False, seed) for seed in seeds), (True, 0)]:
        data = reviews.final_data(more_labels)
        suffix = f", {data.sizes['train_n']:,} labels" if more_labels else ""
        if not _is_there(f"classifier{suffix}", seed):
            start, rival = time.perf_counter(), None
            for name, model in _made(data, seed):
                seconds = time.perf_counter() - start
                about = {"name": name + suffix, "seed": seed, "configuration": CONFIGURATION}
                about |= {"seconds": seconds, **data.sizes}
                said = {
                    part: model.predict_proba(texts)[:, 1]
                    for part, texts in data.token_lists.items()
                    if part != "train"
                }
                rival = said["held_out"] if rival is None else rival
                row = about | _judged(said, data, rival) | right_sentences(model) | versions()
                append_row(TABLE, row)
                start = time.perf_counter()
    return read_study("distillation")


def _is_there(name: str, seed: int) -> bool:
    if not TABLE.exists():
        return False
    table = read_table(TABLE)
    return bool(((table["name"] == name) & (table["seed"] == seed)).any())


def _made(data: StudyData, seed: int) -> Iterator[tuple[str, Any]]:
    """Each model by name, as soon as it is there."""
    training, validation = (
        (data.token_lists[name], data.labels[name]) for name in ("train", "validation")
    )
    bigrams = nb_weighted_bigrams(*training)
    yield "NB-weighted bigrams", bigrams
    plain = SentimentClassifier(**presets.PRETRAINED, random_state=seed)
    yield "fine-tuned LSTM", plain.fit(*training, validation)
    adversarial = SentimentClassifier(**presets.ADVERSARIAL, random_state=seed)
    yield "with adversarial steps", adversarial.fit(*training, validation)
    teacher = make_teacher((bigrams, adversarial), validation)
    yield "teacher", teacher
    yield "classifier", distilled(training, validation, data.unlabelled, teacher, seed)


def _judged(said: dict[str, np.ndarray], data: StudyData, rival: np.ndarray) -> dict:
    """How often a model is right that `said` these probabilities of each part's reviews, and
    whether chance explains that it is right more often on the held-out ones than `rival`."""
    accuracies = {
        f"{part}_accuracy": evaluate(data.labels[part], positive)["accuracy"]
        for part, positive in said.items()
    }
    duel = compare(data.labels["held_out"], said["held_out"], rival)
    paired = {
        "only_right": duel["only_a_right"],
        "only_bigrams_right": duel["only_b_right"],
        "p_value": duel["p_value"],
    }
    return accuracies | held_out(data, said["held_out"]) | paired


def right_sentences(model: Any) -> dict[str, float]:
    """The share of short sentences, plain and turned, that a model judges right."""
    table = pd.read_csv(SENTENCES)
    positive = model.predict_proba(tokenize_all(table["review"]))[:, 1] >= 0.5
    is_right = pd.Series(positive == (table["sentiment"] == "positive").to_numpy())
    return is_right.groupby(table["kind"]).mean().to_dict()
