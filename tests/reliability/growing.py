"""F23: a grid that grows. What is there is kept, and longer training goes on from the state of a shorter one."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

import vbench
from tests.reliability.harness import fault, instead
from tests.reliability.resuming import _state_but
from tests.reliability.small import TIMING, same_numbers, small
from vbench.estimators.pathwise import Pathwise
from vbench.planning import make_plan
from vbench.records import Store
from vbench.resume import Points
from vbench.study import run


def _grid(steps: int, optimizer: str = "adam", **changes):
    train = {"steps": steps, "batch": 16, "optimizer": optimizer}
    measure = {"every": 10, "data": 20, "samples": 2}
    return small(**{"seeds": 1, "estimators": ["nvil"], "measure": measure, "train": train} | changes)


def _forgetful(self: Points, path: Path, real=Points._read):
    found = real(self, path)
    self.bounds = []
    return found


@fault(
    "F23",
    {
        "the optimiser is not kept": instead("vbench.resume._tensors", _state_but("optimizer")),
        "the estimator is not kept": instead("vbench.resume._tensors", _state_but("estimator")),
        "the bounds so far are lost": instead("vbench.resume.Points._read", _forgetful),
        "it begins anew": instead("vbench.resume.Points._read", lambda self, path: None),
        "any state of the parts will do": instead("vbench.continuing._course", lambda spec: "all alike"),
    },
    optimizers=("adam", "adamw", "rmsprop", "sgd"),
)
def more_steps(folder: Path, optimizers=("adam",)) -> None:
    """Continued twice, once from between two measurements and once from one: the bits of one long run."""
    for optimizer in optimizers:
        whole, there = folder / optimizer / "whole", folder / optimizer / "grown"
        run(_grid(45, optimizer), results=whole, workers=0)
        run(_grid(44, optimizer, seeds=[5]), results=there, workers=0, keep="state")  # of another cell
        for steps, before in ((25, None), (30, 25), (45, 30)):
            plan = make_plan(_grid(steps, optimizer), results=there)
            assert [p.reason for p in plan.cells] == [f"goes on after step {before}" if before else ""]
            run(_grid(steps, optimizer), results=there, workers=0, keep="state")
            (done,) = (o for o in Store(there / "small").outcomes().values() if o.spec["train"]["steps"] == steps)
            assert done.facts.get("continued_after") == before
        _same(*(vbench.load(study / "small").query(f"cell == '{done.key}'") for study in (whole, there)))


def _same(*tables) -> None:
    rows = [
        sorted(
            (r.step, r.split, r.metric, r.part, r.value, str(r.std_error), str(r.n))
            for r in table.itertuples()
            if r.metric not in TIMING
        )
        for table in tables
    ]
    assert rows[0]
    assert rows[0] == rows[1]


@contextlib.contextmanager
def _unnoticed():
    yield lambda: False


def _annealed(self, model, batch, rng, real=Pathwise.forward):
    estimate = real(self, model, batch, rng)
    return estimate._replace(surrogate=estimate.surrogate * batch.progress)


@fault("F23", {"nobody sees what follows the share of training": instead("vbench.runner.noticed_progress", _unnoticed)})
def more_steps_of_a_schedule(folder: Path) -> None:
    """What depends on the number of steps begins anew, and says so: the bits of one long run again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbench.estimators.pathwise.Pathwise.forward", _annealed)
        run(_grid(45, estimators=["reparam"]), results=folder / "whole", workers=0)
        run(_grid(20, estimators=["reparam"]), results=folder / "grown", workers=0, keep="state")
        (planned,) = make_plan(_grid(45, estimators=["reparam"]), results=folder / "grown").cells
        run(_grid(45, estimators=["reparam"]), results=folder / "grown", workers=0)
        _same(*(vbench.load(folder / n / "small").query(f"cell == '{planned.key}'") for n in ("whole", "grown")))
        assert planned.reason.startswith("begins anew, not after step 20 of a shorter run: its parts follow how much")


@fault(
    "F23",
    {"results of other seeds are not found": instead("vbench.planning._FINAL", ())},
)
def more_seeds(folder: Path) -> None:
    """The files of what was there are the same files; only what is new is computed, and with the same bits."""
    run(small(seeds=1), results=folder, workers=0)
    before = {path: path.read_bytes() for path in (folder / "small" / "records").rglob("*.parquet")}
    assert run(small(seeds=2), results=folder, workers=0).computed == 1
    after = {path: path.read_bytes() for path in (folder / "small" / "records").rglob("*.parquet")}
    assert len(after) == 2
    assert before.items() <= after.items()
    run(small(seeds=2), results=folder / "whole", workers=0)
    same_numbers(folder / "small", folder / "whole" / "small")
