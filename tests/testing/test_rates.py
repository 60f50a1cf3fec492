"""How often the judge is wrong, over many seeds: ``python -m pytest -m slow -s tests/testing/test_rates.py``.

Every figure of docs/judge.md is printed here.
"""

from collections import Counter

import pytest
from scipy import stats

from tests.testing.planted import PLANTED
from vbench.bounds import ELBO, IWAE
from vbench.estimators.controls import LeaveOneOut
from vbench.estimators.pathwise import Pathwise
from vbench.estimators.score import Score
from vbench.testing import Verdict
from vbench.testing.bench import Bench, benches
from vbench.testing.cases import CASES
from vbench.testing.checks_exact import Trial, exact_trials
from vbench.testing.procedure import ALPHA, LOOKS
from vbench.testing.subject import registered, subject
from vbench.types import Estimate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

SEEDS = 200
CASE = {case.name: case for case in CASES}


def verdicts(found, seeds):
    """Verdicts on every part of every exact trial of these benches, over seeds; the exact answers are found once."""
    for bench in found:
        for trial in exact_trials(bench):
            for seed in range(1, seeds + 1) if isinstance(trial, Trial) else ():
                again = Trial(bench=trial.bench, truths=trial.truths, unbiased=trial.unbiased, seed=seed)
                yield from ((again.bench.label, part, again.outcome(part).verdict) for part in again.parts)


def told(name, counts):
    print(f"{name}: " + ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict))


@pytest.mark.parametrize("judged", [s for s in registered() if s.kind == "estimator"], ids=lambda judged: judged.name)
def test_a_right_estimator_is_not_failed(judged) -> None:
    found = list(verdicts(benches(judged, CASES), SEEDS))
    counts = Counter(verdict for _, _, verdict in found)
    told(judged.name, counts)
    failed = [row for row in found if row[2] is Verdict.FAIL]
    # more than chance allows at the stated rate, one time in a million
    assert len(failed) <= stats.poisson.isf(1e-6, ALPHA * len(found)), failed


class Scaled(Score):
    """A right estimator times a factor."""

    def __init__(self, factor, *args) -> None:
        super().__init__(*args)
        self.factor = factor

    def forward(self, model, batch, rng):
        value, surrogate, info = super().forward(model, batch, rng)
        return Estimate(value, self.factor * surrogate, info)


class ScaledPath(Pathwise):
    def __init__(self, factor, *args) -> None:
        super().__init__(*args)
        self.factor = factor

    def forward(self, model, batch, rng):
        value, surrogate, info = super().forward(model, batch, rng)
        return Estimate(value, self.factor * surrogate, info)


SCALED = {
    "reinforce": ("binary", lambda factor: Scaled(factor, ELBO(), 1)),
    "rloo-4": ("binary", lambda factor: Scaled(factor, ELBO(), 4, LeaveOneOut())),
    "vimco-2": ("binary", lambda factor: Scaled(factor, IWAE(), 2, LeaveOneOut())),
    "reparam": ("line", lambda factor: ScaledPath(factor, ELBO(), 1)),
}


@pytest.mark.parametrize("factor", [0.95, 1.05])
@pytest.mark.parametrize("name", SCALED)
def test_five_percent_are_hardly_ever_missed(name, factor) -> None:
    where, scaled = SCALED[name]
    bench = Bench(subject("estimator", lambda: scaled(factor), name), CASE[where])
    found = [verdict for _, part, verdict in verdicts([bench], SEEDS) if part == "encoder"]
    told(f"{name} x {factor}", Counter(found))
    # on the margin itself each look passes with the probability of one side of its 99.9% interval
    assert found.count(Verdict.PASS) <= stats.poisson.isf(1e-6, 0.0005 * LOOKS * len(found))
    assert Verdict.INCONCLUSIVE not in found


@pytest.mark.parametrize("name", SCALED)
def test_two_percent_are_inside_the_margin(name) -> None:
    where, scaled = SCALED[name]
    bench = Bench(subject("estimator", lambda: scaled(1.02), name), CASE[where])
    found = [verdict for _, part, verdict in verdicts([bench], SEEDS) if part == "encoder"]
    told(f"{name} x 1.02", Counter(found))
    assert Verdict.INCONCLUSIVE not in found


EXACT = {
    planted: [name.split("]:") for name in names if name.startswith("exact[") and "]:" in name]
    for planted, names in PLANTED.items()
}


@pytest.mark.parametrize("planted", [p for p, names in EXACT.items() if names], ids=lambda planted: planted.__name__)
def test_a_planted_bug_is_caught_at_every_seed(planted) -> None:
    wanted = {(label.removeprefix("exact["), part) for label, part in EXACT[planted]}
    chosen = [
        b for b in benches(subject("estimator", planted), CASES) if any(w.startswith(b.case.name) for w, _ in wanted)
    ]
    found = [verdict for label, part, verdict in verdicts(chosen, SEEDS // 4) if (label, part) in wanted]
    told(planted.__name__, Counter(found))
    assert set(found) == {Verdict.FAIL}
