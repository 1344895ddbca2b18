"""Claims about tokens, vocabulary, lengths and labels."""

from __future__ import annotations

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
    normalised_text,
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
        ("couldnt wouldn't shouldnt've", "could not would not should not have"),
        ("mustnt needn't oughtn't", "must not need not ought not"),
        ("different, want and excellent moments", "different want and excellent moments"),
        ("it's Tom's, they're, I've, he'll, I'm, she'd", "it tom they are i have he will i am "
         "she would"),
        ("the actors' 'special' rock'n'roll", "the actors special rock n roll"),
        ("cafe\u0301 STRASSE Straße Дом 映画 10\u00b2", "café strasse straße дом 映画 10²"),
        ("well-made, 8/10 ... #1!", "well made 8 10 1"),
        ("<br /> \U0001f44d\U0001f44d !!! ___\t", ""),
    ],
)  # fmt: skip
def test_a_text_becomes_these_words(text, expected):
    assert tokenize(text) == expected.split()


CLAUSE = st.lists(
    st.sampled_from(["didn't", "DONT", "can't,", "cannot", "it's", "n't", "'", "I'd", "<br/>", "_"])
).map(" ".join)


@given(CLAUSE | st.text())
@example("\u0130stanbul \u212a \u00df \u01c5")
@example("&lt;&amp;lt;b&gt;")
def test_tokens_are_lower_case_letters_and_digits_and_stay_as_they_are(text):
    tokens = tokenize(text)
    assert all(token.isalnum() and token == token.lower() for token in tokens)
    assert tokenize(" ".join(tokens)) == tokens


@given(
    st.sampled_from(["did", "does", "was", "is", "could", "would", "have", "had"]),
    st.text(st.characters(exclude_characters="<&")),  # which can hide a word in a tag
)
def test_a_negation_survives_whatever_surrounds_it(verb, surroundings):
    for spelling in (f"{verb}n't", f"{verb}n\u2019t", f"{verb}nt".upper()):
        assert f"{verb} not" in " ".join(tokenize(f"{surroundings} {spelling} {surroundings}"))


@pytest.mark.parametrize(
    "unit", ["<", "<a ", "<a x='", "<!--", "&a", "n't", "<b a=b", "'", "\u0316\u0300"]
)
def test_hostile_repetition_takes_time_in_proportion_to_its_length(unit):
    # Quadratic matching would take hours for this; the limit is pytest's patience, not a clock.
    assert len(tokenize(unit * 100_000)) <= 300_000


