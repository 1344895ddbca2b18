"""The LSTM recurrence through PyTorch's own kernels; on a GPU they are cuDNN's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def builtin_lstm(
    cell: nn.Module,
    table: Tensor,
    rows: Tensor | None,
    state: tuple[Tensor, Tensor],
    sizes: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """What `run_cells` of `lstm` computes with an `LSTMCell`, by the function `nn.LSTM` calls."""
    inputs = table if rows is None else nn.functional.embedding(rows, table)  # (N, D)
    gates: list[Any] = [cell.input_gate, cell.forget_gate, cell.candidate, cell.output_gate]
    weight = torch.cat([gate.weight for gate in gates])  # (4H, H + D)
    bias = torch.cat([gate.bias for gate in gates])  # (4H,)
    hidden_size = state[0].shape[1]
    weights = [weight[:, hidden_size:], weight[:, :hidden_size], bias, torch.zeros_like(bias)]
    hidden, h_n, c_n = torch.lstm(
        inputs,
        torch.tensor(sizes, device="cpu"),
        [part[None].contiguous() for part in state],
        [each.contiguous() for each in weights],
        has_biases=True,
        num_layers=1,
        dropout=0.0,
        train=torch.is_grad_enabled(),  # cuDNN keeps what its backward pass needs only then
        bidirectional=False,
    )
    return hidden, h_n[0], c_n[0]
