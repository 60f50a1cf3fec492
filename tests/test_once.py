"""What cells of a study share is computed once, by whoever needs it first, and is what each would have computed."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import vbench
from tests.test_shared_checkpoints import grid
from vbench import claims, runner, store
from vbench.cli import main
from vbench.measure import truth
from vbench.once import Once, folder
from vbench.study import run

SOURCES = {"code": "one", "environment": {"device": "cpu"}}
GIVEN = {"weight": torch.arange(3.0), "rows": torch.tensor(5)}
ASKED = {"target": "iwae[k=2]", "key": 7}


class Maker:
    """Counts how often it is asked, and takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.calls = seconds, 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        time.sleep(self.seconds)
        return {"blocks": torch.full((2, 3), 1 / 3, dtype=torch.float64)}


def files(study: Path) -> list[Path]:
    return sorted(folder(study).glob("*.safetensors"))


def test_the_second_who_asks_reads_what_the_first_has_made(tmp_path: Path) -> None:
    make = Maker()
    first, second = (Once(tmp_path, SOURCES)(ASKED, GIVEN, make) for _ in range(2))
    assert make.calls == 1
    assert torch.equal(first["blocks"], second["blocks"])
    assert second["blocks"].dtype == torch.float64
    assert list((folder(tmp_path) / "claims").iterdir()) == []


CHANGES = {
    "code": (SOURCES | {"code": "two"}, ASKED, GIVEN, 1),
    "parameters": (SOURCES, ASKED, GIVEN | {"weight": torch.tensor([0.0, 1.0, 2.5])}, 1),
    "shape": (SOURCES, ASKED, GIVEN | {"weight": torch.arange(3.0)[None]}, 1),
    "type": (SOURCES, ASKED, GIVEN | {"rows": torch.tensor(5, dtype=torch.int32)}, 1),
    "objective": (SOURCES, ASKED | {"target": "iwae[k=3]"}, GIVEN, 2),
    "environment": (SOURCES | {"environment": {"device": "other"}}, ASKED, GIVEN, 2),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_was_made_from_something_else_is_not_taken(what: str, tmp_path: Path) -> None:
    sources, asked, given, left = CHANGES[what]
    make = Maker()
    Once(tmp_path, SOURCES)(ASKED, GIVEN, make)
    for _ in range(2):
        Once(tmp_path, sources)(asked, given, make)
    assert make.calls == 2
    assert len(files(tmp_path)) == left  # stale ones are replaced


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    make = Maker()
    Once(tmp_path, SOURCES)(ASKED, GIVEN, make)
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    found = Once(tmp_path, SOURCES)(ASKED, GIVEN, make)
    assert make.calls == 2
    assert float(found["blocks"][-1, -1]) == 1 / 3
    assert path.read_bytes() != data


def at_once(study: Path, make: Maker) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    workers = [
        threading.Thread(target=lambda: found.append(Once(study, SOURCES)(ASKED, GIVEN, make)["blocks"]))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return found


def test_of_many_at_once_one_computes_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Maker(seconds=1.0)
    found = at_once(tmp_path / "study", make)
    assert make.calls == 1
    assert len(found) == 4
    assert all(torch.equal(one, found[0]) for one in found)
    # the same without claims is seen to be wrong
    monkeypatch.setattr(claims.Claims, "take", lambda self, key: None)
    wrong = Maker(seconds=1.0)
    at_once(tmp_path / "other", wrong)
    assert wrong.calls > 1


def test_who_fails_lets_the_next_one_try(tmp_path: Path) -> None:
    def fail() -> dict[str, torch.Tensor]:
        raise ValueError("no target")

    with pytest.raises(ValueError, match="no target"):
        Once(tmp_path, SOURCES)(ASKED, GIVEN, fail)
    make = Maker()
    Once(tmp_path, SOURCES)(ASKED, GIVEN, make)
    assert make.calls == 1


def test_where_nothing_can_be_written_it_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> None:
        raise store.StoreError("no space left")

    monkeypatch.setattr(store, "publish", full)
    monkeypatch.setattr(store, "replace", full)
    make = Maker()
    assert float(Once(tmp_path, SOURCES)(ASKED, GIVEN, make)["blocks"][0, 0]) == 1 / 3
    assert make.calls == 1
    assert "not kept for them: no space left" in capsys.readouterr().err


def targeted(*estimators: str, **gradients: Any) -> dict[str, Any]:
    how = {"checkpoints": 2, "reference": {"steps": 3}, "draws": 40, "target": "iwae[k=2]", "target_draws": 40}
    return grid(how | gradients, estimators=list(estimators))


def held(root: Path, estimator: str) -> pd.DataFrame:
    found = vbench.load(root / "shared").query("estimator == @estimator and unit not in ('nats^2 s', 'bytes')")
    return found[["step", "metric", "part", "value", "std_error"]].reset_index(drop=True)


def test_cells_of_one_reference_draw_a_target_once_and_measure_what_each_would_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, real = [], truth.gradient_moments

    def counted(*arguments: Any, **options: Any) -> Any:
        drawn.append(options["key"])
        return real(*arguments, **options)

    monkeypatch.setattr(truth, "gradient_moments", counted)
    run(targeted("reparam", "stl"), results=tmp_path / "both", workers=0)
    assert len(drawn) == len(set(drawn)) == len(files(tmp_path / "both" / "shared")) == 2  # checkpoints
    run(targeted("reparam", "stl", "iwae[k=3]"), results=tmp_path / "both", workers=0)
    assert len(drawn) == 2, "a cell that comes later needs none"
    monkeypatch.setattr(runner, "_once", lambda *arguments: None)
    run(targeted("stl"), results=tmp_path / "alone", workers=0)
    assert len(drawn) == 4
    assert not folder(tmp_path / "alone" / "shared").exists()
    alone, both = held(tmp_path / "alone", "stl"), held(tmp_path / "both", "stl")
    assert {"gradient_bias_squared", "gradient_cosine", "gradient_mse"} <= set(both["metric"])
    pd.testing.assert_frame_equal(alone, both, check_exact=True)


def test_an_exact_target_and_a_cell_s_own_parameters_are_not_kept(tmp_path: Path) -> None:
    run(targeted("reparam", target="evidence", target_draws=None), results=tmp_path / "exact", workers=0)
    own = {"at": "own", "checkpoints": None, "reference": None}
    run(targeted("reparam", **own) | {"train": {"steps": 2, "batch": 8}}, results=tmp_path / "own", workers=0)
    assert not files(tmp_path / "exact" / "shared")
    assert not files(tmp_path / "own" / "shared")


def test_clean_removes_them(tmp_path: Path) -> None:
    from click.testing import CliRunner

    run(targeted("reparam"), results=tmp_path, workers=0)
    study = tmp_path / "shared"
    before = files(study)
    assert len(before) == 2
    found = CliRunner().invoke(main, ["clean", str(study), "--dry-run"])
    assert {str(path) for path in before} <= set(found.output.splitlines())
    CliRunner().invoke(main, ["clean", str(study)])
    assert not files(study)
