"""Broken, odd and malicious files, and text."""

from __future__ import annotations

import ast
import contextlib
import csv
import gzip
import io
import json
import random
import tarfile
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from nbformat import v4

from lstm_sentiment.data import load_reviews
from lstm_sentiment.files.archives import load_acl_imdb
from lstm_sentiment.files.duplicates import near_duplicate_groups
from lstm_sentiment.files.keep import load_tensors, save_tensors
from lstm_sentiment.files.vectors import read_vector_file
from lstm_sentiment.predictor import TextPredictor
from lstm_sentiment.report import check, hand_in
from lstm_sentiment.report.record import PACKAGE, RESULTS, digest
from lstm_sentiment.studies import results
from lstm_sentiment.text import DataError, tokenize
from tests.examples import csv_text, tar_of
from tests.hostile import (
    WORDS,
    Refused,
    attack,
    classifier,
    judged,
    labelled,
    mutated,
    packed,
    text_of,
)

STUDIES = Path(__file__).resolve().parents[2] / RESULTS


@attack(80, Refused)
def a_mutated_file_of_reviews(rng: random.Random, folder: Path) -> None:
    path = folder / rng.choice(["a.csv", "A.TSV", "a.txt", "b.txt", "a.json", "a.csv.gz"])
    header = rng.choice([["review"], ["Id", "review"], ["review", "sentiment"]])
    rows = [[text_of(rng) if name == "review" else "1" for name in header] for _ in range(9)]
    lines = "\n".join(text_of(rng) for _ in range(5))
    content = rng.choice([csv_text(rows, header), json.dumps(rows), lines])
    path.write_bytes(mutated(content.encode(), rng))
    found = judged(path)
    assert found
    if path.suffix == ".txt":
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        end = b"\n" if b"\n" in content else b"\r"
        lines = content.removesuffix(end).split(end)
        assert found == [_line_of_text(line.removesuffix(b"\r")) for line in lines]


def _line_of_text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:  # it has no verdict
        return None


@attack(80)
def a_sound_table_in_an_odd_form(rng: random.Random, folder: Path) -> None:
    header = rng.choice([["review"], ["Id", "Review"], ["sentiment", "x", "TEXT", ""]])
    at = len(header) - 1 - (header[-1] == "")
    rows = [["" if n != at else text_of(rng) for n in range(len(header))] for _ in range(9)]
    form = {"delimiter": rng.choice(",;\t"), "lineterminator": rng.choice(["\n", "\r\n", "\r"])}
    if form["lineterminator"] == "\r" or rng.random() < 0.5:  # csv forgets line feeds before "\r"
        form["quoting"] = csv.QUOTE_ALL
    encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
    content = csv_text(rows, header, **form).encode(encoding)
    path = folder / "a.csv"
    path.write_bytes(packed(content, rng) if rng.random() < 0.5 else content)
    assert judged(path) == [row[at] for row in rows]


@attack(80, DataError)
def a_mutated_table_of_labelled_reviews(rng: random.Random, folder: Path) -> None:
    content = csv_text(labelled(rng)).encode()
    if rng.random() < 0.5:
        content = mutated(content, rng)
    path = folder / "a.csv"
    path.write_bytes(rng.choice([mutated, packed])(content, rng))
    reviews, account = load_reviews(path, max_loss=rng.choice([0.01, 0.5]))
    assert set(reviews["sentiment"]) == {"positive", "negative"}
    assert reviews["review"].is_unique
    assert account.rows_read == len(reviews) + sum(account.removed.values())


@attack(60, DataError)
def a_quote_that_swallows_rows(rng: random.Random, folder: Path) -> None:
    lines = [f"film{number},{number % 2}" for number in range(rng.randint(8, 40))]
    first, last = sorted(rng.sample(range(len(lines)), 2))
    lines[first] = f'"{lines[first]}'
    lines[last] = lines[last].replace(",", '",')
    (folder / "a.csv").write_text("\n".join(["review,sentiment", *lines, ""]))
    assert load_reviews(folder / "a.csv", max_loss=0.5)[1].notes, "rows were lost without a word"


@attack(40, DataError)
def a_mutated_archive(rng: random.Random, folder: Path) -> None:
    names = ("train/pos/0_9.txt", "train/neg/1_2.txt", "../../evil.txt", "/evil.txt")
    content = tar_of({name: text_of(rng).encode() for name in names}, rng.choice(["w", "w:gz"]))
    path = folder / "aclImdb_v1.tar.gz"
    path.write_bytes(mutated(content, rng))
    try:
        assert len(load_acl_imdb(path)) <= 2
    finally:
        assert [*folder.iterdir()] == [path], "it wrote something"


