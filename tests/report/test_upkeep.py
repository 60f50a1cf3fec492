"""What the commands for a results folder say and do; no model is trained for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from vbench.claims import Owner
from vbench.cli import main
from vbench.cli.options import Bytes
from vbench.records import Outcome, Row, Store

ROW = Row(10, "test", "elbo", "all", -1.0, None, 5, "nats")


def outcome(key: str, status: str = "done", estimator: str = "rloo", seed: int = 0, **more: str) -> Outcome:
    return Outcome(key, status, more.pop("reason", ""), {"dataset": "digits", "estimator": estimator}, seed, **more)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    kept = Store(tmp_path / "study")
    kept.commit(outcome("aaaa1111"), [ROW])
    kept.commit(
        outcome("bbbb2222", "failed", "vimco", 1, reason="ValueError: no", traceback="Traceback ...\nValueError: no")
    )
    kept.commit(outcome("cccc3333", "timeout", "vimco", 2, reason="took longer than 3 s"))
    logs = kept.folder / "logs"
    logs.mkdir()
    for key in ("aaaa1111", "bbbb2222"):
        (logs / f"{key}.log").write_text(f"said by {key}\n")
    return kept.folder


def said(*command: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(word) for word in command])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_status_counts_and_names_what_failed(study: Path) -> None:
    code, text = said("status", study)
    assert code == 0
    assert "1 done, 1 failed, 1 timeout" in text
    assert "failed: digits vimco seed=1: ValueError: no" in text
    assert f"vbench log {study} bbbb2222" in text.replace("\n", "")


def test_status_says_who_is_at_work(study: Path) -> None:
    (study / "claims").mkdir()
    mine = Owner.here()
    for key, owner in (("dddd", mine), ("eeee", replace(mine, started="long ago"))):
        (study / "claims" / f"{key}.0").write_text(json.dumps(asdict(owner)))
    _, text = said("status", study)
    assert f"1 running now, by process {os.getpid()}" in text
    assert f"1 left behind by process {os.getpid()}" in text
    (study / "claims" / "dddd.0").unlink()
    assert said("status", "--watch", study)[0] == 0  # nobody is left to watch


@pytest.mark.parametrize("words", [["bbbb"], ["vimco", "seed=1"], ["failed"]])
def test_a_cell_is_found_by_its_words(study: Path, words: list[str]) -> None:
    code, text = said("log", study, *words)
    assert code == 0
    assert "failed: digits vimco seed=1" in text
    assert "Traceback ..." in text
    assert "said by bbbb2222" in text


def test_several_cells_are_listed(study: Path) -> None:
    _, text = said("log", study, "vimco")
    assert [line.split(":")[0] for line in text.splitlines()] == ["bbbb2222  failed", "cccc3333  timeout"]
    assert said("log", study)[1] == text
    assert said("log", study, "nothing")[0] == 2


def test_verify_names_and_sets_aside(study: Path) -> None:
    assert said("verify", study) == (0, f"{study}: 3 files of results, 0 damaged\n")
    path = next(study.rglob("aaaa1111.*"))
    path.write_bytes(path.read_bytes()[:-1])
    checkpoint = study / "references" / "checkpoints" / "ffff" / "0.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"not one")
    code, text = said("verify", study)
    assert code == 1
    assert f"{path}: its checksum does not match" in text
    assert f"{checkpoint}: truncated" in text
    assert "2 files of results, 2 damaged; moved to" in text
    assert len(list((study / "damaged").iterdir())) == 2
    assert said("verify", study)[0] == 0
    assert set(Store(study).outcomes()) == {"bbbb2222", "cccc3333"}


def test_clean_removes_what_is_no_result(study: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    import socket

    left = study / "records" / "aa" / f".{socket.gethostname()}.{process.pid}.00000000.tmp"
    (study / "resume").mkdir()
    point, other = study / "resume" / "aaaa1111.safetensors", study / "resume" / "cccc3333.safetensors"
    for path in (left, point, other):
        path.write_bytes(b"x" * 1000)
    before = {key: o.attempt for key, o in Store(study).outcomes().items()}
    gone = {left, point, study / "logs" / "aaaa1111.log"}
    _, text = said("clean", study, "--dry-run")
    assert {Path(line) for line in text.splitlines()[:-1]} == gone
    assert "3 files, 0.0 MiB could go" in text
    assert all(path.exists() for path in gone)
    _, text = said("clean", study)
    assert "3 files, 0.0 MiB removed" in text
    assert not any(path.exists() for path in gone)
    assert other.exists()
    assert {key: o.attempt for key, o in Store(study).outcomes().items()} == before


@pytest.mark.parametrize("command", ["status", "log", "verify", "clean"])
def test_a_folder_without_results_is_one_line(tmp_path: Path, command: str) -> None:
    code, text = said(command, tmp_path)
    assert code == 2
    assert text.startswith(f"no results in {tmp_path}")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 * 2**30), ("500MB", 500_000_000), ("1.5g", 3 * 2**29), ("100", 100), ("2 kib", 2048)]
)
def test_sizes(text: str, size: int) -> None:
    assert Bytes().convert(text, None, None) == size


def test_what_is_no_size_is_one_line() -> None:
    code, text = said("run", "grid.yaml", "--memory", "much")
    assert code == 2
    assert "expected a size such as 4GiB" in text


def test_a_debugger_needs_this_process() -> None:
    assert "--pdb needs --in-process" in said("run", "grid.yaml", "--pdb")[1]
