"""Encoders: a density that integrates to one, draws that follow it, honest traits, proper weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor

from vbench.measure.evaluations import watch_decoder
from vbench.model import Model
from vbench.rng import Rng
from vbench.testing.densities import CHUNK, DRAWS, Grid, features, follows, grid, in_chunks, mean_is, normalised, same
from vbench.testing.partners import batch_of, data_spaces, model_of, randomize, source_check, task, unrolls
from vbench.testing.subject import Subject
from vbench.testing.verdict import Check, Outcome, Verdict
from vbench.types import Batch, Encoder, Space, Trait

__all__ = ["encoder_checks"]

_ATTRIBUTES: Final = {
    Trait.DENSITY: ("log_prob",),
    Trait.LOGITS: ("logits",),
    Trait.LOC_SCALE: ("loc", "scale"),
    Trait.KL: ("kl",),
}


def encoder_checks(subject: Subject) -> Iterator[Check]:
    """Named checks of an encoder; its latent is made small where it takes ``latent``."""
    yield source_check(subject)
    declared: Any = getattr(subject.factory, "needs", frozenset())
    needs = declared if isinstance(declared, frozenset) else frozenset()
    x = data_spaces(needs)[0] if data_spaces(needs) else Space((4,), "binary")
    small: dict[str, Any] = {"classes": 3} if subject.has("classes") else {}
    sizes: tuple[int, ...] = (1, 2) if subject.has("latent") else (0,)
    if sizes == (1, 2) and "latent" in subject.small():  # a list: of a hierarchy
        sizes = (0,)
    if unrolls(subject):  # two steps of one latent each, and small nets: two real latents are a grid of many points
        x, sizes = Space((2, 2), x.support), sizes[:1]
        small |= {name: size for name, size in (("hidden", (6,)), ("memory", 3)) if subject.has(name)}
    elif sizes and subject.has("steps") and _of_steps(subject, x, small):
        sizes, small = sizes[:1], small | subject.small() | {"steps": 2}
    for latent in sizes:
        given = small | ({"latent": latent} if latent else {})
        encoder = subject.build(task(x), **given)
        if encoder.z.layers:
            encoder = subject.build(task(x), **given, **subject.small())
        randomize(encoder)
        if type(encoder).forward is Encoder.forward:
            yield Check(f"no-posterior[{encoder.z.support}-{encoder.z.size}]", lambda e=encoder: _silent(e))  # type: ignore[misc]
            continue
        model = model_of(x, encoder.z, encoder=encoder)
        batch = batch_of(x, missing=Trait.MISSING in encoder.needs)
        label = f"{encoder.z.support}-{encoder.z.size}"
        names = [("shapes", _shapes), ("offers", _offers), ("evaluations", _evaluations)]
        if Trait.NORMALIZED in encoder.offers:
            names.append(("normalised", _normalised))
        if {Trait.DENSITY, Trait.NORMALIZED} & encoder.offers:
            names.append(("draws", _draws))
        if {Trait.NORMALIZED, Trait.PROPER_WEIGHT} & encoder.offers:
            names.append(("proper-weight", _proper))
        if {Trait.PATHWISE, Trait.NORMALIZED} <= encoder.offers:
            names.append(("pathwise", _pathwise))
        if {Trait.KL, Trait.NORMALIZED} <= encoder.offers:
            names.append(("kl", _kl))
        for name, question in names:
            yield Check(f"{name}[{label}]", lambda q=question, m=model, b=batch: q(m, b))  # type: ignore[misc]


def _of_steps(subject: Subject, x: Space, given: dict[str, Any]) -> bool:
    """Whether its latents are [T, D]."""
    z: Space = subject.build(task(x), **given).z
    return z.support == "real" and len(z.shape) == 2


def _silent(encoder: Any) -> Outcome:
    """An encoder without a posterior offers nothing of one, and says what the latents are."""
    if encoder.offers:
        return Outcome(Verdict.FAIL, f"has no posterior, and offers {', '.join(sorted(encoder.offers))}")
    if not isinstance(encoder.z, Space):
        return Outcome(Verdict.FAIL, f"z is {encoder.z!r}, expected a Space")
    return Outcome(Verdict.PASS, "offers nothing")


def _shapes(model: Model, batch: Batch) -> Outcome:
    z: Space = model.encoder.z
    posterior: Any = model.posterior(batch)
    draw = posterior.draw(Rng(1), 2)
    wanted = (2, len(batch.x), *z.shape)
    if tuple(draw.z.shape) != wanted:
        return Outcome(Verdict.FAIL, f"draws have shape {tuple(draw.z.shape)}, expected {wanted}")
    if draw.z.dtype != torch.float64:
        return Outcome(Verdict.FAIL, f"draws are {draw.z.dtype} in a float64 model")
    if not torch.equal(draw.z, model.posterior(batch).draw(Rng(1), 2).z):
        return Outcome(Verdict.FAIL, "the same key gives other draws: take all randomness from rng")
    if draw.log_q is None:
        return Outcome(Verdict.PASS, "draws carry no log_q")
    if Trait.NORMALIZED not in model.encoder.offers:
        return Outcome(Verdict.PASS, str(list(wanted)))
    return same(draw.log_q, posterior.log_prob(draw.z), "log_q and log_prob of a draw")


def _offers(model: Model, batch: Batch) -> Outcome:
    """What is offered is there."""
    posterior: Any = model.posterior(batch)
    for trait, names in _ATTRIBUTES.items():
        missing = [name for name in names if trait in model.encoder.offers and not hasattr(posterior, name)]
        if missing:
            return Outcome(Verdict.FAIL, f"offers {trait}, and the posterior has no {missing[0]}")
    draw = posterior.draw(Rng(1), 2)
    if Trait.PATHWISE in model.encoder.offers and not draw.z.requires_grad:
        return Outcome(Verdict.FAIL, "offers pathwise, and draws carry no gradient")
    if {Trait.PROPER_WEIGHT, Trait.NORMALIZED} & model.encoder.offers and draw.log_q is None:
        return Outcome(Verdict.FAIL, "offers a proper weight, and draws carry no log_q")
    return Outcome(Verdict.PASS, ", ".join(sorted(model.encoder.offers)))


def _evaluations(model: Model, batch: Batch) -> Outcome:
    """What is asked of the decoder's net is asked through the decoder, where it is counted as a cost."""
    watched = copy.deepcopy(model)
    counted: list[int] = []
    made: list[int] = []
    watch_decoder(watched, lambda z, _: counted.append(z.shape[0] * z.shape[1]))
    net = next(part for part in watched.decoder.modules() if not list(part.children()))  # the first that it asks
    net.register_forward_pre_hook(lambda _, inputs: made.append(inputs[0].shape[0] * inputs[0].shape[1]))
    watched.posterior(batch).draw(Rng(1), 2)
    figure = f"makes {sum(made) / len(batch.x):g} decoder evaluations per datum for two draws"
    if sum(made) == sum(counted):
        return Outcome(Verdict.PASS, figure)
    told = f"{figure}, {sum(counted) / len(batch.x):g} are counted"
    return Outcome(Verdict.FAIL, f"{told}: call model.decoder or model.likelihood, not what is inside")


