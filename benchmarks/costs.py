"""What running costs beside training: planning, resuming, loading, and a process for each cell.

``python -m benchmarks.costs`` measures all of it, each in a process of its own, and prints a table; ``--write`` puts it
into README.md. Seconds are CPU seconds, of user and system, of every process that took part: they hardly depend on what
else the machine does. Peak memory is of the process that is measured.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- costs -->\n", "<!-- end costs -->"
PARTS = {
    "datasets": ["bernoulli-bars"],
    "encoders": ["gaussian[latent=2,hidden=[8]]"],
    "decoders": ["bernoulli[hidden=[8]]"],
    "priors": ["standard-normal"],
}
RATES = [i * 1e-4 for i in range(1, 51)]


def deep() -> dict[str, Any]:
    """100,000 cells, most of them seeds: 1,000 combinations."""
    estimators = ["reparam", {"iwae": {"sweep": {"k": list(range(1, 20))}}}]
    return {"name": "deep", **PARTS, "estimators": estimators, "seeds": 100, "train": {"sweep": {"lr": RATES}}}


def wide() -> dict[str, Any]:
    """100,000 cells of 10,000 combinations, a thousand of them of other components."""
    encoders = [{"gaussian": {"hidden": [8], "sweep": {"latent": [1, 2, 3, 4, 5]}}}]
    decoders = [{"bernoulli": {"sweep": {"hidden": [[4], [8], [12], [16]]}}}]
    estimators = [{"iwae": {"sweep": {"k": list(range(1, 51))}}}]
    train = {"sweep": {"lr": RATES[:10]}}
    parts = {**PARTS, "encoders": encoders, "decoders": decoders}
    return {"name": "wide", **parts, "estimators": estimators, "seeds": 10, "train": train}


def finished() -> dict[str, Any]:
    """10,000 cells."""
    estimators = [{"iwae": {"sweep": {"k": list(range(1, 21))}}}]
    return {"name": "finished", **PARTS, "estimators": estimators, "seeds": 50, "train": {"sweep": {"lr": RATES[:10]}}}


def measured(work: Callable[[], Any], also: Callable[[], float] = lambda: 0.0) -> dict[str, float]:
    """CPU and wall seconds of a piece of work, with those of other processes; memory of this one."""
    cpu, wall = time.process_time() + also(), time.perf_counter()
    work()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu": time.process_time() + also() - cpu, "wall": time.perf_counter() - wall, "memory": memory}


def plan(folder: str, shape: str) -> dict[str, float]:
    from vbench.planning import make_plan

    make_plan({**deep(), "seeds": 1, "train": {}}, results=folder)  # what is loaded once does not count
    grid = {"deep": deep, "wide": wide}[shape]()
    return measured(lambda: make_plan(grid, results=folder))


def finish(folder: str) -> dict[str, float]:
    """A finished study as its runs leave it, 20 rows a cell, read through its index.

    The record files are empty: what is measured asks for their names, sizes and times alone, as the index knows them.
    """
    import pyarrow as pa

    from vbench.attempts import Outcome, Row, schema, text_of
    from vbench.index import File, Index
    from vbench.listing import load_catalogue
    from vbench.planning import make_plan
    from vbench.provenance import provenance

    made = make_plan(finished(), results=folder)
    study, catalogue = Path(folder) / "finished", load_catalogue()
    metrics = ("elbo", "rate", "distortion", "bound", "log_likelihood")
    rows = [Row(step, "valid", name, "all", -1.0 * step, 0.1, 50, "nats") for step in range(4) for name in metrics]
    cells = sorted(made.cells, key=lambda planned: planned.key)
    attempts, columns = [], {name: [] for name in ("cell", "seed", *cells[0].cell.labels())}
    for number, planned in enumerate(cells):
        cell = planned.cell
        labels, sources = cell.labels(), provenance(cell.choices().values(), catalogue)
        facts = {"data_digest": planned.data, "seconds": 1.0, "timing": "exclusive"}
        outcome = Outcome(planned.key, "done", "", labels, cell.seed, cell.spec(), facts, sources)
        path = study / "records" / planned.key[:2] / f"{planned.key}.0.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        stat = path.stat()
        place = number * len(rows), (number + 1) * len(rows)
        attempts.append((File(str(path), stat.st_size, stat.st_mtime_ns), text_of(outcome), *place))
        for name, value in {"cell": planned.key, "seed": cell.seed, **labels}.items():
            columns[name] += [value] * len(rows)
    columns["study"] = ["finished"] * len(columns["cell"])
    columns |= {name: [row[i] for row in rows] * len(cells) for i, name in enumerate(Row._fields)}
    table = pa.table({field.name: pa.array(columns[field.name], type=field.type) for field in schema()})
    (study / "cells.parquet").touch()
    return measured(lambda: Index(study).write(attempts, table))


def resume(folder: str) -> dict[str, float]:
    """``run`` where nothing is left to do."""
    from vbench.listing import load_catalogue
    from vbench.study import run

    load_catalogue()

    def check(plan: Any) -> None:
        assert not plan.count("run"), "vbench's code changed between two measurements: measure again"

    return measured(lambda: run(finished(), results=folder, workers=1, on_plan=check))


def load(folder: str) -> dict[str, float]:
    """``vbench.load`` of its records."""
    import vbench

    found: list[int] = []
    cost = measured(lambda: found.append(len(vbench.load(f"{folder}/finished"))))
    assert found == [200_000]
    return cost


def cells(folder: str, workers: str) -> dict[str, float]:
    """What a cell of one step takes in all: its process, its parts, its step, its records."""
    from vbench.study import run

    def grid(name: str, seeds: int) -> dict[str, Any]:
        settings = {"train": {"steps": 1, "batch": 10}, "measure": {"data": 1, "samples": 1}}
        return {"name": name, **PARTS, "estimators": ["reparam"], "seeds": seeds, **settings}

    count, processes = 60, int(workers)  # the plan and the end of a run are shared by so many
    run(grid(f"first{workers}", 1), results=folder, workers=processes)  # the fork server is warm then
    cost = measured(lambda: run(grid(f"timed{workers}", count), results=folder, workers=processes), server)
    return {**cost, "cpu": cost["cpu"] / count, "wall": cost["wall"] / count}


def server() -> float:
    """CPU seconds of the fork server and of all jobs that have ended."""
    from multiprocessing import forkserver

    import psutil

    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # it has no other name
    return sum(psutil.Process(pid).cpu_times()[:4]) if pid else 0.0


WHAT: list[tuple[str, str, list[str], str, float, float | None]] = [
    ("planning 100,000 cells, 1,000 combinations", "plan", ["deep"], "s", 5, 500),
    ("planning 100,000 cells, 10,000 combinations", "plan", ["wide"], "s", 5, 500),
    ("writing the index of 10,000 finished cells", "finish", [], "s", 0, None),
    ("resuming a finished study of 10,000 cells", "resume", [], "s", 3, None),
    ("loading its 200,000 records", "load", [], "s", 2, None),
    ("a cell of one step in a process of its own", "cells", ["1"], "ms", 0.1, None),
    ("the same in this process", "cells", ["0"], "ms", 0, None),
]


def alone(name: str, folder: str, arguments: list[str]) -> dict[str, float]:
    """One measurement in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.costs", "--one", name, folder, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=README.parent.parent)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(asked: set[str]) -> str:
    lines = ["| what | CPU | wanted | wall | peak memory | wanted | load |", "| --- " * 7 + "|"]
    with tempfile.TemporaryDirectory() as folder:
        for what, name, arguments, unit, target, most in WHAT:
            if asked and name not in asked:
                continue
            found = alone(name, folder, arguments)
            scale, form = (1000, ".0f") if unit == "ms" else (1, ".2f")
            row = (
                what,
                f"{found['cpu'] * scale:{form}} {unit}",
                f"{target * scale:g} {unit}" if target else "",
                f"{found['wall'] * scale:{form}} {unit}",
                f"{found['memory']:.0f} MB",
                f"{most} MB" if most else "",
                f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores",
            )
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines) + "\n"


def main(*asked: str) -> None:
    if asked[:1] == ("--one",):
        print(json.dumps(globals()[asked[1]](*asked[2:])))
        return
    found = table({word for word in asked if word != "--write"})
    print(found)
    if "--write" in asked:
        before, _, rest = README.read_text("utf-8").partition(BEGIN)
        README.write_text(before + BEGIN + found + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
