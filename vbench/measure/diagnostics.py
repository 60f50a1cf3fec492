"""What a model does with its latents: ELBO, rate, distortion, the estimator's own bound, used units."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor

from vbench.measure.information import aggregate_densities
from vbench.measure.measurement import Measurement, mean_over_data
from vbench.measure.sampling import draw_in_chunks
from vbench.model import Model
from vbench.rng import Rng, derive
from vbench.types import Batch, Density, Estimator, Posterior

__all__ = ["ACTIVE", "AGGREGATE", "DIAGNOSTICS", "PAIRED", "diagnose"]

ACTIVE: Final = 0.01
PAIRED: Final = 1000
AGGREGATE: Final = ("mutual_information", "mutual_information_cap", "aggregate_kl")
DIAGNOSTICS: Final = ("bound", "elbo", "rate", "distortion", "active_units", *AGGREGATE)


def diagnose(
    model: Model,
    estimator: Estimator,
    batches: Iterable[Batch],
    *,
    samples: int = 16,
    key: int = 0,
    measures: Collection[str] = DIAGNOSTICS,
) -> list[Measurement]:
    r"""Means over the data, in one pass with S posterior draws for each datum; nats unless said otherwise.

    * ``rate``: :math:`E_q[\log q(z | x) - \log p(z)]`; ``distortion``: :math:`-E_q \log p(x | z)`. The
      rate is always sampled, also where it is known: each datum's ``elbo`` is -(rate + distortion) exactly.
    * ``bound``: the estimator's own objective at its K, averaged over ceil(S / K) evaluations of each datum.
    * ``active_units``: how many latent scalars have :math:`\mathrm{Var}_x\, E_q[z] > 0.01`, after taking
      away what S draws add to it, :math:`E_x \mathrm{Var}_q[z] / S`. NaN with one draw or datum.
    * ``mutual_information``: what z tells of whose it is among the first N <= 1000 data, by one draw for
      each; :math:`E \log q(z | x) - \log q_N(z)` with the aggregate :math:`q_N(z) = \frac1N \sum_j q(z | x_j)`. Its
      expectation is at most the rate, and at most log N: ``mutual_information_cap``.
    * ``aggregate_kl``: :math:`\mathrm{KL}(q_N \,\|\, p)`, by the same draws; with the information it makes up the rate.

    Args:
        model: encoder, decoder and prior.
        estimator: for ``bound`` only.
        batches: data.
        samples: S.
        key: the draws of batch b are a function of (key, b).
        measures: which of these; the caller leaves out what the parts do not offer (see ``MEASURES``).

    Raises:
        ValueError: an unknown measure, fewer than one draw, no data, or a rate without ``log_q``.

    Source: Alemi et al. (2018), Fixing a Broken ELBO, arXiv:1711.00464 (rate, distortion); Burda, Grosse &
    Salakhutdinov (2016), Importance Weighted Autoencoders, arXiv:1509.00519 (active units).
    """
    if unknown := set(measures) - set(DIAGNOSTICS):
        raise ValueError(f"unknown measures {', '.join(sorted(unknown))}; expected {', '.join(DIAGNOSTICS)}")
    if samples < 1:
        raise ValueError(f"diagnostics need at least one draw for each datum, not {samples}")
    gathered: list[_Gathered] = []
    bounds: list[Tensor] = []
    paired: list[tuple[Density, Tensor]] = []
    log_p: list[Tensor] = []
    for number, batch in enumerate(batches):
        if set(measures) - {"bound"}:
            with torch.no_grad():
                sums, posterior, z = _gather(model, batch, samples, key, number)
                gathered.append(sums)
                if not {*AGGREGATE}.isdisjoint(measures) and sum(len(draws) for _, draws in paired) < PAIRED:
                    paired.append((cast(Density, posterior), z))
                    log_p.append(model.prior_density(batch).log_prob(z[None])[0].double())
        if "bound" in measures:
            bounds.append(_bound(model, estimator, batch, samples, key, number))
    if not (gathered or bounds):
        raise ValueError("diagnostics need at least one batch")
    aggregate = functools.cache(lambda: _aggregate(paired, log_p))
    makers: Mapping[str, Callable[[], Measurement]] = {
        "bound": lambda: mean_over_data("bound", "all", torch.cat(bounds), "nats"),
        "elbo": lambda: mean_over_data("elbo", "all", -(_rates(gathered) + _distortions(gathered)), "nats"),
        "rate": lambda: mean_over_data("rate", "encoder", _rates(gathered), "nats"),
        "distortion": lambda: mean_over_data("distortion", "decoder", _distortions(gathered), "nats"),
        "active_units": lambda: _active_units(gathered, samples),
        "mutual_information": lambda: aggregate()["mutual_information"],
        "mutual_information_cap": lambda: aggregate()["mutual_information_cap"],
        "aggregate_kl": lambda: aggregate()["aggregate_kl"],
    }
    return [makers[measure]() for measure in DIAGNOSTICS if measure in measures]


class _Gathered(NamedTuple):
    """What the draws of one batch leave behind, float64 on the CPU."""

    distortion: Tensor  # [B]
    rate: Tensor | None  # [B]
    mean: Tensor  # [B, scalars] of z over draws
    variance: Tensor  # [B, scalars] of z over draws (S - 1); NaN for one draw


def _gather(model: Model, batch: Batch, samples: int, key: int, number: int) -> tuple[_Gathered, Posterior, Tensor]:
    """The sums of one batch, its posterior and the first draw ``[B, *Z]``."""
    posterior, prior = model.posterior(batch), model.prior_density(batch)
    parts: dict[str, list[Tensor]] = {"fit": [], "rate": [], "sum": [], "squares": []}
    first = None
    for draw in draw_in_chunks(posterior, batch, samples, "diagnostics", key, number):
        first = draw.z[0] if first is None else first
        parts["fit"].append(model.log_likelihood(batch, draw.z).double().sum(0))
        if draw.log_q is not None:
            parts["rate"].append((draw.log_q.double() - prior.log_prob(draw.z).double()).sum(0))
        z = draw.z.double().flatten(2)
        parts["sum"].append(z.sum(0))
        parts["squares"].append(z.square().sum(0))
    total = {name: torch.stack(values).sum(0).cpu() for name, values in parts.items() if values}
    mean = total["sum"] / samples
    variance = (total["squares"] - samples * mean.square()).clamp(min=0) / (samples - 1 or math.nan)
    rate = total["rate"] / samples if "rate" in total else None
    return _Gathered(-total["fit"] / samples, rate, mean, variance), posterior, cast(Tensor, first)


def _bound(model: Model, estimator: Estimator, batch: Batch, samples: int, key: int, number: int) -> Tensor:
    """The objective of each datum, ``[B]`` float64, averaged over enough evaluations."""
    repeats = -(-samples // estimator.k)
    total = torch.zeros(batch.x.shape[0], dtype=torch.float64, device=batch.x.device)
    # gradients stay on: some rules differentiate inside forward
    with torch.enable_grad():
        for repeat in range(repeats):
            rng = Rng(derive("bound", key, number, repeat), batch.x.device)
            total += estimator(model, batch, rng).value.detach()
    return total.cpu() / repeats


def _rates(gathered: list[_Gathered]) -> Tensor:
    """``[n]``, nats."""
    rates = [g.rate for g in gathered if g.rate is not None]
    if len(rates) < len(gathered):
        raise ValueError("rate and elbo need draws with log_q, this posterior gives none")
    return torch.cat(rates)


def _distortions(gathered: list[_Gathered]) -> Tensor:
    """``[n]``, nats."""
    return torch.cat([g.distortion for g in gathered])


def _active_units(gathered: list[_Gathered], samples: int) -> Measurement:
    means = torch.cat([g.mean for g in gathered])  # [n, scalars]
    noise = torch.cat([g.variance for g in gathered]).mean(0) / samples
    n = len(means)
    resolved = n > 1 and samples > 1
    count = float((means.var(0) - noise > ACTIVE).sum()) if resolved else math.nan
    return Measurement("active_units", "encoder", count, None, n, "1")


def _aggregate(paired: list[tuple[Density, Tensor]], log_p: list[Tensor]) -> dict[str, Measurement]:
    with torch.no_grad():
        own, all_of_them = aggregate_densities(paired, PAIRED)
    terms = own - all_of_them, all_of_them - torch.cat(log_p)[: len(own)]
    information, kl = (mean_over_data("", "encoder", each.cpu(), "nats") for each in terms)
    cap = information._replace(value=math.log(len(own)), std_error=None)
    found = zip(AGGREGATE, (information, cap, kl), strict=True)
    return {name: measurement._replace(metric=name) for name, measurement in found}
