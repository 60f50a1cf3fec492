"""Commands that look after results folders: log, verify, clean, merge."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vbench.cli import options
from vbench.cli.group import example, main


@main.command(epilog=example("vbench log results/quickstart vimco seed=0    (or the first digits of a key)"))
@options.study
@click.argument("words", nargs=-1, metavar="[WORD]...")
def log(study: Path, words: tuple[str, ...]) -> None:
    """Show what a cell of STUDY printed, and its traceback: the one cell that has every WORD.

    Where several have them, these are listed; without a WORD, those that failed. Exit code 2: no cell has them.
    """
    from vbench.report import upkeep

    sys.exit(upkeep.log(study, words))


@main.command(epilog=example("vbench verify results/quickstart"))
@options.study
def verify(study: Path) -> None:
    """Read every file of STUDY to the last bit; damaged ones are named and set aside, and their cells run again.

    Exit code 0: all are what was written; 1: some are not (listed); 2: the call is wrong.
    """
    from vbench.report import upkeep

    sys.exit(upkeep.verify(study))


@main.command(epilog=example("vbench clean results/quickstart --dry-run"))
@options.study
@click.option("--dry-run", is_flag=True, help="Show what would go, and stop.")
def clean(study: Path, dry_run: bool) -> None:
    """Remove from STUDY what is no result: leftovers of killed runs, logs of cells that are done, damaged files.

    Of weights that were kept, those go that belong to no attempt that counts; targets of gradients that were kept for
    the next cell go while no run is at work.
    """
    from vbench.report import upkeep

    sys.exit(upkeep.clean(study, dry_run=dry_run))


@main.command(epilog=example("vbench merge laptop/quickstart cluster/quickstart --into results/quickstart"))
@click.argument("studies", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="STUDY...")
@click.option("--into", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="The folder to be.")
def merge(studies: tuple[Path, ...], into: Path) -> None:
    """Make one results folder of several: every attempt byte for byte, with a grid that crosses all of it.

    Nothing is overwritten, and after an interruption the same command goes on. Exit code 0: merged; 1: damaged files
    were left out (listed); 2: the call is wrong.
    """
    from vbench.report import upkeep

    sys.exit(upkeep.merge(studies, into))
