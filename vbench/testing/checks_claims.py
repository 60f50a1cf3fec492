"""What an estimator declares: that data are separable, that its needs are all, what its bound is, where it is from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.func import vmap

from vbench.rng import Rng
from vbench.testing.assembled import strange
from vbench.testing.bench import Bench
from vbench.testing.checks_contract import NEEDS_OF_ATTRIBUTE, failed, gradients, passed
from vbench.testing.models import expanded
from vbench.testing.procedure import ALPHA
from vbench.testing.replicates import PARTS, by_part, call, keys, row_gradients
from vbench.testing.verdict import Check, Outcome
from vbench.types import Batch, Draw, Encoder, Objective, Trait

__all__ = ["claim_checks", "separable", "statement_checks"]

_DRAWS: Final = 1024


def claim_checks(bench: Bench) -> Iterator[Check]:
    """Checks that need a model."""
    yield Check(f"separable-data[{bench.label}]", lambda: separable(bench))
    yield Check(f"separable-draws[{bench.label}]", lambda: _draws(bench))
    yield Check(f"needs[{bench.label}]", lambda: _needs(bench))


def statement_checks(bench: Bench) -> Iterator[Check]:
    """Checks of what the estimator says of itself."""
    yield Check("linear", lambda: _linear(bench))
    yield Check("source", lambda: _source(bench))


def separable(bench: Bench) -> Outcome:
    """One datum's gradient depends on no other datum and on no other datum's posterior."""
    estimator = bench.estimator()
    if getattr(estimator, "coupled", False):
        return passed("declared coupled")
    if not bench.case.rows:
        return _flow_of_values(bench)
    model, batch = bench.model(), bench.batch()
    wide, data = expanded(model, batch, 1)
    leaves = dict(wide.named_parameters())
    surrogate = estimator(wide, data, Rng(1))[1]
    found = torch.autograd.grad(surrogate[2], list(leaves.values()), allow_unused=True, materialize_grads=True)
    others = torch.arange(len(batch.x)) != 2
    leaking = [name for name, g in zip(leaves, found, strict=True) if g[others].any()]
    if leaking:
        return failed(f"the surrogate of one datum has a gradient for another's {leaking[0]}")
    changed = batch.x.clone()
    changed[2] = 0.9 - changed[2] if bench.case.name == "linear-gaussian" else 1 - changed[2]
    before, value = row_gradients(model, estimator, batch, 1, 1)
    after, moved = row_gradients(model, estimator, batch._replace(x=changed), 1, 1)
    for name, a, b in [("value", value[:, None], moved[:, None]), *((p, before[p], after[p]) for p in before)]:
        if not torch.allclose(a[others], b[others], rtol=1e-9, atol=1e-9):
            return failed(f"another datum's {name} moves when one datum changes: declare coupled = True or mend it")
    return passed()


def _flow_of_values(bench: Bench) -> Outcome:
    """The same seen through values alone, for models whose parameters have no rows."""
    model, estimator, batch = bench.model(), bench.estimator(), bench.batch()
    changed = batch.x.clone()
    changed[-1] = changed[0]
    before, after = (estimator(model, batch._replace(x=x), Rng(1)) for x in (batch.x, changed))
    same = torch.allclose(before[0][:-1], after[0][:-1]) and torch.allclose(before[1][:-1], after[1][:-1])
    return passed() if same else failed("another datum's value moves when one datum changes")


def _draws(bench: Bench) -> Outcome:
    """Two data draw independently: no statistic of the one is correlated with that of the other."""
    estimator = bench.estimator()
    if getattr(estimator, "coupled", False):
        return passed("declared coupled")
    rows, twice = bench.case.rows, bench.batch(2)
    twice = twice._replace(x=twice.x[:1].expand(2, *twice.x.shape[1:]).contiguous(), index=twice.index[:2])
    # a gradient of each datum's own is known where parameters have rows, a value always
    wide, data = expanded(bench.model(), twice, 1) if rows else (bench.model(), twice)
    parameters, one = call(wide, estimator, data)
    try:
        found, value = vmap(lambda key: one(parameters, key), randomness="error")(keys(_DRAWS, 9))
    except Exception:
        drawn = [one(parameters, key) for key in keys(_DRAWS // 2, 9)]
        found = {name: torch.stack([g[name] for g, _ in drawn]) for name in drawn[0][0]}
        value = torch.stack([v for _, v in drawn])
    own = {name.removeprefix("model."): g for name, g in found.items() if rows and name.startswith("model.")}
    features = _features(own, value)
    worst, where, level = 0.0, "", ALPHA / len(features)
    for name, pair in features.items():
        ranks: np.ndarray[Any, Any] = np.asarray(stats.rankdata(pair.numpy(), axis=0))
        if min(np.ptp(ranks, axis=0)) > 0:
            r = float(np.asarray(np.corrcoef(ranks.T))[0, 1])
            worst, where = max((worst, where), (abs(r), name))
    limit = float(stats.norm.isf(level / 2)) / len(value) ** 0.5
    figure = f"largest rank correlation of two data {worst:.3f} ({where}), limit {limit:.3f}"
    return failed(f"{figure}: data share random numbers") if worst > limit else passed(figure)


def _features(found: dict[str, Tensor], value: Tensor) -> dict[str, Tensor]:
    """Statistics of each datum's gradient, ``[n, 2]`` each."""
    features = {"value": value, "distance of the value": (value - value.median(0).values).abs()}
    for datum in range(2):
        own = by_part({name: g[:, datum] for name, g in found.items()}, lanes=True)
        for part in PARTS:
            if part in own:
                columns = {f"{part} sum": own[part].sum(1), f"{part} length": own[part].norm(dim=1)}
                for name, column in columns.items():
                    features[name] = column[:, None] if datum == 0 else torch.cat([features[name], column[:, None]], 1)
    # rounding is no variation
    return {name: torch.round(pair, decimals=10) for name, pair in features.items()}


