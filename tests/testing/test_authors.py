"""What an author meets: parametrize_with_checks with its waivers, and the command."""

import json
from pathlib import Path
from typing import Annotated

import pytest
import torch
from annotated_types import Ge

from tests.command import Done, called
from tests.testing.planted_base import Planted
from tests.testing.planted_contract import Sourceless
from tests.testing.planted_path import MissingLogK
from vbench.testing import Verdict, check, checks, parametrize_with_checks
from vbench.testing.verdict import run_check
from vbench.types import Estimate


@parametrize_with_checks([("prior", "standard-normal"), ("prior", "bernoulli")])
def test_a_component_case_by_case(check) -> None:
    check()


@parametrize_with_checks([("estimator", Sourceless)], waivers={"source": "an example needs none"})
def test_a_waived_check_is_expected_to_fail(check) -> None:
    if check.check.name == "source":
        check()


def cases(mark):
    return {param.id: param.values[0] for param in mark.args[1]}


def test_an_unexpected_pass_of_a_waiver_fails() -> None:
    asked = cases(parametrize_with_checks([("prior", "bernoulli")], waivers={"bernoulli:source": "not yet written"}))
    with pytest.raises(pytest.fail.Exception, match="drop the waiver"):
        asked["bernoulli:source"]()


@pytest.mark.parametrize(("waivers", "message"), [({"source": " "}, "no reason"), ({"sauce": "why"}, "no such check")])
def test_a_waiver_needs_a_reason_and_a_check(waivers, message) -> None:
    with pytest.raises(ValueError, match=message):
        parametrize_with_checks([("prior", "bernoulli")], waivers=waivers)


def test_a_failing_case_says_why() -> None:
    asked = cases(parametrize_with_checks([("estimator", MissingLogK)]))
    with pytest.raises(AssertionError, match=r"exact\[line,k=2\]:value: r 0\.8"):
        asked["missinglogk:exact[line,k=2]:value"]()


class NeedsTheMoon(Planted):
    """Asks for what no test model has.

    Source: nobody.
    """

    needs = frozenset({"moon"})


def test_what_no_model_serves_is_inconclusive() -> None:
    (result,) = check("estimator", NeedsTheMoon)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "moon" in result.figure


class Refuses(Planted):
    """Cannot be made.

    Source: nobody.
    """

    def __init__(self, k: Annotated[int, Ge(1)] = 1) -> None:
        raise RuntimeError("not today")


def test_what_cannot_be_made_fails_with_its_reason() -> None:
    (result,) = check("estimator", Refuses)
    assert result.verdict is Verdict.FAIL
    assert "not today" in result.figure


class Undeclared(Planted):
    """The ELBO, and does not say so.

    Source: nobody.
    """

    bound = None

    def forward(self, model, batch, rng):
        value = self.weights(model, batch, rng).mean(0)
        return Estimate(value.detach(), value)


def test_an_undeclared_bound_that_is_one_of_the_two_passes_and_is_named() -> None:
    found = {r.name: r for r in check("estimator", Undeclared)}
    assert {r.verdict for r in found.values()} == {Verdict.PASS}
    assert found["exact[line,k=2]:value"].figure.startswith("as ELBO")


class Coupled(Undeclared):
    """A mean over the batch, and says so: judged by vmap.

    Source: nobody.
    """

    coupled = True

    def forward(self, model, batch, rng):
        value, surrogate, _ = super().forward(model, batch, rng)
        return Estimate(value, surrogate.mean())


def test_a_coupled_estimator_is_judged_without_rows() -> None:
    (asked,) = [c for c in checks("estimator", Coupled) if c.name == "exact[line,k=1]:encoder"]
    assert run_check(asked).verdict is Verdict.PASS


def test_judging_leaves_the_callers_random_numbers_alone() -> None:
    before = torch.random.get_rng_state()
    check("prior", "gaussian-mixture")
    check("estimator", "reparam")
    assert torch.equal(before, torch.random.get_rng_state())


def vbench_check(*arguments: str, folder: Path) -> Done:
    return called("check", *arguments, folder=folder)


def test_the_command_gives_rows_for_scripts(tmp_path: Path) -> None:
    done = vbench_check("encoder:bernoulli", "prior:bernoulli", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [(row["kind"], row["name"], row["verdict"]) for row in rows] == [
        ("encoder", "bernoulli", "PASS"),
        ("prior", "bernoulli", "PASS"),
    ]
    assert all(set(one) == {"name", "verdict", "figure", "seconds"} for row in rows for one in row["checks"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((), "--all"), (("reparm",), "did you mean 'reparam'"), (("--plugin", "nobody"), "registers nothing")],
)
def test_a_wrong_call_is_one_line_and_code_two(arguments, message, tmp_path: Path) -> None:
    done = vbench_check(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_command_exits_one_where_something_fails(tmp_path, monkeypatch, capsys) -> None:
    from vbench.registry import describe
    from vbench.report import judgement
    from vbench.testing.subject import Subject

    wrong = Subject(describe("estimator", "wrong", Sourceless, "some-package", "1"), Sourceless)
    monkeypatch.setattr(judgement, "registered", lambda names, distribution: [wrong])
    assert judgement.check(("wrong",)) == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_check_is_named_while_it_is_asked(monkeypatch) -> None:
    from vbench.report import judgement
    from vbench.testing.subject import registered
    from vbench.testing.verdict import Check, Outcome

    bars, told = [], []

    class Watched(judgement.Progress):
        def __init__(self, *columns, **options):
            super().__init__(*columns, **options)
            bars.append(self)

    def ask():
        told.append(bars[0].tasks[0].description)
        return Outcome(Verdict.PASS)

    monkeypatch.setattr(judgement, "Progress", Watched)
    monkeypatch.setattr(judgement, "checks_of", lambda _: iter([Check("first", ask), Check("long", ask)]))
    assert judgement._judge(registered(["bernoulli"], None)[:1], False, lambda *_: None) == 0
    assert [text.rpartition(" ")[2] for text in told] == ["first", "long"]
