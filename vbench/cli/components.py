"""Commands about what can be crossed: list, show, check, plugins, new-plugin."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from vbench.cli import options
from vbench.cli.group import example, main


@main.command("list", epilog=example("vbench list estimator"))
@click.argument("kind", type=options.EVERY_KIND, required=False)
@options.as_json
def list_(kind: str | None, as_json: bool) -> None:
    """List what can be crossed: datasets, encoders, decoders, priors, estimators; and executors, which run it."""
    from vbench.listing import load_catalogue
    from vbench.report import components

    catalogue = load_catalogue()
    if as_json:
        click.echo(json.dumps(components.list_json(catalogue, kind), indent=2))
    else:
        components.show_list(catalogue, kind)


@main.command(
    epilog=example("vbench show vimco    (or encoder:bernoulli, where kinds share a name; or a kind: estimator)")
)
@click.argument("name")
def show(name: str) -> None:
    """Show one component: what it does, its source and its parameters; or what a kind must provide."""
    from vbench.listing import load_catalogue
    from vbench.report import components

    sys.exit(components.show(load_catalogue(), name))


@main.command(epilog=example("vbench check vimco 'rloo[k=2]' encoder:bernoulli    (or: --study results/quickstart)"))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--plugin", metavar="DIST", help="Everything that one distribution, or one Python file, registers.")
@click.option("--all", "everything", is_flag=True, help="Everything that is registered.")
@click.option(
    "--study",
    type=click.Path(path_type=Path),
    help="Every estimator of a study as it used it; the verdicts are kept beside its records.",
)
@options.as_json
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
    from vbench.listing import load_catalogue, load_file

    if plugin and plugin.endswith(".py"):
        plugin = load_file(plugin)
    named_components(names, load_catalogue(), plugin)  # a wrong name is told before torch loads
    from vbench.report import judgement

    sys.exit(judgement.check(names, plugin, as_json))


@main.command(epilog=example("vbench plugins"))
@options.as_json
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


@main.command("new-plugin", epilog=example("vbench new-plugin my-encoder --kind encoder"))
@click.argument("name")
@click.option("--kind", type=options.KINDS, default="estimator", show_default=True, help="What it adds.")
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
