"""Short sentences that negate or turn, made from patterns, to learn from beside reviews.

A model of whole reviews counts what is praised and what is blamed, and gets "never boring" wrong:
most reviews that say "boring" mean it. Patterns of English grammar, filled with words whose
sentiment is known, show what "not", "hardly" or "but" do to it. They are a fifth of the
texts that the classifier that comes with the package learns from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

Words = list[tuple[str, ...]]  # blaming and praising ones

# What is filled in: a and a2 are adjectives, n nouns, v verbs, e what a film does to people, q what
# it has, c comparatives; b and m are an adjective and a noun of the other sentiment.
NOUNS: Words = [
    ("mess", "bore", "disaster", "waste", "failure", "disappointment", "insult", "chore", "joke"),
    ("gem", "masterpiece", "delight", "triumph", "treat", "success", "joy", "classic", "winner"),
]
VERBS: Words = [
    ("hate", "regret", "dislike", "avoid", "skip"),
    ("like", "love", "enjoy", "recommend", "admire"),
]
EFFECTS: Words = [
    ("bore", "disappoint", "annoy", "irritate", "insult"),
    ("impress", "move", "convince", "touch", "amuse", "delight"),
]
QUALITIES: Words = [
    ("flaws", "clichés", "problems", "weaknesses", "mistakes", "holes", "complaints"),
    ("charm", "skill", "talent", "suspense", "heart", "humour", "wit", "style"),
]
COMPARATIVES: Words = [("worse", "weaker", "duller"), ("better", "stronger", "finer")]

REVERSING = """
not {a} / not {a} at all / it is not {a} / this film is not {a} / the acting is not {a}
the story is not {a} at all / the plot is not {a} and the actors are not {a2} / i was not {a}
never {a} / it never gets {a} / it was never {a} / never {a} never {a2} / hardly {a}
it is hardly {a} / hardly a {a} moment / far from {a} / it is far from {a} / anything but {a}
it is anything but {a} / not even {a} / not a {a} film / this is not a {a} movie
there is nothing {a} about it / nothing {a} here / not exactly {a} / i would not call it {a}
nobody can call this {a} / without a single {a} moment / not one {a} scene / no {a} moments
i do not think it is {a} / i can not say anything {a} about it / it is neither {a} nor {a2}
{a} it is not / {a} not here / less {a} than expected / not as {a} as people say
the critics called it {a} they were wrong / whoever says it is {a} is wrong
i was wrong to think it would be {a} / not a {n} / it is not a {n} / this is no {n}
hardly a {n} / far from a {n} / anything but a {n} / no {n} / not the {n} i expected
i did not {v} it / i do not {v} it / you will not {v} it / i can not {v} it
it did not {e} me / it will not {e} you / it does not {e} / it failed to {e} me / never {e}
no {q} / it has no {q} / without {q} / there are no {q} / i found no {q} / it lacks {q}
"""
LAST_WINS = """
{a} but {b} / it is {a} but {b} / it looks {a} and yet it is {b}
the trailer is {a} but the film is {b} / i expected a {n} and got a {m}
i expected it to be {a} but it was {b} / although it is {a} it is {b} / it sounds {a} but it is {b}
despite the {a} beginning it is {b} / even with {a} effects it is {b} / at first {a} in the end {b}
i thought it would be {a} it was {b} / it starts {a} but ends {b} / the title is {a} the film is {b}
people say it is {a} but i found it {b} / {a} actors but a {b} story / it is not {a} it is {b}
do not listen to those who call it {a} it is {b}
"""
KEEPING = """
{a} / it is {a} / a {a} film / this movie is {a} / {a} and {a2} / a {n} / what a {n} / so {a}
the acting is {a} / i {v} it / it will {e} you / full of {q} / {c} than expected
not only {a} but {a2} / not just {a} but {a2} / it is {a} and not {b} / a {a} film not a {m}
never less than {a} / not without {q} and {a} / i have never been so {a}
i have never seen such a {a} film / i have not seen a more {a} film in years
i have never seen a {c} film / it could not be {c} / it could not have been {c}
it does not get any {c} / nobody could have done it {c} / much {c} than the {b} original
"""


def patterns(text: str) -> list[str]:
    return [pattern for line in text.strip().splitlines() for pattern in line.split(" / ")]


def adjectives(token_lists: Iterable[Sequence[str]], labels: Iterable[float]) -> Words:
    """What often follows "very" or the like, blaming and praising by the reviews it stands in."""
    follows: Counter[str] = Counter()
    reviews: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for tokens, label in zip(token_lists, labels, strict=True):
        reviews[int(label)].update(set(tokens))
        follows.update(
            word for before, word in pairwise(tokens) if before in ("very", "so", "really", "too")
        )
    words: tuple[list[str], list[str]] = ([], [])
    for word in sorted(word for word, count in follows.items() if count >= 12):
        blaming, praising = (of_label[word] + 1 for of_label in reviews)
        if max(blaming, praising) > 1.8 * min(blaming, praising):
            words[praising > blaming].append(word)
    return [*map(tuple, words)]


def made_sentences(
    token_lists: Iterable[Sequence[str]], labels: Iterable[float], n: int, seed: int = 0
) -> tuple[list[list[str]], np.ndarray]:
    """`n` tokenized sentences and their labels (n,), 0 or 1; half of them reverse, 30% turn."""
    words = {"a": adjectives(token_lists, labels), "n": NOUNS, "v": VERBS}
    words |= {"e": EFFECTS, "q": QUALITIES, "c": COMPARATIVES, "a2": words["a"]}
    opposite = {"b": words["a"], "m": NOUNS}
    kinds = [(patterns(REVERSING), True), (patterns(LAST_WINS), True), (patterns(KEEPING), False)]
    rng = np.random.default_rng(seed)
    sentences, sentiments = [], []
    for _ in range(n):
        choices, turns = kinds[rng.choice(3, p=[0.5, 0.3, 0.2])]
        side = int(rng.integers(2))  # of the words; the sentence's is the other one if it turns
        filled = {name: rng.choice(sides[side]) for name, sides in words.items()}
        filled |= {name: rng.choice(sides[1 - side]) for name, sides in opposite.items()}
        sentences.append(rng.choice(choices).format(**filled).split())
        sentiments.append(1 - side if turns else side)
    return sentences, np.array(sentiments, dtype=np.float32)
