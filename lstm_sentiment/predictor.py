"""A trained model as one thing that takes text: saved, loaded, asked.

`SentimentPredictor` holds the network with all that stands before it (vocabulary, length), so that
a review's text goes in and a probability comes out. On disk it is `model.safetensors`, the weights,
beside `model.json`, everything else; neither can carry code.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors
import torch
from safetensors.torch import load_file

from lstm_sentiment.data import DataError, ReviewDataset, replacing
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.text import Vocabulary, encode_reviews, tokenize_all
from lstm_sentiment.training import pick_device, predict_proba, save_weights

MODEL_FORMAT = 1


class SentimentPredictor:
    """Sentiment of reviews given as text.

    Args:
        model: the network.
        vocabulary: the words behind the rows of the network's embedding.
        max_length: words after which a review is cut.
        keep: which part of a longer review is kept, see `truncate`.

    Example:
        >>> predictor = SentimentPredictor.load("artifacts")
        >>> predictor.predict(["A wonderful film.", "Don't bother."])["sentiment"].tolist()
        ['positive', 'negative']
    """

    def __init__(self, model: SentimentLSTM, vocabulary: Vocabulary, max_length: int, keep: str):
        if len(vocabulary) != model.embedding.num_embeddings:
            raise DataError(
                f"the vocabulary has {len(vocabulary)} words, the model's embedding "
                f"{model.embedding.num_embeddings} rows; they do not belong together"
            )
        self.model = model
        self.vocabulary = vocabulary
        self.max_length = max_length
        self.keep = keep

    def predict_proba(self, texts: Iterable[str]) -> np.ndarray:
        """Probability (n,) float32 that each text is positive.

        A text without a known word gets one too, what the model makes of unknown words, with a
        warning: it says nothing about the text.

        Raises:
            DataError: a text is not a string.
        """
        token_lists = tokenize_all(texts)
        if not token_lists:
            return np.empty(0, dtype=np.float32)
        unknown = [not any(word in self.vocabulary for word in tokens) for tokens in token_lists]
        if any(unknown):
            warnings.warn(
                f"{sum(unknown):,} of {len(unknown):,} texts (the first is number "
                f"{unknown.index(True) + 1}) hold no word the model knows; their probabilities "
                "mean nothing",
                stacklevel=2,
            )
        token_ids = encode_reviews(token_lists, self.vocabulary, self.max_length, self.keep)
        return predict_proba(self.model, ReviewDataset(token_ids))

    def predict(self, texts: Iterable[str]) -> pd.DataFrame:
        """For each text `sentiment`, "positive" or "negative", and `probability` of positive."""
        probability = self.predict_proba(texts)
        sentiment = np.where(probability >= 0.5, "positive", "negative")
        return pd.DataFrame({"sentiment": sentiment, "probability": probability})

    def save(self, folder: str | Path = "artifacts") -> None:
        """Write `model.safetensors` and `model.json` into `folder`."""
        folder = Path(folder)
        description = {
            "format": MODEL_FORMAT,
            "torch": torch.__version__,
            "model": self.model.options,
            "max_length": self.max_length,
            "keep": self.keep,
            "vocabulary": {
                "words": self.vocabulary.words,
                "counts": self.vocabulary.counts.tolist(),
            },
        }
        save_weights(self.model, folder / "model.safetensors")
        with replacing(folder / "model.json") as part:
            part.write_text(json.dumps(description), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path = "artifacts") -> SentimentPredictor:
        """Read what `save` wrote.

        Raises:
            DataError: a file is missing or damaged, or the two do not fit together.
        """
        folder = Path(folder)
        try:
            description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            weights = load_file(folder / "model.safetensors")
        except FileNotFoundError as error:
            raise DataError(
                f"{error.filename or error}: not found. Train a model first: run the report, or "
                "python -m lstm_sentiment train"
            ) from error
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise DataError(f"{folder}: the saved model cannot be read ({error})") from error
        if not isinstance(description, dict) or description.get("format") != MODEL_FORMAT:
            raise DataError(
                f"{folder / 'model.json'}: not a model of format {MODEL_FORMAT}; it was written by "
                "another version of this package. Train it again"
            )
        try:
            vocabulary = Vocabulary(**description["vocabulary"])
            model = SentimentLSTM(
                torch.zeros(weights["embedding.weight"].shape), **description["model"]
            )
            model.load_state_dict(weights)
            broken = [name for name, values in weights.items() if not values.isfinite().all()]
            if broken:
                raise ValueError(f"{', '.join(broken)} hold numbers that are NaN or infinite")
            model.to(pick_device())
            return cls(model, vocabulary, description["max_length"], description["keep"])
        except (KeyError, TypeError, RuntimeError, ValueError) as error:
            raise DataError(
                f"{folder}: model.json and model.safetensors are no model ({error}); train it again"
            ) from error


def write_submission(sentiments: Iterable[str], path: str | Path) -> pd.DataFrame:
    """Write the file Kaggle asks for: columns ID (1..n) and sentiment; returns its rows."""
    submission = pd.DataFrame({"sentiment": list(sentiments)})
    submission.insert(0, "ID", range(1, len(submission) + 1))
    with replacing(Path(path)) as part:
        submission.to_csv(part, index=False)
    return submission
