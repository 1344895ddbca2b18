"""Attacks by strangers and by clumsy users: how one is made; the kinds are in the modules.

An attempt is refused, by an error that its kind may end with, or answered, and then the attack has
compared the answer with what is known to be right. Any other end is a failure.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import io
import json
import random
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from lstm_sentiment.__main__ import main
from lstm_sentiment.classifier import SentimentClassifier
from tests.examples import zipped

ATTACKS: dict[Callable, tuple[int, tuple]] = {}  # attempts of the long form, what may refuse them
WORDS = "good bad not superb a 10 =1+1 NULL & \" ' ; , caf\u00e9 <br/> \U0001f600".split()  # noqa: SIM905


class Refused(Exception):
    """A command ended with an error in one line."""


def attack(attempts: int, *refusals: type[Exception]) -> Callable:
    def add(function: Callable) -> Callable:
        ATTACKS[function] = attempts, refusals
        return function

    return add


def mutated(content: bytes, rng: random.Random) -> bytes:
    """With a few bytes changed, removed, doubled or put in, or the end cut off."""
    data = bytearray(content)
    inserted = [b'"', b"\r", b"\n", b",", b"\0", b"\xff", b"\xef\xbb\xbf", b"<<<<<<< HEAD\n", b"-"]
    for _ in range(rng.choice([1, 1, 2, 6])):
        at, n = rng.randrange(len(data) + 1), rng.randint(1, 40)
        if rng.random() < 0.5:
            data[at:at] = rng.choice(inserted)
        elif rng.random() < 0.9:
            data[at : at + n] = rng.choice([rng.randbytes(n), b"", 2 * data[at : at + n], b"9" * n])
        else:
            del data[max(1, at) :]
    return bytes(data)


def text_of(rng: random.Random) -> str:
    words = rng.choices(WORDS, k=rng.randint(1, 12))
    return f"film {rng.choice([' ', '  ', chr(10), ', ', chr(0x2028)]).join(words)}"


def labelled(rng: random.Random) -> list[tuple[str, str]]:
    sentiments = ["positive", "negative"] * rng.randint(1, 15)
    return [(f"{n} {text_of(rng)}", sentiment) for n, sentiment in enumerate(sentiments)]


def packed(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return gzip.compress(content, 1)
    return zipped({"a.csv": content}, compression=zipfile.ZIP_DEFLATED)


@functools.cache
def classifier() -> SentimentClassifier:
    texts, labels = ["good superb film", "bad boring film"] * 8, [1, 0] * 8
    options = {"vectors": None, "vector_size": 8, "hidden_size": 8, "max_length": 50}
    return SentimentClassifier(**options, epochs=2, min_count=1).fit(texts, labels, (texts, labels))


def command(*arguments: object, given: bytes = b"") -> str:
    """What a command prints; Refused where it ends with one line that says why."""
    printed, errors = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with (
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(given))),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
    ):
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as ended:  # by argparse
            status = ended.code
    printed.seek(0)
    if status == 0:
        return printed.read()
    said, begin = errors.getvalue(), "error: " if status == 1 else "lstm-sentiment"
    if arguments[0] != "check" or said:  # that prints what it found
        assert said.splitlines()[-1].startswith(begin), said
        assert "Traceback" not in said
    raise Refused(said or printed.read())


def judged(path: Path) -> list[str]:
    """The texts that `predict` finds in a file; its probabilities are those of the classifier. A
    row that it cannot read has none."""
    model = path.parent / "model"
    classifier().save(model)
    lines = command("predict", "--json", "--model", model, "--file", path).splitlines()
    rows = [json.loads(line) for line in lines]
    read = [row for row in rows if row["review"] is not None]
    assert all(row["probability"] is None for row in rows if row not in read)
    expected = classifier().predict_proba([row["review"] for row in read])[:, 1]
    assert np.allclose([row["probability"] for row in read], expected, atol=1e-4)
    return [row["review"] for row in rows]
