"""A training that can be interrupted: its history, its best weights, and all it depends on."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lstm_sentiment.files.keep import load_tensors, save_tensors
from lstm_sentiment.processes import is_first, of_first
from lstm_sentiment.text import DataError


class Checkpoint:
    """The epochs completed so far, in memory and, where there is a path, in a file.

    Args:
        path: the file, written whole or not at all after every epoch; or None.
        parts: the model, the optimizer and the like, by name: whatever has `state_dict`, or None.
        run: what else decides how the training goes on: settings, and datasets.

    Attributes:
        rows: the history, one row per epoch.
        best_weights: of the last epoch whose row says `is_best`.

    Raises:
        OSError: the file's folder cannot be made.
    """

    def __init__(self, path: str | Path | None, parts: Mapping[str, Any], run: Sequence) -> None:
        self.path = None if path is None else Path(path)
        self.parts = {name: part for name, part in parts.items() if part is not None}
        self.rows: list[dict] = []
        self.best_weights: dict[str, Tensor] = {}
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.run = _digest(self.parts["model"], run)

    def remaining(self, epochs: int) -> Iterator[int]:
        """The numbers of the epochs to come, under a progress bar."""
        done = len(self.rows)
        with tqdm(desc="training", unit="epoch", initial=done, total=epochs) as bar:
            for epoch in range(done + 1, epochs + 1):
                yield epoch
                row = self.rows[-1]
                bar.set_postfix({n: f"{row[n]:.3f}" for n in row if n.endswith("_loss")})
                bar.update()

    def complete(self, row: dict, model: nn.Module) -> None:
        """Add an epoch, and the weights of `model` if it is the best.

        Raises:
            OSError: the file cannot be written; what was there before is unchanged.
        """
        rows = [*self.rows, row]
        best_weights = weights_of(model) if row["is_best"] else self.best_weights
        if self.path is not None and is_first():
            state = {name: part.state_dict() for name, part in self.parts.items()}
            content = io.BytesIO()
            torch.save(state | {"random": _random_states(), "best": best_weights}, content)
            tensors = {"state": torch.frombuffer(content.getbuffer(), dtype=torch.uint8)}
            save_tensors(self.path, tensors, {"state of": self.run, "rows": rows})
        # At once: an interrupt finds a row and its weights, or neither.
        self.rows, self.best_weights = rows, best_weights

    def restore(self) -> None:
        """Set all parts, and the random states with them, as they were when the file was written.

        Raises:
            DataError: the file cannot be read or is of another run.
        """
        if self.path is None or not of_first(self.path.exists()):
            return
        tensors, settings = of_first(load_tensors(self.path) if is_first() else None)
        if settings.get("state of") != self.run:
            raise DataError(
                f"{self.path} is of a run with another model, other word vectors or weights to "
                "start from, other texts or other settings; give the same ones to go on, or start "
                "anew"
            )
        content = io.BytesIO(tensors["state"].numpy())
        state = torch.load(content, "cpu", weights_only=True)  # runs no code
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        for device, value in state["random"].items():
            if device in _random_states():  # those of devices that this machine lacks are left
                _RANDOM_SETTERS[device](value)
        self.rows, self.best_weights = settings["rows"], state["best"]


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _digest(model: nn.Module, run: Sequence) -> str:
    """The same for two runs that do the same, from the same weights."""
    trained = [parameter.requires_grad for parameter in model.parameters()]
    digest = hashlib.sha256(f"{model} {trained}".encode())
    arrays = [weight.view(-1).view(torch.uint8).numpy() for weight in weights_of(model).values()]
    for thing in run:
        if isinstance(thing, Mapping):
            digest.update(json.dumps(thing).encode())
        else:
            arrays += [thing.flat_ids, thing.lengths, thing.labels]
    for array in arrays:
        digest.update(b"" if array is None else array.tobytes())
    return digest.hexdigest()


_RANDOM_SETTERS = {
    "cpu": torch.set_rng_state,
    "cuda": torch.cuda.set_rng_state_all,
    "mps": torch.mps.set_rng_state,
}


def _random_states() -> dict[str, Any]:
    """The state of every generator that dropout may draw from."""
    states: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states
