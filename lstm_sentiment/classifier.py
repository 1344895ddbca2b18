"""A trained model as one thing that takes text: saved, loaded, asked.

`SentimentPredictor` holds the network with all that stands before it (vocabulary, length), so that
a review's text goes in and a probability comes out. On disk it is `model.safetensors`, the weights,
beside `model.json`, everything else; neither can carry code.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors
import torch
from safetensors.torch import load_file

from lstm_sentiment.data import ReviewDataset
from lstm_sentiment.files.keep import replacing
from lstm_sentiment.lstm import require_positive, require_whole
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.text import (
    DataError,
    Vocabulary,
    encode_reviews,
    tokenize,
    tokenize_all,
    truncate,
)
from lstm_sentiment.training import pick_device, predict_logits, save_weights

GATES = ("forget_gate", "input_gate", "output_gate")


class WordStream:
    """A review that arrives word by word, read in constant memory and constant time per word.

    Args:
        model: the network; it must read forward only.

    Raises:
        ValueError: the network reads backward as well, and would have to wait for the end.
    """

    def __init__(self, model: SentimentLSTM) -> None:
        if model.lstm.bidirectional:
            raise ValueError("a bidirectional model must see a review's end before it can begin")
        self.model = model
        self.words = 0
        zeros = model.embedding.weight.new_zeros(1, model.lstm.hidden_size)
        self._states = [(zeros, zeros) for _ in model.lstm.cells]
        #: Sum and maximum of the hidden states so far, where the network looks at them.
        self._pooled = (zeros, zeros - torch.inf) if model.pooling == "mean_max" else ()

    @property
    def state_bytes(self) -> int:
        """Memory that everything read so far takes."""
        kept = [*self._pooled, *(part for state in self._states for part in state)]
        return sum(tensor.nbytes for tensor in kept)

    @torch.inference_mode()
    def read(self, index: int) -> float:
        """The logit of "positive" after one more word of this index.

        Raises:
            ValueError: the index is no word's.
        """
        model = self.model
        last = model.embedding.num_embeddings - 1
        whole = isinstance(index, Integral) and not isinstance(index, bool)
        if not whole or not 1 <= index <= last:
            raise ValueError(f"index is {index!r}; it must lie between 1 and {last}, and be whole")
        h = model.embedding.weight[index][None]  # (1, D)
        for layer, cell in enumerate(model.lstm.cells):
            self._states[layer] = cell(h, self._states[layer])
            h = self._states[layer][0]  # (1, H)
        self.words += 1
        if self._pooled:
            total, maximum = self._pooled
            self._pooled = (total + h, torch.maximum(maximum, h))
            h = torch.cat([self._pooled[0] / self.words, self._pooled[1]], dim=1)
        return model.output(h).item()


def word_by_word(model: SentimentLSTM, token_ids: Sequence[int]) -> pd.DataFrame:
    """The logit after each word of a review and, of an LSTM, how far its gates were open.

    Returns:
        One row per word: logit and, means over the units of the last layer between 0 and 1,
        forget_gate, input_gate and output_gate.

    Raises:
        ValueError: the network reads backward as well, or an index is no word's.
    """
    logits, openings = _read(model, token_ids)
    return pd.DataFrame({"logit": logits} | {name: o.mean(axis=1) for name, o in openings.items()})


def _read(
    model: SentimentLSTM, token_ids: Sequence[int]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The logits (T,) after each word, and what `gate_openings` returns."""
    stream, last_cell = WordStream(model), model.lstm.cells[-1]
    openings = {name: [] for name in GATES if model.lstm.cell == "lstm"}

    def note(values: list[np.ndarray]):
        return lambda module, inputs, output: values.append(output.sigmoid()[0].cpu().numpy())

    handles = [
        getattr(last_cell, name).register_forward_hook(note(values))
        for name, values in openings.items()
    ]
    try:
        logits = [stream.read(index) for index in np.asarray(token_ids).tolist()]
    finally:
        for handle in handles:
            handle.remove()
    shape = (len(logits), model.lstm.hidden_size)
    return np.array(logits), {
        name: np.array(values).reshape(shape) for name, values in openings.items()
    }


