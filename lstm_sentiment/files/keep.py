"""Files that are written whole or not at all, and tensors kept in them without any code.

A model, a checkpoint or a set of vectors is one safetensors file: the tensors, what is to be known
about them as JSON, and one SHA-256 over both.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_sentiment.files.find import checked_path
from lstm_sentiment.text import DataError

if TYPE_CHECKING:
    from torch import Tensor

STEP = "/step"  # of the rows of a matrix that is kept in 8 bits
# No process pauses that long while it writes a file: it was killed.
ABANDONED_AFTER_SECONDS = 24 * 60 * 60


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file to write that takes the place of `path` at the end, whole or not at all.

    It keeps the permissions of the file that it replaces, and a link to that file remains a link.
    What exists and is no regular file, such as a device or a pipe, is written to directly. What
    killed processes left unfinished beside `path` is removed when it is a day old.

    Raises:
        OSError: `path` cannot be written, for example because the disk is full.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        with _naming(path, path):
            yield path
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    random = "[0-9a-f]" * 12
    for unfinished in path.parent.glob(f"{glob.escape(path.name)}.{random}.part"):
        with contextlib.suppress(OSError):  # another process may be faster
            if time.time() - unfinished.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                unfinished.unlink()
    part = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")  # no two writers share one
    with _naming(path, part):
        part.touch(exist_ok=False)  # with the permissions that new files get
        try:
            mode = (path if path.exists() else part).stat().st_mode
            yield part
            with contextlib.suppress(PermissionError):  # some file systems know no permissions
                part.chmod(stat.S_IMODE(mode))
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(path: Path, part: Path) -> Iterator[None]:
    """Errors of the system that name no file, or only the unfinished one, name `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, part, str(part)):
            error.filename = str(path)
        raise


def save_tensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    settings: dict,
    in_8_bits: Collection[str] = (),
) -> None:
    """Write tensors of any device and `settings`, what JSON can hold, to one safetensors file.

    in_8_bits: names of matrices to round, each row to 255 steps between plus and minus its largest
        number, which takes a quarter of the space; reading turns them back into float32.

    Raises:
        OSError: the file cannot be written; what was there before is unchanged.
    """
    import torch
    from safetensors.torch import save

    copies = {  # the format holds no tensors that share memory, as tied weights do
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    for name in in_8_bits:
        step = copies[name].abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / 127  # (rows, 1)
        copies |= {name: (copies[name] / step).round().to(torch.int8), name + STEP: step}
    text = json.dumps(settings)
    content = save(copies, {"settings": text, "sha256": _digest(copies, text)})
    with replacing(path) as part:
        part.write_bytes(content)


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors, on the CPU, and the settings that `save_tensors` wrote.

    Raises:
        DataError: the file is missing, damaged, or not one that `save_tensors` wrote.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = checked_path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist (looked from {Path.cwd()})") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    try:
        tensors = load(content)
        header_size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + header_size]).get("__metadata__") or {}
        settings = json.loads(metadata.get("settings", "null"))
    except (SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise DataError(
            f"{path} is damaged or no safetensors file ({error}); make or fetch it again"
        ) from error
    if not isinstance(settings, dict):
        raise DataError(f"{path} was not written by this package; name a file that was")
    if metadata.get("sha256") != _digest(tensors, metadata["settings"]):
        raise DataError(f"{path} does not match its checksum; make or fetch it again")
    try:
        for name in [name for name in tensors if name.endswith(STEP)]:
            step, of = tensors.pop(name), name.removesuffix(STEP)  # (rows, 1)
            tensors[of] = tensors[of].to(step.dtype).mul_(step)  # in place: it cannot grow
    except (KeyError, RuntimeError) as error:
        raise DataError(f"{path} was not written by this package ({error!r})") from error
    return tensors, settings


def _digest(tensors: Mapping[str, Tensor], settings: str) -> str:
    """SHA-256 over names, types, shapes and values of tensors and the text of the settings."""
    import torch

    digest = hashlib.sha256(settings.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        content: Any = tensor.reshape(-1).view(torch.uint8).numpy()  # a buffer
        digest.update(content)
    return digest.hexdigest()
