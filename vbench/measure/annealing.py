r"""Annealed importance sampling: chains that are led from a distribution we can draw from to p(x, z), with a weight.

.. math:: \log f_\beta(z) = (1 - \beta) \log q_0(z) + \beta \log p(x, z), \qquad 0 = \beta_0 < \ldots < \beta_T = 1

From :math:`z \sim q_0` a chain goes through transitions that leave :math:`f_{\beta_1}, \ldots, f_{\beta_{T-1}}`
invariant, and before each change of :math:`\beta` takes :math:`(\beta_t - \beta_{t-1}) (\log p(x, z) - \log q_0(z))`
into its log weight: :math:`E[w] = p(x)`. The same in reverse, from an exact posterior sample, has :math:`E[w] = 1 /
p(x)`. Transitions are Hamiltonian, each accepted or not. Their step sizes must not depend on the chain: they are tuned
on pilot chains, which are thrown away, and then stand.

Source: Neal (2001), Annealed Importance Sampling, doi:10.1023/A:1008923215028; Grosse, Ghahramani & Adams (2015),
Sandwiching the Marginal Likelihood Using Bidirectional Monte Carlo, arXiv:1511.02543 (in reverse); Wu, Burda,
Salakhutdinov & Grosse (2017), On the Quantitative Analysis of Decoder-Based Generative Models, arXiv:1611.04273
(decoders, the sigmoid schedule).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vbench.dynamics import accepted, leapfrog, log_normal
from vbench.rng import Rng
from vbench.types import Density

__all__ = ["Between", "Chains", "Path", "Schedule", "anneal", "temperatures", "tuned_steps"]

Schedule = Literal["sigmoid", "linear"]
_REACH: Final = 4.0  # of the sigmoid, either side of its middle
_WARM: Final = 25  # transitions of the pilot chains before they are led on
_RATE: Final = 0.3  # of the pilots' log step, per unit of acceptance


class Between(NamedTuple):
    """A place, and the log densities there of the distributions at either end of the path."""

    z: Tensor  # [K, B, *Z]
    initial: Tensor  # [K, B], nats
    joint: Tensor  # [K, B], nats
    initial_slope: Tensor  # [K, B, *Z]
    joint_slope: Tensor  # [K, B, *Z]
    beta: float

    @property
    def slope(self) -> Tensor:
        """Of the log density at beta, ``[K, B, *Z]``."""
        return self.initial_slope.lerp(self.joint_slope, self.beta)

    @property
    def log_density(self) -> Tensor:
        """At beta, ``[K, B]``, nats."""
        return self.initial.lerp(self.joint, self.beta)


class Path(NamedTuple):
    """What leads from the initial distribution to the joint.

    Attributes:
        initial: a normalised density.
        log_joint: ``z [K, B, *Z] -> [K, B]``, nats.
        size: B.
    """

    initial: Density
    log_joint: Callable[[Tensor], Tensor]
    size: int

    def draw(self, rng: Rng, k: int) -> Tensor:
        """Independent draws of the initial distribution ``[K, B, *Z]``."""
        draw = self.initial.draw
        if draw(rng.spawn(), 1).z.shape[1] == self.size:
            return draw(rng, k).z.detach()
        z = draw(rng, k * self.size).z.detach()  # a prior's draws are shared by the batch
        return z.reshape(k, self.size, *z.shape[2:])

    def at(self, beta: float) -> Callable[[Tensor], Between]:
        """The field at beta: one evaluation of either density, and its derivative."""

        def field(z: Tensor) -> Between:
            with torch.enable_grad():
                z = z.detach().requires_grad_()
                initial, joint = self.initial.log_prob(z), self.log_joint(z)
                slope, joint_slope = (torch.autograd.grad(value.sum(), z)[0] for value in (initial, joint))
                return Between(z.detach(), initial.detach(), joint.detach(), slope, joint_slope, beta)

        return field


class Chains(NamedTuple):
    """Where chains ended, and how they got there."""

    log_w: Tensor  # [K, B] float64, nats
    z: Tensor  # [K, B, *Z]
    acceptance: Tensor  # [T - 1, B], mean over chains of each transition


def temperatures(count: int, schedule: Schedule = "sigmoid") -> Tensor:
    r"""Inverse temperatures :math:`\beta_0 = 0` to :math:`\beta_T = 1`, ``[count + 1]`` float64.

    ``sigmoid``: :math:`\sigma(4 (2 t / T - 1))`, stretched to [0, 1]: fine steps at both ends.
    """
    betas = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    if schedule == "linear":
        return betas
    betas = (_REACH * (2 * betas - 1)).sigmoid()
    return (betas - betas[0]) / (betas[-1] - betas[0])


def anneal(path: Path, z: Tensor, betas: Tensor, steps: Tensor, leapfrogs: int, rng: Rng) -> Chains:
    """Lead chains along the path, from its first temperature to its last.

    With ``betas`` (and ``steps``) from 0 to 1 and z drawn from the initial distribution, the mean weight is unbiased
    for p(x); with both flipped and z drawn from the exact posterior, for 1 / p(x).

    Args:
        path: of one batch.
        z: where chains start, ``[K, B, *Z]``, distributed as the path at ``betas[0]``.
        betas: inverse temperatures ``[T + 1]``.
        steps: step sizes of each temperature and datum ``[T + 1, B]``; they know nothing of these chains.
        leapfrogs: leapfrog steps of a transition.
        rng: of momenta and choices.
    """
    marks = betas.tolist()
    place = path.at(marks[0])(z)
    log_w = torch.zeros_like(place.joint, dtype=torch.float64)
    acceptances = []
    for t, (old, new) in enumerate(itertools.pairwise(marks), 1):
        log_w = log_w + (new - old) * (place.joint.double() - place.initial.double())
        if t + 1 < len(marks):  # what the last transition would do, the weight does not see
            place, acceptance = _transition(path, place._replace(beta=new), steps[t], leapfrogs, rng)
            acceptances.append(acceptance)
    return Chains(log_w, place.z, torch.stack(acceptances) if acceptances else log_w.new_ones(0, path.size))


def tuned_steps(
    path: Path, betas: Tensor, schedule: Schedule, *, count: int, chains: int, wanted: float, leapfrogs: int, rng: Rng
) -> Tensor:
    """Step sizes for each temperature and datum ``[T + 1, B]``, from pilot chains on a coarser path.

    The step of a datum moves after each transition, towards a mean acceptance of ``wanted`` over its pilot chains;
    between their temperatures its logarithm is interpolated.

    Args:
        path: of one batch.
        betas: the temperatures to have steps for ``[T + 1]``.
        schedule: of the pilots' temperatures.
        count: the pilots' temperatures.
        chains: pilot chains for each datum.
        wanted: mean acceptance.
        leapfrogs: leapfrog steps of a transition.
        rng: the pilots' own.
    """
    marks = temperatures(min(count, len(betas) - 1), schedule).tolist()
    place = path.at(0.0)(path.draw(rng, chains))
    log_step = torch.full((path.size,), 0.5, device=place.z.device).to(place.joint).log()
    found = []
    for beta in [marks[1]] * _WARM + marks[1:]:
        place, acceptance = _transition(path, place._replace(beta=beta), log_step.exp(), leapfrogs, rng)
        log_step = log_step + _RATE * (acceptance - wanted)
        found.append(log_step)
    found = [found[_WARM], *found[_WARM:]]  # the first stands for beta 0 too
    between = functional.interpolate(torch.stack(found).T[None], len(betas), mode="linear", align_corners=True)
    return between[0].T.exp()


def _transition(path: Path, place: Between, step: Tensor, leapfrogs: int, rng: Rng) -> tuple[Between, Tensor]:
    """One Hamiltonian transition that leaves the density at ``place.beta`` invariant; mean acceptance ``[B]``."""
    step = step.reshape(-1, *[1] * (place.z.dim() - 2))
    v = rng.normal(*place.z.shape, dtype=place.z.dtype)
    end, u = leapfrog(path.at(place.beta), place, v, step, leapfrogs)
    taken, acceptance = accepted(end.log_density + log_normal(u) - place.log_density - log_normal(v), rng)
    event = taken.reshape(*taken.shape, *[1] * (place.z.dim() - 2))

    def kept(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(taken if new.dim() == 2 else event, new, old)

    moved = Between(
        kept(end.z, place.z),
        kept(end.initial, place.initial),
        kept(end.joint, place.joint),
        kept(end.initial_slope, place.initial_slope),
        kept(end.joint_slope, place.joint_slope),
        place.beta,
    )
    return moved, acceptance.mean(0)
