"""Value and gradient of an estimator, part by part, against the exact answer for its bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor

from vbench.bounds import ELBO, IWAE
from vbench.rng import derive
from vbench.testing.bench import Bench, ladder, lower
from vbench.testing.cases import Truth
from vbench.testing.checks_claims import separable
from vbench.testing.procedure import ALPHA, EXPECTED, LOOKS, Accumulator, Finding, examine, schedule
from vbench.testing.replicates import Sampler
from vbench.testing.verdict import Check, Outcome, Verdict
from vbench.types import Bound, Objective, Parts, Target

__all__ = ["Trial", "exact_checks", "exact_trials"]

_LOOP_LOOKS: Final = 2  # where neither rows nor vmap work
_VMAP_LOOKS: Final = 6
_BIASED: Final = 16384  # replicates behind a declared bias


class Trial:
    """One estimator at one K on one model: all its parts are judged from the same replicates, once.

    Args:
        bench: the estimator and where it stands.
        truths: exact answers for each bound that it may claim; one of them has to match in everything.
        seed: of the replicates.
    """

    def __init__(self, bench: Bench, truths: dict[str, Truth], unbiased: bool, seed: int = 0) -> None:
        self.bench, self.truths, self.unbiased, self.seed = bench, truths, unbiased, seed
        self._found: dict[str, dict[str, Outcome]] | None = None

    @property
    def parts(self) -> list[str]:
        """What is judged apart."""
        return ["value", *next(iter(self.truths.values())).gradients]

    def outcome(self, part: str) -> Outcome:
        """The verdict on one part, under the claim that fits best."""
        if self._found is None:
            self._found = {claim: self._judge(truth) for claim, truth in self.truths.items()}
        return self._found[self.claim][part]

    @property
    def claim(self) -> str:
        """The bound that fits best."""
        if len(self.truths) == 1:
            return next(iter(self.truths))
        found = self._found or {}
        order = [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS]
        return max(found, key=lambda claim: min(order.index(o.verdict) for o in found[claim].values()))

    def _judge(self, truth: Truth) -> dict[str, Outcome]:
        targets = {"value": truth.value, **truth.gradients}
        estimator = self.bench.estimator()
        # rows stand for replicates only where data do not interact, whatever the estimator says
        rows = self.bench.case.rows and not getattr(estimator, "coupled", False)
        rows = rows and _separable(self.bench)
        sampler = Sampler(self.bench.model(), estimator, self.bench.case.batch, rows)
        seen = {part: Accumulator(len(target)) for part, target in targets.items()}
        looks = {"rows": LOOKS, "vmap": _VMAP_LOOKS, "loop": _LOOP_LOOKS}[sampler.way]
        if not self.unbiased:
            _fill(sampler, seen, _BIASED, self.seed)
            return {part: _reported(examine(seen[part], t, _unit(part, t))) for part, t in targets.items()}
        decided: dict[str, Outcome] = {}
        last: dict[str, Finding] = {}
        for n in schedule(self.bench.case.rarest, looks):
            _fill(sampler, {p: a for p, a in seen.items() if p not in decided}, n, self.seed)
            for part, target in targets.items():
                if part in decided:
                    continue
                last[part] = examine(seen[part], target, _unit(part, target))
                verdict = last[part].verdict(ALPHA / looks)
                if verdict is not None:
                    decided[part] = last[part].outcome(verdict)
            if len(decided) == len(targets):
                break
        if not last:
            rare = f"rarest outcome {self.bench.case.rarest:.1e}: fewer than {EXPECTED} expected at any look"
            return dict.fromkeys(targets, Outcome(Verdict.INCONCLUSIVE, rare))
        return {part: decided.get(part) or last[part].outcome(Verdict.INCONCLUSIVE) for part in targets}


def _separable(bench: Bench) -> bool:
    try:
        return separable(bench).verdict is Verdict.PASS
    except Exception:
        return False


def _unit(part: str, target: Tensor) -> float | None:
    """A bias of the value is measured in nats per datum, one of a gradient by the gradient's length."""
    return float(len(target)) ** 0.5 if part == "value" else None


