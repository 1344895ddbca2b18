"""Sentiment of movie reviews with an LSTM written by hand in PyTorch.

The public names, in the order in which data passes through them; each is loaded when it is first
asked for, so that `LSTMLayer` costs no more than PyTorch.
"""

from __future__ import annotations

import importlib

__version__ = "0.2.0"

_MODULES = {
    "text": ("DataError", "Vocabulary", "choose_max_length", "encode_reviews", "tokenize"),
    "data": ("ReviewDataset", "draw_balanced", "load_reviews", "make_loader", "split_reviews"),
    "embeddings": ("build_embedding_matrix", "load_word_vectors", "train_word_vectors"),
    "lstm": ("GRUCell", "LSTMCell", "LSTMLayer", "RNNCell", "RecurrentLayer"),
    "model": ("SentimentLSTM",),
    "training": ("TrainingConfig", "predict_proba", "score", "train"),
    "evaluation": ("compare", "evaluate"),
    "predictor": ("TextPredictor",),
    "classifier": ("SentimentClassifier",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [*_MODULE_OF, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
