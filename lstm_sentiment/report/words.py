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
FILM_WORDS = """
    acting action actor actors actress animation audience book budget camera career cast character
    characters cinema cinematography comedy costumes dialog dialogue director directed documentary
    drama dvd editing effects ending episode episodes fans fiction film filmed filmmakers films
    footage genre hollywood horror lead lines movie movies music musical narrative novel performance
    performances photography picture play played plot producer production role roles romance scene
    scenes score screen screenplay script sequel sequence series set shot shots show song songs
    soundtrack star stars story storyline studio style television theater thriller tv version video
    viewer viewers western writer writing written
"""
_PAIRS = {
    "synonym": """
        good great, bad awful, film movie, funny hilarious, boring dull, beautiful gorgeous,
        brilliant superb, stupid dumb, scary creepy, actor performer, ending conclusion, sad tragic,
        amazing incredible, terrible horrible, smart clever
    """,
    "opposite": """
        good bad, love hate, best worst, great terrible, beautiful ugly, funny serious,
        boring exciting, happy sad, strong weak, smart stupid, interesting dull, success failure,
        better worse, masterpiece disaster, realistic unrealistic
    """,
    "unrelated": """
        good digital, love walk, best final, great local, beautiful political, funny young,
        boring foreign, happy public, strong live, smart original, interesting female, success car,
        better younger, masterpiece brother, realistic sexual
    """,
}
# Each pair is of one part of speech, unrelated ones too, so that grammar alone brings none closer.
PAIRS = [(*pair.split(), name) for name, pairs in _PAIRS.items() for pair in pairs.split(",")]


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


def choose_words(vocabulary: Vocabulary, vectors: KeyedVectors, n: int = 240) -> pd.DataFrame:
    """The words to picture: a quarter of strong praise, of strong blame, of film-making and of none
    of these, the most frequent of each; all of them in the vocabulary and with a vector.

    Returns:
        DataFrame of word, group ("positive", "negative", "film" or "other") and count, at most n
        rows.
    """
    lists = {"positive": POSITIVE_WORDS, "negative": NEGATIVE_WORDS, "film": FILM_WORDS}
    group_of = {word: group for group, words in lists.items() for word in words.split()}
    groups = [group_of.get(word, "other") for word in vocabulary.words]
    table = pd.DataFrame({"word": vocabulary.words, "group": groups, "count": vocabulary.counts})
    table = table[table.word.isin(vectors.index_to_key)]  # the most frequent first
    return table.groupby("group").head(n // 4).reset_index(drop=True)


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