def _masses(model: Model, batch: Batch) -> tuple[Grid, Tensor]:
    """Log masses ``[S, B]``, without their graph."""
    points = grid(model.encoder.z)
    posterior: Any = model.posterior(batch)
    with torch.no_grad():
        log_q = in_chunks(points.points, lambda some: posterior.log_prob(_spread(some, batch)), CHUNK)
    return points, log_q + points.log_weight[:, None]


def _spread(points: Tensor, batch: Batch) -> Tensor:
    return points[:, None].expand(-1, len(batch.x), *points.shape[1:])


def _normalised(model: Model, batch: Batch) -> Outcome:
    return normalised(_masses(model, batch)[1])


def _draws(model: Model, batch: Batch) -> Outcome:
    """Draws of every datum follow its density, up to the normaliser; the worst is told."""
    points, masses = _masses(model, batch)
    masses = masses.log_softmax(0)
    with torch.no_grad():
        drawn = model.posterior(batch).draw(Rng(2), DRAWS).z
    found = [follows(drawn[:, b], masses[:, b], points, model.encoder.z) for b in range(len(batch.x))]
    return next((outcome for outcome in found if outcome.verdict is Verdict.FAIL), found[0])


def _proper(model: Model, batch: Batch) -> Outcome:
    """E[w h(z)] = p(x) E_post[h(z)] for h = 1, z and z^2, of real latents within a window around the draws.

    The window, a function of z alone, keeps w h bounded where q is narrower than the posterior. Where q is so far from
    it that few draws carry everything, what fails is asked again with h / (1 + w), of the density's own w, which bounds
    all. A simplex is made real by the log odds of each weight in what those before it have left.
    """
    points, z = grid(model.encoder.z), model.encoder.z
    with torch.no_grad():
        joint = model.log_joint(batch, _spread(points.points, batch)) + points.log_weight[:, None]
        draw = model.posterior(batch).draw(Rng(3), DRAWS)
        if draw.log_q is None:
            return Outcome(Verdict.FAIL, "draws carry no log_q")
        weight = (model.log_joint(batch, draw.z) - draw.log_q - joint.logsumexp(0)).exp()  # mean one
        pilot = model.posterior(batch).draw(Rng(4), 200).z
        h = _moments(draw.z, pilot, z)  # [K, B, F]
        terms = joint.softmax(0)[..., None] * _moments(_spread(points.points, batch), pilot, z)  # [S, B, F]
        found = mean_is((weight[..., None] * h).flatten(1), terms.sum(0).flatten())
        if found.verdict is Verdict.PASS or Trait.NORMALIZED not in model.encoder.offers or z.support != "real":
            return found
        posterior: Any = model.posterior(batch)
        own = model.log_joint(batch, draw.z) - posterior.log_prob(draw.z) - joint.logsumexp(0)
        weight = weight * (-own).sigmoid()
        everywhere = joint - joint.logsumexp(0) - _masses(model, batch)[1]
        if bool(everywhere.isposinf().any()):  # what q can never draw would be bounded away
            return found
        terms = terms * (-everywhere).sigmoid()[..., None]
    return mean_is((weight[..., None] * h).flatten(1), terms.sum(0).flatten())


