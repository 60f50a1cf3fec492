"""Why a posterior falls short of the evidence: its family, or the net that guesses its parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vbench.families import DiagonalNormal
from vbench.measure.accumulate import WeightSums
from vbench.measure.measurement import Measurement, mean_over_data
from vbench.measure.refit import ascend
from vbench.measure.sampling import draw_in_chunks
from vbench.model import Model, frozen
from vbench.rng import Rng, derive
from vbench.types import Batch, Posterior

__all__ = ["Gaps", "inference_gap", "inference_gaps"]

_FIT: int = 8  # draws of a step


class Gaps(NamedTuple):
    """Of each datum ``[n]``, nats, float64 on the CPU."""

    log_evidence: Tensor  # by importance sampling from the best q: low on average
    best: Tensor  # ELBO of the best q of the family
    own: Tensor  # ELBO of the encoder's q


def inference_gaps(
    model: Model, batches: Iterable[Batch], *, k: int, steps: int, lr: float, samples: int, key: int
) -> Gaps:
    r"""What the two gaps are made of, datum by datum.

    .. math:: \log p(x) - L[q] = \underbrace{\log p(x) - L[q^*]}_{\text{approximation}}
       + \underbrace{L[q^*] - L[q]}_{\text{amortization}}

    The best diagonal normal :math:`q^*` is found by ascending the ELBO from the encoder's q, the model frozen, along
    the path alone (no noise is left where q is the posterior). Both ELBOs are sampled with the same noise. The
    evidence is importance-sampled from :math:`q^*`, low on average, and so are the gaps to it.

    Args:
        model: one whose posterior is a diagonal normal.
        batches: data.
        k: importance samples for the evidence.
        steps: of the ascent.
        lr: its learning rate at the start.
        samples: draws for the ELBOs.
        key: of all draws.

    Source: Cremer, Li & Duvenaud (2018), Inference Suboptimality in Variational Autoencoders, arXiv:1801.03558.
    """
    still, found = frozen(model), []
    for number, batch in enumerate(batches):
        with torch.no_grad():
            q: Any = model.posterior(batch)
        best = _best(still, batch, q, steps, lr, derive("gap", key, number))
        with torch.no_grad():
            sums = WeightSums()
            for draw in draw_in_chunks(best, batch, k, "gap likelihood", key, number):
                sums.add(still.log_joint(batch, draw.z) - draw.log_q)  # type: ignore[operator]
            elbos = [_elbo(still, batch, each, samples, key, number) for each in (best, DiagonalNormal(q.loc, q.scale))]
        found.append([sums.log_mean.cpu(), *elbos])
    if not found:
        raise ValueError("inference gaps need at least one batch")
    return Gaps(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def inference_gap(
    model: Model, batches: Iterable[Batch], *, k: int, steps: int, lr: float, samples: int, key: int
) -> list[Measurement]:
    """Means over the data of ``inference_gap``, ``approximation_gap`` and ``amortization_gap``, nats.

    The arguments are those of :func:`inference_gaps`.
    """
    log_evidence, best, own = inference_gaps(model, batches, k=k, steps=steps, lr=lr, samples=samples, key=key)
    return [
        mean_over_data("inference_gap", "encoder", log_evidence - own, "nats"),
        mean_over_data("approximation_gap", "encoder", log_evidence - best, "nats"),
        mean_over_data("amortization_gap", "encoder", best - own, "nats"),
    ]


def _best(still: Model, batch: Batch, q: Any, steps: int, lr: float, key: int) -> DiagonalNormal:
    loc, log_scale = q.loc.clone().requires_grad_(), q.scale.log().requires_grad_()

    def objective(step: int) -> Tensor:
        z = DiagonalNormal(loc, log_scale.exp()).draw(Rng(derive(key, step), batch.x.device), _FIT).z
        log_q = DiagonalNormal(loc.detach(), log_scale.detach().exp()).log_prob(z)
        return (still.log_joint(batch, z) - log_q).mean(0)

    ascend([loc, log_scale], objective, steps, lr)
    return DiagonalNormal(loc.detach(), log_scale.detach().exp())


def _elbo(still: Model, batch: Batch, q: Posterior, samples: int, key: int, number: int) -> Tensor:
    draws = draw_in_chunks(q, batch, samples, "gap elbo", key, number)
    sums = [(still.log_joint(batch, draw.z) - draw.log_q).double().sum(0) for draw in draws]  # type: ignore[operator]
    return torch.stack(sums).sum(0).cpu() / samples
