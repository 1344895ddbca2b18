"""Numbers of a notebook's prose are found where no output of their section shows them."""

from __future__ import annotations

import pytest

from lstm_sentiment.report.check import Cell
from lstm_sentiment.report.numbers import unshown_numbers


def notebook(*cells):
    """Cells given as Markdown, or as the tuple of an output's kind and text."""
    made = []
    for number, cell in enumerate(cells, start=1):
        if isinstance(cell, str):
            made.append(Cell(number, False, (), cell, None, []))
            continue
        kind, text = cell
        output = {"text": [text]} if kind == "stream" else {"data": {kind: [text]}}
        made.append(Cell(number, True, (), "", 1, [output]))
    return made


def numbers(*cells):
    return [found.number for found in unshown_numbers(notebook(*cells))]


@pytest.mark.parametrize(
    ("shown", "prose"),
    [
        ("accuracy 0.89712", "Right in 89.7%, that is 0.897, or 0.9."),
        ("89.71%", "Right in 90%."),
        ("12,345 reviews", "There are 12,345 of them."),
        ("-0.0123", "1.2 points worse, -1.2 in all."),
        ("difference 3.2e-07", "They differ by 3e-07."),
    ],
)
def test_a_number_that_an_output_shows_at_its_precision_is_fine(shown, prose):
    assert numbers("## 1. One", ("stream", shown), prose) == []


@pytest.mark.parametrize(
    ("shown", "prose", "missing"),
    [
        ("accuracy 0.89712", "Right in 89.8%.", ["89.8%"]),
        ("12,345 reviews", "12,346 of them, 12 of them.", ["12,346", "12"]),
        ("3.2e-07", "4e-07", ["4e-07"]),
        ("", "The 50 epochs.", ["50"]),
    ],
)
def test_another_number_is_not(shown, prose, missing):
    assert numbers("## 1. One", ("stream", shown), prose) == missing


def test_what_is_no_statement_is_skipped():
    prose = """
## 4. Four

1. As in section 3 and sections 4 to 6, `x = 17`, $h_{12}$ (Kingma & Ba 2015), F1, 3D, [here](#71).

```python
n = 99
```

<img width=300> In 2015, int8.
"""
    assert numbers(prose) == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/html", "<style>td {width: 77px}</style><td>42</td><td id='a7'>-</td>"),
        ("text/markdown", "42 of them"),
        ("text/plain", "array([42])"),
    ],
)
def test_outputs_of_each_kind_are_read_as_they_are_seen(kind, text):
    assert numbers("## One", (kind, text), "It is 42, not 77 or 7.") == ["77", "7"]


def test_an_output_counts_in_its_own_section_and_in_summary_and_conclusion():
    cells = ["## Summary\n\nWe get 5.", "## 1. One", ("stream", "5"), "It is 5."]
    assert numbers(*cells, "## 2. Two\n\nIt was 5.", "## Conclusion\n\n5, not 6.") == ["5", "6"]


def test_what_is_asked_for_before_the_first_section_is_no_result():
    assert numbers("# Title\n\n| vectors | 30% |", "## 1. One", "It is 5.") == ["5"]
    assert numbers("# Title\n\nIt is 5.") == ["5"], "there are no sections"


def test_the_sentence_is_said():
    (found,) = unshown_numbers(notebook("## 3. Vectors\n\nFirst. Then 17 words\nare left. Last."))
    assert found.sentence == "Then 17 words are left."