def test_texts_become_lists_of_words_in_their_order_and_lists_stay():
    texts = ["One two", "", ["Already", "split"], "Three"]
    assert tokenize_all(iter(texts)) == [["one", "two"], [], ["Already", "split"], ["three"]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("good", "list of strings, got a str; put a single text in brackets"),
        (pd.DataFrame({"review": ["good"]}), "got a DataFrame; .* name the column"),
        (["good", "bad", 3.5], r"texts\[2\] must be a string, got a float: 3\.5"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts, message):
    with pytest.raises(DataError, match=message):
        tokenize_all(texts)


def test_markup_case_and_punctuation_do_not_make_another_review_but_words_do():
    review = normalised_text("It is fine<br />A film.")
    for same in ("it is fine a film", "It&#32;is <BR/>FINE -- a film!", " it_is\nfine; a... film "):
        assert normalised_text(same) == review
    for other in ("Is it fine a film", "It is fine a fil m"):
        assert normalised_text(other) != review


# ---- Vocabulary ----

TOKEN_LISTS = [["b", "a", "c", "a"], ["c", "d", "b", "a"], []]
TOKENS = st.lists(st.lists(st.text("abcdé<>", min_size=1, max_size=2), max_size=20), max_size=8)


@pytest.mark.parametrize(
    ("limits", "words", "counts"),
    [
        ({"min_count": 1}, ["a", "b", "c", "d"], [0, 0, 3, 2, 2, 1]),
        ({"min_count": 2}, ["a", "b", "c"], [0, 1, 3, 2, 2]),
        ({"min_count": 1, "max_size": 4}, ["a", "b"], [0, 3, 3, 2]),
        ({"min_count": 1, "max_size": 2}, [], [0, 8]),
    ],
)
def test_words_are_ordered_by_frequency_then_alphabet_and_others_counted_as_unknown(
    limits, words, counts
):
    vocabulary = Vocabulary.from_tokens(TOKEN_LISTS, **limits)
    assert list(vocabulary) == vocabulary.words == ["<pad>", "<unk>", *words]
    assert vocabulary.counts.tolist() == counts
    assert vocabulary["absent"] == 1
    assert "absent" not in vocabulary


@given(TOKENS, st.integers(1, 3), st.integers(2, 6))
def test_every_occurrence_is_counted_and_encoded_and_known_words_come_back(
    token_lists, min_count, max_size
):
    vocabulary = Vocabulary.from_tokens(token_lists, min_count, max_size)
    assert vocabulary.counts.sum() == sum(map(len, token_lists))
    assert len(vocabulary) <= max_size
    for tokens in token_lists:
        indices = vocabulary.encode(tokens)
        assert indices == [vocabulary[token] for token in tokens]
        assert all(0 < index < len(vocabulary) for index in indices)
        known = [token for token in tokens if token in vocabulary]
        assert vocabulary.decode(vocabulary.encode(known)) == known


def test_the_names_of_the_reserved_indices_are_unknown_words():
    vocabulary = Vocabulary.from_tokens([["<pad>", "<unk>", "film"]], min_count=1)
    assert vocabulary.words == ["<pad>", "<unk>", "film"]
    assert vocabulary.encode(["<pad>", "<unk>", "film"]) == [1, 1, 2]


@pytest.mark.parametrize(
    ("words", "counts", "message"),
    [
        (["a", "b"], [1, 1], "must begin with"),
        ([], [], "must begin with"),
        (["<pad>", "<unk>", "a", "a"], [0, 0, 1, 1], "differ"),
        (["<pad>", "<unk>", "a"], [0, 0], "a count each"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(words, counts, message):
    with pytest.raises(DataError, match=message):
        Vocabulary(words, counts)


def test_a_string_is_not_taken_for_a_list_of_letters():
    for use in (Vocabulary.from_tokens([]).encode, lambda text: Vocabulary.from_tokens([text])):
        with pytest.raises(DataError, match=r"list of words, got 'a good film'; tokenize it"):
            use("a good film")


# ---- Length ----


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=30).filter(any),
    st.sampled_from([0.1, 0.25, 0.5, 0.75]),
)
def test_the_length_chosen_is_the_largest_within_the_accepted_padding(lengths, max_padding):
    def share_of_padding(limit):
        return sum(max(0, limit - length) for length in lengths) / (limit * len(lengths))

    choice = choose_max_length(lengths, max_padding)
    limits = range(1, max(lengths) + 1)
    within = [limit for limit in limits if share_of_padding(limit) <= max_padding]
    assert choice.max_length == max(within, default=1)
    assert choice.padding_share == pytest.approx(share_of_padding(choice.max_length))
    kept = np.minimum(lengths, choice.max_length)
    assert choice.dropped_token_share == pytest.approx(1 - sum(kept) / sum(lengths))
    assert choice.truncated_share == pytest.approx(np.mean(kept != lengths))


@pytest.mark.parametrize("lengths", [[], [0, 0]])
def test_no_length_is_chosen_without_tokens(lengths):
    with pytest.raises(DataError, match="at least one positive"):
        choose_max_length(lengths)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("head", [2, 3, 4, 5, 6, 7, 8, 9]),
        ("tail", [14, 15, 16, 17, 18, 19, 20, 21]),
        ("head_and_tail", [2, 3, 16, 17, 18, 19, 20, 21]),
    ],
)
def test_what_was_asked_for_is_kept_of_a_long_review_and_all_of_a_short_one(keep, expected):
    words = list(map(str, range(2, 22)))
    vocabulary = Vocabulary(["<pad>", "<unk>", *words], [0] * 22)
    encoded = encode_reviews([words, words[:9], words[:8], []], vocabulary, 8, keep)
    assert encoded[0] == expected
    assert [len(ids) for ids in encoded] == [8, 8, 8, 0]
    assert encoded[2] == [2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("max_length", "keep"), [(5, "ends"), (0, "head"), (-1, "tail")])
def test_what_leaves_nothing_or_is_unknown_is_refused_though_nothing_is_cut(max_length, keep):
    with pytest.raises(ValueError, match=f"are '{keep}' and {max_length}; they must be one of"):
        truncate([2, 3], max_length, keep)


# ---- Labels ----


def test_positive_is_one_and_negative_zero():
    labels = encode_labels(["positive", "negative", "positive"])
    assert labels.dtype == np.float32
    assert labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("label", ["Positive", 1, None])
def test_an_unknown_sentiment_is_refused(label):
    with pytest.raises(DataError, match="'positive' or 'negative', got"):
        encode_labels(["positive", label])
