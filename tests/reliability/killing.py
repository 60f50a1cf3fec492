"""A study whose driver and whose cells are killed again and again, at random moments, until it is done.

python -m tests.reliability.killing --workers 0 --kills 200

Drivers are forked from a process that has everything loaded, so that most of their life is the study's; each is a
process of its own, killed by signal 9, and a new one goes on from what it left. Then: what was there at a kill is there
at the end, no cell is there twice, and the table is that of a study that nobody disturbed, to the bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import psutil

from tests.reliability.small import same_numbers, small
from vbench.execute import server
from vbench.records import Store
from vbench.registry import load_registry
from vbench.study import run


def grid() -> dict:
    return small(estimators=["reparam", "rloo[k=2]"], seeds=3)


def forked(function: Callable[[], object]) -> int:
    """The process that calls it; it leaves with 0, or with 1 after an exception."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        code = int(function() is False)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def left(pid: int) -> int | None:
    """With which code a process has left; None while it has not."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def waited(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def driven(folder: Path, workers: int, checkpoint: float) -> bool:
    return set(run(grid(), results=folder, workers=workers, checkpoint=checkpoint).counts) == {"done"}


def committed(folder: Path) -> set[str]:
    """Names of the records: what was acknowledged, for whoever looks from outside."""
    return {path.name for path in (folder / "small" / "records").rglob("*.parquet")}


def agrees(folder: Path, whole: Path) -> None:
    kept = Store(folder / "small")
    done = Counter(o.key for key in kept.outcomes() for o in kept.attempts(key) if o.status == "done")
    assert set(done.values()) == {1}, done
    assert [found for found in kept.verify() if found] == []
    assert list((folder / "small" / "claims").iterdir()) == []
    same_numbers(whole / "small", folder / "small")


def jobs() -> list[int]:
    """Processes of cells that run now."""
    pid = forkserver._forkserver._forkserver_pid
    return [child.pid for child in psutil.Process(pid).children()] if pid else []


def killed(root: Path, workers: int, kills: int, seed: int = 0) -> Counter[str]:
    """Kill so often; returns how often what was killed, and how many studies were done meanwhile."""
    chance, counts = random.Random(seed), Counter[str]()
    load_registry()
    if workers:
        server.warm()
        # drivers share it, and it is not theirs to wait for
        forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None
    whole, began = root / "whole", time.monotonic()
    assert waited(forked(lambda: driven(whole, 0, 0.0))) == 0
    span = time.monotonic() - began
    while counts.total() - counts["studies"] < kills:
        folder = root / f"study{counts['studies']}"
        checkpoint = 1e-3 if counts["studies"] % 2 else 60.0
        while not _killed_once(folder, workers, checkpoint, span, chance, counts):
            pass
        assert waited(forked(lambda folder=folder: agrees(folder, whole))) == 0, folder
        counts["studies"] += 1
    return counts


def _killed_once(
    folder: Path, workers: int, checkpoint: float, span: float, chance: random.Random, counts: Counter[str]
) -> bool:
    """Let a driver work on a study, and kill it or some of its cells; returns whether the study is done."""
    pid = forked(lambda: driven(folder, workers, checkpoint))
    what = chance.choice(["driver", "cell"] if workers else ["driver"])
    moment, seen = time.monotonic() + chance.random() * span, set()
    while (code := left(pid)) is None:
        time.sleep(0.002)
        if time.monotonic() < moment:
            continue
        seen |= committed(folder)
        if what == "driver":
            os.kill(pid, signal.SIGKILL)
            code = waited(pid)
            counts["driver"] += 1
            break
        if running := jobs():
            os.kill(chance.choice(running), signal.SIGKILL)
            counts["cell"] += 1
            moment = time.monotonic() + chance.random() * span
    assert committed(folder) >= seen, "lost"
    assert code in (0, 1, -signal.SIGKILL), code
    return code == 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(killed(Path(name), asked.workers, asked.kills, asked.seed)))
