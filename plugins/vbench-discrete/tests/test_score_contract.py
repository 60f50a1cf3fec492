"""What the likelihood-ratio estimators promise besides their mean: shapes, separability, randomness, lanes, cost."""

import pytest
import torch
from torch.func import functional_call, grad, vmap
from vbench_discrete import vbench_estimators
from vbench_discrete.enumerate import Enumerate
from vbench_discrete.unordered_set import UnorderedSet

from tests import toys
from tests.estimators.truth import MODELS
from tests.gradients import gradient_function, keys
from vbench import Incompatible, Rng, Space, Trait

CASES = [
    ("arm", {"k": 4}, "binary", 4),
    ("arms", {"k": 3}, "binary", 3),
    ("disarm", {"k": 4}, "binary", 4),
    ("disarm-categorical", {"k": 2}, "categorical", 2),
    ("disarm-iwae", {"k": 3}, "binary", 6),
    ("double-cv", {"k": 3}, "binary", 3),
    ("enumerate", {"z": None}, "binary", 8),
    ("enumerate", {"z": None}, "categorical", 9),
    ("ovis", {"k": 3}, "categorical", 3),
    ("ovis", {"k": 3}, "mixture", 3),
    ("rodeo", {"k": 3, "x": toys.X, "hidden": 3}, "binary", 3),
    ("rws", {"k": 3}, "mixture", 3),
    ("rws-dreg", {"k": 3}, "mixture", 3),
    ("unordered-set", {"z": None, "k": 3}, "binary", 3),
    ("unordered-set", {"z": None, "k": 3}, "categorical", 3),
    ("vimco-arithmetic", {"k": 3}, "binary", 3),
]
AGAIN = ("enumerate-categorical", "ovis-mixture", "unordered-set-binary")  # on a space more
every = pytest.mark.parametrize(
    ("name", "given", "where", "evaluations"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] * (name in AGAIN))
        for case in CASES
        if (name := f"{case[0]}-{case[2]}")
    ],
)


def build(name, given, where):
    model = MODELS[where]()
    given = given | ({"z": model.encoder.z} if "z" in given else {})
    return model, toys.randomize(vbench_estimators()[name](**given), 3), toys.batch()


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_precision(name, given, where, evaluations, dtype):
    model, estimator, batch = build(name, given, where)
    model, estimator = model.to(dtype), estimator.to(dtype)
    value, surrogate, _ = estimator(model, batch._replace(x=batch.x.to(dtype)), Rng(1))
    assert (value.shape, surrogate.shape, value.dtype, surrogate.dtype) == ((5,), (5,), dtype, dtype)
    assert not value.requires_grad
    surrogate.mean().backward()
    parameters = [*model.parameters(), *estimator.parameters()]
    assert all(p.grad is not None and p.grad.dtype == dtype and p.grad.isfinite().all() for p in parameters)


@every
def test_data_do_not_interact(name, given, where, evaluations):
    model, estimator, batch = build(name, given, where)
    x = batch.x.clone().requires_grad_()
    before = estimator(model, batch._replace(x=x), Rng(1))
    (flow,) = torch.autograd.grad(before.surrogate[2], x)
    kept = [0, 1, 3, 4]
    assert flow[2].abs().sum() > 0
    assert not flow[kept].any()
    other = batch.x.clone()
    other[2] = 1 - other[2]
    moved = estimator(model, batch._replace(x=other), Rng(1))
    for one, another in ((moved.value, before.value), (moved.surrogate, before.surrogate)):
        torch.testing.assert_close(one[kept], another[kept], rtol=1e-12, atol=1e-12)
        assert not torch.isclose(one[2], another[2])


@every
def test_draws_of_two_data_are_independent(name, given, where, evaluations):
    if name == "enumerate":
        pytest.skip("draws nothing")
    model, estimator, _ = build(name, given, where)
    twice = toys.batch(size=2)
    twice = twice._replace(x=twice.x[:1].expand(2, -1))
    values = vmap(lambda key: estimator(model, twice, Rng(key)).value, randomness="error")(keys(2000))
    assert values.std(0).min() > 0.01
    assert abs(torch.corrcoef(values.T)[0, 1]) < 4 / 2000**0.5


@every
def test_a_lane_alone_equals_a_lane_in_a_group(name, given, where, evaluations):
    model, estimator, batch = build(name, given, where)
    generator = torch.Generator().manual_seed(0)
    system = torch.nn.ModuleList([model, estimator])
    lanes = {
        name: p.detach() + 0.1 * torch.randn(3, *p.shape, generator=generator, dtype=p.dtype)
        for name, p in system.named_parameters()
    }

    class Call(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.system = system

        def forward(self, key):
            return self.system[1](self.system[0], batch, Rng(key))

    def step(parameters, key):
        estimate = functional_call(call, {f"system.{name}": p for name, p in parameters.items()}, (key,))
        return estimate.surrogate.mean(), estimate.value

    call = Call()
    step = vmap(grad(step, has_aux=True), randomness="error")
    gradients, values = step(lanes, keys(3))
    for lane in range(3):
        one = slice(lane, lane + 1)
        alone, value = step({name: p[one] for name, p in lanes.items()}, keys(3)[one])
        assert torch.equal(value, values[one])
        assert all(torch.equal(alone[key], gradients[key][one]) for key in alone)


@every
def test_a_loop_equals_vmap(name, given, where, evaluations):
    model, estimator, batch = build(name, given, where)
    gradients, values = vmap(gradient_function(model, estimator, batch), randomness="error")(keys(3))
    for lane, key in enumerate(keys(3)):
        model.zero_grad()
        estimator.zero_grad()
        estimate = estimator(model, batch, Rng(key))
        estimate.surrogate.mean().backward()
        torch.testing.assert_close(values[lane], estimate.value)
        for prefix, module in (("model", model), ("estimator", estimator)):
            for inner, parameter in module.named_parameters():
                torch.testing.assert_close(gradients[f"{prefix}.{inner}"][lane], parameter.grad)


@every
def test_randomness_is_the_argument_and_cost_is_what_is_declared(name, given, where, evaluations):
    model, estimator, batch = build(name, given, where)
    seen = []
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    before = torch.random.get_rng_state()
    first, again, other = (estimator(model, batch, Rng(key)) for key in (1, 1, 2))
    assert sum(seen) == 3 * estimator.evaluations == 3 * evaluations
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.surrogate, again.surrogate)
    assert torch.equal(first.value, other.value) == (name == "enumerate")


@every
def test_needs_are_offered_by_the_encoders_it_is_for(name, given, where, evaluations):
    model, estimator, _ = build(name, given, where)
    assert estimator.needs <= model.encoder.offers | {Trait.latent(model.encoder.z.support)}
    assert (Trait.PATHWISE in estimator.needs) == (name == "rws-dreg")


def test_what_cannot_be_enumerated_is_refused():
    assert Enumerate(Space((12,), "binary")).evaluations == 4096
    with pytest.raises(Incompatible, match=r"2\^13 latent states are too many"):
        Enumerate(Space((13,), "binary"))
    with pytest.raises(Incompatible, match=r"5\^6 latent states are too many"):
        UnorderedSet(Space((6, 5), "categorical"))
    with pytest.raises(ValueError, match="no 3 different states among 2"):
        UnorderedSet(Space((1,), "binary"), k=3)
    Enumerate(Space((50,)))  # refused by its needs, with a reason
