"""Pathwise gradients of the ELBO, each part apart, against sums over base noise by code of its own."""

import pytest
import torch
from torch.distributions import Normal
from vbench_hmc import hvae as hvae_module
from vbench_hmc import hvi as hvi_module
from vbench_hmc import langevin as langevin_module
from vbench_hmc.hvae import HVAE
from vbench_hmc.hvi import HVI
from vbench_hmc.langevin import Langevin
from vbench_hmc.reverse import ReverseModel

from vbench import ELBO, Pathwise, Rng
from vbench.dynamics import Point, field
from vbench.testing import models

BATCH = models.batch()


class Weighted:
    """A mean over nodes that do not count alike."""

    kind, linear, smooth = "lower", True, True

    def __init__(self, log_mass):
        self.mass = log_mass.exp()

    def __call__(self, log_w):
        return (self.mass * log_w).sum(0)


def guess(model, noise):
    loc, log_scale = model.encoder.initial.net(BATCH.x).chunk(2, -1)
    z = loc + log_scale.exp() * noise
    return z, Normal(loc, log_scale.exp()).log_prob(z)[..., 0], (loc, log_scale.exp())


def slope(log_density, z):
    z = z if z.requires_grad else z.requires_grad_()
    return torch.autograd.grad(log_density(z).sum(), z, create_graph=True)[0]


def reverse_normal(net, z):
    hidden = (BATCH.x @ net.of_x.weight.T + net.of_x.bias + z @ net.of_z.weight.T).tanh()
    loc, log_scale = (hidden @ net.output.weight.T + net.output.bias).chunk(2, -1)
    return loc, log_scale.exp()


def hvi_log_weight(model, noise):
    encoder = model.encoder
    z, log_q, _ = guess(model, noise[0])
    mass = encoder.log_mass.exp()
    for t, net in enumerate(encoder.reverse):
        p, step = mass.sqrt() * noise[1 + t], encoder.log_step[t].exp()
        log_q = log_q + Normal(0.0, mass.sqrt()).log_prob(p)[..., 0]
        for _ in range(encoder.leapfrog):
            p = p + step / 2 * slope(lambda z: model.log_joint(BATCH, z), z)
            z = z + step * p / mass
            p = p + step / 2 * slope(lambda z: model.log_joint(BATCH, z), z)
        loc, scale = reverse_normal(net, z)
        log_q = log_q - Normal(mass.sqrt() * loc, mass.sqrt() * scale).log_prob(p)[..., 0]
    return model.log_joint(BATCH, z) - log_q


def hvae_log_weight(model, noise):
    """The Jacobian by automatic differentiation of the whole map, two by two for each node and datum."""
    encoder = model.encoder
    z0, log_q, _ = guess(model, noise[0])
    root = encoder.raw_cooling.sigmoid() if encoder.raw_cooling is not None else torch.ones(1, dtype=torch.float64)
    free = len(root) > 1
    v0 = noise[1].expand_as(z0) / root.prod()
    log_q = log_q + Normal(0.0, 1 / root.prod()).log_prob(v0)[..., 0]
    v0.requires_grad_() if not v0.requires_grad else None
    z, v, count, step = z0, v0, encoder.leapfrog, encoder.max_step * encoder.raw_step.sigmoid()

    def inverse_root(t):  # of beta_t, from the paper's quadratic schedule
        return (1 - 1 / root[0]) * t**2 / count**2 + 1 / root[0]

    for t in range(1, count + 1):
        v = v + step / 2 * slope(lambda z: model.log_joint(BATCH, z), z)
        z = z + step * v
        v = v + step / 2 * slope(lambda z: model.log_joint(BATCH, z), z)
        v = v * (root[t - 1] if free else inverse_root(t) / inverse_root(t - 1))
    row = [torch.autograd.grad(end.sum(), (z0, v0), create_graph=True) for end in (z, v)]
    volume = (row[0][0] * row[1][1] - row[0][1] * row[1][0]).abs().log()[..., 0]
    return model.log_joint(BATCH, z) + Normal(0.0, 1.0).log_prob(v)[..., 0] - (log_q - volume)


def langevin_log_weight(model, noise):
    encoder = model.encoder
    z, log_q, (loc, scale) = guess(model, noise[0])
    for t, net in enumerate(encoder.reverse):
        step = encoder.log_step[t].exp()
        beta = 1.0 if encoder.raw_beta is None else encoder.raw_beta.softmax(0)[: t + 1].sum()

        def target(z, beta=beta):
            return beta * model.log_joint(BATCH, z) + (1 - beta) * Normal(loc, scale).log_prob(z)[..., 0]

        ahead = z + step**2 / 2 * slope(target, z)
        new = ahead + step * noise[1 + t]
        back = new + step**2 / 2 * slope(target, new)
        of_loc, of_scale = reverse_normal(net, new)
        log_q = log_q + Normal(ahead, step).log_prob(new)[..., 0]
        log_q = log_q - Normal(back + step * of_loc, step * of_scale).log_prob(z)[..., 0]
        z = new
    return model.log_joint(BATCH, z) - log_q


