"""Frey faces."""

from __future__ import annotations

import io
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge

from vbench.builtin.datasets.files import DataError, contents
from vbench.builtin.datasets.tensors import TensorDataset, fingerprint, permutation, splits
from vbench.grey import notes, seen

__all__ = ["frey"]


def frey(
    valid: Annotated[int, Ge(1), "validation rows"] = 200,
    test: Annotated[int, Ge(1), "test rows"] = 200,
    binarization: Annotated[
        Literal["dequantized", "levels", "none"], "what becomes of grey values: noise added, levels, or as they are"
    ] = "dequantized",
) -> TensorDataset:
    """Frey faces: 1965 frames of a video of one face, 28 x 20, 256 grey values.

    Frames are shuffled by a fixed permutation, 1565 / 200 / 200 rows as in Tomczak and Welling (2018).
    Neighbouring frames are near copies, so held-out rows have near copies among the training rows; papers do
    the same.

    ``dequantized`` adds uniform noise, so that a density bounds the probability of the grey values; ``levels`` leaves
    them to decoders that know levels; ``none`` takes bytes for real numbers, whose density can grow without end, as
    papers do that report more than a thousand nats.

    Source: Frey, Colmenarez, Huang (1998), "Mixtures of local linear subspaces for face recognition",
    doi:10.1109/CVPR.1998.698584; file of Roweis, https://cs.nyu.edu/~roweis/data.html

    Args:
        valid: rows to select on.
        test: rows to report on.
        binarization: what becomes of grey values.

    Raises:
        DataError: no row is left to train on, or the file is wrong or cannot be had.
    """
    # a quarter of a second, for those who use it
    from scipy.io import loadmat

    (content,) = contents("frey").values()
    # [560, 1965]: a frame is a column, written row by row
    columns = loadmat(io.BytesIO(content))["ff"]  # type: ignore[arg-type]  # the stubs know paths only
    frames = torch.from_numpy(np.ascontiguousarray(columns.T)).view(-1, 28, 20)
    train = len(frames) - valid - test
    if train < 1:
        raise DataError(f"frey: valid={valid} and test={test} leave none of {len(frames)} faces to train on")
    return TensorDataset(
        *splits(frames[permutation(len(frames), "frey")], train, valid),
        x=seen((28, 20), binarization),
        digest=fingerprint("frey", content, "valid", valid, "test", test),
        binarization=binarization,
        notes=notes(seen((28, 20), binarization)),
    )
