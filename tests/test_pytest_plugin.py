"""What an author's pytest run shows: whom it judges, waivers held to their reasons, the figures of what failed."""

import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import vbench.testing  # noqa: F401 - a run inside this process would load torch a second time

pytest_plugins = ["pytester"]

CHECKS = """
import pytest
from vbench import DiagonalNormal, Prior, Trait
from vbench.testing import parametrize_with_checks

class Shifted(Prior):
    '''A prior without a source.'''
    needs = frozenset({Trait.latent("real")})

    def __init__(self, z):
        super().__init__()
        import torch
        self.register_buffer("loc", torch.ones(1, *z.shape))

    def forward(self, batch, model):
        return DiagonalNormal(self.loc, self.loc)

MARK
@parametrize_with_checks([("prior", Shifted)])
def test_prior(check):
    check()
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Run pytest on one file of checks, with this plugin and no other."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def ran(mark: str = "", *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(CHECKS.replace("MARK", mark))
        return pytester.runpytest_inprocess("-p", "vbench.pytest_plugin", *arguments)

    return ran


def test_a_run_says_whom_it_judges_and_ends_with_the_figures_of_what_failed(run) -> None:
    done = run()
    done.assert_outcomes(passed=10, failed=1)
    done.stdout.fnmatch_lines(
        [
            "vbench *: judging prior:shifted (11 checks)",
            "*= vbench: checks that FAIL =*",
            "prior:shifted source  its documentation has no line 'Source: author, year, title, id'",
            "*= short test summary info =*",
        ]
    )
    done.stdout.no_fnmatch_line("*pytest_support.py*")


def test_the_figures_go_into_the_xml(run, pytester: pytest.Pytester) -> None:
    run("", "--junitxml=report.xml")
    told = {}
    for case in ET.parse(pytester.path / "report.xml").iter("testcase"):
        properties = {p.get("name"): p.get("value") for p in case.iter("property")}
        told[properties["vbench_check"]] = properties["vbench_verdict"], properties["vbench_figure"]
    assert len(told) == 11
    assert told["prior:shifted source"][0] == "FAIL"
    assert told["prior:shifted normalised[real-1]"][0] == "PASS"
    assert told["prior:shifted normalised[real-1]"][1].startswith("integrates to one within")


def test_an_xfail_of_a_check_needs_a_reason(run) -> None:
    done = run("@pytest.mark.xfail")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: *test_prior*shifted:source*: xfail of a check without a reason: give reason=*"])


def test_an_xfail_of_a_check_that_passes_fails(run) -> None:
    done = run("@pytest.mark.xfail(reason='mine to know', strict=False)")
    done.assert_outcomes(xfailed=1, failed=10)
    done.stdout.fnmatch_lines(["*XPASS(strict)*mine to know*"])
    done.stdout.no_fnmatch_line("*checks that FAIL*")


def test_other_tests_are_left_alone(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
        import sys, pytest

        def test_nothing_heavy_was_loaded():
            assert not {"torch", "scipy", "pandas"} & set(sys.modules)

        @pytest.mark.xfail
        @pytest.mark.parametrize("check", [1, 2])
        def test_without_a_reason(check):
            assert check == 1
        """
    )
    done = pytester.runpytest_subprocess("-p", "vbench.pytest_plugin")
    done.assert_outcomes(passed=1, xpassed=1, xfailed=1)
    done.stdout.no_fnmatch_line("vbench*")


def test_pytest_finds_it_where_vbench_is_installed() -> None:
    told = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
    assert told["entry-points"]["pytest11"] == {"vbench": "vbench.pytest_plugin"}
