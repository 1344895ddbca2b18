"""One self-contained web page that reads a review word by word, in whatever browser opens it.

`network.js` is the tokenizer and the LSTM, `page.js` what one sees of them, `page.html` and
`page.css` how it looks. `write_page` puts them and a classifier into one file that loads nothing,
needs no server and, by its own content security policy, may run no other script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lstm_sentiment.files.keep import replacing
from lstm_sentiment.lstm import LSTMCell
from lstm_sentiment.text import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from lstm_sentiment.predictor import TextPredictor

FOLDER = Path(__file__).parent
# Numbers are rounded, each row to so many steps either side of zero. Errors of the LSTM's weights
# and of the most frequent words' vectors add up over a text: 12 bits each. Other words do with 8.
PRECISE_STEPS, STEPS = 2047, 127
PRECISE_WORDS = 500


def write_page(predictor: TextPredictor, path: str | Path) -> int:
    """Write a page that judges texts as `predictor.word_by_word` does; returns its size in bytes.

    Raises:
        DataError: the network reads backward as well, or is no LSTM: it has no such gates to show.
        OSError: the file cannot be written; what was there before is unchanged.
    """
    if predictor.bidirectional:
        raise DataError("a bidirectional model cannot follow words as they arrive; train another")
    if not _cells(predictor):
        raise DataError("the page shows the gates of an LSTM; train one with cell='lstm'")
    content = _page(_packed(predictor)).encode()
    with replacing(path) as part:
        part.write_bytes(content)
    return len(content)


def _packed(predictor: TextPredictor) -> bytes:
    """What the page needs of a classifier: a length, that many bytes of JSON, then the numbers.

    The numbers are, one after another: the float32 ones (of each layer the biases and the steps of
    the rows of its weights; the output's weights and bias; the steps of the word vectors), those of
    12 bits, first all their low bytes, then the high ones, which compress well (of each layer the
    weights, (4H, H + D) in the order f, i, g, o; vectors of the first words), and the vectors of
    the other words, int8.
    """
    model = predictor.model_
    hidden = model.lstm.hidden_size
    floats, precise = [], []
    for cell in _cells(predictor):
        gates = (cell.forget_gate, cell.input_gate, cell.candidate, cell.output_gate)
        matrix = np.concatenate([_array(gate.weight) for gate in gates])
        weights, steps = rounded(matrix, PRECISE_STEPS)
        floats += [np.concatenate([_array(gate.bias) for gate in gates]), steps]
        precise += _bytes_of(weights)
    limits = np.full(len(predictor.vocabulary_), PRECISE_STEPS)
    limits[PRECISE_WORDS:] = STEPS
    vectors, steps = rounded(_array(model.embedding.weight), limits)
    floats += [_array(model.output.weight), _array(model.output.bias), steps]
    settings = {
        "words": predictor.vocabulary_.words,
        "classes": [str(label) for label in predictor.classes_],
        "temperature": predictor.temperature_,
        "pooling": model.pooling,
        "hidden": hidden,
        "precise": len(limits[:PRECISE_WORDS]),
        "inputs": [cell.forget_gate.in_features - hidden for cell in _cells(predictor)],
    }
    text = json.dumps(settings).encode()
    numbers = [*(part.astype("<f4") for part in floats), *precise]
    numbers += [*_bytes_of(vectors[:PRECISE_WORDS]), vectors[PRECISE_WORDS:].astype(np.int8)]
    return b"".join([len(text).to_bytes(4, "little"), text, *(part.tobytes() for part in numbers)])


def rounded(matrix: np.ndarray, limits: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (N, D) as int16 within plus and minus `limits`, and the step (N,) of each row."""
    steps = np.maximum(np.abs(matrix).max(axis=1), 1e-30) / limits
    return np.rint(matrix / steps[:, None]).astype(np.int16), steps.astype(np.float32)


def _bytes_of(numbers: np.ndarray) -> list[np.ndarray]:
    """The low bytes of int16 numbers, and the high ones with the sign."""
    return [(numbers & 255).astype(np.uint8), (numbers >> 8).astype(np.int8)]


def _cells(predictor: TextPredictor) -> list[LSTMCell]:
    """The network's cells, the lowest first, if they are an LSTM's."""
    return [cell for cell in predictor.model_.lstm.cells if isinstance(cell, LSTMCell)]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _page(packed: bytes) -> str:
    """The template with its parts in place."""
    style, *scripts = (
        (FOLDER / name).read_text(encoding="utf-8")
        for name in ("page.css", "network.js", "page.js")
    )
    script = "\n".join(scripts)
    parts = {
        "STYLE_HASH": _hash(style),
        "SCRIPT_HASH": _hash(script),
        "STYLE": style,
        "SCRIPT": script,
        "MODEL": base64.b64encode(zlib.compress(packed, 9)).decode(),
    }
    page = (FOLDER / "page.html").read_text(encoding="utf-8")
    for name, content in parts.items():
        page = page.replace(f"{{{{{name}}}}}", content)
    return page


def _hash(text: str) -> str:
    """As a content security policy names the one script or style that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
