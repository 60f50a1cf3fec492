"""What factories are given, and which combinations they are spared."""

from types import SimpleNamespace

import pytest
import torch

from vbench.assemble import training_mean
from vbench.types import Space

X = torch.tensor([[[1.0, 2.0], [5.0, 0.0]], [[3.0, 4.0], [0.0, 0.0]], [[8.0, 6.0], [0.0, 0.0]]])
SEEN = torch.tensor([[[1, 1], [1, 0]], [[1, 1], [0, 0]], [[1, 0], [0, 0]]], dtype=torch.bool)


def data(train, masks, binarization="none"):
    return SimpleNamespace(
        train=train, masks=masks, binarization=binarization, x=Space(tuple(train.shape[1:]), "binary")
    )


def test_padding_is_no_part_of_the_training_mean():
    assert training_mean(data(X, {"train": SEEN})).tolist() == [[4.0, 3.0], [5.0, 0.0]]
    assert training_mean(data(X, {})).tolist() == [[4.0, 4.0], [pytest.approx(5 / 3), 0.0]], "which is the wrong twin"


def test_whatever_stands_in_padding():
    assert training_mean(data(torch.where(SEEN, X, torch.nan), {"train": SEEN})).tolist() == [[4.0, 3.0], [5.0, 0.0]]
    assert training_mean(data(torch.where(SEEN, X, 7), {"train": SEEN.float()})).tolist() == [[4.0, 3.0], [5.0, 0.0]]


@pytest.mark.parametrize(("binarization", "expected"), [("dynamic", 0.4), ("fixed", 0.4), ("threshold", 0.5)])
def test_bytes_are_intensities(binarization, expected):
    train = torch.tensor([[51], [153], [255]], dtype=torch.uint8)
    masks = {"train": torch.tensor([[True], [True], [False]])}
    assert training_mean(data(train, masks, binarization)).tolist() == [pytest.approx(expected)]
