"""Every figure of the report, in one style that survives colour-blindness and grey print.

Each function takes data and returns a Figure whose title states what the data show; nothing is
displayed. Figures do not pass through pyplot, so that a notebook shows one when asked to and only
then; `save_figure` writes it as a PNG.
"""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter
from mpl_toolkits.mplot3d import proj3d
from numpy.typing import ArrayLike

from lstm_sentiment.evaluation import (
    Accuracy,
    expected_calibration_error,
    reliability_curve,
    separation,
)

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


GROUP_LOOKS = {  # colour, marker and hatch of each class, and of the words that belong to none
    "positive": (BLUE, "^", ""),
    "negative": (ORANGE, "v", "///"),
    "frequent": ("#999999", ".", ""),
}


LABEL_STYLES = {  # two lightnesses and a slant, for grey print
    "positive": {"color": BLUE, "fontsize": 8},
    "negative": {"color": "#8A5A00", "fontsize": 8, "fontstyle": "italic"},
    "frequent": {"color": "#666666", "fontsize": 7},
}


LABEL_GAP = 3.0  # points between a marker and its label


LABEL_DIRECTIONS = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)])


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
def class_balance(reviews: pd.DataFrame) -> Figure:
    """Reviews per class; reviews: DataFrame with `sentiment`."""
    counts = reviews["sentiment"].value_counts().reindex(["negative", "positive"], fill_value=0)
    figure, axes = _new_figure(1.9)
    for name, count in counts.items():
        colour, _, hatch = GROUP_LOOKS[name]
        bar = axes.barh(name, count, color=colour, hatch=hatch)
        axes.bar_label(bar, [f"{count:,}"], padding=3)
    axes.set(xlabel="reviews", xlim=(0, 1.1 * counts.max()))
    axes.grid(visible=False, axis="y")
    share = counts["positive"] / counts.sum()
    balance = "balanced" if abs(share - 0.5) < 0.01 else "not balanced"
    finding = f"The classes are {balance}: {share:.1%} of {counts.sum():,} reviews are positive"
    _title(figure, finding)
    return figure


@in_report_style
def length_histogram(lengths: Mapping[str, ArrayLike]) -> Figure:
    """How long reviews are; lengths: "positive" and "negative" -> (n,) words per review."""
    lengths = {name: np.asarray(values) for name, values in lengths.items()}
    together = np.concatenate(list(lengths.values()))
    edges = _histogram_edges(together)
    figure, axes = _new_figure(3.2)
    for name, values in lengths.items():
        colour, _, _ = GROUP_LOOKS[name]
        line = "-" if name == "positive" else "--"
        label = f"{name} (median {np.median(values):.0f})"
        axes.hist(values, edges, histtype="step", color=colour, ls=line, lw=1.8, label=label)
    xlabel = _length_axis(together, edges, "words")
    axes.set(xlabel=xlabel, ylabel="reviews", xlim=edges[[0, -1]])
    _legend_below(axes)
    _title(
        figure,
        f"Half of the reviews have at most {np.median(together):.0f} words, "
        f"one in twenty more than {np.quantile(together, 0.95):.0f}",
    )
    return figure


@in_report_style
def padding_choice(lengths: ArrayLike, max_length: int) -> Figure:
    """What padding all reviews to one length costs, and which was chosen.

    lengths: (n,) tokens per review before truncation; max_length: the chosen length, at least 1.
    """
    lengths = np.asarray(lengths)
    edges = _histogram_edges(lengths, max_length)
    figure = ReportFigure(4.6)
    above, below = figure.subplots(2, 1, sharex=True)
    above.hist(lengths, edges, color=BLUE)
    above.set(ylabel="reviews", xlim=edges[[0, -1]])
    candidates = np.arange(1, int(edges[-1]) + 1)
    padding = [1 - np.minimum(lengths, length).mean() / length for length in candidates]
    cut = [np.mean(lengths > length) for length in candidates]
    below.plot(candidates, padding, color=BLUE, label="positions that are padding")
    below.plot(candidates, cut, color=ORANGE, ls="--", label="reviews that lose tokens")
    below.set(xlabel=_length_axis(lengths, edges, "tokens"), ylabel="share", ylim=(0, 1))
    below.yaxis.set_major_formatter(PercentFormatter(1))
    _legend_below(below)
    for axes in (above, below):
        axes.axvline(max_length, color="black", ls=":", lw=1.5)
    above.annotate(
        f"chosen: {max_length}", (max_length, 0.95), (4, 0), va="top",
        xycoords=above.get_xaxis_transform(), textcoords="offset points",
    )  # fmt: skip
    _title(
        figure,
        f"Padded to {max_length} tokens, {padding[max_length - 1]:.0%} of all positions are "
        f"padding and {cut[max_length - 1]:.0%} of the reviews lose tokens",
    )
    return figure


