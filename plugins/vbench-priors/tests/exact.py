"""ELBO gradients by part: the exact one, by an integral over the latents, and that of a rule, at given noise."""

import torch

from tests import toys
from vbench import Model, Space
from vbench.oracles.quadrature import nodes
from vbench.testing.densities import grid

PARTS = ("encoder", "decoder", "prior")


class Given:
    """Stands in for random numbers."""

    def __init__(self, uniform=None, normal=None):
        self.given = {"uniform": uniform, "normal": normal}

    def uniform(self, *shape, dtype=None):
        return self._of("uniform", shape)

    def normal(self, *shape, dtype=None):
        return self._of("normal", shape)

    def _of(self, kind, shape):
        noise = self.given[kind]  # [S, ...], the same for all data
        return noise[:, None].expand(shape)


class Weighted:
    """The mean over nodes of unlike mass; to the rules, a bound as linear as the ELBO."""

    linear = smooth = True
    kind = "lower"

    def __init__(self, mass):
        self.mass = mass

    def __call__(self, log_w):
        return (self.mass[:, None] * log_w).sum(0)


def even(size, dimensions):
    """Nodes and masses of the uniform distribution: midpoints in the log odds, as good where a function is infinite."""
    odds = torch.linspace(-34, 34, size, dtype=torch.float64)
    u, mass = odds.sigmoid(), odds.sigmoid() * (-odds).sigmoid() * (odds[1] - odds[0])
    u, mass = (torch.cartesian_prod(*[v] * dimensions).reshape(-1, dimensions) for v in (u, mass))
    return u, mass.prod(1)


def gaussian(size, dimensions):
    points, log_mass = nodes(size, dimensions)
    return points, log_mass.exp()


def by_part(value, model):
    """Gradients of a number, of each part in one vector."""
    parts = {part: list(getattr(model, part).parameters()) for part in PARTS}
    parts = {part: [p for p in own if p.requires_grad] for part, own in parts.items()}
    found = torch.autograd.grad(
        value, [p for own in parts.values() for p in own], materialize_grads=True, allow_unused=True
    )
    found = iter(found)
    return {part: torch.cat([next(found).flatten() for _ in own]) for part, own in parts.items() if own}


def truth(model, batch, log_prior=None, points=None):
    """The exact gradient: no draw, no path, but log densities summed over all of the latents' space."""
    space = grid(model.encoder.z)
    z = space.points[:, None].expand(-1, len(batch.x), *model.encoder.z.shape)
    log_q = model.posterior(batch).log_prob(z)
    log_p = model.prior_density(batch).log_prob(z) if log_prior is None else log_prior(z)
    terms = (log_q + space.log_weight[:, None]).exp() * (model.log_likelihood(batch, z) + log_p - log_q)
    return by_part(torch.where(log_q > -600, terms, 0).sum(0).mean(), model)


def estimated(model, batch, rule, rng, mass):
    """The expectation of a rule's gradient."""
    return by_part(rule(Weighted(mass), len(mass))(model, batch, rng).surrogate.mean(), model)


def off(found, exact):
    """Errors by part, relative to the length of each part's exact gradient."""
    return {part: float((found[part] - exact[part]).norm() / exact[part].norm()) for part in exact}


def model_of(encoder, prior, seed=3, size=0.5):
    """With a decoder of the toys; everything drawn, nothing near an optimum."""
    plain = toys.gaussian()
    decoder = type(plain.decoder)(toys.X, Space(encoder.z.shape), toys.MEAN, hidden=(3,))
    return toys.randomize(Model(encoder, decoder, prior), seed, size)
