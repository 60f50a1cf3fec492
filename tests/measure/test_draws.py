import gc
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests import toys
from tests.measure.toys import (
    PerfectlyPlain,
    batch_of,
)
from vbench.estimators.dreg import dreg
from vbench.estimators.iwae import iwae
from vbench.estimators.nvil import nvil
from vbench.estimators.reinforce import reinforce
from vbench.estimators.renyi import renyi
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.estimators.stl import stl
from vbench.estimators.vimco import vimco
from vbench.measure.gradients import gradient_moments
from vbench.types import Estimate, Space

BUILT_IN = {
    "reparam": (reparam(2), toys.gaussian),
    "reparam-analytic": (reparam(2, "analytic"), lambda: toys.gaussian(prior="standard")),
    "iwae": (iwae(3), toys.gaussian),
    "iwae-vamp": (iwae(3), lambda: toys.gaussian(prior="vamp")),
    "renyi": (renyi(0.5, 3), toys.gaussian),
    "stl": (stl(2), toys.gaussian),
    "dreg": (dreg(3), toys.gaussian),
    "reinforce": (reinforce(2), toys.binary),
    "nvil": (nvil(toys.X, 2, hidden=4), toys.binary),
    "nvil-normalized": (nvil(toys.X, 2, hidden=4, normalize=True), toys.binary),
    "rloo": (rloo(3), toys.categorical),
    "vimco": (vimco(3), toys.binary),
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_vmap_and_loop_make_the_same_draws(name):
    estimator, build = BUILT_IN[name]
    model, batch = build(), toys.batch()
    estimator.double()
    loop = gradient_moments(model, estimator, batch, draws=20, key=3, method="loop")
    auto = gradient_moments(model, estimator, batch, draws=20, key=3)
    assert (loop.method, auto.method) == ("loop", "vmap")
    assert auto.variance == pytest.approx(loop.variance, rel=1e-9)
    assert auto.std_error == pytest.approx(loop.std_error, rel=1e-9)
    torch.testing.assert_close(auto.mean, loop.mean)
    for chunk in (1, 7):
        vmap = gradient_moments(model, estimator, batch, draws=20, key=3, method="vmap", chunk=chunk)
        assert vmap.variance == pytest.approx(loop.variance, rel=1e-9)
    other = gradient_moments(model, estimator, batch, draws=20, key=4)
    assert other.variance["all"] != pytest.approx(loop.variance["all"], rel=1e-6)


class Counts(PerfectlyPlain):
    """Hidden state: every call weighs more than the last."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, model, batch, rng):
        self.calls += 1
        value, surrogate, _ = super().forward(model, batch, rng)
        return Estimate(value, self.calls * surrogate)


class Settles(PerfectlyPlain):
    """The first two calls are alike, and then it has adapted."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, model, batch, rng):
        self.calls += 1
        value, surrogate, _ = super().forward(model, batch, rng)
        return Estimate(value, surrogate if self.calls <= 2 else 0.5 * surrogate)


class Reads(PerfectlyPlain):
    """Looks at a number, which no vmap allows."""

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        return Estimate(value, surrogate * (2.0 if value.mean().item() < 0 else 1.0))


class Remembers(PerfectlyPlain):
    """Keeps a tensor of its last call: after a vmap that would be a dead one."""

    def __init__(self):
        super().__init__()
        self.last = torch.zeros(())

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        surrogate = surrogate - 0.01 * self.last * surrogate
        self.last = value.mean()
        return Estimate(value, surrogate)


class OwnNoise(PerfectlyPlain):
    """Leaves the given randomness aside."""

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        return Estimate(value, surrogate * torch.rand(()))


class Holds(PerfectlyPlain):
    """Reaches parameters past the model that it is given: a vmap does not see them move."""

    def __init__(self):
        super().__init__()
        self.held = SimpleNamespace(weights=[])

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        return Estimate(value, surrogate - sum(weight.square().sum() for weight in self.held.weights))


@pytest.mark.parametrize("misbehaving", [Counts, Settles, Reads, Remembers, Holds])
def test_auto_falls_back_to_the_loop(misbehaving):
    model, batch = toys.gaussian(), toys.batch()
    estimator = misbehaving()
    if misbehaving is Holds:
        estimator.held.weights = list(model.parameters())
    auto = gradient_moments(model, estimator, batch, draws=10)
    loop = gradient_moments(model, estimator, batch, draws=10, method="loop")
    assert auto.method == "loop"
    assert auto.variance == loop.variance
    assert getattr(estimator, "calls", 0) == 0  # a copy was measured


def test_global_randomness_is_no_reason_to_believe_a_vmap():
    assert gradient_moments(toys.gaussian(), OwnNoise(), toys.batch(), draws=4).method == "loop"


def test_vmap_when_asked_for_says_what_went_wrong():
    with pytest.raises(RuntimeError, match="item"):
        gradient_moments(toys.gaussian(), Reads(), toys.batch(), draws=4, method="vmap")


def test_large_draws_are_looped_and_small_ones_are_not():
    class Wide(PerfectlyPlain):
        evaluations = 10**7

    assert gradient_moments(toys.gaussian(), Wide(), toys.batch(), draws=2).method == "loop"


def test_nothing_changes_in_what_was_measured():
    model, estimator, batch = toys.binary(), nvil(toys.X).double(), toys.batch()
    model.eval()
    model.decoder.train()
    next(model.parameters()).grad = marker = torch.ones_like(next(model.parameters()))
    before = {name: p.clone() for name, p in [*model.named_parameters(), *estimator.named_parameters()]}
    random = torch.random.get_rng_state()
    gradient_moments(model, estimator, batch, draws=4)
    gradient_moments(model, estimator, batch, draws=4, method="loop")
    after = dict([*model.named_parameters(), *estimator.named_parameters()])
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad for p in after.values())
    assert next(model.parameters()).grad is marker
    assert all(p.grad is None for p in [*model.parameters()][1:])
    assert (model.training, model.encoder.training, model.decoder.training) == (False, False, True)
    assert torch.equal(random, torch.random.get_rng_state())


class Weighs(PerfectlyPlain):
    """Notes how many bytes of tensors are alive at two of its calls."""

    seen: dict[int, int] = {}  # noqa: RUF012 - shared by the copies that are measured
    calls = 0

    def forward(self, model, batch, rng):
        Weighs.calls += 1
        if Weighs.calls in (40, 400):
            alive = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in self.tensors()}
            Weighs.seen[Weighs.calls] = sum(alive.values())
        return super().forward(model, batch, rng)

    @staticmethod
    def tensors():
        return [o for o in gc.get_objects() if type(o) in (torch.Tensor, nn.Parameter)]


def test_memory_is_flat_in_the_number_of_draws():
    x = Space((300,), "binary")
    encoder = toys.GaussianEncoder(x, 2, hidden=(20,))
    model = toys.Model(
        encoder,
        toys.BernoulliDecoder(x, encoder.z, torch.full((300,), 0.5), hidden=()),
        toys.StandardNormalPrior(encoder.z),
    )
    size = 8 * sum(p.numel() for p in model.parameters())
    gradient_moments(model, Weighs(), batch_of(torch.ones(2, 300)), draws=420, method="loop")
    assert Weighs.seen[400] - Weighs.seen[40] < size < Weighs.seen[40]
