"""Training data that a prior keeps, as the encoder sees them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vbench import Batch

__all__ = ["Memory"]


class Memory(nn.Module):
    """So many rows of the training set, drawn when it is made, or all of them; they are not trained.

    Bytes become intensities in [0, 1], whatever binarisation the batches go through.

    Args:
        data: the training set ``[n, *X]``.
        size: M, rows at most.
    """

    x: Tensor
    index: Tensor

    def __init__(self, data: Tensor, size: int) -> None:
        super().__init__()
        index = torch.randperm(len(data))[:size].sort().values
        rows = data[index]
        bytes_ = rows.dtype == torch.uint8
        self.register_buffer("x", rows.to(torch.get_default_dtype()) / (255 if bytes_ else 1))
        self.register_buffer("index", index)

    @property
    def batch(self) -> Batch:
        """All of it, as data to be encoded."""
        return Batch(self.x, self.index)

    def among(self, batch: Batch) -> Tensor:
        """Which rows are the data of a training batch themselves, ``[B, M]``."""
        return batch.index[:, None] == self.index
