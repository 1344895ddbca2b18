"""From a review's text to the numbers a network reads: tokens, vocabulary, indices, length.

Raw review text enters. What leaves are lists of lower-case words, a `Vocabulary` that maps them to
indices (0 padding, 1 unknown), and the length to which long reviews are cut.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd
from nltk.tokenize import RegexpTokenizer
from tqdm import tqdm

UNKNOWN_INDEX = 1  # of words outside the vocabulary; a review without a word becomes one of them


class DataError(ValueError):
    """Input that cannot be used: the message says what is wrong, where, and what to do."""


TAG_NAMES = (
    "a|abbr|b|big|blockquote|body|br|center|cite|code|dd|del|div|dl|dt|em|embed|font|h[1-6]|head"
    "|hr|html|i|iframe|img|input|ins|li|link|meta|object|ol|p|param|pre|q|s|script|small|span"
    "|strike|strong|style|sub|sup|table|tbody|td|th|thead|title|tr|tt|u|ul|var|video"
)


# Real tags only, with nothing but attributes behind the name: "<3" and "<sigh>" are text. No
# quantifier can match what its neighbour matches, so the time stays linear in the text.
MARKUP_TAG = re.compile(
    rf"</?(?:{TAG_NAMES})(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>]+))*\s*(?:/\s*)?>"
    r"|<!--[^<>]*-->",
    re.IGNORECASE,
)


MARKUP_ENTITY = re.compile(r"&#?\w{1,31};")


NO_LETTER_OR_DIGIT = re.compile(r"[\W_]+")


def without_markup(text: str) -> str:
    """`text` with HTML entities resolved and HTML tags replaced by a blank."""
    if "&" in text:
        text = MARKUP_ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    return MARKUP_TAG.sub(" ", text) if "<" in text else text


def normalised_text(text: str) -> str:
    """The letters and digits of `text` in one case, words separated by single blanks.

    Two reviews with the same normalised text are the same review to a reader.
    """
    return NO_LETTER_OR_DIGIT.sub(" ", without_markup(text).casefold()).strip()


PADDING_INDEX = 0


RESERVED_WORDS = ("<pad>", "<unk>")  # at PADDING_INDEX and UNKNOWN_INDEX


# The text is reduced to words and blanks before: what "\w" matches depends on nltk's version.
WORD_TOKENIZER = RegexpTokenizer(r"\S+")


APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201b\u02bc\u00b4\uff07", "'"))


NEGATED_VERBS = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"} | {
    verb: verb
    for verb in (
        *("do", "does", "did", "is", "are", "was", "were", "has", "have", "had"),
        *("could", "would", "should", "must", "might", "need"),
    )
}


# Typed in full, without the apostrophe, or with one in the wrong place.
NEGATION = re.compile(rf"\b({'|'.join(NEGATED_VERBS)})'?n'?t\b")


OTHER_NEGATION = re.compile(r"n't\b")


ENDING = re.compile(r"'(?<=\w')(s|re|ve|ll|m|d)\b")


# "'s" may be "is", "has" or the possessive, which cannot be told apart: it says nothing.
ENDING_WORDS = {"s": "", "re": " are", "ve": " have", "ll": " will", "m": " am", "d": " would"}


def tokenize(text: str) -> list[str]:
    """Split `text` into lower-case words of letters and digits, with negation kept as "not".

    HTML tags and entities, punctuation and underscores are removed; "didn't", "didnt" and
    "didn\u2019t" all become "did not". Text without a letter or digit gives an empty list.

    Raises:
        DataError: `text` is not a string.
    """
    if not isinstance(text, str):
        raise DataError(f"text must be a string, got {type(text).__name__}: {text!r:.80}")
    text = without_markup(text).lower()
    if not text.isascii():
        # NFC: an accent belongs to its letter.
        text = unicodedata.normalize("NFC", text).translate(APOSTROPHES)
    text = text.replace("`", "'").replace("_", " ").replace("cannot", "can not")
    text = NEGATION.sub(lambda match: f"{NEGATED_VERBS[match[1]]} not", text)
    text = OTHER_NEGATION.sub(" not", text)
    text = ENDING.sub(lambda match: ENDING_WORDS[match[1]], text)
    return WORD_TOKENIZER.tokenize(NO_LETTER_OR_DIGIT.sub(" ", text))


def tokenize_all(texts: Iterable[str], description: str = "tokenizing") -> list[list[str]]:
    """`tokenize` each text, under a progress bar named `description`.

    Raises:
        DataError: a text is not a string; the message says which, counted from 0.
    """
    if isinstance(texts, str | pd.DataFrame):  # which would give letters, or names of columns
        raise DataError(
            f"texts must be a list of strings, got a {type(texts).__name__}; put a single text "
            "in brackets, name the column of a table"
        )
    token_lists = []
    for position, text in enumerate(tqdm(texts, desc=description, unit=" reviews", delay=1)):
        try:
            token_lists.append(tokenize(text))
        except DataError as error:
            raise DataError(f"texts[{position}]: {error}") from error
    return token_lists


def _list_of_words(tokens: Iterable[str]) -> Iterable[str]:
    """`tokens`, unless it is a string, which would be taken for a list of letters."""
    if isinstance(tokens, str):
        raise DataError(f"tokens must be a list of words, got {tokens!r:.80}; tokenize it first")
    return tokens


class Vocabulary:
    """The words a model knows, each with an index; 0 is padding, 1 every unknown word.

    Attributes:
        words: V words by index; `words[0]` is "<pad>", `words[1]` is "<unk>".
        counts: (V,) int64, how often each word occurs in the text the vocabulary comes from;
            `counts[1]` is the number of occurrences that were left out.
    """

    def __init__(self, words: Sequence[str], counts: Sequence[int]) -> None:
        self.words = list(words)
        self.counts = np.asarray(counts)
        if tuple(self.words[:2]) != RESERVED_WORDS:
            raise DataError(f"words must begin with {RESERVED_WORDS}, got {self.words[:2]}")
        if not all(isinstance(word, str) and word for word in self.words):
            raise DataError("words must be strings that are not empty")
        if len(set(self.words)) != len(self.words):
            raise DataError("words must differ from each other, got some more than once")
        if self.counts.shape != (len(self.words),) or self.counts.dtype.kind not in "iu":
            raise DataError(
                f"counts must be a whole number for each of the {len(self.words)} words, "
                f"got {self.counts.dtype} of shape {self.counts.shape}"
            )
        # The reserved words are no words of a text: encoding can therefore never yield padding.
        first = len(RESERVED_WORDS)
        self._index = {word: index for index, word in enumerate(self.words[first:], start=first)}

    @classmethod
    def from_tokens(
        cls, token_lists: Iterable[Sequence[str]], min_count: int = 2, max_size: int | None = None
    ) -> Vocabulary:
        """Collect the words that occur at least `min_count` times, the most frequent first.

        Ties are in alphabetical order. With `max_size` the vocabulary has at most that many
        indices, the two reserved ones included.
        """
        if min_count < 1:
            raise ValueError(f"min_count must be at least 1, got {min_count}")
        if max_size is not None and max_size < 2:
            raise ValueError(f"max_size must be at least 2 or None, got {max_size}")
        found = Counter(chain.from_iterable(map(_list_of_words, token_lists)))
        total = found.total()
        for reserved in RESERVED_WORDS:
            del found[reserved]
        frequent = [(word, count) for word, count in found.items() if count >= min_count]
        frequent.sort(key=lambda item: (-item[1], item[0]))
        if max_size is not None:
            del frequent[max_size - len(RESERVED_WORDS) :]
        words = [word for word, _ in frequent]
        counts = [count for _, count in frequent]
        return cls([*RESERVED_WORDS, *words], [0, total - sum(counts), *counts])

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """The index of each token; 1 where the word is unknown."""
        index_of = self._index.get
        return [index_of(token, UNKNOWN_INDEX) for token in _list_of_words(tokens)]

    def decode(self, token_ids: Iterable[int]) -> list[str]:
        """The word of each index.

        Raises:
            IndexError: an index is negative or not below the size of the vocabulary.
        """
        token_ids = list(token_ids)
        for index in token_ids:
            if not 0 <= index < len(self.words):
                raise IndexError(f"token_ids must lie in 0..{len(self.words) - 1}, got {index}")
        return [self.words[index] for index in token_ids]

    def __getitem__(self, word: str) -> int:
        return self._index.get(word, UNKNOWN_INDEX)

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __len__(self) -> int:
        return len(self.words)


class LengthChoice(NamedTuple):
    """A padding length and what it costs, as shares between 0 and 1."""

    max_length: int
    padding_share: float  # of the positions, when every review is padded to max_length
    truncated_share: float  # of the reviews
    dropped_token_share: float  # of the tokens


def choose_max_length(lengths: Sequence[int], max_padding: float = 0.5) -> LengthChoice:
    """The largest length at which at most `max_padding` of all positions would be padding.

    A longer limit keeps more words, but the share of padding only grows with it. The largest
    limit within `max_padding` therefore loses as few words as possible while padding never makes
    up most of what is stored. It is at least 1 and at most the longest review.

    Args:
        lengths: tokens per review.
        max_padding: accepted share of padding, at least 0 and below 1.

    Raises:
        DataError: no review has a token.
    """
    if not 0 <= max_padding < 1:
        raise ValueError(f"max_padding must be at least 0 and below 1, got {max_padding}")
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or (
        len(lengths) and (lengths.dtype.kind not in "iu" or lengths.min() < 0)
    ):
        raise DataError(f"lengths must be a whole number of tokens per review, got {lengths!r:.80}")
    if not lengths.any():
        raise DataError("lengths must hold at least one positive number of tokens")
    # reaching[i]: reviews of more than i tokens; their sum up to L: the tokens kept at limit L.
    reaching = len(lengths) - np.cumsum(np.bincount(lengths))[:-1]
    kept = np.cumsum(reaching)
    padding_shares = 1 - kept / (len(lengths) * np.arange(1, len(kept) + 1))
    max_length = max(1, int(np.searchsorted(padding_shares, max_padding, side="right")))
    return LengthChoice(
        max_length=max_length,
        padding_share=float(padding_shares[max_length - 1]),
        truncated_share=float(np.mean(lengths > max_length)),
        dropped_token_share=float(1 - kept[max_length - 1] / kept[-1]),
    )


def truncate(
    token_ids: Sequence[int], max_length: int, keep: str = "head_and_tail"
) -> Sequence[int]:
    """Cut a sequence to `max_length`; a shorter one is returned as it is.

    `keep="head_and_tail"` keeps the first quarter of `max_length` from the beginning and the rest
    from the end, where reviewers sum up (Sun et al. 2019, who keep 128 + 382 of 510 tokens).
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1, got {max_length}")
    heads = {"head_and_tail": max_length // 4, "head": max_length, "tail": 0}
    if keep not in heads:
        raise ValueError(f"keep must be one of {sorted(heads)}, got {keep!r}")
    if len(token_ids) <= max_length:
        return token_ids
    head = heads[keep]
    return [*token_ids[:head], *token_ids[len(token_ids) - (max_length - head) :]]


def encode_reviews(
    token_lists: Iterable[Sequence[str]],
    vocabulary: Vocabulary,
    max_length: int,
    keep: str = "head_and_tail",
) -> list[Sequence[int]]:
    """Word indices of each tokenized review, at most `max_length` of them (see `truncate`)."""
    return [truncate(vocabulary.encode(tokens), max_length, keep) for tokens in token_lists]


def encode_labels(sentiments: Iterable[str]) -> np.ndarray:
    """Sentiments as (n,) float32: "positive" 1, "negative" 0.

    Raises:
        DataError: a sentiment is neither.
    """
    values = {"positive": 1.0, "negative": 0.0}
    sentiments = list(sentiments)
    unknown = set(sentiments) - values.keys()
    if unknown:
        raise DataError(f"sentiments must be 'positive' or 'negative', got {unknown}")
    return np.array([values[sentiment] for sentiment in sentiments], dtype=np.float32)
