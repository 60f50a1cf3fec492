"""Enumeration against the plainest possible sums: every tuple, one at a time."""

import itertools
import math

import pytest
import torch

from tests import toys
from vbench.bounds import ELBO, IWAE, Renyi
from vbench.oracles import enumeration
from vbench.oracles.common import expected_bound, multisets
from vbench.targets import Wake
from vbench.types import Space

MODELS = {"binary": toys.binary, "categorical": toys.categorical}
discrete = pytest.mark.parametrize("where", MODELS)


class Plain:
    """A bound that does not say that it is linear."""

    linear, smooth, kind = False, True, "lower"

    def __call__(self, log_w):
        return log_w.mean(0)


def all_tuples(model, batch, bound, k):
    """The expectation over all S^k tuples by a loop, built from the model's public methods only."""
    atoms = enumeration.states(model.encoder.z)
    rows = [atom.expand(1, len(batch.x), *atom.shape) for atom in atoms]
    log_q = [model.posterior(batch).log_prob(z)[0] for z in rows]
    log_w = [model.log_joint(batch, z)[0] - q for z, q in zip(rows, log_q, strict=True)]
    total = 0
    for chosen in itertools.product(range(len(rows)), repeat=k):
        probability = math.prod(log_q[s].exp() for s in chosen)
        total = total + probability * bound(torch.stack([log_w[s] for s in chosen]))
    return total


def test_states_are_all_there_once():
    binary = enumeration.states(Space((2, 2), "binary"))
    assert binary.shape == (16, 2, 2)
    assert set(binary.unique().tolist()) == {0.0, 1.0}
    categorical = enumeration.states(Space((2, 3), "categorical"))
    assert categorical.shape == (9, 2, 3)
    assert (categorical.sum(-1) == 1).all()
    for states in (binary, categorical):
        assert len(states.flatten(1).unique(dim=0)) == len(states)
        assert states.dtype == torch.float64


@pytest.mark.parametrize("support", ["real", "unit"])
def test_a_continuous_latent_is_refused(support):
    with pytest.raises(ValueError, match=f"{support} latent cannot be enumerated"):
        enumeration.states(Space((2,), support))


@discrete
def test_the_posterior_and_the_evidence_are_bayes_rule(where):
    model, batch = MODELS[where](), toys.batch()
    joint = sum(
        model.log_joint(batch, atom.expand(1, 5, *atom.shape))[0].exp() for atom in enumeration.states(model.encoder.z)
    )
    torch.testing.assert_close(enumeration.log_evidence(model, batch), joint.log())
    posterior = enumeration.posterior(model, batch)
    torch.testing.assert_close(posterior.sum(0), torch.ones(5, dtype=torch.float64))
    third = enumeration.states(model.encoder.z)[3].expand(1, 5, *model.encoder.z.shape)
    torch.testing.assert_close(posterior[3], model.log_joint(batch, third)[0].exp() / joint)


@discrete
@pytest.mark.parametrize(
    ("bound", "k"),
    [(ELBO(), 1), (ELBO(), 2), (IWAE(), 1), (IWAE(), 2), (IWAE(), 3), (Renyi(-0.5), 2), (Renyi(2.0), 3)],
)
def test_multisets_equal_tuples_in_value_and_gradient(where, bound, k):
    model, batch = MODELS[where](), toys.batch(size=2)
    brute = all_tuples(model, batch, bound, k)
    torch.testing.assert_close(enumeration.bound_value(model, batch, bound, k), brute)
    gradients = enumeration.exact_gradient(model, batch, bound, k)
    assert list(gradients) == [name for name, _ in model.named_parameters()]
    expected = torch.autograd.grad(brute.mean(), list(model.parameters()))
    for (name, found), wanted in zip(gradients.items(), expected, strict=True):
        torch.testing.assert_close(found, wanted, msg=name)


