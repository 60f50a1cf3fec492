"""The machine, the data and the plugins on the terminal: data, doctor."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.text import Text

from vbench.discovery import version
from vbench.listing import load_catalogue
from vbench.report.components import plugins_json

__all__ = ["data", "doctor"]

_LIBRARIES = ("torch", "numpy", "pandas", "pyarrow", "pluggy", "pydantic", "scipy", "scikit-learn")


def _data_json() -> list[dict[str, Any]]:
    from vbench.builtin.datasets.files import statuses

    return [
        {
            "dataset": status.dataset,
            "file": status.file,
            "path": str(status.path),
            "state": status.state,
            "bytes": status.size,
            "sha256": status.sha256,
        }
        for status in statuses()
    ]


def data(action: str, names: Sequence[str], as_json: bool) -> int:
    """List the files of datasets that are not made here, or fetch some; returns the exit code."""
    from vbench.builtin.datasets.files import SOURCES, DataError, fetch

    unknown = [name for name in names if name not in SOURCES]
    if unknown:
        print(f"vbench: no files belong to {', '.join(unknown)}; known: {', '.join(SOURCES)}", file=sys.stderr)
        return 2
    if action == "fetch":
        if not names:
            print(f"vbench: say which: vbench data fetch {' '.join(SOURCES)}", file=sys.stderr)
            return 2
        for name in names:
            try:
                fetch(name)
            except DataError as error:
                print(f"vbench: {error}", file=sys.stderr)
                return 1
    rows = [row for row in _data_json() if not names or row["dataset"] in names]
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    console = Console()
    for row in rows:
        size = f"{row['bytes']:,} bytes" if row["bytes"] else ""
        console.print(Text(f"{row['dataset']:<12} {row['state']:<8} {row['path']}  {size}".rstrip()), soft_wrap=True)
    console.print(
        Text(f"looked for in $VBENCH_DATA ({os.environ.get('VBENCH_DATA') or 'not set'}), then in the user cache"),
        style="dim",
        soft_wrap=True,
    )
    return 0


def doctor(as_json: bool) -> int:
    """Versions, machine, data and plugins; returns 1 when something installed is broken."""
    import torch

    catalogue = load_catalogue(strict=False)
    found: dict[str, Any] = {
        "vbench": version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: _installed(name) for name in _LIBRARIES},
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "VBENCH_DATA": os.environ.get("VBENCH_DATA", ""),
        "data": {f"{row['dataset']}/{row['file']}": row["state"] for row in _data_json()},
        **plugins_json(catalogue),
    }
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        console = Console()
        for key, value in found.items():
            if isinstance(value, dict):
                value = ", ".join(f"{name} {item}" for name, item in value.items())
            elif isinstance(value, list):
                value = ", ".join(_one_line(item) for item in value) or "none"
            console.print(Text(f"{key}: {value}"), soft_wrap=True)
    return 1 if catalogue.broken or catalogue.clashes else 0


def _one_line(item: Any) -> str:
    if isinstance(item, dict):
        return f"{item['distribution']} {item['version']}" + (f" ({item['reason']})" if "reason" in item else "")
    return str(item)


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