def _fill(sampler: Sampler, seen: dict[str, Accumulator], n: int, seed: int) -> None:
    """Replicates up to ``n`` in all."""
    have = next(iter(seen.values())).n
    for drawn in sampler(n - have, derive("look", seed, have)):
        for part, accumulator in seen.items():
            accumulator.add(drawn.value if part == "value" else drawn.parts[part])


def _reported(finding: Finding) -> Outcome:
    """A declared bias is told, not judged."""
    interval = f"r {finding.ratio:.3f} in [{finding.ratio - finding.half:.3f}, {finding.ratio + finding.half:.3f}]"
    text = f"declared biased: {interval}, |bias| {finding.off:.3f}, at most {finding.bias:.3f}"
    verdict = Verdict.FAIL if finding.ratio != finding.ratio else Verdict.PASS
    return Outcome(verdict, text)


def exact_trials(bench: Bench, seed: int = 0) -> Iterator[Trial | str]:
    """The trials of one estimator on one model, at its smallest and given K; a string says why there is none."""
    done: set[int | None] = set()
    for rung in ladder(bench):
        current: Bench | None = rung
        why = ""
        while current is not None and current.k not in done:
            estimator = current.estimator()
            try:
                truths = _truths(current, estimator)
            except ValueError as error:
                current, why = lower(current), str(error)
                continue
            done.add(current.k)
            yield Trial(current, truths, bool(estimator.unbiased), seed)
            break
        if current is None:
            yield why


def _truths(bench: Bench, estimator: Any) -> dict[str, Truth]:
    bound: Bound | Objective | None = getattr(estimator, "bound", None)
    target: Target | Parts | None = getattr(estimator, "target", None)
    if target is not None and bound is None:
        raise TypeError("declares a target and no bound: its value has to be the value of some bound")
    if bound is not None:
        return {type(target or bound).__name__: bench.case.truth(bound, estimator.k, target)}
    return {type(b).__name__: bench.case.truth(b, estimator.k) for b in (ELBO(), IWAE())}


def exact_checks(bench: Bench, seed: int = 0) -> Iterator[Check]:
    """``exact[model,k]:part`` for the value and each part with parameters."""
    for trial in exact_trials(bench, seed):
        if isinstance(trial, str):
            # a bound without a closed form is no fault: the other models serve it
            continue
        for part in trial.parts:
            yield Check(f"exact[{trial.bench.label}]:{part}", lambda t=trial, p=part: _asked(t, p))  # type: ignore[misc]
        yield Check(f"kind[{trial.bench.label}]", lambda t=trial: _side(t))  # type: ignore[misc]


def _asked(trial: Trial, part: str) -> Outcome:
    outcome = trial.outcome(part)
    if len(trial.truths) == 1:
        return outcome
    if outcome.verdict is Verdict.FAIL:
        return outcome._replace(figure=f"neither {' nor '.join(trial.truths)}: declare its bound; {outcome.figure}")
    return outcome._replace(figure=f"as {trial.claim}: {outcome.figure}")


def _side(trial: Trial) -> Outcome:
    """Whether the exact bound lies on the side of the evidence that it names."""
    bound = getattr(trial.bench.estimator(), "bound", None) or ELBO()
    truth = next(iter(trial.truths.values()))
    gap = truth.log_evidence - truth.value
    figure = f"{bound.kind}; evidence less bound between {float(gap.min()):.4f} and {float(gap.max()):.4f} nats"
    if bound.kind not in ("lower", "upper", "none"):
        return Outcome(Verdict.FAIL, f"kind is {bound.kind!r}, expected lower, upper or none")
    wrong = {"lower": gap < -1e-3, "upper": gap > 1e-3, "none": torch.zeros(1, dtype=torch.bool)}[bound.kind]
    return Outcome(Verdict.FAIL if bool(wrong.any()) else Verdict.PASS, figure)
