"""Mini-batch training with validation after every epoch, and the best epoch kept.

`train` takes a model and two datasets and returns the history, one row per epoch. The model it
leaves is that of the best epoch on the validation set. What is minimised and measured is a `Task`:
sentiment here, the next word in `studies.language_model`. With a checkpoint file, a run that was
interrupted goes on to the same weights.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from lstm_sentiment.data import Batch, ReviewDataset, make_loader
from lstm_sentiment.files.checkpoints import Checkpoint
from lstm_sentiment.model import evaluating
from lstm_sentiment.processes import is_several, own_share, shared_out, sum_of_all
from lstm_sentiment.text import DataError

if TYPE_CHECKING:
    import pandas as pd

EVALUATION_BATCH_SIZE = 256
SCHEDULES = ("one_cycle", "constant")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    epochs: passes over the training reviews.
    batch_size: reviews per step.
    learning_rate: Adam's highest.
    schedule: "one_cycle", the rate rises to `learning_rate` and falls to zero, see `one_cycle`; or
        "constant".
    embedding_rate_factor: word vectors that are fine-tuned learn at this multiple of it.
    recurrent_rate_factor: the LSTM learns at this multiple of it.
    label_smoothing: the labels 0 and 1 become half of this and 1 minus half of it (Szegedy et al.
        2016).
    averaging_decay: what is validated and kept are averages of the weights over the steps, in which
        a step counts this many times as much as the next (after Polyak & Juditsky 1992); 0: the
        weights. The average reaches back some 1 / (1 - averaging_decay) steps.
    adversarial_norm: each step also learns from reviews whose word vectors are moved in the
        direction in which the review's loss grows fastest, by this length (Miyato et al. 2017,
        whose length is five times the root mean square of a vector's components); 0: it does not.
    clip_norm: gradients with a larger norm are scaled down to it (Pascanu et al. 2013).
    seed: of the order of reviews and of dropout. The same one gives the same digits; on a GPU,
        where this is not tried, set the environment variable CUBLAS_WORKSPACE_CONFIG to :4096:8.
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
        if self.epochs < 1 or self.batch_size < 1 or self.schedule not in SCHEDULES:
            raise ValueError(
                f"epochs, batch_size and schedule are {self.epochs}, {self.batch_size} and "
                f"{self.schedule!r}; at least 1, at least 1, and one of {SCHEDULES}"
            )


def train(
    model: nn.Module,
    training_set: ReviewDataset,
    validation_set: ReviewDataset,
    config: TrainingConfig,
    task: Task | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[dict], None] | None = None,
) -> pd.DataFrame:
    """Train `model` in place and leave it as it was after its best epoch, in evaluation mode.

    In a process group each process calls this with the same arguments and reads its share of every
    batch, see `processes`; the first writes the checkpoint.

    Args:
        model: the network; it is moved to `pick_device()`. Its word vectors are the parameter
            `embedding.weight`, its recurrent layers the module `lstm`, if rates of their own or
            adversarial steps are to find them.
        training_set, validation_set: what to learn from, and what chooses the epoch.
        config: how to train.
        task: what to minimise and to measure; `SENTIMENT` where None.
        checkpoint: file written after every epoch, with all that the next one depends on.
        resume: go on after the last epoch in `checkpoint`, if the file exists. On the same machine
            this ends with exactly the weights and the history of a run without a break.
        on_epoch: called with each row of the history as soon as it is known.

    Returns:
        One row per epoch: epoch, the means over the epoch's batches (train_loss, train_accuracy:
        with dropout active and labels smoothed), the task's scores on the validation set
        (validation_loss, validation_accuracy), seconds, and is_best (at that time). After a
        keyboard interrupt these are the epochs completed until then.

    Raises:
        FloatingPointError: a loss is no longer finite.
        DataError: the checkpoint to go on from is damaged or of another run.
        OSError: the checkpoint cannot be written.
        KeyboardInterrupt: before any epoch was completed.
    """
    import pandas as pd

    task = task or SENTIMENT
    device = pick_device()
    model.to(device)
    torch.manual_seed(config.seed)
    loader = make_loader(training_set, config.batch_size, shuffle=True, seed=config.seed)
    sampler: Any = loader.batch_sampler
    optimizer = make_optimizer(model, config)
    scheduler = make_scheduler(optimizer, config, len(loader))
    averaged = average_of_weights(model, config.averaging_decay)
    kept = model if averaged is None else averaged.module
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "averaged": averaged}
    progress = Checkpoint(checkpoint, parts, (asdict(config), training_set, validation_set))
    if resume:
        progress.restore()
    task = shared_out(task, model)
    try:
        for epoch in progress.remaining(config.epochs):
            start = time.perf_counter()
            sampler.set_epoch(epoch)
            model.train()
            totals: Counter = Counter()
            for batch in tqdm(loader, desc=f"epoch {epoch}", unit="batch", delay=20, leave=False):
                batch = batch.to(device)
                if config.adversarial_norm:
                    batch = with_perturbation(batch, model)
                loss, measured = task.loss(model, batch, config)
                optimizer.zero_grad()
                loss.backward()
                if config.adversarial_norm:
                    task.loss(model, perturbed(batch, config), config)[0].backward()
                nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
                optimizer.step()
                scheduler.step()
                if averaged is not None:
                    averaged.update_parameters(model)
                totals.update(measured)
            row: dict[str, Any] = {"epoch": epoch}
            row |= {f"train_{name}": totals[name] / totals["n"] for name in totals if name != "n"}
            scores = task.score(kept, validation_set)
            row |= {f"validation_{name}": value for name, value in scores.items()}
            require_finite(row, model, config)
            row["seconds"] = time.perf_counter() - start
            row["is_best"] = task.rank(row) > max(map(task.rank, progress.rows), default=())
            progress.complete(row, kept)
            if on_epoch is not None:
                on_epoch(row)
    except KeyboardInterrupt:
        if not progress.rows:
            raise
        print(f"interrupted: {len(progress.rows)} of {config.epochs} epochs are done")
    model.load_state_dict(progress.best_weights)
    model.eval()
    return pd.DataFrame(progress.rows)


class Task(NamedTuple):
    """What a model is trained for."""

    #: The loss of a batch, and sums that are shown as means: of "loss", ..., and their number "n".
    loss: Callable[[nn.Module, Batch, TrainingConfig], tuple[Tensor, dict[str, float]]]
    #: Measures of a dataset by name, "loss" among them.
    score: Callable[[nn.Module, ReviewDataset], dict[str, float]]
    #: Of a row of the history; the epoch with the highest is kept.
    rank: Callable[[dict], tuple]


def sentiment_loss(
    model: nn.Module, batch: Batch, config: TrainingConfig
) -> tuple[Tensor, dict[str, float]]:
    """Mean binary cross-entropy of a batch; its sum over the batch and how many are right."""
    logits = model(batch.token_ids, batch.lengths, batch.perturbation)  # (B,)
    labels = batch.labels
    if labels is None:
        raise DataError("the reviews to learn from have no labels")
    smoothed = labels * (1 - config.label_smoothing) + config.label_smoothing / 2  # (B,)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, smoothed)
    right = int(((logits > 0) == (labels > 0.5)).sum())
    return loss, {"n": len(logits), "loss": loss.item() * len(logits), "accuracy": right}


def score(model: nn.Module, dataset: ReviewDataset) -> dict[str, float]:
    """`loss` (mean binary cross-entropy) and `accuracy` of `model` on labelled reviews, which the
    processes of a group share out.

    Raises:
        DataError: the reviews have no labels.
    """
    if dataset.labels is None:
        raise DataError("the reviews to score have no labels")
    logits = torch.from_numpy(predict_logits(model, dataset, in_shares=True))
    labels = torch.from_numpy(dataset.labels)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
    accuracy = ((logits > 0) == (labels > 0.5)).double().mean()
    return {"loss": loss.item(), "accuracy": accuracy.item()}


# The epoch kept has the highest validation accuracy; of several such, the lowest loss.
SENTIMENT = Task(
    sentiment_loss, score, lambda row: (row["validation_accuracy"], -row["validation_loss"])
)


def predict_logits(model: nn.Module, dataset: ReviewDataset, in_shares: bool = False) -> np.ndarray:
    """Logits (n,) float32 of all reviews of `dataset`, in its order, without dropout.

    With `in_shares` the processes of a group, see `processes`, have to call this together: each
    reads its share of the batches, and all get all logits.
    """
    device = next(model.parameters()).device
    logits = torch.zeros(len(dataset), dtype=torch.float32, device=device)
    loader = make_loader(dataset, EVALUATION_BATCH_SIZE, shuffle=False)
    batches = own_share(loader) if in_shares else loader
    with evaluating(model), torch.inference_mode():
        for batch in tqdm(batches, desc="predicting", unit="batch", delay=2, leave=False):
            logits[batch.rows] = model(batch.token_ids.to(device), batch.lengths).float()
        if in_shares:
            sum_of_all(logits)
    return logits.cpu().numpy()


def predict_proba(model: nn.Module, dataset: ReviewDataset) -> np.ndarray:
    """Probability (n,) float32 that each review of `dataset` is positive, in its order."""
    return torch.from_numpy(predict_logits(model, dataset)).sigmoid().numpy()


def pick_device() -> torch.device:
    """CUDA if there is one, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available() and not is_several():  # gloo knows no MPS
        return torch.device("mps")
    return torch.device("cpu")


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), with rates of their own for the word vectors and the LSTM."""
    factors = {"embedding": config.embedding_rate_factor, "lstm": config.recurrent_rate_factor}
    by_factor: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = factors.get(name.split(".")[0], 1.0)
            by_factor.setdefault(factor, []).append(parameter)
    groups = [
        {"params": parameters, "lr": factor * config.learning_rate}
        for factor, parameters in by_factor.items()
    ]
    device = next(model.parameters()).device
    return torch.optim.Adam(groups, fused=device.type in ("cpu", "cuda"))


def make_scheduler(
    optimizer: torch.optim.Optimizer, config: TrainingConfig, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The factor on all learning rates, step by step, that `config.schedule` names."""
    is_constant = config.schedule == "constant"
    factor = (lambda step: 1.0) if is_constant else one_cycle(config.epochs * steps_per_epoch)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


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


