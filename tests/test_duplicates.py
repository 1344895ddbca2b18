"""Near duplicates are found exactly, as by comparing each text with each, and quickly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_sentiment.files import duplicates
from lstm_sentiment.files.duplicates import near_duplicate_groups
from lstm_sentiment.text import normalised_text

REVIEW = (
    "Two brothers inherit a lighthouse, quarrel about the lamp, sell the boat and discover that "
    "their father once kept a seal in the cellar. The ending is sad but the seal is wonderful, and "
    "whoever likes the sea, slow films and animals that steal every scene should go and watch it."
)
OTHER_REVIEW = (
    "Nothing in this comedy is funny: the police chase a baker through Rome, the baker hides among "
    "nuns, the nuns dance, and ninety minutes later everybody marries somebody for no reason."
)


def grouped(texts):
    return [len(group) for group in near_duplicate_groups(texts)]


@pytest.mark.parametrize(
    "edited",
    [
        REVIEW.replace("sad", "touching"),
        REVIEW.replace("quarrel", "argue").replace("films", "movies"),
        f"{REVIEW}<br /><br />10/10",
        f"*** spoilers ***<br />{REVIEW.replace(', ', ' - ').upper()}",
        f"Updated from an earlier comment: {REVIEW} That is all I have to say about it for now.",
        REVIEW.replace("Two brothers inherit a lighthouse, quarrel about the lamp", "They"),
        REVIEW[REVIEW.index("The ending") :] + " " + REVIEW[: REVIEW.index("The ending")],
    ],
)
def test_an_edited_review_is_a_near_duplicate(edited):
    assert normalised_text(edited) != normalised_text(REVIEW)
    assert near_duplicate_groups([REVIEW, OTHER_REVIEW, edited]) == [[0, 2], [1]]


@pytest.mark.parametrize(
    "other",
    [
        OTHER_REVIEW,
        " ".join(REVIEW.split()[::-1]),  # the same words, another text
        REVIEW[: len(REVIEW) // 2] + OTHER_REVIEW[len(OTHER_REVIEW) // 2 :],
        REVIEW[: len(REVIEW) // 3],
        "".join(f"{word} indeed " if i % 4 else word for i, word in enumerate(REVIEW.split())),
        "",
    ],
)
def test_other_reviews_are_no_near_duplicates(other):
    assert grouped([REVIEW, other]) == [1, 1]


@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        ([], []),
        (["One two three four", "one two three FOUR!", "one two three five"], [[0, 1], [2]]),
        (["a b c d e", "A, b, c, d, e.", "a b c d f"], [[0, 1], [2]]),
        (["a b c d e f", "b c d e f", "x"], [[0, 1], [2]]),  # one of two runs in both
        (["a b c d e f g", "c d e f g"], [[0], [1]]),  # one of three
        (["?", "!", "<br />", "!"], [[0], [1, 3], [2]]),
    ],
)
def test_a_text_without_five_words_has_copies_only(texts, groups):
    assert near_duplicate_groups(texts) == groups


def test_what_is_near_to_one_of_a_group_belongs_to_it():
    words = [f"word{i}" for i in range(60)]
    texts = [" ".join(words[start : start + 40]) for start in (0, 10, 20)]
    assert near_duplicate_groups([texts[0], texts[2]]) == [[0], [1]]
    assert near_duplicate_groups([texts[0], "Dull.", texts[2], texts[1]]) == [[0, 2, 3], [1]]


def test_what_very_many_reviews_have_in_common_does_not_join_them():
    rng = np.random.default_rng(0)
    own = [" ".join(map(str, rng.integers(10_000, size=50))) for _ in range(1500)]
    texts = [f"{text} {' '.join(REVIEW.split()[:45])}" for text in own]
    assert grouped(texts) == [1] * 1500
    assert near_duplicate_groups([*texts, texts[7][:-30]])[7] == [7, 1500]


def groups_by_definition(texts):
    """Groups found by comparing each text with each."""
    keys = [normalised_text(text).split() for text in texts]
    runs = [{tuple(words[i : i + 5]) for i in range(len(words) - 4)} for words in keys]
    groups = [{i} for i in range(len(texts))]
    for i, j in itertools.combinations(range(len(texts)), 2):
        common, either = len(runs[i] & runs[j]), len(runs[i] | runs[j])
        if keys[i] == keys[j] or (either and common >= 0.5 * either):
            merged = groups[i] | groups[j]
            for member in merged:
                groups[member] = merged
    return [sorted(group) for i, group in enumerate(groups) if i == min(group)]


# Texts cut from one, so that many overlap by about half of their runs.
PIECES = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 30), st.sampled_from(["", "a b c d e ", "X "])),
    max_size=14,
).map(
    lambda cuts: [
        head + " ".join(REVIEW.split()[start : start + length]) for start, length, head in cuts
    ]
)


@given(PIECES)
def test_groups_are_those_of_comparing_each_text_with_each(texts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "ROWS_AT_A_TIME", 3)
        assert near_duplicate_groups(texts) == groups_by_definition(texts)


# Texts from one template: a stretch of it with words of their own in the middle, about as many.
TEMPLATED = st.lists(
    st.tuples(st.integers(0, 25), st.integers(15, 50), st.integers(0, 40)), max_size=30
).map(
    lambda parts: [
        " ".join([*REVIEW.split()[:middle], *(f"own{i}x{n}" for n in range(own))])
        + " "
        + " ".join(REVIEW.split()[middle:end])
        for i, (own, end, middle) in enumerate(parts)
    ]
)


@given(TEMPLATED)
def test_texts_from_one_template_are_grouped_as_by_definition(texts):
    assert near_duplicate_groups(texts) == groups_by_definition(texts)


@pytest.mark.parametrize(("own_words", "groups"), [(10, 1), (40, 2000)])
def test_thousands_from_one_template_are_compared_at_once(own_words, groups):
    own = np.random.default_rng(0).integers(10**9, size=(2000, own_words)).astype(str)
    texts = [" ".join([*REVIEW.split(), *words]) for words in own.tolist()]
    assert len(near_duplicate_groups(texts)) == groups
