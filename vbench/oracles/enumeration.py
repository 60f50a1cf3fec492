"""Exact answers by summing over every latent state: binary and categorical latents.

Enumeration asks nothing of a method but the model's log joint and the posterior's log density. Everything is
computed in float64 and differentiable in the model's parameters, also through the states' probabilities.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vbench.oracles.common import LIMIT, expected_bound, expected_objective, expected_target, gradient, in_double
from vbench.types import Atoms, Batch, Bound, Objective, Space, Target

__all__ = ["bound_value", "exact_gradient", "log_evidence", "posterior", "states", "target_gradient"]


def states(space: Space, limit: int = LIMIT) -> Tensor:
    """Every state, ``[S, *Z]`` in float64; S is 2^D for D binary variables, C^D for D of C classes or levels.

    >>> states(Space((2,), "binary")).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]

    Raises:
        ValueError: where the latent is not discrete, or has more than ``limit`` states.
    """
    if space.support not in ("binary", "categorical", "levels"):
        raise ValueError(f"a {space.support} latent cannot be enumerated")
    choices = {"binary": 2, "levels": space.levels}.get(space.support) or space.shape[-1]
    variables = space.size // choices if space.support == "categorical" else space.size
    total = choices**variables
    if total > limit:
        raise ValueError(f"{choices}^{variables} latent states are too many to enumerate (limit {limit})")
    powers = choices ** torch.arange(variables - 1, -1, -1)
    digits = torch.arange(total)[:, None] // powers % choices
    if space.support == "categorical":
        digits = functional.one_hot(digits, choices)
    if space.support == "levels":
        digits = digits / (choices - 1)
    return digits.double().reshape(total, *space.shape)


def log_evidence(model: Any, batch: Batch, limit: int = LIMIT) -> Tensor:
    """Log p(x) = log sum_z p(x, z), ``[B]``, nats."""
    model, batch = in_double(model, batch)
    log_joint: Tensor = model.log_joint(batch, _spread(model, batch, limit))
    return log_joint.logsumexp(0)


def posterior(model: Any, batch: Batch, limit: int = LIMIT) -> Tensor:
    """The true posterior p(z | x) of every state in the order of :func:`states`, probabilities ``[S, B]``."""
    return _log_joint_and_density(model, batch, limit)[0].softmax(0)


def bound_value(model: Any, batch: Batch, bound: Bound | Objective, k: int, limit: int = LIMIT) -> Tensor:
    """Exact E[bound(log w_1..K)] over independent z_k ~ q(z | x), ``[B]``, nats; of an objective its expectation.

    Raises:
        ValueError: where the latent is not discrete or the sum has more than ``limit`` terms.
    """
    if isinstance(bound, Objective):
        model, batch = in_double(model, batch)
        z = _spread(model, batch, limit)
        log_q, log_p = (density.log_prob(z) for density in (model.posterior(batch), model.prior_density(batch)))
        return expected_objective(bound, model, batch, Atoms(z, log_q, log_q), Atoms(z, log_p, log_p), limit)
    log_joint, log_q = _log_joint_and_density(model, batch, limit)
    return expected_bound(bound, k, log_joint - log_q, log_q, limit)


def exact_gradient(model: Any, batch: Batch, bound: Bound | Objective, k: int, limit: int = LIMIT) -> dict[str, Tensor]:
    """Gradient of the batch mean of :func:`bound_value` for every trained parameter of the model, by name."""
    return gradient(bound_value(model, batch, bound, k, limit), model)


def target_gradient(model: Any, batch: Batch, target: Target, k: int, limit: int = LIMIT) -> dict[str, Tensor]:
    """The target's exact expectation for every trained parameter of the model, by name; the batch mean.

    Raises:
        ValueError: where the latent is not discrete or the sum has more than ``limit`` terms.
    """
    log_joint, log_q = _log_joint_and_density(model, batch, limit)
    return gradient(expected_target(target, k, log_joint, log_q, log_q, limit), model)


def _log_joint_and_density(model: Any, batch: Batch, limit: int) -> tuple[Tensor, Tensor]:
    """Log p(x, z) and log q(z | x) of every state, ``[S, B]`` each, nats."""
    model, batch = in_double(model, batch)
    z = _spread(model, batch, limit)
    return model.log_joint(batch, z), model.posterior(batch).log_prob(z)


def _spread(model: Any, batch: Batch, limit: int) -> Tensor:
    """Every state, for each datum, ``[S, B, *Z]``."""
    size = batch.x.shape[0]
    atoms = states(model.encoder.z, limit // size).to(batch.x.device)
    return atoms[:, None].expand(-1, size, *atoms.shape[1:])
