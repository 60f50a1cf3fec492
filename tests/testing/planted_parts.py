"""Encoders, decoders, priors and datasets with one mistake each."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from tests.testing.planted_followers import BrokenFollower, BrokenStepwise
from vbench.builtin.datasets.digits import digits
from vbench.families import Bernoulli, DiagonalNormal
from vbench.types import Batch, Decoder, Draw, Encoder, Prior, Space, Trait


@dataclass(frozen=True)
class Broken(DiagonalNormal):
    """A normal with a mistake; ``how`` says which."""

    how: str = ""

    def log_prob(self, z, mask=None):
        if self.how == "divides by exp(log variance) alone":  # PyTorch-VAE's VampVAE: the normaliser is wrong
            standard = (z - self.loc).square() / self.scale.square()
            return (-0.5 * standard - self.scale.square()).sum(-1)
        return super().log_prob(z, mask) + (0.5 if self.how.startswith("unnormalised") else 0)

    def draw(self, rng, k):
        made = super().draw(rng, k)
        z = made.z
        if self.how.endswith("draws too wide"):
            z = self.loc + 1.05 * (z - self.loc)
        if self.how == "shares draws":
            z = self.loc + self.scale * rng.normal(k, 1, *self.loc.shape[1:], dtype=self.loc.dtype)
        if self.how == "detached":
            z = z.detach()
        if self.how == "scale detached":
            z = self.loc + self.scale.detach() * ((z - self.loc) / self.scale).detach()
        if self.how == "global":
            z = self.loc + self.scale * torch.randn(k, *self.loc.shape, dtype=self.loc.dtype)
        log_q = self.log_prob(z)
        return Draw(z, log_q - 0.2 if self.how == "wrong log_q" else log_q)

    def kl(self, other):
        return other.kl(DiagonalNormal(self.loc, self.scale)) if self.how == "kl swapped" else super().kl(other)


class BrokenEncoder(Encoder):
    """Gaussian, one mistake.

    Source: nobody.
    """

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.LOC_SCALE, Trait.KL})

    def __init__(self, x: Space, latent: int = 4, how: str = "") -> None:
        super().__init__()
        self.z, self.how = Space((latent,)), how
        self.net = nn.Linear(x.size, 2 * latent)
        if how == "offers logits":
            self.offers = self.offers | {Trait.LOGITS}
        if how == "unnormalised and says so, draws too wide":
            self.offers = frozenset({Trait.DENSITY})

    def forward(self, batch, model):
        loc, raw = self.net(batch.x.flatten(1)).chunk(2, -1)
        if self.how == "asks the decoder behind the counter's back":
            fit = model.decoder.forward(loc[None], batch, model).log_prob(batch.x)[0, :, None]
            loc = loc + 0.01 * fit
        return Broken(loc, raw.exp(), self.how)


class BrokenPrior(Prior):
    """Gaussian, one mistake.

    Source: nobody.
    """

    needs = frozenset({Trait.latent("real")})

    def __init__(self, z: Space, how: str = "") -> None:
        super().__init__()
        self.how = how
        self.loc = nn.Parameter(torch.zeros(1, *z.shape))
        self.raw = nn.Parameter(torch.full((1, *z.shape), -0.6))

    def forward(self, batch, model):
        loc = self.loc.detach() if self.how == "never learns" else self.loc
        if self.how == "shows the encoder an input of its own":
            shown = torch.full((1, 4), 0.5, dtype=loc.dtype)
            loc = loc + model.encoder(Batch(shown, torch.arange(1)), model).loc
        return Broken(loc, self.raw.exp(), self.how)


@dataclass(frozen=True)
class Sticks:
    """The first weight is a share of the whole, the next a share of what is left; shares are logit-normal."""

    loc: torch.Tensor
    scale: torch.Tensor
    how: str

    def draw(self, rng, k):
        wide = 1.1 if self.how == "simplex, draws too wide" else 1
        odds = self.loc + wide * self.scale * rng.normal(k, *self.loc.shape, dtype=self.loc.dtype)
        left = torch.cat([torch.ones_like(odds[..., :1]), (-odds).sigmoid().cumprod(-1)], -1)
        z = left * torch.cat([odds.sigmoid(), torch.ones_like(odds[..., :1])], -1)
        return Draw(z, self.log_prob(z))

    def log_prob(self, z):
        left = z.flip(-1).cumsum(-1).flip(-1)
        odds = z[..., :-1].log() - left[..., 1:].log()
        log_q = -0.5 * ((odds - self.loc) / self.scale).square() - self.scale.log() - 0.5 * math.log(2 * math.pi)
        of_odds = log_q - z[..., :-1].log() - left[..., 1:].log() + 2 * left[..., :-1].log()
        of_left = 0 if self.how == "simplex, forgets what is left" else left[..., :-1].log()
        return (of_odds - of_left).sum(-1)


class BrokenSticks(Encoder):
    """On the simplex, one mistake.

    Source: nobody.
    """

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED})

    def __init__(self, x: Space, latent: int = 4, how: str = "") -> None:
        super().__init__()
        self.z, self.how = Space((latent + 1,), "simplex"), how
        self.net = nn.Linear(x.size, 2 * latent)

    def forward(self, batch, model):
        loc, raw = self.net(batch.x.flatten(1)).chunk(2, -1)
        return Sticks(loc, raw.exp(), self.how)


@dataclass(frozen=True)
class Layers:
    """Two layers, the second made from the first by a net; ``first`` says where the first stands in z."""

    first: DiagonalNormal
    net: nn.Module
    layers: tuple[int, ...]
    up: bool
    how: str

    def second(self, given):
        loc, raw = self.net(given).chunk(2, -1)
        return DiagonalNormal(loc, raw.exp())

    def draw(self, rng, k):
        given = self.first.draw(rng, k).z
        mean = self.first.loc.expand_as(given)
        made = self.second(mean if self.how == "hierarchy, condition is the mean" else given).sample(rng)
        z = torch.cat([given, made] if self.up else [made, given], -1)
        return Draw(z, self.log_prob(z))

    def log_prob(self, z):
        given, made = z.split(self.layers, -1)[:: 1 if self.up else -1]
        if self.how == "hierarchy, forgets a layer":
            return self.first.log_prob(given)
        if self.how == "hierarchy, layers swapped":
            given, made = made, given
        return self.first.log_prob(given) + self.second(given).log_prob(made)


class BrokenHierarchy(Encoder):
    """Two layers, one mistake.

    Source: nobody.
    """

    offers = frozenset({Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED})

    def __init__(self, x: Space, latent: Sequence[int] = (3, 2), how: str = "") -> None:
        super().__init__()
        self.z, self.how = Space((sum(latent),), layers=tuple(latent)), how
        self.net, self.above = nn.Linear(x.size, 2 * latent[0]), nn.Linear(latent[0], 2 * latent[1])

    def forward(self, batch, model):
        loc, raw = self.net(batch.x.flatten(1)).chunk(2, -1)
        return Layers(DiagonalNormal(loc, raw.exp()), self.above, self.z.layers, True, self.how)


class BrokenLayersPrior(Prior):
    """Two layers, one mistake.

    Source: nobody.
    """

    needs = frozenset({Trait.latent("real"), Trait.LAYERS})

    def __init__(self, z: Space, how: str = "") -> None:
        super().__init__()
        self.layers, self.how = z.layers, how
        self.top, self.below = nn.Parameter(torch.zeros(2, 1, z.layers[1])), nn.Linear(z.layers[1], 2 * z.layers[0])

    def forward(self, batch, model):
        return Layers(DiagonalNormal(self.top[0], self.top[1].exp()), self.below, self.layers, False, self.how)


@dataclass(frozen=True)
class Tilted:
    """(1 + a z) / area on a sphere."""

    a: torch.Tensor
    how: str

    def draw(self, rng, k):
        z = rng.normal(k, *self.a.shape, dtype=self.a.dtype)
        z = z / z.norm(dim=-1, keepdim=True)
        u = rng.uniform(k, len(self.a), dtype=self.a.dtype)
        turned = torch.zeros_like(u) if self.how == "sphere, never turned" else u > (1 + (self.a * z).sum(-1)) / 2
        z = torch.where(turned[..., None].bool(), -z, z)
        return Draw(z, self.log_prob(z))

    def log_prob(self, z):
        n = z.shape[-1]
        area = math.log(2) + n / 2 * math.log(math.pi) - math.lgamma(n / 2)
        volume = area - math.log(n)
        return (self.a * z).sum(-1).log1p() - (volume if self.how == "sphere, volume for area" else area)


class BrokenSphere(Prior):
    """On a sphere, one mistake.

    Source: nobody.
    """

    needs = frozenset({Trait.latent("sphere")})

    def __init__(self, z: Space, how: str = "") -> None:
        super().__init__()
        self.how = how
        self.raw = nn.Parameter(torch.linspace(0.5, 0.9, z.size)[None])

    def forward(self, batch, model):
        return Tilted(self.raw.tanh() / self.raw.shape[-1] ** 0.5, self.how)


@dataclass(frozen=True)
class BrokenBernoulli(Bernoulli):
    how: str = ""

    @property
    def mean(self):
        return self.logits if self.how == "mean of logits" else super().mean

    def sample(self, rng):
        if self.how == "samples flipped":
            return 1 - Bernoulli(self.logits).sample(rng)
        return Bernoulli(self.logits).sample(rng)

    def log_prob(self, x, mask=None):
        if self.how == "ignores the mask":
            mask = None
        if self.how == "mean over pixels":
            return super().log_prob(x, mask) / self.logits.shape[-1]
        return super().log_prob(x, mask)


class SilentEncoder(Encoder):
    """No posterior, one mistake.

    Source: nobody.
    """

    def __init__(self, latent: int = 2, how: str = "") -> None:
        super().__init__()
        self.z = Space((latent,))
        self.offers = frozenset({Trait.DENSITY}) if how else frozenset()


class BrokenDecoder(Decoder):
    """Bernoulli, one mistake.

    Source: nobody.
    """

    needs = frozenset({Trait.data("binary")})

    def __init__(self, x: Space, z: Space, how: str = "") -> None:
        super().__init__()
        self.net, self.shape, self.how = nn.Linear(z.size, x.size), x.shape, how

    def forward(self, z, batch, model):
        return BrokenBernoulli(self.net(z.flatten(2)).unflatten(2, self.shape), self.how)


def broken_data(how: str = ""):
    """Digits, one mistake.

    Source: nobody.
    """
    data = digits()
    if how == "test rows in train":
        return replace(data, test=data.train[:300], labels={})
    if how == "short digest":
        return replace(data, digest=data.digest[:12])
    if how == "new digest":
        return replace(data, digest=os.urandom(32).hex())
    if how == "greys called binary":
        return replace(data, binarization="none")
    if how == "not finite":
        floats = data.train / 255.0
        floats[3, 2, 1] = math.nan
        fixed = {"train": floats, "valid": data.valid / 255.0, "test": data.test / 255.0}
        return replace(data, **fixed, binarization="none", x=Space((8, 8), "unit"))
    return data


# (kind, factory, how, the check that has to FAIL)
PLANTED_PARTS = [
    ("encoder", BrokenEncoder, "divides by exp(log variance) alone", "normalised[real-1]"),
    ("encoder", BrokenEncoder, "unnormalised", "normalised[real-1]"),
    ("encoder", BrokenEncoder, "draws too wide", "draws[real-1]"),
    ("encoder", BrokenEncoder, "unnormalised and says so, draws too wide", "draws[real-1]"),
    ("encoder", BrokenEncoder, "detached", "offers[real-1]"),
    ("encoder", BrokenEncoder, "scale detached", "pathwise[real-1]"),
    ("encoder", BrokenEncoder, "global", "shapes[real-1]"),
    ("encoder", BrokenEncoder, "wrong log_q", "proper-weight[real-1]"),
    ("encoder", BrokenEncoder, "kl swapped", "kl[real-1]"),
    ("encoder", BrokenEncoder, "offers logits", "offers[real-1]"),
    ("encoder", BrokenSticks, "simplex, forgets what is left", "normalised[simplex-3]"),
    ("encoder", BrokenSticks, "simplex, draws too wide", "draws[simplex-2]"),
    ("encoder", BrokenHierarchy, "hierarchy, forgets a layer", "normalised[real-2]"),
    ("encoder", BrokenHierarchy, "hierarchy, condition is the mean", "draws[real-2]"),
    ("encoder", BrokenEncoder, "asks the decoder behind the counter's back", "evaluations[real-1]"),
    ("encoder", BrokenFollower, "steps, the density sees the first canvas alone", "draws[real-2]"),
    ("encoder", BrokenFollower, "steps, the decoder's parameters held in draws", "pathwise[real-2]"),
    ("encoder", BrokenFollower, "steps, behind the counter's back", "evaluations[real-2]"),
    ("encoder", SilentEncoder, "offers a density without a posterior", "no-posterior[real-1]"),
    ("prior", BrokenPrior, "divides by exp(log variance) alone", "normalised[real-1]"),
    ("prior", BrokenPrior, "unnormalised", "normalised[real-2]"),
    ("prior", BrokenPrior, "draws too wide", "draws[real-1]"),
    ("prior", BrokenPrior, "global", "shapes[real-1]"),
    ("prior", BrokenPrior, "never learns", "learns[real-2]"),
    ("prior", BrokenSphere, "sphere, volume for area", "normalised[sphere-3]"),
    ("prior", BrokenSphere, "sphere, never turned", "draws[sphere-2]"),
    ("prior", BrokenLayersPrior, "hierarchy, layers swapped", "draws[real-2]"),
    ("prior", BrokenPrior, "shows the encoder an input of its own", "amortized[real-1]"),
    ("decoder", BrokenDecoder, "mean of logits", "mean[binary, real latent]"),
    ("decoder", BrokenDecoder, "samples flipped", "samples[binary, real latent]"),
    ("decoder", BrokenDecoder, "ignores the mask", "mask[binary, real latent]"),
    ("decoder", BrokenDecoder, "mean over pixels", "normalised[binary, real latent]"),
    ("decoder", BrokenStepwise, "steps, samples flipped", "samples[binary, real latent]"),
    ("dataset", broken_data, "test rows in train", "splits"),
    ("dataset", broken_data, "short digest", "digest"),
    ("dataset", broken_data, "new digest", "digest"),
    ("dataset", broken_data, "greys called binary", "support"),
    ("dataset", broken_data, "not finite", "support"),
]
