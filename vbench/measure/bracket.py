"""Log likelihood between two bounds: annealed importance sampling, and on simulated data the same in reverse."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor

from vbench.batches import rows
from vbench.measure.annealing import Path, Schedule, anneal, temperatures, tuned_steps
from vbench.measure.measurement import Measurement, mean_over_data
from vbench.measure.weights import delta_variance, effective_size, log_mean
from vbench.model import Model, frozen
from vbench.rng import Rng, derive
from vbench.types import Batch, Density

__all__ = ["Annealing", "Simulated", "annealed", "annealed_likelihood", "bracketed_likelihood", "simulated"]

_BUDGET: Final = 32 * 10**5  # bytes of decoder outputs at a time
_PILOTS: Final = 8  # pilot chains for each datum


class Annealing(NamedTuple):
    """How chains are led: see :mod:`vbench.measure.annealing`.

    Attributes:
        chains: K, for each datum.
        temperatures: T, steps from the initial distribution to the joint.
        leapfrog: L, leapfrog steps of each of T - 1 transitions.
        start: where chains begin, the prior or the encoder's q.
        schedule: of the temperatures.
        acceptance: mean acceptance that pilot chains tune step sizes to.
        pilot: temperatures of the pilot chains.
    """

    chains: int = 16
    temperatures: int = 1000
    leapfrog: int = 10
    start: Literal["prior", "encoder"] = "prior"
    schedule: Schedule = "sigmoid"
    acceptance: float = 0.65
    pilot: int = 100

    @property
    def evaluations(self) -> int:
        """Decoder evaluations of one datum in one direction, each with its derivative; pilot chains apart."""
        return self.chains * (1 + (self.temperatures - 1) * self.leapfrog)


class Annealed(NamedTuple):
    """Of each datum ``[n]``, float64 on the CPU."""

    lower: Tensor  # log mean weight, nats
    ess: Tensor  # of the weights, 1 to K
    acceptance: Tensor  # mean over transitions and chains
    upper: Tensor  # minus the log mean weight of the reverse chains; NaN without
    upper_ess: Tensor


class Simulated(NamedTuple):
    """Data that a model made: from exact posterior samples of their own."""

    batch: Batch
    z: Tensor  # [1, B, *Z] that each datum was made from


def annealed(model: Model, data: Iterable[Batch | Simulated], how: Annealing, *, key: int) -> Annealed:
    r"""Log p(x) of each datum from below, of simulated data from above too, in expectation.

    Below: :math:`\log \tfrac1K \sum_k w_k` of chains to the joint. Above, from the z that the datum was made from:
    :math:`-\log \tfrac1K \sum_k w_k` of chains back. Memory does not grow with the number of data or temperatures.

    Args:
        model: one of real latents; its prior (or posterior, where chains start there) has a normalised density.
        data: batches, or simulated ones.
        how: chains are led.
        key: of all draws.

    Raises:
        ValueError: no data.

    Source: as in :mod:`vbench.measure.annealing`.
    """
    still = frozen(model)
    betas = temperatures(how.temperatures, how.schedule)
    found: list[Annealed] = []
    for number, each in enumerate(_pieces(data, how.chains)):
        batch, z = each if isinstance(each, Simulated) else (each, None)

        def rng(purpose: str, number: int = number, batch: Batch = batch) -> Rng:
            return Rng(derive(f"annealing {purpose}", key, number), batch.x.device)

        path = _path(still, batch, how.start)
        pilots = min(_PILOTS, how.chains)
        steps = tuned_steps(
            path,
            betas,
            how.schedule,
            count=how.pilot,
            chains=pilots,
            wanted=how.acceptance,
            leapfrogs=how.leapfrog,
            rng=rng("pilots"),
        )
        down = anneal(path, path.draw(rng("starts"), how.chains), betas, steps, how.leapfrog, rng("chains"))
        upper = upper_ess = torch.full_like(down.log_w[0], math.nan)
        if z is not None:
            starts = z.expand(how.chains, *z.shape[1:])
            back = anneal(path, starts, betas.flip(0), steps.flip(0), how.leapfrog, rng("reverse chains"))
            upper, upper_ess = -log_mean(back.log_w), effective_size(back.log_w)
        acceptance = down.acceptance.double().mean(0) if how.temperatures > 1 else torch.full_like(upper, math.nan)
        parts = (log_mean(down.log_w), effective_size(down.log_w), acceptance, upper, upper_ess)
        found.append(Annealed(*(part.cpu() for part in parts)))
    if not found:
        raise ValueError("annealing needs at least one batch")
    return Annealed(*map(torch.cat, zip(*found, strict=True)))


def annealed_likelihood(model: Model, batches: Iterable[Batch], how: Annealing, *, key: int) -> list[Measurement]:
    """Means over the data of :func:`annealed`, and what they cost.

    * ``log_likelihood_ais``: nats, low on average; its error, sd over data / sqrt(n), is that of the test set.
    * ``log_likelihood_ais_mc_error``: Monte Carlo standard error of that mean alone, nats; too small where one chain
      outweighs the others.
    * ``ais_ess``: effective sample size of the chains, 1 to K; ``ais_acceptance``: of transitions.
    * ``ais_evaluations``: decoder evaluations of each datum, pilot chains apart; ``ais_seconds``: wall time of it all.

    Args:
        model: as in :func:`annealed`, like all that follow.
        batches: data.
        how: chains are led.
        key: of all draws.
    """
    start = time.perf_counter()
    found = annealed(model, batches, how, key=key)
    seconds = time.perf_counter() - start
    return [*_lower(found, how), *_cost(seconds, how.evaluations, len(found.lower))]


def bracketed_likelihood(model: Model, data: Iterable[Simulated], how: Annealing, *, key: int) -> list[Measurement]:
    """As :func:`annealed_likelihood` of data that the model made, with the bound from above.

    * ``log_likelihood_upper``: nats, high on average.
    * ``log_likelihood_gap``: the upper bound less the lower: on average no less than either's error, nats.

    Args:
        model: as in :func:`annealed`, like all that follow.
        data: of :func:`simulated`.
        how: chains are led.
        key: of all draws.
    """
    start = time.perf_counter()
    found = annealed(model, data, how, key=key)
    seconds = time.perf_counter() - start
    return [
        *_lower(found, how),
        mean_over_data("log_likelihood_upper", "all", found.upper, "nats"),
        mean_over_data("log_likelihood_gap", "all", found.upper - found.lower, "nats"),
        *_cost(seconds, 2 * how.evaluations, len(found.lower)),
    ]


def simulated(model: Model, n: int, size: int, *, key: int, device: torch.device | str = "cpu") -> Iterator[Simulated]:
    """Data that the model makes, with the latents that it made them from.

    Args:
        model: prior and decoder that generate without a batch.
        n: how many.
        size: of a batch.
        key: batch b is a function of (key, b).
        device: where.
    """
    with torch.no_grad():
        for number, start in enumerate(range(0, n, size)):
            rng = Rng(derive("simulated", key, number), device)
            count = min(size, n - start)
            z = model.prior_density(None).draw(rng.spawn(), count).z.transpose(0, 1)  # [1, B, *Z]
            x = model.likelihood(None, z).sample(rng.spawn())[0]
            part_key = torch.tensor(derive("simulated parts", key, number), dtype=torch.int64)
            yield Simulated(Batch(x, torch.arange(start, start + count, device=x.device), key=part_key), z)


def _path(still: Model, batch: Batch, start: str) -> Path:
    with torch.no_grad():
        initial = still.posterior(batch) if start == "encoder" else still.prior_density(batch)
    if not isinstance(initial, Density):
        raise ValueError(f"annealing needs a density to start from, and {type(initial).__name__} is none")
    return Path(initial, lambda z: still.log_joint(batch, z), len(batch.x))


def _pieces(data: Iterable[Batch | Simulated], chains: int) -> Iterator[Batch | Simulated]:
    """The data in pieces that fit the budget: how they are cut depends on their sizes alone."""
    for each in data:
        batch, z = each if isinstance(each, Simulated) else (each, None)
        datum = batch.x[0].numel() * batch.x.element_size() * chains
        size = max(1, _BUDGET // max(1, datum))
        for start in range(0, len(batch.x), size):
            here = slice(start, start + size)
            piece = rows(batch, here)
            yield piece if z is None else Simulated(piece, z[:, here])


def _lower(found: Annealed, how: Annealing) -> list[Measurement]:
    n = len(found.lower)
    spread = float(delta_variance(found.ess, how.chains).sum())
    return [
        mean_over_data("log_likelihood_ais", "all", found.lower, "nats", keep=True),
        Measurement("log_likelihood_ais_mc_error", "all", math.sqrt(spread) / n, None, n, "nats"),
        mean_over_data("ais_ess", "all", found.ess, "1"),
        mean_over_data("ais_acceptance", "all", found.acceptance, "1"),
    ]


def _cost(seconds: float, evaluations: int, n: int) -> list[Measurement]:
    return [
        Measurement("ais_evaluations", "all", evaluations, None, n, "1"),
        Measurement("ais_seconds", "all", seconds, None, n, "s"),
    ]
