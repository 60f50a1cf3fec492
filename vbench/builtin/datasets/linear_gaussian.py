"""Data of a linear Gaussian model, whose evidence is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from vbench.builtin.datasets.tensors import TensorDataset, fingerprint, splits
from vbench.rng import Rng, derive
from vbench.types import Space

__all__ = ["LinearGaussian", "linear_gaussian"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearGaussian(TensorDataset):
    """Draws of x = W z + b + noise e, with z and e standard normal.

    Attributes:
        weight: W ``[X, D]``, float64.
        offset: b ``[X]``, float64.
        noise: standard deviation of what is added to each entry.
    """

    weight: Tensor
    offset: Tensor
    noise: float

    def log_evidence(self, x: Tensor) -> Tensor:
        """Exact log p(x) = log N(x; b, W W' + noise^2 I) of rows ``[B, X]`` -> ``[B]``, nats, float64."""
        weight, offset = self.weight.to(x.device), self.offset.to(x.device)
        identity = torch.eye(len(offset), dtype=torch.float64, device=x.device)
        root = torch.linalg.cholesky(weight @ weight.T + self.noise**2 * identity)
        white = torch.linalg.solve_triangular(root, (x.to(torch.float64) - offset).T, upper=False)
        constant = root.diagonal().log().sum() + len(offset) / 2 * math.log(2 * math.pi)
        evidence: Tensor = -0.5 * white.square().sum(0) - constant
        return evidence


def linear_gaussian(
    n: Annotated[int, Ge(1), "training rows; validation and test have a fifth each"] = 1000,
    dim: Annotated[int, Ge(1), "entries of x"] = 8,
    latent: Annotated[int, Ge(1), "entries of z"] = 2,
    noise: Annotated[float, Ge(1e-4), "standard deviation of the noise"] = 0.5,
    seed: Annotated[int, Ge(0), "of the draw"] = 0,
) -> LinearGaussian:
    """Linear Gaussian: draws of x = W z + b + noise, with the exact log evidence.

    z is standard normal; entries of W are normal with variance 1 / latent and those of b standard normal,
    drawn once from the seed.

    Source: Tipping, Bishop (1999), "Probabilistic Principal Component Analysis", doi:10.1111/1467-9868.00196

    Args:
        n: training rows.
        dim: entries of x.
        latent: entries of z.
        noise: standard deviation.
        seed: of the draw.
    """
    rng = Rng(derive("linear-gaussian", seed))
    weight = rng.normal(dim, latent, dtype=torch.float64) / math.sqrt(latent)
    offset = rng.normal(dim, dtype=torch.float64)
    held = max(1, n // 5)
    rows = n + 2 * held
    z = rng.normal(rows, latent, dtype=torch.float64)
    x = z @ weight.T + offset + noise * rng.normal(rows, dim, dtype=torch.float64)
    return LinearGaussian(
        *splits(x, n, held),
        x=Space((dim,), "real"),
        digest=fingerprint("linear-gaussian", 1, n, dim, latent, float(noise), seed),
        binarization="none",
        weight=weight,
        offset=offset,
        noise=float(noise),
    )
