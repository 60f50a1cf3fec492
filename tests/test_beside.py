"""A Python file beside the grid as a plugin: run everywhere, told apart by its bytes, refused in one line."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.strangers import GOOD
from vbench.beside import Beside, PluginFile, beside, use
from vbench.cli import main
from vbench.discovery import digest, relied_on
from vbench.grid import GridError, read_grid
from vbench.listing import load_catalogue, study_catalogue
from vbench.planning import Plan, make_plan
from vbench.study import run

METHOD = GOOD.replace("NAME", "halved")
GRID = """
name: small
plugins: [my_method.py]
datasets: [bernoulli-bars]
encoders: ["gaussian[latent=2,hidden=[8]]"]
decoders: ["bernoulli[hidden=[8]]"]
priors: [standard-normal]
estimators: [reparam, halved]
train: {steps: 4, batch: 10}
measure: {data: 20}
"""
DATASET = '''
"""A stranger's data."""
from typing import Annotated
import torch
from vbench import Space, hookimpl
from vbench.builtin.datasets.tensors import TensorDataset


def coins(n: Annotated[int, "rows"] = 40) -> TensorDataset:
    """Coins.

    Source: Nobody (2026), Coins, arXiv:2601.00001.
    """
    rows = torch.randn(n, 9, generator=torch.Generator().manual_seed(0))
    return TensorDataset(rows[:20], rows[20:30], rows[30:], Space((9,)), "ab" * 32, "none")


@hookimpl
def vbench_datasets():
    return {"coins": coins}
