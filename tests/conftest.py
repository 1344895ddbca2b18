"""What all tests share: settings for slow machines and a data folder of their own."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=40)  # slow is no failure
settings.load_profile("default")
# Small tensors gain nothing from threads, and threads that share two cores wait for each other.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # of the programs and notebooks that tests start


@pytest.fixture
def data_home(tmp_path, monkeypatch):
    """An empty data folder that the package uses during the test."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("LSTM_SENTIMENT_DATA", str(folder))
    return folder
