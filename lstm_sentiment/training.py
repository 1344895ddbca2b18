"""Mini-batch training with validation after every epoch, and the best epoch kept.

`train` takes a model and two datasets and returns the history, one row per epoch. The model it
leaves is that of the epoch with the best validation accuracy. After each epoch it writes a
checkpoint, from which a run that was interrupted goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import platform
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from lstm_sentiment.data import ReviewDataset, make_loader
from lstm_sentiment.files.keep import replacing
from lstm_sentiment.lstm import python_number, require_positive, require_share, require_whole
from lstm_sentiment.model import SentimentLSTM, evaluating
from lstm_sentiment.text import DataError

EVALUATION_BATCH_SIZE = 256


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    epochs: passes over the training reviews.
    batch_size: reviews per step.
    learning_rate: Adam's highest.
    schedule: "one_cycle", it rises to it and falls to zero, see `one_cycle`; or "constant".
    embedding_rate_factor: word vectors that are fine-tuned learn at this multiple of it.
    recurrent_rate_factor: the LSTM learns at this multiple of it.
    label_smoothing: the labels 0 and 1 become half of this and 1 minus half of it (Szegedy et al.
        2016).
    averaging_decay: what is validated and kept are averages of the weights over the steps, in which
        a step counts this many times as much as the next (after Polyak & Juditsky 1992); 0: the
        weights. The average reaches back some 1 / (1 - averaging_decay) steps.
    adversarial_norm: each step also learns from word vectors that are moved in the direction in
        which the loss of the batch grows fastest, all together by this length (after Miyato et al.
        2017, who move those of each review); 0: it does not.
    clip_norm: gradients with a larger norm are scaled down to it (Pascanu et al. 2013).
    seed: of the order of reviews and of dropout.
    """

    epochs: int = 50
    batch_size: int = 64
    learning_rate: float = 2e-3
    schedule: str = "one_cycle"
    embedding_rate_factor: float = 0.05
    recurrent_rate_factor: float = 1.0
    label_smoothing: float = 0.0
    averaging_decay: float = 0.0
    adversarial_norm: float = 0.0
    clip_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):
            object.__setattr__(self, name, python_number(value))
        require_whole(epochs=self.epochs, batch_size=self.batch_size)
        require_whole(0, seed=self.seed)
        require_positive(
            learning_rate=self.learning_rate,
            embedding_rate_factor=self.embedding_rate_factor,
            recurrent_rate_factor=self.recurrent_rate_factor,
            clip_norm=self.clip_norm,
        )
        require_share(label_smoothing=self.label_smoothing, averaging_decay=self.averaging_decay)
        norm = self.adversarial_norm
        if not (isinstance(norm, Real) and 0 <= norm < math.inf):
            raise ValueError(
                f"adversarial_norm is {norm!r}; it must be a finite number of at least 0"
            )
        if self.schedule not in ("one_cycle", "constant"):
            raise ValueError(f"schedule is {self.schedule!r}; it must be 'one_cycle' or 'constant'")


