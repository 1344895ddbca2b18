"""Figures say what the data say, no text overlaps or is cut off, a notebook shows each once."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from PIL import Image, ImageChops

from lstm_sentiment import plots
from lstm_sentiment.evaluation import evaluate
from lstm_sentiment.report import animation, word_plots
from lstm_sentiment.text import choose_max_length, tokenize

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 1000)
PROBABILITIES = 1 / (1 + np.exp(-3 * (2 * LABELS - 1) - RNG.normal(0, 2.5, 1000)))
LENGTHS = RNG.lognormal(5.2, 0.6, 1000).astype(int) + 10
EVALUATION = evaluate(LABELS, PROBABILITIES)
WORDS = pd.DataFrame(
    {
        "word": [f"word{'s' * (i % 7)}{i}" for i in range(200)],
        "group": ["positive"] * 40 + ["negative"] * 40 + ["film"] * 40 + ["other"] * 80,
        "count": RNG.integers(1, 5000, 200),
    }
)
COORDINATES = RNG.normal(0, 0.2, (200, 3))
COORDINATES[:, 1] += WORDS["group"] == "positive"
PAIRS = pd.DataFrame(
    {
        "word_a": ["good", "film", "good", "film"],
        "word_b": ["great", "movie", "bad", "sand"],
        "relation": ["synonym", "synonym", "opposite", "unrelated"],
        "cosine_similarity": [0.7, 0.9, 0.6, -0.1],
    }
)
HISTORY = pd.DataFrame(
    {
        "epoch": range(1, 51),
        "train_loss": np.linspace(0.7, 0.05, 50),
        "train_accuracy": np.linspace(0.5, 0.99, 50),
        "validation_loss": np.linspace(0.6, 0.9, 50),
        "validation_accuracy": 0.88 - 0.0001 * (np.arange(50) - 20) ** 2,
    }
)
SEARCH = pd.DataFrame(
    [(1e-3, 32, 0.86), (1e-3, 64, 0.872), (3e-3, 32, 0.81), (1e-3, 32, 0.85)],
    columns=["learning_rate", "batch_size", "validation_accuracy"],
)
GATES = {
    "forget_gate": [0.7, 0.5, 0.6],
    "input_gate": [0.4, 0.6, 0.5],
    "output_gate": [0.3, 0.5, 0.5],
}
REVIEW = pd.DataFrame({"word": ["dull", "but", "good"], "probability": [0.2, 0.7, 0.8], **GATES})
INFLUENCE = pd.DataFrame({"distance": np.arange(21), "median": 10 ** (-np.arange(21) / 10)})
BY_NETWORK = {"RNN": INFLUENCE, "LSTM": INFLUENCE.assign(median=INFLUENCE["median"] * 2)}
ARGUMENTS = {
    plots.padding_choice: [LENGTHS, 400],
    word_plots.words_2d: [COORDINATES[:, :2], WORDS, [0.08, 0.05], "news"],
    word_plots.words_3d: [COORDINATES, WORDS, [0.08, 0.05, 0.03], "news"],
    word_plots.cosine_bars: [PAIRS],
    plots.learning_curves: [HISTORY, 21],
    plots.search_heatmap: [SEARCH],
    plots.confusion_matrix_figure: [EVALUATION],
    plots.probability_histogram: [LABELS, PROBABILITIES],
    plots.influence_curves: [BY_NETWORK],
    plots.words_and_gates: [REVIEW],
}


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return {draw.__name__: draw(*arguments) for draw, arguments in ARGUMENTS.items()}


every_figure = pytest.mark.parametrize("name", [draw.__name__ for draw in ARGUMENTS])


def title(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ")


def visible_texts(figure: Figure) -> list[Text]:
    """What a reader can read: no ticks beyond the limits, no slanted text (its box too large)."""
    figure.draw_without_rendering()
    hidden = set()
    for axes in figure.axes:
        for axis in axes._axis_map.values():
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
        and text.get_rotation() % 90 == 0
    ]  # fmt: skip


def boxes(figure: Figure, texts: list[Text]) -> list[Bbox]:
    renderer = figure.canvas.get_renderer()
    return [Text.get_window_extent(text, renderer) for text in texts]


@every_figure
def test_no_text_overlaps_another_or_leaves_the_figure(figures, name):
    figure = figures[name]
    texts = visible_texts(figure)
    extents = boxes(figure, texts)
    paper = figure.bbox.padded(1)
    assert len(texts) > 3
    for i, (text, box) in enumerate(zip(texts, extents, strict=True)):
        assert (paper.min <= box.min).all(), text
        assert (box.max <= paper.max).all(), text
        for other, other_box in zip(texts[i + 1 :], extents[i + 1 :], strict=True):
            assert not box.padded(-0.5).overlaps(other_box.padded(-0.5)), (text, other)


@every_figure
def test_a_notebook_shows_the_figure_as_one_image_of_its_width(figures, name):
    shown, _ = DisplayFormatter().format(figures[name])
    assert set(shown) == {"image/png", "text/plain"}
    image = plt.imread(io.BytesIO(shown["image/png"]))
    assert image.shape[1] == 880
    assert image.std() > 0.02  # something is drawn
    assert plt.get_fignums() == []  # nothing is left for the notebook to show once more


@every_figure
def test_axes_are_labelled(figures, name):
    for axes in figures[name].axes:
        rows = "".join(label.get_text() for label in axes.get_yticklabels())
        sharing = axes.get_shared_y_axes().get_siblings(axes)
        assert any(each.get_ylabel() for each in sharing) or any(map(str.isalpha, rows))
    assert axes.get_xlabel()


def test_the_readers_own_style_changes_nothing(figures):
    with matplotlib.rc_context({"font.size": 20, "xtick.labelsize": 20, "axes.grid": False}):
        figure = plots.search_heatmap(SEARCH)
    assert figure._repr_png_() == figures["search_heatmap"]._repr_png_()


def test_a_saved_figure_is_a_png_sharp_enough_for_print(figures, tmp_path):
    path = plots.save_figure(figures["search_heatmap"], "balance", folder=tmp_path / "artifacts")
    assert path == tmp_path / "artifacts" / "balance.png"
    assert plt.imread(path).shape[1] == 1600


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("words_2d", "separates praise from blame best (AUC 1.00); 13%"),
        ("cosine_bars", "Mean cosine similarity: synonym 0.80, opposite 0.60, unrelated -0.10"),
        ("learning_curves", "epoch 21 kept: validation accuracy 88.0%; after epoch 50 it is 79.6%"),
        ("search_heatmap", "Learning rate 0.001 with batches of 64 is best: 87.2%"),
        ("influence_curves", "A gradient 20 words before the end has 0.01 (RNN) to 0.02 (LSTM)"),
        ("words_and_gates", "Positive with probability 80%, turned most by \u201cbut\u201d"),
    ],
)
def test_the_title_states_the_finding(figures, name, finding):
    assert finding in title(figures[name])


def test_padding_figure_agrees_with_the_choice_of_length():
    choice = choose_max_length(LENGTHS)
    text = title(plots.padding_choice(LENGTHS, choice.max_length))
    assert f"{choice.padding_share:.0%} of all positions are padding" in text
    assert f"{choice.truncated_share:.0%} of the reviews lose tokens" in text
    beyond_all = plots.padding_choice([10, 20, 30], 60)
    assert beyond_all.axes[0].get_xlim()[1] > 60
    assert "67% of all positions are padding and 0% of the reviews" in title(beyond_all)


def test_the_kept_epoch_is_starred_on_both_curves(figures):
    columns = ("validation_loss", "validation_accuracy")
    for axes, column in zip(figures["learning_curves"].axes, columns, strict=True):
        (star,) = (line for line in axes.lines if line.get_marker() == "*")
        assert star.get_xydata()[0] == pytest.approx([21, HISTORY[column][20]])


def test_the_confusion_matrix_shows_each_count_in_its_cell(figures):
    texts = {
        t.get_position(): t.get_text() for t in figures["confusion_matrix_figure"].axes[0].texts
    }
    cells = {"tn": (0, 0), "fp": (1, 0), "fn": (0, 1), "tp": (1, 1)}  # column, row
    for cell, position in cells.items():
        assert texts[position].splitlines()[0] == f"{EVALUATION['confusion'][cell]}"


def test_the_heatmap_shows_the_best_of_repeated_runs_and_what_was_not_run(figures):
    texts = [text.get_text() for text in figures["search_heatmap"].axes[0].texts]
    assert texts == ["86.0%", "87.2%", "81.0%", "not run"]


def test_most_sentiment_words_are_named_each_beside_its_own_mark(figures):
    figure = figures["words_2d"]
    labels = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    feeling = set(WORDS["word"][WORDS["group"] != "other"])
    named = {label.get_text() for label in labels}
    assert len(named & feeling) > 0.5 * len(feeling)
    point_of = dict(zip(WORDS["word"], COORDINATES[:, :2], strict=True))
    for label, box in zip(labels, boxes(figure, labels), strict=True):
        mark = figure.axes[0].transData.transform(point_of[label.get_text()])
        nearest = np.clip(mark, box.min, box.max)
        assert np.hypot(*(nearest - mark)) < 15  # pixels


def test_axes_are_named_by_what_they_show(figures):
    names = [axes.get_ylabel() for axes in figures["learning_curves"].axes]
    assert names == ["cross-entropy (nats per review)", "accuracy"]


def test_the_animated_review_shows_all_at_once_then_a_word_more_each():
    (whole, *growing), durations = zip(*animation.frames(REVIEW), strict=True)
    assert ImageChops.difference(growing[-1], whole).getbbox() is None
    panels = [np.array(picture)[picture.height // 4 :] for picture in growing]
    ink = [np.count_nonzero(panel < 128) for panel in panels]
    assert ink == sorted(set(ink))
    assert len(ink) == len(REVIEW)
    assert durations[2] == max(durations), "its \u201cbut\u201d turns it most"


def test_readme_opens_with_an_animated_picture_that_github_plays():
    root = Path(__file__).parent.parent
    assert f"]({animation.FILE})" in (root / "README.md").read_text(encoding="utf-8")
    assert (root / animation.FILE).stat().st_size < 2_000_000
    with Image.open(root / animation.FILE) as picture:
        assert (picture.format, picture.info["loop"]) == ("GIF", 0)
        assert picture.n_frames == 1 + len(tokenize(animation.REVIEW)) > 10