class _Exact(Encoder):
    """The encoder under a posterior that gives no more than ``needs`` asks for."""

    def __init__(self, encoder: Encoder, needs: frozenset[str]) -> None:
        super().__init__()
        self.inner, self.own, self.z = encoder, needs, encoder.z

    def forward(self, batch: Batch, model: Any) -> Any:
        """q(z | x), bare."""
        return _bare(self.inner(batch, model), self.own)

    def __getattr__(self, name: str) -> Any:
        if name in ("context", "propose") and Trait.STEP_PROPOSAL in self.own:
            return getattr(self.inner, name)
        if strange(self.own) and not name.startswith("_") and name not in self._modules:  # whatever such a trait means
            return getattr(self.inner, name)
        return super().__getattr__(name)


def _bare(q: Any, needs: frozenset[str]) -> Any:
    blocked = {name for name, traits in NEEDS_OF_ATTRIBUTE.items() if not traits & needs}
    centre = q.mean if hasattr(q, "mean") else q.draw(Rng(0), 1).z[0]
    shift = 0.3 * centre.flatten(1).sum(1)  # an unknown constant that depends on the parameters
    normalized = Trait.NORMALIZED in needs

    def draw(rng: Rng, k: int) -> Draw:
        made = q.draw(rng, k)
        z = made.z if Trait.PATHWISE in needs else made.z.detach()
        return Draw(z, made.log_q if normalized or Trait.PROPER_WEIGHT in needs else None, made.info)

    def log_prob(z: Tensor) -> Tensor:
        log_q: Tensor = q.log_prob(z)
        return log_q if normalized else log_q + shift

    def give(self: Any, name: str) -> Any:
        if name in blocked:
            raise AttributeError(f"the posterior has {name} only where needs says so")
        return {"draw": draw, "log_prob": log_prob}.get(name) or getattr(q, name)

    # of the posterior's own class, so that isinstance goes on working
    bare = type("Bare", (type(q),), {"__getattribute__": give})
    return object.__new__(bare)


def _needs(bench: Bench) -> Outcome:
    """On a posterior that gives exactly what is needed, the estimator runs and gives the same."""
    estimator, batch = bench.estimator(), bench.batch()
    needs = frozenset(estimator.needs)
    full, bare = bench.model(), bench.model()
    bare.encoder = _Exact(bare.encoder, needs)
    if bare.prior.__class__.__name__ == "PseudoPrior":
        return passed("not asked where the prior is made by the encoder")
    try:
        found = gradients(bare, estimator, batch)
        value = estimator(bare, batch, Rng(1))[0]
    except Exception as error:
        return failed(
            f"needs {', '.join(sorted(needs)) or 'nothing'}, and raises where nothing else is offered: {error}"
        )
    if not torch.allclose(value, estimator(full, batch, Rng(1))[0]):
        return failed("the value changes where only its needs are offered: a need is missing (normalized?)")
    for name, g in gradients(full, estimator, batch).items():
        other = found[name.replace("model.encoder.", "model.encoder.inner.")]
        if not torch.allclose(g, other, rtol=1e-6, atol=1e-9):
            return failed(f"the gradient of {name} changes where only its needs are offered: a need is missing")
    return passed(", ".join(sorted(needs)))


def _linear(bench: Bench) -> Outcome:
    """A bound that calls itself linear is a mean of log weights."""
    bound = getattr(bench.estimator(), "bound", None)
    if bound is None:
        return passed("declares no bound")
    if isinstance(bound, Objective):
        return passed("no function of log weights")
    log_w = 3 * torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64) - 5
    value = bound(log_w)
    if value.shape != (6,):
        return failed(f"the bound maps {tuple(log_w.shape)} to {tuple(value.shape)}, expected (6,)")
    if bound.linear and not torch.allclose(value, log_w.mean(0)):
        return failed("calls itself linear and is not a mean of log weights")
    if not torch.allclose(bound(log_w.flip(0)), value):
        return failed("the bound depends on the order of its samples")
    return passed("linear" if bound.linear else "not linear")


def _source(bench: Bench) -> Outcome:
    source = bench.subject.component.source
    return passed(source[:80]) if source else failed("its documentation has no line 'Source: author, year, title, id'")
