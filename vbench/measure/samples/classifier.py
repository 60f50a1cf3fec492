"""A small classifier of the data's own labels, and how far two samples lie apart in what it sees."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from vbench.rng import derive

__all__ = ["Classifier", "frechet_distance", "trained_classifier"]

_HIDDEN, _FEATURES = 256, 32
_STEPS, _BATCH, _LR = 1000, 100, 1e-3
_NAME: Final = "classifier of sample quality"


class Classifier(nn.Module):
    """Two hidden layers; the second, of 32 units, is what distances are measured in.

    Args:
        scalars: of a datum.
        classes: the labels it tells apart, ``[C]``.
        dtype: of its weights.
    """

    def __init__(self, scalars: int, classes: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("classes", classes)
        self.classes: Tensor
        self.features = nn.Sequential(
            *(nn.Linear(scalars, _HIDDEN, dtype=dtype), nn.ReLU()),
            *(nn.Linear(_HIDDEN, _FEATURES, dtype=dtype), nn.ReLU()),
        )
        self.head = nn.Linear(_FEATURES, len(classes), dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, C]`` of data ``[n, D]``."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def labels(self, x: Tensor) -> Tensor:
        """The likeliest label of each datum ``[n, D]``, ``[n]``."""
        return self.classes[self(x).argmax(1)]


def trained_classifier(x: Tensor, labels: Tensor, digest: str) -> Classifier:
    """Train on data ``[n, D]`` with labels ``[n]``: 1,000 steps of Adam, the same net for every cell of a dataset.

    Args:
        x: on the CPU, so that it is one net whatever a cell runs on.
        labels: any whole numbers, one for each class.
        digest: of the dataset, which all that is random here is a function of.
    """
    classes, own = labels.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(derive(_NAME, digest))
        net = Classifier(x.shape[1], classes, x.dtype)
        optimizer = torch.optim.Adam(net.parameters(), lr=_LR)
        order = torch.Generator().manual_seed(derive(_NAME, digest, "order"))
        for _ in range(_STEPS):
            rows = torch.randint(len(x), (min(_BATCH, len(x)),), generator=order)
            loss = nn.functional.cross_entropy(net(x[rows]), own[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return net.eval()


def frechet_distance(x: Tensor, y: Tensor) -> float:
    r"""Squared Fréchet distance of Gaussians with the moments of ``x [n, D]`` and ``y [m, D]``.

    .. math:: |\mu_x - \mu_y|^2 + \mathrm{tr}\big(C_x + C_y - 2 (C_x^{1/2} C_y C_x^{1/2})^{1/2}\big)

    It is too large by a term in 1 / n: compare at one n alone.

    Source: Heusel, Ramsauer, Unterthiner, Nessler & Hochreiter (2017), GANs Trained by a Two Time-Scale Update Rule
    Converge to a Local Nash Equilibrium, arXiv:1706.08500.
    """
    x, y = x.double(), y.double()
    first, second = torch.cov(x.mT), torch.cov(y.mT)
    values, vectors = torch.linalg.eigh(first)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.mT
    crossed = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    apart = (x.mean(0) - y.mean(0)).square().sum()
    return float((apart + first.trace() + second.trace() - 2 * crossed).clamp(min=0))
