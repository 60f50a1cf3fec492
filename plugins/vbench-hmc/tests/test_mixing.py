"""Effective sample size per step of L2HMC against HMC, on the targets of its paper. Minutes long: behind ``slow``.

``python -m pytest -m slow -rP plugins/vbench-hmc/tests/test_mixing.py`` prints the table. Both take ten leapfrog
steps a transition; HMC's step size is the best of a ladder. Only the order of the two is asked for.
"""

import math

import pytest
import torch
from vbench_hmc.dynamics import field
from vbench_hmc.hmc import HMC
from vbench_hmc.l2hmc_kernel import L2HMCKernel

from vbench import Rng

LEAPFROG, CHAINS, LENGTH = 10, 100, 900


def gaussian(variances, angle=0.0):
    """Log density and standard deviations, the axes turned in the plane of the first two."""
    turn = torch.eye(len(variances))
    turn[:2, :2] = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    root = turn / variances.sqrt()  # columns are the axes
    covariance = turn @ variances.diag() @ turn.mT
    return (lambda z: -0.5 * (z @ root).square().sum(-1)), covariance.diagonal().sqrt()


def mixture(z):
    centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    return torch.stack([-0.5 * (z - c).square().sum(-1) / 0.1 for c in centres]).logsumexp(0)


def rough(z, eta=1e-2):
    return -0.5 * z.square().sum(-1) - eta * (z / eta).cos().sum(-1)


SCG = gaussian(torch.tensor([1e2, 1e-2]), math.pi / 4)
ICG = gaussian(torch.logspace(-2, 2, 50))
# name: log density, standard deviations, dimensions, HMC's step sizes, L2HMC's first step size, scale, training steps
TARGETS = {
    "2-d SCG": (*SCG, 2, (0.05, 0.1, 0.15, 0.19), 0.1, 1.0, 1000),
    "mixture": (mixture, torch.tensor([4.1**0.5, 0.1**0.5]), 2, (0.1, 0.2, 0.3, 0.5), 0.1, 1.0, 1000),
    "rough well": (rough, torch.ones(2), 2, (0.005, 0.01, 0.05, 0.1, 0.2), 0.1, 1.0, 800),
    "50-d ICG": (*ICG, 50, (0.05, 0.1, 0.15, 0.19), 0.1, 1.0, 800),
}


def trained(name):
    log_density, _, size, _, step, scale, count = TARGETS[name]
    torch.manual_seed(0)
    at, kernel = field(log_density), L2HMCKernel(size, LEAPFROG, step, max(10, size), scale)
    optimizer = torch.optim.Adam(kernel.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / count))
    point = at(torch.randn(CHAINS, 2, size))
    for key in range(count):
        # the burn-in term: half of the moves are from where chains begin
        start = at(torch.stack([torch.randn(CHAINS, size), point.z[:, 1]], 1))
        move = kernel(at, start, Rng(key))
        optimizer.zero_grad()
        (-kernel.objective(start, move).mean()).backward()
        torch.nn.utils.clip_grad_norm_(kernel.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        point = move.point
    return kernel


@torch.no_grad()
def efficiency(kernel, name):
    """Effective samples per transition, the smallest over the latents, and the mean acceptance.

    The sum of autocorrelations, known mean (zero) and variance given, ends where it falls below .05.

    Source: Hoffman & Gelman (2014), The No-U-Turn Sampler, arXiv:1111.4246, appendix A.
    """
    log_density, deviation, size = TARGETS[name][:3]
    at = field(log_density)
    point = at(torch.randn(CHAINS, 1, size) * deviation)
    kept, acceptance = [], []
    for key in range(LENGTH):
        move = kernel(at, point, Rng(10**6 + key))
        point = move.point
        acceptance.append(float(move.acceptance.mean()))
        if key >= LENGTH // 3:
            kept.append(point.z[:, 0] / deviation)
    chain = torch.stack(kept).double()  # [T, chains, D]
    length = len(chain)
    lags = [(chain[: length - lag] * chain[lag:]).mean((0, 1)) for lag in range(1, length - 1)]
    rho = torch.stack(lags)
    below = (rho < 0.05).int().argmax(0)
    cut = torch.where((rho < 0.05).any(0), below, len(rho))
    ahead = torch.arange(len(rho))[:, None] < cut
    share = 1 - torch.arange(1, len(rho) + 1)[:, None] / length
    return float((1 / (1 + 2 * (rho * share * ahead).sum(0))).min()), sum(acceptance) / len(acceptance)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TARGETS)
def test_l2hmc_mixes_faster_than_hmc(name):
    plain = {step: efficiency(HMC(LEAPFROG, step, 0.65), name) for step in TARGETS[name][3]}
    step = max(plain, key=lambda s: plain[s][0])
    learned = efficiency(trained(name), name)
    print(
        f"{name}: L2HMC {learned[0]:.2e} (acceptance {learned[1]:.2f}), "
        f"HMC {plain[step][0]:.2e} (step {step}, acceptance {plain[step][1]:.2f}), "
        f"ratio {learned[0] / plain[step][0]:.1f}"
    )
    assert learned[0] > plain[step][0]
