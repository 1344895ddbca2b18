"""The package as it is installed: built as a wheel, away from the checkout, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with nothing but the installed package in it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lstm_sentiment", source / "lstm_sentiment", ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps"]
    build = ["wheel", *offline, "--no-build-isolation", "--wheel-dir", target, source]
    subprocess.run([*pip, *build], check=True, cwd=source)
    (wheel,) = target.glob("*.whl")
    install = ["install", *offline, "--target", target, wheel]
    subprocess.run([*pip, *install], check=True, cwd=source)
    return target


def run(installed, folder, *command):
    environment = {**os.environ, "PYTHONPATH": str(installed), "LSTM_SENTIMENT_DATA": ""}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_wheel_holds_the_package_its_command_and_nothing_else(installed):
    (wheel,) = installed.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    sources = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("lstm_sentiment/**/*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert {"lstm_sentiment/py.typed", "lstm_sentiment/page/page.html"} <= set(names)
    assert {name.split("/")[0] for name in names if "dist-info" not in name} == {"lstm_sentiment"}
    (entry_points,) = installed.glob("lstm_sentiment-*/entry_points.txt")
    assert "lstm-sentiment = lstm_sentiment.__main__:console" in entry_points.read_text()


def test_it_judges_a_sentence_before_anything_was_trained(installed, tmp_path):
    judged = run(installed, tmp_path, "-m", "lstm_sentiment", "predict", "Not bad at all!")
    assert judged.stdout.startswith("review,sentiment,probability\nNot bad at all!,positive,0.")
    assert not judged.stderr
    assert not [*tmp_path.iterdir()], "it wrote something"


def test_it_trains_and_predicts_in_any_folder(installed, tmp_path):
    rows = [f"a good film number {n},positive\na bad film number {n},negative" for n in range(60)]
    (tmp_path / "reviews.csv").write_text("review,sentiment\n" + "\n".join(rows) + "\n")
    train = ["train", "--data", "reviews.csv", "--preset", "experiment9-baseline", "--epochs", "2"]
    result = run(installed, tmp_path, "-m", "lstm_sentiment", *train)
    assert result.returncode == 0, result.stderr
    judged = run(installed, tmp_path, "-m", "lstm_sentiment", "predict", "a good film")
    assert judged.stdout.startswith("review,sentiment,probability\na good film,"), judged.stderr
    where = run(installed, tmp_path, "-c", "import lstm_sentiment; print(lstm_sentiment.__file__)")
    assert where.stdout.startswith(str(installed)), "not the checkout was tested"
