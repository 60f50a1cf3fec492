"""What the runner, the measurements and the judge ask of every flow: copies, lanes, precision, skipped pairs."""

import pytest
import torch
from flow_cases import ENCODERS, PRIORS, data, encoder, prior
from torch.func import functional_call, grad, vmap

from tests import toys
from vbench import IWAE, DoublyReparameterized, Model, Pathwise, Rng, Space, Trait, frozen
from vbench.testing import Verdict, check

EVERY = [("encoder", name) for name in ENCODERS] + [("prior", name) for name in PRIORS]
every = pytest.mark.parametrize(("kind", "name"), EVERY, ids=["-".join(pair) for pair in EVERY])


def model_of(kind, name):
    partners = toys.gaussian(prior="normal")
    if kind == "encoder":
        return Model(encoder(name, size=0.3), partners.decoder, partners.prior)
    return Model(partners.encoder, partners.decoder, prior(name, size=0.3))


@every
def test_a_frozen_model_lets_gradients_through_to_z_alone(kind, name):
    model, batch = model_of(kind, name), data()
    copy = frozen(model)
    z = model.posterior(batch).draw(Rng(1), 4).z.detach().requires_grad_()
    live = model.log_joint(batch, z) - model.posterior(batch).log_prob(z)
    still = copy.log_joint(batch, z) - copy.posterior(batch).log_prob(z)
    assert torch.equal(live, still)
    (slope,) = torch.autograd.grad(still.sum(), z)
    assert slope.abs().min() > 0
    assert all(p.grad is None for p in model.parameters())
    assert not any(p.requires_grad for p in copy.parameters())


@every
@pytest.mark.parametrize("rule", [Pathwise, pytest.param(DoublyReparameterized, marks=pytest.mark.slow)])
def test_lanes_have_keys_and_parameters_of_their_own(kind, name, rule):
    model, batch, estimator = model_of(kind, name), data(), rule(IWAE(), 2)

    class Call(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, key):
            return estimator(self.model, batch, Rng(key)).surrogate.mean()

    call, keys = Call(), torch.arange(2)
    lanes = {n: torch.stack([p.detach(), 1.1 * p.detach()]) for n, p in call.named_parameters()}
    step = grad(lambda parameters, key: functional_call(call, parameters, (key,)))
    together = vmap(step, randomness="error")(lanes, keys)
    for lane in range(2):
        alone = step({n: p[lane] for n, p in lanes.items()}, keys[lane])
        for parameter, gradient in alone.items():
            torch.testing.assert_close(gradient, together[parameter][lane])


@every
def test_single_precision_and_every_parameter_learns(kind, name):
    model, batch = model_of(kind, name).float(), data()
    batch = batch._replace(x=batch.x.float())
    value, surrogate, _ = Pathwise(IWAE(), 3)(model, batch, Rng(1))
    assert value.dtype == surrogate.dtype == torch.float32
    surrogate.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.any() for p in model.encoder.parameters())


@pytest.mark.parametrize("name", ENCODERS)
def test_data_do_not_interact(name):
    made, batch = encoder(name), data()
    x = batch.x.clone().requires_grad_()
    z, log_q, _ = made(batch._replace(x=x), None).draw(Rng(1), 2)
    (flow,) = torch.autograd.grad((z.sum(-1) + log_q)[:, 1].sum(), x)
    assert flow[1].any()
    assert not flow[[0, 2]].any()


@pytest.mark.parametrize("name", PRIORS)
def test_ancestral_draws_of_latents_of_any_shape(name):
    density = prior(name, Space((2, 2)))(None, None)
    assert density.draw(Rng(1), 5).z.shape == (5, 1, 2, 2)
    assert density.log_prob(torch.zeros(4, 3, 2, 2, dtype=torch.float64)).shape == (4, 3)


def test_what_is_offered():
    wanted = {Trait.PATHWISE, Trait.DENSITY, Trait.NORMALIZED, Trait.AMORTIZED}
    assert all(factory.offers == wanted for factory, _ in ENCODERS.values())


@pytest.mark.slow
@every
def test_judged(kind, name):
    factory, given = (ENCODERS | PRIORS)[name]
    results = check(kind, factory, **given)
    assert [f"{result.name}: {result.figure}" for result in results if result.verdict is not Verdict.PASS] == []
    assert len(results) > 7
