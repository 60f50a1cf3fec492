"""Effective samples per step and per gradient of L2HMC and of HMC, on the targets of Levy et al. (2018).

Run: python results/l2hmc/ess.py [TARGET ...] [--iterations N] [--steps T] [--csv FILE]

Chains start from exact draws of the target, so that nothing has to burn in; mean and variance are known. HMC has the
step size of its grid that serves it best; the kernel of L2HMC is trained first, half of its chains going on, half of
them starting anew from a standard normal. Both make ten leapfrog steps a transition, each one gradient.

Source: Levy, Hoffman & Sohl-Dickstein (2018), Generalizing Hamiltonian Monte Carlo with Neural Networks,
arXiv:1711.09268, section 5.1; Hoffman & Gelman (2014), The No-U-Turn Sampler, arXiv:1111.4246, appendix A.
"""

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from vbench_hmc.hmc import HMC
from vbench_hmc.kernels import Kernel
from vbench_hmc.l2hmc_kernel import L2HMCKernel

from vbench import Rng, derive
from vbench.dynamics import Field, Point

LEAPFROG = 10
CHAINS = 200
GROUPS = 5  # of chains, whose spread is the error


class Target(NamedTuple):
    """A density of mean zero, and how its samplers are set."""

    at: Field
    draw: Callable[[Rng, int], Tensor]  # n -> exact draws [n, 1, D]
    variance: Tensor  # [D]
    grid: tuple[float, ...]  # step sizes of HMC
    step: float  # that L2HMC begins with
    scale: float  # lambda of L2HMC: the length of a move worth making
    hidden: int = 10  # width of its nets


def gaussian(covariance: Tensor, **settings: float | int | tuple[float, ...]) -> Target:
    """N(0, covariance)."""
    precision, root = torch.linalg.inv(covariance.double()).float(), torch.linalg.cholesky(covariance.double()).float()

    def at(z: Tensor) -> Point:
        slope = -z @ precision
        return Point(z, slope, 0.5 * (z * slope).sum(-1))

    return Target(at, lambda rng, n: rng.normal(n, 1, len(root)) @ root.T, covariance.diagonal(), **settings)


def mixture() -> Target:
    """Two isotropic normals of variance .1, their centres 4 apart."""
    centres, variance = torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), 0.1

    def at(z: Tensor) -> Point:
        logits = -(z[..., None, :] - centres).square().sum(-1) / (2 * variance)
        slope = (logits.softmax(-1) @ centres - z) / variance
        return Point(z, slope, logits.logsumexp(-1))

    def draw(rng: Rng, n: int) -> Tensor:
        return centres[(rng.uniform(n, 1) < 0.5).long()] + math.sqrt(variance) * rng.normal(n, 1, 2)

    return Target(at, draw, torch.tensor([4 + variance, variance]), (0.05, 0.1, 0.2, 0.3, 0.4), 0.1, 0.3)


def rough_well() -> Target:
    """exp(-x'x / 2 - eta sum cos(x / eta)), eta = .01, in the plane."""
    eta = 0.01

    def at(z: Tensor) -> Point:
        return Point(z, (z / eta).sin() - z, -(0.5 * z.square() + eta * (z / eta).cos()).sum(-1))

    def draw(rng: Rng, n: int) -> Tensor:
        tries = rng.normal(2 * n, 1, 2)  # of which 98% are kept
        kept = rng.uniform(2 * n) < (-eta * ((tries / eta).cos() + 1).sum((1, 2))).exp()
        return tries[kept][:n]

    line = torch.linspace(-9, 9, 100_001, dtype=torch.float64)
    mass = (-0.5 * line.square() - eta * (line / eta).cos()).softmax(0)
    return Target(at, draw, (mass @ line.square()).float().expand(2), (0.05, 0.1, 0.2, 0.3, 0.5), 0.1, 1.0)


def targets() -> dict[str, Target]:
    """The four of the paper, by name."""
    half = torch.tensor([[1.0, -1.0], [1.0, 1.0]]) / math.sqrt(2)
    grid = (0.05, 0.1, 0.15, 0.2)  # below twice the smallest standard deviation
    narrow = gaussian(torch.diag(torch.logspace(-2, 2, 50)), grid=grid, step=0.1, scale=0.1, hidden=50)
    slanted = gaussian(half @ torch.diag(torch.tensor([1e2, 1e-2])) @ half.T, grid=grid, step=0.1, scale=0.1)
    return {"correlated": slanted, "mixture": mixture(), "rough-well": rough_well(), "ill-conditioned": narrow}


