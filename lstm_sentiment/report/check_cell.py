"""Compares a student's LSTM cell with nn.LSTMCell's equations and names the mistake it makes.

The cell gets random parameters and takes a step. Which parameters belong to which gate, and whether
they act on [h, x] or [x, h], is learnt from the values: one of the 24 orders and two ways to
concatenate gives h' and c'. If none does, the same is tried with the equations changed by a known
mistake, or two. This finds honest mistakes; code that wants to deceive it can.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import json
import multiprocessing
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from lstm_sentiment.report.check import printable
from lstm_sentiment.text import DataError

Gate = tuple[str, Tensor, Tensor, list[str]]  # name, weight (H, H + D), bias (H,), biases' names
B, D, H = 4, 3, 5  # texts, inputs, hidden: all different, so that shapes tell what is what
TOLERANCE = 1e-5  # of values around 1, in single precision; of gradients, sums of them, ten times
GATES = {"f": "forget gate", "i": "input gate", "g": "candidate", "o": "output gate"}
# The equations, in parts that a mistake replaces.
RIGHT: dict[str, Callable] = {
    **dict.fromkeys("fio", torch.sigmoid),
    "g": torch.tanh,
    "c'": lambda f, i, g, o, h, c: f * c + i * g,
    "h'": lambda o, new, c: o * new.tanh(),
    "returned": lambda h, new, c: (h, new),
}
Mistake = tuple[str, str, Callable]
MISTAKES: list[Mistake] = [
    *((f"the {GATES[gate]} has tanh instead of sigmoid", gate, torch.tanh) for gate in "fio"),
    ("the candidate has sigmoid instead of tanh", "g", torch.sigmoid),
    *((f"the {GATES[gate]} has no activation", gate, lambda a: a) for gate in "figo"),
    *((f"the {GATES[gate]} is applied twice", gate, lambda a: a.sigmoid() ** 2) for gate in "fio"),
    *((f"the {GATES[gate]} is never applied", gate, torch.ones_like) for gate in "figo"),
    ("forget gate and candidate are swapped", "c'", lambda f, i, g, o, h, c: g * c + i * f),
    ("the old c is left out of c'", "c'", lambda f, i, g, o, h, c: i * g),
    ("c' has h where the old c belongs", "c'", lambda f, i, g, o, h, c: f * h + i * g),
    ("the forget gate acts on all of c'", "c'", lambda f, i, g, o, h, c: f * (c + i * g)),
    ("c' adds i and g where it should multiply", "c'", lambda f, i, g, o, h, c: f * c + i + g),
    ("h' has c' where tanh(c') belongs", "h'", lambda o, new, c: o * new),
    ("h' has sigmoid(c') where tanh(c') belongs", "h'", lambda o, new, c: o * new.sigmoid()),
    ("h' is made of the old c", "h'", lambda o, new, c: o * c.tanh()),
    ("h' is returned for c' too", "returned", lambda h, new, c: (h, h)),
    ("c' is returned for h' too", "returned", lambda h, new, c: (new, new)),
    ("c' and h' are returned in each other's place", "returned", lambda h, new, c: (new, h)),
    ("the old c is returned for c'", "returned", lambda h, new, c: (h, c)),
]


def _equations(a: Tensor, h: Tensor, c: Tensor, mistakes: tuple[Mistake, ...] = ()) -> Tensor:
    """h' and c', (N, 2, B, H), from what the activations of f, i, g, o get, (N, 4, B, H)."""
    part = RIGHT | {place: function for _, place, function in mistakes}
    f, i, g, o = (part[gate](a[:, k]) for k, gate in enumerate(GATES))
    new = part["c'"](f, i, g, o, h, c)
    returned = part["returned"](part["h'"](o, new, c), new, c)
    return torch.stack(torch.broadcast_tensors(*returned), dim=1)


def main(target: str, timeout: float) -> bool:
    """Say what will run, run it, print the verdict on FILE.py:CLASS; whether the cell is right.

    timeout: seconds until the student's code is stopped.

    Raises:
        DataError: the target is no FILE.py:CLASS, or there is no such file.
    """
    file, _, name = target.rpartition(":")
    if not (file.endswith(".py") and name.isidentifier()):
        raise DataError(f"{target} is not of the form FILE.py:CLASS")
    if not Path(file).is_file():
        raise DataError(f"{file}: not found")
    how = f"with all your rights, in a process of its own, for at most {timeout:g} s"
    print(printable(f"running {file}, {how}"), file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder, "answer")  # text, because what is unpickled could run here
        process = multiprocessing.get_context("spawn").Process(
            target=_answer, args=(answer, Path(file).resolve(), name)
        )
        process.start()
        try:
            process.join(timeout)
            ended = f"its process ended with status {process.exitcode} before it answered"
            if process.exitcode is None:
                ended = f"no answer within {timeout:g} s; does the file train when it is imported?"
        finally:
            process.kill()
            process.join()
        wrong, remark = json.loads(answer.read_text()) if answer.exists() else ([ended], "")
    for line in [*(f"wrong: {mistake}" for mistake in wrong), remark]:
        if line:
            print(printable(f"{target}: {line}"))
    return not wrong


def _answer(answer: Path, path: Path, name: str) -> None:
    """In the process of its own: write what `check` says, and nothing else anywhere."""
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(silence, stream)
    try:
        verdict = check(path, name)
    except BaseException as error:  # SystemExit too is an answer
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        theirs = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        where = f" (line {theirs[-1].lineno}: `{theirs[-1].line}`)" if theirs else ""
        verdict = [told + where], ""
    answer.write_text(json.dumps(verdict))


def check(path: Path, name: str) -> tuple[list[str], str]:
    """What is wrong with the class, and how its parameters were read. It runs the file, right here.

    Raises:
        Exception: whatever the student's code raises; TypeError or ValueError if it is no cell.
    """
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cell = getattr(module, name)(D, H)
    if not isinstance(cell, nn.Module):
        raise TypeError(f"{name} is no nn.Module")
    if any(type(part).forward.__module__ == nn.LSTMCell.__module__ for part in cell.modules()):
        return ["it calls PyTorch's own recurrent cell"], ""
    cell.eval()
    torch.manual_seed(0)
    x, h, c = (torch.randn(B, size, requires_grad=True) for size in (D, H, H))
    parameters = dict(cell.named_parameters())
    for parameter in parameters.values():
        parameter.data.normal_(std=0.6)
    new = _step(cell, x, h, c)
    unused = []
    for key, parameter in parameters.items():
        before = parameter.data.clone()
        parameter.data.zero_()
        unused += [key] if torch.equal(new, _step(cell, x, h, c)) else []
        parameter.data.copy_(before)
    return _judge(x, h, c, new, parameters, unused)


def _step(cell: nn.Module, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
    """The new h and c, (2, B, H), of a cell that takes x, (h, c) or x, h, c."""
    together = len(inspect.signature(cell.forward).parameters) == 2
    new = cell(x, (h, c)) if together else cell(x, h, c)
    if isinstance(new[-1], tuple):  # output, (h, c)
        new = new[-1]
    shapes = [tuple(part.shape) for part in new]
    if shapes != [(B, H)] * 2:
        raise ValueError(f"forward returns {shapes}, not h and c of {(B, H)} each")
    return torch.stack([*new])


def _judge(
    x: Tensor, h: Tensor, c: Tensor, new: Tensor, parameters: dict[str, Tensor], unused: list[str]
) -> tuple[list[str], str]:
    """What is wrong with a step to `new`, where parameters `unused` have no influence on it."""
    gates = _gates(parameters, unused)
    if gates is None:
        shapes = ", ".join(f"{key} {tuple(p.shape)}" for key, p in parameters.items())
        expected = "four nn.Linear on h and x together, or those of nn.LSTMCell"
        return [f"its parameters are {shapes or 'none'}, not a layout known here: {expected}"], ""
    inputs = torch.stack([torch.cat([h, x], dim=1), torch.cat([x, h], dim=1)])
    _, weights, biases, _ = zip(*gates, strict=True)
    a = inputs[:, None] @ torch.stack(weights).mT + torch.stack(biases)[:, None]  # (2, 4, B, H)
    by_name = _order_by_name(gates)
    with torch.no_grad():
        reading = _read(a, h, c, new, by_name)
    if reading is None:
        return ["no known mistake explains its values"], ""
    order, x_first, mistakes = reading
    wrong, names, swapped = [text for text, _, _ in mistakes], [], []
    for (letter, role), k in zip(GATES.items(), order, strict=True):
        name, _, _, biases = gates[k]
        names.append(f"{role} {name}")
        swapped += [f"{name} acts as {role}"] if by_name and by_name[k] != letter else []
        if f"{name}.weight" not in unused:  # or the whole gate is, which is another mistake
            wrong += [f"the bias {bias} is never added" for bias in biases if bias in unused]
        wrong += [] if biases else [f"no bias in the {role}"]
    if swapped:
        wrong.append(f"gates are swapped, by their names or places: {', '.join(swapped)}")
    if not mistakes:
        sources = {"x": x, "h": h, "c": c, **parameters}
        # No value's influence is another's.
        of_each = torch.linspace(-1, 1, new.numel()).view_as(new)
        theirs, ours = (
            torch.autograd.grad(values, [*sources.values()], of_each, materialize_grads=True)
            for values in (new, _equations(a[[x_first]][:, order], h, c)[0])
        )
        pairs = zip(sources, theirs, ours, strict=True)
        differ = [key for key, *two in pairs if not torch.allclose(*two, atol=10 * TOLERANCE)]
        if differ:
            wrong.append(f"the values are right, but not the gradients of {', '.join(differ)}")
    wrong = [*dict.fromkeys(wrong)]  # a bias that all gates share is named once
    verdict = "read as" if wrong else "right: values, states and gradients are nn.LSTMCell's, with"
    return wrong, f"{verdict} {', '.join(names)}, on {'[x, h]' if x_first else '[h, x]'}"


def _gates(parameters: dict[str, Tensor], unused: list[str]) -> list[Gate] | None:
    """Four matrices on h and x together, or four on h and four on x, in the student's order.

    They may be the quarters of larger ones; biases are named as the matrices are (`so.weight`,
    `so.bias`; `W_f`, `b_f`), and zero if `unused`. None if there are other parameters.
    """
    parts: dict[int, list[Gate]] = {D + H: [], H: [], D: []}
    matrices = {name: p for name, p in parameters.items() if p.dim() == 2}
    bias_of = {
        name: name.replace("weight", "bias") if "weight" in name else re.sub(r"\bW", "b", name)
        for name in matrices
    }
    biased = {name for name, bias in bias_of.items() if bias in {*parameters} - {*matrices}}
    if not {*parameters} <= {*matrices} | {bias_of[name] for name in biased}:
        return None
    for name, p in matrices.items():
        if p.shape[1] not in parts or len(p) % H:
            return None
        biases = [bias_of[name]] if name in biased else []
        bias = sum((parameters[b] for b in biases if b not in unused), torch.zeros(len(p)))
        for k, quarter in enumerate(zip(p.split(H), bias.split(H), strict=True)):
            own = name.removesuffix(".weight") + (f"[{k}]" if len(p) > H else "")
            parts[p.shape[1]].append((own, *quarter, biases))
    both, on_h, on_x = parts.values()
    for (name, u, b_h, biases_h), (_, w, b_x, biases_x) in zip(on_h, on_x, strict=False):
        both.append((name, torch.cat([u, w], dim=1), b_h + b_x, biases_h + biases_x))
    return both if len(both) == 4 and len(on_h) == len(on_x) else None


def _order_by_name(gates: list[Gate]) -> str | None:
    """Which gates the student's names say, as in "figo", if they do; nn.LSTMCell's by place."""
    lasts = [name.lower().rpartition(".")[2] for name, *_ in gates]
    if all(last.startswith("weight_hh") for last in lasts):
        return "ifgo"
    letter = r"(?:^|_|w|u)[xhi]?([figoc])(?=$|_|\d|orget|nput|and|ell|utput)"
    said = [{*re.findall(letter, last)} for last in lasts]
    order = "".join(letters.pop() for letters in said if len(letters) == 1).replace("c", "g")
    return order if sorted(order) == sorted(GATES) else None


def _read(
    a: Tensor, h: Tensor, c: Tensor, new: Tensor, by_name: str | None
) -> tuple[list[int], int, tuple[Mistake, ...]] | None:
    """Which of the gates is f, i, g, o, whether x comes first, and the mistakes, at most two.

    Of readings that explain `new` with equally few, the closest to the names; None if none does.
    """
    orders = [list(order) for order in itertools.permutations(range(4))]
    if by_name:
        orders.sort(key=lambda order: sum(by_name[order[k]] != g for k, g in enumerate(GATES)))
    a = a[:, orders].transpose(0, 1).flatten(0, 1)  # (48, 4, B, H)
    for number in range(3):
        found = []
        for mistakes in itertools.combinations(MISTAKES, number):
            if len({place for _, place, _ in mistakes}) == number:
                off = (_equations(a, h, c, mistakes) - new).abs().amax((1, 2, 3))
                found += [(int(k), mistakes) for k in (off < TOLERANCE).nonzero()[:1]]
        if found:
            best, explanation = min(found, key=lambda pair: pair[0])
            return orders[best // 2], best % 2, explanation
    return None
