"""The command line as a user meets it: real processes, exit codes, one line for a mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.strangers import GOOD, install

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


def vbench(*arguments: str, folder: Path, path: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COLUMNS": "80", "XDG_CACHE_HOME": str(folder / "cache")} | extra
    if path:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "vbench", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


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
    again = vbench("run", "grid.yaml", folder=home)
    assert again.returncode == 0
    assert "0 to run, 2 done, 2 skipped" in again.stdout
    assert "nothing to compute" in again.stdout
    assert "0 computed now" in again.stdout


def test_dry_run_runs_nothing(home: Path) -> None:
    done = vbench("run", "grid.yaml", "--dry-run", "--set", "name=dry", folder=home)
    assert done.returncode == 0
    assert "2 to run" in done.stdout
    assert not (home / "results" / "dry").exists()


def test_filter_and_set(home: Path) -> None:
    found = json.loads(
        vbench("plan", "grid.yaml", "--filter", "estimator=iwae*", "--set", "seeds=3", "--json", folder=home).stdout
    )
    assert (found["cells"], found["runnable"]) == (6, 3)


def test_plan_json(ran, home: Path) -> None:
    found = json.loads(vbench("plan", "grid.yaml", "--json", folder=home).stdout)
    assert (found["cells"], found["runnable"], found["done"]) == (4, 2, 2)
    assert [item["encoder"] for item in found["skipped"]] == ["bernoulli[latent=2,hidden=[8]]"] * 2
    assert all("needs real-latent" in item["reason"] for item in found["skipped"])


def test_compare(ran, home: Path) -> None:
    asked = ("compare", "results/small", "--metric", "elbo", "--baseline", "reparam")
    shown = vbench(*asked, folder=home)
    assert shown.returncode == 0, shown.stderr
    assert "elbo: difference to reparam" in shown.stdout
    (found,) = [
        r for r in json.loads(vbench(*asked, "--json", folder=home).stdout)["rows"] if r["verdict"] != "baseline"
    ]
    assert (found["estimator"], found["verdict"], found["low"]) == ("iwae[k=2]", "no error known", None)
    assert f"{found['estimate']:.2f}"[:4] in shown.stdout
    wrong = vbench("compare", "results/smal", "--metric", "elbo", "--baseline", "reparam", folder=home)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert len(wrong.stderr.splitlines()) == 1
    assert "did you mean results/small" in wrong.stderr


def test_list_json(home: Path) -> None:
    rows = json.loads(vbench("list", "--json", folder=home).stdout)
    assert {"kind", "name", "distribution", "version", "summary", "source"} <= set(rows[0])
    assert {"kind": "estimator", "name": "vimco"}.items() <= next(r for r in rows if r["name"] == "vimco").items()
    only = json.loads(vbench("list", "prior", "--json", folder=home).stdout)
    assert {row["kind"] for row in only} == {"prior"}


@pytest.mark.parametrize("name", ["vimco", "encoder:bernoulli", "bernoulli", "estimator", "dataset", "digits"])
def test_show(home: Path, name: str) -> None:
    done = vbench("show", name, folder=home)
    assert done.returncode == 0, done.stderr
    assert "Source:" in done.stdout or "class " in done.stdout


def test_show_tells_needs_offers_and_limits(home: Path) -> None:
    vimco = vbench("show", "vimco", folder=home).stdout
    assert "k: integer >= 2, default 5  importance samples per datum" in vimco
    assert "needs: density, normalized" in vimco
    assert "offers: amortized, density, kl, loc-scale" in vbench("show", "encoder:gaussian", folder=home).stdout


def test_show_of_an_unknown_name(home: Path) -> None:
    done = vbench("show", "vimko", folder=home)
    assert (done.returncode, done.stderr) == (
        2,
        "vbench: nothing is called 'vimko' (did you mean 'vimco'?)\n",
    )


def test_doctor_and_data_and_plugins(home: Path) -> None:
    doctor = json.loads(vbench("doctor", "--json", folder=home).stdout)
    assert doctor["libraries"]["torch"].startswith("2.")
    assert {row["dataset"] for row in json.loads(vbench("data", "--json", folder=home).stdout)} >= {
        "mnist",
        "frey",
    }
    assert json.loads(vbench("plugins", "--json", folder=home).stdout)["plugins"][0]["distribution"] == "vbench"


@pytest.mark.parametrize(
    "command", ["run", "plan", "list", "show", "compare", "plugins", "new-plugin", "data", "doctor"]
)
def test_help_shows_a_real_example(home: Path, command: str) -> None:
    done = vbench(command, "--help", folder=home)
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
    done = vbench("run", "wrong.yaml", folder=home)
    assert done.returncode == 2
    assert done.stderr.startswith("wrong.yaml:")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_wrong_calls_exit_with_2(home: Path) -> None:
    assert vbench("run", "no-such.yaml", folder=home).returncode == 2
    assert vbench("run", "grid.yaml", "--filter", "colour=red", folder=home).returncode == 2
    assert vbench("run", "grid.yaml", "--set", "train.stepz=3", folder=home).returncode == 2
    assert vbench("run", "grid.yaml", "--device", "abacus", folder=home).returncode == 2
    assert vbench("explode", folder=home).returncode == 2


def test_a_failed_cell_gives_exit_code_1_and_says_where_its_log_is(home: Path) -> None:
    path = home / "failing"
    install(path, "vbench-failing", GOOD.replace("NAME", "failing").replace("draw = ", "1 / 0\n        draw = "))
    (home / "failing.yaml").write_text(GRID.replace("reparam,", "reparam, failing,"))
    done = vbench("run", "failing.yaml", "--set", "name=failing", folder=home, path=path)
    assert done.returncode == 1
    assert "failed: bernoulli-bars gaussian[latent=2,hidden=[8]] failing seed 0: ZeroDivisionError" in done.stderr
    assert "3 skipped" in done.stdout
    assert "2 done" in done.stdout


def test_a_broken_plugin_costs_only_its_own_cells(home: Path) -> None:
    path = home / "broken"
    install(path, "vbench-broken", "raise ImportError('no luck')")
    assert vbench("run", "grid.yaml", folder=home, path=path).returncode == 0
    plugins = vbench("plugins", folder=home, path=path)
    assert "broken: vbench-broken 1.0" in plugins.stdout
    assert "no luck" in plugins.stdout


def test_two_owners_of_a_name_are_refused_by_name(home: Path) -> None:
    path = home / "clash"
    install(path, "vbench-one", GOOD.replace("NAME", "reparam"))
    done = vbench("list", folder=home, path=path)
    assert done.returncode == 2
    assert "both vbench (" in done.stderr
    assert "vbench-one" in done.stderr
    assert vbench("plugins", folder=home, path=path).returncode == 2


def test_a_stranger_runs_in_a_grid_and_its_version_is_recorded(home: Path) -> None:
    path = home / "stranger"
    install(path, "vbench-stranger", GOOD.replace("NAME", "halved"))
    (home / "stranger.yaml").write_text(GRID.replace("reparam,", "halved,"))
    done = vbench("run", "stranger.yaml", "--set", "name=stranger", folder=home, path=path)
    assert done.returncode == 0, done.stderr
    import vbench as api

    cells = api.load(home / "results" / "stranger", "cells")
    assert cells.loc[cells["estimator"] == "halved", "plugins"].tolist()[0] == "vbench-stranger==1.0"
    (path / "vbench_stranger.py").write_text(GOOD.replace("NAME", "halved") + "\n# changed\n")
    plan = vbench("plan", "stranger.yaml", "--set", "name=stranger", folder=home, path=path)
    assert "1 to run, 1 done" in plan.stdout
    assert "stale: the code of plugin vbench-stranger has changed" in plan.stdout
