"""How the report speaks: sentences with numbers in them, figures and source code, shown in a
notebook as it shows such things, and printed where the same cells run as a plain script.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path

from IPython import get_ipython
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from lstm_sentiment.data import DataError
from lstm_sentiment.plots import save_figure, words_and_gates
from lstm_sentiment.predictor import SentimentPredictor


def say(text: str) -> None:
    """Show `text` as Markdown; its numbers come from the run, so they cannot go stale."""
    if get_ipython() is None:
        print(text)
    else:
        display(Markdown(text))


def reserve() -> Callable[[str], None]:
    """Keep a place for a text that is known only later; what is returned puts it there."""
    if get_ipython() is None:
        return print
    place = display(Markdown("*The run writes this at its end.*"), display_id=True)
    return lambda text: place.update(Markdown(text))


def show(figure: Figure, name: str) -> None:
    """Keep `figure` as artifacts/figures/<name>.png and show it, once."""
    path: Path = save_figure(figure, name)
    if get_ipython() is None:
        print(f"figure: {path}")
    else:
        display(figure, metadata={"image/png": {"alt": figure.get_suptitle()}})


def explain(predictor: SentimentPredictor, text: str) -> None:
    """The verdict on `text`, its calibrated probability, and the figure `words_and_gates`."""
    table = predictor.word_by_word(text)
    final = table["probability"].iloc[-1]
    verdict = "positive" if final >= 0.5 else "negative"
    unknown = [word for word in table["word"] if word not in predictor.vocabulary]
    note = (
        f" Words the model does not know: {', '.join(dict.fromkeys(unknown))}." if unknown else ""
    )
    say(f"**{verdict}**, with a probability of {max(final, 1 - final):.0%}.{note}")
    show(words_and_gates(table), "words_and_gates")


def ask(predictor: SentimentPredictor) -> None:
    """In a notebook with ipywidgets, a field to type a review into; elsewhere, how else to ask."""
    try:
        from ipywidgets import Button, Output, Textarea, VBox
    except ImportError:
        Textarea = None
    if Textarea is None or get_ipython() is None:
        print(
            'explain(predictor, "your review"), or: python -m lstm_sentiment predict "your review"'
        )
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
    display(VBox([field, button, output]))


def record_run() -> None:
    """Note in the notebook which cells were run with which package, as the last cell.

    export_py.sh compares this with the files: it tells outputs that are older than the code.
    """
    shell = get_ipython()
    if shell is None:
        return
    cells = [_digest(source) for source in shell.history_manager.input_hist_raw[1:]]
    paths = sorted(Path("lstm_sentiment").rglob("*.py"))
    modules = [path for path in paths if not any(part[0] == "." for part in path.parts)]
    package = _digest("".join(path.read_text(encoding="utf-8") for path in modules))
    note = f"{len(cells)} cells run with lstm_sentiment {package}"
    record = {"cells": cells, "package": package}
    display({"text/plain": note}, raw=True, metadata={"lstm_sentiment": record})


def _digest(text: str) -> str:
    return hashlib.sha256(text.strip().encode()).hexdigest()[:12]


def show_source(*things: type) -> None:
    """Print the source of classes or functions, as it runs."""
    for thing in things:
        print(inspect.getsource(thing))
