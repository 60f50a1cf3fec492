"""MNIST."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le

from vbench.builtin.datasets.files import contents
from vbench.builtin.datasets.idx import parse_idx
from vbench.builtin.datasets.tensors import TensorDataset, fingerprint
from vbench.types import Space

__all__ = ["mnist"]


def mnist(
    binarization: Annotated[
        Literal["dynamic", "static", "threshold"], "how grey values become bits; worth 1 to 2 nats"
    ] = "dynamic",
    valid: Annotated[int, Ge(1), Le(59_999), "validation rows, the last ones of the 60000 for training"] = 10_000,
) -> TensorDataset:
    """MNIST: 28 x 28 scans of handwritten digits, 70000 of them.

    50000 / 10000 / 10000 rows, in the order of the files; ``valid=400`` is the split of Burda et al. (2015).
    ``dynamic`` draws new bits whenever a row is used in training, with the grey value as probability.
    ``static`` keeps one fixed draw; it is another one than the files of Larochelle and Murray (2011) that
    papers call static or fixed MNIST. Validation and test bits are the same fixed draw in both.

    Source: LeCun, Bottou, Bengio, Haffner (1998), "Gradient-based learning applied to document recognition",
    doi:10.1109/5.726791

    Args:
        binarization: how grey values become bits.
        valid: rows held out of the training files.
    """
    files = contents("mnist")
    images = parse_idx(files["train-images-idx3-ubyte"], 3)
    labels = parse_idx(files["train-labels-idx1-ubyte"], 1).to(torch.int64)
    train = len(images) - valid
    return TensorDataset(
        train=images[:train],
        valid=images[train:],
        test=parse_idx(files["t10k-images-idx3-ubyte"], 3),
        x=Space((28, 28), "binary"),
        digest=fingerprint("mnist", *files.values(), "valid", valid),
        binarization=binarization,
        labels={
            "train": labels[:train],
            "valid": labels[train:],
            "test": parse_idx(files["t10k-labels-idx1-ubyte"], 1).to(torch.int64),
        },
    )
