"""A study on two nodes whose worker, node and driver are killed: resumed, its table is the serial run's."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from tests.reliability.small import same_numbers, small
from vbench.records import Store
from vbench.study import run

pytest.importorskip("distributed", reason="needs the extra: pip install 'vbench[dask]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes, and makes network namespaces"),
    pytest.mark.timeout(1800),
]

ROOT = Path(__file__).parent.parent.parent
WAIT = 600.0  # seconds, of a machine that has much else to do
CELLS = 8


@dataclass
class Node:
    """A host: what it is reached by, and what its commands begin with."""

    host: str
    enter: tuple[str, ...] = ()
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        known = os.environ | {"PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
        known |= {"OMP_NUM_THREADS": "1"}
        command = [*self.enter, sys.executable, "-m", *arguments]
        self.started.append(subprocess.Popen(command, env=known, start_new_session=True))
        return self.started[-1]

    def kill(self) -> None:
        """All that runs there, at once."""
        every = [child for process in self.started for child in _family(process.pid)]
        for process in every:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self.started:
            process.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextlib.contextmanager
def loopback() -> Iterator[tuple[Node, Node]]:
    yield Node("127.0.0.1"), Node("127.0.0.1")


@contextlib.contextmanager
def namespaces() -> Iterator[tuple[Node, Node]]:
    """Two hosts with a cable between them."""
    names = [f"vb{os.getpid() % 10**6}{end}" for end in "ab"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)

    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", names[0], "netns", names[0], "type", "veth", "peer", "name", names[1], "netns", names[1])
            for number, name in enumerate(names, 1):
                ip("-n", name, "address", "add", f"10.213.7.{number}/24", "dev", name)
                ip("-n", name, "link", "set", name, "up")
                ip("-n", name, "link", "set", "lo", "up")  # a host's messages to itself take it
        except (OSError, subprocess.SubprocessError) as error:
            told = getattr(error, "stderr", None) or str(error).encode()
            pytest.skip(f"no network namespaces here: {told.decode().strip()}")
        first, second = (Node(f"10.213.7.{n}", ("ip", "netns", "exec", name)) for n, name in enumerate(names, 1))
        yield first, second
    finally:
        for name in names:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                ip("netns", "delete", name)


def until(true: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize("network", [loopback, namespaces], ids=["loopback", "namespaces"])
def test_a_killed_worker_node_and_driver_cost_nothing(network, tmp_path: Path) -> None:
    grid = small(name="nodes", estimators=["reparam", "rloo[k=2]"], seeds=CELLS // 2, train={"steps": 300, "batch": 16})
    run(grid, results=tmp_path / "serial", workers=0)
    file, there = tmp_path / "grid.yaml", tmp_path / "nodes"
    with file.open("w") as stream:
        YAML(typ="safe").dump(grid, stream)
    known, logs = there / "nodes" / "records", there / "nodes" / "logs"

    def records() -> int:
        return len(list(known.rglob("*.parquet")))

    with network() as (head, other):
        nodes = [head, other]
        try:
            port = 20000 + os.getpid() % 20000
            address = f"tcp://{head.host}:{port}"
            head.start("distributed.cli.dask_scheduler", "--host", head.host, "--port", str(port), "--no-dashboard")
            workers = [
                node.start("distributed.cli.dask_worker", address, "--host", node.host, "--nthreads", "1",
                           "--no-dashboard", "--local-directory", str(tmp_path))
                for node in nodes
            ]  # fmt: skip

            def driver() -> subprocess.Popen[bytes]:
                return head.start("vbench", "run", str(file), "--results", str(there), "--scheduler", address)

            first = driver()
            until(lambda: records() >= 1, "no cell has ended")
            (worker,) = (p for p in _family(workers[1].pid) if "spawn_main" in " ".join(p.cmdline()))
            worker.kill()
            until(lambda: records() >= 3, "nothing goes on after a worker's death")
            other.kill()
            until(lambda: records() >= 4, "nothing goes on after a node's death")
            assert first.poll() is None
            first.send_signal(signal.SIGKILL)
            first.wait()
            before = {path.name for path in known.rglob("*.parquet")}
            assert len(before) < CELLS, "it was done before it could be killed"
            second = driver()
            until(lambda: second.poll() is not None, "a resumed run does not end")
            assert second.returncode == 0
        finally:
            for node in nodes:
                node.kill()
    assert list(logs.glob("*.log"))
    kept = Store(there / "nodes")
    assert before <= {path.name for path in known.rglob("*.parquet")}
    assert kept.verify() == []
    done = [o for key in kept.outcomes() for o in kept.attempts(key) if o.status == "done"]
    assert len(done) == len({o.key for o in done}) == CELLS
    same_numbers(tmp_path / "serial" / "nodes", there / "nodes")
