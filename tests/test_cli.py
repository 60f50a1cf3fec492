"""The command line as a user meets it: exit codes, one line for a mistake; real processes where they matter."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import vbench as api
from tests.command import Done, called, together, vbench
from tests.strangers import GOOD, install

pytestmark = pytest.mark.timeout(900)  # the first test of some runs what the others look at

GRID = """
name: small
datasets: [bernoulli-bars]
encoders:
  - gaussian: {latent: 2, hidden: [8]}
  - bernoulli: {latent: 2, hidden: [8]}
decoders: [bernoulli]
priors: [standard-normal]
estimators: [reparam, "iwae[k=2]"]
train: {steps: 20, batch: 10}
measure: {data: 20}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "grid.yaml").write_text(GRID)
    return folder


@pytest.fixture(scope="module")
def ran(home: Path) -> subprocess.CompletedProcess[str]:
    return vbench("run", "grid.yaml", folder=home)


def test_run_ends_with_a_table_and_where_the_records_are(ran, home: Path) -> None:
    assert ran.returncode == 0, ran.stderr
    assert "small: 4 cells: 2 to run, 0 done, 2 skipped" in ran.stdout
    assert "iwae[k=2]" in ran.stdout
    assert "1/1" in ran.stdout
    assert "records: results/small/records" in ran.stdout
    assert (home / "results" / "small" / "cells.parquet").exists()
    assert (home / "results" / "small" / "grid.yaml").exists()


def test_the_table_fits_a_terminal_of_80_columns(ran) -> None:
    table = [line for line in ran.stdout.splitlines() if "─" in line or "1/1" in line]
    assert table
    assert max(map(len, table)) <= 80


def test_run_again_says_that_nothing_was_computed(ran, home: Path) -> None:
    again = called("run", "grid.yaml", "--in-process", folder=home)
    assert again.returncode == 0
    assert "0 to run, 2 done, 2 skipped" in again.stdout
    assert "nothing to compute" in again.stdout
    assert "0 computed now" in again.stdout


def test_dry_run_runs_nothing(home: Path) -> None:
    done = called("run", "grid.yaml", "--dry-run", "--set", "name=dry", folder=home)
    assert done.returncode == 0
    assert "2 to run" in done.stdout
    assert not (home / "results" / "dry").exists()


def test_filter_and_set(home: Path) -> None:
    found = json.loads(
        called("plan", "grid.yaml", "--filter", "estimator=iwae*", "--set", "seeds=3", "--json", folder=home).stdout
    )
    assert (found["cells"], found["runnable"]) == (6, 3)


def test_plan_json(ran, home: Path) -> None:
    found = json.loads(called("plan", "grid.yaml", "--json", folder=home).stdout)
    assert (found["cells"], found["runnable"], found["done"]) == (4, 2, 2)
    assert [item["encoder"] for item in found["skipped"]] == ["bernoulli[latent=2,hidden=[8]]"] * 2
    assert all("needs real-latent" in item["reason"] for item in found["skipped"])


def test_compare(ran, home: Path) -> None:
    asked = ("compare", "results/small", "--metric", "elbo", "--baseline", "reparam")
    shown = called(*asked, folder=home)
    assert shown.returncode == 0, shown.stderr
    assert "elbo: difference to reparam" in shown.stdout
    (found,) = [
        r for r in json.loads(called(*asked, "--json", folder=home).stdout)["rows"] if r["verdict"] != "baseline"
    ]
    assert (found["estimator"], found["verdict"], found["low"]) == ("iwae[k=2]", "no error known", None)
    assert f"{found['estimate']:.2f}"[:4] in shown.stdout
    wrong = called("compare", "results/smal", "--metric", "elbo", "--baseline", "reparam", folder=home)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert len(wrong.stderr.splitlines()) == 1
    assert "did you mean results/small" in wrong.stderr


def test_list_json(home: Path) -> None:
    rows = json.loads(called("list", "--json", folder=home).stdout)
    assert {"kind", "name", "distribution", "version", "summary", "source"} <= set(rows[0])
    assert {"kind": "estimator", "name": "vimco"}.items() <= next(r for r in rows if r["name"] == "vimco").items()
    only = json.loads(called("list", "prior", "--json", folder=home).stdout)
    assert {row["kind"] for row in only} == {"prior"}


@pytest.mark.parametrize("name", ["vimco", "encoder:bernoulli", "bernoulli", "estimator", "dataset", "digits"])
def test_show(home: Path, name: str) -> None:
    done = called("show", name, folder=home)
    assert done.returncode == 0, done.stderr
    assert "Source:" in done.stdout or "class " in done.stdout


def test_show_tells_needs_offers_and_limits(home: Path) -> None:
    vimco = called("show", "vimco", folder=home).stdout
    assert "k: integer >= 2, default 5  importance samples per datum" in vimco
    assert "needs: density, normalized" in vimco
    assert "offers: amortized, density, kl, loc-scale" in called("show", "encoder:gaussian", folder=home).stdout


def test_show_of_an_unknown_name(home: Path) -> None:
    done = vbench("show", "vimko", folder=home)
    assert (done.returncode, done.stderr) == (
        2,
        "vbench: nothing is called 'vimko' (did you mean 'vimco'?)\n",
    )