def pick_device() -> torch.device:
    """CUDA if there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def machine() -> dict:
    """What a training or a measurement ran on."""
    return {
        "processor": _processor_name(),
        "threads": torch.get_num_threads(),
        "device": str(pick_device()),
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # which is of a class that a checkpoint cannot hold
    }


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def one_cycle(total_steps: int) -> Callable[[int], float]:
    """The factor on the learning rate at each step (after Smith & Topin 2018).

    It rises linearly over the first tenth of all steps, while the states of a fresh LSTM are still
    noise, and falls to zero along a half cosine, so that the last epochs settle.
    """
    rise = max(1, round(0.1 * total_steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total_steps - rise)))

    return factor


def train(
    model: SentimentLSTM,
    training_set: ReviewDataset,
    validation_set: ReviewDataset,
    config: TrainingConfig,
    checkpoint: str | Path = "artifacts/training.checkpoint",
    device: torch.device | None = None,
    on_epoch: Callable[[dict], None] | None = None,
    resume: bool = False,
) -> pd.DataFrame:
    """Train `model` in place and leave it as it was after its best epoch, in evaluation mode.

    The loss is binary cross-entropy on logits, the optimizer Adam (Kingma & Ba 2015). After each
    epoch the model, or the average of its weights, is scored on the validation set; the best epoch
    is the one with the highest accuracy (ties: the lowest loss). A keyboard interrupt ends the
    training as if the epochs completed until then, those read from `checkpoint` among them, had
    been all.

    Args:
        model: the network; it is moved to the device.
        training_set, validation_set: labelled reviews.
        config: how to train.
        checkpoint: file for all that the next epoch depends on, and for the best epoch's weights;
            after every epoch it is written anew, whole or not at all. What an earlier run left
            there stays until the first epoch is completed.
        device: where to compute; `pick_device()` where None.
        on_epoch: called with each row of the history as soon as it is known.
        resume: go on after the last epoch in `checkpoint`, if the file exists. On the same machine
            this ends with exactly the weights and the history of a run without a break.

    Returns:
        One row per epoch: epoch, train_loss and train_accuracy (means over the epoch's batches,
        with dropout active and labels smoothed, where they are), validation_loss,
        validation_accuracy, seconds, is_best (at that time).
        The last row with `is_best` is the epoch the model is left in.

    Raises:
        FloatingPointError: a loss, in training or validation, is no longer finite; nothing of that
            epoch is written.
        DataError: the reviews have no labels, or the checkpoint to go on from is damaged or of
            another run.
        OSError: the checkpoint cannot be written.
        ValueError: word vectors that are frozen are to be moved by `adversarial_norm`.
        KeyboardInterrupt: before any epoch was completed.
    """
    if config.adversarial_norm and not model.embedding.weight.requires_grad:
        raise ValueError("adversarial_norm needs word vectors that are not frozen")
    _require_labels(training_set=training_set, validation_set=validation_set)
    checkpoint = Path(checkpoint)
    device = device or pick_device()
    model.to(device)
    torch.manual_seed(config.seed)
    loader = make_loader(training_set, config.batch_size, shuffle=True, seed=config.seed)
    optimizer = make_optimizer(model, config)
    scheduler = make_scheduler(optimizer, config, len(loader))
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    averaged = None
    if config.averaging_decay:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.averaging_decay))
        parts["averaged"] = averaged
    kept = model if averaged is None else averaged.module
    run = _run_key(model, training_set, validation_set, config)
    facts = {"run": run, "rows": []}  # of the last epoch that was completed
    if resume and checkpoint.exists():
        facts = read_checkpoint(checkpoint, parts, run, {"rows": list, "best_weights": dict})
    done = len(facts["rows"])
    remaining = range(done + 1, config.epochs + 1)
    try:
        with tqdm(
            remaining, desc="training", unit="epoch", initial=done, total=config.epochs
        ) as epochs:
            for epoch in epochs:
                start = time.perf_counter()
                loader.batch_sampler.set_epoch(epoch)
                row = {
                    "epoch": epoch,
                    **_train_epoch(model, loader, optimizer, scheduler, config, averaged),
                }
                validation = score(kept, validation_set)
                row |= {f"validation_{name}": value for name, value in validation.items()}
                place = f"at the end of epoch {epoch}"
                _require_finite(row["validation_loss"], "validation", place, model, config)
                row["seconds"] = time.perf_counter() - start
                rows = facts["rows"]
                row["is_best"] = _rank(row) > max(map(_rank, rows), default=(-math.inf, -math.inf))
                best_weights = _weights(kept) if row["is_best"] else facts["best_weights"]
                completed = {"run": run, "rows": [*rows, row], "best_weights": best_weights}
                write_checkpoint(checkpoint, parts, completed)
                facts = completed  # at once: an interrupt finds a row and its weights, or neither
                epochs.set_postfix(
                    loss=f"{row['train_loss']:.3f}", validation=f"{row['validation_accuracy']:.3f}"
                )
                if on_epoch is not None:
                    on_epoch(row)
    except KeyboardInterrupt:
        if not facts["rows"]:
            raise
    model.load_state_dict(facts["best_weights"])
    model.eval()
    if len(facts["rows"]) < config.epochs:
        print(f"interrupted: {len(facts['rows'])} of {config.epochs} epochs are done")
    return pd.DataFrame(facts["rows"])


def _require_labels(**datasets: ReviewDataset) -> None:
    for name, dataset in datasets.items():
        if dataset.labels is None:
            raise DataError(f"{name} has no labels")


def _rank(row: dict) -> tuple[float, float]:
    """By which the best epoch is chosen."""
    return row["validation_accuracy"], -row["validation_loss"]


def _run_key(
    model: SentimentLSTM,
    training_set: ReviewDataset,
    validation_set: ReviewDataset,
    config: TrainingConfig,
) -> str:
    """The same for two runs that do the same, from the same weights."""
    shape = list(model.embedding.weight.shape)
    settings = json.dumps([asdict(config), model.options, shape])
    digest = hashlib.sha256(settings.encode())
    for weight in _weights(model).values():
        digest.update(weight.view(-1).view(torch.uint8).numpy())  # numpy has no bfloat16
    for dataset in (training_set, validation_set):
        for array in (dataset.flat_ids, dataset.lengths, dataset.labels):
            digest.update(array.tobytes())
    return digest.hexdigest()


def make_optimizer(model: SentimentLSTM, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam with rates of their own for the word vectors, where they are trained, and the LSTM."""
    word_vectors = model.embedding.weight
    groups = [
        {"params": model.output.parameters(), "lr": config.learning_rate},
        {
            "params": model.lstm.parameters(),
            "lr": config.recurrent_rate_factor * config.learning_rate,
        },
    ]
    if word_vectors.requires_grad:
        rate = config.embedding_rate_factor * config.learning_rate
        groups.append({"params": [word_vectors], "lr": rate})
    return torch.optim.Adam(groups, fused=word_vectors.device.type in ("cpu", "cuda"))


