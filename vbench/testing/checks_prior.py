"""Priors: a density that integrates to one, and draws that follow it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch

from vbench.model import Model
from vbench.rng import Rng
from vbench.testing.densities import CHUNK, DRAWS, Grid, follows, grid, in_chunks, normalised, same
from vbench.testing.partners import batch_of, latents, model_of, randomize, source_check, unrolls
from vbench.testing.subject import Subject
from vbench.testing.verdict import Check, Outcome, Verdict
from vbench.types import Batch, Space, Trait

__all__ = ["prior_checks"]

_X = Space((4,), "binary")


def prior_checks(subject: Subject) -> Iterator[Check]:
    """Named checks of a prior, on every latent that it is made for."""
    yield source_check(subject)
    steps = unrolls(subject)
    x = Space((2, 2), "binary") if steps else _X
    for z, part in latents(subject, x):
        given = batch_of(x, 1) if steps else None  # what may come back to a prior that unrolls in time
        model = model_of(x, z, prior=randomize(part))
        label = f"{z.support}-{'x'.join(map(str, z.shape)) if steps else z.size}"
        for name, question in (
            ("shapes", _shapes),
            ("normalised", _normalised),
            ("draws", _draws),
            ("learns", _learns),
            ("amortized", _amortized),
        ):
            yield Check(f"{name}[{label}]", lambda q=question, m=model, z=z, g=given: q(m, z, g))  # type: ignore[misc]


def _shapes(model: Model, z: Space, given: Batch | None) -> Outcome:
    free = model.prior_density(None)
    draw = free.draw(Rng(1), 3)
    if tuple(draw.z.shape) != (3, 1, *z.shape):
        return Outcome(Verdict.FAIL, f"ancestral draws have shape {tuple(draw.z.shape)}, expected {(3, 1, *z.shape)}")
    if draw.z.dtype != torch.float64:
        return Outcome(Verdict.FAIL, f"draws are {draw.z.dtype} in a float64 model")
    if not torch.equal(draw.z, model.prior_density(None).draw(Rng(1), 3).z):
        return Outcome(Verdict.FAIL, "the same key gives other draws: take all randomness from rng")
    batch = batch_of(_X) if given is None else given._replace(x=given.x.expand(3, *given.x.shape[1:]))
    log_p = model.prior_density(batch).log_prob(draw.z.expand(3, 3, *z.shape))
    if tuple(log_p.shape) != (3, 3):
        return Outcome(Verdict.FAIL, f"log_prob has shape {tuple(log_p.shape)}, expected (3, 3)")
    if draw.log_q is None:
        return Outcome(Verdict.PASS, "draws carry no log_q")
    known = model.prior_density(given)
    draw = known.draw(Rng(1), 3)
    return same(cast(torch.Tensor, draw.log_q), known.log_prob(draw.z), "log_q and log_prob of a draw")


def _amortized(model: Model, z: Space, given: Batch | None) -> Outcome:
    """A prior that shows the encoder data of its own (pseudo-inputs) needs one that takes any data."""
    watched, asked = copy.deepcopy(model), list[str]()
    for part in watched.encoder.modules():  # a net inside it tells as much as the whole
        part.register_forward_pre_hook(lambda part, _: asked.append(type(part).__name__))
    density = watched.prior_density(given)
    density.log_prob(density.draw(Rng(1), 2).z)
    if asked and Trait.AMORTIZED not in model.prior.needs:
        return Outcome(Verdict.FAIL, f"runs the encoder ({asked[0]}), and does not need {Trait.AMORTIZED}")
    return Outcome(Verdict.PASS, "runs the encoder, and says so" if asked else "leaves the encoder alone")


def _masses(model: Model, z: Space, given: Batch | None) -> tuple[Grid, torch.Tensor]:
    points = grid(z)
    with torch.no_grad():
        density = model.prior_density(given)
        log_p = in_chunks(points.points[:, None], density.log_prob, CHUNK)
    return points, log_p + points.log_weight[:, None]


def _normalised(model: Model, z: Space, given: Batch | None) -> Outcome:
    return normalised(_masses(model, z, given)[1])


def _draws(model: Model, z: Space, given: Batch | None) -> Outcome:
    points, masses = _masses(model, z, given)
    with torch.no_grad():
        drawn = model.prior_density(given).draw(Rng(2), DRAWS).z[:, 0]
    return follows(drawn, masses[:, 0], points, z)


def _learns(model: Model, z: Space, given: Batch | None) -> Outcome:
    """Every trained parameter moves the density."""
    named: dict[str, Any] = {n: p for n, p in model.prior.named_parameters() if p.requires_grad}
    if not named:
        return Outcome(Verdict.PASS, "nothing to learn")
    points = model.prior_density(given).draw(Rng(3), 50).z.detach()
    log_p = (model.prior_density(given).log_prob(points) * torch.linspace(0.5, 1.5, 50)[:, None]).sum()
    found = torch.autograd.grad(log_p, list(named.values()), allow_unused=True, materialize_grads=True)
    idle = [name for name, g in zip(named, found, strict=True) if not g.any() and g.numel() > 1]
    return Outcome(Verdict.FAIL, f"{idle[0]} gets no gradient") if idle else Outcome(Verdict.PASS, f"{len(named)}")