def test_doctor_and_data_and_plugins(home: Path) -> None:
    doctor = json.loads(called("doctor", "--json", folder=home).stdout)
    assert doctor["libraries"]["torch"].startswith("2.")
    assert {row["dataset"] for row in json.loads(called("data", "--json", folder=home).stdout)} >= {
        "mnist",
        "frey",
    }
    assert json.loads(called("plugins", "--json", folder=home).stdout)["plugins"][0]["distribution"] == "vbench"


@pytest.mark.parametrize(
    "command", ["run", "plan", "list", "show", "compare", "plugins", "new-plugin", "data", "doctor"]
)
def test_help_shows_a_real_example(home: Path, command: str) -> None:
    done = called(command, "--help", folder=home)
    assert done.returncode == 0
    assert f"vbench {command}" in done.stdout.split("Example:")[1]


MISTAKES = {
    "unknown key": (GRID.replace("train:", "trian:"), "trian: unknown key (did you mean 'train'?)"),
    "unknown estimator": (GRID.replace("reparam", "reparm"), "did you mean 'reparam'?"),
    "unknown parameter": (GRID.replace("k=2", "kk=2"), "kk"),
    "out of range": (GRID.replace("k=2", "k=0"), "k"),
    "wrong type": (GRID.replace("steps: 20", "steps: many"), "train.steps"),
    "not yaml": ("name: [", "wrong.yaml:1:8: not YAML"),
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_with_its_place(home: Path, text: str, message: str) -> None:
    (home / "wrong.yaml").write_text(text)
    done = called("run", "wrong.yaml", folder=home)
    assert done.returncode == 2
    assert done.stderr.startswith("wrong.yaml:")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_wrong_calls_exit_with_2(home: Path) -> None:
    assert called("run", "no-such.yaml", folder=home).returncode == 2
    assert called("run", "grid.yaml", "--filter", "colour=red", folder=home).returncode == 2
    assert called("run", "grid.yaml", "--set", "train.stepz=3", folder=home).returncode == 2
    assert called("run", "grid.yaml", "--device", "abacus", "--in-process", folder=home).returncode == 2
    assert called("explode", folder=home).returncode == 2


class Strangers(NamedTuple):
    """A run with three plugins, one good, one whose estimator fails, one broken; then the good one is changed."""

    run: subprocess.CompletedProcess[str]
    cells: dict[str, dict[str, str]]
    plugins: Done
    plan: Done
    again: Done


@pytest.fixture(scope="module")
def strangers(home: Path) -> Strangers:
    path, grid = home / "strangers", ("strangers.yaml", "--set", "name=strangers")
    install(path, "vbench-stranger", GOOD.replace("NAME", "halved"))
    install(path, "vbench-failing", GOOD.replace("NAME", "failing").replace("draw = ", "1 / 0\n        draw = "))
    install(path, "vbench-broken", "raise ImportError('no luck')")
    (home / "strangers.yaml").write_text(GRID.replace("reparam,", "reparam, halved, failing,"))
    done = vbench("run", *grid, folder=home, path=[path])
    cells = api.load(home / "results" / "strangers", "cells").query("status != 'skipped'")
    (path / "vbench_stranger.py").write_text(GOOD.replace("NAME", "halved") + "\n# changed\n")
    whole = ("--filter", "estimator=reparam,halved")
    later = together(
        ["plugins"], ["plan", *grid, *whole], ["run", *grid, *whole, "--in-process"], folder=home, path=[path]
    )
    return Strangers(done, cells.set_index("estimator").to_dict("index"), *later)


def test_a_failed_cell_gives_exit_code_1_and_says_where_its_log_is(strangers: Strangers) -> None:
    done = strangers.run
    assert done.returncode == 1
    assert "failed: bernoulli-bars gaussian[latent=2,hidden=[8]] failing seed 0: ZeroDivisionError" in done.stderr
    assert f"what it said: vbench log results/strangers {strangers.cells['failing']['cell'][:8]}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "4 skipped" in done.stdout
    assert "3 done" in done.stdout


def test_a_broken_plugin_costs_only_its_own_cells(strangers: Strangers) -> None:
    assert strangers.again.returncode == 0
    assert "2 done" in strangers.again.stdout
    assert "broken: vbench-broken 1.0" in strangers.plugins.stdout
    assert "no luck" in strangers.plugins.stdout


def test_a_stranger_runs_in_a_grid_and_its_version_is_recorded(strangers: Strangers) -> None:
    assert strangers.cells["halved"]["status"] == "done"
    assert strangers.cells["halved"]["plugins"] == "vbench-stranger==1.0"
    assert "1 to run, 1 done" in strangers.plan.stdout
    assert "stale: the code of plugin vbench-stranger has changed" in strangers.plan.stdout
    assert "1 computed now" in strangers.again.stdout


def test_two_owners_of_a_name_are_refused_by_name(home: Path) -> None:
    path = home / "clash"
    install(path, "vbench-one", GOOD.replace("NAME", "reparam"))
    listed, plugins = together(["list"], ["plugins"], folder=home, path=[path])
    assert listed.returncode == 2
    assert "both vbench (" in listed.stderr
    assert "vbench-one" in listed.stderr
    assert plugins.returncode == 2
