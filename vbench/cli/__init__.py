"""The command line: thin commands, no logic. Nothing heavy is imported before a command needs it."""

from vbench.cli import components, environment, results, running, upkeep
from vbench.cli.group import main

__all__ = ["components", "environment", "main", "results", "running", "upkeep"]