def test_the_gradient_is_the_slope_of_the_value():
    model, batch = toys.binary(), toys.batch()
    gradients = enumeration.exact_gradient(model, batch, IWAE(), 2)
    step = 1e-5
    for name, parameter in model.named_parameters():
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[-1] += sign * step
                ends.append(enumeration.bound_value(model, batch, IWAE(), 2).mean())
                parameter.view(-1)[-1] -= sign * step
        assert float(ends[0] - ends[1]) / (2 * step) == pytest.approx(float(gradients[name].view(-1)[-1]), rel=1e-6)


@discrete
def test_bounds_rise_towards_the_evidence(where):
    model, batch = MODELS[where](), toys.batch()
    values = [enumeration.bound_value(model, batch, IWAE(), k) for k in (1, 2, 3, 4)]
    values.append(enumeration.log_evidence(model, batch))
    assert (torch.stack(values).diff(dim=0) > 0).all()
    torch.testing.assert_close(values[0], enumeration.bound_value(model, batch, ELBO(), 1))


def test_a_linear_bound_needs_one_sample_only():
    model, batch = toys.binary(), toys.batch()
    torch.testing.assert_close(
        enumeration.bound_value(model, batch, ELBO(), 1000), enumeration.bound_value(model, batch, Plain(), 3)
    )


def test_a_bound_that_lies_about_being_linear_is_caught():
    class Liar(Plain):
        linear = True

        def __call__(self, log_w):
            return log_w.amax(0)

    with pytest.raises(ValueError, match="calls itself linear"):
        enumeration.bound_value(toys.binary(), toys.batch(), Liar(), 2)


def test_too_many_terms_say_so_before_any_memory_is_taken():
    with pytest.raises(ValueError, match=r"2\^60 latent states"):
        enumeration.states(Space((60,), "binary"))
    log_w = torch.zeros(4096, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="4096 states at k=3 make 11461636096 multisets for each of 3 data"):
        expected_bound(IWAE(), 3, log_w, log_w)
    with pytest.raises(ValueError, match="k must be at least 1"):
        expected_bound(IWAE(), 0, log_w, log_w)


@pytest.mark.parametrize(("atoms", "k"), [(1, 3), (2, 5), (5, 3), (7, 1), (4, 4)])
def test_multisets_are_counted_with_their_orderings(atoms, k):
    index, log_orders = multisets(atoms, k)
    assert index.tolist() == [list(c) for c in itertools.combinations_with_replacement(range(atoms), k)]
    assert float(log_orders.exp().sum()) == pytest.approx(atoms**k)
    expected = [len(set(itertools.permutations(row))) for row in index.tolist()]
    torch.testing.assert_close(log_orders.exp(), torch.tensor(expected, dtype=torch.float64))


def test_a_single_precision_model_gets_a_double_precision_answer():
    double, single, batch = toys.binary(), toys.binary().float(), toys.batch()
    batch32 = batch._replace(x=batch.x.float())
    value = enumeration.bound_value(single, batch32, IWAE(), 2)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, enumeration.bound_value(double, batch, IWAE(), 2), rtol=1e-5, atol=1e-6)
    gradients = enumeration.exact_gradient(single, batch32, IWAE(), 2)
    assert gradients["encoder.net.0.weight"].dtype == torch.float32
    expected = enumeration.exact_gradient(double, batch, IWAE(), 2)["encoder.net.0.weight"]
    torch.testing.assert_close(gradients["encoder.net.0.weight"].double(), expected, rtol=1e-4, atol=1e-6)
    assert single.encoder.net[0].weight.dtype == torch.float32


def test_fixed_parameters_are_left_out_and_idle_ones_are_zero():
    model = toys.binary()
    model.prior.logits.requires_grad_(False)
    model.encoder.idle = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    gradients = enumeration.exact_gradient(model, toys.batch(), ELBO(), 1)
    assert "prior.logits" not in gradients
    assert torch.equal(gradients["encoder.idle"], torch.zeros(2, dtype=torch.float64))