def make_scheduler(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The factor on all learning rates, step by step, that `config.schedule` names."""
    if config.schedule == "constant":
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, one_cycle(config.epochs * steps_per_epoch))


def _train_epoch(model, loader, optimizer, scheduler, config, averaged) -> dict[str, float]:
    """One pass over the training reviews; mean loss and accuracy over it."""
    model.train()
    loss_function = nn.BCEWithLogitsLoss()
    device = next(model.parameters()).device
    total_loss, correct = 0.0, 0
    for step, batch in enumerate(loader, start=1):
        labels = batch.labels.to(device)
        logits = model(batch.token_ids.to(device), batch.lengths)  # (B,)
        smoothed = labels * (1 - config.label_smoothing) + config.label_smoothing / 2
        loss = loss_function(logits, smoothed)
        place = f"in step {step} of {len(loader)} of epoch {loader.batch_sampler.epoch}"
        _require_finite(loss.item(), "training", place, model, config)
        optimizer.zero_grad()
        loss.backward()
        if config.adversarial_norm:
            with _moved_uphill(model.embedding.weight, config.adversarial_norm):
                adversarial_logits = model(batch.token_ids.to(device), batch.lengths)
                adversarial_loss = loss_function(adversarial_logits, smoothed)
                if adversarial_loss.isfinite():
                    adversarial_loss.backward()
            # Not before the word vectors are back in their place: the likely cause may be there.
            _require_finite(adversarial_loss.item(), "adversarial", place, model, config)
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        scheduler.step()
        if averaged is not None:
            averaged.update_parameters(model)
        total_loss += loss.item() * len(labels)
        correct += int(((logits > 0) == (labels > 0.5)).sum())
    reviews = len(loader.dataset)
    return {"train_loss": total_loss / reviews, "train_accuracy": correct / reviews}


def _require_finite(
    loss: float, name: str, place: str, model: SentimentLSTM, config: TrainingConfig
) -> None:
    """Raise FloatingPointError with the likely cause, unless the loss called `name` is finite."""
    if math.isfinite(loss):
        return
    if not torch.isfinite(model.embedding.weight).all():
        cause = "word vectors are not finite: check their source, or lower the learning rate"
    else:
        cause = f"the learning rate ({config.learning_rate})"
        if config.adversarial_norm:
            cause += f" or adversarial_norm ({config.adversarial_norm})"
        cause += " is probably too high"
    raise FloatingPointError(f"the {name} loss became {loss} {place}; {cause}")


@contextlib.contextmanager
def _moved_uphill(weight: nn.Parameter, norm: float) -> Iterator[None]:
    """`weight` moved by `norm` along its gradient, and back afterwards."""
    original = weight.detach().clone()
    with torch.no_grad():
        weight.add_(weight.grad, alpha=norm / (weight.grad.norm().item() + 1e-12))
    try:
        yield
    finally:
        with torch.no_grad():
            weight.copy_(original)


def predict_logits(model: SentimentLSTM, dataset: ReviewDataset) -> np.ndarray:
    """Logits (n,) float32 of all reviews of `dataset`, in its order, without dropout."""
    device = next(model.parameters()).device
    logits = np.empty(len(dataset), dtype=np.float32)
    loader = make_loader(dataset, EVALUATION_BATCH_SIZE, shuffle=False)
    with evaluating(model), torch.inference_mode():
        for batch in tqdm(loader, desc="predicting", unit="batch", delay=2, leave=False):
            batch_logits = model(batch.token_ids.to(device), batch.lengths)
            logits[batch.rows.numpy()] = batch_logits.float().cpu().numpy()
    return logits


def predict_proba(model: SentimentLSTM, dataset: ReviewDataset) -> np.ndarray:
    """Probability (n,) float32 that each review of `dataset` is positive, in its order."""
    return torch.from_numpy(predict_logits(model, dataset)).sigmoid().numpy()


def with_soft_labels(
    teacher: SentimentLSTM, labelled: ReviewDataset, unlabelled: ReviewDataset
) -> ReviewDataset:
    """Both sets as one; to the reviews without labels `teacher` gives its probabilities as labels.

    A second network that learns from it has more reviews to learn from than the first had, and
    learns how sure the first was of each (self-training; Lee 2013, Xie et al. 2020).
    """
    token_ids = [data[row][0] for data in (labelled, unlabelled) for row in range(len(data))]
    soft_labels = predict_proba(teacher, unlabelled)
    return ReviewDataset(token_ids, np.concatenate([labelled.labels, soft_labels]))


def score(model: SentimentLSTM, dataset: ReviewDataset) -> dict[str, float]:
    """`loss` (mean binary cross-entropy) and `accuracy` of `model` on labelled reviews.

    Raises:
        DataError: the reviews have no labels.
    """
    _require_labels(dataset=dataset)
    logits = torch.from_numpy(predict_logits(model, dataset))
    labels = torch.from_numpy(dataset.labels)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
    accuracy = ((logits > 0) == (labels > 0.5)).double().mean()
    return {"loss": loss.item(), "accuracy": accuracy.item()}


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all weights on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def save_weights(
    model: nn.Module, path: str | Path, metadata: dict[str, str] | None = None
) -> None:
    """Write the weights of `model` as safetensors, whole or not at all.

    Raises:
        ValueError: the model is quantized.
        OSError: they cannot be written; what was at `path` is still there.
    """
    if not all(isinstance(value, torch.Tensor) for value in model.state_dict().values()):
        raise ValueError("a quantized model cannot be saved; save the one that it was made from")
    with replacing(Path(path)) as part:
        try:
            save_file(_weights(model), part, metadata)
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written; is the disk full? ({error})") from error


_RANDOM_SETTERS = {
    "cpu": torch.set_rng_state,
    "cuda": torch.cuda.set_rng_state_all,
    "mps": torch.mps.set_rng_state,
}


def _random_states() -> dict:
    """The state of every generator that dropout may draw from."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def write_checkpoint(path: Path, parts: Mapping[str, Any], facts: Mapping) -> None:
    """Keep all that the next epoch depends on: whole or not at all.

    Args:
        parts: models, optimizers and the like, by name; whatever has `state_dict`.
        facts: what else to keep: tensors, numbers, strings, lists and dicts of them. "run" says
            which run it is.

    Raises:
        OSError: it cannot be written; what was at `path` is still there.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    with replacing(path) as unfinished:
        try:
            torch.save({"parts": states, "random": _random_states(), "facts": facts}, unfinished)
        except RuntimeError as error:  # how PyTorch's writer reports a full disk
            raise OSError(f"{path} cannot be written; is the disk full? ({error})") from error


def read_checkpoint(
    path: Path, parts: Mapping[str, Any], run: str, needed: Mapping[str, type]
) -> dict:
    """Set `parts`, and the random states with them, as they were when `path` was written.

    Args:
        needed: the facts that must be there, and their types.

    Returns:
        The `facts` that were kept.

    Raises:
        DataError: the file cannot be read or is not of this run.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch does not compare the checksums
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"{damaged} has another checksum")
        kept = torch.load(path, map_location="cpu", weights_only=True)
        facts = kept["facts"]
        if facts["run"] != run:
            raise DataError(
                f"{path} is of a run with another model, other word vectors or weights to start "
                "from, other texts or other settings; give the same ones to go on, or start anew"
            )
        for name, part in parts.items():
            part.load_state_dict(kept["parts"][name])
        for name, kind in needed.items():
            if not isinstance(facts[name], kind):
                raise TypeError(f"{name} is a {type(facts[name]).__name__}")
        for device in _random_states():  # those of devices that this machine lacks are left
            if device == "cpu" or device in kept["random"]:
                _RANDOM_SETTERS[device](kept["random"][device])
    except DataError:
        raise
    except Exception as error:  # what the readers raise for a damaged file has no common class
        raise DataError(f"{path} cannot be read ({error}); delete it and start anew") from error
    return facts