def average_of_weights(model: nn.Module, decay: float) -> AveragedModel | None:
    """An exponential moving average of the weights, or None where `decay` is 0."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay)) if decay else None


def with_perturbation(batch: Batch, model: nn.Module) -> Batch:
    """`batch` with a perturbation of zero, whose gradient is that of the loss at each word."""
    vectors = model.get_parameter("embedding.weight")
    zero = vectors.new_zeros(*batch.token_ids.shape, vectors.shape[1])
    return batch._replace(perturbation=zero.requires_grad_())


def perturbed(batch: Batch, config: TrainingConfig) -> Batch:
    """`batch` with each review moved along its gradient by `config.adversarial_norm`; one whose
    gradient has vanished, hardly."""
    before: Any = batch.perturbation
    gradient = before.grad  # (B, T, D)
    norms = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
    return batch._replace(perturbation=gradient * (config.adversarial_norm / norms)[:, None, None])


def require_finite(row: dict, model: nn.Module, config: TrainingConfig) -> None:
    """Raise FloatingPointError with the likely cause, unless all numbers of a row are finite."""
    broken = [name for name, value in row.items() if not math.isfinite(value)]
    if broken:
        cause = f"the learning rate ({config.learning_rate}) is probably too high"
        if not torch.isfinite(model.get_parameter("embedding.weight")).all():
            cause = "word vectors are not finite: check their source, or lower the learning rate"
        raise FloatingPointError(
            f"{' and '.join(broken)} became {row[broken[0]]} in epoch {row['epoch']}; {cause}"
        )


def best_epoch(history: pd.DataFrame) -> pd.Series:
    """The row of `train`'s history that the model was left in."""
    return history[history["is_best"]].iloc[-1]