# Word vectors


@in_report_style
def words_2d(
    coordinates: np.ndarray, words: pd.DataFrame, explained: ArrayLike, name: str
) -> Figure:
    """Word vectors, of the kind `name`, on their first two principal components.

    coordinates: (n, 2); words: DataFrame of n rows with `word`, `group` ("positive", "negative" or
    "frequent") and `count`; explained: (2,), each component's share of the variance. All words are
    marked; sentiment words, then the most frequent others, are named where there is room.
    """
    figure, axes = _new_figure(6.6)
    _scatter_words(axes, coordinates, words)
    axes.set(**_component_labels(explained))
    _legend_below(axes)
    _title(figure, _separation(coordinates, words, explained, name))
    _label_points(axes, coordinates, words, frequent=40)
    return figure


@in_report_style
def words_3d(
    coordinates: np.ndarray, words: pd.DataFrame, explained: ArrayLike, name: str
) -> Figure:
    """Word vectors on three principal components; arguments as for `words_2d`, coordinates (n, 3).

    Fewer words are named: in three dimensions labels hide more.
    """
    figure = ReportFigure(6.8)
    axes = figure.add_subplot(projection="3d")
    _scatter_words(axes, coordinates, words)
    axes.set(**_component_labels(explained))
    _legend_below(axes)
    axes.set_box_aspect(None, zoom=1.12)  # 3D axes leave wide margins
    _title(figure, _separation(coordinates, words, explained, name))
    on_page = np.column_stack(proj3d.proj_transform(*coordinates.T, axes.get_proj())[:2])
    _label_points(axes, on_page, words, frequent=20)
    return figure


@in_report_style
def cosine_bars(table: pd.DataFrame) -> Figure:
    """How alike the vectors of word pairs are.

    table: DataFrame with `word_a`, `word_b`, `relation` (as "opposite"; at most four) and
    `cosine_similarity`.
    """
    means = table.groupby("relation")["cosine_similarity"].mean().sort_values(ascending=False)
    rank = table["relation"].map({relation: place for place, relation in enumerate(means.index)})
    table = table.assign(rank=rank).sort_values(
        ["rank", "cosine_similarity"], ascending=[True, False]
    )
    names = table["word_a"] + " / " + table["word_b"]
    figure, axes = _new_figure(1.3 + 0.17 * len(table))
    positions = np.arange(len(table)) + 0.6 * table["rank"].to_numpy()  # a gap between relations
    hatches = ("", "///", "...", "xxx")
    for place, (relation, mean) in enumerate(means.items()):
        rows = (table["rank"] == place).to_numpy()
        axes.barh(
            positions[rows], table["cosine_similarity"][rows], color=SERIES_LOOKS[place][0],
            hatch=hatches[place], label=f"{relation} (mean {mean:.2f})",
        )  # fmt: skip
    axes.set_yticks(positions, names, fontsize=8)
    axes.set_xlabel("cosine similarity (1 = same direction)")
    axes.invert_yaxis()
    axes.axvline(0, color="black", lw=0.8)
    axes.grid(visible=False, axis="y")
    _legend_below(axes)
    ranking = ", ".join(f"{relation} {mean:.2f}" for relation, mean in means.items())
    _title(figure, f"Mean cosine similarity: {ranking}")
    return figure


# Training


