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
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

PADDING_INDEX = 0
UNKNOWN_INDEX = 1  # of words outside the vocabulary; a review without a word becomes one of them
RESERVED_WORDS = ("<pad>", "<unk>")  # the words at these two indices


class DataError(ValueError):
    """Input that cannot be used: the message says what is wrong, where, and what to do."""


# ---- Tokens ----

NEGATED_VERBS = {"ca": "can", "wo": "will", "sha": "shall", "ai": "is"} | {
    verb: verb
    for verb in (
        *("do", "does", "did", "is", "are", "was", "were", "has", "have", "had"),
        *("could", "would", "should", "must", "might", "need"),
    )
}
# Typed in full, without the apostrophe, or with one in the wrong place. What stands before the verb
# is matched as a character: the search takes half the time of one by a word boundary.
NEGATION = re.compile(rf"[ ']({'|'.join(NEGATED_VERBS)})'?n'?t\b")
OTHER_NEGATION = re.compile(r"n't\b")
ENDING = re.compile(r"'(?<=\w')(s|re|ve|ll|m|d)\b")
# "'s" may be "is", "has" or the possessive, which cannot be told apart: it says nothing.
ENDING_WORDS = {"s": "", "re": " are", "ve": " have", "ll": " will", "m": " am", "d": " would"}
NO_LETTER_OR_DIGIT = re.compile(r"[\W_]+")


def tokenize(text: str) -> list[str]:
    """Split `text` into lower-case words of letters and digits, with negation kept as "not".

    HTML tags and entities, punctuation and underscores are removed; "didn't", "didnt" and
    "didn\u2019t" all become "did not". Text without a letter or digit gives an empty list.
    """
    text = without_markup(text).lower()
    if text.isascii():
        text = text.translate(ASCII_SEPARATORS)  # a tenth of the time of a pattern
    else:
        # NFC: an accent belongs to its letter.
        text = unicodedata.normalize("NFC", MANY_MARKS.sub(r"\1", text))
        for mark in APOSTROPHES:
            text = text.replace(mark, "'")
        text = SEPARATORS.sub(" ", text)
    text = f" {text}".replace("cannot", "can not")
    text = NEGATION.sub(lambda match: f" {NEGATED_VERBS[match[1]]} not", text)
    text = OTHER_NEGATION.sub(" not", text)
    text = ENDING.sub(lambda match: ENDING_WORDS[match[1]], text)
    return text.replace("'", " ").split()


# NFC sorts the accents of a letter, in time that grows with the square of their number. Unicode's
# "stream-safe" text has at most thirty; what is cut off here would separate words as its rest does.
MANY_MARKS = re.compile(r"([^\w\s]{30})[^\w\s]+")
APOSTROPHES = "`\u2018\u2019\u201b\u02bc\u00b4\uff07"
SEPARATORS = re.compile(r"[^\w']+|_+")
ASCII_SEPARATORS = {code: " " for code in range(128) if SEPARATORS.match(chr(code))}
ASCII_SEPARATORS[ord("`")] = "'"
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


def tokenize_all(
    texts: Iterable[str | Sequence[str]], description: str = "tokenizing"
) -> list[list[str]]:
    """`tokenized` as a list."""
    return list(tokenized(texts, description))


def tokenized(
    texts: Iterable[str | Sequence[str]], description: str = "tokenizing"
) -> Iterator[list[str]]:
    """`tokenize` each text, under a progress bar; what is a list of words already stays as it is.

    The words of a text take ten times the memory of their letters: keep them only where needed.

    Raises:
        DataError: a text is neither; the message says which, counted from 0. Or `texts` is one
            string or a table, whose elements would be letters or names of columns.
    """
    if isinstance(texts, str) or hasattr(texts, "columns"):
        raise DataError(
            f"texts must be a list of strings, got a {type(texts).__name__}; put a single text "
            "in brackets, name the column of a table"
        )
    for position, text in enumerate(tqdm(texts, desc=description, unit=" reviews", delay=1)):
        if not isinstance(text, str | list | tuple):
            raise DataError(
                f"texts[{position}] must be a string, got a {type(text).__name__}: {text!r:.80}"
            )
        yield tokenize(text) if isinstance(text, str) else list(text)


