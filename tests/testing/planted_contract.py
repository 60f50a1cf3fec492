"""Estimators that break a promise other than their mean."""

import math
import random

import numpy as np
import torch

from tests.testing.planted_base import LOC, Planted, ScorePlanted, leave_one_out
from vbench.bounds import IWAE
from vbench.types import Estimate, Trait


class HiddenTorch(Planted):
    """Draws from torch's global generator."""

    needs = LOC

    def noise(self, rng, shape, dtype):
        return torch.randn(shape, dtype=dtype)

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.loc + q.scale * self.noise(rng, (self.k, *q.loc.shape), q.loc.dtype)
        value = self.bound(model.log_joint(batch, z) - q.log_prob(z))
        return Estimate(value.detach(), value)


class HiddenNumpy(HiddenTorch):
    """Draws from numpy's global generator."""

    def noise(self, rng, shape, dtype):
        return torch.from_numpy(np.random.randn(*shape)).to(dtype)  # noqa: NPY002 - the bug


class HiddenPython(HiddenTorch):
    """Draws from python's global generator."""

    def noise(self, rng, shape, dtype):
        random.random()
        return rng.normal(*shape, dtype=dtype)


class FreshNumpy(HiddenTorch):
    """A generator of its own, seeded by the system: no global state is touched."""

    def noise(self, rng, shape, dtype):
        return torch.from_numpy(np.random.default_rng().normal(size=shape)).to(dtype)


class SharedNoise(HiddenTorch):
    """One random number for all data."""

    def noise(self, rng, shape, dtype):
        return rng.normal(shape[0], 1, *shape[2:], dtype=dtype)


class FixedNoise(HiddenTorch):
    """The same draws at every step."""

    def noise(self, rng, shape, dtype):
        return rng.normal(*shape, dtype=dtype) * 0 + 0.3


class SingleNoise(HiddenTorch):
    """Noise in float32 whatever the model is in: the decoder sees rounded latents only where q is in float32 too."""

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        z = q.loc.float() + q.scale.float() * rng.normal(self.k, *q.loc.shape, dtype=torch.float32)
        value = self.bound(model.log_joint(batch, z) - q.log_prob(z))
        return Estimate(value.detach(), value)


class BatchBaseline(ScorePlanted):
    """A mean over the batch, the own datum included."""

    def __init__(self, k: int = 1) -> None:
        super().__init__(k)

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        signal = (log_w - log_w.mean()).detach()
        return Estimate(log_w.mean(0).detach(), (signal * score).mean(0) + log_w.mean(0))


class BatchNormalised(ScorePlanted):
    """The signal over its deviation in the batch."""

    def forward(self, model, batch, rng):
        _, score, log_w = self.parts(model, batch, rng)
        signal = (log_w - leave_one_out(log_w)).detach()
        return Estimate(log_w.mean(0).detach(), (signal / signal.std() * score).mean(0) + log_w.mean(0))


class IgnoredK(Planted):
    """Draws one sample, whatever K is."""

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng, k=1).mean(0)
        return Estimate(value.detach(), value)


class IgnoredKIwae(IgnoredK):
    """IWAE of one sample, whatever K is."""

    bound = IWAE()


class MoreSamples(IgnoredK):
    """Draws more samples than it declares."""

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng, k=2 * self.k).mean(0)
        return Estimate(value.detach(), value)


class BatchSum(Planted):
    """One number for the whole batch."""

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).mean(0)
        return Estimate(value.detach(), value.mean())


class LiveValue(Planted):
    """The value carries a gradient."""

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).mean(0)
        return Estimate(value, value)


class BadKind:
    linear, smooth, kind = True, True, "upper"

    def __call__(self, log_w):
        return log_w.mean(0)


class WrongSide(Planted):
    """Calls a lower bound an upper one."""

    bound = BadKind()

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).mean(0)
        return Estimate(value.detach(), value)


class NotLinear:
    linear, smooth, kind = True, True, "lower"

    def __call__(self, log_w):
        return log_w.logsumexp(0) - math.log(len(log_w))


class CallsItselfLinear(Planted):
    """IWAE that calls itself linear."""

    bound = NotLinear()

    def forward(self, model, batch, rng):
        value = self.bound(self.weights(model, batch, rng))
        return Estimate(value.detach(), value)


class MissingNeed(Planted):
    """Differentiates through the draws, and does not need it."""

    needs = frozenset({Trait.DENSITY, Trait.NORMALIZED, Trait.latent("real")})

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).mean(0)
        return Estimate(value.detach(), value)


class MissingNormalized(ScorePlanted):
    """REINFORCE on a density that need not be normalised."""

    needs = frozenset({Trait.DENSITY, Trait.PROPER_WEIGHT})

    def forward(self, model, batch, rng):
        q = model.posterior(batch)
        draw = q.draw(rng, self.k)
        z, log_q = draw.z.detach(), draw.log_q.detach()
        log_w = model.log_joint(batch, z) - log_q
        return Estimate(log_w.mean(0).detach(), (log_w.detach() * q.log_prob(z)).mean(0) + log_w.mean(0))


class Counting(Planted):
    """Keeps a running mean in a buffer."""

    def __init__(self, k: int = 2) -> None:
        super().__init__(k)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).mean(0)
        self.mean = 0.9 * self.mean + 0.1 * value.detach().mean()
        return Estimate(value.detach(), value)


class Branching(Planted):
    """Looks at a number: no vmap."""

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).mean(0)
        if float(value.detach().mean()) > 1e9:
            value = value * 2
        return Estimate(value.detach(), value)


class Sourceless(Planted):
    """Says not where it is from."""

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).mean(0)
        return Estimate(value.detach(), value)


# estimator -> beginnings of checks, each of which has to FAIL
CONTRACT_BUGS = {
    HiddenTorch: ["globals"],
    HiddenNumpy: ["globals"],
    HiddenPython: ["globals"],
    FreshNumpy: ["globals"],
    SharedNoise: ["separable-draws"],
    FixedNoise: ["exact[line,k=2]:value"],
    SingleNoise: ["dtype"],
    BatchBaseline: ["separable-data"],
    BatchNormalised: ["separable-data"],
    IgnoredK: ["evaluations"],
    IgnoredKIwae: ["exact[line,k=2]:value"],
    MoreSamples: ["evaluations"],
    BatchSum: ["shapes"],
    LiveValue: ["shapes"],
    WrongSide: ["kind"],
    CallsItselfLinear: ["linear"],
    MissingNeed: ["needs"],
    MissingNormalized: ["needs"],
    Counting: ["globals"],
    Branching: ["vmap"],
    Sourceless: ["source"],
}
