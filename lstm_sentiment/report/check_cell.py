"""Runs a student's LSTM cell once, in a process of its own, for `cell_mistakes` to judge.

That process gives the cell's parameters random values, takes one step and answers with tensors in
a file, nothing that could run here. It finds honest mistakes; code that wants to deceive it can.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import itertools
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lstm_sentiment.report.cell_mistakes import B, D, H, judge, loss_of
from lstm_sentiment.report.check import printable
from lstm_sentiment.text import DataError

Answer = tuple[dict[str, Tensor], dict]  # tensors by name, and facts


def main(target: str, timeout: float) -> bool:
    """Say what will run, run it, print the verdict on FILE.py:CLASS; whether the cell is right.

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
    wrong, remark = judge(*_answer(Path(file).resolve(), name, timeout))
    for line in [*(f"wrong: {mistake}" for mistake in wrong), remark]:
        if line:
            print(printable(f"{target}: {line}"))
    return not wrong


# Their process: it runs the student's code, and compares nothing.


def _answer(path: Path, name: str, timeout: float) -> Answer:
    """What `probe` says in a process of its own, or how that process ended."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "answer")
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_probe_into, args=(file, path, name, timeout))
        process.start()
        try:
            process.join(timeout)
            if process.exitcode is None:
                late = f"no answer within {timeout:g} s; does the file train when it is imported?"
                return {}, {"failure": late}
        finally:
            if process.exitcode is None:
                with contextlib.suppress(OSError, AttributeError):  # with what it started
                    os.killpg(process.pid, signal.SIGKILL)
                process.kill()
                process.join()
        try:
            with safe_open(file, "pt") as answer:
                tensors = {key: answer.get_tensor(key).clone() for key in answer.keys()}  # noqa: SIM118
                return tensors, json.loads(answer.metadata()["facts"])
        except (OSError, SafetensorError):
            how = f"its process ended with status {process.exitcode} before it answered"
            return {}, {"failure": how}


def _probe_into(file: Path, path: Path, name: str, timeout: float) -> None:
    with contextlib.suppress(AttributeError):
        os.setsid()  # to be ended with all that it starts
        signal.alarm(int(timeout) + 5)  # in case nobody is left to end it
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(silence, stream)
    try:
        tensors, facts = probe(path, name)
    except BaseException as error:  # SystemExit too is an answer
        tensors, facts = {}, {"failure": _told(error, path)}
    save_file(tensors, file, {"facts": json.dumps(facts)})


def _told(error: BaseException, path: Path) -> str:
    told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    theirs = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return told + (f" (line {theirs[-1].lineno}: `{theirs[-1].line}`)" if theirs else "")


def probe(path: Path, name: str) -> Answer:
    """One step of the class with random parameters: all that went in and came out, gradients too.

    Facts: names of the "parameters", those without influence ("unused"), what is "wrong" already.
    """
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(0)
    x, h, c = (torch.randn(B, size, requires_grad=True) for size in (D, H, H))
    step, cell, wrong = _step_of(getattr(module, name), x, h, c)
    for parameter in cell.parameters():
        parameter.data.normal_(std=0.6)

    new = step(x, h, c)
    tensors = {"x": x, "h": h, "c": c, "h'": new[0], "c'": new[1]}
    tensors |= {f"parameter {key}": parameter for key, parameter in cell.named_parameters()}
    sources = [key for key, tensor in tensors.items() if tensor.is_leaf and tensor.requires_grad]
    loss = loss_of(*new)
    if loss.requires_grad:
        gradients = torch.autograd.grad(loss, [tensors[key] for key in sources], allow_unused=True)
        pairs = zip(sources, gradients, strict=True)
        tensors |= {f"gradient of {key}": g for key, g in pairs if g is not None}
    tensors = {key: tensor.detach().clone().contiguous() for key, tensor in tensors.items()}

    unused = []
    with torch.no_grad():
        values = torch.stack(new)
        if not torch.equal(values, torch.stack(step(x, h, c))):
            wrong.append("the same input gives other values the second time")
        for key, parameter in cell.named_parameters():
            parameter.zero_()
            unused += [key] if torch.equal(values, torch.stack(step(x, h, c))) else []
            parameter.copy_(tensors[f"parameter {key}"])
    if any(type(part).forward.__module__ == nn.LSTMCell.__module__ for part in cell.modules()):
        wrong.append("it calls PyTorch's own recurrent cell")
    # safetensors sorts by name; which bias belongs to which matrix may be told by their order.
    names = [key for key, _ in cell.named_parameters()]
    return tensors, {"parameters": names, "unused": unused, "wrong": wrong}


def _step_of(cell_class: type, x: Tensor, h: Tensor, c: Tensor) -> tuple[Callable, nn.Module, list]:
    """How the class is called: what takes x, h and c to the new h and c; its cell; what is odd."""
    failures = []
    for sizes, separate in itertools.product([(D, H), (H, D)], [False, True]):
        try:
            cell = cell_class(*sizes)
            if not isinstance(cell, nn.Module):
                raise TypeError(f"{cell_class.__name__} is no nn.Module")
            cell.eval()
            state = (h, c) if separate else ((h, c),)
            try:
                inspect.signature(cell.forward).bind(x, *state)
            except TypeError:
                continue

            def step(x: Tensor, h: Tensor, c: Tensor, cell=cell, separate=separate) -> list[Tensor]:
                new = [*_tensors_in(cell(x, h, c) if separate else cell(x, (h, c)))]
                shapes = [tuple(tensor.shape) for tensor in new]
                if len(new) == 3:  # (output, (h, c))
                    new = new[1:]
                if len(new) != 2 or {*shapes} != {(B, H)}:
                    raise ValueError(f"a step returns {shapes}, not h and c of {(B, H)} each")
                return new

            step(x, h, c)
            odd = "its sizes are taken as (hidden_size, input_size)"
            return step, cell, [odd] if sizes == (H, D) else []
        except Exception as error:
            failures.append(error)
    raise failures[0] if failures else TypeError("forward takes neither x, (h, c) nor x, h, c")


def _tensors_in(result: object) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _tensors_in(part)
