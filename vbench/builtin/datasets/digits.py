"""The digits that ship inside scikit-learn."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch

from vbench.builtin.datasets.tensors import TensorDataset, fingerprint, permutation, splits
from vbench.grey import notes, seen

__all__ = ["digits"]


def digits(
    binarization: Annotated[
        Literal["dynamic", "fixed", "threshold", "levels", "dequantized"],
        "how grey values become bits (worth 1 to 2 nats), or stay grey",
    ] = "dynamic",
) -> TensorDataset:
    """Digits: 8 x 8 scans of handwritten digits inside scikit-learn, nothing to download.

    1797 scans (the test part of the original set), shuffled by a fixed permutation and cut 1297 / 200 / 300.
    Grey values 0 to 16 become bytes, 255 / 16 of them rounded: a probability is within 0.002 of value / 16.

    Source: Alpaydin, Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI Machine Learning
    Repository, doi:10.24432/C50P49

    Args:
        binarization: how grey values become bits; ``levels`` keeps all 17, ``dequantized`` adds uniform noise to them.
    """
    # scikit-learn takes a second to import
    from sklearn.datasets import load_digits

    scans = load_digits()
    values = scans.images.astype(np.uint8)
    classes = scans.target.astype(np.int64)
    order = permutation(len(values), "digits")
    grey = torch.from_numpy(np.rint(values * (255 / 16)).astype(np.uint8))
    return TensorDataset(
        *splits(grey[order], 1297, 200),
        x=seen((8, 8), binarization, 17),
        digest=fingerprint("digits", values.tobytes(), classes.astype(np.uint8).tobytes(), 1297, 200),
        binarization=binarization,
        labels=splits(torch.from_numpy(classes)[order], 1297, 200)._asdict(),
        notes=notes(seen((8, 8), binarization, 17)),
    )
