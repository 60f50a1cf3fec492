"""Which test models serve an estimator, and the exact value and gradient of its bound there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from vbench.assemble import model_traits
from vbench.bounds import Filtering
from vbench.model import Model
from vbench.oracles import conjugate, enumeration, quadrature, state_space
from vbench.oracles.common import gradient
from vbench.testing import chains, models
from vbench.testing.replicates import by_part
from vbench.types import Batch, Bound, Objective, Parts, Target, Trait

__all__ = ["CASES", "SEQUENCES", "Case", "Truth", "offers", "serving"]


class Truth(NamedTuple):
    """Exact value ``[B]``, gradient of the batch mean by part ``[p]``, and log evidence ``[B]``."""

    value: Tensor
    gradients: dict[str, Tensor]
    log_evidence: Tensor


@dataclass(frozen=True)
class Case:
    """A test model with its data and its oracle.

    Attributes:
        name: as in the names of checks.
        make: the model, float64.
        oracle: ``(model, batch, bound, k, target) -> Truth``; ValueError where it does not serve that bound or
            target at that K. A target's expectation takes the place of the bound's gradient.
        batch: the data.
        rows: whether the model's parameters have rows (see :mod:`vbench.testing.models`).
        rarest: probability of the rarest outcome that an expectation rests on.
        sized: as many data of the same kind as are asked for; None where ``batch`` has to do.
    """

    name: str
    make: Callable[[], Model]
    oracle: Callable[[Model, Batch, Bound | Objective, int, Target | None], Truth]
    batch: Batch
    rows: bool = True
    rarest: float = 0.5
    sized: Callable[[int], Batch] | None = None

    def truth(self, bound: Bound | Objective, k: int, target: Target | Parts | None = None) -> Truth:
        """Exact answers of this case; where parts have bounds of their own, each part's gradient is its bound's.

        Raises:
            ValueError: the oracle does not serve that bound or target at that K.
        """
        if not isinstance(target, Parts):
            return self.oracle(self.make(), self.batch, bound, k, target)
        found = self.oracle(self.make(), self.batch, bound, k, None)
        gradients = {}
        for part in found.gradients:
            own, own_k = getattr(target, part)
            gradients[part] = self.oracle(self.make(), self.batch, own, own_k, None).gradients[part]
        return found._replace(gradients=gradients)


def _enumerated(model: Model, batch: Batch, bound: Bound | Objective, k: int, target: Target | None) -> Truth:
    value = enumeration.bound_value(model, batch, bound, k)
    slopes = enumeration.target_gradient(model, batch, target, k) if target else gradient(value, model)
    return Truth(value.detach(), by_part(slopes), enumeration.log_evidence(model, batch).detach())


def _settled(model: Model, batch: Batch, bound: Bound | Objective, k: int, target: Target | None) -> Truth:
    answer = quadrature.settled(model, batch, bound, k, tolerance=1e-3, target=target)
    evidence = quadrature.log_evidence(model, batch, 160).detach()
    return Truth(answer.value.detach(), by_part(answer.gradient), evidence)


def _conjugate(model: Model, batch: Batch, bound: Bound | Objective, k: int, target: Target | None) -> Truth:
    if isinstance(bound, Objective):
        truth = _settled(model, batch, bound, k, target)
        return truth._replace(log_evidence=conjugate.log_evidence(model, batch).detach())
    if not bound.linear or target:
        raise ValueError("the closed form is the ELBO's")
    value = conjugate.elbo(model, batch)
    return Truth(value.detach(), by_part(gradient(value, model)), conjugate.log_evidence(model, batch).detach())


def _particles(model: Model, batch: Batch, bound: Bound | Objective, k: int, target: Target | None) -> Truth:
    if target or isinstance(bound, Objective):
        raise ValueError("nothing but bounds is enumerated on sequences")
    if isinstance(bound, Filtering):
        particles = state_space.Particles(k, bound.schedule, bound.scheme, bound.threshold)
    else:
        particles = state_space.Particles(1 if bound.linear else k, "never")
    histories = chains.histories(model, batch)
    value = state_space.bound_value(histories, particles)
    evidence = state_space.mean_estimate(histories, state_space.Particles(1, "never")).detach()
    return Truth(value.detach(), by_part(gradient(value, model)), evidence)


def _rarest(model: Model, batch: Batch) -> float:
    """The smallest probability of an outcome of one latent variable, over variables and data."""
    q: Any = model.posterior(batch)
    p = q.mean.detach()
    return float(torch.minimum(p, 1 - p).min() if model.encoder.z.support == "binary" else p.min())


def _discrete(name: str, make: Callable[[], Model]) -> Case:
    rarest = _rarest(make(), models.batch())
    return Case(name, make, _enumerated, models.batch(), rarest=rarest, sized=_plain)


def _plain(size: int) -> Batch:
    return models.batch(size=size)


def _real(size: int) -> Batch:
    return models.batch(real=True, size=size)


CASES: Final = (
    _discrete("binary", models.binary),
    _discrete("categorical", models.categorical),
    Case("linear-gaussian", models.linear_gaussian, _conjugate, models.batch(real=True), sized=_real),
    Case("line", models.line, _settled, models.batch(), sized=_plain),
    Case("pseudo", models.pseudo, _settled, models.batch(), sized=_plain),
)
# asked where no plain model serves; bounds of whole trajectories are enumerated there too
SEQUENCES: Final = (
    Case("chain", chains.chain, _particles, chains.chain_batch(), rarest=0.4, sized=chains.chain_batch),
)
STRESS: Final = _discrete("stress", models.stress)


def offers(model: Model, batch: Batch) -> frozenset[str]:
    """Every trait of a model and its data, as the host adds them up."""
    binary = bool(((batch.x == 0) | (batch.x == 1)).all())
    return model_traits(model) | {Trait.data("binary" if binary else "real")}


def serving(needs: frozenset[str], cases: tuple[Case, ...] = CASES) -> list[Case]:
    """The cases whose models offer what is needed."""
    return [case for case in cases if needs <= offers(case.make(), case.batch)]
