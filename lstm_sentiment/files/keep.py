"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import time
from collections.abc import Iterator
from pathlib import Path

# No process pauses that long while it writes a file: it was killed.
ABANDONED_AFTER_SECONDS = 24 * 60 * 60


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of `path` at the end, whole or not at all.

    What processes that were killed left unfinished beside it is removed when it is a day old.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for unfinished in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):  # another process may be faster
            if time.time() - unfinished.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                unfinished.unlink()
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes never share one
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
