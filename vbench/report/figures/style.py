"""One look for all figures: colours that the colour-blind tell apart, with a shape beside each."""

from __future__ import annotations

import contextlib
import io
import itertools
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "Mark", "look", "marks", "save"]

INK: Final = "#24292f"
_FAINT: Final = "#c4ccd4"
# the palette of Okabe and Ito, darkened until each stands out 3 to 1 on white (and, its lightness inverted, on black)
_COLOURS: Final = ("#0072b2", "#c44e00", "#00805c", "#b0529b", "#9a6c00", "#2487b8", "#6e6e6e")
_SHAPES: Final = "osD^vPX<>"
_DASHES: Final = ("-", "--", "-.", ":")


class Mark(NamedTuple):
    """How one estimator looks, everywhere."""

    colour: str
    shape: str
    dash: str


def marks(names: Sequence[str]) -> dict[str, Mark]:
    """Colour, shape and dash of each name: 7 x 9 colours with shapes, so that 63 names all differ."""
    shapes = itertools.cycle(_SHAPES)
    return {
        name: Mark(_COLOURS[i % len(_COLOURS)], next(shapes), _DASHES[i // len(_COLOURS) % len(_DASHES)])
        for i, name in enumerate(names)
    }


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Matplotlib's settings while a figure is drawn or saved."""
    import matplotlib as mpl
    import seaborn as sns

    settings: Any = sns.axes_style("ticks") | sns.plotting_context("paper")
    settings |= {
        **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), INK),
        **{"axes.grid": True, "grid.color": _FAINT, "grid.linewidth": 0.6, "axes.axisbelow": True},
        **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8},
        **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8.5),
        **dict.fromkeys(("font.size", "axes.labelsize", "axes.titlesize"), 9),
        **{"axes.titlelocation": "left", "legend.frameon": False, "lines.markersize": 4.5, "lines.linewidth": 1.4},
        **{"font.family": ["DejaVu Sans"], "font.sans-serif": ["DejaVu Sans"]},
        "text.parse_math": False,  # a name may hold a dollar sign
        **{"svg.hashsalt": "vbench", "svg.fonttype": "none", "pdf.fonttype": 42},
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box is drawn in its place
        yield


def save(figure: Figure, kind: str, *, clear: bool = False) -> bytes:
    """A figure as a file: ``svg``, ``pdf`` or ``png``, the same bytes each time.

    Args:
        figure: to be saved.
        kind: of file.
        clear: without paper, to be laid on a page.
    """
    empty = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    sink = io.BytesIO()
    paper = {"transparent": True} if clear else {"facecolor": "white"}
    with look():
        figure.savefig(sink, format=kind, metadata=empty, dpi=200, **paper)
    return sink.getvalue()
