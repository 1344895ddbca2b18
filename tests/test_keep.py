"""Files are written whole or not at all; tensors come back exactly, or not at all."""

from __future__ import annotations

import errno
import json
import os
import stat
import time

import pytest
import torch
from safetensors.torch import save_file

from lstm_sentiment.files.keep import load_tensors, replacing, save_tensors
from lstm_sentiment.text import DataError

# ---- replacing ----


def write(path, text):
    with replacing(path) as part:
        part.write_text(text)


def test_a_file_appears_whole_with_its_folder_or_the_old_one_stays(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    with replacing(str(path)) as part:
        part.write_text("half")
        assert not path.exists()
        part.write_text("whole")
    with pytest.raises(UnicodeEncodeError), replacing(path) as part:
        part.write_text("half\udcff", encoding="utf-8")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


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
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    write(path, "newer")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file_is_written_to_and_stays(tmp_path):
    # Not tried on /dev/null: run by root, a test that fails would replace the device for all.
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write(pipe, "through the pipe")
    assert os.read(reader, 100) == b"through the pipe"
    os.close(reader)
    assert pipe.is_fifo()
    with pytest.raises(OSError, match=r"No space left.*pipe'$"), replacing(pipe):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_two_writers_of_a_file_do_not_share_an_unfinished_one(tmp_path):
    path = tmp_path / "file.txt"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first", "its writer was the last to end"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_killed_processes_left_do_not_pile_up_and_others_stay(tmp_path):
    path = tmp_path / "model [1].json"
    parts = (f"{path.name}.{12 * '1'}", f"{path.name}.{12 * '2'}", f"other.{12 * '1'}")
    abandoned, recent, other = (tmp_path / f"{part}.part" for part in parts)
    mine = tmp_path / f"{path.name}.old.part"
    two_days_ago = time.time() - 2 * 24 * 60 * 60
    recent.touch()
    for left in (abandoned, other, mine):
        left.touch()
        os.utime(left, (two_days_ago, two_days_ago))
    write(path, "new")
    assert set(tmp_path.iterdir()) == {path, recent, other, mine}


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "file.txt"
    with pytest.raises(OSError, match=r"No space left.*file\.txt'$"), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_names_the_file_and_not_its_unfinished_part(tmp_path):
    (tmp_path / "file.txt").touch()
    for path in (tmp_path / "file.txt" / "below", tmp_path):
        with pytest.raises(OSError, match=r"file\.txt|directory") as caught:
            write(path, "")
        assert ".part" not in str(caught.value)


# ---- Tensors ----

TENSORS = {
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "number": torch.tensor(3),
    "empty": torch.zeros(0, 4),
    "truth": torch.tensor([True, False]),
    "half": torch.tensor([0.1, float("nan")], dtype=torch.bfloat16),
    "trained": torch.ones(3, requires_grad=True),
}


def test_tensors_and_settings_come_back_as_they_were(tmp_path):
    settings = {"epochs": 3, "rate": 0.1, "name": "näme", "none": None, "list": [1, [True]]}
    tied = {**TENSORS, "tied": TENSORS["transposed"], "part of it": TENSORS["transposed"][1]}
    save_tensors(tmp_path / "kept", tied, settings)
    tensors, loaded = load_tensors(tmp_path / "kept")
    assert loaded == settings
    expected = {name: tensor.detach() for name, tensor in tied.items()}
    torch.testing.assert_close(tensors, expected, rtol=0, atol=0, equal_nan=True)


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


@pytest.mark.parametrize(
    "tensors",
    [
        {"a": torch.ones(4000, 1), "a/step": torch.ones(1, 4000)},
        {"a": torch.ones(4000), "a/step": torch.ones(4000, 1)},
        {"a": torch.ones(2, 3), "a/step": torch.ones(3, 1)},
        {"b": torch.ones(2, 3), "a/step": torch.ones(2, 1)},
    ],
    ids=["an outer product", "a list", "other rows", "no matrix"],
)
def test_steps_that_are_of_no_matrix_are_refused_before_anything_grows(tmp_path, tensors):
    save_tensors(tmp_path / "kept", tensors, {})
    with pytest.raises(DataError, match="kept was not written by this package"):
        load_tensors(tmp_path / "kept")


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_in_8_bits_a_number_moves_by_half_a_step_of_its_row_at_most(tmp_path, scale):
    matrix = torch.randn(5, 9) * scale * torch.tensor([[1.0], [1e-3], [7.0], [0.0], [1.0]])
    tensors = {"matrix": matrix, "weight": torch.randn(2, 3), "counts": torch.arange(6)}
    save_tensors(tmp_path / "file.safetensors", tensors, {}, in_8_bits=("matrix",))
    found, _ = load_tensors(tmp_path / "file.safetensors")
    assert found.keys() == tensors.keys()
    step = matrix.abs().amax(dim=1, keepdim=True) / 127
    assert ((found["matrix"] - matrix).abs() <= 0.501 * step).all()
    for exact in ("weight", "counts"):
        assert torch.equal(found[exact], tensors[exact])
