"""The group that every command joins."""

from __future__ import annotations

from typing import Any

import click

from vbench.discovery import version

__all__ = ["example", "main"]


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


def example(text: str) -> str:
    """What stands below a command's help."""
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
