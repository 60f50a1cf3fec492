"""Jobs on a real Dask cluster on this machine: the same endings as without one, and workers that die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from vbench.execute.dask_cluster import DaskExecutor
from vbench.execute.jobs import ExecutorError, Job, Limits
from vbench.testing import Verdict, checks
from vbench.testing.verdict import run_checks

distributed = pytest.importorskip("distributed", reason="needs the extra: pip install 'vbench[dask]'")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups"),
    pytest.mark.filterwarnings("default"),  # of its own start and end
    pytest.mark.timeout(600),
]

HERE = Path(__file__).parent
STOPPED = ("ctrl-c", "killed-driver")


@contextlib.contextmanager
def scheduler(folder, workers=2, daemon=False, **environment):
    """A scheduler and workers as processes of their own, as on hosts of their own."""
    known = (
        os.environ
        | {"PYTHONPATH": f"{HERE}:{HERE.parent.parent}", "DASK_DISTRIBUTED__WORKER__DAEMON": str(daemon)}
        | environment
    )
    address_file = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(address_file)]
    python = [sys.executable, "-m"]
    started = [
        subprocess.Popen([*python, "distributed.cli.dask_scheduler", *options], env=known, start_new_session=True)
    ]
    try:
        while not address_file.exists() or not address_file.read_text():
            time.sleep(0.05)
        serve = ["--scheduler-file", str(address_file), "--nthreads", "2", "--no-dashboard", "--host", "127.0.0.1"]
        for number in range(workers):
            known |= {"CUDA_VISIBLE_DEVICES": str(5 + number)}  # none need be there
            command = [*python, "distributed.cli.dask_worker", *serve, "--local-directory", str(folder)]
            command += ["--preload", "tests.execute.lighter", "--resources", "GPU=1"]
            started.append(subprocess.Popen(command, env=known, start_new_session=True))
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
        executor = DaskExecutor(Limits("targets:call", self.folder / "logs"), workers=2, **options)
        executor.run(jobs, self.events.append, lambda job, *why: self.lost.append((job.key, *why)))
        return self

    def ends(self):
        return {event.key: event.status for event in self.events if event.kind == "ended"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with scheduler(tmp_path_factory.mktemp("cluster")) as (address, _):
        yield address


def test_the_suite(cluster):
    """As on one machine: every end, a killed worker, equal numbers of a study."""
    asked = [one for one in checks("executor", f"dask[scheduler={cluster}]") if one.name not in STOPPED]
    found = list(run_checks(asked))
    assert {result.verdict for result in found} == {Verdict.PASS}, [r for r in found if r.verdict != Verdict.PASS]
    assert len(found) == 11
    assert next(r.figure for r in found if r.name == "killed-worker").endswith("as done, after 2 starts")


@pytest.mark.slow
def test_the_suite_where_a_driver_is_stopped(cluster):
    asked = {one.name: one for one in checks("executor", f"dask[scheduler={cluster}]")}
    found = list(run_checks(asked[name] for name in STOPPED))
    assert {result.verdict for result in found} == {Verdict.PASS}, found


def test_jobs_share_the_devices_of_their_workers(cluster, tmp_path):
    told = Told(tmp_path).run([Job(f"job{i}", ("sees", tmp_path, 4)) for i in range(4)], scheduler=cluster, gpu=0.5)
    assert Counter((tmp_path / "marks").read_text().split()) == {"5": 2, "6": 2}
    assert set(told.ends().values()) == {"done"}
    with pytest.raises(ExecutorError, match="gpu=2: no worker offers so much"):
        told.run([Job("large", ("ok",))], scheduler=cluster, gpu=2.0)


@pytest.mark.slow
def test_a_cluster_that_cannot_serve_is_one_line(tmp_path):
    with pytest.raises(ExecutorError, match=r"127\.0\.0\.1:1"):
        Told(tmp_path).run([Job("a", ("ok",))], scheduler="tcp://127.0.0.1:1")
    with (
        scheduler(tmp_path, workers=1, daemon=True) as (address, _),
        pytest.raises(ExecutorError, match="WORKER__DAEMON"),
    ):
        Told(tmp_path).run([Job("a", ("ok",))], scheduler=address)


@pytest.mark.slow
def test_a_cluster_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    assert Told(tmp_path).run([Job("a", ("ok",)), Job("b", ("ok", "diverged"))]).ends() == {
        "a": "done",
        "b": "diverged",
    }
