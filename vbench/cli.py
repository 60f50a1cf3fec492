"""The command line: thin commands, no logic. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, ClassVar

import click

from vbench.discovery import version

__all__ = ["main"]


class _Commands(click.Group):
    """Turns the mistakes that a user can make into their one line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from vbench.grid import GridError
            from vbench.listing import PluginError
            from vbench.scaffold import ScaffoldError
            from vbench.store import StoreError

            if not isinstance(error, GridError | PluginError | ScaffoldError | StoreError):
                raise
            click.echo(str(error), err=True)
            ctx.exit(1 if isinstance(error, StoreError) else 2)


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


class _Shard(click.ParamType[tuple[int, int]]):
    """``2/8``: one of so many equal parts."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        part, _, parts = str(value).partition("/")
        if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
            self.fail(f"{value!r}: expected I/N, from 1/N to N/N", param, ctx)
        return int(part), int(parts)


class _Bytes(click.ParamType[int]):
    """``4GiB``, ``500MB`` or bytes."""

    name = "size"
    _units: ClassVar = {"": 1, "B": 1} | {
        f"{prefix}{form}": base ** (place + 1)
        for place, prefix in enumerate("KMGT")
        for form, base in (("B", 1000), ("iB", 1024), ("", 1024))
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
        units = {name.upper(): size for name, size in self._units.items()}
        if not found or found[2].upper() not in units:
            self.fail(f"{value!r}, expected a size such as 4GiB or 500MB", param, ctx)
        return int(float(found[1]) * units[found[2].upper()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version(), prog_name="vbench", message="%(prog)s %(version)s")
def main() -> None:
    r"""Benchmark variational objectives: estimators held against exact gradients, compared fairly.

    \b
    Start with:
      vbench list                 what can be crossed
      vbench run grid.yaml        train and measure a grid
    """


_json = click.option("--json", "as_json", is_flag=True, help="For scripts: JSON on standard output.")
_grid = click.argument("grid", type=click.Path(path_type=Path))
_results = click.option(
    "--results",
    default="results",
    show_default=True,
    help="Root folder of all studies.",
    type=click.Path(path_type=Path),
)
_set = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value of the grid.")
_filter = click.option(
    "--filter", "filters", multiple=True, metavar="AXIS=GLOB", help="Only these cells; several are ANDed."
)
_rerun = click.option(
    "--rerun",
    type=click.Choice(["failed", "stale", "all"]),
    help="Which stored results are made again.  [default: failed and stale ones]",
)
_max_cells = click.option(
    "--max-cells",
    type=click.IntRange(1),
    default=10_000,
    show_default=True,
    help="Ask before a grid with more.",
)
_keep_stale = click.option("--keep-stale", is_flag=True, help="Keep results whose code has since changed, marked.")


@main.command(epilog=_example("vbench run results/quickstart/grid.yaml --set seeds=1 --filter 'estimator=iwae*'"))
@_grid
@_set
@_filter
@_results
@_keep_stale
@_rerun
@_max_cells
@click.option("--workers", type=click.IntRange(0), help="Cells at once, a process each.  [default: cores]")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Torch threads of each cell.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds that one cell may take.")
@click.option("--exclusive", is_flag=True, help="One cell at a time, and again what was timed beside others.")
@click.option("--memory", type=_Bytes(), metavar="SIZE", help="What one cell may take, as 4GiB or 500MB.")
@click.option(
    "--checkpoint",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds of training after which a cell saves where it can go on; 0: never.",
)
@click.option("--in-process", is_flag=True, help="One cell after the other in this process, without limits.")
@click.option("--pdb", "debug", is_flag=True, help="With --in-process: open a debugger where a cell fails.")
@click.option(
    "--executor",
    type=click.Choice(["local", "dask"]),
    default="local",
    show_default=True,
    help="Processes of this machine, or workers of a Dask cluster, which is started here.",
)
@click.option("--scheduler", default="", metavar="ADDRESS", help="Join a running Dask cluster, tcp://host:8786.")
@click.option("--shard", type=_Shard(), metavar="I/N", help="Only the I-th of N parts of the cells, as of a job array.")
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
    from vbench.report import console

    again = {"results": results, "keep_stale": keep_stale, "rerun": rerun, "exclusive": exclusive}
    if dry_run:
        console.show_plan(_plan(asked, **again))
        return
    sys.exit(console.run(asked, workers=0 if in_process else workers, debug=debug, **again, **limits))


@main.command(epilog=_example("vbench plan results/quickstart/grid.yaml"))
@_grid
@_set
@_filter
@_results
@_keep_stale
@_rerun
@_max_cells
@_json
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

    found = read_grid(grid, load_catalogue(), overrides)
    found = found.filtered(filters) if filters else found
    if found.size > max_cells:
        text = f"{grid} has {found.size:,} cells, more than --max-cells {max_cells}"
        if not sys.stdin.isatty():
            raise click.UsageError(text)
        click.confirm(f"{text}. Go on?", abort=True, err=True)
    return found


def _plan(grid: Any, **settings: Any) -> Any:
    from vbench.study import make_plan

    return make_plan(grid, **settings)


_study = click.argument("study", type=click.Path(path_type=Path))


@main.command(epilog=_example("vbench status results/quickstart --watch"))
@_study
@click.option("--watch", is_flag=True, help="Until nobody works on it.")
def status(study: Path, watch: bool) -> None:
    """Show how far STUDY, a results folder, is: cells by status, who works on it, what failed and why."""
    from vbench.report import upkeep

    sys.exit(upkeep.status(study, watch=watch))


@main.command(epilog=_example("vbench log results/quickstart vimco seed=0    (or the first digits of a key)"))
@_study
@click.argument("words", nargs=-1, metavar="[WORD]...")
def log(study: Path, words: tuple[str, ...]) -> None:
    """Show what a cell of STUDY printed, and its traceback: the one cell that has every WORD.

    Where several have them, these are listed; without a WORD, those that failed. Exit code 2: no cell has them.
    """
    from vbench.report import upkeep

    sys.exit(upkeep.log(study, words))


@main.command(epilog=_example("vbench verify results/quickstart"))
@_study
def verify(study: Path) -> None:
    """Read every file of STUDY to the last bit; damaged ones are named and set aside, and their cells run again.

    Exit code 0: all are what was written; 1: some are not (listed); 2: the call is wrong.
    """
    from vbench.report import upkeep

    sys.exit(upkeep.verify(study))


@main.command(epilog=_example("vbench clean results/quickstart --dry-run"))
@_study
@click.option("--dry-run", is_flag=True, help="Show what would go, and stop.")
def clean(study: Path, dry_run: bool) -> None:
    """Remove from STUDY what is no result: leftovers of killed runs, logs of cells that are done, damaged files."""
    from vbench.report import upkeep

    sys.exit(upkeep.clean(study, dry_run=dry_run))


@main.command(epilog=_example("vbench report results/quickstart --format svg,pdf"))
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to.  [default: STUDY/report]")
@click.option("--format", "formats", default="svg", show_default=True, help="Of the figure files: svg, pdf, png.")
@click.option("--check", is_flag=True, help="Compute every number of the written page again from the records.")
def report(study: Path, out: Path | None, formats: str, check: bool) -> None:
    """Write a page with the figures and tables of STUDY, a results folder; it opens from disk and loads nothing.

    Exit code 0: written, or with --check nothing differs; 1: something does (listed); 2: the call is wrong.
    """
    from vbench.report import reporting

    asked = formats.split(",")
    if wrong := [name for name in asked if name not in reporting.FORMATS]:
        raise click.BadParameter(f"{wrong[0]!r}, expected {', '.join(reporting.FORMATS)}", param_hint="--format")
    sys.exit(reporting.check(study, out) if check else reporting.report(study, out, asked))


_KINDS = click.Choice(["dataset", "encoder", "decoder", "prior", "estimator"])


@main.command("list", epilog=_example("vbench list estimator"))
@click.argument("kind", type=_KINDS, required=False)
@_json
def list_(kind: str | None, as_json: bool) -> None:
    """List what can be crossed: datasets, encoders, decoders, priors, estimators."""
    from vbench.listing import load_catalogue
    from vbench.report import components

    catalogue = load_catalogue()
    if as_json:
        click.echo(json.dumps(components.list_json(catalogue, kind), indent=2))
    else:
        components.show_list(catalogue, kind)


@main.command(
    epilog=_example("vbench show vimco    (or encoder:bernoulli, where kinds share a name; or a kind: estimator)")
)
@click.argument("name")
def show(name: str) -> None:
    """Show one component: what it does, its source and its parameters; or what a kind must provide."""
    from vbench.listing import load_catalogue
    from vbench.report import components

    sys.exit(components.show(load_catalogue(), name))


@main.command(epilog=_example("vbench check vimco 'rloo[k=2]' encoder:bernoulli    (or: --study results/quickstart)"))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--plugin", metavar="DIST", help="Everything that one distribution registers.")
@click.option("--all", "everything", is_flag=True, help="Everything that is registered.")
@click.option(
    "--study",
    type=click.Path(path_type=Path),
    help="Every estimator of a study as it used it; the verdicts are kept beside its records.",
)
@_json
def check(names: tuple[str, ...], plugin: str | None, everything: bool, study: Path | None, as_json: bool) -> None:
    """Hold components against exact answers: values, gradients, densities, and every claim they make.

    Exit code 0: nothing FAILs; 1: something does; 2: the call is wrong. INCONCLUSIVE is no PASS: it says what could
    not be decided, and why.
    """
    if sum((bool(names), plugin is not None, everything, study is not None)) != 1:
        raise click.UsageError("name components, or give --plugin DIST, --study STUDY, or --all")
    if study is not None:
        from vbench.report import judgement

        sys.exit(judgement.check_study(study, as_json))
    from vbench.grid import named_components
    from vbench.listing import load_catalogue

    named_components(names, load_catalogue(), plugin)  # a wrong name is told before torch loads
    from vbench.report import judgement

    sys.exit(judgement.check(names, plugin, as_json))


@main.command(epilog=_example("vbench compare results/quickstart --metric gradient_variance --baseline rloo --by part"))
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--metric", required=True, help="What is compared: gradient_variance, elbo, log_likelihood, ...")
@click.option("--baseline", required=True, metavar="ESTIMATOR", help="As rloo[k=4], or rloo where there is one.")
@click.option("--part", help="all, encoder, decoder or prior.  [default: all]")
@click.option("--by", type=click.Choice(["part"]), help="A table for every part.")
@click.option("--split", type=click.Choice(["train", "valid", "test"]), help="[default: the last that has the metric]")
@click.option("--step", type=click.IntRange(0), help="[default: the last]")
@click.option(
    "--at",
    type=click.Choice(["k", "evaluations", "seconds"]),
    default="k",
    show_default=True,
    help="Cost held equal: as recorded (equal K), decoder evaluations, or seconds.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, min_open=True),
    help="Of equivalence: a fraction for ratios, else in the metric's unit.  [default: 0.1 for ratios]",
)
@click.option("--tuned", is_flag=True, help="Each at the training setting that validation data chose.")
@click.option("--json", "form", flag_value="json", help="For scripts: JSON on standard output.")
@click.option("--csv", "form", flag_value="csv", help="Every column, as CSV.")
@click.option("--latex", "form", flag_value="latex", help="A booktabs table.")
def compare(study: Path, form: str | None, **asked: Any) -> None:
    """Compare every estimator of STUDY with a baseline: paired by seed, with intervals, verdicts and cost.

    It reads records alone. What is positive by nature (variances, throughput) compares by ratios, nats by differences;
    variances compare within one estimand only. Exit code 0: compared; 2: the call is wrong.
    """
    from vbench.report import comparison_table

    sys.exit(comparison_table.show(study, form or "table", **asked))


@main.command(epilog=_example("vbench plugins"))
@_json
def plugins(as_json: bool) -> None:
    """List installed plugins, with the reason for any that could not be loaded."""
    from vbench.listing import load_catalogue
    from vbench.report import components

    catalogue = load_catalogue(strict=False)
    if as_json:
        click.echo(json.dumps(components.plugins_json(catalogue), indent=2))
    else:
        components.show_plugins(catalogue)
    sys.exit(2 if catalogue.clashes else 0)


@main.command("new-plugin", epilog=_example("vbench new-plugin my-encoder --kind encoder"))
@click.argument("name")
@click.option("--kind", type=_KINDS, default="estimator", show_default=True, help="What it adds.")
@click.option(
    "--dir",
    "folder",
    default=".",
    show_default=True,
    help="Where the folder vbench-NAME is made.",
    type=click.Path(path_type=Path),
)
def new_plugin(name: str, kind: Any, folder: Path) -> None:
    """Write the package vbench-NAME: one component that works as it stands, its tests and a grid.

    Exit code 2: the name cannot be used or is taken, or the folder is there already; nothing is ever overwritten.
    """
    from vbench import scaffold
    from vbench.listing import load_catalogue

    project = scaffold.new_plugin(name, kind, folder, load_catalogue(strict=False))
    click.echo("\n".join([f"{project} is written. Next:\n", *scaffold.next_commands(project, kind)]))


@main.command(epilog=_example("vbench data fetch mnist"))
@click.argument("action", type=click.Choice(["list", "fetch"]), default="list")
@click.argument("names", nargs=-1)
@_json
def data(action: str, names: tuple[str, ...], as_json: bool) -> None:
    """Show which data are at hand and where they are looked for, or fetch some."""
    from vbench.report import environment

    sys.exit(environment.data(action, names, as_json))


@main.command(epilog=_example("vbench doctor"))
@_json
def doctor(as_json: bool) -> None:
    """Report versions, cores, devices, data and plugins: what to put into a bug report."""
    from vbench.report import environment

    sys.exit(environment.doctor(as_json))
