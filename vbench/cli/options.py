"""Arguments, options and their types that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import click

__all__ = ["EVERY_KIND", "KINDS", "Bytes", "Shard", "as_json", "planned", "study"]


class Shard(click.ParamType[tuple[int, int]]):
    """``2/8``: one of so many equal parts."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """(2, 8)."""
        part, _, parts = str(value).partition("/")
        if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
            self.fail(f"{value!r}: expected I/N, from 1/N to N/N", param, ctx)
        return int(part), int(parts)


class Bytes(click.ParamType[int]):
    """``4GiB``, ``500MB`` or bytes."""

    name = "size"
    _units: ClassVar = {"": 1, "B": 1} | {
        f"{prefix}{form}": base ** (place + 1)
        for place, prefix in enumerate("KMGT")
        for form, base in (("B", 1000), ("iB", 1024), ("", 1024))
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """In bytes."""
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
        units = {name.upper(): size for name, size in self._units.items()}
        if not found or found[2].upper() not in units:
            self.fail(f"{value!r}, expected a size such as 4GiB or 500MB", param, ctx)
        return int(float(found[1]) * units[found[2].upper()])


as_json = click.option("--json", "as_json", is_flag=True, help="For scripts: JSON on standard output.")
study = click.argument("study", type=click.Path(path_type=Path))

_PLANNED = (
    click.argument("grid", type=click.Path(path_type=Path)),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value of the grid."),
    click.option(
        "--filter", "filters", multiple=True, metavar="AXIS=GLOB", help="Only these cells; several are ANDed."
    ),
    click.option(
        "--results",
        default="results",
        show_default=True,
        help="Root folder of all studies.",
        type=click.Path(path_type=Path),
    ),
    click.option("--keep-stale", is_flag=True, help="Keep results whose code has since changed, marked."),
    click.option(
        "--rerun",
        type=click.Choice(["failed", "stale", "all"]),
        help="Which stored results are made again.  [default: failed and stale ones]",
    ),
    click.option(
        "--max-cells",
        type=click.IntRange(1),
        default=10_000,
        show_default=True,
        help="Ask before a grid with more.",
    ),
)


def planned(command: Callable[..., Any]) -> Callable[..., Any]:
    """What ``run`` and ``plan`` ask alike: a grid, and which of its cells are to be run."""
    for option in reversed(_PLANNED):
        command = option(command)
    return command


KINDS = click.Choice(["dataset", "encoder", "decoder", "prior", "estimator"])
EVERY_KIND = click.Choice([*KINDS.choices, "executor"])
