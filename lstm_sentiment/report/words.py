"""The tables behind the report's word pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from gensim.models import KeyedVectors
from scipy.stats import mannwhitneyu
from scipy.stats import t as student_t
from sklearn.decomposition import PCA

from lstm_sentiment.text import Vocabulary

# Words of strong feeling, as reviewers use them, for the pictures of the vector space.
POSITIVE_WORDS = """
    amazing awesome beautiful beautifully best breathtaking brilliant brilliantly captivating
    charming classic clever compelling delightful enjoyable enjoyed excellent exceptional
    extraordinary fantastic fascinating favorite finest flawless fun funniest gem great gripping
    heartwarming hilarious incredible loved lovely magnificent marvelous masterpiece memorable
    moving outstanding perfect perfectly powerful recommended refreshing remarkable splendid
    stunning superb superbly terrific thrilling touching unforgettable wonderful wonderfully
"""
NEGATIVE_WORDS = """
    abysmal annoying appalling atrocious avoid awful bad badly bland bored boring cheap cheesy
    clumsy crap disappointing disappointment disaster disgusting dreadful dull embarrassing fails
    flat forgettable garbage hated horrible horrid idiotic inept insult lacks lame laughable
    lousy mediocre mess miserable pathetic pointless poor poorly predictable pretentious
    ridiculous rubbish sloppy stupid tedious terrible trash unbearable unconvincing unfunny
    unwatchable waste wasted weak worse worst
"""


def cosine_table(vectors: KeyedVectors, pairs: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """Cosine similarity of word pairs.

    Args:
        pairs: (word, word, relation), the relation being a label such as "synonym".

    Returns:
        A row per pair: word_a, word_b, relation, cosine_similarity (-1 to 1; NaN where a word has
        no vector).
    """
    table = pd.DataFrame(pairs, columns=["word_a", "word_b", "relation"])
    table["cosine_similarity"] = [
        float(vectors.similarity(a, b)) if a in vectors and b in vectors else np.nan
        for a, b in zip(table["word_a"], table["word_b"], strict=True)
    ]
    return table


def mean_by_relation(table: pd.DataFrame) -> pd.DataFrame:
    """Per relation of a `cosine_table`: mean cosine_similarity and its 95% interval over pairs.

    Returns:
        A row per relation, in their order: pairs, mean, low, high (Student's t distribution).
    """
    similarities = table.groupby("relation", sort=False)["cosine_similarity"]
    pairs, mean = similarities.count(), similarities.mean()
    margin = similarities.sem() * student_t.ppf(0.975, pairs - 1)
    return pd.DataFrame({"pairs": pairs, "mean": mean, "low": mean - margin, "high": mean + margin})


def nearest_words(
    spaces: Mapping[str, KeyedVectors], words: Iterable[str], n: int = 5, among: int = 8_000
) -> pd.DataFrame:
    """The `n` nearest words and their cosine, among the first `among` of each space.

    Returns:
        A column per word and space, the nearest first.
    """
    columns = {
        (word, name): [
            f"{near} ({cosine:.2f})"
            for near, cosine in vectors.most_similar(word, topn=n, restrict_vocab=among)
        ]
        for word in words
        for name, vectors in spaces.items()
    }
    return pd.DataFrame(columns)


def choose_words(vocabulary: Vocabulary, vectors: KeyedVectors, n: int = 300) -> pd.DataFrame:
    """The words to picture: up to a quarter strongly positive, a quarter negative, the rest the
    most frequent; all of them in the vocabulary and with a vector.

    Returns:
        DataFrame of word, group ("positive", "negative" or "frequent") and count, at most n rows.
    """
    group_of = dict.fromkeys(POSITIVE_WORDS.split(), "positive")
    group_of |= dict.fromkeys(NEGATIVE_WORDS.split(), "negative")
    groups = [group_of.get(word, "frequent") for word in vocabulary.words]
    table = pd.DataFrame({"word": vocabulary.words, "group": groups, "count": vocabulary.counts})
    table = table[table.word.isin(vectors.index_to_key)]  # the most frequent first
    feeling = table[table.group != "frequent"].groupby("group").head(n // 4)
    frequent = table[table.group == "frequent"].head(n - len(feeling))
    return pd.concat([feeling, frequent], ignore_index=True)


def project(
    vectors: KeyedVectors, words: Sequence[str], n_components: int
) -> tuple[np.ndarray, np.ndarray]:
    """Principal components of the words' vectors.

    The vectors are brought to unit length first: cosine similarity compares directions, and so
    does the picture; otherwise the lengths, which grow with frequency, would be its main axis.

    Returns:
        Coordinates (n, n_components) and the share of variance (n_components,) each axis explains.
    """
    unit_vectors = np.stack([vectors.get_vector(word, norm=True) for word in words])
    pca = PCA(n_components, svd_solver="full")
    return pca.fit_transform(unit_vectors), pca.explained_variance_ratio_


def mean_cosines(vectors: KeyedVectors, words: pd.DataFrame) -> pd.DataFrame:
    """Mean cosine similarity of all pairs of words, one from each group; of one group, of all
    pairs of different words.

    Args:
        words: `word` and `group`, at least two of each, as `choose_words` returns them.
    """
    groups = {
        group: np.stack([vectors.get_vector(word, norm=True) for word in of_group])
        for group, of_group in words.groupby("group")["word"]
    }

    def mean(a: str, b: str) -> float:
        pairs = groups[a] @ groups[b].T
        if a == b:  # without the diagonal, on which each word meets itself
            pairs = pairs[~np.eye(len(pairs), dtype=bool)]
        return float(pairs.mean())

    return pd.DataFrame({a: {b: mean(a, b) for b in groups} for a in groups})


def separation(
    coordinates: np.ndarray, groups: Sequence[str], some: Sequence[str], others: Sequence[str]
) -> np.ndarray:
    """How well each axis alone tells words of the groups `some` from those of `others`.

    Args:
        coordinates: (n, n_components), as `project` returns them.
        groups: (n,), the group of each word.

    Returns:
        (n_components,), the area under the ROC curve, 0.5 (not at all) to 1 (perfectly). An axis's
        sign, and so its direction, is free.
    """
    a, b = (coordinates[np.isin(np.asarray(groups), names)] for names in (some, others))
    auc = mannwhitneyu(a, b).statistic / (len(a) * len(b))
    return np.maximum(auc, 1 - auc)
