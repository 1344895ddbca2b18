"""Makes what comes with the package, into `lstm_sentiment/weights`, from IMDB's reviews.

    python -m lstm_sentiment.studies.weights vectors
    python -m lstm_sentiment.studies.weights language-model
    python -m lstm_sentiment.studies.weights classifier

The reviews without labels lie in the data folder; labelled and Kaggle reviews are left out of them,
so that vectors and language model serve every split. The second takes hours; interrupted, the same
command goes on, and `torchrun --nproc-per-node 2 -m lstm_sentiment.studies.weights` shares it out.
The third learns from all labelled reviews, a thousand of them to validate.
"""

from __future__ import annotations

import sys

import torch

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.data import load_reviews, split_reviews
from lstm_sentiment.embeddings import train_word_vectors
from lstm_sentiment.files.keep import load_tensors, save_tensors
from lstm_sentiment.files.sources import BUNDLE
from lstm_sentiment.processes import process_group
from lstm_sentiment.studies import presets
from lstm_sentiment.studies.baselines import nb_weighted_bigrams
from lstm_sentiment.studies.distillation import distilled, make_teacher
from lstm_sentiment.studies.language_model import language_model
from lstm_sentiment.studies.reviews import unlabelled_tokens
from lstm_sentiment.text import encode_labels, tokenize_all
from lstm_sentiment.weights import FOLDER

VECTORS = 40_000  # of the most frequent words


def make_vectors() -> None:
    vectors = train_word_vectors(unlabelled_tokens(), vector_size=200)
    tensors = {"vectors": torch.from_numpy(vectors.vectors[:VECTORS])}
    words = {"words": vectors.index_to_key[:VECTORS]}
    save_tensors(FOLDER / "vectors.safetensors", tensors, words, in_8_bits=("vectors",))


def make_language_model() -> None:
    path = FOLDER / "language_model.safetensors"
    save_tensors(path, *load_tensors(language_model()), in_8_bits=("embedding.weight",))


def make_classifier() -> None:
    labelled, _ = load_reviews(BUNDLE)
    parts = split_reviews(labelled, (1 - 1_000 / len(labelled), 1_000 / len(labelled), 0))
    tokens = [tokenize_all(part["review"]) for part in parts]
    numbers = [encode_labels(part["sentiment"]) for part in parts]
    training, validation, _ = zip(tokens, numbers, strict=True)
    adversarial = SentimentClassifier(**presets.ADVERSARIAL).fit(*training, validation)
    teacher = make_teacher((nb_weighted_bigrams(*training), adversarial), validation)
    training, validation, _ = zip(tokens, (part["sentiment"] for part in parts), strict=True)
    classifier = distilled(training, validation, unlabelled_tokens(), teacher)
    path = FOLDER / "classifier.safetensors"
    classifier.save(path)
    save_tensors(path, *load_tensors(path), in_8_bits=("embedding.weight",))


if __name__ == "__main__":
    makers = {
        "vectors": make_vectors,
        "language-model": make_language_model,
        "classifier": make_classifier,
    }
    with process_group():
        for name in sys.argv[1:]:
            makers[name]()
