"""Sequences of a linear-Gaussian chain, whose evidence is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor

from vbench import Rng, Space, TensorDataset, derive, fingerprint
from vbench.oracles import kalman

__all__ = ["LinearGaussianSequences", "linear_gaussian_chain"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearGaussianSequences(TensorDataset):
    """Draws of a linear-Gaussian chain, of different lengths.

    Attributes:
        chain: the model that they are drawn from.
    """

    chain: kalman.LinearGaussianChain

    def log_evidence(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Exact log p(x) of the observed entries of ``[B, T, X]`` -> ``[B]``, nats, float64."""
        return kalman.log_evidence(self.chain, x, mask)


def linear_gaussian_chain(
    n: Annotated[int, Ge(1), "training sequences; validation and test have a fifth each"] = 500,
    steps: Annotated[int, Ge(2), "of the longest sequence; the shortest has half as many"] = 8,
    dim: Annotated[int, Ge(1), "entries of a step"] = 3,
    latent: Annotated[int, Ge(1), "latent variables of a step"] = 2,
    noise: Annotated[float, Gt(0), "standard deviation of the data's noise"] = 0.5,
    seed: Annotated[int, Ge(0), "of the draw"] = 0,
) -> LinearGaussianSequences:
    """Sequences of a linear-Gaussian chain, x_t = C z_t + noise, z_t = A z_t-1 + noise, exact evidence.

    A turns and shrinks (0.9 times a random rotation), entries of C are normal with variance 1 / latent, and the first
    latent and the noise of the others are standard normal. Lengths are uniform between half of ``steps`` and ``steps``.

    Source: Kalman (1960), A New Approach to Linear Filtering and Prediction Problems, doi:10.1115/1.3662552.
    """
    rng = Rng(derive("linear-gaussian-chain", seed))

    def draw(*shape: int) -> Tensor:
        return rng.normal(*shape, dtype=torch.float64)

    transition, emission = 0.9 * torch.linalg.qr(draw(latent, latent))[0], draw(dim, latent) / latent**0.5
    held = max(1, n // 5)
    count = n + 2 * held
    z, data = draw(count, latent), []
    for _ in range(steps):
        data.append(z @ emission.T + noise * draw(count, dim))
        z = z @ transition.T + draw(count, latent)
    least = (steps + 1) // 2
    length = least + (rng.uniform(count, dtype=torch.float64) * (steps - least + 1)).long()
    mask = (torch.arange(steps) < length[:, None])[..., None].expand(-1, -1, dim)
    x = torch.where(mask, torch.stack(data, 1), 0).float()

    def cut(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return rows[:n], rows[n : n + held], rows[n + held :]

    identity = torch.eye(latent, dtype=torch.float64)
    return LinearGaussianSequences(
        *cut(x),
        x=Space((steps, dim), "real"),
        digest=fingerprint("linear-gaussian-chain", 1, n, steps, dim, latent, float(noise), seed),
        binarization="none",
        masks=dict(zip(("train", "valid", "test"), cut(mask), strict=True)),
        chain=kalman.LinearGaussianChain(
            transition=transition,
            transition_covariance=identity,
            emission=emission,
            emission_covariance=noise**2 * torch.eye(dim, dtype=torch.float64),
            initial_mean=torch.zeros(latent, dtype=torch.float64),
            initial_covariance=identity,
        ),
    )
