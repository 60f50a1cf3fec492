"""MNIST."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le

from vbench.builtin.datasets.files import contents
from vbench.builtin.datasets.idx import parse_idx
from vbench.builtin.datasets.tensors import TensorDataset, fingerprint
from vbench.grey import notes, seen

__all__ = ["mnist"]


def mnist(
    binarization: Annotated[
        Literal["dynamic", "fixed", "static", "threshold", "levels", "dequantized"],
        "how grey values become bits (worth 1 to 2 nats), or stay grey",
    ] = "dynamic",
    valid: Annotated[int, Ge(1), Le(59_999), "validation rows, the last ones of the 60000 for training"] = 10_000,
) -> TensorDataset:
    """MNIST: 28 x 28 scans of handwritten digits, 70000 of them.

    50000 / 10000 / 10000 rows, in the order of the files; ``valid=400`` is the split of Burda et al. (2015).
    ``dynamic`` draws new bits whenever a row is used in training, with the grey value as probability.
    ``fixed`` keeps one draw; validation and test bits are the same draw in both. ``static`` are the bits of
    Larochelle and Murray (2011), from files of their own, without labels. ``levels`` keeps all 256 grey values,
    ``dequantized`` adds uniform noise to them.

    Source: LeCun, Bottou, Bengio, Haffner (1998), "Gradient-based learning applied to document recognition",
    doi:10.1109/5.726791; Larochelle & Murray (2011), The Neural Autoregressive Distribution Estimator, AISTATS
    (the bits of ``static``)

    Args:
        binarization: how grey values become bits, or stay grey.
        valid: rows held out of the training files.
    """
    if binarization == "static":
        return _static(valid)
    files = contents("mnist")
    images = parse_idx(files["train-images-idx3-ubyte"], 3)
    labels = parse_idx(files["train-labels-idx1-ubyte"], 1).to(torch.int64)
    train = len(images) - valid
    return TensorDataset(
        train=images[:train],
        valid=images[train:],
        test=parse_idx(files["t10k-images-idx3-ubyte"], 3),
        x=seen((28, 28), binarization),
        digest=fingerprint("mnist", *files.values(), "valid", valid),
        binarization=binarization,
        labels={
            "train": labels[:train],
            "valid": labels[train:],
            "test": parse_idx(files["t10k-labels-idx1-ubyte"], 1).to(torch.int64),
        },
        notes=notes(seen((28, 28), binarization)),
    )


def _static(valid: int) -> TensorDataset:
    """The files of Larochelle and Murray: rows of 784 digits, 0 or 1, each with a blank or a line's end after it."""
    files = contents("binarized-mnist")
    train, held, test = (_bits(files[f"binarized_mnist_{split}.amat"]) for split in ("train", "valid", "test"))
    rows = torch.cat([train, held])
    return TensorDataset(
        train=rows[: len(rows) - valid],
        valid=rows[len(rows) - valid :],
        test=test,
        x=seen((28, 28), "static"),
        digest=fingerprint("binarized-mnist", *files.values(), "valid", valid),
        binarization="static",
    )


def _bits(content: bytes) -> torch.Tensor:
    """``[n, 28, 28]`` bytes, 0 or 255."""
    digits = np.frombuffer(content, np.uint8)[::2] - ord("0")
    return torch.from_numpy(digits * np.uint8(255)).view(-1, 28, 28)
