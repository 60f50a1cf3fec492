"""The judge catches what it has to catch, by the check that names it."""

from pathlib import Path

import pytest

from tests.testing.planted import PLANTED
from tests.testing.planted_followers import BrokenStepwise
from tests.testing.planted_parts import PLANTED_PARTS
from tests.testing.planted_steps import Filter
from vbench.testing import Verdict, checks, partners
from vbench.testing.subject import subject
from vbench.testing.verdict import run_check


@pytest.fixture(autouse=True)
def _a_decoder_whose_steps_may_be_asked_for(monkeypatch):
    found = partners.registered

    def and_one_more(kind, asked):
        yield from found(kind, asked)
        if kind == "decoder" and asked & BrokenStepwise.offers:
            yield subject("decoder", BrokenStepwise)

    monkeypatch.setattr(partners, "registered", and_one_more)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.__name__)
def test_a_planted_bug_fails_every_check_that_names_it(planted) -> None:
    wanted = dict.fromkeys(PLANTED[planted])
    for check in checks("estimator", planted):
        name = next((name for name in wanted if check.name.startswith(name)), None)
        if name is not None and wanted[name] is not Verdict.FAIL:
            wanted[name] = run_check(check).verdict
    assert set(wanted.values()) == {Verdict.FAIL}, wanted


def test_there_are_enough_bugs_and_none_comes_twice() -> None:
    assert len(PLANTED) >= 55
    assert len({planted.forward for planted in PLANTED}) >= 40


def test_the_page_on_the_judge_lists_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "judge.md").read_text("utf-8")
    assert f"{len(PLANTED)} wrong estimators and {len(PLANTED_PARTS)} wrong parts" in page
    for planted, names in PLANTED.items():
        assert f"| {planted.__name__} | {planted.__doc__} | {', '.join(f'`{name}`' for name in names)} |" in page
    for kind, _, how, name in PLANTED_PARTS:
        assert f"| {kind} | {how} | `{name}` |" in page


def test_the_particle_filter_that_bugs_are_planted_in_passes() -> None:
    found = [run_check(check) for check in checks("estimator", Filter)]
    assert {result.verdict for result in found} == {Verdict.PASS}, found
    assert {"exact[chain,k=1]:prior", "exact[chain,k=2]:encoder"} <= {result.name for result in found}


@pytest.mark.parametrize(
    ("kind", "factory", "how", "name"),
    PLANTED_PARTS,
    ids=[f"{row[0]}-{row[2].replace(' ', '-')}" for row in PLANTED_PARTS],
)
def test_a_wrong_part_fails_the_check_that_names_it(kind, factory, how, name) -> None:
    (check,) = [check for check in checks(kind, factory, how=how) if check.name == name]
    result = run_check(check)
    assert result.verdict is Verdict.FAIL, result


@pytest.mark.parametrize(
    ("kind", "factory"),
    list(dict.fromkeys((row[0], row[1]) for row in PLANTED_PARTS)),
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_the_same_part_without_the_mistake_passes(kind, factory) -> None:
    found = [run_check(check) for check in checks(kind, factory)]
    assert {result.verdict for result in found} == {Verdict.PASS}, found
