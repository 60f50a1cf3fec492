"""Everything that ships passes its own judge; over many seeds, at the stated rate."""

import pytest

from vbench.testing import Verdict, check, checks
from vbench.testing.judging import checks_of
from vbench.testing.subject import registered
from vbench.testing.verdict import run_checks

# npz is judged with a file of its own: tests/builtin/test_npz.py
ELSEWHERE = ("mnist", "frey", "npz")
AT_HAND = [s for s in registered(distribution="vbench") if s.name not in ELSEWHERE and s.kind != "executor"]


@pytest.mark.parametrize("subject", AT_HAND, ids=lambda s: f"{s.kind}:{s.name}")
def test_every_built_in_passes_every_check(subject) -> None:
    found = list(run_checks(checks_of(subject)))
    assert len(found) >= 5
    assert {result.verdict for result in found} == {Verdict.PASS}, [r for r in found if r.verdict != Verdict.PASS]


def test_parameters_may_be_given_by_name_and_by_keyword() -> None:
    names = [c.name for c in checks("estimator", "rloo[k=3]")]
    assert names == [c.name for c in checks("estimator", "rloo", k=3)]
    assert "exact[binary,k=2]:encoder" in names
    assert "exact[binary,k=3]:encoder" in names
    assert "exact[binary,k=4]:encoder" not in names


def test_a_k_beyond_the_oracle_is_judged_at_the_largest_that_it_reaches() -> None:
    names = [c.name for c in checks("estimator", "vimco[k=50]")]
    reached = {int(n.split("k=")[1].split("]")[0]) for n in names if n.startswith("exact[binary")}
    assert min(reached) == 2
    assert 2 < max(reached) < 50


def test_a_declared_bias_is_told_with_an_interval_and_does_not_fail() -> None:
    found = {r.name: r for r in check("estimator", "nvil[normalize=true]")}
    told = found["exact[binary,k=1]:encoder"]
    assert told.verdict is Verdict.PASS
    assert told.figure.startswith("declared biased: r 0.")
    assert " in [" in told.figure


def test_datasets_that_are_not_at_hand_are_inconclusive(monkeypatch) -> None:
    from vbench.builtin.datasets import mnist
    from vbench.builtin.datasets.files import DataError

    def missing(name):
        raise DataError("no network here")

    monkeypatch.setattr(mnist, "contents", missing)
    found = {r.name: r.verdict for r in check("dataset", "mnist")}
    assert found.pop("source") is Verdict.PASS
    assert set(found.values()) == {Verdict.INCONCLUSIVE}
