"""How the report speaks: sentences with numbers in them, figures and source code, shown in a
notebook as it shows such things, and printed where the same cells run as a plain script.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import warnings
from collections.abc import Callable
from pathlib import Path

from IPython import get_ipython
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from lstm_sentiment.classifier import SentimentPredictor
from lstm_sentiment.plots import WORDS_SHOWN, save_figure, words_and_gates
from lstm_sentiment.studies.study import RESULTS
from lstm_sentiment.text import DataError


def say(text: str) -> None:
    """Show `text` as Markdown, paragraphs, list items and table rows on one line each.

    Its numbers come from the run, so they cannot go stale.
    """
    text = _unwrapped(text)
    if get_ipython() is None:
        print(text)
    else:
        display(Markdown(text))


def _unwrapped(text: str) -> str:
    """To Markdown indented lines are code, and a line that begins with a number may be a list."""
    flush_left = "\n".join(line.strip() for line in text.strip().splitlines())
    return re.sub(r"(?<!\n)\n(?!\n|- |\|)", " ", flush_left)


def reserve() -> Callable[[str], None]:
    """Keep a place for a text that is known only later; what is returned puts it there."""
    if get_ipython() is None:
        return say
    place = display(Markdown("*The run writes this at its end.*"), display_id=True)
    return lambda text: place.update(Markdown(_unwrapped(text)))


def show(figure: Figure, name: str) -> None:
    """Keep `figure` as artifacts/figures/<name>.png and show it, once."""
    path = save_figure(figure, name)
    if get_ipython() is None:
        print(f"figure: {path}")
    else:
        display(figure, metadata={"image/png": {"alt": figure.get_suptitle()}})


def explain(predictor: SentimentPredictor, text: str) -> None:
    """The verdict on `text`, its calibrated probability, and the figure `words_and_gates`.

    The verdict is that of `predictor.predict`, which cuts a long text; the figure reads all of it.

    Raises:
        DataError: the text has no word.
        ValueError: the network reads backward as well.
    """
    table = predictor.word_by_word(text)
    unknown = [word for word in table["word"] if word not in predictor.vocabulary]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of no known word: it is said below
        sentiment, probability = predictor.predict([text]).iloc[0]
    sureness = max(probability, 1 - probability)
    sentences = [f"**{sentiment}**, with a probability of {sureness:.0%}."]
    if len(table) > predictor.max_length:
        sentences.append(
            f"The curve reads all {len(table):,} words, the verdict those "
            f"{predictor.max_length:,} that the model keeps."
        )
    if len(table) > WORDS_SHOWN:
        sentences.append(f"The figure shows the last {WORDS_SHOWN} words.")
    if len(unknown) == len(table):
        sentences.append("The model knows no word of this text, so the verdict means nothing.")
    elif unknown:
        sentences.append(f"Words the model does not know: {', '.join(dict.fromkeys(unknown))}.")
    say(" ".join(sentences))
    show(words_and_gates(table), "words_and_gates")


def ask(predictor: SentimentPredictor) -> None:
    """In a notebook with ipywidgets, a field to type a review into; elsewhere, how else to ask."""
    try:
        from ipywidgets import Button, Output, Textarea, VBox
    except ImportError:
        Textarea = None
    shell = get_ipython()
    how_else = (
        'explain(predictor, "your review"), or: python -m lstm_sentiment predict "your review"'
    )
    if Textarea is None or shell is None:
        print(how_else)
        return
    field = Textarea(placeholder="Type a review", layout={"width": "95%", "height": "6em"})
    button, output = Button(description="Judge it"), Output()

    def judge(_) -> None:
        output.clear_output()
        with output:
            try:
                explain(predictor, field.value)
            except DataError as error:
                print(error)

    button.on_click(judge)
    shown, metadata = shell.display_formatter.format(VBox([field, button, output]))
    # Where the notebook is only looked at, text stands in place of the field.
    display(shown | {"text/plain": how_else}, raw=True, metadata=metadata)


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()[:12]


def _digest_of_files(folder: Path, *suffixes: str) -> str:
    """Of the files of these kinds below `folder`, nothing hidden; of nothing where it is missing.

    export_py.sh makes it in the same way.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix in suffixes)
    visible = [path for path in paths if not any(part[0] == "." for part in path.parts)]
    return _digest("".join(path.read_text(encoding="utf-8") for path in visible))


# As it is imported: a module that is edited during the run takes no part in it. Where all code is
# one script there is no package, and nobody asks.
_PACKAGE_DIGEST = _digest_of_files(Path("lstm_sentiment"), ".py") if get_ipython() else ""


def record_run() -> None:
    """Note in the notebook which cells were run with which package and tables, as the last cell.

    export_py.sh compares this with the files: it tells outputs that are older than the code or
    than the tables of the studies.
    """
    shell = get_ipython()
    if shell is None:
        return
    cells = [_digest(source) for source in shell.history_manager.input_hist_raw[1:]]
    # At the end, because the run may add rows to the tables.
    results = _digest_of_files(RESULTS, ".csv", ".json")
    note = f"{len(cells)} cells run with lstm_sentiment {_PACKAGE_DIGEST} and tables {results}"
    record = {"cells": cells, "package": _PACKAGE_DIGEST, "results": results}
    display({"text/plain": note}, raw=True, metadata={"lstm_sentiment": record})


def show_source(*things: type | Callable) -> None:
    """Show the source of classes or functions, as it runs.

    In a notebook as Markdown, because some viewers cut off long printed output.
    """
    for thing in things:
        source = inspect.getsource(thing)
        if get_ipython() is None:
            print(source)
        else:
            display(Markdown(f"```python\n{source}```"))
