"""Two nodes of their own network: a worker dies, a node goes dark, the driver is killed; the table is the serial one's.

Each node is a network namespace with an address of its own, bridged to a third one in which the scheduler and the
driver are; all share one folder, as over a network file system. Needs the right to make namespaces.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import vbench
from tests.reliability.small import same_numbers, small
from vbench.records import Store

pytest.importorskip("distributed", reason="needs the extra: pip install 'vbench[dask]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.filterwarnings("default")]

ROOT = Path(__file__).parent.parent.parent
HEAD = "10.231.7.1"
PYTHON = [sys.executable, "-m"]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Nodes:
    """A bridge, the namespace of the scheduler's host on it, and two more."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.names, self.started = folder, ["vbhead", "vbnode1", "vbnode2"], {}
        self.address = f"tcp://{HEAD}:8786"

    def __enter__(self) -> Nodes:
        try:
            ip("link", "add", "vbbridge", "type", "bridge")
            ip("link", "set", "vbbridge", "up")
            for number, name in enumerate(self.names, 1):
                ip("netns", "add", name)
                ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
                ip("link", "set", name, "master", "vbbridge", "up")
                for words in (f"addr add 10.231.7.{number}/24 dev eth0", "link set eth0 up", "link set lo up"):
                    ip("-n", name, *words.split())
        except (OSError, subprocess.CalledProcessError) as error:
            self.__exit__()
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}".strip())
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.started.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for words in [*(["netns", "del", name] for name in self.names), ["link", "del", "vbbridge"]]:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                ip(*words)

    def start(self, name: str, node: str, *command: str, **options) -> subprocess.Popen:
        known = os.environ | {
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "15s",
        }
        command = ["ip", "netns", "exec", node, *PYTHON, *command]
        self.started[name] = subprocess.Popen(command, env=known, cwd=ROOT, start_new_session=True, **options)
        return self.started[name]

    def serve(self) -> None:
        scheduler = ["distributed.cli.dask_scheduler", "--host", HEAD, "--port", "8786", "--no-dashboard"]
        self.start("scheduler", "vbhead", *scheduler)
        for number in (1, 2):
            self.worker(number)

    def worker(self, number: int) -> None:
        command = ["distributed.cli.dask_worker", self.address, "--host", f"10.231.7.{number + 1}", "--nthreads", "1"]
        command += ["--no-dashboard", "--local-directory", str(self.folder / f"node{number}"), "--no-nanny"]
        command += ["--preload", "tests.execute.lighter"]
        self.start(f"node{number}", f"vbnode{number}", *command)

    def drive(self, grid: Path, results: Path) -> subprocess.Popen:
        command = ["vbench", "run", str(grid), "--results", str(results), "--scheduler", self.address]
        return self.start("driver", "vbhead", *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(true, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


def jobs_of(process: subprocess.Popen) -> list[psutil.Process]:
    """What a worker has forked from its server now."""
    with contextlib.suppress(psutil.Error):
        return [job for child in psutil.Process(process.pid).children() for job in child.children()]
    return []


def test_two_nodes(tmp_path) -> None:
    grid = small(estimators=["reparam", "rloo[k=2]"], seeds=3, train={"steps": 60, "batch": 16})
    path = tmp_path / "grid.yaml"
    path.write_text(json.dumps(grid))
    vbench.run(grid, results=tmp_path / "serial", workers=0)
    study = tmp_path / "shared" / "small"

    def committed() -> int:
        return len(list((study / "records").rglob("*.parquet")))

    with Nodes(tmp_path) as nodes:
        nodes.serve()
        driver = nodes.drive(path, tmp_path / "shared")
        until(lambda: committed() >= 1 and jobs_of(nodes.started["node1"]))
        nodes.started["node1"].kill()  # a worker: its job goes with it, and its cell is tried on the other node
        nodes.started["node1"].wait()
        nodes.worker(1)
        seen = committed()
        until(lambda: committed() >= seen + 1 and jobs_of(nodes.started["node2"]))
        ip("link", "set", "vbnode2", "down")  # a node: nobody hears that it died
        os.killpg(nodes.started["node2"].pid, signal.SIGKILL)
        nodes.started["node2"].wait()
        seen = committed()
        until(lambda: committed() >= seen + 1 and jobs_of(nodes.started["node1"]))
        driver.kill()  # the driver: what runs is ended, and the next driver goes on
        driver.wait()
        left = {path.name for path in (study / "records").rglob("*.parquet")}
        ip("link", "set", "vbnode2", "up")
        nodes.worker(2)
        until(lambda: not jobs_of(nodes.started["node1"]))
        driver = nodes.drive(path, tmp_path / "shared")
        said, _ = driver.communicate(timeout=1800)
        assert driver.returncode == 0, said
    assert {path.name for path in (study / "records").rglob("*.parquet")} >= left
    kept = Store(study)
    outcomes = kept.outcomes()
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert all(sum(o.status == "done" for o in kept.attempts(key)) == 1 for key in outcomes)
    assert list((study / "claims").iterdir()) == []
    same_numbers(tmp_path / "serial" / "small", study)
