"""F19, F21, F27: whatever a plugin returns, its cell has a row that says what was wrong and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.reliability.harness import fault, instead
from tests.reliability.small import small
from vbench.assignment import Assignment
from vbench.planning import make_plan
from vbench.records import Outcome, Row, Store
from vbench.runner import attempt
from vbench.types import Estimate

FORWARD = "vbench.estimators.pathwise.Pathwise.forward"


def assignment(folder: Path, steps: int = 3) -> Assignment:
    grid = small(seeds=1, train={"steps": steps, "batch": 16}, measure={"data": 20, "samples": 2})
    (planned,) = make_plan(grid, results=folder).cells
    return Assignment(planned.key, planned.cell.spec(), planned.cell.labels(), str(folder / "small"))


def attempted(task: Assignment, folder: Path, name: Any) -> tuple[Outcome, int]:
    task = replace(task, study=str(folder / str(name)))
    attempt(task, lambda step, steps: None)
    kept = Store(task.study)
    (outcome,) = kept.outcomes().values()
    assert kept.damaged == []
    return outcome, len(kept.records())


def payloads(good: Estimate) -> dict[str, Any]:
    value, surrogate = good.value, good.surrogate
    bad = {
        "nothing": None,
        "a number": 1.0,
        "a text": "1.0",
        "a tensor": value,
        "a pair": (value, surrogate),
        "a mapping": {"value": value, "surrogate": surrogate},
    }
    wrong: dict[str, Any] = {
        "nothing": None,
        "a number": 3.0,
        "a huge number": 10**400,
        "a list": [1.0] * len(value),
        "complex": torch.complex(value, value),
        "integers": value.long(),
        "truths": value > 0,
        "one too few": value[1:],
        "one too many": torch.cat([value, value[:1]]),
        "two dimensions": value[:, None],
        "none at all": value[:0],
    }
    values = wrong | {"a scalar": value.mean()}
    surrogates = wrong | {"without gradient": surrogate.detach(), "a pair": (surrogate, surrogate)}
    bad |= {f"value: {name}": good._replace(value=item) for name, item in values.items()}
    return bad | {f"surrogate: {name}": good._replace(surrogate=item) for name, item in surrogates.items()}


@fault("F19", {"nobody looks": instead("vbench.training._check", lambda *args: None)})
def bad_estimates(folder: Path) -> None:
    """The reason names estimator, field, and what it got instead."""
    task, names = assignment(folder), list(payloads(Estimate(torch.zeros(2), torch.zeros(2))))
    assert len(names) > 25
    from vbench.estimators.pathwise import Pathwise

    real = Pathwise.forward
    for place, name in enumerate(names):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FORWARD, lambda *args, name=name: payloads(real(*args))[name])
            outcome, _ = attempted(task, folder, place)
        assert outcome.status == "failed", name
        assert (
            outcome.reason.startswith("TypeError: estimator AnalyticKL: ") or "estimator Pathwise: " in outcome.reason
        )
        assert ("surrogate" if name.startswith("surrogate") else "value") in outcome.reason, outcome.reason
        assert "Traceback" in outcome.traceback


VALUES: dict[str, Any] = {
    "nothing": None,
    "complex": 1j,
    "a text": "low",
    "a list": [1.0],
    "a mapping": {},
    "a tensor of two": torch.ones(2, requires_grad=True),
    "a complex tensor": torch.tensor(1j),
    "too large": 10**400,
}


@fault("F19", {"all or nothing": instead("vbench.runner.wrong", lambda row: "")})
def bad_measurements(folder: Path) -> None:
    """One that cannot be recorded is named; those beside it are kept, and the cell has failed."""
    task = assignment(folder)
    rows = [Row(3, "test", f"metric{i}", "all", value, None, 1, "nats") for i, value in enumerate(VALUES.values())]
    rows += [Row(3, "test", f"count{i}", "all", 0.0, None, n, "nats") for i, n in enumerate((2**70, 1.5, "3"))]
    rows += [Row(3, "test", 5, "all", 0.0, None, 1, "nats"), Row(3, "test", "unit", "all", 0.0, 1j, 1, "nats")]
    good = Row(3, "test", "elbo", "all", torch.tensor(-1.0, requires_grad=True), None, 1, "nats")
    for place, row in enumerate(rows):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vbench.runner.evaluate", lambda *args, row=row, **options: [good, row])
            outcome, count = attempted(task, folder, place)
        assert (outcome.status, count >= 2) == ("failed", True), row
        assert f"metric {row.metric!r} cannot be recorded" in outcome.reason


@fault(
    "F21",
    {
        "no name": instead("vbench.training._culprit", lambda modules: ""),
        "not looked at": instead("vbench.training.Diverged", RuntimeError),
    },
)
def divergence(folder: Path, step: int = 2) -> None:
    """NaN or infinity in objective, gradient or parameter is a status with step and name; what was measured is kept."""
    from vbench.estimators.pathwise import Pathwise

    real, task = Pathwise.forward, assignment(folder, 5)
    for bad in (float("nan"), float("inf")):
        for where in ("objective", "gradient", "parameter"):
            calls = []

            def forward(self, model, batch, rng, where=where, bad=bad, calls=calls):
                calls.append(None)
                good = real(self, model, batch, rng)
                if len(calls) != step:
                    return good
                weight = next(p for n, p in model.named_parameters() if p.dim() == 2)
                if where == "objective":
                    return good._replace(value=good.value * bad)
                if where == "gradient":
                    return good._replace(surrogate=good.surrogate + (weight[0, 0] * bad).nan_to_num(posinf=0.0) * bad)
                with torch.no_grad():
                    weight[0, 0] = bad
                return good

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(FORWARD, forward)
                outcome, _ = attempted(task, folder, f"{where}{bad}")
            assert outcome.status == "diverged", (where, outcome.reason)
            assert outcome.reason.startswith(f"step {step}: "), (where, outcome.reason)
            wanted = f"the objective is {'-' if bad > 0 else ''}{bad}" if where == "objective" else "parameter "
            assert wanted in outcome.reason, (where, outcome.reason)
