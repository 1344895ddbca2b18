"""Copies and near duplicates among texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from lstm_sentiment.text import normalised_text

SHINGLE_WORDS = 5

# Of 75,000 IMDB reviews 81 pairs reach 0.5: a review edited, reused for another film, or quoted in
# full by an answer to it. Below, more and more pairs share no more than a paragraph of boilerplate.
NEAR_DUPLICATE_SIMILARITY = 0.5

ROWS_AT_A_TIME = 512  # texts compared with all others at once; bounds the memory


def near_duplicate_groups(texts: Iterable[str]) -> list[list[int]]:
    """Positions in `texts`, grouped: copies and near duplicates together, every other one alone.

    Copies have the same `normalised_text`. Near duplicates have a resemblance (Broder, 1997) of at
    least 0.5: of all runs of five words (shingles) that occur in one or the other, at least half
    occur in both. A text of fewer than five words has no near duplicates. Whatever is near to one
    text of a group belongs to the group. Groups, and the positions in each, are in the order of
    `texts`.
    """
    copies = defaultdict(list)
    bar = tqdm(texts, desc="comparing reviews", unit=" reviews", delay=1)
    for position, text in enumerate(bar):
        copies[normalised_text(text) or text].append(position)
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for label, positions in zip(_similarity_labels(list(copies)), copies.values(), strict=True):
        groups[label] += positions
    return [sorted(group) for group in groups.values()]


def _similarity_labels(texts: Sequence[str]) -> list[int]:
    """The number of its group for each of some different normalised texts.

    Comparing each text with each takes long where many come from one template. So first every text
    is compared with one that shares its most common shingle, and then those are left out that can
    be near to none of another group: what remains of ordinary reviews is a handful.
    """
    if not texts:
        return []
    shingles = [_shingle_hashes(text) for text in texts]
    sizes = np.array([len(hashes) for hashes in shingles])
    different, columns = np.unique(np.concatenate(shingles), return_inverse=True)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    ones = np.ones(len(columns), dtype=np.int32)
    occurs = csr_array((ones, columns, starts), (len(texts), len(different)))
    rows = labels = np.arange(len(texts))
    while True:
        occurs = _rarest_first(occurs, labels[rows])
        first, second = _neighbours(occurs)
        common = occurs[first].multiply(occurs[second]).sum(axis=1)
        groups = labels.max()
        labels = _joined(labels, sizes, rows[first], rows[second], common)
        candidates = _may_resemble(occurs, sizes[rows])
        if candidates.all() and labels.max() == groups:
            break
        occurs, rows = occurs[candidates], rows[candidates]
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        common = (occurs[start : start + ROWS_AT_A_TIME] @ occurs.T).tocoo()
        first, second = rows[common.row + start], rows[common.col]
        labels = _joined(labels, sizes, first, second, common.data)
    return labels.tolist()


def _shingle_hashes(text: str) -> np.ndarray:
    """Hashes of the different runs of five words; at 64 bits no two runs share one by chance."""
    words = text.split()
    runs = zip(*(words[offset:] for offset in range(SHINGLE_WORDS)), strict=False)
    hashes = set(map(hash, runs))
    return np.fromiter(hashes, dtype=np.int64, count=len(hashes))


def _rarest_first(occurs: csr_array, labels: np.ndarray) -> csr_array:
    """The shingles that occur in several groups, in each row the rarest first."""
    of_entry = np.repeat(labels, np.diff(occurs.indptr))
    lowest = np.full(occurs.shape[1], labels.max(initial=0))
    np.minimum.at(lowest, occurs.indices, of_entry)
    several = np.zeros(occurs.shape[1], dtype=bool)
    several[occurs.indices[of_entry > lowest[occurs.indices]]] = True
    occurs = occurs[:, several]
    occurs = occurs[:, np.argsort(np.bincount(occurs.indices), kind="stable")]
    occurs.sort_indices()
    return occurs


def _neighbours(occurs: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows, one after the other among those with the same most common shingle."""
    filled = np.flatnonzero(np.diff(occurs.indptr))
    commonest = occurs.indices[occurs.indptr[filled + 1] - 1]
    order = np.argsort(commonest, kind="stable")
    same = commonest[order[1:]] == commonest[order[:-1]]
    return filled[order[:-1][same]], filled[order[1:][same]]


def _joined(
    labels: np.ndarray, sizes: np.ndarray, first: np.ndarray, second: np.ndarray, common: np.ndarray
) -> np.ndarray:
    """New labels, the same for the groups of pairs that have `common` shingles enough."""
    near = common >= NEAR_DUPLICATE_SIMILARITY * (sizes[first] + sizes[second] - common)
    ends = labels[first[near]], labels[second[near]]
    links = coo_array((np.ones(len(ends[0])), ends), (len(labels), len(labels)))
    return connected_components(links, directed=False)[1][labels]


def _may_resemble(occurs: csr_array, sizes: np.ndarray) -> np.ndarray:
    """Which rows can be near to another: the prefix filter of PPJoin (Xiao et al., 2008).

    Two near texts have so much in common that the rarest shingle of it is among the rarest third
    of the smaller text and the rarest half of the larger one. What `occurs` no longer holds of a
    text counts as rarest.
    """
    counts = np.diff(occurs.indptr)
    row = np.repeat(np.arange(len(counts)), counts)
    position = np.arange(len(row)) - occurs.indptr[row]
    share = NEAR_DUPLICATE_SIMILARITY
    as_smaller, as_larger = (
        position <= (counts - np.ceil(least * sizes))[row]
        for least in (2 * share / (1 + share), share)
    )
    of_smaller, of_larger = (
        np.bincount(occurs.indices[chosen], minlength=occurs.shape[1])[occurs.indices]
        for chosen in (as_smaller, as_larger)
    )
    met = (as_smaller & (of_larger > 1)) | (as_larger & (of_smaller > as_smaller))
    return np.bincount(row[met], minlength=len(counts)) > 0
