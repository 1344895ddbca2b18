"""What the report asks of a network, and what recurrent networks cannot do well.

Groups of reviews by length and negation, copies between sets, the surest errors; how far back a
gradient reaches; a task whose answer is the first word; reviews whose words come in random order.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy.special import logit
from torch.utils.data import DataLoader
from tqdm import tqdm

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.evaluation import wilson_interval
from lstm_sentiment.files.duplicates import near_duplicate_groups
from lstm_sentiment.model import SentimentLSTM, evaluating
from lstm_sentiment.text import normalised_text, without_markup

EXCERPT_LENGTH = 160  # characters
# The tokenizer turns "didn't" into "did not"; "hardly" and "barely" weaken more than they negate.
NEGATION_WORDS = frozenset(
    ("neither", "never", "no", "nobody", "none", "nor", "not", "nothing", "nowhere", "without")
)
NEGATION_GROUPS = ("none", "under 1", "1 to 2", "2 to 3", "3 and more")  # per 100 words


def batch_padding_share(loader: DataLoader) -> float:
    """Share of padding among all positions of the batches of one pass over `loader`."""
    lengths = loader.dataset.lengths
    positions = sum(len(rows) * int(lengths[rows].max()) for rows in loader.batch_sampler)
    return 1 - int(lengths.sum()) / positions


def accuracy_by_length(
    labels: ArrayLike, probabilities: ArrayLike, lengths: ArrayLike
) -> pd.DataFrame:
    """Accuracy in five equally large groups of reviews, from the shortest to the longest.

    labels, probabilities, lengths (in tokens): (n,). Reviews of one length stay together, so that
    ties can leave fewer groups. Columns: range ("12-118"), n, accuracy, and low and high, the ends
    of its 95% interval.
    """
    lengths = np.asarray(lengths)
    inner_edges = np.unique(np.quantile(lengths, [0.2, 0.4, 0.6, 0.8]))
    group_of_review = np.searchsorted(inner_edges, lengths)
    spans = pd.Series(lengths).groupby(group_of_review).agg(["min", "max"])
    names = {group: f"{shortest}-{longest}" for group, shortest, longest in spans.itertuples()}
    return _accuracy_by_group(labels, probabilities, group_of_review, names)


def accuracy_by_negation(
    labels: ArrayLike, probabilities: ArrayLike, token_lists: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Accuracy by how often a review negates: no negation, then by negations per 100 words.

    labels, probabilities: (n,); token_lists: n tokenized reviews. Negations are the tokens in
    NEGATION_WORDS; a rate, unlike a count, does not merely tell long reviews from short ones.
    Columns: range ("none", "under 1", "1 to 2" with the lower end, ...), n, accuracy, low and high
    as in `accuracy_by_length`, and positive, the share of positive reviews: it falls as negations
    grow, so that a group's larger class is the accuracy to beat. Groups without reviews are absent.
    """
    counts = np.array([sum(token in NEGATION_WORDS for token in review) for review in token_lists])
    words = np.array([max(len(review), 1) for review in token_lists])
    last = len(NEGATION_GROUPS) - 1
    group_of_review = np.where(counts > 0, np.minimum(1 + 100 * counts // words, last), 0)
    table = _accuracy_by_group(labels, probabilities, group_of_review, NEGATION_GROUPS)
    return table.assign(positive=pd.Series(labels).groupby(group_of_review).mean().to_numpy())


def _accuracy_by_group(
    labels: ArrayLike,
    probabilities: ArrayLike,
    group_of_review: np.ndarray,
    names: Sequence[str] | Mapping[int, str],
) -> pd.DataFrame:
    right = pd.Series((np.asarray(probabilities) >= 0.5) == np.asarray(labels))
    rows = []
    for group, of_group in right.groupby(group_of_review):
        interval = wilson_interval(of_group.sum(), len(of_group))
        rows.append((names[group], len(of_group), of_group.mean(), *interval))
    return pd.DataFrame(rows, columns=["range", "n", "accuracy", "low", "high"])


def audit(sets: Mapping[str, Iterable[str]]) -> pd.DataFrame:
    """How many texts of each set are copies or near duplicates of others, there and in other sets.

    sets: name -> texts, in the order in which they should be independent: training first.
    Returns one row for each set with itself and with every set before it. Of the `n` texts of
    `set`, `exact` have the same `normalised_text` as another one in `compared_with`; `near` further
    ones share a group of `near_duplicate_groups` with one there. Anything but 0 between training
    and test texts means that a test score is partly memory.
    """
    keys = [(name, normalised_text(text) or text) for name in sets for text in sets[name]]
    table = pd.DataFrame(keys, columns=["set", "key"])
    group_of_text = np.empty(len(table), dtype=np.int64)
    for number, positions in enumerate(near_duplicate_groups(table["key"])):
        group_of_text[positions] = number
    table["group"] = group_of_text
    rows = []
    for number, name in enumerate(sets):
        texts = table[table["set"] == name]
        for other in list(sets)[: number + 1]:
            others = table[table["set"] == other]
            least = 2 if other == name else 1  # in its own set each text finds itself
            exact = texts["key"].map(others["key"].value_counts()) >= least
            alike = texts["group"].map(others["group"].value_counts()) >= least
            rows.append((name, len(texts), other, exact.sum(), (alike & ~exact).sum()))
    return pd.DataFrame(rows, columns=["set", "n", "compared_with", "exact", "near"])


def misclassified(reviews: pd.DataFrame, probabilities: ArrayLike, n: int = 10) -> pd.DataFrame:
    """The `n` errors of which the model was surest, surest first.

    reviews: DataFrame with `review` and `sentiment`; probabilities: (len(reviews),), row by row.
    Returns excerpt (the review's first words, at most 160 characters), sentiment (the true one) and
    probability (of positive), under the index of `reviews`.
    """
    table = reviews[["review", "sentiment"]].assign(probability=probabilities)
    wrong = table[(table["probability"] >= 0.5) != (table["sentiment"] == "positive")]
    surest = wrong.sort_values("probability", key=lambda p: -abs(p - 0.5), kind="stable").head(n)
    excerpts = surest["review"].map(_excerpt)
    return surest.assign(excerpt=excerpts)[["excerpt", "sentiment", "probability"]]


def decisive_words(classifier: SentimentClassifier, text: str, n: int = 12) -> str:
    """The `n` words in a row that move the log-odds most towards the verdict at the text's end."""
    course = classifier.word_by_word(text)
    odds = logit(course["probability"].to_numpy(np.float64).clip(1e-6, 1 - 1e-6))
    odds = np.insert(odds, 0, 0.0)  # before the first word
    moves = (odds[n:] - odds[:-n]) * np.sign(odds[-1])  # none, if the text is shorter
    start = int(moves.argmax()) if len(moves) else 0
    return " ".join(course["word"].iloc[start : start + n])


def _excerpt(review: str) -> str:
    return textwrap.shorten(without_markup(review), EXCERPT_LENGTH, placeholder=" …")


def influence_by_distance(
    model: SentimentLSTM, dataset: ReviewDataset, max_distance: int
) -> pd.DataFrame:
    """How strongly the verdict still depends on words further and further from a review's end.

    For each review longer than `max_distance`: the norm of the gradient of the logit with respect
    to the vector of the word that stands `distance` words before the end, relative to the last
    word's. Where it vanishes, the network cannot have learnt from words that far back.

    Args:
        model: the network.
        dataset: reviews.
        max_distance: how far back to go, in words.

    Returns:
        One row per distance 0..max_distance: distance, and the median over reviews.

    Raises:
        ValueError: no review is longer than `max_distance`.
    """
    device = next(model.parameters()).device
    rows = np.flatnonzero(dataset.lengths > max_distance)
    if len(rows) == 0:
        raise ValueError(
            f"max_distance is {max_distance}; the longest review has {dataset.lengths.max()} words"
        )
    norms = []
    with evaluating(model):
        for start in tqdm(range(0, len(rows), 64), desc="gradients", unit="batch", delay=2):
            batch = dataset.__getitems__(rows[start : start + 64])
            vectors = model.embedding(batch.token_ids.to(device)).detach().requires_grad_()
            logits = model.classify(vectors, batch.lengths)
            (gradients,) = torch.autograd.grad(logits.sum(), vectors)  # (B, T, D), of no weight
            # Squares of what has faded would be too small for float32.
            norm = gradients.cpu().double().norm(dim=2)  # (B, T)
            distances = torch.arange(max_distance + 1)
            norms.append(norm.gather(1, batch.lengths[:, None] - 1 - distances))  # (B, distances)
    relative = torch.cat(norms).numpy()
    relative = relative / relative[:, :1]
    return pd.DataFrame(
        {"distance": np.arange(max_distance + 1), "median": np.median(relative, axis=0)}
    )


def shuffled(dataset: ReviewDataset, seed: int) -> ReviewDataset:
    """The same reviews, the words of each in random order."""
    rng = np.random.default_rng(seed)
    token_ids = [rng.permutation(dataset[row][0].numpy()) for row in range(len(dataset))]
    return ReviewDataset(token_ids, dataset.labels)
