"""Result folders that become one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import vbench
from tests.reliability.small import same_numbers, small
from tests.report.conftest import blank_pictures
from vbench import store
from vbench.cli import main
from vbench.grid import GridError, read_grid
from vbench.listing import load_catalogue
from vbench.merging import merge, united
from vbench.planning import make_plan
from vbench.records import Outcome, Row, Store
from vbench.study import run

CATALOGUE = load_catalogue()


def grid_of(folder: Path, **changes: Any) -> None:
    grid = read_grid(small(name=folder.name) | changes, CATALOGUE)
    (folder / "grid.yaml").write_text(grid.source)


def study(folder: Path, *attempts: tuple[str, str, float], **changes: Any) -> Path:
    """Attempts by key, start and what they measured."""
    for key, started, value in attempts:
        outcome = Outcome(key, "done", "", {"estimator": "reparam"}, 0, started=started)
        Store(folder).commit(outcome, [Row(40, "test", "elbo", "all", value, None, 5, "nats")])
    grid_of(folder, **changes)
    return folder


def digests(folder: Path) -> list[str]:
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "records").rglob("*.parquet"))


def values(folder: Path) -> dict[str, float]:
    frame = vbench.load(folder)
    return dict(zip(frame["cell"].astype(str), frame["value"], strict=True))


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    one = study(tmp_path / "one", ("aaaa", "2026-01-02", 1.0), ("bbbb", "2026-01-05", 2.0))
    other = study(
        tmp_path / "other", ("bbbb", "2026-01-03", 3.0), ("bbbb", "2026-01-01", 4.0), ("cccc", "2026-01-01", 5.0)
    )
    return [one, other]


def test_every_attempt_is_there_and_the_latest_counts(two: list[Path], tmp_path: Path) -> None:
    done = merge(two, tmp_path / "both", CATALOGUE)
    assert (done.copied, done.known, done.damaged) == (5, 0, [])
    assert done.remarks == ["made in more than one study: 1 cell; all attempts are kept, the latest counts"]
    assert digests(tmp_path / "both") == sorted(digests(two[0]) + digests(two[1]))
    assert values(tmp_path / "both") == {"aaaa": 1.0, "bbbb": 2.0, "cccc": 5.0}
    ordered = [o.started for o in Store(tmp_path / "both").attempts("bbbb")]
    assert ordered == ["2026-01-03", "2026-01-01", "2026-01-05"], "a folder's own order stays"
    assert merge(two, tmp_path / "both", CATALOGUE).known == 5
    merge(two[::-1], tmp_path / "turned", CATALOGUE)
    assert values(tmp_path / "turned") == values(tmp_path / "both")


def test_what_one_has_of_another_is_there_once(two: list[Path], tmp_path: Path) -> None:
    merge(two, tmp_path / "both", CATALOGUE)
    done = merge([*two, tmp_path / "both"], tmp_path / "again", CATALOGUE)
    assert (done.copied, done.known) == (5, 5)
    assert done.remarks == ["made in more than one study: 1 cell; all attempts are kept, the latest counts"]
    assert digests(tmp_path / "again") == digests(tmp_path / "both")


def test_what_stands_beside_the_records_comes_along(two: list[Path], tmp_path: Path) -> None:
    for number, folder in enumerate(two):
        for path, text in (("logs/bbbb.log", "said"), ("references/checkpoints/ffff/0.safetensors", "frozen")):
            (folder / path).parent.mkdir(parents=True)
            data = f'{{"{store.DIGEST_KEY}":"{store.BLANK}"}}{text} {number}'.encode()
            (folder / path).write_bytes(store.seal(data))
    done = merge(two, tmp_path / "both", CATALOGUE)
    assert "1 files in references/checkpoints differ between the studies: the first of each is kept" in done.remarks
    kept = tmp_path / "both" / "references" / "checkpoints" / "ffff" / "0.safetensors"
    assert kept.read_bytes().endswith(b"frozen 0")
    assert (tmp_path / "both" / "logs" / "bbbb.log").read_bytes().endswith(b"said 0"), "of the attempt that counts"


def test_damaged_files_are_left_out_and_named(two: list[Path], tmp_path: Path) -> None:
    path = next((two[0] / "records").rglob("aaaa.*"))
    path.write_bytes(path.read_bytes()[:-1])
    result = CliRunner().invoke(main, ["merge", *map(str, two), "--into", str(tmp_path / "both")])
    assert result.exit_code == 1
    assert f"left out: {path}: its checksum does not match" in result.output
    assert set(values(tmp_path / "both")) == {"bbbb", "cccc"}


def test_nothing_that_is_no_merge_is_touched(two: list[Path], tmp_path: Path) -> None:
    own = study(tmp_path / "own", ("dddd", "2026-01-01", 1.0), seeds=7)
    before = digests(own)
    result = CliRunner().invoke(main, ["merge", *map(str, two), "--into", str(own)])
    assert result.exit_code == 2
    assert result.output == f"{own} has a grid.yaml of its own: merge into a new folder, and name this one as a study\n"
    assert digests(own) == before
    with pytest.raises(GridError, match="one of the studies"):
        merge(two, two[0], CATALOGUE)
    with pytest.raises(GridError, match="no results in"):
        merge([tmp_path / "nowhere"], tmp_path / "both", CATALOGUE)
    with pytest.raises(GridError, match="a name for a folder"):
        merge(two, tmp_path / "no name", CATALOGUE)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ([{"seeds": 2}, {"seeds": [1, 5]}], 3),
        ([{"estimators": ["reparam"]}, {"estimators": ["nvil[k=1]", "reparam[kl=sampled]"]}], 6),
        ([{"train": {"steps": 40, "lr": 0.1}}, {"train": {"steps": 80, "lr": 0.1}}], 6),
        ([{"train": {"steps": 40}}, {"train": {"steps": 80, "clip": 1.0}}], 12),
        ([{"train": {"budget": {"seconds": 9}, "lr": lr}} for lr in (0.1, 0.2)], 6),
        ([{"train": {"patience": n}} for n in (None, 5)], 6),
        ([{"measure": {"inference_gap": {"data": None}}}] * 2, 3),
        (
            [
                {"measure": {"gradients": {"at": "shared", "reference": name, "checkpoints": [0, 7]}}, "train": train}
                for name, train in (("reparam", {"steps": 9}), ("rloo[k=4]", {"steps": 9}))
            ],
            6,
        ),
    ],
)
def test_the_grid_of_the_whole_has_every_cell(changes: list[dict[str, Any]], size: int) -> None:
    grids = [read_grid(small() | change, CATALOGUE) for change in changes]
    whole = united(grids, "whole", CATALOGUE)
    assert not isinstance(whole, str)
    assert whole.size == size
    keys = {cell.key("data") for cell in whole.cells()}
    assert {cell.key("data") for grid in grids for cell in grid.cells()} <= keys


@pytest.mark.parametrize(
    "changes",
    [
        [{"measure": {"every": 10}}, {"measure": {"every": 20}}],
        [{"train": {"steps": 40}}, {"train": {"steps": 40, "inner": {"part": "encoder"}}}],
        [{"train": {"budget": {"seconds": 9}}}, {"train": {"budget": {"seconds": 8}}}],
        [{"train": {"steps": 40}}, {"train": {"budget": {"seconds": 9}}}],
    ],
)
def test_where_no_one_grid_has_them_all_it_says_so(changes: list[dict[str, Any]], tmp_path: Path) -> None:
    folders = [study(tmp_path / f"s{n}", (f"key{n}", "", 1.0), **change) for n, change in enumerate(changes)]
    (remark,) = merge(folders, tmp_path / "both", CATALOGUE).remarks
    assert remark.startswith("no grid.yaml is written: the studies")
    assert f"vbench run {folders[1] / 'grid.yaml'} --set name=both" in remark
    assert not (tmp_path / "both" / "grid.yaml").exists()
    assert merge(folders, tmp_path / "both", CATALOGUE).known == 2


def test_cells_of_no_study_are_counted(tmp_path: Path) -> None:
    one = study(tmp_path / "one", ("aaaa", "", 1.0), estimators=["nvil"], seeds=[0])
    other = study(tmp_path / "other", ("bbbb", "", 1.0), seeds=[1])
    (remark,) = merge([one, other], tmp_path / "both", CATALOGUE).remarks
    assert remark == "grid.yaml crosses all of it: 2 of its 4 cells are in no study's grid"


def test_two_halves_are_the_whole_and_go_on(tmp_path: Path) -> None:
    measure = small()["measure"] | {"gradients": {"draws": 4, "batches": 1, "at": "shared", "warmup": 2}}
    grid = small(measure=measure, estimators=["reparam", "nvil"], train={"steps": 20, "batch": 16})
    run(grid | {"seeds": [0, 1]}, results=tmp_path, workers=0)
    run(grid | {"name": "one", "seeds": [0]}, results=tmp_path, workers=0)
    run(grid | {"name": "other", "seeds": [1]}, results=tmp_path, workers=0, keep="weights")
    into = tmp_path / "merged"
    assert merge([tmp_path / "one", tmp_path / "other"], into, CATALOGUE).remarks == []
    same_numbers(tmp_path / "small", into)
    whose = [vbench.trained(study, "nvil seed=1").model.state_dict() for study in (tmp_path / "other", into)]
    assert all(tensor.equal(whose[1][name]) for name, tensor in whose[0].items())
    plan = make_plan(into / "grid.yaml", results=tmp_path)
    assert (plan.folder, plan.count("done"), plan.count("run"), len(plan.references)) == (into, 4, 0, 0)
    more = make_plan(into / "grid.yaml", results=tmp_path, overrides=["seeds=[0,1,2]"])
    assert (more.count("done"), more.count("run"), len(more.references)) == (4, 2, 1)
    with blank_pictures():
        assert CliRunner().invoke(main, ["report", str(into)]).exit_code == 0
    assert (into / "report" / "index.html").exists()
    assert replace(plan.grid, source="") == replace(read_grid(into / "grid.yaml", CATALOGUE), source="")
