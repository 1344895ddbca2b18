"""Which module may know which, and what is loaded when something small is asked for."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_sentiment
from lstm_sentiment.classifier import SentimentClassifier

FOLDER = Path(lstm_sentiment.__file__).parent
NAME_OF = {
    path: ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in FOLDER.rglob("*.py")
}
MODULES = set(NAME_OF.values())
HEAVY = {"pandas", "sklearn", "scipy", "numba", "gensim", "matplotlib", "optuna", "torch._dynamo"}


def imports_of(path: Path, at_module_level: bool) -> set[str]:
    """The package's own modules that a file imports: all, or those it needs to be imported."""
    found = set()

    def visit(node: ast.AST) -> None:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found.update(MODULES & set(names))
        for child in ast.iter_child_nodes(node):
            later = isinstance(child, ast.FunctionDef | ast.Lambda)
            for_checkers = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            if not (at_module_level and (later or for_checkers)):
                visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found - {"lstm_sentiment"}


def rank(module: str) -> str:
    """The folder a module lies in; at the top, "core", but for the commands and the plots."""
    parts = module.split(".")
    if len(parts) > 1 and (FOLDER / parts[1]).is_dir():
        return parts[1]
    return {"__main__": "commands", "plots": "report"}.get(parts[-1], "core")


@pytest.mark.parametrize("path", NAME_OF, ids=NAME_OF.values())
def test_arrows_point_down(path):
    ranks = {rank(module) for module in imports_of(path, at_module_level=False)}
    allowed = {
        "fast": {"fast"},
        "files": {"core", "files"},
        "core": {"core", "fast", "files", "weights"},
        "weights": {"core"},
        "report": {"core", "fast", "files", "report"},
        "page": {"core", "files", "page"},
        "studies": {"core", "fast", "files", "weights", "report", "studies"},
    }
    assert ranks <= allowed.get(rank(NAME_OF[path]), ranks)


def test_modules_do_not_import_each_other_in_a_circle():
    needs = {name: imports_of(path, at_module_level=True) for path, name in NAME_OF.items()}
    assert needs["lstm_sentiment.classifier"], "imports are found at all"
    while free := {name for name, others in needs.items() if not others}:
        needs = {name: others - free for name, others in needs.items() if name not in free}
    assert not needs


def loaded_after(script: str, *arguments: object) -> set[str]:
    """What a fresh interpreter has loaded after a script."""
    script += "\nimport sys; print(*sys.modules)"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(FOLDER.parent)}
    printed = subprocess.check_output(command, env=environment, text=True)
    return set(printed.splitlines()[-1].split())


LAYER = "import torch; from lstm_sentiment import LSTMLayer; layer = LSTMLayer(2, 3)"


@pytest.mark.parametrize(
    ("script", "allowed"),
    [
        ("import lstm_sentiment.__main__", set()),
        (LAYER, {"torch"}),
        (f"{LAYER}; layer(torch.zeros(1, 1, 2))", {"torch", "numba", "scipy"}),
    ],
)
def test_commands_start_without_pytorch_and_the_layer_without_the_rest(script, allowed):
    assert loaded_after(script) & {*HEAVY, "torch"} <= allowed


def test_judging_a_text_waits_for_nothing_but_pytorch(tmp_path):
    texts, labels = ["a good film", "a bad film"] * 8, [1, 0] * 8
    SentimentClassifier(vectors=None, hidden_size=4, epochs=1).fit(texts, labels).save(tmp_path)
    script = (
        "import sys; from lstm_sentiment.__main__ import main\n"
        "assert main(['predict', '--model', sys.argv[1], 'good film']) == 0"
    )
    loaded = loaded_after(script, tmp_path)
    assert loaded & {*HEAVY, "torch"} == {"torch"}


def test_the_public_names_can_be_had():
    for name in lstm_sentiment.__all__:
        assert getattr(lstm_sentiment, name) is not None
        assert name in dir(lstm_sentiment)
    with pytest.raises(AttributeError, match="has no attribute 'absent'"):
        _ = lstm_sentiment.absent
