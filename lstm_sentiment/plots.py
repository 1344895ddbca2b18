"""The figures of the report, in one style that survives colour-blindness and grey print.

Each function takes data and returns a Figure whose title states what the data show; nothing is
displayed. Figures do not pass through pyplot, so that a notebook shows one when asked to and only
then; `save_figure` writes it as a PNG. Pictures of word vectors are in `report.word_plots`.
"""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

FIGURE_WIDTH = 8.0  # inches; at 110 dots per inch the width of a notebook's output
TITLE_WIDTH = 78  # characters of the title that surely fit on a line

FIGURE_STYLE = {
    "figure.dpi": 110,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.titlesize": 11.5,
    "figure.titleweight": "bold",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "patch.edgecolor": "white",  # and so are hatches
    "patch.force_edgecolor": True,
}

# Okabe and Ito (2008), in an order in which neighbours differ in lightness too.
BLUE, ORANGE, GREEN, SKY_BLUE, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00"
SERIES_LOOKS = [(BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (SKY_BLUE, "D"), (VERMILLION, "v")]

GROUP_LOOKS = {  # colour and marker of each class, and of the words that belong to none
    "positive": (BLUE, "^"),
    "negative": (ORANGE, "v"),
    "film": (GREEN, "s"),
    "other": ("#999999", "."),
}


class ReportFigure(Figure):
    """A Figure that a notebook shows as a PNG whether or not pyplot has been set up in it."""

    def __init__(self, height: float) -> None:
        super().__init__(figsize=(FIGURE_WIDTH, height), layout="constrained")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


def save_figure(figure: Figure, name: str, folder: str | Path = "artifacts/figures") -> Path:
    """Write `figure` as `<folder>/<name>.png`, sharp enough for print, and return that path."""
    path = Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=200)
    return path


