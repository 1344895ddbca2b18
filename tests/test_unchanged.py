"""Tokens, splits, batches and trainings are those recorded before the package was rebuilt.

The training with adversarial steps is that recorded when they began to move each review. Whatever
changes one of these numbers changes results that were published with them.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from recorded import RECORDED, WORDS, texts_and_sentiments

from lstm_sentiment import text
from lstm_sentiment.data import ReviewDataset, draw_balanced, make_loader, split_reviews
from lstm_sentiment.embeddings import build_embedding_matrix
from lstm_sentiment.files.vectors import as_keyed_vectors
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.text import tokenize
from lstm_sentiment.training import TrainingConfig, predict_proba, train

SENTENCES = [
    "<br />I DIDN'T like it &amp; can't see why it's rated 8/10...  It wasn&#39;t even_funny!",
    "Don\u2019t bother. Wouldnt watch again; shan't, ain't, won't, cannot.",
    "Cafe\u0301 cr\u00e8me, na\u00efve \u2014 <3 <sigh> <b class=\"x\">bold</b> they'll they've "
    "I'd I'm you're John's",
    "\uff21\uff22\uff23 \u0660\u0661 100% a_b `quoted' n't did n't \u4e2d\u6587 \U0001f600 \u00bd",
    "",
]
DROPPED = {"embedding_dropout": 0.2, "spatial_dropout": 0.1, "recurrent_dropout": 0.2}
WIDE = {"dropout": 0.3, "num_layers": 2, "bidirectional": True, "pooling": "mean_max"}
REGULARISED = {"label_smoothing": 0.1, "averaging_decay": 0.9, "adversarial_norm": 1.0}
TRAININGS = {
    "plain": ({"embedding_dropout": 0.5, "dropout": 0.5}, {}),
    "everything": ({**DROPPED, **WIDE}, {**REGULARISED, "recurrent_rate_factor": 0.5}),
    "gru": ({"cell": "gru", "dropout": 0.2}, {"schedule": "constant"}),
    "rnn, frozen": ({"cell": "rnn", "freeze_embedding": True}, {}),
}
HISTORY = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "is_best"]


@pytest.fixture(scope="module")
def pipeline() -> SimpleNamespace:
    """Every step from texts to datasets and word vectors."""
    texts, sentiments = texts_and_sentiments()
    reviews = pd.DataFrame({"review": texts, "sentiment": sentiments})
    reviews = reviews.drop_duplicates("review", ignore_index=True)
    split = split_reviews(draw_balanced(reviews, 200, 3), seed=1)
    tokens = [[tokenize(review) for review in part["review"]] for part in split]
    vocabulary = text.Vocabulary.from_tokens(tokens[0])
    max_length = text.choose_max_length([len(words) for words in tokens[0]]).max_length
    numbers = np.random.default_rng(2).normal(size=(10, 12)).astype(np.float32)
    matrix, _ = build_embedding_matrix(vocabulary, as_keyed_vectors(WORDS[:10], numbers), 4)
    sets = []
    for words, part in zip(tokens, split, strict=True):
        token_ids = text.encode_reviews(words, vocabulary, max_length)
        sets.append(ReviewDataset(token_ids, text.encode_labels(part["sentiment"])))
    names = {"split": split, "vocabulary": vocabulary, "max_length": max_length}
    return SimpleNamespace(**names, matrix=matrix, sets=sets)


def test_sentences_have_the_same_tokens():
    assert [tokenize(sentence) for sentence in SENTENCES] == RECORDED["sentences"]


def test_splits_vocabulary_vectors_and_batches_are_the_same(pipeline):
    assert [part.index.tolist() for part in pipeline.split] == RECORDED["split"]
    assert pipeline.vocabulary.words == RECORDED["vocabulary"]
    assert pipeline.max_length == RECORDED["max_length"]
    np.testing.assert_allclose(pipeline.matrix, RECORDED["matrix"], atol=1e-5)
    loader = make_loader(pipeline.sets[0], 16, shuffle=True, seed=3)
    loader.batch_sampler.set_epoch(2)
    assert [batch.rows.tolist() for batch in loader] == RECORDED["batches"]


@pytest.mark.parametrize("name", TRAININGS)
def test_trainings_have_the_same_parameters_histories_and_verdicts(pipeline, name, tmp_path):
    options, settings = TRAININGS[name]
    train_set, validation_set, test_set = pipeline.sets
    torch.manual_seed(7)
    model = SentimentLSTM(pipeline.matrix, hidden_size=8, **options)
    shapes = {key: list(weight.shape) for key, weight in model.state_dict().items()}
    assert shapes == RECORDED["parameters"][name]
    config = TrainingConfig(epochs=3, batch_size=16, learning_rate=0.01, seed=7, **settings)
    history = train(model, train_set, validation_set, config, checkpoint=tmp_path / "c")
    expected = RECORDED["trainings"][name]
    np.testing.assert_allclose(history[HISTORY].astype(float), expected["history"], atol=1e-5)
    found = predict_proba(model, test_set)
    np.testing.assert_allclose(found, expected["probabilities"], atol=1e-5)
