"""The models that estimators are judged on: small, exact answers known, asymmetric on purpose.

Batch 3, data of 5, latents of 4 (binary), 2 x 4 (categorical), 1 or 2 (Gaussian); every parameter is drawn, nothing
is centred, and the posterior is far from the true one. Parameters lead with a dimension of rows: one row is
shared by all data, and :func:`expanded` gives each datum its own, so that one backward pass yields as many
gradient replicates as there are data.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vbench.families import Bernoulli, Categorical, DiagonalNormal
from vbench.model import Model, rebuilt
from vbench.types import Batch, Decoder, Encoder, Prior, Space, Trait

__all__ = [
    *("MEAN", "X", "Affine", "batch", "binary", "categorical", "expanded", "line", "linear_gaussian", "pseudo"),
    *("randomized", "rows", "stress"),
]

X = Space((5,), "binary")
REAL = Space((5,))
MEAN = torch.tensor([0.3, 0.45, 0.2, 0.6, 0.35])
_DISCRETE = frozenset(
    {Trait.DENSITY, Trait.NORMALIZED, Trait.LOGITS, Trait.ENUMERABLE, Trait.RELAXABLE, Trait.AMORTIZED, Trait.KL}
)
_GAUSSIAN = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.LOC_SCALE, Trait.AMORTIZED, Trait.KL})


def rows(parameter: Tensor, batch: Batch | None) -> Tensor:
    """The parameter's row of each datum; one row serves all."""
    return parameter if batch is None or len(parameter) == 1 else parameter[batch.index]


class Affine(nn.Module):
    """``[..., N, inputs] -> [..., N, outputs]`` with a row of weights for each of N."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(1, outputs))

    def forward(self, v: Tensor, batch: Batch | None) -> Tensor:
        # a sum, not a batched product: the same last bits under vmap and alone
        return (v[..., None, :] * rows(self.weight, batch)).sum(-1) + rows(self.bias, batch)


class AffineEncoder(Encoder):
    """Parameters of q affine in x; the family follows from the support of z."""

    def __init__(self, x: Space, z: Space) -> None:
        super().__init__()
        self.z = z
        self.offers = _GAUSSIAN if z.support == "real" else _DISCRETE
        self.net = Affine(x.size, z.size * (2 if z.support == "real" else 1))

    def forward(self, batch: Batch, model: Any) -> Any:
        """q(z | x)."""
        raw = self.net(batch.x, batch)
        if self.z.support == "real":
            loc, log_scale = raw.chunk(2, -1)
            return DiagonalNormal(loc, log_scale.exp())
        return Bernoulli(raw) if self.z.support == "binary" else Categorical(raw.unflatten(-1, self.z.shape))


class AffineDecoder(Decoder):
    """Bernoulli or normal likelihood, affine in z."""

    def __init__(self, x: Space, z: Space) -> None:
        super().__init__()
        self.net = Affine(z.size, x.size)
        self.log_scale = nn.Parameter(torch.zeros(1, x.size)) if x.support == "real" else None

    def forward(self, z: Tensor, batch: Batch | None, model: Any) -> Any:
        """p(x | z)."""
        raw = self.net(z.flatten(2), batch)
        if self.log_scale is None:
            return Bernoulli(raw)
        return DiagonalNormal(raw, rows(self.log_scale, batch).exp().expand_as(raw))


class FactorizedPrior(Prior):
    """Learned and factorised, of the posterior's family."""

    offers = frozenset({Trait.FACTORIZED_PRIOR})

    def __init__(self, z: Space) -> None:
        super().__init__()
        self.support = z.support
        self.raw = nn.Parameter(torch.zeros(1, *z.shape))
        self.log_scale = nn.Parameter(torch.zeros(1, *z.shape)) if z.support == "real" else None

    def forward(self, batch: Batch | None, model: Any) -> Any:
        """p(z)."""
        raw = rows(self.raw, batch)
        if self.log_scale is not None:
            return DiagonalNormal(raw, rows(self.log_scale, batch).exp())
        return Bernoulli(raw) if self.support == "binary" else Categorical(raw)


class PseudoPrior(Prior):
    """The posterior at a learned pseudo-input, a VampPrior of one component: the encoder has a direct part in log p."""

    needs = frozenset({Trait.POSTERIOR})

    def __init__(self, x: Space) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.zeros(1, x.size))

    def forward(self, batch: Batch | None, model: Any) -> Any:
        """p(z) = q(z | u)."""
        u = rows(self.input, batch)
        index = batch.index if batch is not None else torch.arange(len(u))
        return model.posterior(Batch(u, index))


def randomized(model: Model, seed: int, size: float) -> Model:
    generator = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 + size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def _model(x: Space, z: Space, prior: Prior | None, seed: int, size: float = 0.5) -> Model:
    model = Model(AffineEncoder(x, z), AffineDecoder(x, z), prior or FactorizedPrior(z))
    return randomized(model, seed, size)


def binary() -> Model:
    """Four binary latents, 16 states."""
    return _model(X, Space((4,), "binary"), None, 1)


def categorical() -> Model:
    """Two latents of four classes, 16 states."""
    return _model(X, Space((2, 4), "categorical"), None, 2)


def stress() -> Model:
    """Two binary latents with probabilities near 0 and 1: no number of draws shows it right, exact sums do."""
    model = _model(X, Space((2,), "binary"), None, 3)
    with torch.no_grad():
        model.encoder.net.bias += torch.tensor([7.0, -8.0])  # type: ignore[union-attr,operator]
    return model


def linear_gaussian() -> Model:
    """Two Gaussian latents, affine decoder with a noise scale for each of the data's dimensions."""
    model = _narrow(_model(REAL, Space((2,)), None, 4, 0.3))
    with torch.no_grad():
        model.decoder.get_parameter("log_scale").add_(0.3)
    return model


def line() -> Model:
    """One Gaussian latent, Bernoulli data."""
    return _narrow(_model(X, Space((1,)), None, 1, 0.4))


def pseudo() -> Model:
    """One Gaussian latent, the prior made by the encoder."""
    return _narrow(_model(X, Space((1,)), PseudoPrior(X), 10, 0.4))


def _narrow(model: Model) -> Model:
    with torch.no_grad():
        model.encoder.net.bias[:, model.encoder.z.size :] -= 0.5  # type: ignore[union-attr,index,operator]
    return model


def batch(real: bool = False, size: int = 3) -> Batch:
    """Data that no model made; no two rows are the same."""
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(size, X.size, generator=generator, dtype=torch.float64)
    return Batch(x + 0.4 if real else (x > 0.2).double(), torch.arange(size))


def expanded(model: Model, batch: Batch, times: int) -> tuple[Model, Batch]:
    """``times`` copies of the batch, each datum of each copy with parameters of its own, leaves that want gradients."""
    size = len(batch.x) * times
    model = rebuilt(model, lambda t: t.detach().expand(size, *t.shape[1:]).contiguous().requires_grad_())
    repeats = (times, *[1] * (batch.x.dim() - 1))
    mask = None if batch.mask is None else batch.mask.repeat(repeats)
    return model, batch._replace(x=batch.x.repeat(repeats), index=torch.arange(size), mask=mask)
