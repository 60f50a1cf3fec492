"""What needs an extra that is not installed: listed, skipped and left undecided, each with what to install."""

from __future__ import annotations

import json
from pathlib import Path

import pluggy
import pytest

from tests.command import together
from tests.strangers import GOOD, install
from vbench.attempts import Outcome
from vbench.catalogue import Catalogue, Component
from vbench.discovery import lacking
from vbench.grid import Choice
from vbench.provenance import plugins_of
from vbench.report.staleness import stale_reasons

NEEDING = GOOD.replace("NAME", "needing") + '\nHalved.extra = "more"\n'
GRID = """
name: extra
datasets: [digits]
encoders: [{gaussian: {latent: 2, hidden: []}}]
decoders: [{bernoulli: {hidden: []}}]
priors: [standard-normal]
estimators: [needing]
seeds: 1
train: {steps: 1, batch: 2}
measure: {data: 2}
"""
LINE = "needs no-such-library: pip install 'vbench-needing[more]'"


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    """What an installed plugin says that it requires."""
    install(tmp_path / "path", "vbench-needing", NEEDING)
    return tmp_path / "path" / "vbench_needing-1.0.dist-info" / "METADATA"


def require(metadata: Path, *lines: str) -> None:
    requires = "".join(f"Requires-Dist: {line}\n" for line in ("vbench", *lines))
    metadata.write_text(metadata.read_text("utf-8") + requires, "utf-8")


def test_what_is_lacking_is_named_with_what_to_install(metadata: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(metadata.parents[1]))
    require(metadata, 'no-such-library>=1.2 ; extra == "more"', "pluggy; extra == 'more'", 'other; extra == "most"')
    assert lacking("vbench-needing", "more") == LINE
    assert lacking("vbench-needing", "most").endswith("'vbench-needing[most]'")
    assert lacking("vbench-needing", "") == ""
    assert lacking("vbench-needing", "mor") == ""
    assert lacking("nobody-has-this", "more") == ""


def test_it_is_listed_planned_and_judged_as_unavailable(metadata: Path, tmp_path: Path) -> None:
    require(metadata, 'no-such-library; extra == "more"')
    (tmp_path / "grid.yaml").write_text(GRID, "utf-8")
    listed, shown, plan, checked = together(
        ["list", "--json"],
        ["show", "needing"],
        ["plan", "grid.yaml"],
        ["check", "needing", "--json"],
        folder=tmp_path,
        path=[metadata.parents[1]],
    )
    row = next(row for row in json.loads(listed.stdout) if row["name"] == "needing")
    assert (row["extra"], row["unavailable"]) == ("more", LINE)
    assert f"unavailable, {LINE}" in shown.stdout
    assert f"estimator needing {LINE}" in " ".join(plan.stdout.split())
    assert checked.returncode == 0
    assert "INCONCLUSIVE" in checked.stdout
    assert LINE in checked.stdout


def test_what_an_extra_brings_is_provenance_by_its_version(
    metadata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(metadata.parents[1]))
    require(metadata, 'pluggy; extra == "more"')
    component = Component("estimator", "needing", "vbench-needing", "1.0", module="vbench_needing:Halved", extra="more")
    catalogue = Catalogue({"estimator": {"needing": component}})
    used = plugins_of([Choice("estimator", "needing", {}, {})], catalogue)
    assert [(plugin["name"], plugin["version"]) for plugin in used] == [
        ("pluggy", pluggy.__version__),
        ("vbench-needing", "1.0"),
    ]
    outcome = Outcome("abc", "done", "", {}, 0, provenance={"code": "one", "plugins": used})
    assert stale_reasons([outcome], "one") == {"abc": ""}
    used[0]["version"] = "0.1"
    assert stale_reasons([outcome], "one") == {"abc": f"plugin pluggy was 0.1, is {pluggy.__version__}"}
    used[0] |= {"name": "no-such-library"}
    assert stale_reasons([outcome], "one") == {"abc": "it was made with plugin no-such-library"}


def test_it_works_where_the_extra_is_there(metadata: Path, tmp_path: Path) -> None:
    require(metadata, 'pluggy; extra == "more"')
    (tmp_path / "grid.yaml").write_text(GRID, "utf-8")
    listed, plan = together(["list", "--json"], ["plan", "grid.yaml"], folder=tmp_path, path=[metadata.parents[1]])
    assert next(row for row in json.loads(listed.stdout) if row["name"] == "needing")["unavailable"] == ""
    assert "1 to run" in plan.stdout
