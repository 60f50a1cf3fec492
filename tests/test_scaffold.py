"""`vbench new-plugin`: what it writes installs, is listed, passes the judge and its own tests, and runs in its grid."""

from __future__ import annotations

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

import vbench
from tests.command import Done, python, together
from tests.command import vbench as command
from tests.strangers import link
from vbench.catalogue import KINDS, Broken, Catalogue, Component, Kind
from vbench.listing import load_catalogue
from vbench.scaffold import ScaffoldError, new_plugin, next_commands

pytestmark = pytest.mark.timeout(900)  # the first test of some builds what the others share

EMPTY = Catalogue({})
# names whose classes and modules would hide what the templates import, were they not told apart
NAMES: dict[Kind, str] = {
    "estimator": "estimator",
    "encoder": "full-normal",
    "decoder": "tensor",
    "prior": "laplace",
    "dataset": "torch",
}


def components(done: Done) -> dict[str, str]:
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
def path(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Where the packages are: as pip installs them, or where their backend is missing, as an editable install would."""
    projects = sorted(home.glob("vbench-*"))
    if not find_spec("hatchling"):
        return [link(project) for project in projects]
    site = tmp_path_factory.mktemp("installed") / "site"
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site))
    done = python("-m", "pip", "install", *options, *map(str, projects), folder=home)
    assert done.returncode == 0, done.stderr
    return [site]


class Told(NamedTuple):
    """What the commands say of the five packages, typed in one interpreter."""

    listed: Done
    checked: Done
    runs: list[Done]


@pytest.fixture(scope="module")
def told(home: Path, path: list[Path]) -> Told:
    few = ("train.steps=20", "measure.data=100", "measure.gradients.draws=20")
    options = ["--in-process", *(word for setting in few for word in ("--set", setting))]
    runs = [["run", f"vbench-{name}/grid.yaml", *options] for name in NAMES.values()]
    names = [f"{kind}:{name}" for kind, name in NAMES.items()]
    listed, checked, *ran = together(["list", "--json"], ["check", *names, "--json"], *runs, folder=home, path=path)
    return Told(listed, checked, ran)


def test_pip_installs_every_kind(told: Told, path: list[Path]) -> None:
    pytest.importorskip("hatchling", reason="pip install hatchling")
    (site,) = path
    assert {file.parent.name for file in site.glob("*.dist-info/RECORD")} == {
        f"vbench_{name.replace('-', '_')}-0.1.0.dist-info" for name in NAMES.values()
    }
    assert set(components(told.listed)) == {f"{kind}:{name}" for kind, name in NAMES.items()}


def test_every_kind_is_listed_and_passes_the_judge(told: Told) -> None:
    known = {f"{kind}:{name}": f"vbench-{name}" for kind, name in NAMES.items()}
    assert components(told.listed) == known
    assert told.checked.returncode == 0, told.checked.stderr
    verdicts = {
        f"{row['kind']}:{row['name']}": (row["distribution"], row["verdict"]) for row in json.loads(told.checked.stdout)
    }
    assert verdicts == {component: (owner, "PASS") for component, owner in known.items()}


def test_every_kind_says_what_a_registered_component_must_say(told: Told) -> None:
    for row in json.loads(told.listed.stdout):
        assert row["summary"].endswith(".")
        assert len(row["summary"]) < 100
        assert row["kind"] == "executor" or any(character.isdigit() for character in row["source"])
        assert all(parameter["help"] for parameter in row["parameters"])


def test_every_kind_passes_its_own_tests(home: Path, path: list[Path]) -> None:
    done = python("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(home), folder=home, path=path)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]


def test_every_grid_runs_to_the_end_beside_a_built_in(told: Told, home: Path) -> None:
    for name, done in zip(NAMES.values(), told.runs, strict=True):
        assert done.returncode == 0, done.stderr
        assert vbench.load(home / "results" / name, "cells")["status"].tolist() == ["done", "done"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_in_order_for_the_linter(tmp_path: Path, kind: Kind) -> None:
    pytest.importorskip("ruff")
    settings = Path(__file__).parent.parent / "pyproject.toml"
    for name in (kind, "some-very-long-name-of-forty-characters"):
        project = new_plugin(name, kind, tmp_path, EMPTY)
        for words in (["check"], ["format", "--check"]):
            done = python("-m", "ruff", *words, "--no-cache", "--config", str(settings), ".", folder=project)
            assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_what_is_written_is_in_order_for_the_type_checker(home: Path) -> None:
    pytest.importorskip("mypy")
    for project in sorted(home.glob("vbench-*")):
        done = python("-m", "mypy", "--strict", "--cache-dir", "../types", "src", folder=project)
        assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder where the command was typed once: the catalogue is kept there, and one package."""
    folder = tmp_path_factory.mktemp("typed")
    return folder, command("new-plugin", "My_First.one", "--kind", "prior", folder=folder)


def test_the_command_writes_a_package_and_says_what_to_type_next(typed) -> None:
    folder, done = typed
    assert done.returncode == 0, done.stderr
    before = {file: file.read_bytes() for file in folder.glob("vbench-my-first-one/**/*.*")}
    assert {str(file.relative_to(folder / "vbench-my-first-one")) for file in before} == {
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
    again = command("new-plugin", "my-first-one", folder=folder)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == "vbench-my-first-one exists and is not empty: choose another name or --dir\n"
    assert {file: file.read_bytes() for file in folder.glob("vbench-my-first-one/**/*.*")} == before


def test_the_command_loads_no_torch(typed) -> None:
    folder, _ = typed
    code = "import sys; from vbench.cli import main; main(['new-plugin', 'x'], standalone_mode=False); "
    code += "print([m for m in ('torch', 'pandas', 'scipy') if m in sys.modules])"
    done = python("-c", code, folder=folder)
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
