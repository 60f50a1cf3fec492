"""Exact mode: every outcome of a discrete draw is fed to the estimator, and its estimates are averaged by probability.

No sampling error, so no margin: a scale of 1 + 1e-9 shows, also where probabilities are near 0 and 1. It serves
estimators whose only randomness is one ``posterior.draw(rng, k)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor

from vbench.bounds import ELBO, IWAE
from vbench.oracles.enumeration import states
from vbench.rng import Rng
from vbench.testing.bench import Bench, ladder, lower
from vbench.testing.cases import STRESS, Truth, serving
from vbench.testing.models import expanded
from vbench.testing.replicates import by_part
from vbench.testing.verdict import Check, Outcome, Verdict
from vbench.types import Batch, Draw, Encoder

__all__ = ["outcome_checks"]

_ROWS: Final = 1024  # outcomes of K draws at most
_TOLERANCE: Final = 1e-8


class _Drew(Exception):  # noqa: N818 - an answer, not a fault
    """The estimator has randomness of its own."""


class _Silent(Rng):
    """A generator that nothing may be drawn from."""

    def __init__(self) -> None:
        super().__init__(0)

    def _sample(self, *_: Any) -> Tensor:
        raise _Drew


class _Fed(Encoder):
    """The encoder under a posterior whose draws are given."""

    def __init__(self, encoder: Encoder, z: Tensor) -> None:
        super().__init__()
        self.inner, self.z, self.given, self.asked = encoder, encoder.z, z, 0

    def forward(self, batch: Batch, model: Any) -> Any:
        """q(z | x), its draws fixed."""
        q: Any = self.inner(batch, model)

        def draw(rng: Rng, k: int) -> Draw:
            self.asked += 1
            if self.asked > 1 or k != len(self.given) or len(batch.x) != self.given.shape[1]:
                raise _Drew
            return Draw(self.given, q.log_prob(self.given))

        def give(_: Any, name: str) -> Any:
            return draw if name == "draw" else getattr(q, name)

        # of the posterior's own class, so that isinstance goes on working
        return object.__new__(type("Fed", (type(q),), {"__getattribute__": give}))


def outcome_checks(bench: Bench) -> Iterator[Check]:
    """``outcomes[stress,k]:part`` on the model with probabilities near 0 and 1; none for estimators not served."""
    if not serving(frozenset(bench.estimator().needs), (STRESS,)):
        return
    done = set()
    for start in ladder(Bench(bench.subject, STRESS)):
        rung: Bench | None = start
        while rung is not None and rung.k is not None and 4**rung.k > _ROWS:
            rung = lower(rung)
        if rung is None or rung.k in done:
            continue
        done.add(rung.k)
        estimator = rung.estimator()
        if not estimator.unbiased or getattr(estimator, "coupled", False):
            return
        try:
            found = _averages(rung, estimator)
            truths = _truths(estimator)
        except Exception:  # noqa: S112 - what is wrong with it, other checks say
            continue
        for part in ("value", *truths[0].gradients):
            yield Check(f"outcomes[{rung.label}]:{part}", lambda f=found, t=truths, p=part: _compare(f, t, p))  # type: ignore[misc]


def _truths(estimator: Any) -> list[Truth]:
    bound: Any = getattr(estimator, "bound", None)
    bounds: list[Any] = [ELBO(), IWAE()] if bound is None else [bound]
    return [STRESS.truth(bound, estimator.k, getattr(estimator, "target", None)) for bound in bounds]


def _averages(bench: Bench, estimator: Any) -> dict[str, Tensor]:
    """Exact expectation of the value ``[B]`` and of the gradient of the batch mean by part ``[p]``."""
    model, batch = bench.model(), STRESS.batch
    atoms = states(model.encoder.z)
    tuples = torch.cartesian_prod(*[torch.arange(len(atoms))] * estimator.k).reshape(-1, estimator.k)
    size = len(batch.x)
    wide, data = expanded(model, batch, len(tuples))
    z = atoms[tuples].movedim(1, 0).repeat_interleave(size, 1)  # [K, S^K * B, *Z]
    leaves = dict(wide.named_parameters())
    with torch.no_grad():
        q: Any = wide.posterior(data)
        mass = q.log_prob(z).sum(0).exp()
    wide.encoder = _Fed(wide.encoder, z)
    value, surrogate = tuple(estimator(wide, data, _Silent()))[:2]
    if wide.encoder.asked != 1:
        raise _Drew
    weighted = (surrogate * mass).sum() / size
    found = torch.autograd.grad(weighted, list(leaves.values()), allow_unused=True, materialize_grads=True)
    gradients = by_part({name: g.sum(0) for name, g in zip(leaves, found, strict=True)})
    return {"value": (value * mass).reshape(-1, size).sum(0), **gradients}


def _compare(found: dict[str, Tensor], truths: list[Truth], part: str) -> Outcome:
    distances = []
    for truth in truths:
        targets = {"value": truth.value, **truth.gradients}
        error = {name: float((found[name] - t).norm() / t.norm().clamp(min=1e-12)) for name, t in targets.items()}
        distances.append((max(error.values()), error[part]))
    own = min(distances)[1]
    return Outcome(Verdict.PASS if own < _TOLERANCE else Verdict.FAIL, f"over all outcomes, off by {own:.1e}")
