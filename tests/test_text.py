"""Claims about tokens, vocabulary, lengths and labels."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lstm_sentiment.text import (
    DataError,
    Vocabulary,
    choose_max_length,
    encode_labels,
    encode_reviews,
    tokenize,
    tokenize_all,
    truncate,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A GOOD film", "a good film"),
        ("bad.<br /><br />Really_bad!", "bad really bad"),
        ('<p class="x">One</P><a href=\'y z\'>two</a><!-- three --><BR/>four', "one two four"),
        ("I <3 it", "i 3 it"),
        ("5 <6 and 7> 6", "5 6 and 7 6"),
        ("<sigh> a <b and c> d", "sigh a b and c d"),
        ("rock &amp; roll &quot;live&quot; caf&eacute; &#39;99", "rock roll live café 99"),
        ("&lt;br /&gt;so it ends", "so it ends"),
        ("AT&T, R&D and Q&A", "at t r d and q a"),
        ("It didn't work", "it did not work"),
        ("It didn\u2019t, didnt, did`nt, DIDN'T", "it did not did not did not did not"),
        ("can't cannot cant", "can not can not can not"),
        ("won't shan't ain't", "will not shall not is not"),
        ("wasn't weren't isnt arent", "was not were not is not are not"),
        ("couldnt wouldn't shouldnt've", "could not would not should not have"),
        ("hasn't havent hadn't mustnt needn't oughtn't", "has not have not had not must not "
         "need not ought not"),
        ("different, want and excellent moments", "different want and excellent moments"),
        ("it's Tom's, they're, I've, he'll, I'm, she'd", "it tom they are i have he will i am "
         "she would"),
        ("the actors' 'special' rock'n'roll", "the actors special rock n roll"),
        ("cafe\u0301 STRASSE Straße Дом 映画 10\u00b2", "café strasse straße дом 映画 10²"),
        ("well-made, 8/10 ... #1!", "well made 8 10 1"),
        ("", ""),
        (" \t\n", ""),
        ("<br /> \U0001f44d\U0001f44d !!! ___", ""),
    ],
)  # fmt: skip
def test_a_text_becomes_these_words(text, expected):
    assert tokenize(text) == expected.split()


@given(st.text())
@example("\u0130stanbul \u212a \u00df \u01c5")
@example("&lt;&amp;lt;b&gt;")
def test_tokens_are_lower_case_letters_and_digits_only(text):
    for token in tokenize(text):
        assert token.isalnum()
        assert token == token.lower()


CLAUSE = st.lists(
    st.sampled_from(["didn't", "DONT", "can't,", "cannot", "it's", "n't", "'", "I'd", "<br/>", "_"])
).map(" ".join)


@given(CLAUSE | st.text())
def test_tokenizing_the_joined_tokens_changes_nothing(text):
    tokens = tokenize(text)
    assert tokenize(" ".join(tokens)) == tokens


@given(
    st.sampled_from(["did", "does", "was", "is", "could", "would", "have", "had"]),
    st.text(st.characters(exclude_characters="<&")),  # which can hide a word in a tag
)
def test_a_negation_survives_whatever_surrounds_it(verb, surroundings):
    for spelling in (f"{verb}n't", f"{verb}n\u2019t", f"{verb}nt".upper()):
        assert f"{verb} not" in " ".join(tokenize(f"{surroundings} {spelling} {surroundings}"))


@pytest.mark.parametrize("value", [None, 3.5, float("nan"), b"bytes", ["list"]])
def test_what_is_no_string_is_refused_by_name(value):
    with pytest.raises(DataError, match=f"text must be a string, got {type(value).__name__}"):
        tokenize(value)


@pytest.mark.parametrize("unit", ["<", "<a ", "<a x='", "<!--", "&a", "n't", "<b a=b", "'"])
def test_hostile_repetition_takes_time_in_proportion_to_its_length(unit):
    # Quadratic matching would take hours for this; the limit is pytest's patience, not a clock.
    assert len(tokenize(unit * 100_000)) <= 300_000


def test_tokenize_all_keeps_the_order_of_the_texts():
    assert tokenize_all(["One two", "", "Three"]) == [["one", "two"], [], ["three"]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("good", "list of strings, got a str; put a single text in brackets"),
        (pd.DataFrame({"review": ["good"]}), "got a DataFrame; .* name the column"),
        (["good", "bad", 3.5], r"texts\[2\]: text must be a string, got float"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts, message):
    with pytest.raises(DataError, match=message):
        tokenize_all(texts)


# ---- Vocabulary ----

TOKEN_LISTS = [["b", "a", "c", "a"], ["c", "d", "b", "a"], []]
TOKENS = st.lists(st.lists(st.text("abcdé<>", min_size=1, max_size=2), max_size=20), max_size=8)


def test_words_are_ordered_by_frequency_then_alphabet_behind_the_reserved_ones():
    vocabulary = Vocabulary.from_tokens(TOKEN_LISTS, min_count=1)
    assert vocabulary.words == ["<pad>", "<unk>", "a", "b", "c", "d"]
    assert vocabulary.counts.tolist() == [0, 0, 3, 2, 2, 1]


def test_rare_words_are_left_out_and_counted_as_unknown():
    vocabulary = Vocabulary.from_tokens(TOKEN_LISTS, min_count=2)
    assert vocabulary.words[2:] == ["a", "b", "c"]
    assert vocabulary.counts[1] == 1
    assert "d" not in vocabulary
    assert vocabulary["d"] == 1


def test_max_size_counts_the_reserved_indices():
    assert Vocabulary.from_tokens(TOKEN_LISTS, 1, max_size=4).words[2:] == ["a", "b"]
    assert len(Vocabulary.from_tokens(TOKEN_LISTS, 1, max_size=2)) == 2


@given(TOKENS, st.integers(1, 3))
def test_encoding_and_decoding_is_the_identity_on_known_words(token_lists, min_count):
    vocabulary = Vocabulary.from_tokens(token_lists, min_count)
    for tokens in token_lists:
        known = [token for token in tokens if token in vocabulary]
        assert vocabulary.decode(vocabulary.encode(known)) == known
        assert [vocabulary[token] for token in tokens] == vocabulary.encode(tokens)


@given(TOKENS, st.integers(1, 3), st.integers(2, 6))
def test_every_occurrence_is_counted_once_and_no_token_becomes_padding(
    token_lists, min_count, max_size
):
    vocabulary = Vocabulary.from_tokens(token_lists, min_count, max_size)
    assert vocabulary.counts.sum() == sum(map(len, token_lists))
    assert len(vocabulary) <= max_size
    assert all(0 < index < len(vocabulary) for t in token_lists for index in vocabulary.encode(t))


def test_the_names_of_the_reserved_indices_are_unknown_words():
    vocabulary = Vocabulary.from_tokens([["<pad>", "<unk>", "film"]], min_count=1)
    assert vocabulary.words == ["<pad>", "<unk>", "film"]
    assert vocabulary.encode(["<pad>", "<unk>", "film"]) == [1, 1, 2]


def test_a_vocabulary_survives_json():
    before = Vocabulary.from_tokens(TOKEN_LISTS, min_count=1)
    words, counts = json.loads(json.dumps([before.words, before.counts.tolist()]))
    after = Vocabulary(words, counts)
    assert after.words == before.words
    assert np.array_equal(after.counts, before.counts)
    assert after.encode(["c", "x"]) == before.encode(["c", "x"])


@pytest.mark.parametrize(
    ("words", "counts", "message"),
    [
        (["a", "b"], [1, 1], "must begin with"),
        ([], [], "must begin with"),
        (["<pad>", "<unk>", "a", "a"], [0, 0, 1, 1], "differ"),
        (["<pad>", "<unk>", "<pad>"], [0, 0, 1], "differ"),
        (["<pad>", "<unk>", ""], [0, 0, 1], "not empty"),
        (["<pad>", "<unk>", 7], [0, 0, 1], "strings"),
        (["<pad>", "<unk>", "a"], [0, 0], "3 words"),
        (["<pad>", "<unk>", "a"], [0, 0, 1.5], "float64"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(words, counts, message):
    with pytest.raises(DataError, match=message):
        Vocabulary(words, counts)


def test_a_string_is_not_taken_for_a_list_of_letters():
    vocabulary = Vocabulary.from_tokens(TOKEN_LISTS)
    for use in (
        lambda: Vocabulary.from_tokens(["a good film"]),
        lambda: Vocabulary.from_tokens("a good film"),
        lambda: vocabulary.encode("a good film"),
        lambda: encode_reviews(["a good film"], vocabulary, 5),
    ):
        with pytest.raises(DataError, match=r"list of words, got 'a.*'; tokenize it"):
            use()


@pytest.mark.parametrize("index", [-1, 6, 10**9])
def test_decoding_an_index_outside_names_it(index):
    with pytest.raises(IndexError, match=rf"0\.\.5, got {index}"):
        Vocabulary.from_tokens(TOKEN_LISTS, min_count=1).decode([2, index])


@pytest.mark.parametrize("wrong", [{"min_count": 0}, {"max_size": 1}])
def test_vocabulary_limits_are_validated(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Vocabulary.from_tokens(TOKEN_LISTS, **wrong)


# ---- Length ----

LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=30).filter(any)


def share_of_padding(lengths, max_length):
    padded = [max(0, max_length - length) for length in lengths]
    return sum(padded) / (max_length * len(lengths))


@given(LENGTHS, st.sampled_from([0.1, 0.25, 0.5, 0.75]))
def test_the_length_chosen_is_the_largest_within_the_accepted_padding(lengths, max_padding):
    choice = choose_max_length(lengths, max_padding)
    within = [
        limit
        for limit in range(1, max(lengths) + 1)
        if share_of_padding(lengths, limit) <= max_padding
    ]
    assert choice.max_length == max(within, default=1)
    assert choice.padding_share == pytest.approx(share_of_padding(lengths, choice.max_length))


@given(LENGTHS)
def test_the_cost_of_the_length_is_what_truncation_does(lengths):
    choice = choose_max_length(lengths)
    kept = [len(truncate([1] * length, choice.max_length)) for length in lengths]
    assert choice.dropped_token_share == pytest.approx(1 - sum(kept) / sum(lengths))
    cut = sum(a != b for a, b in zip(kept, lengths, strict=True))
    assert choice.truncated_share == pytest.approx(cut / len(lengths))


@pytest.mark.parametrize("lengths", [[], [0, 0], [-1, 5], [1.5, 2], [[1, 2]], ["a"], None, 5])
def test_no_length_is_chosen_without_tokens(lengths):
    with pytest.raises(DataError, match="lengths"):
        choose_max_length(lengths)


@pytest.mark.parametrize("max_padding", [-0.1, 1, float("nan")])
def test_an_impossible_share_of_padding_is_refused(max_padding):
    with pytest.raises(ValueError, match="max_padding"):
        choose_max_length([1], max_padding)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("head", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("tail", [12, 13, 14, 15, 16, 17, 18, 19]),
        ("head_and_tail", [0, 1, 14, 15, 16, 17, 18, 19]),
    ],
)
def test_truncation_keeps_the_end_that_was_asked_for(keep, expected):
    assert truncate(range(20), 8, keep) == expected


@given(st.lists(st.integers()), st.integers(1, 20), st.sampled_from(["head", "tail"]))
def test_truncation_never_exceeds_the_length_and_leaves_short_sequences_alone(ids, limit, keep):
    for way in (keep, "head_and_tail"):
        cut = truncate(ids, limit, way)
        assert len(cut) == min(len(ids), limit)
        if len(ids) <= limit:
            assert cut == ids


@pytest.mark.parametrize(
    ("arguments", "message"), [((0,), "max_length"), ((3, "middle"), "'middle'")]
)
def test_truncation_names_a_wrong_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        truncate([1, 2, 3, 4], *arguments)


# ---- Labels ----


def test_positive_is_one_and_negative_zero():
    labels = encode_labels(["positive", "negative", "positive"])
    assert labels.dtype == np.float32
    assert labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("label", ["Positive", "neutral", 1, None])
def test_an_unknown_sentiment_is_refused(label):
    with pytest.raises(DataError, match="'positive' or 'negative', got"):
        encode_labels(["positive", label])
