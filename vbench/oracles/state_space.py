r"""Exact expectations of particle methods: every particle, every ancestor, every step of a short chain.

A particle method with N particles draws ancestors :math:`a_t^i` where it resamples, then states
:math:`z_t^i \sim q_t(\cdot | z_{t-1}^{a_t^i})`, weighs them by :math:`\alpha_t = p(x_t | z_t) p(z_t | z_{t-1}) / q_t`,
and estimates the evidence by

.. math:: \hat p = \prod_t \sum_i W_{t-1}^i \alpha_t^i, \quad W_t^i \propto W_{t-1}^i \alpha_t^i,
   \quad W = 1/N \text{ at the start and after resampling.}

All outcomes are enumerated with their probabilities, so that the bound :math:`E[\log \hat p]` (FIVO, AESMC, VSMC)
and its gradient are exact, and so is the expectation of the usual gradient estimates, which drop the score of the
ancestors. Only histories of draws are enumerated: the atoms may be the states of a finite chain
(:meth:`Histories.of_chain`) or the quadrature nodes of a reparameterised one. float64.

Source: Maddison et al. (2017), Filtering Variational Objectives, arXiv:1705.09279; Le et al. (2018), Auto-Encoding
Sequential Monte Carlo, arXiv:1705.10306; Naesseth et al. (2018), Variational Sequential Monte Carlo,
arXiv:1705.11140; resampling as in Douc, Cappe & Moulines (2005), arXiv:cs/0507025.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor, nn

from vbench.oracles.common import LIMIT

__all__ = [
    "Ancestors",
    "Histories",
    "Markov",
    "Outcomes",
    "Particles",
    "bound_value",
    "emissions",
    "exact_gradient",
    "log_evidence",
    "mean_estimate",
    "outcomes",
]

Ancestors = Literal["exact", "dropped", "weights"]


@dataclass(frozen=True)
class Markov:
    """A Markov chain over S states in log probabilities: the prior of latents, or a proposal.

    Attributes:
        log_initial: ``[S]``, or ``[B, S]`` for one per datum.
        log_transition: ``[S, S]``, the rows being where it comes from; or ``[T - 1, S, S]``, ``[B, T - 1, S, S]``.
    """

    log_initial: Tensor
    log_transition: Tensor

    def over(self, size: int, steps: int) -> tuple[Tensor, Tensor]:
        """Initial ``[B, S]`` and transitions ``[B, T - 1, S, S]`` for B data and T steps, in float64."""
        states = self.log_initial.shape[-1]
        initial = self.log_initial.double().expand(size, states)
        transition = self.log_transition.double().expand(size, steps - 1, states, states)
        for log_probability in (initial, transition):
            _check_distribution(log_probability)
        return initial, transition


@dataclass(frozen=True)
class Histories:
    """Everything that one particle may draw, and what it is then worth.

    Step t has S_t atoms; a row is a history of draws, the last draw running fastest, H_t = S_1 ... S_(t-1) rows.
    Draws depend on the parameters through their probability (a discrete state) or through ``log_weight`` at fixed
    probability (a node of reparameterised noise).

    Attributes:
        log_mass: for each step the log probability of each atom after each history, ``[B or 1, H_t, S_t]``.
        log_weight: log alpha_t, ``[B or 1, H_t, S_t]``, nats.
    """

    log_mass: Sequence[Tensor]
    log_weight: Sequence[Tensor]

    def __post_init__(self) -> None:
        if not self.log_mass or len(self.log_mass) != len(self.log_weight):
            raise ValueError("log_mass and log_weight must have one table for each step, and one step at least")
        rows = 1
        for t, tables in enumerate(zip(self.log_mass, self.log_weight, strict=True)):
            atoms = tables[0].shape[-1]
            if any(table.dim() != 3 or table.shape[1:] != (rows, atoms) for table in tables):
                found = " and ".join(str(list(table.shape)) for table in tables)
                raise ValueError(f"the tables of step {t} must be [B, {rows}, S], not {found}")
            _check_distribution(tables[0])
            if not tables[1].isfinite().all():
                raise ValueError(f"a log weight of step {t} is not finite")
            rows *= atoms

    @classmethod
    def of_chain(cls, prior: Markov, proposal: Markov, log_likelihood: Tensor) -> Self:
        """A finite-state chain with log p(x_t | z_t) ``[B, T, S]``, nats.

        The proposal may look at all of x; the prior as its own proposal is the bootstrap filter.
        """
        size, steps, states = log_likelihood.shape
        (p_first, p_next), (q_first, q_next) = (chain.over(size, steps) for chain in (prior, proposal))
        log_mass = [q_first[:, None]]
        log_weight = [(p_first + log_likelihood.double()[:, 0] - q_first)[:, None]]
        for t in range(1, steps):
            log_q = q_next[:, t - 1]
            log_alpha = p_next[:, t - 1] + log_likelihood.double()[:, t, None] - log_q
            log_mass.append(log_q.repeat(1, states ** (t - 1), 1))
            log_weight.append(log_alpha.repeat(1, states ** (t - 1), 1))
        return cls(log_mass, log_weight)

    @property
    def size(self) -> int:
        """Number of data B."""
        return max(table.shape[0] for tables in (self.log_mass, self.log_weight) for table in tables)


@dataclass(frozen=True)
class Particles:
    """The particle method: how many particles, and when and how ancestors are drawn.

    Attributes:
        count: N.
        schedule: before the second and every later step ``always``, ``never``, or ``adaptive``: for a datum where
            1 / sum W^2 < threshold * N, which two particles never reach at 1/2. The decision has no gradient; where
            draws move with the parameters (nodes) the adaptive gradient therefore lacks what crosses the threshold.
        scheme: ``multinomial``, or the cumulated weights inverted at (i + u_i) / N (``stratified``) or at
            (i + u) / N (``systematic``).
        threshold: of the adaptive schedule, as a fraction of N.
    """

    count: int
    schedule: Literal["always", "never", "adaptive"]
    scheme: Literal["multinomial", "stratified", "systematic"] = "multinomial"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"there must be one particle at least, not {self.count}")
        _check_choice(self.schedule, "always", "never", "adaptive")
        _check_choice(self.scheme, "multinomial", "stratified", "systematic")


class Outcomes(NamedTuple):
    """All that can happen: P outcomes with N particles each."""

    mass: Tensor  # probability of each outcome, [P, B]
    log_estimate: Tensor  # log p-hat, [P, B], nats
    log_weight: Tensor  # log W_T of the particles, [P, B, N]
    history: Tensor  # the history of each particle, counted as the rows of one more step, [P, N]


def emissions(log_emission: Tensor, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Log p(x_t | z_t) ``[B, T, S]`` of symbols ``x [B, T]`` by a table ``[S, V]``; 0 where not observed."""
    if mask is None:
        return log_emission.double().mT[x]
    table = log_emission.double().mT[torch.where(mask.bool(), x, 0)]
    return torch.where(mask.bool()[..., None], table, 0)