@attack(60, DataError)
def a_small_file_that_becomes_much(rng: random.Random, folder: Path) -> None:
    size = rng.choice([10**6, 10**9, 10**12])
    sparse = tarfile.TarInfo("aclImdb/train/pos/0_9.txt")
    sparse.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(size)}
    unit = rng.choice([b"\n", b"x", b",", b'"', b"\0", b"x\n", b'"\n', b"\r"])
    rows = b"review,sentiment\n" + unit * rng.randrange(10**6)
    opening = rng.choice([b"[", b'{"cells":', b'"'])
    read, content = rng.choice(
        [
            (load_acl_imdb, gzip.compress(sparse.tobuf(tarfile.PAX_FORMAT) + bytes(1024))),
            *2 * [(load_reviews, packed(rows, rng))],
            (read_vector_file, b"%d 9999\ngood " % size + bytes(99)),
            (read_vector_file, gzip.compress(b"3 %d\ngood" % (size % 9999) + b" 1" * 10**6)),
            (TextPredictor.load, size.to_bytes(8, "little") + b"{}" * 99),
            (check.read_cells, opening * rng.randrange(10**6)),
        ]
    )
    path = folder / "a.safetensors"
    path.write_bytes(content)
    read(path)
    raise AssertionError("it was read")


# ---- Vectors, models, studies, notebooks ----


@attack(60, DataError)
def mutated_word_vectors(rng: random.Random, folder: Path) -> None:
    matrix = np.random.default_rng(rng.randrange(99)).normal(size=(8, 3)).astype(np.float32)
    header = rng.choice([b"8 3\n", b""])
    is_text, is_sound = not header or rng.random() < 0.5, rng.random() < 0.2
    content = header
    for word, row in zip(WORDS, matrix, strict=False):
        numbers = " ".join(map(str, row)).encode() if is_text else row.tobytes()
        content += word.encode() + b" " + numbers + b"\n"
    content = content if is_sound else mutated(content, rng)
    path = folder / "vectors.bin"
    path.write_bytes(gzip.compress(content) if rng.random() < 0.3 else content)
    vectors = read_vector_file(path)
    assert np.isfinite(vectors.vectors).all()
    assert len(set(vectors.index_to_key)) == len(vectors.vectors)
    assert not is_sound or np.array_equal(vectors.vectors, matrix)


@attack(60, DataError)
def a_damaged_model(rng: random.Random, folder: Path) -> None:
    path = folder / "model.safetensors"
    classifier().save(path)
    damaged = mutated(path.read_bytes(), rng)
    path.write_bytes(damaged + b"\0" * (damaged == path.read_bytes()))
    TextPredictor.load(rng.choice([path, folder]))
    raise AssertionError("a damaged model was loaded")


@attack(80, DataError)
def a_model_that_lies(rng: random.Random, folder: Path) -> None:
    path = folder / "model.safetensors"
    classifier().save(path)
    tensors, description = load_tensors(path)
    lied_about = rng.choice([description, description["settings"], tensors])
    name = rng.choice([*lied_about])
    lies = [10**9, -1, 0, 1, 2.5, None, "a", "gru", "mean_max", [], {}, True, float("nan")]
    if lied_about is tensors:
        tensor = tensors[name]
        lies = [tensor[:-1], tensor * torch.nan, tensor.T, tensor[None], tensor.int()]
        lies += [tensor.cfloat(), tensor.bool(), torch.zeros(0)]
    lied_about[name] = rng.choice(lies)
    save_tensors(path, tensors, description)
    predictor = TextPredictor.load(path)
    _, probabilities = predictor.verdicts(["good film", "bad", ""])
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert predictor.bidirectional or 0 <= predictor.stream().read("good film") <= 1


@attack(60, DataError)
def a_mutated_study(rng: random.Random, folder: Path) -> None:
    name = rng.choice(["ablation", "search", "baselines"])
    lines = (STUDIES / f"{name}.csv").read_bytes().splitlines(keepends=True)
    content = mutated(b"".join(lines[: rng.randint(2, 7)]), rng)
    (folder / f"{name}.csv").write_bytes(content)
    with mock.patch.object(results, "RESULTS", folder):
        if name == "search":
            assert isinstance(results.best_of_search(), dict)
            results.finished_trials(results.read_search())
            return
        found = results.study_results(name)
    results.readable(found)
    assert found["held_out"].between(0, 1).all()
    assert (found["train_n"] > 0).all()