def in_report_style(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: run `draw` under FIGURE_STYLE, whatever style the reader has set."""

    @functools.wraps(draw)
    def draw_styled(*args: object, **kwargs: object) -> Figure:
        with matplotlib.style.context(["default", FIGURE_STYLE]):
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks take their style when first drawn
        return figure

    return draw_styled


# Data and text


@in_report_style
def padding_choice(lengths: ArrayLike, max_length: int) -> Figure:
    """What padding all reviews to one length costs, and which was chosen.

    lengths: (n,) tokens per review before truncation; max_length: the chosen length, at least 1.
    """
    lengths = np.asarray(lengths)
    # Forty bins, without the longest 1%, lest a few giants squeeze all others to the left.
    edges = np.linspace(0, max(np.ceil(np.quantile(lengths, 0.99)), 1.05 * max_length), 41)
    n, most = (lengths > edges[-1]).sum(), lengths.max()
    beyond = f"\n{n:,} longer ones, up to {most:,}, not shown" if n else ""
    figure = ReportFigure(4.6)
    above, below = figure.subplots(2, 1, sharex=True)
    above.hist(lengths, edges, color=BLUE)
    above.set(ylabel="reviews", xlim=edges[[0, -1]])
    candidates = np.arange(1, int(edges[-1]) + 1)
    padding = [1 - np.minimum(lengths, length).mean() / length for length in candidates]
    cut = [np.mean(lengths > length) for length in candidates]
    below.plot(candidates, padding, color=BLUE, label="positions that are padding")
    below.plot(candidates, cut, color=ORANGE, ls="--", label="reviews that lose tokens")
    xlabel = f"tokens per review (below: all padded or cut to this length){beyond}"
    below.set(xlabel=xlabel, ylabel="share", ylim=(0, 1))
    below.yaxis.set_major_formatter(PercentFormatter(1))
    legend_below(below)
    for axes in (above, below):
        axes.axvline(max_length, color="black", ls=":", lw=1.5)
    above.annotate(
        f"chosen: {max_length}", (max_length, 0.95), (4, 0), va="top",
        xycoords=above.get_xaxis_transform(), textcoords="offset points",
    )  # fmt: skip
    state_finding(
        figure,
        f"Padded to {max_length} tokens, {padding[max_length - 1]:.0%} of all positions are "
        f"padding and {cut[max_length - 1]:.0%} of the reviews lose tokens",
    )
    return figure


# Training


@in_report_style
def learning_curves(history: pd.DataFrame, best_epoch: int) -> Figure:
    """Loss and accuracy over the epochs, with the epoch whose weights were kept and that of the
    lowest validation loss.

    history: DataFrame with `epoch`, `train_loss`, `train_accuracy`, `validation_loss` and
    `validation_accuracy`; best_epoch: a value of `epoch`.
    """
    figure = ReportFigure(3.8)
    panels = figure.subplots(1, 2)
    labels = {"loss": "cross-entropy (nats per review)", "accuracy": "accuracy"}
    by_epoch = history.set_index("epoch")
    best, lowest = by_epoch.loc[best_epoch], history.loc[history["validation_loss"].idxmin()]
    for axes, (quantity, label) in zip(panels, labels.items(), strict=True):
        for part, colour, line in (("train", ORANGE, "--"), ("validation", BLUE, "-")):
            axes.plot(
                history["epoch"], history[f"{part}_{quantity}"], line, color=colour, label=part
            )
        for epoch, mark, what in (
            (best_epoch, "k*", "kept"),
            (lowest["epoch"], "kv", "lowest validation loss"),
        ):
            value = by_epoch.loc[epoch, f"validation_{quantity}"]
            axes.plot(epoch, value, mark, ms=9, label=f"epoch {epoch:.0f}, {what}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    panels[0].set_ylim(bottom=0)
    legend_below(panels[0])
    panels[1].yaxis.set_major_formatter(PercentFormatter(1))
    last = history.iloc[-1]
    state_finding(
        figure,
        f"Weights of epoch {best_epoch} kept: validation accuracy "
        f"{best['validation_accuracy']:.1%}; after epoch {last['epoch']:.0f} it is "
        f"{last['validation_accuracy']:.1%}, and {last['train_accuracy']:.1%} on training reviews",
    )
    return figure


@in_report_style
def search_heatmap(search: pd.DataFrame) -> Figure:
    """Validation accuracy by learning rate and batch size, the best framed.

    search: DataFrame with `learning_rate`, `batch_size` and `validation_accuracy`; where runs share
    the first two, the best of them counts.
    """
    grid = search.pivot_table(
        index="learning_rate", columns="batch_size", values="validation_accuracy", aggfunc="max"
    )
    values = grid.to_numpy()
    figure, axes = new_figure(1.5 + 0.5 * len(grid))
    image = axes.imshow(values, cmap="Blues", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if image.norm(value) > 0.6 else "black"
        label = "not run" if np.isnan(value) else f"{value:.1%}"
        axes.text(column, row, label, ha="center", va="center", color=colour)
    row, column = np.unravel_index(np.nanargmax(values), values.shape)
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=VERMILLION, lw=3))
    axes.set_xticks(range(grid.shape[1]), [f"{size:g}" for size in grid.columns])
    axes.set_yticks(range(grid.shape[0]), [f"{rate:g}" for rate in grid.index])
    axes.set(xlabel="batch size (reviews)", ylabel="learning rate")
    axes.grid(visible=False)
    state_finding(
        figure,
        f"Learning rate {grid.index[row]:g} with batches of {grid.columns[column]:g} is best: "
        f"{np.nanmax(values):.1%} of validation reviews right, {np.nanmin(values):.1%} at worst",
    )
    return figure


# Testing


@in_report_style
def confusion_matrix_figure(evaluation: Mapping) -> Figure:
    """True against predicted classes; evaluation: a result of `evaluate`."""
    confusion = evaluation["confusion"]
    counts = np.array([[confusion["tn"], confusion["fp"]], [confusion["fn"], confusion["tp"]]])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure(3.0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.6 else "black"
        text = f"{counts[row, column]:,}\n{share:.1%} of its row"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks([0, 1], ["negative", "positive"])
    axes.set_yticks([0, 1], ["negative", "positive"])
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    state_finding(
        figure,
        f"{counts.trace():,} of {counts.sum():,} reviews are right; {counts[0, 1]:,} negative ones "
        f"are taken for positive, {counts[1, 0]:,} positive ones for negative",
    )
    return figure


@in_report_style
def probability_histogram(labels: ArrayLike, probabilities: ArrayLike) -> Figure:
    """Predicted probabilities of "positive", right and wrong; labels, probabilities: (n,)."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    wrong = (probabilities >= 0.5) != labels
    figure, axes = new_figure(3.2)
    parts, edges = [probabilities[wrong], probabilities[~wrong]], np.linspace(0, 1, 21)
    colours, names = [ORANGE, BLUE], ["wrong", "right"]
    _, _, bars = axes.hist(parts, edges, log=True, color=colours, label=names)  # few lie between
    for bar in bars[0]:
        bar.set_hatch("///")
    axes.axvline(0.5, color="black", ls=":", lw=1.5)
    axes.set(xlabel="predicted probability of positive", ylabel="reviews", xlim=(0, 1))
    axes.set_ylim(bottom=0.7)  # one review is a bar as well
    axes.yaxis.set_major_formatter("{x:g}")
    legend_below(axes)
    sure = (probabilities < 0.1) | (probabilities > 0.9)
    state_finding(
        figure,
        f"{sure.mean():.0%} of the reviews get a probability below 0.1 or above 0.9; "
        f"{(sure & wrong).sum()} of the {wrong.sum()} errors are among them",
    )
    return figure


@in_report_style
def influence_curves(influence: Mapping[str, pd.DataFrame]) -> Figure:
    """How the influence of a word fades with distance.

    influence: a network's name -> a table from `influence_by_distance`.
    """
    figure, axes = new_figure(3.8)
    for number, (network, table) in enumerate(influence.items()):
        color, marker = SERIES_LOOKS[number]
        gap = max(4, len(table) // 6)
        # Dashes and shifted markers: where curves lie on each other, those beneath are seen.
        looks = {"color": color, "linestyle": ("-", "--", "-.", ":")[number], "marker": marker}
        looks |= {"markevery": (number * gap // 4, gap), "markersize": 5}
        axes.plot(table["distance"], table["median"], label=network, **looks)
    axes.set_yscale("log")
    axes.set(xlabel="words before the last one", ylabel="gradient, last word's = 1")
    legend_below(axes)
    ends = pd.Series({network: table["median"].iloc[-1] for network, table in influence.items()})
    distance = max(table["distance"].iloc[-1] for table in influence.values())
    state_finding(
        figure,
        f"A gradient {distance:.0f} words before the end has {ends.min():.1g} ({ends.idxmin()}) to "
        f"{ends.max():.1g} ({ends.idxmax()}) of its strength at the last word",
    )
    return figure


WORDS_SHOWN = 45  # as many as can be read side by side


@in_report_style
def words_and_gates(table: pd.DataFrame) -> Figure:
    """The verdict after each word of a review, and beneath it how far the gates were open.

    table: from `SentimentClassifier.word_by_word`; its last 45 rows are shown.
    """
    shown = table.tail(WORDS_SHOWN)
    positions = np.arange(len(shown))
    figure = ReportFigure(4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    probability = shown["probability"]
    top.axhline(0.5, color="#666666", linewidth=1)
    top.plot(positions, probability, color="#333333", linewidth=1.2)
    for positive, name in ((True, "positive"), (False, "negative")):
        side = ((probability >= 0.5) == positive).to_numpy()
        color, marker = GROUP_LOOKS[name]
        top.plot(positions[side], probability[side], marker, color=color, label=name)
    top.set(ylim=(-0.03, 1.03), ylabel="probability\nof positive")
    top.legend(loc="upper left", bbox_to_anchor=(1, 1))
    gates = [name for name in ("forget_gate", "input_gate", "output_gate") if name in shown]
    for name, (color, marker), line in zip(gates, SERIES_LOOKS, ("-", "--", ":"), strict=False):
        label = name.replace("_", " ")
        bottom.plot(
            positions, shown[name], line, color=color, marker=marker, markersize=3.5, label=label
        )
    bottom.set(xlabel="words of the review", ylabel="mean opening", xlim=(-0.7, len(shown) - 0.3))
    bottom.set_xticks(positions, shown["word"], rotation=90, fontsize=8)
    bottom.grid(visible=False, axis="x")
    if gates:
        bottom.legend(loc="upper left", bbox_to_anchor=(1, 1))
    steps = table["probability"].diff().iloc[1:]
    turn = (
        f", turned most by \u201c{table['word'][steps.abs().idxmax()]}\u201d" if len(steps) else ""
    )
    final = table["probability"].iloc[-1]
    verdict = "positive" if final >= 0.5 else "negative"
    state_finding(
        figure, f"{verdict.capitalize()} with probability {max(final, 1 - final):.0%}{turn}"
    )
    return figure


# What the figures share


def new_figure(height: float) -> tuple[ReportFigure, Axes]:
    """A figure of this height in inches, with one axes."""
    figure = ReportFigure(height)
    return figure, figure.subplots()


def state_finding(figure: Figure, finding: str) -> None:
    """The finding as the title."""
    figure.suptitle(textwrap.fill(finding, TITLE_WIDTH), x=0.01, ha="left")


def legend_below(axes: Axes) -> None:
    """A legend under the axes, where it cannot hide data."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=4)
