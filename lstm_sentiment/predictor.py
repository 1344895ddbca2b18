"""A trained network with what stands before it: text goes in, a verdict comes out.

`TextPredictor` judges texts at once or as they arrive, and is read from one file that cannot carry
code. `SentimentClassifier`, which learns, is one as well; this part of it needs no scikit-learn, so
that a saved model answers as soon as PyTorch is there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.files.keep import load_tensors
from lstm_sentiment.model import SentimentLSTM, WordStream
from lstm_sentiment.text import (
    HEAD_SHARES,
    UNKNOWN_INDEX,
    DataError,
    Vocabulary,
    encode_reviews,
    tokenize,
    tokenized,
)
from lstm_sentiment.training import pick_device, predict_logits
from lstm_sentiment.weights import weights_file

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import Self

    Texts = Iterable[str | Sequence[str]]

MODEL_FILE = "model.safetensors"
MODEL_OPTIONS = (
    *("hidden_size", "num_layers", "bidirectional", "pooling", "cell", "freeze_embedding"),
    *("embedding_dropout", "spatial_dropout", "recurrent_dropout", "dropout"),
)


class TextPredictor:
    """Sentiment of reviews given as text, by a network that has learnt; made by `load`.

    Attributes:
        classes_: (2,) the labels, sorted; the second is what a high probability means.
        vocabulary_, max_length_, keep, model_: how a text is read, and the network. Of a text of
            more than `max_length_` words `predict` reads the part that `keep` names, as it was in
            training; `stream` and `word_by_word` read it whole, and may end with another verdict.
            `predict` agrees with them once a higher `max_length_` is set.
        temperature_: what logits are divided by, so that probabilities are neither too sure nor too
            cautious, see `fit_temperature`. It changes no verdict.

    Example:
        >>> predictor = TextPredictor.from_pretrained()
        >>> predictor.predict(["A wonderful film.", "Don't bother."])
        array(['positive', 'negative'], dtype='<U8')
    """

    classes_: np.ndarray
    vocabulary_: Vocabulary
    max_length_: int
    keep: str
    model_: SentimentLSTM
    temperature_: float
    hidden_size: int
    num_layers: int
    bidirectional: bool

    def __init__(self, **settings: Any) -> None:
        vars(self).update({name: settings[name] for name in (*MODEL_OPTIONS, "keep")})

    def predict(self, texts: Texts) -> np.ndarray:
        """(n,) the label of each text."""
        return self.verdicts(texts)[0]

    def verdicts(self, texts: Texts) -> tuple[np.ndarray, np.ndarray]:
        """(n,) the label of each text, and (n,) the probability of the second class."""
        positive = self.predict_proba(texts)[:, 1]
        return self.classes_[(positive >= 0.5).astype(int)], positive

    def predict_proba(self, texts: Texts) -> np.ndarray:
        """(n, 2) calibrated probabilities of the two `classes_`.

        A text without a known word gets them too, what the network makes of unknown words, with a
        warning: they say nothing about the text.

        Raises:
            DataError: a text is not a string.
        """
        if not hasattr(self, "model_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("fit the classifier first, or load one")
        token_ids = self._encoded(tokenized(texts))
        if not token_ids:
            return np.empty((0, 2), dtype=np.float32)
        unknown = [max(ids, default=UNKNOWN_INDEX) == UNKNOWN_INDEX for ids in token_ids]
        if any(unknown):
            warnings.warn(
                f"{sum(unknown):,} of {len(unknown):,} texts (the first is number "
                f"{unknown.index(True) + 1}) hold no word the model knows; their probabilities "
                "mean nothing",
                stacklevel=2,
            )
        positive = self._probability(predict_logits(self.model_, ReviewDataset(token_ids)))
        return np.stack([1 - positive, positive], axis=1)

    def stream(self) -> ReviewStream:
        """A reader for one review that arrives piece by piece, none of it cut, unlike `predict`.

        Raises:
            ValueError: the network reads backward as well.
        """
        return ReviewStream(self)

    def word_by_word(self, text: str) -> pd.DataFrame:
        """What the network makes of a text after each word, none of them cut, unlike `predict`.

        Returns:
            One row per word: word, probability (of the second class, so far) and, of an LSTM, the
            mean opening of its forget_gate, input_gate and output_gate, between 0 and 1.

        Raises:
            DataError: the text has no word.
            ValueError: the network reads backward as well.
        """
        import pandas as pd

        words, stream = tokenize(text), self.stream()
        if not words:
            raise DataError(f"the text has no word: {text!r:.80}")
        rows = []
        for word in words:
            row = {"word": word, "probability": stream.read_word(word)}
            gates = stream.words.gates().items()
            rows.append(row | {name: float(openings.mean()) for name, openings in gates})
        return pd.DataFrame(rows)

    def _encoded(self, token_lists: Iterable[Sequence[str]]) -> list[Sequence[int]]:
        """Word indices of each text, as many as the network reads."""
        return encode_reviews(token_lists, self.vocabulary_, self.max_length_, self.keep)

    def _probability(self, logits: np.ndarray) -> np.ndarray:
        scaled = torch.from_numpy(np.asarray(logits, dtype=np.float32)) / self.temperature_
        return scaled.sigmoid().numpy()

    @classmethod
    def load(cls, path: str | Path = "artifacts") -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: the file is missing, damaged or no classifier.
        """
        path = model_file(path)
        if not path.exists():
            raise DataError(
                f"{path}: not found. Train a model first: run the report, or "
                "python -m lstm_sentiment train"
            )
        tensors, description = load_tensors(path)
        try:
            predictor = cls(**description["settings"])
            predictor.vocabulary_ = Vocabulary(description["words"], tensors.pop("counts").numpy())
            predictor.classes_ = np.array(description["classes"])
            predictor.temperature_ = float(description["temperature"])
            predictor.max_length_ = int(description["settings"]["max_length"])
            # Each cell has a matrix (H, H): no more layers are built than the file has numbers for.
            held = sum(part.numel() for name, part in tensors.items() if name.startswith("lstm."))
            if not 0 < predictor.num_layers * predictor.hidden_size**2 <= held:
                raise ValueError("num_layers or hidden_size is not that of the weights")
            with torch.device("meta"):  # nothing is drawn, in no dtype, for weights that follow
                model = SentimentLSTM(tensors["embedding.weight"], **predictor._of(MODEL_OPTIONS))
            weights = {name: part.to(torch.float32, copy=True) for name, part in tensors.items()}
            model.load_state_dict(weights, assign=True)
            if len(predictor.vocabulary_) != len(model.embedding.weight):
                raise ValueError("the vocabulary is not that of the word vectors")
            if not all(part.isfinite().all() for part in weights.values()):
                raise ValueError("weights are NaN or infinite")
            shares = [getattr(predictor, name) for name in MODEL_OPTIONS if "dropout" in name]
            if not all(0 <= share <= 1 for share in shares) or predictor.keep not in HEAD_SHARES:
                raise ValueError("keep or a dropout is impossible")
            lowest = min(predictor.temperature_, predictor.max_length_)
            if not 0 < lowest < np.inf or predictor.classes_.shape != (2,):
                raise ValueError("temperature, max_length or classes are impossible")
        except (LookupError, TypeError, RuntimeError, ValueError, OverflowError) as error:
            raise DataError(f"{path} is no classifier ({error}); train it again") from error
        predictor.model_ = model.to(pick_device()).eval()
        return predictor

    @classmethod
    def from_pretrained(cls) -> Self:
        """The classifier that comes with the package; see `weights/classifier.md`."""
        return cls.load(weights_file("classifier"))

    def _of(self, names: Iterable[str]) -> dict:
        """Settings by name; a search may set numbers of NumPy, which files cannot hold."""
        values = {name: getattr(self, name) for name in names}
        return {n: v.item() if isinstance(v, np.generic) else v for n, v in values.items()}


def model_file(path: str | Path) -> Path:
    """The file that `path` names, or in the folder `path` the one that `save` writes."""
    path = Path(path)
    return path if path.suffix == ".safetensors" else path / MODEL_FILE


class ReviewStream:
    """Reads a review as it arrives, in constant memory; see `TextPredictor.stream`.

    It reads every word, where `predict` cuts one of more than `max_length_` words.

    Example:
        >>> stream = TextPredictor.from_pretrained().stream()
        >>> for piece in ("I expected", "to be bored", "and was not"):
        ...     probability = stream.read(piece)
    """

    def __init__(self, predictor: TextPredictor) -> None:
        self.predictor = predictor
        self.words = WordStream(predictor.model_)
        self.probability = 0.5

    @property
    def state_bytes(self) -> int:
        """Memory that everything read so far takes."""
        return self.words.state_bytes

    def read(self, text: str) -> float:
        """Probability of the second class after some more whole words; 0.5 before the first."""
        for word in tokenize(text):
            self.read_word(word)
        return self.probability

    def read_word(self, word: str) -> float:
        """The same after one more token."""
        logit = self.words.read(self.predictor.vocabulary_[word])
        self.probability = float(self.predictor._probability(np.array([logit]))[0])
        return self.probability
