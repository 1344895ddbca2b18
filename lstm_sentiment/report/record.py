"""What a run of the report was made from, so that outputs older than their code can be told.

`show.record_run` keeps it in the notebook, `check` compares it with the files.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

PACKAGE = "lstm_sentiment"
RESULTS = Path("notebooks/results")

# What computes the report's numbers: the core but for its lists of names and commands, and the
# folders that it calls. How the report shows them, and the studies, may change after a run.
CODE = ("[!_]*.py", "fast/[!_]*.py", "files/[!_]*.py")
TABLES = ("ablation.csv",)  # of the studies', what the report reads
# In the first cell; the workflow `badge` writes it after the run.
ADDRESS = re.compile(r'^repository = ".*"', re.MULTILINE)


def visible_files(folder: Path, *patterns: str) -> list[Path]:
    """The files below `folder`, relative to it and sorted; none that is hidden."""
    found = {path.relative_to(folder) for pattern in patterns for path in folder.glob(pattern)}
    visible = [path for path in found if not any(part[0] == "." for part in path.parts)]
    return sorted(path for path in visible if (folder / path).is_file())


def digest(text: str) -> str:
    """Twelve hexadecimal digits; space around the text and `ADDRESS` make no difference."""
    return hashlib.sha256(ADDRESS.sub("", text.strip()).encode()).hexdigest()[:12]


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    """The digest of each file by its path below `folder`; nothing where there is no folder."""
    return {
        path.as_posix(): digest((folder / path).read_text(encoding="utf-8"))
        for path in visible_files(folder, *patterns)
    }