# ---- Vocabulary ----


class Vocabulary:
    """The words a model knows, each with an index; 0 is padding, 1 every unknown word.

    Attributes:
        words: V words by index; `words[0]` is "<pad>", `words[1]` is "<unk>".
        counts: (V,) int64, how often each word occurs in the text the vocabulary comes from;
            `counts[1]` is the number of occurrences that were left out.
    """

    def __init__(self, words: Sequence[str], counts: Sequence[int] | np.ndarray) -> None:
        self.words = list(words)
        self.counts = np.asarray(counts, dtype=np.int64)
        if tuple(self.words[:2]) != RESERVED_WORDS or len(self.counts) != len(self.words):
            raise DataError(f"words must begin with {RESERVED_WORDS} and have a count each")
        # The reserved words are no words of a text: encoding can therefore never yield padding.
        self._index = {word: index for index, word in enumerate(self.words) if index > 1}
        if len(self._index) != len(self.words) - 2:
            raise DataError("words must differ from each other, got some more than once")

    @classmethod
    def from_tokens(
        cls, token_lists: Iterable[Sequence[str]], min_count: int = 2, max_size: int | None = None
    ) -> Vocabulary:
        """Collect the words that occur at least `min_count` times, the most frequent first.

        Ties are in alphabetical order. With `max_size` the vocabulary has at most that many
        indices, the two reserved ones included.
        """
        found: Counter[str] = Counter()
        for tokens in token_lists:
            found.update(_words(tokens))
        total = found.total()
        frequent = [
            (word, count)
            for word, count in found.items()
            if count >= min_count and word not in RESERVED_WORDS
        ]
        frequent.sort(key=lambda item: (-item[1], item[0]))
        if max_size is not None:
            frequent = frequent[: max(0, max_size - len(RESERVED_WORDS))]
        words = [word for word, _ in frequent]
        counts = [count for _, count in frequent]
        return cls([*RESERVED_WORDS, *words], [0, total - sum(counts), *counts])

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """The index of each token; 1 where the word is unknown."""
        index_of = self._index.get
        return [index_of(token, UNKNOWN_INDEX) for token in _words(tokens)]

    def decode(self, token_ids: Iterable[int]) -> list[str]:
        """The word of each index."""
        return [self.words[index] for index in token_ids]

    def __reduce__(self) -> tuple:
        return Vocabulary, (self.words, self.counts)  # a pickle need not hold the index as well

    def __getitem__(self, word: str) -> int:
        return self._index.get(word, UNKNOWN_INDEX)

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __len__(self) -> int:
        return len(self.words)


def _words(tokens: Iterable[str]) -> Iterable[str]:
    """`tokens`, unless it is a string, which would be taken for a list of letters."""
    if isinstance(tokens, str):
        raise DataError(f"tokens must be a list of words, got {tokens!r:.80}; tokenize it first")
    return tokens


# ---- Length, indices, labels ----


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
    lengths = np.asarray(lengths)
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


HEAD_SHARES = {"head_and_tail": 1 / 4, "head": 1.0, "tail": 0.0}


def truncate(tokens: Sequence, max_length: int, keep: str = "head_and_tail") -> Sequence:
    """Cut a sequence to `max_length`; a shorter one is returned as it is.

    `keep="head_and_tail"` keeps the first quarter of `max_length` from the beginning and the rest
    from the end, where reviewers sum up (Sun et al. 2019, who keep 128 + 382 of 510 tokens);
    "head" and "tail" keep one end only. ValueError: `keep` is none of these, or nothing would be
    left.
    """
    if keep not in HEAD_SHARES or max_length < 1:
        raise ValueError(
            f"keep and max_length are {keep!r} and {max_length}; they must be one of "
            f"{sorted(HEAD_SHARES)} and at least 1"
        )
    if len(tokens) <= max_length:
        return tokens
    head = int(HEAD_SHARES[keep] * max_length)
    return [*tokens[:head], *tokens[len(tokens) - (max_length - head) :]]


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
