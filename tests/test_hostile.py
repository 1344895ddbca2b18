"""Each kind of attack a few times. All of them, and often: python -m tests.hostile."""

from __future__ import annotations

import pytest

pytest.importorskip("resource", reason="it forks, and limits files, as POSIX does")

from tests.hostile.__main__ import ATTACKS, attempt

FEW = 3


@pytest.mark.parametrize("kind", ATTACKS, ids=lambda kind: kind.__name__)
def test_what_is_attacked_refuses_or_answers_rightly(kind):
    for number in range(FEW):
        attempt(kind, number)
