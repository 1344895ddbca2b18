"""Pictures of word vectors: in two and three dimensions with their words, and pairs of words."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d import proj3d
from numpy.typing import ArrayLike

from lstm_sentiment.plots import (
    BLUE,
    GROUP_LOOKS,
    SERIES_LOOKS,
    ReportFigure,
    in_report_style,
    legend_below,
    new_figure,
    state_finding,
)
from lstm_sentiment.report.words import separation

GROUP_NAMES = {
    **{"positive": "praise", "negative": "blame", "film": "film-making"},
    "other": "other frequent words",
}
LABEL_STYLES = {  # two lightnesses and a slant, for grey print
    "positive": {"color": BLUE, "fontsize": 8},
    "negative": {"color": "#8A5A00", "fontsize": 8, "fontstyle": "italic"},
    "film": {"color": "#005A40", "fontsize": 8, "fontweight": "bold"},
    "other": {"color": "#666666", "fontsize": 7},
}
LABEL_GAP = 3.0  # points between a marker and its label
LABEL_DIRECTIONS = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)])


@in_report_style
def words_2d(
    coordinates: np.ndarray, words: pd.DataFrame, explained: ArrayLike, name: str
) -> Figure:
    """Word vectors, of the kind `name`, on their first two principal components.

    coordinates: (n, 2); words: DataFrame of n rows with `word`, `group` ("positive", "negative",
    "film" or "other") and `count`; explained: (2,), each component's share of the variance. All
    words are marked; those of sentiment, then others, are named where there is room.
    """
    figure, axes = new_figure(6.6)
    _scatter_words(axes, coordinates, words)
    axes.set(**_component_labels(explained))
    legend_below(axes)
    state_finding(figure, _separation(coordinates, words, explained, name))
    _label_points(axes, coordinates, words, others=30)
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
    legend_below(axes)
    axes.set_box_aspect(None, zoom=1.05)  # 3D axes leave wide margins
    state_finding(figure, _separation(coordinates, words, explained, name))
    on_page = np.column_stack(proj3d.proj_transform(*coordinates.T, axes.get_proj())[:2])
    _label_points(axes, on_page, words, others=12)
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
    figure, axes = new_figure(1.3 + 0.17 * len(table))
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
    axes.margins(y=0.01)
    axes.axvline(0, color="black", lw=0.8)
    axes.grid(visible=False, axis="y")
    legend_below(axes)
    ranking = ", ".join(f"{relation} {mean:.2f}" for relation, mean in means.items())
    state_finding(figure, f"Mean cosine similarity: {ranking}")
    return figure


def _separation(
    coordinates: np.ndarray, words: pd.DataFrame, explained: ArrayLike, name: str
) -> str:
    """The title of a picture of words: which component parts praise from blame best."""
    auc = separation(coordinates, words["group"], ["positive"], ["negative"])
    return (
        f"{name}: component {np.argmax(auc) + 1} separates praise from blame best "
        f"(AUC {np.max(auc):.2f}); {np.sum(explained):.0%} of the variance is shown"
    )


def _component_labels(explained: ArrayLike) -> dict[str, str]:
    return {
        f"{axis}label": f"component {number} ({share:.1%} of variance)"
        for number, (axis, share) in enumerate(zip("xyz", explained, strict=False), start=1)
    }


def _scatter_words(axes: Axes, coordinates: np.ndarray, words: pd.DataFrame) -> None:
    looks = {"depthshade": False} if coordinates.shape[1] == 3 else {}  # pale marks fail in grey
    for group in ("other", "film", "negative", "positive"):
        colour, marker = GROUP_LOOKS[group]
        members = (words["group"] == group).to_numpy()
        label = GROUP_NAMES[group]
        axes.scatter(
            *coordinates[members].T, s=24, color=colour, marker=marker, lw=0, label=label, **looks
        )


def _label_points(axes: Axes, points: np.ndarray, words: pd.DataFrame, others: int) -> None:
    """Write words (n rows) beside their points (n, 2) where there is room: those of sentiment, and
    of film-making, and of the rest the `others` most frequent.

    Sentiment words choose before others, frequent ones before rare ones. A label keeps clear of
    all others and touches no sentiment word's mark, those of other words no mark at all; of such
    places the one that hides fewest marks is taken, and without one the word stays unnamed.
    """
    rank = words["count"].where(words["group"] == "other").rank(ascending=False)
    named = ((words["group"] != "other") | (rank <= others)).to_numpy()
    figure = axes.figure
    figure.draw_without_rendering()  # settles the layout, and with it every position in pixels
    renderer = figure.canvas.get_renderer()
    gap = LABEL_GAP * figure.dpi / 72
    anchors = axes.transData.transform(points)
    marks = np.hstack([anchors - gap, anchors + gap])  # x0, y0, x1, y1, like all boxes here
    frame = np.array(axes.get_window_extent(renderer).extents)
    is_other = (words["group"] == "other").to_numpy()
    labels = np.empty((0, 4))
    for i in np.lexsort([-words["count"], is_other]):
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
        free &= ~hides[:, ~is_other | is_other[i]].any(axis=1)
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
