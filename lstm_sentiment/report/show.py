"""How the report shows figures, source code and the verdict on a text: in a notebook as it shows
such things, and printed where the same cells run as a plain script.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from IPython import get_ipython
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.model import SentimentLSTM
from lstm_sentiment.plots import WORDS_SHOWN, save_figure, words_and_gates
from lstm_sentiment.report.record import CODE, PACKAGE, RESULTS, TABLES, digest, digests
from lstm_sentiment.text import Vocabulary


def show(figure: Figure, name: str) -> None:
    """Keep `figure` as artifacts/figures/<name>.png and show it, once."""
    path, shell = save_figure(figure, name), get_ipython()
    if shell is None:
        print(f"figure: {path}")
        return
    shown, _ = shell.display_formatter.format(figure)
    metadata = {"image/png": {"alt": figure.get_suptitle()}}
    display(shown, raw=True, metadata=metadata)


def as_classifier(
    model: SentimentLSTM,
    vocabulary: Vocabulary,
    max_length: int,
    temperature: float,
    **parameters: object,
) -> SentimentClassifier:
    """What `fit` would leave, around a network that was trained step by step.

    `parameters` are those of `SentimentClassifier`; `hidden_size` and whatever else of the network
    is not as by default must be among them, or `load` could not build it again.
    """
    classifier = SentimentClassifier(**parameters)
    classifier.classes_ = np.array(["negative", "positive"])
    classifier.vocabulary_, classifier.max_length_ = vocabulary, max_length
    classifier.model_, classifier.temperature_ = model, temperature
    classifier.history_ = None
    return classifier


def explain(classifier: SentimentClassifier, text: str, figure: str = "explained") -> None:
    """The verdict on `text`, its calibrated probability, and how it came about word by word.

    The verdict is that of `classifier.predict`, which cuts a long text; the figure, kept under the
    name `figure`, reads all of it.

    Raises:
        DataError: the text has no word.
        ValueError: the network reads backward as well.
    """
    table = classifier.word_by_word(text)
    unknown = [word for word in table["word"] if word not in classifier.vocabulary_]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of no known word: it is said below
        probabilities = classifier.predict_proba([text])[0]
    verdict = classifier.classes_[probabilities.argmax()]
    sentences = [f"**{verdict}**, with a probability of {probabilities.max():.0%}."]
    if len(table) > classifier.max_length_:
        sentences.append(
            f"The curve reads all {len(table):,} words, the verdict those "
            f"{classifier.max_length_:,} that the model keeps."
        )
    if len(table) > WORDS_SHOWN:
        sentences.append(f"The figure shows the last {WORDS_SHOWN} words.")
    if len(unknown) == len(table):
        sentences.append("The model knows no word of this text, so the verdict means nothing.")
    elif unknown:
        sentences.append(f"Words the model does not know: {', '.join(dict.fromkeys(unknown))}.")
    _show_text(" ".join(sentences))
    show(words_and_gates(table), figure)


# As it is imported: a module that is edited during the run takes no part in it. Where all code is
# one script nobody asks.
_MODULES = digests(Path(__file__).parent.parent, *CODE) if get_ipython() else {}


def _with_short_docstrings(source: str) -> str:
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            first, last = node.body[0].lineno - 1, node.body[0].end_lineno
            blank = next((i for i in range(first, last) if not lines[i].strip()), None)
            if blank is not None:
                lines[blank - 1] = lines[blank - 1].rstrip() + '"""\n'
                lines[blank:last] = [""] * (last - blank)
    return "".join(lines)


def record_run() -> None:
    """Note in the notebook which cells were run with which code and tables, as the last cell.

    The hand-in compares this with the files: it tells outputs that are older than the code or than
    the tables of the studies.
    """
    shell = get_ipython()
    if shell is None:
        return
    cells = [digest(source) for source in shell.history_manager.input_hist_raw[1:]]
    tables = digests(RESULTS, *TABLES)  # at the end, because the run may add rows to them
    note = f"{len(cells)} cells were run with {len(_MODULES)} modules and {len(tables)} tables."
    record = {"cells": cells, "modules": _MODULES, "tables": tables}
    display({"text/plain": note}, raw=True, metadata={PACKAGE: record})


def show_source(*things: type | Callable) -> None:
    """Show the source of classes or functions, as it runs; of docstrings the first paragraph.

    In a notebook as Markdown, because some viewers cut off long printed output.
    """
    for thing in things:
        source = _with_short_docstrings(textwrap.dedent(inspect.getsource(thing)))
        _show_text(source if get_ipython() is None else f"```python\n{source}```")


def _show_text(text: str) -> None:
    if get_ipython() is None:
        print(text)
    else:
        display(Markdown(text))
