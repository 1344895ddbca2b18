"""Files that no run here reads: their syntax, and what they repeat of others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import lstm_sentiment

REPOSITORY = Path(__file__).resolve().parent.parent
yaml = pytest.importorskip("yaml")  # comes with papermill


def read(name: str):
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


def test_the_workflow_runs_the_tests_on_all_that_the_readme_promises():
    (job,) = read(".github/workflows/tests.yml")["jobs"].values()
    assert job["steps"][-1]["run"] == "bash .ci/run"
    systems = {system.partition("-")[0] for system in job["strategy"]["matrix"]["os"]}
    assert systems == {"ubuntu", "macos", "windows"}
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    first, last = map(int, re.search(r"Python 3\.(\d+) to 3\.(\d+)", readme).groups())
    versions = [f"3.{minor}" for minor in range(first, last + 1)]
    assert job["strategy"]["matrix"]["python"] == versions


def test_the_citation_is_of_this_version():
    citation = read("CITATION.cff")
    assert citation["version"] == lstm_sentiment.__version__
    assert {"cff-version", "message", "title", "authors"} <= {*citation}


@pytest.mark.parametrize("path", sorted((REPOSITORY / ".github/workflows").glob("*.yml")))
def test_every_workflow_is_yaml_with_a_job(path):
    assert read(str(path.relative_to(REPOSITORY)))["jobs"]
