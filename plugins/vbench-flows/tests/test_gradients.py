"""The ELBO's gradient at fixed quadrature noise against one that knows no log-determinant but autograd's."""

import math

import pytest
import torch
from flow_cases import ENCODERS, PRIORS, AtTheImage, FlippedSign, Nodes, data, encoder, few, log_det, prior, twisted

from tests import toys
from vbench import ELBO, Batch, DoublyReparameterized, Encoder, Model, Pathwise, Prior
from vbench.oracles.quadrature import nodes

MOVES = [name for name in ENCODERS if name != "householder"]
SMOOTH = [name for name in ENCODERS if not name.startswith("nsf")]  # a spline's log-determinant has kinks at its knots
LIMIT = {"radial": 0.05}  # a radial step has a cone at its centre, where a rule for smooth functions converges slowly


class Twisted(Encoder):
    """An encoder whose flow has a wrong step."""

    def __init__(self, right, wrong):
        super().__init__()
        self.right, self.wrong, self.z = right, wrong, right.z

    def forward(self, batch, model):
        return twisted(self.right(batch, model), self.wrong)


class TwistedPrior(Prior):
    def __init__(self, right, wrong):
        super().__init__()
        self.right, self.wrong = right, wrong

    def forward(self, batch, model):
        return twisted(self.right(batch, model).flat, self.wrong)


def model_of(inference, generation=None):
    partners = toys.gaussian(prior="normal")
    return Model(inference, partners.decoder, generation or partners.prior)


def by_part(value, model):
    """Gradients of a number, of each part in one vector."""
    parts = {part: list(getattr(model, part).parameters()) for part in ("encoder", "decoder", "prior")}
    found = torch.autograd.grad(
        value, [p for own in parts.values() for p in own], materialize_grads=True, allow_unused=True
    )
    found = iter(found)
    return {part: torch.cat([next(found).flatten() for _ in own]) for part, own in parts.items()}


def normal_density(noise):
    return -0.5 * noise.square().sum(-1) - math.log(2 * math.pi)


def truth(model, batch, count):
    """The exact ELBO's gradient: noise has a normal density, latents that over the Jacobian of all steps at once."""
    points, log_mass = nodes(count, 2)
    noise = points[:, None].expand(-1, len(batch.x), 2).clone().requires_grad_()
    z = model.posterior(batch).draw(Whole(noise), len(points)).z
    log_q = normal_density(noise) - log_det(lambda e: model.posterior(batch).draw(Whole(e), len(points)).z, noise, True)
    generation = model.prior_density(batch)
    log_p = generation.log_prob(z)
    if hasattr(generation, "flat"):

        def back(v):
            for step in reversed(generation.flat.steps):
                v, _ = step.pull(v)
            return v

        log_p = normal_density(back(z)) + log_det(back, z, True)
    log_w = model.log_likelihood(batch, z) + log_p - log_q
    return by_part((log_mass.exp()[:, None] * log_w).sum(0).mean(), model)


class Whole:
    """Noise given for every sample of every datum."""

    def __init__(self, noise):
        self.noise = noise

    def normal(self, *shape, dtype=None):
        return self.noise


def estimated(model, batch, count, rule):
    """The expectation of an estimator's gradient: each node stands for one copy of every datum."""
    points, log_mass = nodes(count, 2)
    size = len(batch.x)
    copies = Batch(batch.x.repeat_interleave(len(points), 0), torch.arange(size * len(points)))
    surrogate = rule(ELBO(), 1)(model, copies, Nodes(points.repeat(size, 1))).surrogate
    return by_part((log_mass.exp().repeat(size) * surrogate).sum() / size, model)


def off(found, exact):
    """Errors by part, relative to the length of each part's exact gradient."""
    return {part: float((found[part] - exact[part]).norm() / exact[part].norm()) for part in exact}


@pytest.mark.parametrize("name", few(ENCODERS))
def test_pathwise_gradient_of_every_part(name):
    model, batch = model_of(encoder(name, size=0.3)), data(2)
    exact = truth(model, batch, 24)
    assert max(off(estimated(model, batch, 24, Pathwise), exact).values()) < 1e-8
    if name in SMOOTH:  # so that it is the integral's
        assert max(off(exact, truth(model, batch, 36)).values()) < LIMIT.get(name, 5e-3)


@pytest.mark.parametrize("name", few(SMOOTH))
def test_doubly_reparameterised_gradient_of_every_part(name):
    model, batch = model_of(encoder(name, size=0.3)), data(2)
    assert max(off(estimated(model, batch, 36, DoublyReparameterized), truth(model, batch, 36)).values()) < LIMIT.get(
        name, 1e-2
    )


@pytest.mark.parametrize("wrong", [FlippedSign, pytest.param(AtTheImage, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", few(MOVES))
def test_a_wrong_step_is_seen_in_the_encoder_alone(name, wrong):
    right, batch = encoder(name, size=0.3), data(2)
    exact = truth(model_of(right), batch, 16)
    seen = off(estimated(model_of(Twisted(right, wrong)), batch, 16, Pathwise), exact)
    assert seen["encoder"] > 1e-5
    assert max(seen["decoder"], seen["prior"]) < 1e-8


@pytest.mark.parametrize("rule", [Pathwise, DoublyReparameterized])
@pytest.mark.parametrize("name", PRIORS)
def test_gradient_with_the_prior(name, rule):
    batch = data(2)
    model = model_of(toys.gaussian().encoder, prior(name, size=0.3))
    exact = truth(model, batch, 24)
    assert max(off(exact, truth(model, batch, 36)).values()) < 5e-3
    assert max(off(estimated(model, batch, 24, rule), exact).values()) < 1e-3
    wrong = model_of(model.encoder, TwistedPrior(model.prior, FlippedSign))
    assert min(off(estimated(wrong, batch, 24, rule), exact)[part] for part in ("encoder", "prior")) > 1e-2
