"""Priors made of posteriors: densities and gradients of every part against formulas written out, and wrong twins."""

import math

import numpy as np
import pytest
import torch
from exact import Given, Weighted, by_part, gaussian, off
from torch import distributions as reference
from torch.func import functional_call, grad, vmap
from vbench_priors.acn import ACNPrior
from vbench_priors.exemplar import ExemplarPrior
from vbench_priors.kumaraswamy import KumaraswamyEncoder
from vbench_priors.memory import Memory
from vbench_priors.vamp import VampPrior
from vbench_priors.von_mises_fisher import VonMisesFisherEncoder

from tests import toys
from vbench import (
    IWAE,
    Batch,
    BernoulliEncoder,
    DiagonalNormal,
    DoublyReparameterized,
    Model,
    NormalMixture,
    Pathwise,
    Prior,
    Rng,
    Space,
    Trait,
    frozen,
    gradient_moments,
)
from vbench.estimators.rloo import rloo

NODES, MASS = gaussian(20, 2)
DATA = (torch.rand(12, 4, generator=torch.Generator().manual_seed(5)) * 255).to(torch.uint8)
MADE = {
    "vamp": lambda z: VampPrior(toys.X, DATA, components=3),
    "exemplar": lambda z: ExemplarPrior(DATA, exemplars=7),
    "acn": lambda z: ACNPrior(z, DATA, neighbours=2, memory=7, hidden=(4,)),
}


def batch():
    """Data of the training set: the first four are exemplars too, the last is not."""
    return Batch(toys.batch().x, torch.tensor([0, 3, 5, 7, 11]), key=torch.tensor(4))


def made(name, seed=6):
    plain = toys.gaussian()
    torch.manual_seed(2)
    prior = MADE[name](plain.encoder.z)
    if name != "vamp":
        prior.memory.index.copy_(torch.tensor([0, 3, 2, 4, 5, 7, 9]))
        prior.memory.x.copy_(DATA[prior.memory.index] / 255.0)
        prior.memory.x[:2] = batch().x[:2].float()  # so near to their own codes that they would be their neighbours
    toys.randomize(prior, seed, 0.4)
    return Model(plain.encoder, plain.decoder, prior)


def codes(encoder, x):
    """Posterior means and scales, by the encoder's one layer."""
    loc, log_scale = (x @ encoder.net[0].weight.T + encoder.net[0].bias).chunk(2, -1)
    return loc, log_scale.exp()


def mixture(loc, scale):
    parts = reference.Independent(reference.Normal(loc, scale), 1)
    return reference.MixtureSameFamily(reference.Categorical(logits=torch.zeros(len(loc), dtype=loc.dtype)), parts)


def log_prior(name, model, batch, z):
    """Log p(z) ``[S, B]``, datum by datum."""
    prior, encoder = model.prior, model.encoder
    if name == "vamp":
        return mixture(*codes(encoder, prior.inputs.clamp(0, 1))).log_prob(z)
    loc, _ = codes(encoder, prior.memory.x)
    columns = []
    for b, index in enumerate(batch.index):
        others = prior.memory.index != index
        if name == "exemplar":
            columns.append(mixture(loc[others], prior.log_scale.exp().expand_as(loc[others])).log_prob(z[:, b]))
            continue
        known, own = loc[others].detach(), codes(encoder, batch.x[b : b + 1])[0].detach()
        nearest = np.argsort((known - own).square().sum(-1).numpy(), kind="stable")[: prior.neighbours]
        rank = int(Rng(batch.key).uniform(len(batch.x), dtype=torch.float64)[b] * prior.neighbours)
        given, log_scale = prior.net(known[nearest[rank]]).chunk(2, -1)
        columns.append(reference.Independent(reference.Normal(given, log_scale.exp()), 1).log_prob(z[:, b]))
    return torch.stack(columns, 1)


def truth(name, model, batch):
    """The exact ELBO's gradient by part, every log density written out but the likelihood's."""
    loc, scale = codes(model.encoder, batch.x)
    z = loc + scale * NODES[:, None]
    log_q = reference.Independent(reference.Normal(loc, scale), 1).log_prob(z)
    log_w = model.log_likelihood(batch, z) + log_prior(name, model, batch, z) - log_q
    return by_part((MASS[:, None] * log_w).sum(0).mean(), model)


