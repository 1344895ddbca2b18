"""What the LSTM is measured against: models that see no order of words but pairs, or none at all.

Each is fitted on n training reviews, strings or lists of tokens, and their labels (n,), 0 or 1;
`predict_proba(texts)[:, 1]` of the result is the probability of positive.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gensim.models import KeyedVectors
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from tqdm import tqdm

from lstm_sentiment.text import DataError, tokenize, tokenize_all

Texts = Sequence[str | Sequence[str]]


def _tokens(text: str | Sequence[str]) -> Sequence[str]:
    return tokenize(text) if isinstance(text, str) else text


# Words and word pairs of the tokens the LSTM reads; what one review alone holds is left out.
WORDS_AND_PAIRS = {
    "tokenizer": _tokens,
    "token_pattern": None,
    "lowercase": False,
    "ngram_range": (1, 2),
    "min_df": 2,
}
# On the 2,000 validation reviews of the study `baselines`, fitted on 7,000, accuracy at 1, 10, 30
# and 100 is 88.6%, 89.7%, 89.8% and 89.7% with TF-IDF, 88.9%, 90.1%, 90.2% and 90.2% with log-count
# ratios.
INVERSE_REGULARISATION = 30.0


def tfidf_logistic_regression(texts: Texts, labels: ArrayLike) -> Pipeline:
    """Logistic regression on TF-IDF weights of words and word pairs.

    Word pairs let it see "not good".
    """
    model = make_pipeline(
        TfidfVectorizer(**WORDS_AND_PAIRS, sublinear_tf=True),
        LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000),
    )
    return model.fit(tqdm(texts, desc="TF-IDF", unit=" reviews"), labels)


class LogCountRatio(TransformerMixin, BaseEstimator):
    """Weigh each count by how much likelier it is in positive than in negative reviews.

    The weight of feature j is log((1 + p_j) / sum of (1 + p)) - log((1 + q_j) / sum of (1 + q)),
    where p_j and q_j are its counts in positive and in negative reviews (Wang & Manning 2012).

    Attributes:
        log_ratio_: (V,) these weights; above 0 for what speaks for positive.
    """

    def fit(self, counts: sparse.csr_matrix, labels: ArrayLike) -> LogCountRatio:
        """counts: (n, V); labels: (n,), 0 or 1. ValueError unless both occur."""
        bayes = MultinomialNB(alpha=1.0).fit(counts, labels)  # 0.5 and 2 are no more accurate
        if bayes.classes_.tolist() != [0, 1]:
            raise ValueError(f"labels must be 0 and 1, both, got {bayes.classes_.tolist()}")
        negative, positive = bayes.feature_log_prob_
        self.log_ratio_ = positive - negative
        return self

    def transform(self, counts: sparse.csr_matrix) -> sparse.csr_matrix:
        """Counts (n, V) to weighted counts (n, V)."""
        return counts @ sparse.diags(self.log_ratio_)


def nb_weighted_bigrams(texts: Texts, labels: ArrayLike) -> Pipeline:
    """Logistic regression on which words and word pairs occur, each weighed by `LogCountRatio`.

    The NB-SVM of Wang & Manning (2012), for long a strong baseline on these reviews, with logistic
    regression for its probabilities; each review's weights are scaled to length 1, so that the same
    regularisation suits it as TF-IDF. Word triples as well give 90.8% instead of 90.2% on the 2,000
    reviews of `INVERSE_REGULARISATION`.
    """
    model = make_pipeline(
        CountVectorizer(**WORDS_AND_PAIRS, binary=True),
        LogCountRatio(),
        Normalizer(),
        LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000),
    )
    return model.fit(tqdm(texts, desc="NB-weighted bigrams", unit=" reviews"), labels)


def mean_word_vectors(texts: Texts, vectors: KeyedVectors) -> np.ndarray:
    """(n, D) mean of the vectors of each review's known words; zeros if it has none."""
    means = np.zeros((len(texts), vectors.vector_size))
    for row, text in enumerate(texts):
        known = [
            vectors.key_to_index[word] for word in _tokens(text) if word in vectors.key_to_index
        ]
        if known:
            means[row] = vectors.vectors[known].mean(axis=0)
    return means


def averaged_word_vectors(texts: Texts, labels: ArrayLike, vectors: KeyedVectors) -> Pipeline:
    """Logistic regression on `mean_word_vectors`, standardised.

    The bar for an LSTM that reads the same vectors: what they give without any order of words. The
    probability means nothing for a review without a known word, as no training review is near the
    zero vector.

    Raises:
        DataError: no word of `texts` has a vector.
    """
    token_lists = tokenize_all(texts, "mean word vectors")
    if not any(word in vectors.key_to_index for tokens in token_lists for word in tokens):
        raise DataError("no word of the texts has a vector; are the vectors of another language?")
    model = make_pipeline(
        FunctionTransformer(mean_word_vectors, kw_args={"vectors": vectors}),
        StandardScaler(),
        # From C = 1 on, accuracy on 2,000 reviews stays at 86%; below, it falls.
        LogisticRegression(C=1.0, max_iter=1000),
    )
    return model.fit(token_lists, labels)
