"""How the report speaks: sentences with numbers in them, figures and source code, shown in a
notebook as it shows such things, and printed where the same cells run as a plain script."""

from __future__ import annotations

import inspect
from pathlib import Path

from IPython import get_ipython
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from lstm_sentiment.plots import save_figure


def say(text: str) -> None:
    """Show `text` as Markdown; its numbers come from the run, so they cannot go stale."""
    if get_ipython() is None:
        print(text)
    else:
        display(Markdown(text))


def show(figure: Figure, name: str) -> None:
    """Keep `figure` as artifacts/figures/<name>.png and show it, once."""
    path: Path = save_figure(figure, name)
    if get_ipython() is None:
        print(f"figure: {path}")
    else:
        display(figure, metadata={"image/png": {"alt": figure.get_suptitle()}})


def show_source(*things: type) -> None:
    """Print the source of classes or functions, as it runs."""
    for thing in things:
        print(inspect.getsource(thing))