def estimated(model, batch, rule):
    made = rule(Weighted(MASS), len(MASS))(model, batch, Given(normal=NODES))
    return by_part(made.surrogate.mean(), model)


@pytest.mark.parametrize("name", MADE)
def test_pathwise_gradient_of_every_part(name):
    model = made(name)
    exact = truth(name, model, batch())
    assert set(exact) == {"encoder", "decoder", "prior"}
    assert min(float(g.norm()) for g in exact.values()) > 1e-2
    assert max(off(estimated(model, batch(), Pathwise), exact).values()) < 1e-9


@pytest.mark.parametrize("name", MADE)
def test_the_doubly_reparameterised_rule_keeps_the_encoders_part_in_the_prior(name):
    model = made(name)
    # the two differ by a term of mean zero, which these nodes integrate as well as the rest
    assert max(off(estimated(model, batch(), DoublyReparameterized), truth(name, model, batch())).values()) < 2e-3


class Wrong(Prior):
    def __init__(self, right):
        super().__init__()
        self.right = right


class EncoderFrozen(Wrong):
    """The posteriors at the pseudo-inputs, taken for constants in the encoder's weights."""

    def forward(self, batch, model):
        return self.right(batch, Model(frozen(model.encoder), model.decoder, model.prior))


class InputsFrozen(Wrong):
    def forward(self, batch, model):
        return frozen(self.right)(batch, model)


class ExpOfLogVariance(Wrong):
    """PyTorch-VAE's density: log variance, divided by its own exponential."""

    def forward(self, batch, model):
        class Broken(NormalMixture):
            def log_prob(self, z):
                standard = (z[:, :, None] - self.loc).square() / self.scale.square()
                log_variance = 2 * self.scale.log()
                return (-0.5 * (log_variance / self.scale.square() + standard)).sum(-1).logsumexp(-1)

        right = self.right(batch, model)
        return Broken(right.logits, right.loc, right.scale)


class NoneLeftOut(Wrong):
    def forward(self, batch, model):
        return self.right(None if batch is None else batch._replace(index=batch.index + 1000), model)


class OtherScale(Wrong):
    """A variance where a scale is meant."""

    def forward(self, batch, model):
        right = self.right(batch, model)
        return type(right)(*[*list(vars(right).values())[:-1], right.scale.square()])


class LiveCodes(Wrong):
    """Gradients flow into the neighbours' codes."""

    def forward(self, batch, model):
        right = self.right(batch, model)
        live = model.posterior(self.right.memory.batch).loc
        which = self.right._neighbour(batch, model, live.detach())
        loc, log_scale = self.right.net(live[which]).chunk(2, -1)
        assert torch.equal(loc, right.loc)
        return DiagonalNormal(loc, log_scale.exp())


@pytest.mark.parametrize(
    ("name", "twin", "seen"),
    [
        ("vamp", EncoderFrozen, {"encoder"}),
        ("vamp", ExpOfLogVariance, {"encoder", "prior"}),
        ("vamp", InputsFrozen, {"prior"}),
        ("vamp", OtherScale, {"encoder", "prior"}),
        ("exemplar", EncoderFrozen, {"encoder"}),
        ("exemplar", NoneLeftOut, {"encoder", "prior"}),
        ("exemplar", OtherScale, {"encoder", "prior"}),
        ("acn", InputsFrozen, {"prior"}),
        ("acn", LiveCodes, {"encoder"}),
        ("acn", NoneLeftOut, {"encoder", "prior"}),
        ("acn", OtherScale, {"encoder", "prior"}),
    ],
)
def test_a_wrong_prior_is_seen_where_it_is_wrong(name, twin, seen):
    model = made(name)
    exact = truth(name, model, batch())
    model.prior = twin(model.prior)
    errors = off(estimated(model, batch(), Pathwise), exact)
    assert {part for part, error in errors.items() if error > 1e-3} == seen, errors
    assert max(errors[part] for part in errors if part not in seen) < 1e-9


