"""`vbench new-plugin`: what it writes installs, is listed, passes the judge and its own tests, and runs in its grid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.strangers import link
from vbench.catalogue import KINDS, Broken, Catalogue, Component, Kind
from vbench.listing import load_catalogue
from vbench.scaffold import ScaffoldError, new_plugin, next_commands

EMPTY = Catalogue({})
# names whose classes and modules would hide what the templates import, were they not told apart
NAMES: dict[Kind, str] = {
    "estimator": "estimator",
    "encoder": "full-normal",
    "decoder": "tensor",
    "prior": "laplace",
    "dataset": "torch",
}


def python(*arguments: str, folder: Path, path: list[Path]) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, with these folders on its path."""
    environment = os.environ | {"COLUMNS": "80", "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, path), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def components(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Distribution by kind and name, of those that ``vbench list --json`` tells of the packages here."""
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    return {f"{row['kind']}:{row['name']}": row["distribution"] for row in rows if row["name"] in NAMES.values()}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package of every kind."""
    folder = tmp_path_factory.mktemp("home")
    for kind, name in NAMES.items():
        new_plugin(name, kind, folder, EMPTY)
    return folder


@pytest.fixture(scope="module")
def path(home: Path) -> list[Path]:
    return [link(project) for project in sorted(home.glob("vbench-*"))]


def test_every_kind_is_listed_and_passes_the_judge(home: Path, path: list[Path]) -> None:
    known = {f"{kind}:{name}": f"vbench-{name}" for kind, name in NAMES.items()}
    assert components(python("-m", "vbench", "list", "--json", folder=home, path=path)) == known
    done = python("-m", "vbench", "check", *known, "--json", folder=home, path=path)
    assert done.returncode == 0, done.stderr
    verdicts = {
        f"{row['kind']}:{row['name']}": (row["distribution"], row["verdict"]) for row in json.loads(done.stdout)
    }
    assert verdicts == {component: (owner, "PASS") for component, owner in known.items()}


def test_every_kind_says_what_a_registered_component_must_say(home: Path, path: list[Path]) -> None:
    for row in json.loads(python("-m", "vbench", "list", "--json", folder=home, path=path).stdout):
        assert row["summary"].endswith(".")
        assert len(row["summary"]) < 100
        assert any(character.isdigit() for character in row["source"])
        assert all(parameter["help"] for parameter in row["parameters"])


def test_every_kind_passes_its_own_tests(home: Path, path: list[Path]) -> None:
    done = python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(home), folder=home, path=path)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]


RUN_ALL = """
import sys, vbench
for grid in sys.argv[1:]:
    vbench.run(grid, workers=0, overrides=["train.steps=20", "measure.data=100", "measure.gradients.draws=20"])
    cells = vbench.load("results/" + grid.split("/")[0].removeprefix("vbench-"), "cells")
    print(*cells["status"])
"""


def test_every_grid_runs_to_the_end_beside_a_built_in(home: Path, path: list[Path]) -> None:
    grids = [f"vbench-{name}/grid.yaml" for name in NAMES.values()]
    done = python("-c", RUN_ALL, *grids, folder=home, path=path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["done done"] * len(NAMES)


def test_pip_installs_every_kind(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="pip install hatchling")
    projects = [str(new_plugin(name, kind, tmp_path, EMPTY)) for kind, name in NAMES.items()]
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", "site")
    installed = python("-m", "pip", "install", *options, *projects, folder=tmp_path, path=[])
    assert installed.returncode == 0, installed.stderr
    done = python("-m", "vbench", "list", "--json", folder=tmp_path, path=[tmp_path / "site"])
    assert set(components(done)) == {f"{kind}:{name}" for kind, name in NAMES.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_in_order_for_the_linter(tmp_path: Path, kind: Kind) -> None:
    pytest.importorskip("ruff")
    settings = Path(__file__).parent.parent / "pyproject.toml"
    for name in (kind, "some-very-long-name-of-forty-characters"):
        project = new_plugin(name, kind, tmp_path, EMPTY)
        for command in (["check"], ["format", "--check"]):
            done = python("-m", "ruff", *command, "--no-cache", "--config", str(settings), ".", folder=project, path=[])
            assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_is_written_is_in_order_for_the_type_checker(home: Path) -> None:
    pytest.importorskip("mypy")
    for project in sorted(home.glob("vbench-*")):
        done = python("-m", "mypy", "--strict", "--cache-dir", "../types", "src", folder=project, path=[])
        assert done.returncode == 0, done.stdout


def test_the_command_writes_a_package_and_says_what_to_type_next(tmp_path: Path) -> None:
    done = python("-m", "vbench", "new-plugin", "My_First.one", "--kind", "prior", folder=tmp_path, path=[])
    assert done.returncode == 0, done.stderr
    assert {str(file.relative_to(tmp_path / "vbench-my-first-one")) for file in tmp_path.glob("vbench-*/**/*.*")} == {
        "README.md",
        "grid.yaml",
        "pyproject.toml",
        "src/vbench_my_first_one/__init__.py",
        "src/vbench_my_first_one/my_first_one.py",
        "tests/test_my_first_one.py",
    }
    first, blank, *commands = done.stdout.splitlines()
    assert (first, blank) == ("vbench-my-first-one is written. Next:", "")
    assert commands == [
        "pip install -e 'vbench-my-first-one[test]'",
        "vbench list prior",
        "vbench check prior:my-first-one",
        "vbench run vbench-my-first-one/grid.yaml",
        "pytest vbench-my-first-one",
    ]
    before = {file: file.read_bytes() for file in tmp_path.glob("vbench-*/**/*.*")}
    again = python("-m", "vbench", "new-plugin", "my-first-one", folder=tmp_path, path=[])
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "vbench-my-first-one exists and is not empty: choose another name or --dir\n"
    assert {file: file.read_bytes() for file in tmp_path.glob("vbench-*/**/*.*")} == before


def test_the_command_loads_no_torch(tmp_path: Path) -> None:
    code = "import sys; from vbench.cli import main; main(['new-plugin', 'x'], standalone_mode=False); "
    code += "print([m for m in ('torch', 'pandas', 'scipy') if m in sys.modules])"
    assert python("-m", "vbench", "list", folder=tmp_path, path=[]).returncode == 0  # the catalogue is kept
    done = python("-c", code, folder=tmp_path, path=[])
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_commands_are_quoted_for_the_shell() -> None:
    install, _, _, run, test = next_commands(Path("a folder/vbench-x"), "prior")
    assert install == "pip install -e 'a folder/vbench-x[test]'"
    assert run == "vbench run 'a folder/vbench-x/grid.yaml'"
    assert test == "pytest 'a folder/vbench-x'"


@pytest.mark.parametrize("name", ["x", "vbench-x", "X", "VBENCH_x"])
def test_a_name_is_normalised(tmp_path: Path, name: str) -> None:
    assert new_plugin(name, "estimator", tmp_path, EMPTY) == tmp_path / "vbench-x"


BAD = {
    "empty": ("", "expected letters"),
    "space": ("my thing", "expected letters"),
    "path": ("../up", "expected letters"),
    "starts with a digit": ("3d", "expected letters"),
    "ends with a hyphen": ("x-", "expected letters"),
    "not ASCII": ("größe", "expected letters"),
    "newline": ("x\ny", "expected letters"),
    "nothing but the prefix": ("vbench-", "expected letters"),
    "too long": ("x" * 41, "at most 40"),
    "keyword": ("Lambda", "word of Python"),
    "YAML's word": ("null", "word of Python or YAML"),
    "taken": ("iwae", "estimator 'iwae' is registered already, by vbench: choose another name"),
}


@pytest.mark.parametrize(("name", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_name_is_refused_in_one_line(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ScaffoldError, match=message) as refused:
        new_plugin(name, "estimator", tmp_path, load_catalogue())
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_distribution_that_is_installed_is_refused_broken_or_not(tmp_path: Path) -> None:
    component = Component("prior", "other", "vbench-whole", "1")
    catalogue = Catalogue({"prior": {"other": component}}, (Broken("vbench-rotten", "1", "rotten", "no luck"),))
    for name in ("whole", "rotten"):
        with pytest.raises(ScaffoldError, match=f"vbench-{name} is installed already"):
            new_plugin(name, "estimator", tmp_path, catalogue)


def test_two_kinds_may_share_a_name(tmp_path: Path) -> None:
    assert new_plugin("iwae", "prior", tmp_path, load_catalogue()).is_dir()


def test_an_empty_folder_is_filled_and_a_missing_one_made(tmp_path: Path) -> None:
    (tmp_path / "a" / "vbench-x").mkdir(parents=True)
    assert (new_plugin("x", "estimator", tmp_path / "a", EMPTY) / "README.md").is_file()
    assert (new_plugin("x", "estimator", tmp_path / "b" / "c", EMPTY) / "README.md").is_file()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ScaffoldError, match=r"^cannot write .*vbench-x: Not a directory$"):
        new_plugin("x", "estimator", tmp_path / "file", EMPTY)
    assert (tmp_path / "file").read_text() == "mine"
