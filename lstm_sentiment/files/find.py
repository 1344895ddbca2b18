"""Where files lie: the data folder, and paths that a user gives."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from lstm_sentiment.text import DataError

PACKED_SUFFIXES = ("", ".gz", ".zip")


def data_folder() -> Path:
    """Where data files lie: `$LSTM_SENTIMENT_DATA`, or `data` in the current folder."""
    return Path(os.environ.get("LSTM_SENTIMENT_DATA") or "data")


def present(names: Iterable[str]) -> list[Path]:
    """Those of `names` that lie in the data folder, packed or not, in the order of `names`.

    Raises:
        DataError: one of them is a link to nothing, or `$LSTM_SENTIMENT_DATA` names no folder.
    """
    folder = data_folder()
    if os.environ.get("LSTM_SENTIMENT_DATA") and not folder.is_dir():  # "data" may be missing
        raise DataError(
            f"LSTM_SENTIMENT_DATA names {str(folder)!r}, which is no folder (looked from "
            f"{Path.cwd()}); correct it, or unset it to use 'data'"
        )
    candidates = [folder / (name + suffix) for name in names for suffix in PACKED_SUFFIXES]
    for path in candidates:
        if path.is_symlink() and not path.exists():
            raise DataError(f"{path} is a link to {path.readlink()}, which does not exist")
    return [path for path in candidates if path.exists()]


def checked_path(given: str | Path) -> Path:
    """The path `given` with "~" resolved; what is there, if anything, is a file or a folder.

    Raises:
        DataError: it is something else (reading a pipe could wait for ever), or cannot be a path.
    """
    try:
        path = Path(given).expanduser()
        mode = path.stat().st_mode
    except FileNotFoundError:  # whoever wants to read there says so
        return path
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a NUL character
        raise DataError(f"{str(given)[:80]!r} cannot be read: {str(error)[:80]}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path} is neither a file nor a folder; copy what it holds to a file")
    return path
