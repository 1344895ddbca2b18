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
WORDS = REVIEW.split()


@pytest.mark.parametrize(
    "edited",
    [
        REVIEW.replace("quarrel", "argue").replace("films", "movies"),
        f"*** spoilers ***<br />{REVIEW.replace(', ', ' - ').upper()}",
        f"Updated from an earlier comment: {REVIEW} That is all I have to say about it for now.",
        REVIEW.replace("Two brothers inherit a lighthouse, quarrel about the lamp", "They"),
        " ".join(WORDS[26:] + WORDS[:26]),
    ],
)
def test_an_edited_review_is_a_near_duplicate(edited):
    assert normalised_text(edited) != normalised_text(REVIEW)
    assert near_duplicate_groups([REVIEW, OTHER_REVIEW, edited]) == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        ([], []),
        (["One two three four", "one two three FOUR!", "one two three five"], [[0, 1], [2]]),
        (["a b c d e f", "b c d e f", "x"], [[0, 1], [2]]),  # one of two runs in both
        (["a b c d e f g", "c d e f g"], [[0], [1]]),  # one of three
        ([" ".join(WORDS), "", " ".join(WORDS[::-1])], [[0], [1], [2]]),
        (["?", "!", "<br />", "!"], [[0], [1, 3], [2]]),
    ],
)
def test_near_is_who_shares_half_of_the_runs_of_five_words_or_is_a_copy(texts, groups):
    assert near_duplicate_groups(texts) == groups


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
PIECES = st.builds(
    lambda start, length, head: head + " ".join(WORDS[start : start + length]),
    st.integers(0, 20),
    st.integers(1, 30),
    st.sampled_from(["", "a b c d e ", "X "]),
)
# Texts from one template: a stretch of it with a few words in the middle or many of their own.
TEMPLATED = st.builds(
    lambda end, middle, own, name: " ".join(
        [*WORDS[:middle], *(f"{name}x{n}" for n in range(own)), *WORDS[middle:end]]
    ),
    st.integers(15, 50),
    st.integers(0, 40),
    st.integers(0, 25),
    st.integers(0, 1000),
)


@given(st.lists(PIECES, max_size=14) | st.lists(TEMPLATED, max_size=30), st.sampled_from([3, 512]))
def test_groups_are_those_of_comparing_each_text_with_each(texts, rows_at_a_time):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "ROWS_AT_A_TIME", rows_at_a_time)
        assert near_duplicate_groups(texts) == groups_by_definition(texts)


@pytest.mark.parametrize(("own_words", "number"), [(10, 1), (40, 2000)])
def test_thousands_from_one_template_are_compared_at_once(own_words, number):
    own = np.random.default_rng(0).integers(10**9, size=(2000, own_words)).astype(str)
    texts = [" ".join([*WORDS, *words]) for words in own.tolist()]
    groups = near_duplicate_groups([*texts, texts[7][:-30]])
    assert len(groups) == number
    assert any({7, 2000} <= set(group) for group in groups)
