"""Numbers in a notebook's prose that none of its outputs shows.

The text of the report is written by hand, beside outputs that another machine, another file or
another setting changes. `unshown_numbers` says which sentences to read again: it needs the saved
notebook only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import unescape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lstm_sentiment.report.check import Cell

MINUS = "\N{MINUS SIGN}"
NUMBER = re.compile(
    rf"(?<![\w.,])[-+{MINUS}]?\d+(?:,\d{{3}})*(?:\.\d+)?(?:e[-+]\d+)?(?! ?[Dd]\b)(?!\w)%?"
)
# What is no statement about a result: code, equations, addresses, tags, references to sections,
# numbers of headings and lists, years.
NOT_PROSE = re.compile(
    r"```.*?```|``.*?``|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|(?<=\])\([^)]*\)|<[^>]*>"
    r"|[Ss]ections? \d+(?:(?:, | and | to )\d+)*|^(?:#+ )?\d+\. |\b(?:19|20)\d\d\b(?![%,.]\d)",
    re.DOTALL | re.MULTILINE,
)
# They sum up all sections, so their numbers may stand in any.
SUMMING_UP = ("Summary", "Conclusion")


class Unshown(NamedTuple):
    """A number, and the sentence that it stands in."""

    number: str
    sentence: str


def unshown_numbers(cells: Iterable[Cell]) -> list[Unshown]:
    """Numbers of the Markdown cells that no output of their section shows; one begins with `##`.

    A number is shown if an output has it, rounded to as many decimals, as it is or as a percentage.
    """
    sections = list(_sections(cells))
    everything = [number for _, _, shown in sections for number in shown]
    found = []
    # Before the first of several sections stand a title and what is asked for, no results.
    for title, texts, shown in sections[1:] or sections:
        values = everything if title in SUMMING_UP else shown
        for text in texts:
            prose = NOT_PROSE.sub(lambda match: " " * len(match[0]), text)
            for match in NUMBER.finditer(prose):
                if not any(_rounds_to(value, match[0]) for value in values):
                    found.append(Unshown(match[0], _sentence(text, match.start())))
    return found


def _sections(cells: Iterable[Cell]) -> Iterator[tuple[str, list[str], list[float]]]:
    """Title, Markdown texts and numbers in outputs of each section."""
    title, texts, shown = "", [], []
    for cell in cells:
        if not cell.is_code:
            heading = re.search(r"^## (?:\d+\. )?(.+)$", cell.source, re.MULTILINE)
            if heading:
                yield title, texts, shown
                title, texts, shown = heading[1].strip(), [], []
            texts.append(cell.source)
        for output in cell.outputs:
            shown += [_value(match[0]) for match in NUMBER.finditer(text_of(output))]
    yield title, texts, shown


def text_of(output: dict) -> str:
    """What a reader sees of an output, without the pictures."""
    data = output.get("data", {})
    kinds = [kind for kind in ("text/html", "text/markdown", "text/plain") if kind in data]
    text = "".join(data[kinds[0]] if kinds else output.get("text", ()))
    if kinds[:1] == ["text/html"]:
        text = re.sub(r"<(style|script).*?</\1>", " ", text, flags=re.DOTALL)
        text = unescape(re.sub(r"<[^>]*>", " ", text))
    return text


def _value(number: str) -> float:
    return float(number.rstrip("%").replace(",", "").replace(MINUS, "-"))


def _rounds_to(value: float, number: str) -> bool:
    """Whether `value`, 100 times or a hundredth of it, is `number` at the precision given there."""
    digits = number.rstrip("%")
    decimals = len(digits.partition(".")[2].split("e")[0])
    wanted = abs(_value(number))
    tolerance = 0.5 * 10**-decimals * (10 ** int(digits.split("e")[1]) if "e" in digits else 1)
    candidates = (abs(value) * factor for factor in (1, 100, 0.01))
    return any(abs(candidate - wanted) <= tolerance * 1.0001 for candidate in candidates)


def _sentence(text: str, place: int) -> str:
    """The sentence of a text around a place."""
    begin = max((m.end() for m in re.finditer(r"[.!?:|]\s|\n\n", text[:place])), default=0)
    end = re.search(r"[.!?](?=\s|$)|\n\n|\|", text[place:])
    return " ".join(text[begin : place + end.end() if end else len(text)].split())
