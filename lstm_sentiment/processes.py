"""Several processes that train one model, started by `torchrun`, on one machine or several.

Each has the model and all reviews, and learns from a share of every batch. Without a process group
nothing here does anything.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

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
    Of the parameter `embedding.weight` only rows of the batch's words may have gradients.

    Shares are every Nth review, so that all have about as many words; who gets none takes a review
    that counts nothing. Dropout differs between processes, as it does between reviews. Its seed is
    drawn from a generator in the same state in all, so that a checkpoint of one serves any number.
    """
    if not is_several():
        return task
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    parallel = nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
    vectors = dict(model.named_parameters()).get("embedding.weight")
    words = torch.empty(0)

    def loss(_, batch, config):
        nonlocal words
        words = batch.token_ids.unique()
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
        # The gradients' mean over the processes is taken below.
        return own_loss * (world_size * measured["n"] * has_share / of_all["n"]), of_all

    def exchange(_, bucket):
        # One message: each waits for the slower process. Of the table of word vectors only the
        # batch's words have gradients, a tenth or less.
        rows = [words if each is vectors else slice(None) for each in bucket.parameters()]
        parts = [gradient[row] for gradient, row in zip(bucket.gradients(), rows, strict=True)]
        message = torch.cat([part.flatten() for part in parts]).div_(world_size)
        distributed.all_reduce(message)
        means = message.split([part.numel() for part in parts])
        for gradient, row, part, mean in zip(bucket.gradients(), rows, parts, means, strict=True):
            gradient[row] = mean.view_as(part)
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    parallel.register_comm_hook(None, exchange)
    return task._replace(loss=loss)


def own_share(items: Iterable) -> Iterable:
    """Every Nth of them, where N processes share the work."""
    if not is_several():
        return items
    return itertools.islice(items, distributed.get_rank(), None, distributed.get_world_size())


def sum_of_all(values: Tensor) -> None:
    """Add up, in place, what all processes have here."""
    if is_several():
        distributed.all_reduce(values)
