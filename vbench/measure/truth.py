"""What a gradient estimate is held against: an exact gradient, or the mean of many draws with its own error."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from vbench.measure.draws import trainable
from vbench.measure.exact import estimated_prior
from vbench.measure.gradients import gradient_moments
from vbench.oracles import conjugate, enumeration
from vbench.oracles.common import gradient
from vbench.types import Batch, Bound, Estimator

__all__ = ["BLOCKS", "Truth", "UnknownTargetError", "bound_truth", "evidence_truth", "mean_truth"]

BLOCKS = 10  # independent means of which errors are told: 9 degrees of freedom, so many gradients in memory


class UnknownTargetError(ValueError):
    """Why there is nothing to hold a gradient against."""


class Truth(NamedTuple):
    """Independent unbiased means of the gradient of a batch ``[L, P]``, float64; an exact one is a single row."""

    blocks: Tensor
    exact: bool


def evidence_truth(model: nn.Module, batch: Batch) -> Truth:
    """Exact gradient of the mean log p(x): finitely many latents, or a linear-Gaussian model.

    Raises:
        UnknownTargetError: the model is neither, or its prior's density is an estimate.
    """
    oracle = enumeration if _discrete(model) else conjugate
    try:
        _refuse_estimated(model, batch)
        return _flat(oracle.log_evidence(model, batch), model)
    except (ValueError, AttributeError) as why:
        raise UnknownTargetError(f"no exact log p(x): {why}") from why


def bound_truth(model: nn.Module, batch: Batch, estimator: Estimator) -> Truth:
    """Exact gradient of what an estimator claims to estimate: its bound, or its target.

    Raises:
        UnknownTargetError: it claims nothing, no oracle serves that claim and this model, or the prior's density is an
            estimate.
    """
    bound, target, k = getattr(estimator, "bound", None), getattr(estimator, "target", None), estimator.k
    if bound is None and target is None:
        raise UnknownTargetError("it declares no bound")
    try:
        _refuse_estimated(model, batch)
        if _discrete(model):
            _refuse_unnormalized(model, batch)
            if target is not None:
                return Truth(_rows(enumeration.target_gradient(model, batch, target, k), model), exact=True)
            return _flat(enumeration.bound_value(model, batch, cast(Bound, bound), k), model)
        if bound is None or target is not None or not bound.linear:
            raise ValueError(f"the closed form is the ELBO's, not that of {target or bound} at k={k}")
        return _flat(conjugate.elbo(model, batch), model)
    except (ValueError, AttributeError) as why:
        raise UnknownTargetError(f"no exact gradient: {why}") from why


def mean_truth(model: nn.Module, batch: Batch, estimator: Estimator, draws: int, key: int) -> Truth:
    """The estimator's own expectation: exactly, where its claim can be computed, else from draws.

    Raises:
        UnknownTargetError: it calls itself biased.
    """
    if not estimator.unbiased:
        raise UnknownTargetError("it calls itself biased, and so is no target")
    try:
        return bound_truth(model, batch, estimator)
    except UnknownTargetError:
        blocks = gradient_moments(model, estimator, batch, draws=draws, key=key, blocks=BLOCKS).blocks
        return Truth(blocks, exact=False)


def _discrete(model: Any) -> bool:
    return model.encoder.z.support in ("binary", "categorical")


def _refuse_estimated(model: Any, batch: Batch) -> None:
    if estimated_prior(model, batch):
        raise ValueError("the prior's density is an estimate")


def _refuse_unnormalized(model: Any, batch: Batch) -> None:
    states = enumeration.states(model.encoder.z).to(batch.x.device, batch.x.dtype)
    z = states[:, None].expand(-1, len(batch.x), *states.shape[1:])
    with torch.no_grad():
        mass = model.posterior(batch).log_prob(z).logsumexp(0)
    if not torch.allclose(mass, torch.zeros_like(mass), atol=1e-3):
        raise ValueError("the posterior's probabilities do not sum to one")


def _flat(value: Tensor, model: nn.Module) -> Truth:
    return Truth(_rows(gradient(value, model), model), exact=True)


def _rows(gradients: dict[str, Tensor], model: nn.Module) -> Tensor:
    return torch.cat([gradients[name].flatten().double() for name in trainable(model)])[None]