def _moments(values: Tensor, pilot: Tensor, z: Space) -> Tensor:
    """1, z and z^2 ``[S, B, F]``; of what is unbounded in the pilot draws' units, and windowed."""
    if z.support not in ("real", "simplex"):
        return torch.cat([torch.ones_like(values.flatten(2)[..., :1]), features(values, z)], -1)
    if z.support == "simplex":
        values, pilot = map(_log_odds, (values, pilot))
    standard = ((values - pilot.mean(0)) / pilot.std(0)).flatten(2)
    window = (-standard.square().sum(-1, keepdim=True)).exp()
    return window * torch.cat([torch.ones_like(window), standard, standard.square()], -1)


def _log_odds(weights: Tensor) -> Tensor:
    return weights[..., :-1].log() - weights[..., 1:].flip(-1).cumsum(-1).flip(-1).log()


def _pathwise(model: Model, batch: Batch) -> Outcome:
    """The derivative of E[h(z)] along one direction of the parameters, through the draws and through the density."""
    z = model.encoder.z
    # a posterior that shares the steps of prior or decoder is made of its parameters too
    parts = (model.encoder, model.prior, model.decoder)
    parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(19)
    along = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    rng, each = Rng(4), list[Tensor]()
    while sum(map(len, each)) < DRAWS:
        slopes = _slopes(features(model.posterior(batch).draw(rng, CHUNK).z, z).sum(1), parameters, along)  # [K, F]
        if slopes is None:
            return Outcome(Verdict.FAIL, "no gradient flows through the draws")
        each.append(slopes)

    def terms(some: Tensor) -> Tensor:
        posterior: Any = model.posterior(batch)
        log_q = posterior.log_prob(_spread(some, batch))
        slopes = _slopes(log_q, parameters, along)
        return torch.zeros_like(log_q).sum(1) if slopes is None else (log_q.detach().exp() * slopes).sum(1)

    def found(points: Grid) -> Outcome:
        truth = in_chunks(points.points, terms, CHUNK) * points.log_weight.exp()
        return mean_is(torch.cat(each), (truth[:, None] * features(points.points, z)).sum(0))

    outcome = found(grid(z))
    if outcome.verdict is Verdict.FAIL and z.support == "real":
        # knots of a spline that move with the parameters make jumps in the integrand, which the rule is slow on
        outcome = found(grid(z, fine=4))
    return outcome


def _slopes(values: Tensor, parameters: list[Any], along: list[Tensor]) -> Tensor | None:
    """The derivative of every one of ``values`` along that direction, at once: backwards twice; None without a path."""
    dummy = torch.ones_like(values, requires_grad=True)
    pulled = torch.autograd.grad((dummy * values).sum(), parameters, create_graph=True, allow_unused=True)
    total = sum((g * v).sum() for g, v in zip(pulled, along, strict=True) if g is not None)
    return torch.autograd.grad(total, dummy)[0] if isinstance(total, Tensor) else None


def _kl(model: Model, batch: Batch) -> Outcome:
    """kl(prior) against its integral, the prior of the posterior's own family."""
    with torch.no_grad():
        points, masses = _masses(model, batch)
        log_p = model.prior_density(batch).log_prob(_spread(points.points, batch))
        log_q = masses - points.log_weight[:, None]
        # nothing times infinity is nothing
        terms = torch.where(masses > -700, masses.exp() * (log_q - log_p), 0)
        posterior: Any = model.posterior(batch)
        return same(posterior.kl(model.prior_density(batch)), terms.sum(0), "kl and its integral", 2e-3)
