"""Files are written whole or not at all; tensors and states come back exactly, or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lstm_sentiment.files.keep import (
    load_tensors,
    pack_state,
    replacing,
    save_tensors,
    unpack_state,
)
from lstm_sentiment.text import DataError

# ---- replacing ----


def write(path, text):
    with replacing(path) as part:
        part.write_text(text)


def test_a_file_appears_whole_with_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with replacing(str(path)) as part:
        part.write_text("half")
        assert not path.exists()
        part.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as part:
        part.write_text("half\udcff", encoding="utf-8")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target.txt", tmp_path / "link.txt"
    link.symlink_to(target)
    for text in ("first", "second"):  # the target is missing, then there
        write(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_new_files_or_of_the_file_replaced(tmp_path):
    path = tmp_path / "file.txt"
    old_mask = os.umask(0o027)
    try:
        write(path, "new")
        save_tensors(tmp_path / "tensors", {}, {})
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "tensors").stat().st_mode) == 0o640
    path.chmod(0o604)
    write(path, "newer")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_devices_and_pipes_are_written_to_and_stay(tmp_path):
    write(os.devnull, "gone")
    assert not os.path.isfile(os.devnull)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        received = pool.submit(pipe.read_text)
        write(pipe, "through the pipe")
        assert received.result(timeout=60) == "through the pipe"
    assert pipe.is_fifo()


def test_threads_do_not_write_into_each_others_file(tmp_path):
    path, barrier = tmp_path / "file.txt", threading.Barrier(8)

    def write_together(text):
        with replacing(path) as part:
            barrier.wait(timeout=60)
            part.write_text(text)
            barrier.wait(timeout=60)

    texts = [str(number) * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_together, texts))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_killed_processes_left_do_not_pile_up_and_others_stay(tmp_path):
    path = tmp_path / "model [1].json"
    names = [f"{path.name}.1.part", f"{path.name}.2.part", "other.json.1.part"]
    for name in names:
        (tmp_path / name).touch()
    for name in (names[0], names[2]):
        two_days_ago = time.time() - 2 * 24 * 60 * 60
        os.utime(tmp_path / name, (two_days_ago, two_days_ago))
    write(path, "new")
    assert path.read_text() == "new"
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, *names[1:]}


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "file.txt"
    with pytest.raises(OSError, match=r"No space left.*file\.txt'$"), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())
    if os.path.exists("/dev/full"):
        with pytest.raises(OSError, match=r"No space left.*'/dev/full'$"):
            write("/dev/full", "too much" * 10_000)


def test_what_cannot_be_written_names_the_file_and_not_its_unfinished_part(tmp_path):
    (tmp_path / "file.txt").touch()
    for path in (tmp_path / "file.txt" / "below", tmp_path):
        with pytest.raises(OSError, match=r"file\.txt|directory") as caught:
            write(path, "")
        assert ".part" not in str(caught.value)


# ---- Tensors ----

TENSORS = {
    "matrix": torch.arange(6.0).reshape(2, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "number": torch.tensor(3),
    "empty": torch.zeros(0, 4),
    "truth": torch.tensor([True, False]),
    "half": torch.tensor([0.1, float("nan")], dtype=torch.bfloat16),
    "trained": torch.ones(3, requires_grad=True),
}
SETTINGS = {"epochs": 3, "rate": 0.1, "name": "n\u00e4me", "none": None, "list": [1, [True]]}


def same(tensor, other):
    return tensor.dtype == other.dtype and torch.equal(tensor.nan_to_num(7), other.nan_to_num(7))


def test_tensors_and_settings_come_back_as_they_were(tmp_path):
    tied = {**TENSORS, "tied": TENSORS["matrix"], "part of it": TENSORS["matrix"][1]}
    save_tensors(tmp_path / "kept", tied, SETTINGS)
    tensors, settings = load_tensors(tmp_path / "kept")
    assert settings == SETTINGS
    assert tensors.keys() == tied.keys()
    assert all(same(tensors[name], tied[name]) for name in tied)
    assert not any(tensor.requires_grad for tensor in tensors.values())


def test_any_damage_is_noticed(tmp_path):
    path = tmp_path / "kept"
    save_tensors(path, {"a": torch.arange(3.0), "b": torch.arange(2)}, {"epochs": 3})
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position])
        with pytest.raises(DataError, match=r"kept is damaged .* again"):
            load_tensors(path)
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(DataError, match=r"is damaged|checksum|not written by this package"):
            load_tensors(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": json.dumps({"epochs": 4})}, "does not match its checksum"),
        ({"sha256": "0" * 64}, "does not match its checksum"),
        ({"settings": "[1]"}, "not written by this package"),
        ({"settings": "no JSON"}, "is damaged"),
        ({"settings": "[" * 100_000}, "is damaged"),
        (None, "not written by this package; name a file that was"),
    ],
)
def test_another_file_is_refused_with_the_reason(tmp_path, change, message):
    metadata = change and {"settings": json.dumps({"epochs": 3}), "sha256": "", **change}
    save_file({"a": torch.ones(2)}, tmp_path / "kept", metadata)
    with pytest.raises(DataError, match=rf"kept .*{message}"):
        load_tensors(tmp_path / "kept")


def test_what_is_no_file_is_refused(tmp_path):
    for path, message in (
        (tmp_path / "none", "none does not exist"),
        (tmp_path, "cannot be read"),
        (os.devnull, "neither a file nor a folder"),
    ):
        with pytest.raises(DataError, match=message):
            load_tensors(path)


# ---- States ----


def kept(state, path):
    """What comes back of `state` through a file."""
    tensors, skeleton = pack_state(state)
    save_tensors(path, tensors, {"state": skeleton})
    tensors, settings = load_tensors(path)
    return unpack_state(tensors, settings["state"])


def alike(state, other):
    if isinstance(state, torch.Tensor):
        return same(state, other)
    if isinstance(state, dict):
        return list(state) == list(other) and all(alike(state[key], other[key]) for key in state)
    if isinstance(state, list | tuple):
        return (
            len(state) == len(other)
            and type(state) is type(other)
            and all(map(alike, state, other))
        )
    if isinstance(state, float) and math.isnan(state):
        return math.isnan(other)
    return type(state) is type(other) and state == other


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(list(TENSORS.values()))
)
KEYS = st.integers(-3, 3) | st.sampled_from(["a", "a.b", "b", "1", "tensor", "tuple", "dict"])
STATES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
)


@given(STATES)
def test_any_nested_state_comes_back_as_it_was(tmp_path_factory, state):
    assert alike(kept(state, tmp_path_factory.getbasetemp() / "state"), state)


def test_training_goes_on_from_a_kept_state_as_without_it(tmp_path):
    def start():
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.Dropout(), torch.nn.Linear(4, 1)
        )
        optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return model, optimizer, schedule, torch.optim.swa_utils.AveragedModel(model)

    def step(model, optimizer, schedule, average):
        optimizer.zero_grad()
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(model)

    parts, others = start(), start()
    for _ in range(3):
        step(*parts)
    history = [{"epoch": 1, "loss": 0.1 + 0.2, "is_best": True, "score": float("nan")}]
    state = {
        "parts": [part.state_dict() for part in parts],
        "rng": torch.get_rng_state(),
        "history": history,
    }
    back = kept(state, tmp_path / "checkpoint")
    assert alike(back["history"], history)
    step(*parts)
    for other, part_state in zip(others, back["parts"], strict=True):
        other.load_state_dict(part_state)
    torch.set_rng_state(back["rng"])
    step(*others)
    for part, other in zip(parts, others, strict=True):
        assert alike(dict(part.state_dict()), dict(other.state_dict()))


@pytest.mark.parametrize("state", [{1.5: 0}, {"a": [object()]}, {"a": {1, 2}}, b"bytes", print])
def test_what_would_need_code_is_not_kept(state):
    with pytest.raises(TypeError, match="a state cannot hold the"):
        pack_state(state)


@pytest.mark.parametrize(
    "skeleton",
    [{}, {"tensor": "absent"}, {"tensor": []}, {"code": 1}, {"dict": 3}, {"dict": [[[], 1]]}],
)
def test_a_skeleton_that_does_not_fit_is_refused(skeleton):
    with pytest.raises(DataError, match="no state of this package"):
        unpack_state({}, skeleton)
