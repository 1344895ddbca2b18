"""Values of recorded.json, and the texts that they were recorded with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

RECORDED = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
WORDS = [
    *("good", "bad", "film", "plot", "not", "dull"),
    *("fine", "great", "awful", "story", "actor", "long"),
]
TELLING = {"positive": ["great", "fine", "good"], "negative": ["awful", "bad", "dull"]}


def texts_and_sentiments() -> tuple[list[str], list[str]]:
    """240 texts of three words that tell the sentiment among 3 to 39 that do not."""
    rng = np.random.default_rng(5)
    texts, sentiments = [], ["positive", "negative"] * 120
    for sentiment in sentiments:
        words = rng.choice(WORDS, rng.integers(3, 40)).tolist()
        words += rng.choice(TELLING[sentiment], 3).tolist()
        rng.shuffle(words)
        texts.append(" ".join(words))
    return texts, sentiments
