"""What a figure is: the numbers that it shows, and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vbench.report.evidence import Evidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["Chart"]


@dataclass(frozen=True)
class Chart:
    """One figure of a report.

    Attributes:
        name: of its files.
        title: its heading.
        shows: what is drawn against what, and what to read from it; without interval and counts, which are told apart.
        numbers: the numbers shown, with the columns of :data:`vbench.report.numbers.COLUMNS`.
        draw: into an empty figure, at most so many panels beside each other.

    ``numbers`` raises :class:`vbench.report.numbers.MissingError` where the study lacks what it needs.
    """

    name: str
    title: str
    shows: str
    numbers: Callable[[Evidence], DataFrame]
    draw: Callable[[Figure, Evidence, DataFrame, int], list[Axes]]

    def drawn(self, figure: Figure, study: Any, columns: int) -> list[Axes]:
        """Draw a study (a folder, or its frames) into an empty figure."""
        from vbench.report.evidence import evidence
        from vbench.report.figures.style import look

        found = evidence(study)
        with look():
            return self.draw(figure, found, self.numbers(found), columns)
