"""Commands that plan, do and watch: plan, run, status."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from vbench.cli import options
from vbench.cli.group import example, main


@main.command(epilog=example("vbench run results/quickstart/grid.yaml --set seeds=1 --filter 'estimator=iwae*'"))
@options.planned
@click.option("--workers", type=click.IntRange(0), help="Cells at once, a process each.  [default: cores]")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Torch threads of each cell.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds that one cell may take.")
@click.option("--exclusive", is_flag=True, help="One cell at a time, and again what was timed beside others.")
@click.option("--memory", type=options.Bytes(), metavar="SIZE", help="What one cell may take, as 4GiB or 500MB.")
@click.option(
    "--checkpoint",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds of training after which a cell saves where it can go on; 0: never.",
)
@click.option(
    "--keep",
    type=click.Choice(["weights", "state"]),
    help="Keep every cell's weights, for vbench.trained, or its state, from which more steps go on.",
)
@click.option("--in-process", is_flag=True, help="One cell after the other in this process, without limits.")
@click.option("--pdb", "debug", is_flag=True, help="With --in-process: open a debugger where a cell fails.")
@click.option(
    "--executor",
    default="local",
    show_default=True,
    metavar="NAME",
    help="What runs the cells: local processes, dask (a cluster that is started here), or a plugin's.",
)
@click.option("--scheduler", default="", metavar="ADDRESS", help="Join a running Dask cluster, tcp://host:8786.")
@click.option(
    "--shard", type=options.Shard(), metavar="I/N", help="Only the I-th of N parts of the cells, as of a job array."
)
@click.option("--dry-run", is_flag=True, help="Show what would run, and stop.")
def run(
    grid: Path,
    overrides: tuple[str, ...],
    filters: tuple[str, ...],
    results: Path,
    keep_stale: bool,
    rerun: Any,
    max_cells: int,
    workers: int | None,
    in_process: bool,
    debug: bool,
    exclusive: bool,
    keep: Any,
    dry_run: bool,
    **limits: Any,
) -> None:
    """Train and measure every cell of GRID that is not done yet.

    Run it again after an interruption, or after adding to the grid: nothing finished is computed twice. Exit code 0:
    all cells done, or skipped with a reason; 1: some failed; 2: the grid or the call is wrong.
    """
    if debug and not in_process:
        raise click.UsageError("--pdb needs --in-process")
    asked = _read(grid, overrides, filters, max_cells)
    from vbench.execute.asked import executor_named

    limits["executor"] = executor_named(limits["executor"], limits.pop("scheduler"))
    from vbench.report import console

    again = {"results": results, "keep_stale": keep_stale, "rerun": rerun, "exclusive": exclusive, "keep": keep}
    if dry_run:
        console.show_plan(_plan(asked, **again))
        return
    sys.exit(console.run(asked, workers=0 if in_process else workers, debug=debug, **again, **limits))


@main.command(epilog=example("vbench plan results/quickstart/grid.yaml"))
@options.planned
@options.as_json
def plan(
    grid: Path,
    overrides: tuple[str, ...],
    filters: tuple[str, ...],
    results: Path,
    keep_stale: bool,
    rerun: Any,
    max_cells: int,
    as_json: bool,
) -> None:
    """Show what running GRID would do: cells to run, done, and skipped with the reason."""
    asked = _read(grid, overrides, filters, max_cells)
    found = _plan(asked, results=results, keep_stale=keep_stale, rerun=rerun)
    from vbench.report import console

    if as_json:
        click.echo(json.dumps(console.plan_json(found), indent=2))
    else:
        console.show_plan(found)


def _read(grid: Path, overrides: tuple[str, ...], filters: tuple[str, ...], max_cells: int) -> Any:
    """The grid, or its mistakes before torch is loaded."""
    from vbench.grid import read_grid
    from vbench.listing import load_catalogue

    found = read_grid(grid, load_catalogue, overrides)
    found = found.filtered(filters) if filters else found
    if found.size > max_cells:
        text = f"{grid} has {found.size:,} cells, more than --max-cells {max_cells}"
        if not sys.stdin.isatty():
            raise click.UsageError(text)
        click.confirm(f"{text}. Go on?", abort=True, err=True)
    return found


def _plan(grid: Any, **settings: Any) -> Any:
    from vbench.planning import make_plan

    return make_plan(grid, **settings)


@main.command(epilog=example("vbench status results/quickstart --watch"))
@options.study
@click.option("--watch", is_flag=True, help="Until nobody works on it.")
def status(study: Path, watch: bool) -> None:
    """Show how far STUDY, a results folder, is: cells by status, who works on it, what failed and why."""
    from vbench.report import upkeep

    sys.exit(upkeep.status(study, watch=watch))
