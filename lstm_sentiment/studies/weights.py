"""Makes what comes with the package, into `lstm_sentiment/weights`, from IMDB's reviews.

    python -m lstm_sentiment.studies.weights vectors
    python -m lstm_sentiment.studies.weights language-model
    python -m lstm_sentiment.studies.weights classifier

The reviews without labels lie in the data folder; labelled and Kaggle reviews are left out of them,
so that vectors and language model serve every split. The second takes hours; interrupted, the same
command goes on. The third learns from all labelled reviews, a thousand of them to validate.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from lstm_sentiment.data import load_reviews, split_reviews
from lstm_sentiment.embeddings import build_embedding_matrix, load_word_vectors, train_word_vectors
from lstm_sentiment.files.keep import load_tensors, save_tensors
from lstm_sentiment.files.sources import BUNDLE
from lstm_sentiment.studies.distillation import distilled, make_teacher
from lstm_sentiment.studies.language_model import pretrained_language_model
from lstm_sentiment.studies.presets import LANGUAGE_MODEL
from lstm_sentiment.studies.reviews import unlabelled_tokens, validation_tokens
from lstm_sentiment.text import Vocabulary, encode_labels, tokenize_all
from lstm_sentiment.weights import FOLDER

VECTORS = 40_000  # of the most frequent words
MAX_WORDS = 25_000  # that the language model knows
VALIDATION_TEXTS = 200  # for the perplexity in the history; nothing is chosen by it


def make_vectors() -> None:
    vectors = train_word_vectors(unlabelled_tokens(), vector_size=200)
    tensors = {"vectors": torch.from_numpy(vectors.vectors[:VECTORS])}
    words = {"words": vectors.index_to_key[:VECTORS]}
    save_tensors(FOLDER / "vectors.safetensors", tensors, words, in_8_bits=("vectors",))


def language_model(backward: bool = False) -> Path:
    """The file, in the data folder, of the language model that reads forward, or backward."""
    step = -1 if backward else 1
    texts = [tokens[::step] for tokens in unlabelled_tokens()]
    validation = [tokens[::step] for tokens in validation_tokens()[:VALIDATION_TEXTS]]
    vocabulary = Vocabulary.from_tokens(texts, 5, MAX_WORDS)
    matrix, _ = build_embedding_matrix(vocabulary, load_word_vectors("imdb"))
    return pretrained_language_model(texts, validation, vocabulary, matrix, **LANGUAGE_MODEL)


def make_language_model() -> None:
    path = FOLDER / "language_model.safetensors"
    save_tensors(path, *load_tensors(language_model()), in_8_bits=("embedding.weight",))


def make_classifier() -> None:
    labelled, _ = load_reviews(BUNDLE)
    parts = split_reviews(labelled, (1 - 1_000 / len(labelled), 1_000 / len(labelled), 0))
    tokens = [tokenize_all(part["review"]) for part in parts]
    numbers = [encode_labels(part["sentiment"]) for part in parts]
    training, validation, _ = zip(tokens, numbers, strict=True)
    teacher = make_teacher(training, validation)
    training, validation, _ = zip(tokens, (part["sentiment"] for part in parts), strict=True)
    classifier = distilled(training, validation, unlabelled_tokens(), teacher)
    classifier.save(FOLDER / "classifier.safetensors", in_8_bits=True)


if __name__ == "__main__":
    makers = {
        "vectors": make_vectors,
        "language-model": make_language_model,
        "classifier": make_classifier,
    }
    for name in sys.argv[1:]:
        makers[name]()
