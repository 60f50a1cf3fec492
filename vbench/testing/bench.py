"""An estimator set up on a test model: what every check of estimators starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from vbench.model import Model
from vbench.testing import models
from vbench.testing.cases import Case, serving
from vbench.testing.subject import Subject
from vbench.types import Batch

__all__ = ["Bench", "Unservable", "benches", "ladder", "smallest_k"]


class Unservable(Exception):  # noqa: N818 - an outcome with a reason, not a fault
    """No test model offers what the estimator needs."""


@dataclass(frozen=True)
class Bench:
    """One estimator at one K on one test model."""

    subject: Subject
    case: Case
    k: int | None = None

    @property
    def label(self) -> str:
        """As in the names of checks."""
        return self.case.name if self.k is None else f"{self.case.name},k={self.k}"

    def model(self) -> Model:
        """A new model, float64."""
        return self.case.make()

    def estimator(self) -> Any:
        """A new estimator, float64, its own parameters random: a control at zero would hide its leaks."""
        changed = {} if self.k is None else {"k": self.k}
        made = self.subject.build(_task(self.case), **changed).double()
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in made.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                fan_in = parameter.shape[-1] if parameter.dim() else 1
                parameter.add_(0.3 * noise.to(parameter) / fan_in**0.5)
        return made

    def batch(self, size: int = 5) -> Batch:
        """Data of the case's kind; five of them, where nothing else is five but the data's width."""
        return self.case.sized(size) if self.case.sized and self.case.rows else self.case.batch


def _task(case: Case) -> dict[str, Any]:
    x = case.batch.x
    binary = bool(((x == 0) | (x == 1)).all())
    space = models.X if binary else models.REAL
    if tuple(x.shape[1:]) != space.shape:
        space = type(space)(tuple(x.shape[1:]), "binary" if binary else "real")
    mean = models.MEAN if tuple(x.shape[1:]) == models.X.shape else x.mean(0).float()
    return {"x": space, "z": case.make().encoder.z, "n": 50, "mean": mean, "data": x.float()}


def benches(subject: Subject, cases: tuple[Case, ...]) -> list[Bench]:
    """The estimator on every case that serves it, at its own K.

    Raises:
        Unservable: none does; the message says what is wanting.
    """
    refused: Exception | None = None
    found = []
    for case in cases:
        try:
            estimator = Bench(subject, case).estimator()
        except Exception as error:
            refused = error  # made for another latent
            continue
        if serving(frozenset(estimator.needs), (case,)):
            found.append(Bench(subject, case))
    if not found:
        if refused is not None:
            raise refused
        raise Unservable(f"no test model offers all of {', '.join(sorted(estimator.needs))}")
    return found


def smallest_k(bench: Bench) -> int | None:
    """The least K that the signature and the constructor admit; None where K is no parameter."""
    if not bench.subject.has("k"):
        return None
    first = bench.subject.smallest("k")
    for k in range(first, first + 8):
        try:
            Bench(bench.subject, bench.case, k).estimator()
        except Exception:  # noqa: S112 - the signature does not say all
            continue
        return k
    return None


def ladder(bench: Bench) -> list[Bench]:
    """The bench at its smallest legal K and at its given one."""
    least = smallest_k(bench)
    if least is None:
        return [bench]
    given = int(bench.estimator().k)
    return [Bench(bench.subject, bench.case, k) for k in sorted({least, given})]


def lower(bench: Bench) -> Bench | None:
    """The bench at the next smaller K worth trying, for an oracle that does not reach this one; None below it."""
    least = smallest_k(bench)
    if least is None or bench.k is None or bench.k <= least:
        return None
    step = math.ceil((bench.k - 1) / 2) if bench.k > 6 else bench.k - 1
    for k in range(step, least - 1, -1):
        try:
            Bench(bench.subject, bench.case, k).estimator()
        except Exception:  # noqa: S112 - not a legal K
            continue
        return Bench(bench.subject, bench.case, k)
    return None
