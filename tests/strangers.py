"""Plugin packages made on the fly, as pip would install them: a module and its metadata in a folder on the path."""

from __future__ import annotations

import tomllib
from pathlib import Path

GOOD = '''
"""A stranger's estimator."""
from typing import Annotated
from annotated_types import Ge
from vbench import hookimpl, ELBO, Estimate, Estimator, Trait


class Halved(Estimator):
    """Reparameterised ELBO under another name.

    Source: Nobody (2026), nothing.
    """

    needs = frozenset({Trait.PATHWISE})
    bound = ELBO()

    def __init__(self, k: Annotated[int, Ge(1), "samples"] = 1):
        super().__init__()
        self.k = k

    def forward(self, model, batch, rng):
        draw = model.posterior(batch).draw(rng, self.k)
        value = self.bound(model.log_joint(batch, draw.z) - draw.log_q)
        return Estimate(value.detach(), value)


@hookimpl
def vbench_estimators():
    return {"NAME": Halved}
'''


def install(folder: Path, distribution: str, source: str, version: str = "1.0", module: str = "") -> None:
    """Put a distribution with one entry point into ``folder``."""
    module = module or distribution.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[vbench]\n{module} = {module}\n")


def link(project: Path) -> Path:
    """Make a project's ``src`` a folder for the path, with the metadata that an editable install would have."""
    told = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))["project"]
    source = project / "src"
    info = source / f"{told['name'].replace('-', '_')}-{told['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {told['name']}\nVersion: {told['version']}\n")
    points = [f"{name} = {value}" for name, value in told["entry-points"]["vbench"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[vbench]", *points, ""]))
    return source
