"""All attacks, a fixed number of times each: python -m tests.hostile [SEED].

It takes some minutes, prints counts, and ends with status 1 after a failure; more than a minute or
some hundred megabytes are one, too. `test_hostile.py` makes a few attempts of each kind.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from tests.hostile import ATTACKS, commands, files, layer  # noqa: F401 - which add kinds

MOST_SECONDS, MOST_MEMORY = 60, 500 * 2**20  # of an attempt, beside what the process had


def attempt(kind: Callable, number: int, seed: int = 0) -> str:
    """Whether the attack was refused or answered; anything else is an error."""
    rng, here = random.Random(f"{seed} {kind.__name__} {number}"), Path.cwd()
    torch.manual_seed(rng.randrange(2**32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            kind(rng, Path(folder).resolve())
            end = "answered"
        except ATTACKS[kind][1] as error:
            end = "refused" if len(str(error)) < 2_000 else "with too long a message"
        finally:
            os.chdir(here)
    unit = 1 if sys.platform == "darwin" else 1024  # of what getrusage says
    more = unit * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert more < MOST_MEMORY, f"it took {more:,} bytes"
    assert end in ("answered", "refused"), end
    return end


def attack_all(seed: int) -> bool:
    """Print what became of all attempts; whether none failed."""
    total: Counter[str] = Counter()
    for kind, (attempts, _) in ATTACKS.items():
        found: Counter[str] = Counter(attempts=attempts, refused=0, answered=0, failures=0)
        for number in range(attempts):
            start = time.monotonic()
            try:
                found[attempt(kind, number, seed)] += 1
                assert time.monotonic() - start < MOST_SECONDS, "it took too long"
            except Exception:
                found["failures"] += 1
                print(f"{kind.__name__}, attempt {number}, seed {seed}:\n{traceback.format_exc()}")
        total.update(found)
        print(f"{kind.__name__:45}", *(f"{n:5} {name}" for name, n in found.items()), flush=True)
    print(f"{len(ATTACKS)} kinds:", *(f"{n:,} {name}" for name, n in total.items()))
    return not total["failures"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(not attack_all(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
