"""The sequential test: its statistics, its guards and its three verdicts."""

import math

import pytest
import torch
from scipy import stats

from vbench.testing.procedure import ALPHA, FIRST, Accumulator, examine, pareto_shape, schedule
from vbench.testing.verdict import Check, Outcome, Verdict, overall, run_check


def normal(n, p, seed, dtype=torch.float64):
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def accumulated(samples):
    seen = Accumulator(samples.shape[1])
    for chunk in samples.split(700):
        seen.add(chunk)
    return seen


def test_streamed_moments_are_those_of_all_at_once() -> None:
    samples = normal(3000, 4, 0) + 1e3
    seen = accumulated(samples)
    torch.testing.assert_close(seen.mean, samples.mean(0))
    torch.testing.assert_close(seen.covariance, torch.cov(samples.T))


def test_p_is_uniform_under_an_exact_mean() -> None:
    truth = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    mixing = normal(3, 3, 1)
    p = [examine(accumulated(truth + normal(2000, 3, seed) @ mixing), truth).p for seed in range(300)]
    # twice the smaller of two: at most uniform
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 1e-3
    assert min(p) > 1e-5


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_a_factor_of_five_percent_is_seen_by_the_scale(factor) -> None:
    truth = torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64)
    found = examine(accumulated(factor * (truth + normal(FIRST * 4, 4, 2))), truth)
    assert found.verdict(ALPHA / 8) is Verdict.FAIL
    assert abs(found.ratio - factor) < found.half


def test_one_wrong_direction_is_seen_by_hotelling_alone() -> None:
    truth = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    off = truth + torch.tensor([0.0, 0.1, 0.0, 0.0])
    found = examine(accumulated(off + normal(FIRST * 4, 4, 3)), truth)
    assert abs(found.ratio - 1) < found.half
    assert found.verdict(ALPHA / 8) is Verdict.FAIL


def test_directions_without_variance_are_compared_exactly() -> None:
    truth = torch.tensor([1.0, 2.0], dtype=torch.float64)
    samples = torch.stack([1 + normal(FIRST, 1, 4)[:, 0], torch.full((FIRST,), 2.0, dtype=torch.float64)], 1)
    assert examine(accumulated(samples), truth).p > ALPHA
    assert examine(accumulated(samples), truth + torch.tensor([0.0, 1e-4])).p == 0
    # and one that is a combination of others
    both = torch.cat([samples[:, :1], 2 * samples[:, :1]], 1)
    assert examine(accumulated(both), torch.tensor([1.0, 2.0])).p > ALPHA
    assert examine(accumulated(both), torch.tensor([1.0, 2.001])).p == 0


def test_a_pass_needs_evidence_and_says_its_margin() -> None:
    truth = torch.ones(3, dtype=torch.float64)
    few = examine(accumulated(truth + 20 * normal(FIRST, 3, 5)), truth)
    assert few.verdict(ALPHA) is None
    many = examine(accumulated(truth + normal(FIRST, 3, 5)), truth)
    assert many.verdict(ALPHA) is Verdict.PASS
    assert many.half < 0.05 < 0.1
    assert many.outcome(Verdict.PASS).figure.startswith("r ")


@pytest.mark.parametrize("bias", [0.0, 0.05, 0.5])
def test_the_bias_bound_covers(bias) -> None:
    truth = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    spread = torch.tensor([0.2, 3.0, 1.0], dtype=torch.float64)
    shift = torch.tensor([0.0, bias, 0.0], dtype=torch.float64)
    bounds = [examine(accumulated(truth + shift + spread * normal(2000, 3, s)), truth).bias for s in range(200)]
    assert sum(bound < bias for bound in bounds) <= 2


def test_not_a_number_fails() -> None:
    samples = normal(FIRST, 2, 6)
    samples[17, 0] = math.nan
    assert examine(accumulated(samples), torch.ones(2)).p == 0


def test_the_first_look_waits_for_rare_events() -> None:
    assert next(schedule()) == FIRST
    assert next(schedule(0.01)) == 32768
    assert list(schedule(1e-4)) == []


@pytest.mark.parametrize(("shape", "draw"), [(0.5, 2.0), (1.0, 1.0), (0.25, 4.0)])
def test_the_pareto_shape_is_found(shape, draw) -> None:
    values = stats.pareto.rvs(draw, size=40_000, random_state=1)
    assert pareto_shape(values) == pytest.approx(shape, abs=0.15)


def test_light_and_bounded_tails_have_none() -> None:
    assert pareto_shape(normal(40_000, 1, 7)[:, 0].square().numpy()) < 0.4
    assert pareto_shape((normal(4096, 1, 8)[:, 0] > 0).double().numpy()) == -math.inf


def test_heavy_tails_keep_a_fail_back() -> None:
    heavy = torch.from_numpy(stats.cauchy.rvs(size=(FIRST, 1), random_state=2))
    found = examine(accumulated(heavy), torch.tensor([0.1]))
    assert found.tail > 1
    assert found.verdict(ALPHA) is not Verdict.FAIL
    assert "heavy tails" in found.outcome(Verdict.INCONCLUSIVE).figure


def test_what_the_accused_raises_is_a_fail_with_its_place() -> None:
    def ask():
        raise RuntimeError("no such thing")

    result = run_check(Check("x", ask))
    assert result.verdict is Verdict.FAIL
    assert "RuntimeError: no such thing (test_procedure.py:" in result.figure


def test_the_verdict_on_all_is_the_worst() -> None:
    def results(*verdicts):
        return [run_check(Check("x", lambda v=v: Outcome(v))) for v in verdicts]

    assert overall(results(Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)) is Verdict.FAIL
    assert overall(results(Verdict.PASS, Verdict.INCONCLUSIVE)) is Verdict.INCONCLUSIVE
    assert overall(results(Verdict.PASS)) is Verdict.PASS
    assert overall([]) is Verdict.INCONCLUSIVE
