"""Jobs on a real Dask cluster on this machine: the same endings as without one, and workers that die."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.execute.seen import gone
from vbench.execute.dask_cluster import ClusterError, DaskExecutor
from vbench.execute.jobs import Job

distributed = pytest.importorskip("distributed", reason="needs the extra: pip install 'vbench[dask]'")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups"),
    pytest.mark.filterwarnings("default"),  # of its own start and end
    pytest.mark.timeout(600),
]

HERE = Path(__file__).parent


@contextlib.contextmanager
def scheduler(folder, workers=2, daemon=False, **environment):
    """A scheduler and workers as processes of their own, as on hosts of their own."""
    known = os.environ | {"PYTHONPATH": str(HERE), "DASK_DISTRIBUTED__WORKER__DAEMON": str(daemon)} | environment
    address_file = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(address_file)]
    python = [sys.executable, "-m"]
    started = [
        subprocess.Popen([*python, "distributed.cli.dask_scheduler", *options], env=known, start_new_session=True)
    ]
    try:
        while not address_file.exists() or not address_file.read_text():
            time.sleep(0.05)
        serve = ["--scheduler-file", str(address_file), "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]
        for _ in range(workers):
            command = [*python, "distributed.cli.dask_worker", *serve, "--local-directory", str(folder)]
            started.append(subprocess.Popen(command, env=known, start_new_session=True))
        import json

        yield json.loads(address_file.read_text())["address"], started
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Told:
    """What an executor said."""

    def __init__(self, folder):
        self.folder, self.events, self.lost = folder, [], []

    def run(self, jobs, **options):
        executor = DaskExecutor("targets:call", workers=2, log_folder=self.folder / "logs", **options)
        executor.run(jobs, self.events.append, lambda job, *why: self.lost.append((job.key, *why)))
        return self

    def ends(self):
        return {event.key: event.status for event in self.events if event.kind == "ended"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with scheduler(tmp_path_factory.mktemp("cluster")) as (address, _):
        yield address


def test_every_end_is_told_as_on_one_machine(cluster, tmp_path):
    jobs = {
        "good": ("ok",), "raises": ("fail",), "segfault": ("segfault",), "left": ("os_exit", 0),
        "slow": ("nap", 60), "later": ("progress", 3),
    }  # fmt: skip
    told = Told(tmp_path).run(
        [Job(key, payload, after=("slow",) if key == "later" else ()) for key, payload in jobs.items()],
        scheduler=cluster,
        timeout=3.0,
    )
    assert told.ends() == {
        "good": "done", "raises": "failed", "segfault": "crashed",
        "left": "crashed", "slow": "timeout", "later": "done",
    }  # fmt: skip
    assert sorted(told.lost) == [
        ("left", "crashed", "left with exit code 0 and no result"),
        ("raises", "failed", "ValueError: boom"),
        ("segfault", "crashed", "killed by SIGSEGV"),
        ("slow", "timeout", "took longer than 3 s"),
    ]
    order = [(event.kind, event.key) for event in told.events if event.kind != "progress"]
    assert order.index(("ended", "slow")) < order.index(("started", "later"))
    assert any(event.kind == "progress" and event.key == "later" for event in told.events)
    assert "before the failure" in (tmp_path / "logs" / "raises.log").read_text()


@pytest.mark.slow
def test_a_killed_worker_costs_a_second_try_and_leaves_no_orphan(tmp_path):
    with scheduler(tmp_path) as (address, processes):
        told, killed = Told(tmp_path), []

        def kill():
            marks = tmp_path / "marks"
            while not marks.exists():
                time.sleep(0.05)
            job = int(marks.read_text().split()[0])
            host = next(p for p in processes if job in {c.pid for c in psutil.Process(p.pid).children(recursive=True)})
            os.killpg(host.pid, signal.SIGKILL)
            killed.append(job)

        thread = threading.Thread(target=kill)
        thread.start()
        told.run(
            [Job("hit", ("slow_once", tmp_path)), *(Job(f"other{i}", ("ok",)) for i in range(3))], scheduler=address
        )
        thread.join()
        assert gone(killed[0])
    assert told.ends() == {"hit": "done", "other0": "done", "other1": "done", "other2": "done"}
    assert told.lost == []
    assert [event.kind for event in told.events if event.key == "hit"] == ["started", "ended"]


def test_ctrl_c_ends_what_the_workers_run(cluster, tmp_path):
    told = Told(tmp_path)

    def stop(event):
        told.events.append(event)
        if event.kind == "progress":
            raise KeyboardInterrupt

    executor = DaskExecutor("targets:call", workers=2, log_folder=tmp_path / "logs", scheduler=cluster)
    with pytest.raises(KeyboardInterrupt):
        executor.run([Job("long", ("stays", tmp_path))], stop, lambda job, *why: told.lost.append((job.key, *why)))
    assert told.lost == [("long", "interrupted", "stopped with its driver")]
    assert gone(int((tmp_path / "marks").read_text().split()[0]))


@pytest.mark.slow
def test_a_cluster_that_cannot_serve_is_one_line(tmp_path):
    with pytest.raises(ClusterError, match=r"--scheduler tcp://127.0.0.1:1: "):
        Told(tmp_path).run([Job("a", ("ok",))], scheduler="tcp://127.0.0.1:1")
    with (
        scheduler(tmp_path, workers=1, daemon=True) as (address, _),
        pytest.raises(ClusterError, match="WORKER__DAEMON"),
    ):
        Told(tmp_path).run([Job("a", ("ok",))], scheduler=address)


@pytest.mark.slow
def test_a_cluster_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    assert Told(tmp_path).run([Job("a", ("ok",)), Job("b", ("ok", "diverged"))]).ends() == {
        "a": "done",
        "b": "diverged",
    }


def test_a_study_on_a_cluster_is_the_one_of_one_machine(cluster, tmp_path):
    import vbench
    from vbench.study import run

    grid = {
        "name": "small",
        "datasets": ["bernoulli-bars"],
        "encoders": [{"gaussian": {"latent": 3, "hidden": [8]}}],
        "decoders": [{"bernoulli": {"hidden": [8]}}],
        "priors": ["standard-normal"],
        "estimators": ["reparam", {"rloo": {"k": 2}}],
        "train": {"steps": 20, "batch": 16},
        "measure": {"data": 60, "samples": 4, "gradients": {"draws": 8, "batches": 2, "at": "shared", "warmup": 5}},
    }
    there = run(grid, results=tmp_path / "there", scheduler=cluster)
    here = run(grid, results=tmp_path / "here", workers=0)
    assert there.counts == here.counts == {"done": 2}
    timed = ("seconds_per_step", "examples_per_second", "work_normalized_variance", "peak_memory")
    frames = [vbench.load(tmp_path / root / "small") for root in ("there", "here")]
    one, other = (
        frame[~frame["metric"].isin(timed)].set_index(["cell", "metric", "split", "part", "step"])["value"].sort_index()
        for frame in frames
    )
    assert one.dropna().to_dict() == other.dropna().to_dict()
    assert list(one.index) == list(other.index)
