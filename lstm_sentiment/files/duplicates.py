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
    groups = defaultdict(list)
    for label, positions in zip(_similarity_labels(list(copies)), copies.values(), strict=True):
        groups[label] += positions
    return [sorted(group) for group in groups.values()]


def _similarity_labels(texts: Sequence[str]) -> list[int]:
    """The number of its group for each of some different normalised texts."""
    if not texts:
        return []
    shingles = [_shingle_hashes(text) for text in texts]
    sizes = np.array([len(hashes) for hashes in shingles])
    different, columns = np.unique(np.concatenate(shingles), return_inverse=True)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    occurs = csr_array(
        (np.ones(len(columns), dtype=np.int32), columns, starts), (len(texts), len(different))
    )
    # Resembling texts have half of their shingles in common, and most texts have fewer than that
    # in common with all others taken together. Without those, others lack partners too, and so on.
    rows = np.arange(len(texts))
    while True:
        occurs = occurs[:, np.bincount(occurs.indices, minlength=occurs.shape[1]) > 1]
        may_resemble = np.diff(occurs.indptr) >= NEAR_DUPLICATE_SIMILARITY * sizes[rows]
        if may_resemble.all():
            break
        occurs, rows = occurs[may_resemble], rows[may_resemble]
    labels = np.arange(len(texts))
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        in_both = (occurs[start : start + ROWS_AT_A_TIME] @ occurs.T).tocoo()
        first, second = rows[in_both.row + start], rows[in_both.col]
        in_either = sizes[first] + sizes[second] - in_both.data
        near = in_both.data >= NEAR_DUPLICATE_SIMILARITY * in_either
        ends = labels[first[near]], labels[second[near]]
        links = coo_array((np.ones(len(ends[0])), ends), (len(texts), len(texts)))
        labels = connected_components(links, directed=False)[1][labels]
    return labels.tolist()


def _shingle_hashes(text: str) -> np.ndarray:
    """Hashes of the different runs of five words; at 64 bits no two runs share one by chance."""
    words = text.split()
    runs = zip(*(words[offset:] for offset in range(SHINGLE_WORDS)), strict=False)
    hashes = set(map(hash, runs))
    return np.fromiter(hashes, dtype=np.int64, count=len(hashes))