def run_trial(
    model: SentimentLSTM,
    training_set: ReviewDataset,
    validation_set: ReviewDataset,
    config: TrainingConfig,
    on_epoch: Callable[[dict], None] | None = None,
) -> dict[str, float]:
    """Train `model`; `validation_accuracy`, `validation_loss`, `best_epoch` and `seconds` of it."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        history = train(model, training_set, validation_set, config, checkpoint, on_epoch=on_epoch)
    if len(history) < config.epochs:
        raise KeyboardInterrupt  # half a trial is none
    best = history[history["is_best"]].iloc[-1]
    return {
        "validation_accuracy": best["validation_accuracy"],
        "validation_loss": best["validation_loss"],
        "best_epoch": int(best["epoch"]),
        "seconds": history["seconds"].sum(),
    }


def search(
    make_model: Callable[[], SentimentLSTM],
    training_set: ReviewDataset,
    validation_set: ReviewDataset,
    config: TrainingConfig,
    learning_rates: Iterable[float],
    batch_sizes: Iterable[int],
) -> pd.DataFrame:
    """Try each learning rate with each batch size on a model of its own from `make_model`.

    Returns:
        One row per pair, best first: learning_rate, batch_size and the results of `run_trial`.

    Raises:
        ValueError: there is no pair.
    """
    pairs = list(itertools.product(learning_rates, batch_sizes))
    if not pairs:
        raise ValueError("learning_rates and batch_sizes must hold at least one value each")
    rows = []
    for learning_rate, batch_size in pairs:
        trial = replace(config, learning_rate=learning_rate, batch_size=batch_size)
        result = run_trial(make_model(), training_set, validation_set, trial)
        rows.append({"learning_rate": learning_rate, "batch_size": batch_size, **result})
    return pd.DataFrame(rows).sort_values(
        ["validation_accuracy", "validation_loss"], ascending=[False, True], ignore_index=True
    )