def project_with(folder: Path, *cells: dict) -> Path:
    """The notebook, as a run from top to bottom leaves it, of a project to hand in."""
    for name in (*hand_in.OTHER_FILES, f"{PACKAGE}/__init__.py", f"{PACKAGE}/__main__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    codes = [cell for cell in cells if cell.cell_type == "code"]
    for count, cell in enumerate(codes, start=1):
        cell.execution_count = count
    record = {PACKAGE: {"cells": [digest(cell.source) for cell in codes], "modules": {}}}
    codes[-1].outputs = [v4.new_output("display_data", {"text/plain": "1"}, metadata=record)]
    (folder / "a.ipynb").write_text(json.dumps(v4.new_notebook(cells=[*cells])), encoding="utf-8")
    return folder / "a.ipynb"


@attack(60, DataError)
def a_mutated_notebook(rng: random.Random, folder: Path) -> None:
    cells = v4.new_markdown_cell("## 1. Data\n\nIt is 7."), v4.new_code_cell("x = 1")
    path, zip_file, printed = project_with(folder, *cells), folder / "1234567.zip", io.StringIO()
    path.write_bytes(mutated(path.read_bytes(), rng))
    zip_file.write_text("before")
    with contextlib.redirect_stdout(printed):
        check.main([path, folder, folder / "missing.ipynb"], verbose=True)
    assert all(line.isprintable() for line in printed.getvalue().split("\n"))
    try:
        hand_in.make_hand_in("1234567", path, folder)
    except DataError:
        assert zip_file.read_text() == "before"
        raise
    with zipfile.ZipFile(zip_file) as archive:
        assert b"\nx = 1\n" in archive.read("1234567.py")


@attack(80, DataError)
def text_of_a_notebook_that_would_become_code(rng: random.Random, folder: Path) -> None:
    closers = ['"""', "'''", "\n", "\r", "\x0c", "\x1e", "\x85", "\u2028", "\\", "%", "!", "# +"]
    evil = "".join(rng.choices([*closers, "boom = 1", " ", "x"], k=10)) + "\nboom = 1"
    metadata = {"cell_marker": rng.choice(closers), "tags": [rng.choice(closers)]}
    make = rng.choice([v4.new_markdown_cell, v4.new_raw_cell])
    magic = v4.new_code_cell(rng.choice(["%%bash\n", "%%html\r", "%%js\x0c"]) + evil)
    cells = [make(evil, metadata=metadata), magic][: rng.randint(1, 2)]
    notebook = project_with(folder, *cells, v4.new_code_cell("x = 1"))
    path = hand_in.make_hand_in("1234567", notebook, folder)
    with zipfile.ZipFile(path) as archive:
        script = archive.read("1234567.py")
    assert "boom" not in {n.id for n in ast.walk(ast.parse(script)) if isinstance(n, ast.Name)}


@attack(60)
def any_text(rng: random.Random, folder: Path) -> None:
    ranges = [range(128), range(0xD800), range(0xD800, 0xE000), range(0x110000), range(768, 880)]
    words = tokenize("".join(chr(rng.choice(rng.choice(ranges))) for _ in range(300)))
    assert all(word.isalnum() and word == word.lower() for word in words)
    assert tokenize(" ".join(words)) == words


@attack(30)
def text_that_takes_long(rng: random.Random, folder: Path) -> None:
    units = ["a\u0301", "\u0301\u0316", "<", "<a ", "<a x='", "<!--", "&#x", "'", "n't", "<b a=b"]
    # In time that grew with the square of the length, this would take hours.
    assert len(tokenize("".join(rng.choices(units, k=2)) * 100_000)) <= 600_000


@attack(10)
def reviews_from_one_template(rng: random.Random, folder: Path) -> None:
    words, texts = [f"{rng.choice(WORDS)}{number}" for number in range(200)], []
    for number in range(1000):
        at = rng.randrange(200)
        texts.append(" ".join([*words[:at], f"x{number}", *words[at + 1 :]]))
    assert [len(group) for group in near_duplicate_groups(texts)] == [1000]


@attack(60)
def a_review_in_pieces_under_another_dtype(rng: random.Random, folder: Path) -> None:
    text = text_of(rng)
    expected, at = classifier().predict_proba([text])[0, 1], text.find(" ") + 1
    classifier().save(folder)
    torch.set_default_dtype(rng.choice([torch.float64, torch.bfloat16, torch.float32]))
    try:
        predictor = TextPredictor.load(folder)
        assert abs(predictor.predict_proba([text])[0, 1] - expected) < 1e-5
        stream = predictor.stream()
        stream.read(text[:at])
        assert abs(stream.read(text[at:]) - expected) < 1e-5
    finally:
        torch.set_default_dtype(torch.float32)
