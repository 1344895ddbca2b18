"""The page that reads a review in a browser: it judges as the package does, whatever is typed."""

from __future__ import annotations

import json
import re
import sys
import time
import unicodedata

import numpy as np
import pytest
import torch
from chromium import PROGRAM, Chromium

from lstm_sentiment.__main__ import main
from lstm_sentiment.classifier import SentimentClassifier
from lstm_sentiment.data import load_reviews
from lstm_sentiment.model import POOLINGS, SentimentLSTM
from lstm_sentiment.page import rounded, write_page
from lstm_sentiment.text import DataError, Vocabulary, tokenize

needs_browser = pytest.mark.skipif(
    PROGRAM is None, reason="no chromium; on Debian: apt-get install chromium"
)
TEXTS = ["a good film but long", "a bad film", "wonderful music, good story", "dull, bad story"] * 6
LABELS = ["positive", "negative"] * 12


def classifier_of(words, vector_size=8, hidden_size=6, **options):
    """One with random weights, large enough that words move the verdict."""
    random = np.random.default_rng(0)
    classifier = SentimentClassifier(hidden_size=hidden_size, **options)
    classifier.vocabulary_ = Vocabulary(["<pad>", "<unk>", *words], np.ones(len(words) + 2))
    classifier.classes_ = np.array(["negative", "positive"])
    classifier.max_length_, classifier.temperature_ = 50, 0.7
    matrix = random.normal(size=(len(words) + 2, vector_size)).astype(np.float32)
    matrix[0] = 0
    torch.manual_seed(0)
    network = {name: options[name] for name in ("pooling", "num_layers") if name in options}
    classifier.model_ = SentimentLSTM(matrix, hidden_size, **network).eval()
    return classifier


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens the page of a classifier and waits until it has read its sentence."""

    def open_page(classifier):
        browser.call(  # as for readers who want nothing to move: the sentence is read at once
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-reduced-motion", "value": "reduce"}],
        )
        browser.requests.clear(), browser.problems.clear()
        write_page(classifier, tmp_path / "page.html")
        browser.open(tmp_path / "page.html")
        wait_for(browser, "typeof steps !== 'undefined' && steps.length > 0")
        return browser

    return open_page


def wait_for(browser, condition):
    for _ in range(4000):  # a busy machine is no failure; a page that never answers is
        if browser.run(condition):
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {condition}")


def typed(browser, text):
    """What is read after the text has been pasted."""
    pasted = f"review.value = {json.dumps(text)}; review.dispatchEvent(new Event('input'))"
    browser.run(f"{{ const review = element('review'); {pasted} }}")
    wait_for(browser, f"tokens.length === {len(tokenize(text))} && steps.length === tokens.length")
    return browser.run("steps.map(step => [step.word, step.probability, step.means])")


@pytest.fixture(scope="module")
def reviews():
    return load_reviews()[0]["review"].sample(200, random_state=0).tolist()


# ---- Words ----

NASTY = [
    "", " ", "...", "_a_b_", "It didn't, didnt, did`nt, DIDN'T, didn\u2019t, didnt't",
    "can't cannot cant won't shan't ain't oughtn't n't 'n't",
    "couldnt wouldn't shouldnt've mightn't've DON\u00b4T don\uff07t",
    "it's Tom's, they're, I've, he'll, I'm, she'd, '90s, rock'n'roll, x's's",
    "\u00e9didnt didnt\u00e9 didn't\u0301 \u00e9's 's didnt_ _didnt ca\u02bcnt",
    # Tags, with what Python takes for blanks and for an i, an s, a k.
    "I <3 it, 5 <6 and 7> 6, <sigh> a <b and c> d",
    "bad.<br /><br>Really<BR\u00a0/>bad<P CLASS='x' id=y data-a = \"z\">!</p\x1c><a\u2003b=c>d",
    "<d\u0131v>a<L\u0130>b<\u017fpan>c<lin\u212a>d<\u017fcr\u0131pt >e</i\ufeff>f<br\x85/\x85>g",
    "<a href=x>y</a><a href=>z<a href='\"' b='x'>c<!-- no --><!-- <b> --><!---->--><br/ />",
    # Entities: named, numbered, unfinished, impossible.
    "rock &amp; roll &quot;live&quot; caf&eacute; &#39;99 &lt;br /&gt;so &lt;script&gt;x",
    "&notit; &notin; &amp &AMP; &amp;amp; &ampx; &bogus; &NewLine;a &#10;b &Tab; &fjlig;",
    "&NotEqualTilde; &CounterClockwiseContourIntegral; don&#39;t don&rsquo;t &\u00e9; &amp\u00e9;",
    "a&#0;b a&#1;b a&#x1;b a&#11;b a&#13;b a&#127;b a&#128;b a&#x9f;b a&#xD800;b a&#1114112;b",
    "a&#xfdd0;b a&#xffff;b a&#x1FFFE;b a&#99999999999999999999;b &#65abc; &#x41zz; &#xg; &#;",
    "&#x; &#\u0663; &#6\u0663; a&#1x;b a&#127_;b",
    # Letters of many kinds, marks, what joins and what cannot be seen.
    "cafe\u0301 STRASSE Stra\u00dfe \u0130stanbul \u212a \u01c5 \ufb01 \u00bd \u00b2 \u2167",
    "\u03a3\u03a3 \u03a3. A\u03a3 A\u03a3b A\u0301\u03a3 \u1100\u1161 \U0001d400\U00010400",
    "\u0414\u043e\u043c \u6620\u753b \u05e9\u05dc\u05d5\u05dd \u202eabc\u202c \u0645\u0631\u062d",
    "\U0001f44d\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467 a\u200db a\u00adb a\ufeffb",
    "\u0928\u092e\u0938\u094d\u0924\u0947 a\u2028b \u2764\ufe0f1\ufe0f\u20e3",
    # Attacks.
    "<script>window.hacked = 1</script><img src=x onerror=hacked=1>&lt;img src=x onerror=hacked=1>",
    "</textarea><script>hacked=1</script></script><svg onload=hacked=1>",
    "{{MODEL}} ${hacked=1} __proto__ constructor toString",
    *(unit * 20_000 for unit in ("<", "<a ", "<a x='", "<!--", "&a", "&#", "n't", "<b a=b", "'")),
    "<a" + " b=c" * 20_000, "<a" + " " * 20_000 + "b", "&" + "a" * 20_000 + ";",
    "<!--" + "-" * 20_000,
]  # fmt: skip


@needs_browser
def test_words_are_those_of_the_package(opened, reviews):
    browser = opened(classifier_of(["film"]))
    texts = [*NASTY, *reviews]
    found = browser.run(f"{json.dumps(texts)}.map(tokenize)")
    for text, words in zip(texts, found, strict=True):
        assert words == tokenize(text), f"{text:.200}"
    assert browser.run("typeof hacked") == "undefined"


@needs_browser
def test_so_they_are_for_every_character_that_both_know(opened):
    browser = opened(classifier_of(["film"]))
    codes = [code for code in range(sys.maxunicode) if unicodedata.category(chr(code)) != "Cn"]
    codes = [code for code in codes if not 0xD800 <= code <= 0xDFFF]  # halves of characters
    found = browser.run(
        f"{codes}.map(c => String.fromCodePoint(c)).map(c => /\\p{{Cn}}/u.test(c) ? '' "
        ": tokenize(`n${c}m ${c}`).join(' '))"
    )
    known = [(chr(code), words) for code, words in zip(codes, found, strict=True) if words]
    assert len(known) > 140_000
    different = [c for c, words in known if words != " ".join(tokenize(f"n{c}m {c}"))]
    assert different == []


# ---- Verdicts ----


@needs_browser
@pytest.mark.parametrize(
    ("options", "n"),
    [
        ({"pooling": "last_mean_max"}, 200),
        *(({"pooling": pooling}, 20) for pooling in POOLINGS),
        ({"num_layers": 2}, 20),
    ],
)
def test_verdicts_and_gates_are_those_of_word_by_word(opened, reviews, options, n):
    words = sorted({word for review in reviews for word in tokenize(review)})
    classifier = classifier_of(words[::2], **options)  # every other word is unknown
    browser = opened(classifier)
    for number, review in enumerate(reviews[:n]):
        review = review if number % 20 == 0 else review[:200]  # to save time
        table = classifier.word_by_word(review)
        found = typed(browser, review)
        assert [word for word, _, _ in found] == table["word"].tolist()
        np.testing.assert_allclose([p for _, p, _ in found], table["probability"], atol=0.005)
        for name in ("forget_gate", "input_gate", "output_gate"):
            means = [means[name[0]] for _, _, means in found][-20:]
            np.testing.assert_allclose(means, table[name][-20:], atol=0.005)
    assert table["probability"].between(0.01, 0.99).any(), "the verdicts are not all alike"


def test_numbers_are_rounded_by_half_a_step_at_most():
    matrix = np.random.default_rng(0).normal(size=(4, 50)) * [[1], [1e-4], [0], [5]]
    numbers, steps = rounded(matrix, np.array([127, 31, 127, 2047]))
    assert (abs(numbers * steps[:, None] - matrix) <= steps[:, None] * 0.5001).all()
    assert abs(numbers).max(axis=1).tolist() == [127, 31, 0, 2047]


# ---- The file ----


@needs_browser
def test_the_page_loads_nothing_but_itself_and_shows_a_but_at_once(opened, tmp_path):
    browser = opened(classifier_of(["film", "but"]))
    wait_for(browser, "element('told').textContent.includes('Without it')")
    assert browser.run("element('told').textContent").startswith("“but” ")
    assert browser.run("element('verdict').textContent").endswith("% sure")
    long = "chosen = -1; readAll('film '.repeat(550) + 'but film'); chooseBut(); steps.length"
    assert browser.run(long) < 551, "as on a slow device: the word is chosen before it is read"
    wait_for(browser, "steps.length === 552")
    assert browser.run("element('told').textContent").startswith("“but” ")
    assert browser.requests == [(tmp_path / "page.html").as_uri()]
    assert browser.problems == []
    browser.run("fetch('http://localhost/').catch(() => 0)")
    assert "Content Security Policy" in browser.problems[0], "and could not if it wanted to"


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"cell": "gru"}])
def test_what_cannot_be_followed_is_refused_and_no_file_written(tmp_path, options):
    tiny = {"vectors": None, "vector_size": 4, "hidden_size": 3, "epochs": 1}
    classifier = SentimentClassifier(**tiny, **options).fit(TEXTS, LABELS)
    with pytest.raises(DataError, match="train"):
        write_page(classifier, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_the_command_writes_the_page_of_a_saved_model(tmp_path, capsys):
    tiny = {"vectors": None, "vector_size": 4, "hidden_size": 3, "epochs": 1}
    SentimentClassifier(**tiny).fit(TEXTS, LABELS).save(tmp_path / "model")
    page = tmp_path / "new" / "page.html"
    assert main(["page", str(page), "--model", str(tmp_path / "model")]) == 0
    assert str(page) in capsys.readouterr().out
    content = page.read_text(encoding="utf-8")
    assert not re.search(r"\{\{|@import|url\(|src=|href=", content)
    assert content.count("<script") == content.count("</script>") == 2


# ---- Hands ----


@needs_browser
def test_what_is_typed_counts_word_by_word_and_arrows_choose_among_them(opened):
    browser = opened(classifier_of(["good", "film", "not"]))
    browser.run("element('review').value = ''; element('review').focus()")
    browser.press(*"I don't ")
    assert browser.run("steps.map(step => step.word)") == ["i", "do", "not"]
    # Counted in the page: here half a second may go by, after which a word counts as typed.
    count = "counts.push(tokens.length)"
    browser.run(f"counts = []; element('review').addEventListener('input', () => {count})")
    browser.press(*"like")
    assert browser.run("counts") == [3, 3, 3, 3], "the word may go on"
    wait_for(browser, "steps.length === 4")
    browser.run("element('words').focus()")
    browser.press("Home", "ArrowRight", "ArrowRight")
    selected = "document.querySelector('[aria-selected=true]')"
    assert browser.run(f"{selected}.firstChild.textContent") == "not"
    assert browser.run(f"{selected}.id === element('words').getAttribute('aria-activedescendant')")
    assert browser.run(f"{selected}.classList.contains('unknown')") is False
    browser.press("End")
    assert "unknown word" in browser.run(f"{selected}.getAttribute('aria-label')")
    browser.run("element('unit').focus()")
    browser.press("ArrowRight")
    browser.run("element('unit').value = 2; element('unit').dispatchEvent(new Event('input'))")
    assert "unit 2: " in browser.run("element('rows').textContent")
    typed(browser, "")
    assert browser.run("element('verdict').textContent") == "No word yet"
    assert browser.problems == []


@needs_browser
def test_hostile_text_is_text_and_a_hundred_thousand_words_freeze_nothing(opened):
    browser = opened(classifier_of(["good", "film"], vector_size=4, hidden_size=4))
    elements = "document.querySelectorAll('main *:not(.word, .word *)').length"
    before = browser.run(elements)
    for text in NASTY[-20:]:
        typed(browser, text[:3000])
    assert browser.run(elements) == before, "nothing became an element"
    long = "good film <b>\U0001f600 \u05e9\u05dc\u05d5\u05dd " * 33_334
    browser.run("element('review').value = ''; element('review').focus()")
    browser.call("Input.insertText", text=long)
    assert 0 < browser.run("steps.length") < browser.run("tokens.length") == 100_002
    wait_for(browser, "steps.length === 100002")  # it answered while it read
    assert browser.run("element('words').childElementCount") < 1000
    assert "All 100,002 words count" in browser.run("element('rest').textContent")
    # Back to words whose states are no longer kept.
    browser.run(f"readAll({json.dumps(long[: len(long) // 2])})")
    wait_for(browser, "steps.length === tokens.length && tokens.length < 60000")
    assert browser.run("element('words').childElementCount") > 300
    typed(browser, "good")
    assert browser.run("typeof hacked") == "undefined"
    assert browser.problems == []
