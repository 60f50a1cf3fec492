"""What the relaxed, Taylor, straight-through and measure-valued estimators promise besides their mean."""

import pytest
import torch
from torch.func import functional_call, grad, vmap

from tests import toys
from tests.estimators.truth import model as known
from tests.gradients import gradient_function, keys
from vbench import Rng, Trait

discrete = pytest.importorskip("vbench_discrete", reason="pip install ./plugins/vbench-discrete")
ESTIMATORS = discrete.vbench_estimators()

NAMES = {
    "relax": {"hidden": 3},
    "rebar": {},
    "muprop": {},
    "straight-through": {},
    "reinmax": {"temperature": 1.2},
    "st-gumbel-softmax": {},
    "gumbel-softmax": {},
    "measure-valued": {},
    "lax": {"x": toys.X, "hidden": 3},
}
CASES = [
    (name, where) for name in NAMES for where in ("binary", "categorical") if name not in ("lax", "measure-valued")
]
CASES += [("measure-valued", "binary"), ("measure-valued", "mixture"), ("lax", "mixture")]
# each on one space: the relaxations of the two are shared
DEFAULT = [("relax", "binary"), ("relax", "categorical"), ("rebar", "categorical"), ("muprop", "binary")]
DEFAULT += [("straight-through", "binary"), ("reinmax", "categorical"), ("st-gumbel-softmax", "categorical")]
DEFAULT += [("gumbel-softmax", "binary"), ("measure-valued", "mixture"), ("lax", "mixture")]
assert {name for name, _ in DEFAULT} == set(NAMES)
every = pytest.mark.parametrize(
    ("name", "where"),
    [pytest.param(*case, id="-".join(case), marks=[] if case in DEFAULT else pytest.mark.slow) for case in CASES],
)
MODELS = {"binary": toys.binary, "categorical": toys.categorical, "mixture": toys.gaussian}


def build(name, where, k=2):
    model = MODELS[where]()
    estimator = ESTIMATORS[name](z=model.encoder.z, k=k, **NAMES[name])
    return model, toys.randomize(estimator, 3, 0.2) if list(estimator.parameters()) else estimator, toys.batch()


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_precision(name, where, dtype):
    model, estimator, batch = build(name, where)
    model, estimator = model.to(dtype), estimator.to(dtype)
    value, surrogate, _ = estimator(model, batch._replace(x=batch.x.to(dtype)), Rng(1))
    assert (value.shape, surrogate.shape, value.dtype, surrogate.dtype) == ((5,), (5,), dtype, dtype)
    assert not value.requires_grad
    surrogate.mean().backward()
    parameters = [*model.parameters(), *estimator.parameters()]
    assert all(p.grad is not None and p.grad.dtype == dtype and p.grad.isfinite().all() for p in parameters)


@every
def test_data_do_not_interact(name, where):
    model, estimator, batch = build(name, where)
    one = estimator(model, batch, Rng(1))
    other = batch.x.clone()
    other[2] = 1 - other[2]
    x = other.requires_grad_()
    moved = estimator(model, batch._replace(x=x), Rng(1))
    (flow,) = torch.autograd.grad(moved.surrogate[2], x)
    assert flow[2].abs().sum() > 0
    kept = [0, 1, 3, 4]
    assert not flow[kept].any()
    torch.testing.assert_close(moved.surrogate[kept], one.surrogate[kept], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(moved.value[kept], one.value[kept], rtol=1e-12, atol=1e-12)
    assert not torch.isclose(moved.surrogate[2], one.surrogate[2])


@every
def test_draws_of_two_data_are_independent(name, where):
    model, estimator, _ = build(name, where, k=1)
    twice = toys.batch(size=2)
    twice = twice._replace(x=twice.x[:1].expand(2, -1))
    values = vmap(lambda key: estimator(model, twice, Rng(key)).value, randomness="error")(keys(1000))
    assert values.std(0).min() > 0.01
    assert abs(torch.corrcoef(values.T)[0, 1]) < 4 / 1000**0.5


@every
def test_a_lane_alone_equals_a_lane_in_a_group_and_a_loop(name, where):
    model, estimator, batch = build(name, where)
    one = gradient_function(model, estimator, batch)
    gradients, values = vmap(one, randomness="error")(keys(3))
    for lane, key in enumerate(keys(3)):
        alone, value = vmap(one, randomness="error")(key[None])
        torch.testing.assert_close(value[0], values[lane], rtol=1e-14, atol=1e-14)
        for parameter, gradient in alone.items():
            torch.testing.assert_close(gradient[0], gradients[parameter][lane], rtol=1e-12, atol=1e-12)
    model.zero_grad()
    estimator.zero_grad()
    estimator(model, batch, Rng(keys(3)[0])).surrogate.mean().backward()
    for prefix, module in (("model", model), ("estimator", estimator)):
        for inner, parameter in module.named_parameters():
            torch.testing.assert_close(gradients[f"{prefix}.{inner}"][0], parameter.grad)


@every
def test_lanes_have_their_own_parameters(name, where):
    model, estimator, batch = build(name, where)

    class Call(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.estimator = model, estimator

        def forward(self, key):
            return self.estimator(self.model, batch, Rng(key)).surrogate.mean()

    call = Call()
    lanes = {n: torch.stack([p.detach(), 1.1 * p.detach()]) for n, p in call.named_parameters()}
    step = grad(lambda parameters, key: functional_call(call, parameters, (key,)))
    together = vmap(step, randomness="error")(lanes, keys(2))
    for lane in range(2):
        alone = step({n: p[lane] for n, p in lanes.items()}, keys(2)[lane])
        for parameter, gradient in alone.items():
            torch.testing.assert_close(gradient, together[parameter][lane])


@every
def test_randomness_is_the_argument_and_nothing_else(name, where):
    model, estimator, batch = build(name, where)
    before = torch.random.get_rng_state()
    first, again, other = (estimator(model, batch, Rng(key)) for key in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.surrogate, again.surrogate)
    assert not torch.equal(first.value, other.value)


@every
@pytest.mark.parametrize("k", [1, 3])
def test_the_declared_evaluations_are_made(name, where, k):
    model, estimator, batch = build(name, where, k)
    seen = []
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    estimator(model, batch, Rng(1))
    assert sum(seen) == estimator.evaluations


@every
def test_needs_are_offered_and_a_source_is_given(name, where):
    model, estimator, _ = build(name, where)
    latent = Trait.latent(model.encoder.z.support)
    assert estimator.needs - {Trait.FACTORIZED_PRIOR} <= model.encoder.offers | {latent}
    assert latent in estimator.needs or name == "lax"
    assert "Source:" in ESTIMATORS[name].__doc__
    others = {Trait.latent(support) for support in ("real", "binary", "categorical")} - {latent}
    assert not estimator.needs & others


def test_relax_costs_three_evaluations():
    assert build("relax", "binary", k=1)[1].evaluations == 3
    assert known("binary")[0].encoder.z.shape == (3,)
