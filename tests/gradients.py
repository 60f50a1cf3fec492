"""Is a gradient estimate right? n independent replicates against an exact gradient, with a stated error rate.

Each part (encoder, decoder, prior) and the value are judged apart. A verdict spends half of alpha on
Hotelling's T^2 of the mean vector (any wrong direction) and half on a z-test of the scale
r = <mean, g*> / |g*|^2 (a wrong factor, which T^2 sees last). Directions without variance must agree exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from vbench.model import Model
from vbench.rng import Rng
from vbench.types import Batch, Estimator

ALPHA = 1e-4  # false alarms per verdict; seeds are fixed, so a verdict never flickers
PARTS = ("encoder", "decoder", "prior")


class _Call(nn.Module):
    def __init__(self, model, estimator):
        super().__init__()
        self.model, self.estimator = model, estimator

    def forward(self, batch, key):
        return self.estimator(self.model, batch, Rng(key))


@dataclass(frozen=True)
class Replicates:
    """Independent gradients of the batch mean, ``[n, *shape]`` by name, and the values ``[n, B]``."""

    gradients: Mapping[str, Tensor]
    value: Tensor

    def part(self, name: str) -> Tensor:
        """All coordinates of one part, ``[n, p]``."""
        return torch.cat([g.flatten(1) for key, g in self.gradients.items() if key.startswith(f"model.{name}.")], 1)


def keys(n: int, seed: int = 0) -> Tensor:
    """n random keys ``[n]``."""
    return torch.randint(2**62, (n,), generator=torch.Generator().manual_seed(seed))


def gradient_function(model: Model, estimator: Estimator, batch: Batch):
    """``key -> (gradients by name, value [B])``, one replicate; vmap it over keys."""
    call = _Call(model, estimator)
    parameters = {name: p.detach() for name, p in call.named_parameters() if p.requires_grad}

    def objective(parameters, key):
        estimate = functional_call(call, parameters, (batch, key))
        return estimate.surrogate.mean(), estimate.value

    return lambda key: grad(objective, has_aux=True)(parameters, key)


def replicate(model: Model, estimator: Estimator, batch: Batch, n: int = 4096, seed: int = 0) -> Replicates:
    """n replicates, in chunks of lanes."""
    lanes = vmap(gradient_function(model, estimator, batch), randomness="error")
    chunks = [lanes(chunk) for chunk in keys(n, seed).split(2048)]
    names = chunks[0][0]
    return Replicates({k: torch.cat([g[k] for g, _ in chunks]) for k in names}, torch.cat([v for _, v in chunks]))


@dataclass(frozen=True)
class Verdict:
    """What a comparison found; ``p`` is the probability of so large a deviation from an unbiased estimate."""

    p: float
    ratio: float
    exact: bool  # directions without variance agree
    n: int
    rank: int

    @property
    def passed(self) -> bool:
        """Whether the estimate may be unbiased."""
        return self.exact and self.p > ALPHA


def judge(samples: Tensor, truth: Tensor) -> Verdict:
    """Whether the mean of ``samples [n, p]`` may be ``truth [p]``."""
    n = len(samples)
    error = samples.mean(0) - truth
    length = float(truth.norm())
    tolerance = 1e-6 * max(length, 1e-3)
    deviation = samples.std(0)
    varying = deviation > 1e-10 * max(float(samples.abs().max()), 1e-300)
    exact = bool((error[~varying].abs() <= tolerance).all())
    if not varying.any():
        return Verdict(1.0, 1.0, exact, n, 0)
    standard = (samples - samples.mean(0))[:, varying] / deviation[varying]
    values, vectors = torch.linalg.eigh(standard.T @ standard / (n - 1))
    real = values > 1e-9 * values[-1]
    along = vectors.T @ (error[varying] / deviation[varying])
    exact &= bool((along[~real].abs() <= 1e-6 * (truth[varying] / deviation[varying]).norm() + 1e-9).all())
    rank = int(real.sum())
    hotelling = n * float((along[real].square() / values[real]).sum())
    p_direction = stats.f.sf(hotelling * (n - rank) / (rank * (n - 1)), rank, n - rank)
    p_scale, ratio = 1.0, 1.0
    if length > 0:
        projected = samples @ truth / length**2
        ratio, spread = float(projected.mean()), float(projected.std())
        if spread > 1e-12:
            p_scale = 2 * stats.norm.sf(abs(ratio - 1) / spread * n**0.5)
    return Verdict(min(1.0, 2 * min(p_direction, p_scale)), ratio, exact, n, rank)


def verdicts(replicates: Replicates, value: Tensor, gradients: Mapping[str, Tensor]) -> dict[str, Verdict]:
    """One verdict for the value ``[B]`` and one for each part that has parameters."""
    found = {"value": judge(replicates.value, value)}
    for part in PARTS:
        truth = [g.flatten() for name, g in gradients.items() if name.startswith(f"{part}.")]
        if truth:
            found[part] = judge(replicates.part(part), torch.cat(truth))
    return found