'''


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    use(Beside())


def made(folder: Path) -> Path:
    folder.mkdir()
    (folder / "grid.yaml").write_text(GRID)
    (folder / "my_method.py").write_text(METHOD)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return made(tmp_path / "home")


def plan(home: Path, **settings: Any) -> Plan:
    return make_plan(home / "grid.yaml", results=home.parent / "results", **settings)


def actions(found: Plan) -> dict[str, tuple[str, str]]:
    return {str(planned.cell.estimator): (planned.action, planned.reason) for planned in found.cells}


def gone(home: Path) -> Any:
    """A plan was made and the file is no more: what runs is what was read."""
    return lambda found: (home / "my_method.py").unlink()


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run once, in processes of the fork server; the file is put back afterwards."""
    home = made(tmp_path_factory.mktemp("once") / "home")
    result = run(home / "grid.yaml", results=home.parent / "results", workers=1, on_plan=gone(home))
    assert result.counts == {"done": 2}, [outcome.reason for outcome in result.outcomes.values()]
    (home / "my_method.py").write_text(METHOD)
    return home.parent


@pytest.fixture
def ran(once: Path, tmp_path: Path) -> Path:
    """A copy of what was run."""
    return shutil.copytree(once, tmp_path / "copy") / "home"


def test_it_runs_in_children_and_its_bytes_are_its_provenance(ran: Path) -> None:
    from vbench.records import Store

    outcomes = {o.labels["estimator"]: o for o in Store(ran.parent / "results" / "small").outcomes().values()}
    own = hashlib.sha256(METHOD.encode()).hexdigest()
    (told,) = outcomes["halved"].provenance["plugins"]
    assert told == {"name": "my_method.py", "version": own[:8], "digest": own}
    assert outcomes["reparam"].provenance["plugins"] == []
    assert outcomes["halved"].facts["rule"] == "Halved"


def test_one_byte_makes_its_cells_stale_and_only_those(ran: Path) -> None:
    assert actions(plan(ran)) == {"reparam": ("done", ""), "halved": ("done", "")}
    (ran / "my_method.py").write_text(METHOD + "#")
    action, reason = actions(plan(ran))["halved"]
    assert action == "run"
    assert reason.startswith("stale: plugin my_method.py was ")
    assert actions(plan(ran))["reparam"] == ("done", "")
    (ran / "my_method.py").write_text(METHOD)
    assert actions(plan(ran))["halved"] == ("done", "")


def test_where_the_folder_lies_does_not_matter(ran: Path) -> None:
    moved = ran.parent / "elsewhere"
    shutil.move(ran, moved)
    assert actions(plan(moved)) == {"reparam": ("done", ""), "halved": ("done", "")}


def test_the_study_keeps_a_copy_that_other_commands_use(ran: Path) -> None:
    study = ran.parent / "results" / "small"
    assert (study / "my_method.py").read_text() == METHOD
    use(Beside())
    assert study_catalogue(study).get("estimator", "halved") is not None
    again = make_plan(study / "grid.yaml", results=ran.parent / "results")  # the kept grid is a grid
    assert actions(again) == {"reparam": ("done", ""), "halved": ("done", "")}
    told = CliRunner().invoke(main, ["cite", str(study)])
    assert "estimator:halved cannot be cited: no title" not in told.stderr
    assert "nobody2026nothing" in told.stdout


def test_a_study_in_its_own_folder_is_left_alone(home: Path) -> None:
    study = home.parent / "results" / "small"
    shutil.move(home, study)
    file = study / "my_method.py"

    def edit(found: Plan) -> None:
        file.write_text(METHOD + "# edited meanwhile")

    run(study / "grid.yaml", results=study.parent, workers=0, on_plan=edit)
    assert file.read_text().endswith("# edited meanwhile")


@pytest.mark.slow
def test_it_runs_on_dask_workers(home: Path) -> None:
    pytest.importorskip("distributed")
    result = run(
        home / "grid.yaml",
        results=home.parent / "results",
        workers=1,
        executor="dask",
        filters=["estimator=halved"],
        on_plan=gone(home),
    )
    assert result.counts == {"done": 1}, [outcome.reason for outcome in result.outcomes.values()]


def test_the_next_grid_does_not_see_it(home: Path) -> None:
    read_grid(home / "grid.yaml", load_catalogue)
    assert load_catalogue().get("estimator", "halved")
    (home / "other.yaml").write_text(GRID.replace("plugins: [my_method.py]", ""))
    with pytest.raises(GridError, match="unknown estimator 'halved'"):
        read_grid(home / "other.yaml", load_catalogue)
    assert load_catalogue().get("estimator", "halved") is None


def test_a_changed_file_is_loaded_anew_in_the_same_process(home: Path) -> None:
    read_grid(home / "grid.yaml", load_catalogue)
    (home / "my_method.py").write_text(METHOD.replace("under another name", "changed"))
    grid = read_grid(home / "grid.yaml", load_catalogue)
    component = load_catalogue().get("estimator", "halved")
    assert component
    assert component.summary == "Reparameterised ELBO changed."
    assert component.distribution == "my_method.py"
    assert digest(component.module, component.distribution) == grid.beside.plugins[0].digest


def test_plugins_that_it_imports_are_part_of_it(home: Path) -> None:
    pytest.importorskip("vbench_antithetic")
    (home / "my_method.py").write_text(METHOD + "\nfrom vbench_antithetic import Antithetic\n")
    read_grid(home / "grid.yaml", load_catalogue)
    assert {point.dist.name for point in relied_on("my_method.py") if point.dist} == {"vbench-antithetic"}


def test_a_mapping_names_files_of_the_working_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ruamel.yaml import YAML

    monkeypatch.chdir(home)
    grid = read_grid(YAML(typ="safe", pure=True).load(GRID), load_catalogue)
    assert [file.name for file in grid.beside.plugins] == ["my_method.py"]
    assert "plugins:\n  - my_method.py" in grid.source


def test_a_file_below_and_one_far_away(home: Path) -> None:
    (home / "methods").mkdir()
    shutil.move(home / "my_method.py", home / "methods" / "my_method.py")
    far = home.parent / "far.py"
    far.write_text(METHOD.replace("halved", "other"))
    (home / "grid.yaml").write_text(GRID.replace("[my_method.py]", f"[methods/my_method.py, {far}]"))
    read_grid(home / "grid.yaml", load_catalogue)
    assert [file.name for file in beside().plugins] == ["methods/my_method.py", "far.py"]
    assert load_catalogue().get("estimator", "other")


BROKEN = {
    "syntax": ("def f(:\n", "my_method.py: SyntaxError: invalid syntax (my_method.py, line 1)"),
    "raises": ("x = 1\nraise ValueError('no\\nway')\n", "my_method.py: ValueError: no way"),
    "exits": ("raise SystemExit(3)\n", "my_method.py: SystemExit: 3"),
    "empty": ("", "my_method.py: ValueError: it registers nothing: expected a hook such as vbench_estimators"),
    "taken": (METHOD.replace("halved", "iwae"), "my_method.py: ValueError: estimator 'iwae' is registered by vbench"),
    "bytes": ("\0", "my_method.py: "),
    "helper": ("import my_helper\n", "my_method.py: ModuleNotFoundError: No module named 'my_helper'"),
    "type": (METHOD.replace("k: Annotated[int, Ge(1)", "k: Annotated[object, Ge(1)"), "my_method.py: TypeError: "),
}


@pytest.mark.parametrize(("source", "told"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_cannot_be_used_is_one_positioned_line(home: Path, source: str, told: str) -> None:
    (home / "my_method.py").write_text(source)
    with pytest.raises(GridError) as caught:
        read_grid(home / "grid.yaml", load_catalogue, where="grid.yaml")
    (line,) = caught.value.lines
    assert line.replace(f"{home}/", "").startswith(f"grid.yaml:3:11: plugins[0]: {told}"), line


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[gone.py]", ":3:11: plugins[0]: no such file: "),
        ("[my_method.py, my_method.py]", ":3:25: plugins[1]: my_method.py is given twice"),
        ("[../home/my_method.py]", ":3:11: plugins[0]: expected a Python file beside the grid, such as my_method.py"),
        ("[my_method]", ":3:11: plugins[0]: expected a Python file beside the grid"),
        ("[.py]", ":3:11: plugins[0]: expected a Python file beside the grid"),
        ("[3]", ":3:11: plugins[0]: expected a Python file such as my_method.py, not 3"),
        ("[{a: b}]", ":3:11: plugins[0]: expected a Python file such as my_method.py, not a mapping"),
        ("my_method.py", ":3:10: plugins: expected a list of Python files such as [my_method.py], not 'my_method.py'"),
        ("{a: b}", ":3:10: plugins: expected a list of Python files"),
    ],
)
def test_what_is_no_file_is_told_where_it_stands(home: Path, written: str, told: str) -> None:
    (home / "grid.yaml").write_text(GRID.replace("[my_method.py]", written))
    with pytest.raises(GridError) as caught:
        read_grid(home / "grid.yaml", load_catalogue)
    assert any(told in line for line in caught.value.lines), caught.value.lines


def test_a_folder_and_a_huge_file_are_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "folder.py").mkdir()
    with pytest.raises(ValueError, match="no such file"):
        PluginFile.read("folder.py", home)
    monkeypatch.setattr("vbench.beside._LARGEST", 10)
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        PluginFile.read("my_method.py", home)


def test_check_judges_a_file(home: Path) -> None:
    (home / "my_data.py").write_text(DATASET)
    found = CliRunner().invoke(main, ["check", "--plugin", str(home / "my_data.py"), "--json"])
    assert found.exit_code == 0, found.output
    assert '"coins"' in found.stdout
    assert '"PASS"' in found.stdout
    broken = CliRunner().invoke(main, ["check", "--plugin", str(home / "gone.py")])
    assert broken.exit_code == 2
    assert len(broken.output.splitlines()) == 1


def test_check_fails_a_wrong_file(home: Path) -> None:
    (home / "my_data.py").write_text(DATASET.replace("rows[20:30], rows[30:]", "rows[:10], rows[30:]"))
    found = CliRunner().invoke(main, ["check", "--plugin", str(home / "my_data.py")])
    assert found.exit_code == 1
    assert "FAIL" in found.output
    assert "splits" in found.output