@pytest.mark.parametrize("name", MADE)
def test_in_evaluation_it_is_one_density_for_all_data(name):
    model = made(name).eval()
    z = torch.randn(6, 5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    shared = model.prior_density(None).log_prob(z)
    torch.testing.assert_close(model.prior_density(batch()).log_prob(z), shared)
    other = batch()._replace(x=1 - batch().x, index=batch().index.flip(0), key=torch.tensor(9))
    torch.testing.assert_close(model.prior_density(other).log_prob(z), shared)
    if name == "acn":
        loc, log_scale = model.prior.net(codes(model.encoder, model.prior.memory.x)[0]).chunk(2, -1)
        torch.testing.assert_close(shared, mixture(loc, log_scale.exp()).log_prob(z))
    if name == "exemplar":
        loc, _ = codes(model.encoder, model.prior.memory.x)
        torch.testing.assert_close(shared, mixture(loc, model.prior.log_scale.exp().expand_as(loc)).log_prob(z))


def test_a_neighbour_is_one_of_the_nearest_each_as_often():
    model = made("acn")
    size = 3000
    many = Batch(batch().x[:1].expand(size, -1), torch.zeros(size, dtype=torch.int64), key=torch.tensor(3))
    known, own = codes(model.encoder, model.prior.memory.x)[0].detach(), codes(model.encoder, many.x[:1])[0].detach()
    distance = (known - own).square().sum(-1)
    distance[0] = math.inf  # its own code
    found = model.prior._neighbour(many, model, known).bincount(minlength=7)
    nearest = distance.argsort()[:2]
    assert int(found[nearest].sum()) == size
    assert abs(int(found[nearest[0]]) - size / 2) < 5 * math.sqrt(size) / 2
    other = model.prior._neighbour(many._replace(key=torch.tensor(5)), model, known)
    assert not torch.equal(other, model.prior._neighbour(many, model, known))


def test_draws_of_a_mixture_follow_it():
    model = made("vamp").eval()
    with torch.no_grad():
        model.prior.inputs.copy_(torch.eye(4, dtype=torch.float64)[:3])
    drawn = model.prior_density(None).draw(Rng(1), 20_000).z[:, 0]
    loc, scale = codes(model.encoder, model.prior.inputs)
    mean = loc.mean(0)
    variance = (scale.square() + (loc - mean).square()).mean(0)
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.var(0), variance, atol=0, rtol=0.05)


@pytest.mark.parametrize(
    "encoder",
    [
        lambda: BernoulliEncoder(toys.X, 3, ()),
        lambda: KumaraswamyEncoder(toys.X, 2, ()),
        lambda: VonMisesFisherEncoder(toys.X, 2, ()),
    ],
    ids=["bernoulli", "kumaraswamy", "von-mises-fisher"],
)
def test_posteriors_of_any_family_make_a_mixture(encoder):
    inference = toys.randomize(encoder(), 3)
    prior = toys.randomize(VampPrior(toys.X, DATA, components=3), 4)
    model = Model(inference, toys.gaussian().decoder, prior)
    density = model.prior_density(None)
    draw = density.draw(Rng(2), 6)
    assert draw.z.shape == (6, 1, *inference.z.shape)
    u = prior.inputs.clamp(0, 1)
    parts = model.posterior(Batch(u, torch.arange(3)))
    one_by_one = parts.log_prob(draw.z.expand(-1, 3, *inference.z.shape))
    torch.testing.assert_close(density.log_prob(draw.z)[:, 0], one_by_one.logsumexp(1) - math.log(3))
    torch.testing.assert_close(draw.log_q, density.log_prob(draw.z))
    slopes = torch.autograd.grad(density.log_prob(draw.z.detach()).sum(), [prior.inputs, *inference.parameters()])
    assert all(slope.any() for slope in slopes)


def test_where_pseudo_inputs_start_and_stay():
    torch.manual_seed(0)
    noise = VampPrior(toys.X, DATA, components=400).inputs.detach()
    assert float(noise.mean()) == pytest.approx(0.05, abs=2e-3)
    assert float(noise.std()) == pytest.approx(0.01, rel=0.1)
    data = VampPrior(toys.X, DATA, components=12, start="data").inputs.detach()
    torch.testing.assert_close(data.sort(0).values, (DATA / 255.0).sort(0).values)
    wide, model = VampPrior(toys.X, DATA, components=2), toys.gaussian()
    with torch.no_grad():
        wide.double().inputs.copy_(torch.tensor([[3.0, -2, 0.5, 1], [0, 0, 0, 0]]))
    ends = codes(model.encoder, torch.tensor([[1.0, 0, 0.5, 1], [0, 0, 0, 0]], dtype=torch.float64))[0]
    torch.testing.assert_close(wide(None, model).loc, ends)
    free = VampPrior(toys.REAL, DATA, components=2)
    assert not free.bounded


