"""How each metric compares: as a ratio or a difference, by which error, and across which estimands."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["COSTED", "OWN_TARGET", "TIMED", "TO_TARGET", "Scale", "scale_of"]


class Scale(NamedTuple):
    """How two values of a metric compare.

    Attributes:
        ratio: positive by nature and compared by ratios; else by differences.
        draws: its recorded error is of gradient draws, for some with the spread between batches in it, so that one
            checkpoint has an interval. Errors over test data are no error of a difference on the same data.
        one_estimand: in the units of its estimand's gradient or value: it compares within one estimand only.
    """

    ratio: bool = False
    draws: bool = False
    one_estimand: bool = False


_SCALES: Final = {
    "gradient_variance": Scale(ratio=True, draws=True, one_estimand=True),
    "gradient_variance_per_weight": Scale(ratio=True, draws=True, one_estimand=True),
    "work_normalized_variance": Scale(ratio=True, draws=True, one_estimand=True),
    "gradient_variance_data": Scale(draws=True, one_estimand=True),
    "gradient_variance_binarization": Scale(draws=True, one_estimand=True),
    "gradient_bias_squared": Scale(draws=True),
    "gradient_bias": Scale(draws=True),
    "gradient_norm": Scale(ratio=True, draws=True, one_estimand=True),
    "bound": Scale(one_estimand=True),
    "bound_per_step": Scale(one_estimand=True),
    "gradient_relative_variance": Scale(ratio=True, draws=True),
    "gradient_snr": Scale(ratio=True, draws=True),
    "gradient_mse": Scale(ratio=True, draws=True),
    "gradient_relative_mse": Scale(ratio=True, draws=True),
    "gradient_cosine": Scale(draws=True),
    "noise_share": Scale(draws=True),
    "ess": Scale(ratio=True),
    "examples_per_second": Scale(ratio=True),
    "seconds_per_step": Scale(ratio=True),
    "peak_memory": Scale(ratio=True),
    "flops_per_step": Scale(ratio=True),
    "function_evaluations": Scale(ratio=True),
}

# They are to a target: one that all estimands share, unless it is each estimator's own.
TO_TARGET: Final = (
    *("gradient_bias", "gradient_bias_squared", "gradient_mse", "gradient_relative_mse", "gradient_cosine"),
)
OWN_TARGET: Final = "bound"
# They fall as 1/n when n gradients are averaged, so that value x cost compares at equal cost.
COSTED: Final = ("gradient_variance", "gradient_relative_variance")
# They are made of measured seconds, whose error no record holds.
TIMED: Final = ("work_normalized_variance", "examples_per_second", "seconds_per_step")


def scale_of(metric: str) -> Scale:
    """The metric's scale; one that is not known compares by differences over seeds, which holds for any."""
    return _SCALES.get(metric, Scale())
