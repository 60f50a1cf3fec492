"""``vbench report`` as a user meets it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.report.conftest import made_already
from tests.report.small_studies import study as write
from vbench.cli import main
from vbench.report.contents import Contents
from vbench.report.page import Page

FORMATS = ("svg", "pdf", "png")


def vbench(*arguments: object):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def written(study: Path, found: Contents, page: Page, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("out") / "deep" / "er"
    few = {name: page.figures[name] for name in ("gradient-variance", "log-likelihood")}
    with made_already(found, replace(page, figures=few)):
        done = vbench(study, "--out", out, "--format", ",".join(FORMATS))
    assert done.exit_code == 0, done.output
    return out, done.output


def test_a_page_and_its_figures_are_written(written) -> None:
    out, said = written
    names = {path.name for path in (out / "figures").iterdir()}
    assert (out / "index.html").stat().st_size > 100_000
    assert names == {f"{name}.{kind}" for name in ("gradient-variance", "log-likelihood") for kind in FORMATS}
    assert "2 figures" in said
    assert "not shown: Cosine to the target gradient: no gradient_cosine" in said


@pytest.mark.usefixtures("again")
def test_check_says_that_nothing_differs(study, written) -> None:
    done = vbench(study, "--out", written[0], "--check")
    assert done.exit_code == 0, done.output
    assert ": 0 differences in " in done.output


@pytest.mark.usefixtures("again")
def test_check_lists_what_differs(study, written, tmp_path) -> None:
    html = (written[0] / "index.html").read_text("utf-8")
    (tmp_path / "index.html").write_text(html.replace("-93.0", "-83.0"), "utf-8")
    done = vbench(study, "--out", tmp_path, "--check")
    assert done.exit_code == 1
    assert "value is -83.0 on the page, -93.0 by the records" in done.output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "no results in nowhere (a study's folder has a folder 'records')\n"),
        (["nowhere", "--check"], "no results in nowhere (a study's folder has a folder 'records')\n"),
    ],
    ids=["report", "check"],
)
def test_an_unknown_study_is_one_line(arguments, line, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = vbench(*arguments)
    assert done.exit_code == 2
    assert done.stderr == line


def test_check_before_a_page_was_written_says_how_to(study, tmp_path) -> None:
    done = vbench(study, "--out", tmp_path, "--check")
    assert done.exit_code == 2
    assert done.stderr == f"no page {tmp_path / 'index.html'}: write it first, vbench report {study}\n"


def test_a_page_of_something_else_is_one_line(study, tmp_path) -> None:
    (tmp_path / "index.html").write_text("<p>hello</p>")
    done = vbench(study, "--out", tmp_path, "--check")
    assert done.exit_code == 2
    assert done.stderr == f"{tmp_path / 'index.html'}: it holds no list of numbers that can be read\n"


def test_an_unknown_format_names_those_there_are(study) -> None:
    done = vbench(study, "--format", "svg,jpeg")
    assert done.exit_code == 2
    assert "'jpeg', expected svg, pdf, png" in done.stderr


def test_a_file_in_the_way_is_one_line(study, tmp_path) -> None:
    (tmp_path / "taken").write_text("")
    done = vbench(study, "--out", tmp_path / "taken")
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--out DIR writes elsewhere" in done.stderr


def test_no_torch_is_loaded(tmp_path) -> None:
    """A page of one seed is written and made once more to be checked, by the functions behind the command.

    The pictures inside the page stay blank: they are saved as the files beside it are.
    """
    study, out = write(tmp_path / "small", ["reparam"], seeds=1), tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; from vbench.report.reporting import report, check\n"
        "from vbench.report import page; page.save = lambda *given, **more: b'<svg/>'\n"
        f"print(report(Path({str(study)!r}), Path({str(out)!r})), check(Path({str(study)!r}), Path({str(out)!r})))\n"
        "print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["0 0", "[]"]
    assert (out / "figures" / "log-likelihood.svg").exists()