def test_a_memory_is_part_of_the_training_set():
    torch.manual_seed(1)
    some, every = Memory(DATA, 5), Memory(DATA, 100)
    torch.testing.assert_close(some.x, DATA[some.index] / 255.0)
    assert len(some.index.unique()) == 5
    torch.testing.assert_close(every.x, DATA / 255.0)
    assert set(some.state_dict()) == {"x", "index"}
    assert Memory(DATA / 51.0, 2).x.max() > 1  # floats are as they are


@pytest.mark.parametrize("name", MADE)
def test_lanes_frozen_copies_and_precision(name):
    model, given = made(name), batch()
    z = model.posterior(given).draw(Rng(1), 3).z.detach().requires_grad_()
    still = frozen(model).prior_density(given).log_prob(z)
    torch.testing.assert_close(still, model.prior_density(given).log_prob(z))
    assert torch.autograd.grad(still.sum(), z)[0].any()
    estimator = Pathwise(IWAE(), 2)

    class Call(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, key):
            return estimator(self.model, given, Rng(key)).surrogate.mean()

    call, keys = Call(), torch.arange(2)
    lanes = {n: torch.stack([p.detach(), 1.1 * p.detach()]) for n, p in call.named_parameters()}
    step = grad(lambda parameters, key: functional_call(call, parameters, (key,)))
    together = vmap(step, randomness="error")(lanes, keys)
    for lane in range(2):
        alone = step({n: p[lane] for n, p in lanes.items()}, keys[lane])
        for parameter, gradient in alone.items():
            torch.testing.assert_close(gradient, together[parameter][lane])
    single = model.float()
    value, surrogate, _ = estimator(single, given._replace(x=given.x.float()), Rng(1))
    assert value.dtype == surrogate.dtype == torch.float32


@pytest.mark.parametrize("name", MADE)
def test_gradient_variance_is_the_same_by_every_way_of_measuring(name):
    model, given = made(name), batch()
    whole = gradient_moments(model, Pathwise(IWAE(), 2), given, draws=2000, method="vmap")
    chosen = gradient_moments(model, Pathwise(IWAE(), 2), given, draws=400)
    for part in ("encoder", "decoder", "prior"):
        error = math.hypot(whole.std_error[part], chosen.std_error[part])
        assert abs(whole.variance[part] - chosen.variance[part]) < 5 * error
        assert whole.variance[part] > 5 * whole.std_error[part]


def test_scores_of_discrete_posteriors_at_pseudo_inputs():
    """The gradient of every part by enumeration, and the encoder's without what is inside the prior."""
    from tests.gradients import replicate, verdicts
    from vbench.oracles import enumeration
    from vbench.oracles.common import gradient

    plain = toys.binary()
    prior = toys.randomize(VampPrior(toys.X, DATA, components=2), 4)
    model = Model(plain.encoder, plain.decoder, prior)
    given = Batch(toys.batch().x, torch.arange(5))
    value = enumeration.bound_value(model, given, rloo(4).bound, 4)
    slopes, value = gradient(value, model), value.detach()
    found = verdicts(replicate(model, rloo(4), given, 4096), value, slopes)
    assert all(verdict.passed for verdict in found.values()), found
    wrong = Model(plain.encoder, plain.decoder, EncoderFrozen(prior))
    slopes = {name.replace("prior.", "prior.right."): g for name, g in slopes.items()}
    found = verdicts(replicate(wrong, rloo(4), given, 4096), value, slopes)
    assert not found["encoder"].passed
    assert found["decoder"].passed


def test_what_a_prior_asks_for():
    assert VampPrior.needs == {Trait.POSTERIOR, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED}
    for factory in (ExemplarPrior, ACNPrior):
        assert factory.needs == {Trait.POSTERIOR, Trait.LOC_SCALE, Trait.AMORTIZED, Trait.latent("real")}
    assert Space((3,), "simplex").size == 3
