"""Several processes that train one model, started by `torchrun`, on one machine or several.

Each has the model and all reviews, and learns from a share of every batch. Without a process group
nothing here does anything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

if TYPE_CHECKING:
    from lstm_sentiment.training import Task


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Of the processes that `torchrun` has started, if it has; with GPUs each takes one.

    The first alone prints and draws bars; errors are seen from all.
    """
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    with contextlib.ExitStack() as stack:
        stack.callback(distributed.destroy_process_group)
        if not is_first():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def is_several() -> bool:
    """Whether there is a process group."""
    return distributed.is_available() and distributed.is_initialized()


def is_first() -> bool:
    """Whether this is the process that writes files."""
    return not is_several() or distributed.get_rank() == 0


def of_first(value: Any) -> Any:
    """What the first process gives here; all wait for it."""
    values = [value]
    if is_several():
        distributed.broadcast_object_list(values)
    return values[0]


def shared_out(task: Task, model: nn.Module) -> Task:
    """`task` for this process's share of each batch: gradients and sums are of the whole batch.

    Shares are every Nth review, so that all have about as many words; who gets none takes a review
    that counts nothing. Dropout differs between processes, as it does between reviews. Its seed is
    drawn from a generator in the same state in all, so that a checkpoint of one serves any number.
    """
    if not is_several():
        return task
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    parallel = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)

    def loss(_, batch, config):
        has_share = rank < len(batch.rows)
        share = slice(rank, None, world_size) if has_share else slice(1)
        own = batch._make(None if part is None else part[share] for part in batch)
        seed = int(torch.randint(2**62, ())) + rank
        with torch.random.fork_rng(devices=()):  # a GPU's generator starts from each seed anew
            torch.manual_seed(seed)
            own_loss, measured = task.loss(parallel, own, config)
        sums = own_loss.new_tensor([*measured.values()], dtype=torch.float64) * has_share
        distributed.all_reduce(sums)
        of_all = dict(zip(measured, sums.tolist(), strict=True))
        # DistributedDataParallel takes the mean of the processes' gradients.
        return own_loss * (world_size * measured["n"] * has_share / of_all["n"]), of_all

    return task._replace(loss=loss)