CASES = {
    "hvi": (HVI, {"leapfrog": 2, "step": 0.4, "reverse_hidden": 3}, hvi_log_weight, 2),
    "hvi, two updates": (HVI, {"updates": 2, "leapfrog": 1, "step": 0.4, "reverse_hidden": 3}, hvi_log_weight, 3),
    "hvae, none": (HVAE, {"leapfrog": 2, "step": 0.3, "tempering": "none"}, hvae_log_weight, 2),
    "hvae, fixed": (HVAE, {"leapfrog": 3, "step": 0.3, "tempering": "fixed"}, hvae_log_weight, 2),
    "hvae, free": (HVAE, {"leapfrog": 2, "step": 0.3, "tempering": "free"}, hvae_log_weight, 2),
    "langevin": (Langevin, {"steps": 1, "step": 0.7, "reverse_hidden": 3}, langevin_log_weight, 2),
    "langevin, annealed": (
        Langevin,
        {"steps": 2, "step": 0.5, "reverse_hidden": 3, "annealed": True},
        langevin_log_weight,
        3,
    ),
}


def by_part(model, value):
    named = dict(model.named_parameters())
    found = torch.autograd.grad(value.mean(), list(named.values()), allow_unused=True, materialize_grads=True)
    parts = {"encoder": [], "decoder": [], "prior": []}
    for name, gradient in zip(named, found, strict=True):
        parts[name.partition(".")[0]].append(gradient.flatten())
    return {part: torch.cat(gradients) for part, gradients in parts.items()}


def truth(name, around, rule, side=None):
    factory, parameters, log_weight, noise = CASES[name]
    model = around(factory, size=0.4, **parameters)
    points, log_mass = rule(noise, side or (61 if noise == 2 else 31), 8.0 if noise == 2 else 6.5)
    columns = [column[:, None, None] for column in points.unbind(1)]
    value = (log_mass.exp() * log_weight(model, columns)).sum(0)
    return model, value.detach(), by_part(model, value)


def estimated(name, model, rule, nodes):
    noise = CASES[name][3]
    points, log_mass = rule(noise, 61 if noise == 2 else 31, 8.0 if noise == 2 else 6.5)
    made = Pathwise(Weighted(log_mass), len(points))(model, BATCH, nodes(points))
    return made.value, by_part(model, made.surrogate)


def distance(found, exact):
    return {part: float((found[part] - exact[part]).norm() / exact[part].norm()) for part in exact}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_of_the_elbo(name, around, rule, nodes):
    model, value, exact = truth(name, around, rule)
    found_value, found = estimated(name, model, rule, nodes)
    assert torch.allclose(found_value, value, rtol=1e-9)
    assert max(distance(found, exact).values()) < 1e-8
    assert all(gradient.norm() > 1e-2 for gradient in exact.values())


@pytest.mark.parametrize("name", ["hvi", "hvae, fixed", "langevin"])
def test_nodes_are_enough(name, around, rule):
    _, value, exact = truth(name, around, rule)
    _, finer, settled = truth(name, around, rule, side=97)
    assert torch.allclose(value, finer, rtol=1e-6)
    assert max(distance(exact, settled).values()) < 1e-6


@pytest.mark.parametrize("name", ["hvi", "hvae, fixed", "langevin"])
def test_draws_give_it_on_average(name, around, rule):
    model, value, exact = truth(name, around, rule)
    estimator = Pathwise(ELBO(), 100)
    values, drawn = [], {part: [] for part in exact}
    for key in range(100):
        made = estimator(model, BATCH, Rng(key))
        values.append(made.value)
        for part, gradient in by_part(model, made.surrogate).items():
            drawn[part].append(gradient)
    for samples, target in [(values, value), *((drawn[part], exact[part]) for part in exact)]:
        samples = torch.stack(samples)
        error = samples.std(0) / len(samples) ** 0.5
        varying = error > 1e-12
        assert ((samples.mean(0) - target).abs() / error)[varying].max() < 5
        assert torch.allclose(samples.mean(0)[~varying], target[~varying])


def twin(name, around, rule, nodes):
    """How far off each part is, the twin being patched in by then."""
    model, _, exact = truth(name, around, rule)
    return distance(estimated(name, model, rule, nodes)[1], exact)


@pytest.mark.parametrize("name", ["hvi", "langevin"])
def test_without_the_reverse_model(name, around, rule, nodes, monkeypatch):
    class Silent:
        def log_prob(self, v):
            return torch.zeros(v.shape[:2], dtype=v.dtype)

    monkeypatch.setattr(ReverseModel, "forward", lambda self, x, z: Silent())
    wrong = twin(name, around, rule, nodes)
    assert min(wrong.values()) > 0.01


def test_without_the_jacobian(around, rule, nodes, monkeypatch):
    size = property(lambda self: 0)
    monkeypatch.setattr(hvae_module, "Space", type("Flat", (models.X.__class__,), {"size": size}))
    assert twin("hvae, fixed", around, rule, nodes)["encoder"] > 0.01


@pytest.mark.parametrize(
    ("name", "module"), [("hvi", hvi_module), ("hvae, fixed", hvae_module), ("langevin", langevin_module)]
)
def test_slopes_without_their_own_derivatives(name, module, around, rule, nodes, monkeypatch):
    def constant(log_density):
        at = field(log_density)
        return lambda z: Point(*(part.detach() if i == 1 else part for i, part in enumerate(at(z))))

    monkeypatch.setattr(module, "field", constant)
    wrong = twin(name, around, rule, nodes)
    assert min(wrong["encoder"], wrong["decoder"], wrong["prior"]) > 0.01


@pytest.mark.parametrize("name", ["hvi", "langevin"])
def test_the_way_back_told_from_where_the_trajectory_began(name, around, rule, nodes, monkeypatch):
    told = ReverseModel.forward

    def early(self, x, z):
        return told(self, x, z.detach())

    monkeypatch.setattr(ReverseModel, "forward", early)
    wrong = twin(name, around, rule, nodes)
    assert wrong["encoder"] > 0.01
    assert wrong["decoder"] > 1e-3
