"""Decoders: a likelihood that integrates to one, samples and a mean that follow it, masks that marginalise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vbench.model import Model
from vbench.rng import Rng
from vbench.testing.densities import DRAWS, Grid, follows, grid, in_chunks, normalised, same
from vbench.testing.partners import batch_of, data_spaces, latents, model_of, randomize, source_check
from vbench.testing.subject import Subject
from vbench.testing.verdict import Check, Outcome, Verdict
from vbench.types import Batch, Incompatible, Likelihood, Space

__all__ = ["decoder_checks"]


def decoder_checks(subject: Subject) -> Iterator[Check]:
    """Named checks of a decoder, on small data of every kind that it serves."""
    yield source_check(subject)
    declared: Any = getattr(subject.factory, "needs", frozenset())
    needs = declared if isinstance(declared, frozenset) else frozenset()
    for x in data_spaces(needs):
        for z, part in latents(subject, x)[:3:2]:
            model = model_of(x, z, decoder=randomize(part))
            label = f"{x.support}, {z.support} latent"
            for name, question in (
                ("shapes", _shapes),
                ("normalised", _normalised),
                ("samples", _samples),
                ("mean", _mean),
                ("mask", _mask),
            ):
                yield Check(f"{name}[{label}]", lambda q=question, m=model, x=x, z=z: q(m, x, z))  # type: ignore[misc]


def _latent(z: Space, count: int = 1) -> Tensor:
    """One latent ``[1, count, *Z]``, the same for all."""
    if z.support == "real":
        one = torch.linspace(-0.7, 1.1, z.size, dtype=torch.float64).reshape(z.shape)
    else:
        one = grid(z).points[-2]
    return one.expand(1, count, *z.shape)


def _shapes(model: Model, x: Space, z: Space) -> Outcome:
    latent = torch.cat([_latent(z, 3)] * 2)
    batch = batch_of(x)
    likelihood = model.likelihood(batch, latent)
    free = model.likelihood(None, latent)
    wanted = (2, 3, *x.shape)
    mean = _closed_mean(likelihood)
    for name, found, expected in (
        ("log_prob", likelihood.log_prob(batch.x), (2, 3)),
        *([] if isinstance(mean, Incompatible) else [("mean", mean, wanted)]),
        ("sample", free.sample(Rng(1)), wanted),
    ):
        if tuple(found.shape) != expected:
            return Outcome(Verdict.FAIL, f"{name} has shape {tuple(found.shape)}, expected {expected}")
        if found.dtype != torch.float64:
            return Outcome(Verdict.FAIL, f"{name} is {found.dtype} in a float64 model")
    if not torch.equal(free.sample(Rng(1)), model.likelihood(None, latent).sample(Rng(1))):
        return Outcome(Verdict.FAIL, "the same key gives other samples: take all randomness from rng")
    return Outcome(Verdict.PASS, str(list(wanted)))


def _closed_mean(likelihood: Likelihood) -> Tensor | Incompatible:
    """E[x | z], or why there is none to be had."""
    try:
        return likelihood.mean
    except Incompatible as why:
        return why


def _masses(model: Model, x: Space, z: Space) -> tuple[Grid, Tensor]:
    """Log mass of every point of the data's grid for one latent, ``[S]``."""
    points = grid(x)

    def ask(piece: Tensor) -> Tensor:
        batch = Batch(piece, torch.arange(len(piece)))
        return model.log_likelihood(batch, _latent(z, len(piece)))[0]

    with torch.no_grad():
        return points, in_chunks(points.points, ask) + points.log_weight


def _normalised(model: Model, x: Space, z: Space) -> Outcome:
    return normalised(_masses(model, x, z)[1][:, None])


def _samples(model: Model, x: Space, z: Space) -> Outcome:
    points, masses = _masses(model, x, z)
    with torch.no_grad():
        drawn = model.likelihood(None, _latent(z, DRAWS)).sample(Rng(2))[0]
    return follows(drawn, masses, points, x)


def _mean(model: Model, x: Space, z: Space) -> Outcome:
    points, masses = _masses(model, x, z)
    expected = torch.tensordot(masses.exp(), points.points, 1)
    with torch.no_grad():
        mean = _closed_mean(model.likelihood(None, _latent(z)))
        if isinstance(mean, Incompatible):
            return Outcome(Verdict.PASS, f"says that it has none: {mean}")
        return same(mean[0, 0], expected, "mean and E[x]", 5e-3)


def _mask(model: Model, x: Space, z: Space) -> Outcome:
    """What is not observed is summed out."""
    points, masses = _masses(model, x, z)
    mask = torch.ones(x.shape, dtype=torch.bool)
    mask.view(-1)[-1] = False  # the last: of a sequence, what is missing may have come back
    seen = points.points[len(points.points) // 3][None]
    with torch.no_grad():
        found = model.log_likelihood(Batch(seen, torch.arange(1), mask=mask[None]), _latent(z))[0, 0]
    alike = ((points.points == seen) | ~mask).flatten(1).all(1)
    expected = (masses - torch.where(mask, points.log_steps, 0).flatten(1).sum(1))[alike].logsumexp(0)
    return same(found[None], expected[None], "masked log_prob and the sum over what is hidden", 2e-3)
