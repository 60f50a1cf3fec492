"""Commands about this machine: data, doctor."""

from __future__ import annotations

import sys

import click

from vbench.cli import options
from vbench.cli.group import example, main


@main.command(epilog=example("vbench data fetch mnist"))
@click.argument("action", type=click.Choice(["list", "fetch"]), default="list")
@click.argument("names", nargs=-1)
@options.as_json
def data(action: str, names: tuple[str, ...], as_json: bool) -> None:
    """Show which data are at hand and where they are looked for, or fetch some."""
    from vbench.report import environment

    sys.exit(environment.data(action, names, as_json))


@main.command(epilog=example("vbench doctor"))
@options.as_json
def doctor(as_json: bool) -> None:
    """Report versions, cores, devices, data and plugins: what to put into a bug report."""
    from vbench.report import environment

    sys.exit(environment.doctor(as_json))
