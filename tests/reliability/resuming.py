"""F1, F22: an attempt that is cut short goes on from its last point and ends with the bits of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import vbench
from tests.reliability.harness import fault, instead
from tests.reliability.small import same_numbers, small
from vbench import kept, resume, runner
from vbench.course import Course
from vbench.records import Store
from vbench.resume import Points
from vbench.study import run


def cut(folder: Path, grid: dict[str, Any], *steps: int) -> None:
    """Run it, and end it as a kill would right after a point was saved at each of ``steps``."""
    for last in steps:

        def keep(self: Points, step: int, *state: Any, last: int = last) -> None:
            if step == last:
                self._save(step, *state)
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Points, "keep", keep)
            with pytest.raises(KeyboardInterrupt):
                run(grid, results=folder, workers=0)


def _state_but(name: str):
    real = resume._tensors

    def tensors(modules, optimizer, parameters):
        return ((key, tensor) for key, tensor in real(modules, optimizer, parameters) if name not in key)

    return tensors


def _late(self: Points, real=Points.load):
    found = real(self)
    self.step += found is not None
    return found


def _forgetful(self: Points, real=Points.load):
    found = real(self)
    self.bounds = []
    return found


@fault(
    "F1",
    {
        "the optimiser is not kept": instead("vbench.resume._tensors", _state_but("optimizer")),
        "moments of the second order are not kept": instead("vbench.resume._tensors", _state_but("exp_avg_sq")),
        "the estimator is not kept": instead(
            "vbench.resume.Points.restore",
            lambda self, modules, *rest, real=Points.restore: real(self, {"model": modules["model"]}, *rest),
        ),
        "one step is left out": instead("vbench.resume.Points.load", _late),
        "the bounds so far are lost": instead("vbench.resume.Points.load", _forgetful),
        "it begins anew": instead("vbench.resume.Points.load", lambda self: None),
    },
    optimizers=("adam", "adamw", "rmsprop", "sgd"),
    places=((1,), (7, 20, 21), (19,), (40,), (39, 40)),
)
def going_on(folder: Path, optimizers=("adam",), places=((7, 20, 33),)) -> None:
    """Cut anywhere, several times, also right before something is measured: the same bits."""
    for optimizer in optimizers:
        train = {"steps": 40, "batch": 16, "optimizer": optimizer}
        grid = small(seeds=1, estimators=["nvil"], train=train)
        run(grid, results=folder / optimizer / "whole", workers=0)
        for place in places:
            there = folder / optimizer / str(place)
            cut(there, grid, *place)
            assert len(list((there / "small" / "resume").iterdir())) == 1
            assert Store(there / "small").outcomes() == {} or {
                o.status for o in Store(there / "small").outcomes().values()
            } == {"interrupted"}
            assert run(grid, results=there, workers=0).counts == {"done": 1}
            (outcome,) = Store(there / "small").outcomes().values()
            assert outcome.facts["resumed_after"] == place[-1]
            assert list((there / "small" / "resume").iterdir()) == []
            same_numbers(folder / optimizer / "whole" / "small", there / "small")


@fault(
    "F1",
    {
        "any point is used": instead(
            "vbench.resume.Points.load",
            lambda self, real=Points.load: (_same_identity(self), real(self))[1],
        )
    },
)
def points_of_other_code(folder: Path) -> None:
    """A point of other code, or a damaged one, is not used; the setting itself changes no key and no number."""
    grid = small(seeds=1)
    run(grid, results=folder / "whole", workers=0, checkpoint=0)
    for name in ("code", "damaged"):
        cut(folder / name, grid, 7)
        (path,) = (folder / name / "small" / "resume").iterdir()
        with pytest.MonkeyPatch.context() as patch:
            if name == "code":
                patch.setattr("vbench.provenance.code_digest", lambda: "another")
            else:
                path.write_bytes(path.read_bytes()[:-1])
            run(grid, results=folder / name, workers=0, rerun="failed")
        assert "resumed_after" not in vbench.load(folder / name / "small", "cells")
        same_numbers(folder / "whole" / "small", folder / name / "small")


def _same_identity(points: Points) -> None:
    import json

    from vbench import store

    if not points.path.exists():
        return
    data = store.read(points.path)
    size = int.from_bytes(data[:8], "little")
    points.identity = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["vbench.notes"])["identity"]


@fault("F1", {"a point must be saved": instead("vbench.resume.sys", None)})
def no_room_for_points(folder: Path) -> None:
    """Where no point can be saved the cell is none the worse for it."""

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vbench.resume.store.replace", full)
        patch.setattr("vbench.records.Store.compact", Store.outcomes)
        assert run(small(seeds=1), results=folder, workers=0, checkpoint=1e-9).counts == {"done": 1}


ENDS = {
    "evaluations": {"batch": 16, "budget": {"evaluations": 900}},
    "patience": {"steps": 400, "batch": 16, "lr": 0.05, "patience": 2},
}


def _unspent(self: Course, real=Course.notes):
    return real(self) | {"spent": 0.0}


def _without_rows(this, *given, real=runner._points):
    points = real(this, *given)
    this.rows.clear()
    return points


@fault(
    "F1",
    {
        "what was spent is forgotten": instead("vbench.course.Course.notes", _unspent),
        "nothing ends it early": instead("vbench.runner.no_better", lambda *given: False),
        "measurements are forgotten": instead("vbench.runner._points", _without_rows),
    },
    cuts=5,
)
def ends_before_their_time(folder: Path, cuts: int = 2) -> None:
    """A budget of evaluations, or patience: cut anywhere, it ends at the same step, for the same reason, alike."""
    for name, train in ENDS.items():
        grid = small(seeds=1, estimators=["nvil"], train=train)
        run(grid, results=folder / name / "whole", workers=0, keep="weights")
        (whole,) = Store(folder / name / "whole" / "small").outcomes().values()
        assert whole.facts["ended_by"] == name
        end = whole.facts["ended_after"]
        for place in ((13, end - 1), (end,), (20, 40), (1,), (19, 21, 41))[:cuts]:
            there = folder / name / str(place)
            cut(there, grid, *place)
            assert run(grid, results=there, workers=0, keep="weights").counts == {"done": 1}
            (outcome,) = Store(there / "small").outcomes().values()
            assert outcome.facts["resumed_after"] == place[-1]
            for fact in ("ended_by", "ended_after", "evaluations", "backward_passes"):
                assert outcome.facts[fact] == whole.facts[fact], fact
            same_numbers(folder / name / "whole" / "small", there / "small")
            one, other = (
                kept.load(kept.file_of(folder / name / where / "small", o))
                for where, o in (("whole", whole), (str(place), outcome))
            )
            assert all(torch.equal(one[key], other[key]) for key in one)
            assert run(grid, results=there, workers=0, keep="weights").computed == 0
