"""What an estimator promises besides its mean: shapes, separability, randomness, precision, cost."""

import pytest
import torch
from torch.func import functional_call, grad, vmap

from tests import toys
from tests.gradients import gradient_function, keys
from vbench.builtin.plugin import vbench_estimators
from vbench.rng import Rng
from vbench.types import Trait

CASES = [
    ("dreg", {"k": 3}, "gaussian"),
    ("iwae", {"k": 3}, "gaussian"),
    ("nvil", {"k": 2, "x": toys.X, "hidden": 3}, "binary"),
    ("nvil", {"k": 2, "x": toys.X, "hidden": 3, "normalize": True}, "categorical"),
    ("reinforce", {"k": 3}, "categorical"),
    ("renyi", {"k": 3, "alpha": -0.5}, "gaussian"),
    ("reparam", {"k": 3}, "gaussian"),
    ("reparam", {"k": 3, "kl": "analytic"}, "normal"),
    ("rloo", {"k": 3}, "binary"),
    ("stl", {"k": 3}, "gaussian"),
    ("vimco", {"k": 3}, "gaussian"),
    ("vimco", {"k": 3}, "binary"),
]
BUILD = {
    "gaussian": toys.gaussian,
    "normal": lambda: toys.gaussian(prior="normal"),
    "binary": toys.binary,
    "categorical": toys.categorical,
}
IDS = ["-".join([name, where, *(p for p in given if p in ("kl", "normalize"))]) for name, given, where in CASES]
every = pytest.mark.parametrize(("name", "parameters", "where"), CASES, ids=IDS)


def build(name, parameters, where):
    return BUILD[where](), toys.randomize(vbench_estimators()[name](**parameters), 3), toys.batch()


def test_every_registered_estimator_is_covered():
    assert {name for name, _, _ in CASES} == set(vbench_estimators())


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_precision(name, parameters, where, dtype):
    model, estimator, batch = build(name, parameters, where)
    model, estimator = model.to(dtype), estimator.to(dtype)
    value, surrogate, info = estimator(model, batch._replace(x=batch.x.to(dtype)), Rng(1))
    assert (value.shape, surrogate.shape, value.dtype, surrogate.dtype) == ((5,), (5,), dtype, dtype)
    assert not value.requires_grad
    assert surrogate.requires_grad
    surrogate.mean().backward()
    parameters = [*model.parameters(), *estimator.parameters()]
    assert all(p.grad is not None and p.grad.dtype == dtype and p.grad.isfinite().all() for p in parameters)
    assert all(tensor.shape[:1] in ((), (5,)) for tensor in info.values())


@every
def test_data_do_not_interact(name, parameters, where):
    model, estimator, batch = build(name, parameters, where)
    x = batch.x.clone().requires_grad_()
    surrogate = estimator(model, batch._replace(x=x), Rng(1)).surrogate
    (flow,) = torch.autograd.grad(surrogate[2], x)
    assert flow[2].abs().sum() > 0
    assert not flow[[0, 1, 3, 4]].any()
    # and no flow through values that carry no gradient
    other = batch.x.clone()
    other[2] = 1 - other[2]
    moved = estimator(model, batch._replace(x=other), Rng(1))
    kept = [0, 1, 3, 4]
    torch.testing.assert_close(moved.surrogate[kept], surrogate[kept], rtol=1e-12, atol=1e-12)
    assert not torch.isclose(moved.surrogate[2], surrogate[2])


@every
def test_draws_of_two_data_are_independent(name, parameters, where):
    model, estimator, _ = build(name, parameters, where)
    twice = toys.batch(size=2)
    twice = twice._replace(x=twice.x[:1].expand(2, -1))
    values = vmap(lambda key: estimator(model, twice, Rng(key)).value, randomness="error")(keys(2000))
    assert values.std(0).min() > 0.01
    # four standard errors of a correlation of nothing
    assert abs(torch.corrcoef(values.T)[0, 1]) < 4 / 2000**0.5


@every
def test_a_lane_alone_equals_a_lane_in_a_group_bit_for_bit(name, parameters, where):
    model, estimator, batch = build(name, parameters, where)
    system = torch.nn.ModuleDict({"model": model, "estimator": estimator})

    class Call(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.system = system

        def forward(self, key):
            return self.system["estimator"](self.system["model"], batch, Rng(key))

    call = Call()
    generator = torch.Generator().manual_seed(0)
    lanes = {
        name: p.detach() + 0.1 * torch.randn(3, *p.shape, generator=generator, dtype=p.dtype)
        for name, p in call.named_parameters()
    }

    def step(parameters, key):
        estimate = functional_call(call, parameters, (key,))
        return estimate.surrogate.mean(), estimate.value

    step = vmap(grad(step, has_aux=True), randomness="error")
    together = step(lanes, keys(3))
    for lane in range(3):
        alone = step({name: p[lane : lane + 1] for name, p in lanes.items()}, keys(3)[lane : lane + 1])
        assert torch.equal(alone[1][0], together[1][lane])
        for key, gradient in alone[0].items():
            assert torch.equal(gradient[0], together[0][key][lane]), key


@every
def test_a_loop_equals_vmap(name, parameters, where):
    model, estimator, batch = build(name, parameters, where)
    one = gradient_function(model, estimator, batch)
    gradients, values = vmap(one, randomness="error")(keys(4))
    for lane, key in enumerate(keys(4)):
        model.zero_grad()
        estimator.zero_grad()
        estimate = estimator(model, batch, Rng(key))
        estimate.surrogate.mean().backward()
        torch.testing.assert_close(values[lane], estimate.value)
        for prefix, module in (("model", model), ("estimator", estimator)):
            for inner, parameter in module.named_parameters():
                torch.testing.assert_close(gradients[f"{prefix}.{inner}"][lane], parameter.grad)


@every
def test_randomness_is_the_argument_and_nothing_else(name, parameters, where):
    model, estimator, batch = build(name, parameters, where)
    before = torch.random.get_rng_state()
    first, again, other = (estimator(model, batch, Rng(key)) for key in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.value, again.value)
    assert torch.equal(first.surrogate, again.surrogate)
    assert not torch.equal(first.value, other.value)


@every
def test_the_declared_evaluations_are_made(name, parameters, where):
    model, estimator, batch = build(name, parameters, where)
    seen = []
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    estimator(model, batch, Rng(1))
    assert sum(seen) == estimator.evaluations == parameters["k"]


@every
def test_needs_are_offered_by_the_encoders_it_is_for(name, parameters, where):
    model, estimator, _ = build(name, parameters, where)
    assert estimator.needs - {Trait.PROPER_WEIGHT, Trait.FACTORIZED_PRIOR} <= model.encoder.offers
    if name not in ("reinforce", "nvil", "rloo", "vimco"):
        assert Trait.PATHWISE in estimator.needs
    else:
        assert Trait.PATHWISE not in estimator.needs


def test_only_leave_one_out_on_a_linear_bound_serves_an_unnormalised_density():
    made = {name: vbench_estimators()[name](**parameters) for name, parameters, _ in CASES}
    without = {name for name, estimator in made.items() if Trait.NORMALIZED not in estimator.needs}
    assert without == {"rloo", "iwae", "renyi", "reparam"}