def trained(target: Target, iterations: int, seed: int = 0, lr: float = 5e-3) -> L2HMCKernel:
    """A kernel of L2HMC after so many steps of Adam, each on one transition of all chains."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kernel = L2HMCKernel(len(target.variance), LEAPFROG, target.step, target.hidden, target.scale)
    optimizer = torch.optim.Adam(kernel.parameters(), lr=lr)
    z = target.draw(Rng(derive("start", seed)), CHAINS)
    for i in range(iterations):
        rng = Rng(derive("training", seed, i))
        point = target.at(torch.cat([z[: CHAINS // 2], rng.normal(CHAINS // 2, *z.shape[1:])]))
        move = kernel(target.at, point, rng)
        optimizer.zero_grad()
        (-kernel.objective(point, move).mean()).backward()
        torch.nn.utils.clip_grad_norm_(kernel.parameters(), 1e3)  # a refused move weighs 1e8
        optimizer.step()
        z = move.point.z
    return kernel


@torch.no_grad()
def chains(target: Target, kernel: Kernel, steps: int, count: int = CHAINS, seed: int = 0) -> tuple[Tensor, float]:
    """Chains ``[T, N, D]`` from exact draws, and their mean acceptance."""
    point = target.at(target.draw(Rng(derive("chains", seed)), count))
    places, acceptance = [point.z[:, 0]], 0.0
    for i in range(steps - 1):
        move = kernel(target.at, point, Rng(derive("transition", seed, i)))
        point = move.point
        places.append(point.z[:, 0])
        acceptance += float(move.acceptance.mean()) / (steps - 1)
    return torch.stack(places), acceptance


def effective(places: Tensor, variance: Tensor) -> Tensor:
    r"""Effective samples per step ``[D]`` of chains ``[T, N, D]`` of known mean zero and variance ``[D]``.

    .. math:: \Big(1 + 2 \sum_{s < c} \rho_s\Big)^{-1}, \qquad
       \rho_s = \frac{1}{N (T - s)} \sum_{n, t} x_t^n x_{t + s}^n

    c is the first lag whose autocorrelation is below .05. Never above one: what mirrored moves gain is not counted.
    """
    length = len(places)
    x = places.double() / variance.double().sqrt()
    spectrum = torch.fft.rfft(x, n=2 * length, dim=0).abs().square().mean(1)
    rho = torch.fft.irfft(spectrum, n=2 * length, dim=0)[:length] / (length - torch.arange(length))[:, None]
    before = (rho[1:] >= 0.05).cumprod(0)
    return 1 / (1 + 2 * (before * rho[1:]).sum(0))


def measured(target: Target, kernel: Kernel, steps: int) -> dict[str, float]:
    """Effective samples of the worst coordinate, per step and per gradient, with the error of the former."""
    places, acceptance = chains(target, kernel, steps)
    least = torch.stack([effective(part, target.variance).min() for part in places.chunk(GROUPS, 1)])
    whole = float(effective(places, target.variance).min())
    error = float(least.std()) / math.sqrt(GROUPS)
    return {"acceptance": acceptance, "per_step": whole, "std_error": error, "per_gradient": whole / LEAPFROG}


def study(names: list[str], iterations: int, steps: int) -> pd.DataFrame:
    """A row for each target and sampler; HMC at the best step size of its grid."""
    rows = []
    for name in names:
        target = targets()[name]
        tried = {step: measured(target, HMC(LEAPFROG, step, 0.65), steps) for step in target.grid}
        best = max(tried, key=lambda step: tried[step]["per_step"])
        rows.append({"target": name, "kernel": "hmc", "step": best, **tried[best]})
        kernel = trained(target, iterations)
        step = float(kernel.log_step.detach().exp())
        rows.append({"target": name, "kernel": "l2hmc", "step": step, **measured(target, kernel, steps)})
        print(pd.DataFrame(rows[-2:]).to_string(index=False, float_format="{:.4g}".format), flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="*", help=f"of {', '.join(targets())}; all of them where none is named")
    parser.add_argument("--iterations", type=int, default=400, help="of training L2HMC")
    parser.add_argument("--steps", type=int, default=500, help="of each chain that is measured")
    parser.add_argument("--csv", help="a file to write")
    asked = parser.parse_args()
    if unknown := set(asked.target) - targets().keys():
        parser.error(f"no target {', '.join(sorted(unknown))}: there are {', '.join(targets())}")
    found = study(asked.target or list(targets()), asked.iterations, asked.steps)
    if asked.csv:
        found.to_csv(asked.csv, index=False, float_format="%.4g")
