"""Ragged sequences without their padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PackedSteps(NamedTuple):
    """Ragged sequences laid out step after step, as in `torch.nn.utils.rnn.PackedSequence`.

    order (B,) sorts the batch by decreasing length and inverse_order (B,) undoes it; sizes[t]
    sequences are still running at step t; positions (N,) says where in a flattened (T, B) array
    each of the N valid steps lies, reversal (N,) where the same sequence read backwards has it.
    """

    order: Tensor
    inverse_order: Tensor
    sizes: list[int]
    positions: Tensor
    reversal: Tensor
    padded_length: int

    @classmethod
    def from_lengths(
        cls, lengths: Tensor | None, batch_size: int, padded_length: int, device: torch.device
    ) -> PackedSteps:
        """Lay out sequences of `lengths` (B,), or of T steps each, padded to T steps.

        Raises:
            ValueError: a length is no whole number from 1 to T, or there are not B, at least one.
        """
        if lengths is None:
            lengths = torch.full((batch_size,), padded_length, device="cpu")
        fits = lengths.shape == (batch_size,) and batch_size > 0 and not lengths.is_floating_point()
        if not fits or lengths.min() < 1 or lengths.max() > padded_length:
            raise ValueError(
                f"lengths is {lengths}; it must hold a whole number between 1 and {padded_length} "
                f"for each of {batch_size} sequences, at least one"
            )
        lengths, order = torch.sort(lengths.to(device), descending=True, stable=True)
        steps = torch.arange(int(lengths[0]), device=lengths.device)
        running = steps[:, None] < lengths  # (T, B)
        step, sequence = running.nonzero(as_tuple=True)  # (N,) each, step by step
        sizes = running.sum(dim=1)
        starts = sizes.cumsum(0) - sizes  # (T,) where each step begins
        return cls(
            order=order,
            inverse_order=torch.argsort(order),
            sizes=sizes.tolist(),
            positions=step * len(lengths) + sequence,
            reversal=starts[lengths[sequence] - 1 - step] + sequence,
            padded_length=padded_length,
        )

    def pack(self, padded: Tensor) -> Tensor:
        """Padded (B, T, ...) to packed (N, ...)."""
        return padded[self.order].transpose(0, 1).flatten(0, 1)[self.positions]

    def backwards(self, rows: Tensor | None) -> Tensor:
        """Rows (N,) in the order of the other direction; None stands for 0..N-1."""
        return self.reversal if rows is None else rows[self.reversal]

    def pad(self, packed: Tensor) -> Tensor:
        """Packed (N, C) to padded (B, T, C), zero after each sequence's end."""
        batch_size, channels = len(self.order), packed.shape[1]
        padded = packed.new_zeros(self.padded_length * batch_size, channels)
        padded = padded.index_copy(0, self.positions, packed)
        return padded.view(-1, batch_size, channels).transpose(0, 1)[self.inverse_order]