MODEL_FORMAT = 3


class SentimentPredictor:
    """Sentiment of reviews given as text.

    Args:
        model: the network.
        vocabulary: the words behind the rows of the network's embedding.
        max_length: words after which a review is cut, at least 1.
        keep: which part of a longer review is kept, see `truncate`.
        temperature: what logits are divided by, so that probabilities are neither too sure nor too
            cautious, see `fit_temperature`; above 0. It changes no verdict.

    Raises:
        DataError: the vocabulary is not the model's.
        ValueError: another argument has an impossible value; the message names it.

    Example:
        >>> predictor = SentimentPredictor.load("artifacts")
        >>> predictor.predict(["A wonderful film.", "Don't bother."])["sentiment"].tolist()
        ['positive', 'negative']
    """

    def __init__(
        self,
        model: SentimentLSTM,
        vocabulary: Vocabulary,
        max_length: int,
        keep: str,
        temperature: float = 1.0,
    ) -> None:
        if not isinstance(vocabulary, Vocabulary):
            raise ValueError(
                f"vocabulary is a {type(vocabulary).__name__}; it must be a Vocabulary"
            )
        if len(vocabulary) != model.embedding.num_embeddings:
            raise DataError(
                f"the vocabulary has {len(vocabulary)} words, the model's embedding "
                f"{model.embedding.num_embeddings} rows; they do not belong together"
            )
        require_whole(max_length=max_length)
        truncate([], max_length, keep)  # refuses a `keep` that it does not know
        require_positive(temperature=temperature)
        self.model = model
        self.vocabulary = vocabulary
        self.max_length = int(max_length)  # NumPy's numbers cannot be saved
        self.keep = keep
        self.temperature = float(temperature)

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
        return self._probability(predict_logits(self.model, ReviewDataset(token_ids)))

    def predict(self, texts: Iterable[str]) -> pd.DataFrame:
        """For each text `sentiment`, "positive" or "negative", and `probability` of positive."""
        probability = self.predict_proba(texts)
        sentiment = np.where(probability >= 0.5, "positive", "negative")
        return pd.DataFrame({"sentiment": sentiment, "probability": probability})

    def stream(self) -> ReviewStream:
        """A reader for one review that arrives piece by piece.

        Raises:
            ValueError: the network reads backward as well, and would have to wait for the end.
        """
        return ReviewStream(self)

    def word_by_word(self, text: str) -> pd.DataFrame:
        """What the network makes of a text after each of its words, none of them cut.

        Returns:
            One row per word: word, probability (of positive, so far) and, of an LSTM, the mean
            opening of its forget_gate, input_gate and output_gate, between 0 and 1.

        Raises:
            DataError: the text has no word.
            ValueError: the network reads backward as well.
        """
        words = tokenize(text)
        if not words:
            raise DataError(f"the text has no word: {text!r:.80}")
        table = word_by_word(self.model, self.vocabulary.encode(words))
        table.insert(0, "word", words)
        table.insert(1, "probability", self._probability(table.pop("logit").to_numpy()))
        return table

    def _probability(self, logits: np.ndarray) -> np.ndarray:
        scaled = torch.from_numpy(np.asarray(logits, dtype=np.float32)) / self.temperature
        return scaled.sigmoid().numpy()

    def save(self, folder: str | Path = "artifacts") -> None:
        """Write `model.safetensors` and `model.json` into `folder`.

        Raises:
            OSError: they cannot be written.
        """
        folder = Path(folder)
        description = {
            "format": MODEL_FORMAT,
            "torch": str(torch.__version__),
            "model": self.model.options,
            "max_length": self.max_length,
            "keep": self.keep,
            "temperature": self.temperature,
            "vocabulary": {
                "words": self.vocabulary.words,
                "counts": self.vocabulary.counts.tolist(),
            },
        }
        save_weights(self.model, folder / "model.safetensors")
        # Last, and bound to the weights: killed in between, it leaves what `load` refuses.
        description["sha256"] = _model_digest(description, folder)
        with replacing(folder / "model.json") as part:
            part.write_text(json.dumps(description), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path = "artifacts") -> SentimentPredictor:
        """Read what `save` wrote.

        Raises:
            DataError: a file is missing or damaged, or the two are not of the same training.
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
        except (OSError, ValueError, RecursionError, safetensors.SafetensorError) as error:
            raise DataError(f"{folder}: the saved model cannot be read ({error})") from error
        if not isinstance(description, dict) or description.get("format") != MODEL_FORMAT:
            raise DataError(
                f"{folder / 'model.json'}: not a model of format {MODEL_FORMAT}; it was written by "
                "another version of this package. Train it again"
            )
        if description.pop("sha256", None) != _model_digest(description, folder):
            raise DataError(
                f"{folder}: model.json and model.safetensors are not as they were saved together; "
                "one is damaged, or they are of different trainings. Train again"
            )
        try:
            _check_sizes(description["model"], weights)
            vocabulary = Vocabulary(**description["vocabulary"])
            model = SentimentLSTM(
                torch.zeros(weights["embedding.weight"].shape), **description["model"]
            )
            model.load_state_dict(weights)
            broken = [name for name, values in weights.items() if not values.isfinite().all()]
            if broken:
                raise ValueError(f"{', '.join(broken)} hold numbers that are NaN or infinite")
            model.to(pick_device()).eval()
            rest = [description[name] for name in ("max_length", "keep", "temperature")]
            return cls(model, vocabulary, *rest)
        except (LookupError, TypeError, RuntimeError, ValueError) as error:
            raise DataError(
                f"{folder}: model.json and model.safetensors are no model ({error}); train it again"
            ) from error


def _model_digest(description: Mapping, folder: Path) -> str:
    """Of all that is saved, so that it changes with any bit of either file."""
    digest = hashlib.sha256(json.dumps(description).encode())
    digest.update((folder / "model.safetensors").read_bytes())
    return digest.hexdigest()


def _check_sizes(options: Mapping, weights: Mapping[str, torch.Tensor]) -> None:
    """ValueError where sizes are not the weights', before a huge network is built for minutes."""
    directions = 2 if options["bidirectional"] else 1
    cells = {name.split(".")[2] for name in weights if name.startswith("lstm.cells.")}
    states = (1 if options["pooling"] == "last" else 2) * directions
    expected = (directions * options["num_layers"], states * options["hidden_size"])
    if expected != (len(cells), weights["output.weight"].shape[-1]):
        raise ValueError("num_layers or hidden_size is not that of the weights")


