"""Log likelihood where it is known: finitely many latent states, or a linear-Gaussian model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor

from vbench.batches import rows
from vbench.families import DiagonalNormal
from vbench.measure.measurement import Measurement, mean_over_data
from vbench.model import Model
from vbench.oracles import conjugate, enumeration
from vbench.rng import Rng
from vbench.types import Batch

__all__ = ["estimated_prior", "exact_likelihood", "exact_log_evidence"]

_STATES: Final = 4096  # no dearer for each datum than the samples of an estimate
_REFUSED: Final = (AttributeError, RuntimeError, ValueError)  # by an oracle, or by parts not made for its question
_TERMS: Final = 1 << 22  # states times data times their scalars, in double precision: 32 MB


def exact_log_evidence(model: Model, batches: Iterable[Batch]) -> Tensor | None:
    """Log p(x) of each datum ``[n]``, nats, float64 on the CPU.

    None where no oracle serves the model, or its prior's density is an estimate.
    """
    found = []
    with torch.no_grad():
        for batch in batches:
            values = _enumerated(model, batch) if _discrete(model) else _conjugate(model, batch)
            if values is None:
                return None
            found.append(values.cpu())
    return torch.cat(found) if found else None


def exact_likelihood(model: Model, batches: Iterable[Batch]) -> list[Measurement]:
    """``log_likelihood_exact``, the mean over the data, nats; nothing where no oracle serves the model."""
    values = exact_log_evidence(model, batches)
    return [] if values is None else [mean_over_data("log_likelihood_exact", "all", values, "nats")]


def estimated_prior(model: Any, batch: Batch | None) -> bool:
    """Whether the prior's density says that its ``log_prob`` is an estimate: what is summed of it is not exact."""
    return bool(getattr(model.prior_density(batch), "estimated", False))


def _discrete(model: Any) -> bool:
    return model.encoder.z.support in ("binary", "categorical")


def _enumerated(model: Any, batch: Batch) -> Tensor | None:
    try:
        states = len(enumeration.states(model.encoder.z, _STATES))
    except ValueError:
        return None
    size = max(1, _TERMS // (states * max(1, batch.x[0].numel())))
    try:
        if estimated_prior(model, batch):
            return None
        pieces = (rows(batch, slice(start, start + size)) for start in range(0, len(batch.x), size))
        return torch.cat([enumeration.log_evidence(model, piece) for piece in pieces])
    except _REFUSED:
        return None


def _conjugate(model: Any, batch: Batch) -> Tensor | None:
    # a look at the families first: an oracle that asks a decoder for means would set a dear one to work
    prior = model.prior_density(batch)
    if not isinstance(prior, DiagonalNormal) or batch.mask is not None:
        return None
    z = prior.draw(Rng(0, batch.x.device), 1).z
    if not isinstance(model.likelihood(batch, z.expand(1, len(batch.x), *z.shape[2:])), DiagonalNormal):
        return None
    try:
        return conjugate.log_evidence(model, batch)
    except _REFUSED:
        return None
