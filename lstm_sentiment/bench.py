"""How long models take, measured so that the ratio can be trusted on a busy machine.

Models and batches enter; medians of interleaved runs leave.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from lstm_sentiment.data import Batch
from lstm_sentiment.model import SentimentLSTM


def training_step(model: SentimentLSTM, batch: Batch) -> float:
    """One forward and backward pass, as in training; the loss."""
    device = next(model.parameters()).device
    model.train()
    model.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(
        model(batch.token_ids.to(device), batch.lengths), batch.labels.to(device)
    )
    loss.backward()
    return loss.item()


def inference_step(model: SentimentLSTM, batch: Batch) -> float:
    """One forward pass without dropout and gradients; the mean logit."""
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        return model(batch.token_ids.to(device), batch.lengths).mean().item()


def compare_speed(
    models: Mapping[str, SentimentLSTM], batches: Sequence[Batch], rounds: int = 5
) -> pd.DataFrame:
    """Time a training step and an inference step of each model on the same batches.

    The models take turns on every batch, so that whatever else the machine does falls on all of
    them alike; one turn per model on the first batch is not counted.

    Returns:
        A row per model: model, training_ms and inference_ms (medians over batches and rounds),
        and their ratios training_speedup and inference_speedup to the first model's
        (medians of the ratios turn by turn).
    """
    steps = {"training": training_step, "inference": inference_step}
    seconds = {(step, name): [] for step in steps for name in models}
    for step, name in seconds:
        steps[step](models[name], batches[0])
    for _ in tqdm(range(rounds), desc="timing", unit="round"):
        for batch in batches:
            for step, name in seconds:
                start = time.perf_counter()
                steps[step](models[name], batch)
                seconds[step, name].append(time.perf_counter() - start)
    for model in models.values():
        model.zero_grad()
    first = next(iter(models))
    rows = []
    for name in models:
        row = {"model": name}
        for step in steps:
            ours = seconds[step, name]
            row[f"{step}_ms"] = 1000 * statistics.median(ours)
            row[f"{step}_speedup"] = statistics.median(
                theirs / mine for theirs, mine in zip(seconds[step, first], ours, strict=True)
            )
        rows.append(row)
    return pd.DataFrame(rows)


def seconds_per_word(model: SentimentLSTM, token_ids: Sequence[int], one_at_a_time: bool) -> float:
    """Time to read a review of one direction, per word.

    one_at_a_time: as words arrive in a stream, each carried on from the state before it, with a
    verdict after each (the median over words); otherwise the whole review in one call.
    """
    device = next(model.parameters()).device
    model.eval()
    ids = torch.as_tensor(token_ids, device=device)[None]  # (1, T)
    with torch.inference_mode():
        if not one_at_a_time:
            start = time.perf_counter()
            model(ids, torch.tensor([ids.shape[1]])).item()
            return (time.perf_counter() - start) / ids.shape[1]
        seconds, state = [], None
        for word in ids[0]:
            start = time.perf_counter()
            _, state = model.lstm(model.embedding(word)[None, None], state=state)
            model.output(state[0][-1]).item()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