@in_report_style
def learning_curves(history: pd.DataFrame, best_epoch: int) -> Figure:
    """Loss and accuracy over the epochs, with the epoch whose weights were kept.

    history: DataFrame with `epoch`, `train_loss`, `train_accuracy`, `validation_loss` and
    `validation_accuracy`; best_epoch: a value of `epoch`.
    """
    figure = ReportFigure(3.8)
    panels = figure.subplots(1, 2)
    labels = {"loss": "cross-entropy (nats per review)", "accuracy": "accuracy"}
    best = history.set_index("epoch").loc[best_epoch]
    for axes, (quantity, label) in zip(panels, labels.items(), strict=True):
        for part, colour, line in (("train", ORANGE, "--"), ("validation", BLUE, "-")):
            axes.plot(
                history["epoch"], history[f"{part}_{quantity}"], line, color=colour, label=part
            )
        axes.axvline(best_epoch, color="black", ls=":", lw=1.2)
        kept = f"epoch {best_epoch}, kept"
        axes.plot(best_epoch, best[f"validation_{quantity}"], "k*", ms=11, label=kept)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    panels[0].set_ylim(bottom=0)
    _legend_below(panels[0])
    panels[1].yaxis.set_major_formatter(PercentFormatter(1))
    last = history.iloc[-1]
    _title(
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
    figure, axes = _new_figure(1.5 + 0.5 * len(grid))
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
    _title(
        figure,
        f"Learning rate {grid.index[row]:g} with batches of {grid.columns[column]:g} is best: "
        f"{np.nanmax(values):.1%} of validation reviews right, {np.nanmin(values):.1%} at worst",
    )
    return figure


@in_report_style
def search_trials(trials: pd.DataFrame, settings: Sequence[str]) -> Figure:
    """Validation accuracy of the trials of a search: in their order, and against `settings`.

    trials: DataFrame with `number`, `value`, `state` ("COMPLETE" or "PRUNED") and a column
        `params_...` per setting. Trials that were stopped early show the accuracy they had then;
        what lies below the lowest line, ten to eleven points under the best, stands on it.
    """
    trials = trials.sort_values("number")
    whole = trials["state"] == "COMPLETE"
    best = trials.loc[trials.loc[whole, "value"].idxmax()]
    lower_edge = np.floor(100 * best["value"] - 10) / 100
    shown = trials["value"].clip(lower=lower_edge)
    names = ["number", *(f"params_{name}" for name in settings)]
    columns = 4
    rows = -(-len(names) // columns)
    figure = ReportFigure(1.0 + 1.65 * rows)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for name, axes in zip(names, grid.flat, strict=False):
        positions = _setting_axis(axes, trials[name])
        axes.scatter(positions[whole], shown[whole], s=16, color=BLUE, label="trained to the end")
        hollow = {
            "facecolors": "none",
            "edgecolors": "#777777",
            "label": "stopped early",
        }
        axes.scatter(positions[~whole], shown[~whole], s=16, **hollow)
        marked = {"marker": "*", "s": 130, "color": VERMILLION, "ec": "black", "lw": 0.6}
        axes.scatter(positions[best.name], best["value"], label="best", zorder=3, **marked)
        label = "trial" if name == "number" else name.removeprefix("params_").replace("_", " ")
        axes.set_xlabel(label)
    for axes in grid.flat[len(names) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("accuracy")
        axes.set_ylim(lower_edge - 0.005, best["value"] + 0.01)
        axes.set_yticks(lower_edge + np.array([0, 0.05, 0.1]))
        axes.yaxis.set_major_formatter(
            lambda value, _: f"{'≤ ' if value < lower_edge + 0.01 else ''}{value:.0%}"
        )
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    first = trials["value"].iloc[0]
    _title(
        figure,
        f"The best of {len(trials)} trials gets {best['value']:.2%} of validation reviews right, "
        f"the first {first:.2%}; {(~whole).sum()} were stopped early",
    )
    return figure


def _setting_axis(axes: Axes, values: pd.Series) -> pd.Series:
    """Set up the horizontal axis for a setting; where on it each of its values lies."""
    choices = sorted(values.dropna().unique())  # a setting may not be there in every trial
    if len(choices) > 3:
        if "rate" in values.name:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1,)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        return values
    names = [textwrap.fill(f"{choice}".replace("_", " "), 18 // len(choices)) for choice in choices]
    axes.set_xticks(range(len(choices)), names)
    axes.set_xlim(-0.5, len(choices) - 0.5)
    side_by_side = values.groupby(values).cumcount() % 5 - 2
    return values.map(choices.index, na_action="ignore") + side_by_side / 10


# Testing


@in_report_style
def confusion_matrix_figure(evaluation: Mapping) -> Figure:
    """True against predicted classes; evaluation: a result of `evaluate`."""
    confusion = evaluation["confusion"]
    counts = np.array([[confusion["tn"], confusion["fp"]], [confusion["fn"], confusion["tp"]]])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _new_figure(3.0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        colour = "white" if share > 0.6 else "black"
        text = f"{counts[row, column]:,}\n{share:.1%} of its row"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks([0, 1], ["negative", "positive"])
    axes.set_yticks([0, 1], ["negative", "positive"])
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    _title(
        figure,
        f"{counts.trace():,} of {counts.sum():,} reviews are right; {counts[0, 1]:,} negative ones "
        f"are taken for positive, {counts[1, 0]:,} positive ones for negative",
    )
    return figure


@in_report_style
def metric_intervals(evaluations: Mapping[str, Mapping]) -> Figure:
    """Every metric with its 95% interval; evaluations: model's name -> result of `evaluate`."""
    metrics = {"accuracy": "Accuracy", "precision": "Precision", "recall": "Recall", "f1": "F1"}
    figure, axes = _new_figure(1.2 + 0.22 * len(metrics) * (len(evaluations) + 1))
    names = []  # of the rows, from top to bottom
    for metric, metric_name in metrics.items():
        names.append(metric_name)
        for series, (name, evaluation) in enumerate(evaluations.items()):
            colour, marker = SERIES_LOOKS[series % len(SERIES_LOOKS)]
            value, (low, high) = evaluation[metric], evaluation[f"{metric}_95"]
            row, distances = len(names), [[value - low], [high - value]]
            axes.errorbar(value, row, xerr=distances, fmt=marker, color=colour, capsize=3, ms=6)
            text = f"{value:.1%}  [{low:.1%}, {high:.1%}]"
            axes.annotate(text, (1.01, row), xycoords=axes.get_yaxis_transform(), va="center")
            names.append(name)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    for label in axes.get_yticklabels():
        if label.get_text() in metrics.values():
            label.set_fontweight("bold")
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("score, with 95% interval")
    axes.grid(visible=False, axis="y")
    _title(figure, _ranking(evaluations))
    return figure


@in_report_style
def systems_figure(
    printed: Mapping[str, float], ours: Mapping[str, Mapping[str, Accuracy]]
) -> Figure:
    """What others printed beside what their systems get here, with 95% intervals.

    printed: system -> accuracy; ours: what was different -> system -> accuracy, each with the same
    systems, those of `printed` and perhaps others.
    """
    systems = list(next(iter(ours.values())))
    figure, axes = _new_figure(1.2 + 0.4 * len(systems))
    rows = np.arange(len(systems))
    for number, (what, accuracies) in enumerate(ours.items()):
        color, marker = SERIES_LOOKS[number]
        shift = 0.24 * (number - len(ours) / 2)
        values = np.array([accuracies[name].value for name in systems])
        low, high = np.array([accuracies[name].interval for name in systems]).T
        errors = [values - low, high - values]
        looks = {"fmt": marker, "color": color, "capsize": 3, "ms": 5, "label": f"here, {what}"}
        axes.errorbar(values, rows + shift, xerr=errors, **looks)
    axes.plot(
        [printed.get(name, np.nan) for name in systems], rows + 0.12 * len(ours), "x",
        color="black", ms=7, mew=2, label="printed by its author",
    )  # fmt: skip
    axes.set_yticks(rows, systems)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("accuracy, with 95% interval")
    axes.grid(visible=False, axis="y")
    _legend_below(axes)
    what, accuracies = list(ours.items())[-1]
    best = max(accuracies, key=lambda name: accuracies[name].value)
    _title(figure, f"With {what}, most accurate is {best} with {accuracies[best].value:.1%}")
    return figure


@in_report_style
def probability_histogram(labels: ArrayLike, probabilities: ArrayLike) -> Figure:
    """Predicted probabilities of "positive", right and wrong; labels, probabilities: (n,)."""
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    wrong = (probabilities >= 0.5) != labels
    figure, axes = _new_figure(3.2)
    parts, edges = [probabilities[wrong], probabilities[~wrong]], np.linspace(0, 1, 21)
    colours, names = [ORANGE, BLUE], ["wrong", "right"]
    _, _, bars = axes.hist(parts, edges, stacked=True, color=colours, label=names)
    for bar in bars[0]:
        bar.set_hatch("///")
    axes.axvline(0.5, color="black", ls=":", lw=1.5)
    axes.set(xlabel="predicted probability of positive", ylabel="reviews", xlim=(0, 1))
    _legend_below(axes)
    sure = (probabilities < 0.1) | (probabilities > 0.9)
    _title(
        figure,
        f"{sure.mean():.0%} of the reviews get a probability below 0.1 or above 0.9; "
        f"{(sure & wrong).sum()} of the {wrong.sum()} errors are among them",
    )
    return figure


@in_report_style
def reliability_plot(labels: ArrayLike, probabilities: Mapping[str, ArrayLike]) -> Figure:
    """How often reviews are positive at each predicted probability, for one or several models.

    labels: (n,); probabilities: name -> (n,), such as before and after temperature scaling.
    """
    figure, axes = _new_figure(4.2)
    axes.plot([0, 1], [0, 1], color="black", ls=":", lw=1.5, label="calibrated")
    errors = {}
    for series, (name, predictions) in enumerate(probabilities.items()):
        colour, marker = SERIES_LOOKS[series]
        curve = reliability_curve(labels, predictions)
        errors[name] = f"{expected_calibration_error(labels, predictions):.3f}"
        predicted, observed = curve["predicted"], curve["observed"]
        aside = 0.008 * (series - (len(probabilities) - 1) / 2)  # or the intervals hide each other
        axes.errorbar(
            predicted + aside, observed, [observed - curve["low"], curve["high"] - observed],
            color=colour, marker=marker, ls=("-", "--")[series % 2], lw=1.4, elinewidth=1,
            capsize=3, label=f"{name}: ECE {errors[name]}",
        )  # fmt: skip
    axes.set(
        xlabel="mean predicted probability of positive",
        ylabel="positive reviews (95% interval)",
        xlim=(-0.02, 1.02),
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _legend_below(axes)
    listed = ", ".join(f"{error} {name}" for name, error in errors.items())
    _title(figure, f"Mean distance from calibration (ECE): {listed}")
    return figure


@in_report_style
def accuracy_by_length_figure(table: pd.DataFrame) -> Figure:
    """Accuracy from the shortest to the longest reviews; table: from `accuracy_by_length`."""
    figure, axes = _new_figure(3.5)
    overall = np.average(table["accuracy"], weights=table["n"])
    distances = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
    axes.errorbar(range(len(table)), table["accuracy"], distances, fmt="o", color=BLUE, capsize=4)
    axes.axhline(overall, color="black", ls="--", lw=1, label=f"all reviews: {overall:.1%}")
    ticks = [f"{span}\n(n = {n})" for span, n in zip(table["range"], table["n"], strict=True)]
    axes.set_xticks(range(len(table)), ticks)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlabel="review length (tokens)", ylabel="accuracy (95% interval)")
    axes.margins(x=0.08)
    _legend_below(axes)
    first, last = table.iloc[0], table.iloc[-1]
    overlap = _overlap((first["low"], first["high"]), (last["low"], last["high"]))
    _title(
        figure,
        f"Accuracy is {first['accuracy']:.1%} on the shortest and {last['accuracy']:.1%} on the "
        f"longest reviews; their 95% intervals {overlap}",
    )
    return figure


@in_report_style
def influence_curves(panels: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """How the influence of a word fades with distance, one panel beside the other.

    panels: what the networks are ("fresh") -> a network's name -> a table from
        `influence_by_distance`.
    """
    figure = ReportFigure(3.8)
    all_axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    for axes, (name, tables) in zip(all_axes, panels.items(), strict=True):
        for number, (network, table) in enumerate(tables.items()):
            color, marker = SERIES_LOOKS[number]
            gap = max(4, len(table) // 6)
            # Dashes and shifted markers: where curves lie on each other, those beneath are seen.
            looks = {"color": color, "linestyle": ("-", "--", "-.", ":")[number], "marker": marker}
            looks |= {"markevery": (number * gap // 4, gap), "markersize": 5}
            axes.plot(table["distance"], table["median"], label=network, **looks)
        axes.set_yscale("log")
        axes.set_title(name, fontsize=10)
        axes.set(xlabel="words before the last one")
    all_axes[0].set_ylabel("gradient, last word's = 1")
    _legend_below(all_axes[-1])
    first_panel, tables = next(iter(panels.items()))
    ends = pd.Series({network: table["median"].iloc[-1] for network, table in tables.items()})
    distance = next(iter(tables.values()))["distance"].iloc[-1]
    _title(
        figure,
        f"In {first_panel} networks a gradient {distance:.0f} words before the end has "
        f"{ends.min():.1g} ({ends.idxmin()}) to {ends.max():.1g} ({ends.idxmax()}) of its strength "
        "at the last word",
    )
    return figure


WORDS_SHOWN = 45  # as many as can be read side by side


@in_report_style
def words_and_gates(table: pd.DataFrame) -> Figure:
    """The verdict after each word of a review, and beneath it how far the gates were open.

    table: from `SentimentPredictor.word_by_word`; its last 45 rows are shown.
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
        color, marker, _ = GROUP_LOOKS[name]
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
    _title(figure, f"{verdict.capitalize()} with probability {max(final, 1 - final):.0%}{turn}")
    return figure


@in_report_style
def speed_bars(table: pd.DataFrame) -> Figure:
    """Time of a training step of each model; table: from `compare_speed`."""
    table = table.sort_values("training_ms", ignore_index=True)
    times = table["training_ms"]
    figure, axes = _new_figure(1.2 + 0.35 * len(table))
    # One that takes many times as long as all others would leave nothing to see of these.
    end = times.iloc[-1] if times.iloc[-1] < 3 * times.iloc[-2] else 1.5 * times.iloc[-2]
    bars = axes.barh(table["model"], times.clip(upper=end), color=BLUE, height=0.65)
    labels = [f"{time:,.0f} ms{' (bar cut off)' if time > end else ''}" for time in times]
    axes.bar_label(bars, labels, padding=3)
    axes.invert_yaxis()
    axes.set(xlabel="milliseconds per training step", xlim=(0, 1.3 * end))
    axes.grid(visible=False, axis="y")
    _title(
        figure,
        f"Fastest: {table['model'][0]}, with {times[0]:,.0f} ms per training step; the next is "
        f"{table['model'][1]} with {times[1]:,.0f}",
    )
    return figure


# What the figures share


def _new_figure(height: float) -> tuple[ReportFigure, Axes]:
    figure = ReportFigure(height)
    return figure, figure.subplots()


def _title(figure: Figure, finding: str) -> None:
    figure.suptitle(textwrap.fill(finding, TITLE_WIDTH), x=0.01, ha="left")


def _legend_below(axes: Axes) -> None:
    """A legend under the axes, where it cannot hide data."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=4)


def _histogram_edges(lengths: np.ndarray, max_length: int = 0) -> np.ndarray:
    """Forty bins, without the longest 1%, lest a few giants squeeze all others to the left."""
    return np.linspace(0, max(np.ceil(np.quantile(lengths, 0.99)), 1.05 * max_length), 41)


def _length_axis(lengths: np.ndarray, edges: np.ndarray, unit: str) -> str:
    beyond = lengths > edges[-1]
    if not beyond.any():
        return f"{unit} per review"
    return f"{unit} per review ({beyond.sum():,} longer ones, up to {lengths.max():,}, not shown)"


def _component_labels(explained: ArrayLike) -> dict[str, str]:
    return {
        f"{axis}label": f"component {number} ({share:.1%} of variance)"
        for number, (axis, share) in enumerate(zip("xyz", explained, strict=False), start=1)
    }


def _separation(
    coordinates: np.ndarray, words: pd.DataFrame, explained: ArrayLike, name: str
) -> str:
    """The title of a picture of words: which component parts positive from negative best."""
    auc = separation(coordinates, words["group"], ["positive"], ["negative"])
    return (
        f"{name}: component {np.argmax(auc) + 1} separates positive from negative words best "
        f"(AUC {np.max(auc):.3f}); {np.sum(explained):.0%} of the variance is shown"
    )


def _scatter_words(axes: Axes, coordinates: np.ndarray, words: pd.DataFrame) -> None:
    looks = {"depthshade": False} if coordinates.shape[1] == 3 else {}  # pale marks fail in grey
    for group in ("frequent", "negative", "positive"):
        colour, marker, _ = GROUP_LOOKS[group]
        members = (words["group"] == group).to_numpy()
        label = f"{group} words"
        axes.scatter(
            *coordinates[members].T, s=24, color=colour, marker=marker, lw=0, label=label, **looks
        )


def _label_points(axes: Axes, points: np.ndarray, words: pd.DataFrame, frequent: int) -> None:
    """Write words (n rows) beside their points (n, 2) where there is room: those of sentiment, and
    of the others the `frequent` most frequent.

    Sentiment words choose before others, frequent ones before rare ones. A label keeps clear of
    all others and touches no sentiment word's mark, those of other words no mark at all; of such
    places the one that hides fewest marks is taken, and without one the word stays unnamed.
    """
    others = words["count"].where(words["group"] == "frequent")
    named = ((words["group"] != "frequent") | (others.rank(ascending=False) <= frequent)).to_numpy()
    figure = axes.figure
    figure.draw_without_rendering()  # settles the layout, and with it every position in pixels
    renderer = figure.canvas.get_renderer()
    gap = LABEL_GAP * figure.dpi / 72
    anchors = axes.transData.transform(points)
    marks = np.hstack([anchors - gap, anchors + gap])  # x0, y0, x1, y1, like all boxes here
    frame = np.array(axes.get_window_extent(renderer).extents)
    is_frequent = (words["group"] == "frequent").to_numpy()
    labels = np.empty((0, 4))
    for i in np.lexsort([-words["count"], is_frequent]):
        if not named[i]:
            continue
        text = axes.annotate(
            words["word"].iloc[i], points[i], (0, 0), textcoords="offset points", in_layout=False,
            ha="center", va="center", **LABEL_STYLES[words["group"].iloc[i]],
        )  # fmt: skip
        half = text.get_window_extent(renderer).size / 2
        centres = anchors[i] + LABEL_DIRECTIONS * (half + 1.01 * gap)  # just clear of its own mark
        boxes = np.hstack([centres - half, centres + half])
        hides = _touching(boxes, marks)
        free = (boxes[:, :2] >= frame[:2]).all(axis=1) & (boxes[:, 2:] <= frame[2:]).all(axis=1)
        free &= ~_touching(boxes, labels).any(axis=1)
        free &= ~hides[:, ~is_frequent | is_frequent[i]].any(axis=1)
        if not free.any():
            text.remove()
            continue
        place = np.argmin(np.where(free, hides.sum(axis=1), np.inf))
        text.set_position((centres[place] - anchors[i]) * 72 / figure.dpi)
        apart = np.array([-gap, 0, gap, 0])  # or two labels side by side read as one word
        labels = np.vstack([labels, boxes[place] + apart])


def _touching(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n, m) bools: which boxes (n, 4) overlap which others (m, 4); rows are x0, y0, x1, y1."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (low <= high).all(axis=2)


def _ranking(evaluations: Mapping[str, Mapping]) -> str:
    """The title of `metric_intervals`: who is most accurate, and whether that is sure."""
    first, *others = sorted(evaluations, key=lambda name: -evaluations[name]["accuracy"])
    accuracy = evaluations[first]["accuracy"]
    if not others:
        return f"{first}: accuracy {accuracy:.1%}, F1 {evaluations[first]['f1']:.1%}"
    second = evaluations[others[0]]
    lead = accuracy - second["accuracy"]
    overlap = _overlap(evaluations[first]["accuracy_95"], second["accuracy_95"])
    return (
        f"{first} is most accurate with {accuracy:.1%}, {100 * lead:.1f} points before "
        f"{others[0]}; their 95% intervals {overlap}"
    )


def _overlap(interval_a: Sequence[float], interval_b: Sequence[float]) -> str:
    apart = interval_a[1] < interval_b[0] or interval_b[1] < interval_a[0]
    return "do not overlap" if apart else "overlap"
