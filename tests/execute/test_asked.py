"""Which executor a call means, and one line where there is none such."""

import pytest

from tests.reliability.small import small
from vbench.execute.asked import executor_named, make_executor
from vbench.execute.dask_cluster import DaskExecutor
from vbench.execute.jobs import Limits
from vbench.execute.local import LocalExecutor
from vbench.grid import GridError
from vbench.study import run


@pytest.mark.parametrize(
    ("text", "scheduler", "name"),
    [
        ("local", "", "local"),
        ("local[gpu=0.5]", "", "local[gpu=0.5]"),
        ("dask", "", "dask"),
        ("local", "tcp://head:8786", "dask[scheduler=tcp://head:8786]"),
        ("dask[gpu=1]", "", "dask[gpu=1.0]"),
    ],
)
def test_a_name(text, scheduler, name) -> None:
    assert executor_named(text, scheduler) == name
    assert executor_named(name) == name


@pytest.mark.parametrize(
    ("text", "scheduler", "problem"),
    [
        ("lokal", "", "--executor: unknown executor 'lokal' (did you mean 'local'?)"),
        ("local[gpu=-1]", "", "gpu"),
        ("local[workers=2]", "", "workers"),
        ("dask[gpu=1]", "tcp://head:8786", "write --executor 'dask[scheduler=tcp://head:8786,...]'"),
    ],
)
def test_none_such_is_one_line(text, scheduler, problem) -> None:
    with pytest.raises(GridError) as error:
        executor_named(text, scheduler)
    (line,) = error.value.lines
    assert problem in line


def test_it_is_made_with_its_parameters(tmp_path, monkeypatch) -> None:
    limits = Limits("targets:call", tmp_path)
    made = make_executor("dask[scheduler=tcp://head:8786]", limits, 2)
    assert (type(made), made.at_once) == (DaskExecutor, float("inf"))
    made = make_executor("local", limits, 2)
    assert (type(made), made.at_once) == (LocalExecutor, 2)
    assert make_executor(lambda limits, workers: (limits, workers), limits, 3) == (limits, 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(GridError, match="0 GPUs are visible here"):
        make_executor("local[gpu=1]", limits, 2)


def test_one_at_a_time_is_not_for_a_cluster(tmp_path) -> None:
    with pytest.raises(GridError, match="--exclusive: not with dask"):
        run(small(), results=tmp_path, exclusive=True, scheduler="tcp://127.0.0.1:1")
