"""What the README says holds: its grid is read, its Python runs, its plugin is the one that is shipped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vbench.grid import read_grid
from vbench.listing import load_catalogue
from vbench.scaffold import next_commands

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_grid_is_a_grid(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    (tmp_path / "grid.yaml").write_text(text)
    grid = read_grid(tmp_path / "grid.yaml", load_catalogue())
    assert [str(choice) for choice in grid.estimators] == ["reparam", "rloo[k=4]", "iwae[k=1]", "iwae[k=5]"]


@pytest.mark.parametrize(
    "file", sorted([*ROOT.glob("results/*/grid.yaml"), *ROOT.glob("plugins/*/grid.yaml")]), ids=str
)
def test_shipped_grids_are_grids(file: Path) -> None:
    owner = file.parent.name
    if file.parent.parent.name == "plugins" and owner not in {c.distribution for c in load_catalogue()}:
        pytest.skip(f"needs its plugin: pip install ./plugins/{owner}")
    assert read_grid(file, load_catalogue).size > 0


def test_the_python_of_one_cell_runs() -> None:
    (code,) = [block for block in blocks("python") if "vbench.build(" in block]
    shown: list[float] = []
    exec(code, {"print": lambda *values: shown.extend(values)})
    variance, error, snr = shown
    assert 0 < error < variance
    assert snr > 0


@pytest.mark.parametrize(
    ("language", "file"), [("toml", "pyproject.toml"), ("python", "src/vbench_antithetic/__init__.py")]
)
def test_the_plugin_is_the_one_that_is_shipped(language: str, file: str) -> None:
    shipped = (ROOT / "plugins" / "vbench-antithetic" / file).read_text("utf-8")
    (shown,) = [block for block in blocks(language) if "vbench-antithetic" in block or "class Antithetic" in block]
    lines = shipped.splitlines()
    missing = [line for line in shown.splitlines() if line not in lines]
    assert missing == []
    if language == "python":
        assert shown == shipped


def test_the_walk_through_is_what_the_command_prints() -> None:
    commands = next_commands(Path("vbench-my-estimator"), "estimator")
    assert "\n".join(["```", "vbench new-plugin my-estimator", *commands, "```"]) in README


def test_its_commands_are_there() -> None:
    for mark in ("<!-- start command -->", "<!-- test command -->"):
        assert mark in README
    from vbench.cli import main

    documented = set(re.findall(r"`vbench ([a-z-]+)", README))
    assert set(main.commands) <= documented
