"""The command line: thin commands, no logic. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

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

            if not isinstance(error, GridError | PluginError | ScaffoldError):
                raise
            click.echo(str(error), err=True)
            ctx.exit(2)


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


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
_keep_stale = click.option("--keep-stale", is_flag=True, help="Keep results whose code has since changed, marked.")


@main.command(epilog=_example("vbench run results/quickstart/grid.yaml --set seeds=1 --filter 'estimator=iwae*'"))
@_grid
@_set
@_filter
@_results
@_keep_stale
@click.option(
    "--workers",
    type=click.IntRange(0),
    help="Cells at once, a process each; 0: in this process.  [default: cores]",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Torch threads of each cell.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="Seconds that one cell may take.")
@click.option("--exclusive", is_flag=True, help="One cell at a time, and again what was timed beside others.")
@click.option("--dry-run", is_flag=True, help="Show what would run, and stop.")
def run(
    grid: Path,
    overrides: tuple[str, ...],
    filters: tuple[str, ...],
    results: Path,
    keep_stale: bool,
    workers: int | None,
    threads: int,
    device: str,
    timeout: float | None,
    exclusive: bool,
    dry_run: bool,
) -> None:
    """Train and measure every cell of GRID that is not done yet.

    Run it again after an interruption, or after adding to the grid: nothing finished is computed twice. Exit code 0:
    all cells done, or skipped with a reason; 1: some failed; 2: the grid or the call is wrong.
    """
    asked = _read(grid, overrides, filters)
    from vbench.report import console

    if dry_run:
        console.show_plan(_plan(asked, results, keep_stale, exclusive))
        return
    sys.exit(
        console.run(
            asked,
            results=results,
            workers=workers,
            threads=threads,
            device=device,
            timeout=timeout,
            keep_stale=keep_stale,
            exclusive=exclusive,
        )
    )


@main.command(epilog=_example("vbench plan results/quickstart/grid.yaml"))
@_grid
@_set
@_filter
@_results
@_keep_stale
@_json
def plan(
    grid: Path,
    overrides: tuple[str, ...],
    filters: tuple[str, ...],
    results: Path,
    keep_stale: bool,
    as_json: bool,
) -> None:
    """Show what running GRID would do: cells to run, done, and skipped with the reason."""
    found = _plan(_read(grid, overrides, filters), results, keep_stale)
    from vbench.report import console

    if as_json:
        click.echo(json.dumps(console.plan_json(found), indent=2))
    else:
        console.show_plan(found)


def _read(grid: Path, overrides: tuple[str, ...], filters: tuple[str, ...]) -> Any:
    """The grid, or its mistakes before torch is loaded."""
    from vbench.grid import read_grid
    from vbench.listing import load_catalogue

    found = read_grid(grid, load_catalogue(), overrides)
    return found.filtered(filters) if filters else found


def _plan(grid: Any, results: Path, keep_stale: bool, exclusive: bool = False) -> Any:
    from vbench.study import make_plan

    return make_plan(grid, results=results, keep_stale=keep_stale, exclusive=exclusive)


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
