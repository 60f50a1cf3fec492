"""A dataset held as tensors, and what its makers share: digests, permutations, splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vbench.builtin.datasets.files import DataError
from vbench.rng import derive
from vbench.types import Space

__all__ = ["Splits", "TensorDataset", "fingerprint", "permutation", "splits"]


@dataclass(frozen=True, eq=False)
class TensorDataset:
    """A dataset in memory.

    Attributes:
        train: training rows ``[n, *X]``; bytes where the source is bytes, then 255 is an intensity of one.
        valid: rows to select on.
        test: rows to report on.
        x: what the parts see, after binarisation.
        digest: hex SHA-256 of the content and how it is split, without binarisation. Of made data: of the
            recipe, since floats differ in last bits between machines.
        binarization: how bytes become what parts see (see :mod:`vbench.grey`).
        labels: class of each row ``[n]`` by split, where there are classes; no part sees them.
        masks: observed entries ``[n, *X]`` by split, where some are not.
        notes: what was made of the source besides, for people; a column of the cells table.
    """

    train: Tensor
    valid: Tensor
    test: Tensor
    x: Space
    digest: str
    binarization: str
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    notes: str = ""

    def __post_init__(self) -> None:
        for split in ("train", "valid", "test"):
            shape = tuple(getattr(self, split).shape)
            if shape[1:] != self.x.shape or not shape[0]:
                raise DataError(f"{split} has shape {shape}, expected at least one row of {self.x.shape}")
            if split in self.labels and len(self.labels[split]) != shape[0]:
                raise DataError(f"{split} has {shape[0]} rows and {len(self.labels[split])} labels")
            if split in self.masks and tuple(self.masks[split].shape) != shape:
                raise DataError(f"{split} has shape {shape}, its mask {tuple(self.masks[split].shape)}")
        if self.binarization != "none" and self.train.dtype != torch.uint8:
            raise DataError(f"binarization {self.binarization!r} needs bytes, these data are {self.train.dtype}")


class Splits(NamedTuple):
    """Rows cut in three, in the order of the first fields of :class:`TensorDataset`."""

    train: Tensor
    valid: Tensor
    test: Tensor


def fingerprint(*parts: str | int | float | bytes) -> str:
    """Hex SHA-256 of a sequence of parts; where one ends and what type it has counts."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(f"{type(part).__name__} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def permutation(n: int, word: str) -> Tensor:
    """A fixed permutation of n rows: the order of a bit generator's raw words, which no version changes."""
    words = np.random.PCG64DXSM(derive("permutation", word)).random_raw(n)
    return torch.from_numpy(words.argsort(kind="stable"))


def splits(rows: Tensor, train: int, valid: int) -> Splits:
    """Cut rows in three: the first ``train``, the next ``valid`` and the rest."""
    return Splits(rows[:train], rows[train : train + valid], rows[train + valid :])
