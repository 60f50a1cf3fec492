"""A study run again: what is the same to the bit, what is within its error, what is not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from tests.reliability.small import small
from vbench.cli import main
from vbench.estimators.pathwise import Pathwise
from vbench.records import Outcome
from vbench.report.reproduction import differences, sources
from vbench.study import run


def outcome(status: str = "done", **provenance: object) -> Outcome:
    return Outcome("aaaa", status, "", {"estimator": "rloo"}, 0, provenance=provenance)


def frame(*values: tuple[float, float | None], metric: str = "elbo", unit: str = "nats") -> pd.DataFrame:
    rows = [
        {"cell": "aaaa", "step": n, "split": "test", "metric": metric, "part": "all", "unit": unit}
        | {"value": value, "std_error": float("nan") if error is None else error}
        for n, (value, error) in enumerate(values)
    ]
    return pd.DataFrame(rows).astype({"cell": "category", "unit": "category"})


NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "verdict", "largest"),
    [
        ([(1.0, 0.1), (NAN, None)], [(1.0, 0.2), (NAN, None)], "identical", 0.0),
        ([(1.0, 0.1)], [(1.25, 0.1)], "within", 0.25),
        ([(1.0, 0.1)], [(1.5, 0.1)], "different", 0.5),
        ([(1.0, 0.1), (2.0, 0.1)], [(1.25, 0.1), (3.0, 0.1)], "different", 1.0),
        ([(1.0, None)], [(math.nextafter(1.0, 2), None)], "different", 2**-52),
        ([(1.0, 0.1)], [(math.nextafter(1.0, 2), 0.1)], "within", 2**-52),
        ([(1.0, 0.1)], [(NAN, 0.1)], "different", NAN),
        ([(1.0, 0.1)], [(1.0, 0.1), (1.0, 0.1)], "different", NAN),
    ],
)
def test_verdicts(one: list, other: list, verdict: str, largest: float) -> None:
    before = after = {"aaaa": outcome()}
    status, found = differences(before, after, frame(*one), frame(*other))
    assert status[1:] == ("status", "identical", 0.0)
    assert found[1:3] == ("elbo", verdict)
    assert found.largest == pytest.approx(largest, nan_ok=True)


@pytest.mark.parametrize("unit", ["s", "1/s", "nats^2 s", "bytes"])
def test_timings_and_memory_are_not_compared(unit: str) -> None:
    before = after = {"aaaa": outcome()}
    assert len(list(differences(before, after, frame((1.0, None), unit=unit), frame((2.0, None), unit=unit)))) == 1


def test_another_end_is_a_difference() -> None:
    (status, _) = differences({"aaaa": outcome()}, {"aaaa": outcome("failed")}, frame((1.0, 0.1)), frame((1.0, 0.1)))
    assert status.verdict == "different"


def test_what_the_runs_come_from_is_told_where_it_is_another() -> None:
    plugin = {"name": "p", "version": "1", "digest": "d" * 64}
    same = {"version": "1", "code": "a" * 64}
    one = outcome(**same, plugins=[plugin], environment={"torch": "2.12", "threads": 1})
    other = outcome(**same, plugins=[plugin | {"version": "2"}], environment={"torch": "2.13", "threads": 1})
    assert sources([one], [one]) == []
    assert sources([one], [other]) == [
        {"what": "p", "was": "1", "is": "2"},
        {"what": "torch", "was": "2.12", "is": "2.13"},
    ]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    run(small(seeds=2, train={"steps": 40, "batch": 16, "lr": 0.05}), results=root, workers=0)
    return root / "small"


def said(*command: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["reproduce", *map(str, command), "--workers", "0"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.stdout.split())


def test_the_same_code_gives_the_same_bits(study: Path) -> None:
    code, text = said(study)
    assert code == 0
    assert "2 cells run again" in text
    assert "0 within the 95% interval, 0 different" in text
    assert "code, versions and environment are the same" in text


def test_other_code_is_found_out(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def descending(self, model, batch, rng, real=Pathwise.forward):
        estimate = real(self, model, batch, rng)
        return estimate._replace(surrogate=-estimate.surrogate)

    monkeypatch.setattr("vbench.estimators.pathwise.Pathwise.forward", descending)
    monkeypatch.setattr("vbench.provenance.code_digest", lambda: "another")
    code, text = said(study, "--cells", "1", "--into", tmp_path)
    assert code == 1
    assert "1 cell run again" in text
    assert "different: bound: " in text
    assert "code of vbench: was" in text
    again = json.loads(said(study, "--cells", "1", "--into", tmp_path, "--json")[1])
    assert again["cells"] == 1
    assert {row["metric"] for row in again["rows"] if row["verdict"] == "different"} >= {"bound", "elbo"}
    assert again["sources"][0]["what"] == "code of vbench"


def test_a_wrong_call_is_one_line(study: Path, tmp_path: Path) -> None:
    code, _ = said(study, "--into", study.parent)
    assert code == 2
    assert said(tmp_path)[0] == 2
