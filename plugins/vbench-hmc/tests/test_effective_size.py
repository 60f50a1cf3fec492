"""The study of effective sample sizes: its targets, its samplers and its ruler, each against what is known."""

import math
import runpy
from pathlib import Path

import pytest
import torch
from vbench_hmc import hmc, l2hmc_kernel
from vbench_hmc.hmc import HMC
from vbench_hmc.kernels import Move
from vbench_hmc.l2hmc_kernel import L2HMCKernel

from vbench import Rng

STUDY = runpy.run_path(str(Path(__file__).parents[3] / "results" / "l2hmc" / "ess.py"))
TARGETS = STUDY["targets"]()
every = pytest.mark.parametrize("name", TARGETS)


def log_density(name, z):
    """By other code than the study's."""
    z, normal = z.double(), torch.distributions.MultivariateNormal
    if name == "mixture":
        centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
        return torch.logaddexp(*(normal(c, 0.1 * torch.eye(2, dtype=torch.float64)).log_prob(z) for c in centres))
    if name == "rough-well":
        return -(0.5 * z**2).sum(-1) - 0.01 * (z / 0.01).cos().sum(-1)
    if name == "correlated":
        covariance = torch.tensor([[50.005, 49.995], [49.995, 50.005]])
    else:
        covariance = torch.diag(10 ** torch.linspace(-2, 2, 50))
    covariance = covariance.double()
    return normal(torch.zeros(len(covariance), dtype=torch.float64), covariance).log_prob(z)


@every
def test_a_target_is_what_it_says(name):
    target = TARGETS[name]
    z = target.draw(Rng(1), 50).double().requires_grad_()
    value = log_density(name, z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    found = target.at(z.detach().float())
    torch.testing.assert_close(found.slope.double(), slope, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(found.log_density.diff(dim=0).double(), value.detach().diff(dim=0), rtol=1e-3, atol=1e-2)


@every
def test_its_draws_have_its_moments(name):
    target, n = TARGETS[name], 20_000
    z = target.draw(Rng(2), n)[:, 0].double() / target.variance.double().sqrt()
    assert (z.mean(0).abs() * math.sqrt(n)).max() < 4.5
    assert ((z.square().mean(0) - 1) / z.square().std(0) * math.sqrt(n)).abs().max() < 4.5


def autoregressive(a, length=500, count=200):
    noise = Rng(3).normal(length, count, 1)
    places = [noise[0]]
    for new in noise[1:]:
        places.append(a * places[-1] + math.sqrt(1 - a * a) * new)
    return torch.stack(places)


@pytest.mark.parametrize("a", [-0.5, 0.0, 0.3, 0.9, 0.97])
def test_the_ruler_knows_an_autoregression(a):
    """Autocorrelations a^s up to the first below .05: 1 / (1 + 2 sum), which tends to (1 - a) / (1 + a)."""
    last = int(math.log(0.05) / math.log(a)) if a > 0.05 else 0
    exact = 1 / (1 + 2 * sum(a**s for s in range(1, last + 1)))
    found = float(STUDY["effective"](autoregressive(a), torch.ones(1)))
    assert found == pytest.approx(exact, rel=0.1)
    assert a < 0 or exact == pytest.approx((1 - a) / (1 + a), rel=0.12)
    if a > 0.1:
        assert found != pytest.approx(1 / (1 + sum(a**s for s in range(1, last + 1))), rel=0.1), "one side only"
        assert float(STUDY["effective"](autoregressive(a), torch.full((1,), 2.0))) != pytest.approx(exact, rel=0.1)


def kernel_of(name, kind, target):
    if kind is HMC:
        return HMC(STUDY["LEAPFROG"], target.grid[-2], 0.65)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        kernel = L2HMCKernel(len(target.variance), 3, 0.4 * target.grid[-1], 6, target.scale)
        with torch.no_grad():
            for net in (kernel.of_v, kernel.of_z):
                for parameter in net.output.parameters():
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return kernel


def white(name, z):
    """``[N, D]`` of variance one, along the axes of the density."""
    if name != "correlated":
        return z.double() / TARGETS[name].variance.double().sqrt()
    along = z.double() @ torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / math.sqrt(2)
    return along / torch.tensor([10.0, 0.1], dtype=torch.float64)


def away(name, kind, count=4000):
    """How far two moments along each axis are from the target's after some transitions, in errors, the worst."""
    places, acceptance = STUDY["chains"](TARGETS[name], kernel_of(name, kind, TARGETS[name]), 12, count)
    assert 0.02 < acceptance < 0.99
    start, end = white(name, places[0]), white(name, places[-1])
    assert (end - start).abs().mean() > 0.01
    z = torch.cat([end, end.square() - 1], 1)
    return float((z.mean(0) / z.std(0) * math.sqrt(count)).abs().max())


@every
@pytest.mark.parametrize("kind", [HMC, L2HMCKernel])
def test_chains_keep_the_target(name, kind):
    assert away(name, kind) < 4.5


@pytest.mark.parametrize("kind", [HMC, L2HMCKernel])
def test_chains_that_take_every_proposal_do_not(kind, monkeypatch):
    def taken(start, proposal, rng):
        return Move(proposal.point, proposal, proposal.log_ratio.clamp(max=0).exp())

    for module in (hmc, l2hmc_kernel):
        monkeypatch.setattr(module, "chosen", taken)
    assert away("correlated", kind) > 10


def test_a_small_study_runs():
    rows = STUDY["study"](["correlated"], 3, 20)
    assert rows["kernel"].tolist() == ["hmc", "l2hmc"]
    assert (rows["per_gradient"] * STUDY["LEAPFROG"]).tolist() == pytest.approx(rows["per_step"].tolist())
    assert rows["step"][1] != pytest.approx(TARGETS["correlated"].step, rel=1e-4), "training moves the step size"
