"""README's animated picture: one review, read word by word by the classifier that comes along.

`python -m lstm_sentiment.report.animation [FILE.gif]` draws it anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image, ImageDraw

from lstm_sentiment.plots import GROUP_LOOKS, words_and_gates
from lstm_sentiment.predictor import TextPredictor

FILE = "notebooks/results/word_by_word.gif"
REVIEW = (
    "The plot is silly and the effects look cheap, but "
    "the cast is great and I was not bored at all."
)
FIRST_MS, WORD_MS, LAST_MS = 1500, 400, 4000
MS_PER_CHANGE = 1600  # a word that turns the verdict is looked at longer
LARGE = 0.1  # a change of the probability that is written beneath the word
DPI = 150  # 1,200 pixels where GitHub shows about 830: sharp on dense screens too


def frames(table: pd.DataFrame) -> Iterator[tuple[Image.Image, int]]:
    """Pictures (RGB) of a review being read, and how long to show each, in milliseconds.

    table: from `TextPredictor.word_by_word`. The first picture, for whoever sees no other, and the
    last show all of its n words; those between show 1, 2, ... n - 1.
    """
    figure = words_and_gates(table)
    figure.set(dpi=DPI, size_inches=(8, 5.6))
    figure.axes[-1].set_xlabel("")
    figure.get_layout_engine().set(rect=(0, 0, 1, 0.79))  # the words come above
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # nothing moves from here on
    changes = table["probability"].diff().fillna(table["probability"] - 0.5)
    texts = _write(figure, table["word"], changes)
    texts += enumerate(figure.axes[-1].get_xticklabels())
    curves = [line for axes in figure.axes for line in axes.lines][1:]  # the first is that at 0.5
    points = [curve.get_xydata() for curve in curves]
    after = "After “{}”: positive with probability {:.0%}".format
    titles = [*map(after, table["word"], table["probability"])]
    titles[-1] = figure.get_suptitle()
    durations = (WORD_MS + MS_PER_CHANGE * changes.abs()).astype(int).tolist()
    for n in (len(table), *range(1, len(table) + 1)):
        for curve, whole in zip(curves, points, strict=True):
            curve.set_data(whole[whole[:, 0] < n].T)
        for place, text in texts:
            text.set_visible(place < n)
        figure.suptitle(titles[n - 1], x=0.01, ha="left", fontsize=14, weight="bold")
        figure.canvas.draw()
        picture = Image.fromarray(np.array(figure.canvas.buffer_rgba())).convert("RGB")
        yield picture, durations[n - 1]


def _write(figure: Figure, words: pd.Series, changes: pd.Series) -> list[tuple[int, Text]]:
    """The review above the panels, tinted by what each word changed; its texts, by their word."""
    width, height = figure.bbox.size
    left, right = 0.015 * width, figure.axes[0].bbox.x1
    x, y, texts = left, 0.88 * height, []
    figure.text(0.84, 0.875, "change, in\npercentage points", fontsize=9, va="top", color="#444444")
    for place, (word, change) in enumerate(zip(words, changes, strict=True)):
        colour = GROUP_LOOKS["positive" if change > 0 else "negative"][0]
        tint = {"fc": colour, "ec": "none", "alpha": min(0.6, 1.5 * abs(change)), "pad": 3}
        text = figure.text(x, y, word, transform=None, fontsize=18, bbox=tint)
        if text.get_window_extent().x1 > right:
            x, y = left, y - 0.087 * height
            text.set_position((x, y))
        end = text.get_window_extent().x1
        texts.append((place, text))
        if abs(change) >= LARGE:
            style = {"fontsize": 10, "ha": "center", "va": "top", "transform": None}
            points = figure.text((x + end) / 2, y - 0.018 * height, f"{100 * change:+.0f}", **style)
            texts.append((place, points))
        x = end + 0.014 * width
    return texts


def save(table: pd.DataFrame, path: str | Path) -> None:
    """Write the frames as a GIF that repeats for ever, on white with round, transparent corners."""
    pictures, durations = zip(*frames(table), strict=True)
    palette = pictures[0].quantize(255, Image.Quantize.MAXCOVERAGE)  # and one for no colour
    drawn = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    outside = Image.new("1", drawn[0].size, 1)
    ImageDraw.Draw(outside).rounded_rectangle((0, 0, *outside.size), DPI // 6, fill=0)
    for picture in drawn:
        picture.paste(255, mask=outside)
    how = {"duration": [FIRST_MS, *durations[1:-1], LAST_MS], "loop": 0, "transparency": 255}
    drawn[0].save(path, save_all=True, append_images=drawn[1:], **how)


if __name__ == "__main__":
    predictor = TextPredictor.from_pretrained()
    save(predictor.word_by_word(REVIEW), sys.argv[1] if len(sys.argv) > 1 else FILE)