def test_masked_data_are_served():
    model, batch = toys.binary(), toys.batch()
    mask = torch.ones_like(batch.x)
    mask[:, 1] = 0
    hidden = batch._replace(x=torch.where(mask.bool(), batch.x, torch.nan), mask=mask)
    # the encoder sees zero where nothing was observed
    model.encoder.net.register_forward_pre_hook(lambda module, inputs: (inputs[0].nan_to_num(),))
    both = []
    for other in (0.0, 1.0):
        x = batch.x.clone()
        x[:, 1] = other
        both.append(enumeration.log_evidence(model, batch._replace(x=x)))
    torch.testing.assert_close(enumeration.log_evidence(model, hidden), torch.stack(both).logsumexp(0))
    gradients = enumeration.exact_gradient(model, hidden, ELBO(), 1)
    assert all(g.isfinite().all() for g in gradients.values())


@discrete
@pytest.mark.parametrize("k", [1, 2])
def test_a_target_is_the_mean_of_gradients_at_fixed_draws(where, k):
    model, batch = MODELS[where](), toys.batch()
    atoms = enumeration.states(model.encoder.z)
    named = dict(model.named_parameters())
    expected = {name: torch.zeros_like(p) for name, p in named.items()}
    for chosen in itertools.product(range(len(atoms)), repeat=k):
        z = atoms[list(chosen)][:, None].expand(-1, len(batch.x), *atoms.shape[1:])
        log_p, log_q = model.log_joint(batch, z), model.posterior(batch).log_prob(z)
        weights = (log_p - log_q).detach().exp()
        field = (log_q.detach().sum(0).exp() * (weights / weights.sum(0) * (log_p + log_q)).sum(0)).mean()
        for name, slope in zip(named, torch.autograd.grad(field, list(named.values())), strict=True):
            expected[name] += slope
    found = enumeration.target_gradient(model, batch, Wake(), k)
    for name, slope in expected.items():
        torch.testing.assert_close(found[name], slope)


@discrete
def test_the_wake_target_is_the_bound_in_decoder_and_prior_and_not_in_the_encoder(where):
    model, batch = MODELS[where](), toys.batch()
    wake = enumeration.target_gradient(model, batch, Wake(), 3)
    bound = enumeration.exact_gradient(model, batch, IWAE(), 3)
    for name, slope in bound.items():
        assert torch.allclose(wake[name], slope) == (not name.startswith("encoder")), name


class AsAnObjective:
    """The ELBO, its rate times beta, as an expectation under posterior and prior."""

    kind, linear = "none", True

    def __init__(self, beta=1.0, prior=0.0):
        self.beta, self.prior = beta, prior

    def expectation(self, model, batch, q, p):
        rate = q.log_prob - model.prior_density(batch).log_prob(q.z)
        found = (q.log_mass.exp() * (model.log_likelihood(batch, q.z) - self.beta * rate)).sum(0)
        return found + self.prior * (p.log_mass.exp() * p.z.flatten(2).sum(2)).sum(0)


@discrete
def test_an_objective_is_asked_at_exact_posterior_and_prior(where):
    model, batch = MODELS[where](), toys.batch()
    for found, truth in zip(
        enumeration.exact_gradient(model, batch, AsAnObjective(), 1).values(),
        enumeration.exact_gradient(model, batch, ELBO(), 1).values(),
        strict=True,
    ):
        torch.testing.assert_close(found, truth)
    value = enumeration.bound_value(model, batch, AsAnObjective(prior=2.0), 1)
    mean = model.prior_density(batch).mean.flatten().sum()
    torch.testing.assert_close(value, enumeration.bound_value(model, batch, ELBO(), 1) + 2 * mean)
    with pytest.raises(ValueError, match="too many pairs"):
        enumeration.bound_value(model, batch, AsAnObjective(), 1, limit=300)
