"""Commands that show results: report, compare, reproduce, cite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from vbench.cli import options
from vbench.cli.group import example, main


@main.command(epilog=example("vbench report results/quickstart --format svg,pdf"))
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


@main.command(epilog=example("vbench compare results/quickstart --metric gradient_variance --baseline rloo --by part"))
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--metric", required=True, help="What is compared: gradient_variance, elbo, log_likelihood, ...")
@click.option("--baseline", required=True, metavar="ESTIMATOR", help="As rloo[k=4], or rloo where there is one.")
@click.option("--part", help="all, encoder, decoder, prior, or a layer of one.  [default: all]")
@click.option("--by", type=click.Choice(["part", "layer"]), help="A table for every one.")
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
@click.option("--paired", is_flag=True, help="Models, datum by datum on the same data; baseline: words that name one.")
@click.option("--json", "form", flag_value="json", help="For scripts: JSON on standard output.")
@click.option("--csv", "form", flag_value="csv", help="Every column, as CSV.")
@click.option("--latex", "form", flag_value="latex", help="A booktabs table.")
def compare(study: Path, form: str | None, paired: bool, **asked: Any) -> None:
    """Compare every estimator of STUDY with a baseline: paired by seed, with intervals, verdicts and cost.

    It reads records alone. What is positive by nature (variances, throughput) compares by ratios, nats by differences;
    variances compare within one estimand only. With --paired whole models compare, by what each makes of the same
    data. Exit code 0: compared; 2: the call is wrong.
    """
    if paired:
        other = [name for name in ("part", "by", "step", "margin", "tuned") if asked[name]]
        if other or asked["at"] != "k":
            raise click.UsageError(f"--paired compares values as they are kept: not with --{(other or ['at'])[0]}")
        from vbench.report import per_datum

        sys.exit(
            per_datum.show(study, form or "table", **{name: asked[name] for name in ("metric", "baseline", "split")})
        )
    from vbench.report import comparison_table

    sys.exit(comparison_table.show(study, form or "table", **asked))


@main.command(epilog=example("vbench reproduce results/quickstart --cells 4"))
@options.study
@click.option("--cells", type=click.IntRange(1), metavar="N", help="So many of them.  [default: all]")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keep the fresh results there; called again it goes on.  [default: a temporary folder]",
)
@click.option("--workers", type=click.IntRange(0), help="Cells at once, a process each.  [default: cores]")
@click.option("--threads", type=click.IntRange(1), help="Torch threads of each cell.  [default: as they had]")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or auto.")
@options.as_json
def reproduce(study: Path, **asked: Any) -> None:
    """Run the grid of STUDY again in a fresh folder, and list what came out otherwise, by cell and metric.

    Exit code 0: all that is no timing is identical to the bit, or within the 95% interval of its own error; 1:
    something is different (listed, with the versions that are); 2: the call is wrong.
    """
    from vbench.report import reproduction

    sys.exit(reproduction.reproduce(study, **asked))


@main.command(epilog=example("vbench cite results/quickstart > quickstart.bib"))
@click.argument("study", type=click.Path(path_type=Path), required=False)
def cite(study: Path | None) -> None:
    """Write BibTeX of vbench and of every method and dataset that STUDY, a results folder, used.

    The entries come from the sources in the components' documentation; what has none is named on standard error.
    """
    from vbench.report import citing

    sys.exit(citing.cite(study))
