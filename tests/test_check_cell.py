"""A student's LSTM cell, in whatever layout, is compared with PyTorch's; each mistake is named."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from lstm_sentiment.__main__ import main
from lstm_sentiment.report.check_cell import check

TEXTBOOK = """
import torch
from torch import nn

class LSTMCell(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.W_f = nn.Linear(hidden_size + input_size, hidden_size)
        self.W_i = nn.Linear(hidden_size + input_size, hidden_size)
        self.W_c = nn.Linear(hidden_size + input_size, hidden_size)
        self.W_o = nn.Linear(hidden_size + input_size, hidden_size)

    def forward(self, x, state):
        h, c = state
        hx = torch.cat([h, x], dim=1)
        f = torch.sigmoid(self.W_f(hx))
        i = torch.sigmoid(self.W_i(hx))
        g = torch.tanh(self.W_c(hx))
        o = torch.sigmoid(self.W_o(hx))
        c_new = f * c + i * g
        h_new = o * torch.tanh(c_new)
        return h_new, c_new
"""
JOINT = """
import torch
from torch import nn

class LSTMCell(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.weight_ih = nn.Parameter(torch.zeros(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.zeros(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(4 * hidden_size))
        self.bias_hh = nn.Parameter(torch.zeros(4 * hidden_size))

    def forward(self, x, h, c):
        a = x @ self.weight_ih.T + self.bias_ih + h @ self.weight_hh.T + self.bias_hh
        i, f, g, o = a.chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
"""


@pytest.fixture
def verdict(tmp_path, monkeypatch):
    """What is said of a cell whose code is given, with some of it replaced."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def judged(code, *changes):
        for old, new in changes:
            assert re.search(old, code)
            code = re.sub(old, new, code)
        path = tmp_path / "student.py"
        path.write_text(code)
        return check(path, "LSTMCell")

    return judged


EIGHT = [
    (
        r"self.W_(.) = nn.Linear.*",
        r"self.W_\1 = nn.Linear(input_size, hidden_size)\n        "
        r"self.U_\1 = nn.Linear(hidden_size, hidden_size, bias=False)",
    ),
    (r"self.W_(.)\(hx\)", r"self.W_\1(x) + self.U_\1(h)"),
]
PARAMETERS = [
    (
        r"self.W_(.) = nn.Linear.*",
        r"self.W_\1 = nn.Parameter(torch.zeros(hidden_size, input_size))\n        "
        r"self.U_\1 = nn.Parameter(torch.zeros(hidden_size, hidden_size))\n        "
        r"self.b_\1 = nn.Parameter(torch.zeros(hidden_size))",
    ),
    (r"self.W_(.)\(hx\)", r"x @ self.W_\1.T + h @ self.U_\1.T + self.b_\1"),
]
IN_ONE = [
    (r"self.W_f = .*", r"self.all = nn.Linear(hidden_size + input_size, 4 * hidden_size)"),
    (r"self.W_[ico] = .*", "pass"),
    (r"(hx = .*)", r"\1; o, g, f, i = self.all(hx).chunk(4, 1)"),
    (r"self.W_(.)\(hx\)", r"\1"),
    (r"tanh\(c\)", "tanh(g)"),
]


@pytest.mark.parametrize(
    ("code", "changes", "remark"),
    [
        (TEXTBOOK, [], "gate W_f, input gate W_i, candidate W_c, output gate W_o, on [h, x]"),
        (TEXTBOOK, [(r"\[h, x\]", "[x, h]")], "output gate W_o, on [x, h]"),
        (TEXTBOOK, [("W_f", "a"), ("W_i", "d"), ("W_c", "b2")], "forget gate a, input gate d,"),
        (TEXTBOOK, [("x, state.", "x, h, c)"), ("h, c = state", "")], "candidate W_c"),
        (TEXTBOOK, [("return .*", "return h_new, (h_new, c_new)")], ""),
        (TEXTBOOK, EIGHT, "candidate U_c"),
        (TEXTBOOK, PARAMETERS, "candidate U_c"),
        (TEXTBOOK, IN_ONE, "forget gate all[2], input gate all[3], candidate all[1], output gate"),
        (JOINT, [], "input gate weight_hh[0]"),
        (JOINT, [("a = ", "return torch.lstm_cell(x, (h, c), *self.parameters()); a = ")], ""),
    ],
)  # fmt: skip
def test_a_right_cell_is_right_in_any_layout(verdict, code, changes, remark):
    wrong, said = verdict(code, *changes)
    assert wrong == []
    assert said.startswith("right: values, states and gradients are nn.LSTMCell's")
    assert remark in said


MISTAKES = [
    ("the forget gate has tanh instead of sigmoid", [(r"sigmoid\(self.W_f", "tanh(self.W_f")]),
    ("the input gate has tanh instead of sigmoid", [(r"sigmoid\(self.W_i", "tanh(self.W_i")]),
    ("the candidate has sigmoid instead of tanh", [(r"tanh\(self", "sigmoid(self")]),
    ("the candidate has no activation", [(r"torch.tanh\(self", "(self")]),
    ("the forget gate is applied twice", [(r"f \* c", "f * f * c")]),
    ("the output gate is applied twice", [("return h_new", "return o * h_new")]),
    ("the input gate is never applied", [(r"i \* g", "g")]),
    ("forget gate and candidate are swapped", [(r"f \* c \+ i \* g", "g * c + i * f")]),
    ("the old c is left out of c'", [(r"f \* c \+ ", "")]),
    ("c' has h where the old c belongs", [(r"f \* c", "f * h")]),
    ("the forget gate acts on all of c'", [(r"f \* c \+ i \* g", "f * (c + i * g)")]),
    ("c' adds i and g where it should multiply", [(r"i \* g", "i + g")]),
    ("h' has c' where tanh(c') belongs", [(r"torch.tanh\(c_new\)", "c_new")]),
    ("h' has sigmoid(c') where tanh(c') belongs", [(r"tanh\(c_new\)", "sigmoid(c_new)")]),
    ("h' is made of the old c", [(r"tanh\(c_new\)", "tanh(c)")]),
    ("h' is returned for c' too", [("return h_new, c_new", "return h_new, h_new")]),
    ("c' is returned for h' too", [("return h_new, c_new", "return c_new, c_new")]),
    ("c' and h' are returned in each other's place", [("h_new, c_new\n", "c_new, h_new\n")]),
    ("the old c is returned for c'", [("return h_new, c_new", "return h_new, c")]),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "changes"), MISTAKES)
def test_a_mistake_is_named_and_no_other(verdict, mistake, changes):
    wrong, said = verdict(TEXTBOOK, *changes)
    assert wrong == [mistake]
    assert said.startswith("read as forget gate W_f, input gate W_i, candidate W_c, output gate")


OTHERS = [
    ("gates are swapped, by their names or places: W_i acts as forget gate, W_f acts as input",
        [("f = (.*)f(.*)", r"i = \1f\2"), ("i = (.*)_i(.*)", r"f = \1_i\2")]),
    ("no bias in the input gate", [("(W_i = .*)\\)", r"\1, bias=False)")]),
    ("no bias in the input gate", [*PARAMETERS, ("self.b_i = .*", "pass"),
        (r" \+ self.b_i", "")]),
    ("the bias W_o.bias is never added", [(r"self.W_o\(hx\)", "hx @ self.W_o.weight.T")]),
    ("the values are right, but not the gradients of c", [(r"f \* c", "f * c.detach()")]),
    ("the values are right, but not the gradients of x, h, W_c", [("(g = .*)",
        r"\1; g = (g + g.detach()) / 2")]),
    ("no known mistake explains its values", [(r"f \* c", "0.7 * f * c")]),
    ("its parameters are b (5,), W_f.weight (5, 8)", [("self.W_f = .*",
        r"\g<0>; self.b = nn.Parameter(torch.zeros(5))")]),
    ("its parameters are W_f.weight (5, 8)", [("self.W_o = .*", "pass"), ("self.W_o", "self.W_f")]),
]  # fmt: skip


@pytest.mark.parametrize(("mistake", "changes"), OTHERS)
def test_what_is_wrong_beside_the_equations_is_said(verdict, mistake, changes):
    (wrong,), said = verdict(TEXTBOOK, *changes)
    assert wrong.startswith(mistake)
    assert not said.startswith("right")


@pytest.mark.parametrize(
    "changes",
    [
        [("(self.W_f = .*)", r"\1; self.b = nn.LSTMCell(1, 1)")],
        [("nn.Module", "nn.LSTMCell"), (r"(?s)    def.*", "    pass")],
    ],
)
def test_a_cell_of_pytorch_is_not_compared_with_itself(verdict, changes):
    assert verdict(TEXTBOOK, *changes) == (["it calls PyTorch's own recurrent cell"], "")


def test_two_mistakes_at_once_are_both_named(verdict):
    changes = [("tanh\\(self", "sigmoid(self"), ("o .*c_new\\)", "o * torch.tanh(c)")]
    wrong, _ = verdict(TEXTBOOK, *changes)
    assert wrong == ["the candidate has sigmoid instead of tanh", "h' is made of the old c"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([("i, f, g, o", "f, i, g, o")], "gates are swapped, by their names or places: weight_hh["),
        ([(r" \+ self.bias_hh", "")], "the bias bias_hh is never added"),
        ([(r"f.sigmoid\(\)", "f.tanh()")], "the forget gate has tanh instead of sigmoid"),
    ],
)  # fmt: skip
def test_mistakes_are_named_in_the_layout_of_pytorch_too(verdict, changes, expected):
    (wrong,), _ = verdict(JOINT, *changes)
    assert wrong.startswith(expected)


# The command.


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Status, output and errors of the command for a student's file."""
    monkeypatch.chdir(tmp_path)

    def run(code, *options, target="student.py:LSTMCell"):
        Path("student.py").write_text(code)
        return (main(["check-cell", target, *options]), *capsys.readouterr())

    return run


def test_the_file_runs_in_a_process_of_its_own_after_saying_so(said):
    code = f"print('hello')\nimport sys; sys.student_was_here = True\n{TEXTBOOK}"
    status, output, notice = said(code, "--timeout", "600")
    assert status == 0
    assert output.startswith("student.py:LSTMCell: right: values, states and gradients are")
    assert notice.startswith("running student.py, with all your rights, in a process of its own")
    assert not hasattr(sys, "student_was_here")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("while True:\n    pass", "no answer within 3 s"),
        ("import os\nos._exit(3)", "its process ended with status 3 before it answered"),
        ("raise SystemExit(0)", "SystemExit: 0 (line 1: `raise SystemExit(0)`)"),
        ("x = = 1", "SyntaxError: invalid syntax (student.py, line 1)"),
        (TEXTBOOK.replace("f * c", "f * hx"), "(line 20: `c_new = f * hx + i * g`)"),
    ],
)  # fmt: skip
def test_what_happens_to_the_students_code_is_a_message(said, code, reason):
    status, output, _ = said(code, "--timeout", "3" if "while" in code else "600")
    assert status == 1
    assert output.startswith("student.py:LSTMCell: wrong: ")
    assert len(output.splitlines()) == 1
    assert reason in output


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((r"\(nn.Module", "(list"), "LSTMCell is no nn.Module"),
        (("LSTMCell", "Mine"), "has no attribute 'LSTMCell'"),
        (("return .*", "return h_new"), r"forward returns .*, not h and c of \(4, 5\) each"),
        (("x, state", "x, h, c, more"), r"missing 1 required positional argument"),
    ],
)
def test_what_is_no_cell_is_said(verdict, change, reason):
    with pytest.raises((AttributeError, TypeError, ValueError), match=reason):
        verdict(TEXTBOOK, change)


@pytest.mark.parametrize("target", ["student.py", "absent.py:LSTMCell", "student.txt:A", ":A"])
def test_what_is_no_class_in_a_file_is_refused_before_anything_runs(said, target):
    status, output, error = said("", target=target)
    assert (status, output) == (1, "")
    assert error.startswith(f"error: {target.partition(':')[0]}")
