"""What a model that ignores the order of words scores: the bar an LSTM has to clear.

Raw review texts and their labels enter; a fitted scikit-learn pipeline that takes raw texts leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from tqdm.auto import tqdm

from lstm_sentiment.text import tokenize

# Fitted on 7,000 reviews, accuracy on 2,000 others rises from 88% at 1 to 90% at 30, no further.
INVERSE_REGULARISATION = 30.0


def tfidf_logistic_regression(texts: Sequence[str], labels: ArrayLike) -> Pipeline:
    """Logistic regression on TF-IDF weights of words and word pairs, fitted on training reviews.

    texts: n reviews; labels: (n,), 0 or 1. `predict_proba(texts)[:, 1]` of the result is the
    probability of positive. Word pairs let it see "not good"; tokens are those the LSTM reads.
    """
    vectorizer = TfidfVectorizer(
        tokenizer=tokenize,
        token_pattern=None,
        lowercase=False,
        ngram_range=(1, 2),
        min_df=2,
        sublinear_tf=True,
    )
    classifier = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)
    progress = tqdm(texts, desc="TF-IDF", unit=" reviews")
    return make_pipeline(vectorizer, classifier).fit(progress, labels)