def log_evidence(prior: Markov, log_likelihood: Tensor) -> Tensor:
    """Log p(x) by the forward algorithm from log p(x_t | z_t) ``[B, T, S]``: ``[B]``, nats."""
    size, steps, _ = log_likelihood.shape
    initial, transition = prior.over(size, steps)
    log_joint = initial + log_likelihood.double()[:, 0]  # log p(x_1..t, z_t), [B, S]
    for t in range(1, steps):
        log_joint = (log_joint[..., None] + transition[:, t - 1]).logsumexp(1) + log_likelihood.double()[:, t]
    return log_joint.logsumexp(1)


def bound_value(
    histories: Histories, particles: Particles, ancestors: Ancestors = "exact", limit: int = LIMIT
) -> Tensor:
    """E[log p-hat], ``[B]``, nats; autograd gives its gradient, or the one that ``ancestors`` asks for."""
    found = outcomes(histories, particles, ancestors, limit)
    return (found.mass * found.log_estimate).sum(0)


def exact_gradient(
    histories: Histories, model: nn.Module, particles: Particles, ancestors: Ancestors = "exact", limit: int = LIMIT
) -> dict[str, Tensor]:
    """Gradient of the batch mean of :func:`bound_value` for every trained parameter behind ``histories``, by name.

    With ``dropped`` ancestors it is the exact expectation of the usual estimate, whose bias is the difference.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    mean = bound_value(histories, particles, ancestors, limit).mean()
    # retained: the next call with the same histories goes through the model again
    found = torch.autograd.grad(mean, [*named.values()], retain_graph=True, allow_unused=True, materialize_grads=True)
    return dict(zip(named, found, strict=True))


def mean_estimate(histories: Histories, particles: Particles, limit: int = LIMIT) -> Tensor:
    """Log E[p-hat], ``[B]``, nats: log p(x) whatever the proposal, the number of particles and the resampling."""
    found = outcomes(histories, particles, limit=limit)
    top = found.log_estimate.detach().amax(0)
    return (found.mass * (found.log_estimate - top).exp()).sum(0).log() + top


def outcomes(
    histories: Histories, particles: Particles, ancestors: Ancestors = "exact", limit: int = LIMIT
) -> Outcomes:
    """Every outcome of the particle method that is possible for some datum.

    Args:
        histories: what a particle may draw.
        particles: the method; N particles that resample at every step have (S N)^(N T) / N^N outcomes.
        ancestors: what autograd sees of the ancestors' probabilities. ``exact``: all of it. ``dropped``: nothing;
            the gradient of E[log p-hat] is then the expectation of grad log p-hat with draws held or, where they are
            reparameterised, moving, plus log p-hat times the score of discrete states. ``weights``: the same plus
            log p-hat times sum_t sum_i grad log W^a, the ancestors' score if resampling is multinomial.
        limit: largest number of outcomes times data.

    Raises:
        ValueError: where there are too many outcomes.
    """
    _check_choice(ancestors, *get_args(Ancestors))
    n, device = particles.count, histories.log_mass[0].device
    families = _tuples(n, n, device)
    history = torch.zeros(1, n, dtype=torch.long, device=device)
    log_w = torch.full((1, histories.size, n), -math.log(n), dtype=torch.float64, device=device)
    mass, log_estimate = torch.ones_like(log_w[..., 0]), torch.zeros_like(log_w[..., 0])
    for t, (log_mass, log_weight) in enumerate(zip(histories.log_mass, histories.log_weight, strict=True)):
        if t and particles.schedule != "never":
            _check_number(len(mass) * len(families), histories.size, limit)
            mass = (mass[:, None] * _family_mass(log_w, families, particles, ancestors)).flatten(0, 1)
            log_w = torch.where(_resampled(log_w, particles)[..., None], -math.log(n), log_w)
            possible = (mass > 0).any(1)
            parent = torch.arange(len(log_w), device=device).repeat_interleave(len(families))[possible]
            history = history[:, families].flatten(0, 1)[possible]
            mass, log_w, log_estimate = mass[possible], log_w[parent], log_estimate[parent]
        atoms = log_mass.shape[-1]
        _check_number(len(mass) * atoms**n, histories.size, limit)
        draws = _tuples(atoms, n, device)
        rows, drawn = history.repeat_interleave(len(draws), 0), draws.repeat(len(history), 1)  # [P, N]
        log_q, log_alpha = (table.double()[:, rows, drawn].movedim(0, 1) for table in (log_mass, log_weight))
        mass, log_w, log_estimate = (old.repeat_interleave(len(draws), 0) for old in (mass, log_w, log_estimate))
        joint = log_w + log_alpha
        growth = joint.logsumexp(2)
        mass, log_estimate, log_w = mass * log_q.sum(2).exp(), log_estimate + growth, joint - growth[..., None]
        history = rows * atoms + drawn
    return Outcomes(mass, log_estimate, log_w, history)


def _resampled(log_w: Tensor, particles: Particles) -> Tensor:
    """Where ``[P, B]`` ancestors are drawn."""
    if particles.schedule == "always":
        return torch.ones_like(log_w[..., 0], dtype=torch.bool)
    return (-(2 * log_w.detach()).logsumexp(2)).exp() < particles.threshold * particles.count


def _family_mass(log_w: Tensor, families: Tensor, particles: Particles, ancestors: Ancestors) -> Tensor:
    """Probability of each vector of ancestors ``[F, N]`` under log W ``[P, B, N]``: ``[P, F, B]``."""
    count, place = particles.count, torch.arange(particles.count, device=log_w.device)
    log_chosen = log_w[..., families].sum(3)
    if particles.scheme == "multinomial":
        mass = log_chosen.exp()
    else:
        top = log_w.exp().cumsum(2)
        # the part of [0, 1) in which u sends particle i to its ancestor
        upper = (count * top[..., families] - place).clamp(max=1)
        lower = (count * (top - log_w.exp())[..., families] - place).clamp(min=0)
        shared = particles.scheme == "systematic"
        mass = (upper.amin(3) - lower.amax(3)).clamp(min=0) if shared else (upper - lower).clamp(min=0).prod(3)
    if ancestors != "exact":
        mass = mass.detach()
    if ancestors == "weights":
        mass = mass * (log_chosen - log_chosen.detach()).exp()
    alone = (families == place).all(1).to(mass.dtype)
    return torch.where(_resampled(log_w, particles)[..., None], mass, alone).movedim(2, 1)


def _tuples(choices: int, length: int, device: torch.device) -> Tensor:
    """Every tuple of this length, ``[choices^length, length]``."""
    return torch.cartesian_prod(*[torch.arange(choices, device=device)] * length).reshape(-1, length)


def _check_number(count: int, size: int, limit: int) -> None:
    if count * size > limit:
        terms = f"{count} outcomes of the particle method for each of {size} data"
        raise ValueError(f"too many terms for an exact sum: {terms}, above the limit of {limit} in all")


def _check_choice(value: str, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"{value!r} is none of {', '.join(choices)}")


def _check_distribution(log_probability: Tensor) -> None:
    if not log_probability.isfinite().all():
        raise ValueError("a log probability is not finite: give what never happens a small one")
    total = log_probability.detach().logsumexp(-1)
    if not torch.allclose(total, torch.zeros_like(total), atol=1e-6):
        raise ValueError("probabilities do not sum to one")
