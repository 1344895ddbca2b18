"""Whole systems by name: parameters of `SentimentClassifier`, and what the studies vary in them.

`REPORT` is the report's model, `PRETRAINED` one that starts from the language model, `ADVERSARIAL`
the same with adversarial steps, `DISTILLED` one that learns from a teacher, `PRESETS` are four
systems by others, rebuilt from the parts of this package. Plain dictionaries: nothing is loaded to
read them.
"""

from __future__ import annotations

STUDY_NAMES = (
    *("ablation", "full-length", "distillation", "all-labels", "presets", "leaks"),
    *("baselines", "search", "scaling"),
)
SEEDS = (0, 1, 2)
TRIALS = 40
SEARCH_STORAGE = "sqlite:///artifacts/search.db"
BENCH_PARTS = ("steps", "epoch", "keras")

REPORT = {
    "vectors": "imdb",
    "vector_size": 200,
    "min_count": 2,
    "max_words": None,
    "max_length": None,
    "keep": "head_and_tail",
    "hidden_size": 128,
    "pooling": "last",
    "embedding_dropout": 0.5,
    "dropout": 0.5,
    "epochs": 50,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "embedding_rate_factor": 0.05,
}

# Of the language model that comes with the package, see `weights.py`.
LANGUAGE_MODEL = {
    "hidden_size": 512,
    "dropout": 0.1,
    "epochs": 3,
    "batch_size": 32,
    "learning_rate": 2e-3,
    "embedding_rate_factor": 1.0,
    "clip_norm": 1.0,
    "seed": 0,
}
PRETRAINED = {
    "start": "language-model",
    "pooling": "last_mean_max",
    "max_length": 800,
    "embedding_dropout": 0.3,
    "epochs": 2,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "recurrent_rate_factor": 0.5,
    "embedding_rate_factor": 0.3,
    "averaging_decay": 0.99,
}
# The same with adversarial steps, which takes four times as long; 1 is about five times the root
# mean square of the components of the language model's vectors.
ADVERSARIAL = {**PRETRAINED, "epochs": 4, "adversarial_norm": 1.0}
# The classifier that comes with the package, see `distillation.py`.
DISTILLED = {
    "max_length": 800,
    "pieces": 2,
    "hidden_size": 256,
    "pooling": "last_mean_max",
    "embedding_dropout": 0.2,
    "dropout": 0.3,
    "epochs": 4,
    "recurrent_rate_factor": 0.5,
    "embedding_rate_factor": 0.3,
    "averaging_decay": 0.99,
}

# ---- Systems by others ----
# What the four notebooks leave open is as in Keras, in which three are written: words from the end
# of a longer review, vectors from small random numbers, Adam at a constant 1e-3, gradients as they
# are. Keras' `dropout` of an LSTM is a mask on the dimensions of its input, the same at every
# step: spatial dropout.
_LEARNT = {
    "vectors": None,
    "min_count": 1,
    "max_words": 10_000,
    "max_length": 200,
    "keep": "tail",
    "embedding_dropout": 0.0,
    "dropout": 0.0,
    "epochs": 5,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "embedding_rate_factor": 1.0,
    "clip_norm": 1e9,
}
PRESETS = {
    # "Lab 8": a plain RNN and an LSTM side by side, in PyTorch.
    "lab8-rnn": {**_LEARNT, "vector_size": 64, "hidden_size": 128, "cell": "rnn"},
    "lab8-lstm": {**_LEARNT, "vector_size": 64, "hidden_size": 128},
    # "Practical 11": Embedding(128), LSTM(128, dropout=0.2, recurrent_dropout=0.2).
    "practical11": {
        **_LEARNT,
        **{"vector_size": 128, "hidden_size": 128},
        **{"spatial_dropout": 0.2, "recurrent_dropout": 0.2},
    },
    # "Experiment 9", before and after tuning. The spatial dropout of 0.3 and the LSTM's own of 0.2
    # leave 0.7 * 0.8 = 0.56 of the input.
    "experiment9-baseline": {**_LEARNT, "vector_size": 32, "hidden_size": 32},
    "experiment9-tuned": {
        **_LEARNT,
        **{"vector_size": 128, "hidden_size": 64},
        **{"spatial_dropout": 0.44, "recurrent_dropout": 0.2},
    },
    # "Day 17": Embedding(64), LSTM(64).
    "day17": {**_LEARNT, "vector_size": 64, "hidden_size": 64},
}

# ---- What the studies vary ----
# Cheap enough for three seeds of each change to it.
BASE = {**REPORT, "epochs": 6}
# With 7,000 reviews as many steps as BASE takes with 20,000, and with 20,000 as many as fifty
# epochs of 7,000: so that what labels bring can be told from what steps bring.
LONGER = {**BASE, "epochs": 17}

ABLATION = {
    "base": BASE,
    "mean and maximum of all states": {**BASE, "pooling": "mean_max"},
    "both directions": {**BASE, "bidirectional": True},
    "two layers": {**BASE, "num_layers": 2},
    "64 units": {**BASE, "hidden_size": 64},
    "256 units": {**BASE, "hidden_size": 256},
    "no dropout on word vectors": {**BASE, "embedding_dropout": 0.0},
    "spatial dropout 0.3 instead": {**BASE, "embedding_dropout": 0.0, "spatial_dropout": 0.3},
    "recurrent dropout 0.2": {**BASE, "recurrent_dropout": 0.2},
    "no dropout of the pooled state": {**BASE, "dropout": 0.0},
    "frozen word vectors": {**BASE, "freeze_embedding": True},
    "word vectors at the full rate": {**BASE, "embedding_rate_factor": 1.0},
    "Google News vectors": {**BASE, "vectors": "google-news-26k"},
    "word vectors learnt from labels only": {**BASE, "vectors": None, "embedding_rate_factor": 1.0},
    "beginning of long reviews": {**BASE, "keep": "head"},
    "end of long reviews": {**BASE, "keep": "tail"},
    "averaged weights": {**BASE, "averaging_decay": 0.99},
    "label smoothing 0.1": {**BASE, "label_smoothing": 0.1},
    "half the learning rate": {**BASE, "learning_rate": 1e-3},
    "twice the learning rate": {**BASE, "learning_rate": 4e-3},
    "batches of 128": {**BASE, "batch_size": 128},
    "17 epochs": LONGER,
    "GRU": {**BASE, "cell": "gru"},
    "plain RNN": {**BASE, "cell": "rnn"},
}

FULL_LENGTH = {
    "fifty epochs": REPORT,
    "no dropout": {**REPORT, "embedding_dropout": 0.0, "dropout": 0.0},
    "mean and maximum of all states": {**REPORT, "pooling": "mean_max"},
    "GRU": {**REPORT, "cell": "gru"},
}

LEAKS = {  # the mistake, or its counterpart without; see `reviews.leak_data`
    "copies made before the split": "copies split",
    "copies of training reviews only": "copies",
    "vocabulary and vectors from validation text too": "validation text",
    "vocabulary and vectors from training text": "training text",
}