class ReviewStream:
    """Reads a review as it arrives, in constant memory; see `SentimentPredictor.stream`.

    Example:
        >>> stream = SentimentPredictor.load("artifacts").stream()
        >>> for piece in ("I expected", "to be bored", "and was not"):
        ...     probability = stream.read(piece)
    """

    def __init__(self, predictor: SentimentPredictor) -> None:
        self._predictor = predictor
        self._words = WordStream(predictor.model)
        self._logit = 0.0

    @property
    def state_bytes(self) -> int:
        """Memory that everything read so far takes."""
        return self._words.state_bytes

    def read(self, text: str) -> float:
        """Probability that all read so far is positive, after some more whole words.

        Before the first word it is 0.5.
        """
        for index in self._predictor.vocabulary.encode(tokenize(text)):
            self._logit = self._words.read(index)
        return float(self._predictor._probability(np.array([self._logit]))[0])


def write_submission(sentiments: Iterable[str], path: str | Path) -> pd.DataFrame:
    """Write the file Kaggle asks for: columns ID (1..n) and sentiment; returns its rows."""
    submission = pd.DataFrame({"sentiment": list(sentiments)})
    submission.insert(0, "ID", range(1, len(submission) + 1))
    with replacing(Path(path)) as part:
        submission.to_csv(part, index=False)
    return submission
