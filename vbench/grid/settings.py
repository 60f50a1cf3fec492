"""How a cell is trained and what is measured: the models behind ``train`` and ``measure``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

__all__ = [
    "AIS",
    "EXACT_TARGETS",
    "UNTOLD",
    "Budget",
    "Gradients",
    "InferenceGap",
    "Inner",
    "LogLikelihood",
    "Measure",
    "Reference",
    "SampleQuality",
    "Settings",
    "Train",
    "log_spaced",
]

EXACT_TARGETS = ("evidence", "bound")
# the same at a step, whatever follows
_STEADY = frozenset({"steps", "batch", "optimizer", "lr", "clip", "inner", "schedule", "warmup", "step_size", "gamma"})
_ENDLESS = ("constant", "step")  # schedules that know of no last step
_DEAR = ("ais", "inference_gap", "sample_quality")
_LATER = ("checkpoints", "target", "target_draws", "posterior", "layers", "binarization")
# what a spec of ``train`` leaves out: a field that came later changes no key where it does nothing
UNTOLD: Mapping[str, Any] = {"inner": None, "budget": None, "patience": None, "schedule": "constant", "warmup": 0}
_FALLS = ("step_size", "gamma")  # said where there are any


class Settings(BaseModel):
    """Typed to the letter, and never changed."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Inner(Settings):
    """A loop over one part before each step of the others: coordinate ascent, or an aggressively trained encoder.

    Attributes:
        batches: the loop stays on the step's own data, or sees others at each of its steps.
        until: after this share of training all parts move together.
    """

    part: Literal["encoder", "decoder", "prior"] = "encoder"
    steps: Annotated[int, Ge(1), "steps of that part alone"] = 10
    batches: Literal["same", "fresh"] = "same"
    until: Annotated[float, Gt(0), Le(1), "share of training"] = 1.0


class Budget(Settings):
    """What ends training instead of a number of steps: the step that spends it is the last one.

    Attributes:
        evaluations: of the decoder, one for each datum and sample, as the column ``evaluations`` counts them.
        seconds: of training alone. At which step it ends is the machine's affair.
    """

    evaluations: Annotated[int, Ge(1), "decoder evaluations"] | None = None
    seconds: Annotated[float, Gt(0), "seconds of training"] | None = None

    @model_validator(mode="after")
    def _one(self) -> Budget:
        if (self.evaluations is None) == (self.seconds is None):
            raise ValueError("expected evaluations or seconds")
        return self

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if value is not None}


class Train(Settings):
    """How a cell is trained.

    Attributes:
        steps: 0 trains nothing: gradients are measured at the reference's checkpoints, and nothing else.
        optimizer: ``natural-gradient`` is for encoders with parameters of each datum's own; the rest goes on by Adam.
        schedule: ``cosine`` and ``linear`` fall to zero at the last step, ``step`` by ``gamma`` every ``step_size``.
        budget: in place of ``steps``, which mean nothing then.
        patience: training ends when the validation ELBO was no better than before so many times in a row.
    """

    steps: Annotated[int, Ge(0), "optimiser steps"] = 1000
    batch: Annotated[int, Ge(1), "data per step"] = 100
    optimizer: Literal["adam", "sgd", "rmsprop", "adamw", "natural-gradient"] = "adam"
    lr: Annotated[float, Gt(0), "learning rate"] = 1e-3
    clip: Annotated[float, Gt(0), "global gradient norm to clip at"] | None = None
    schedule: Annotated[Literal["constant", "cosine", "linear", "step"], "of the learning rate"] = "constant"
    warmup: Annotated[int, Ge(0), "first steps, over which the learning rate rises in a line"] = 0
    step_size: Annotated[int, Ge(1), "steps between two falls; with schedule step"] = 1000
    gamma: Annotated[float, Gt(0), Lt(1), "what a fall leaves of the learning rate; with schedule step"] = 0.1
    inner: Inner | None = None
    budget: Budget | None = None
    patience: Annotated[int, Ge(1), "measurements without a better validation ELBO"] | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Train:
        if self.budget and "steps" in self.model_fields_set:
            raise ValueError("either steps or a budget")
        return self

    @property
    def looped(self) -> int:
        """How many steps, the first ones, have an inner loop before them."""
        return math.ceil(self.inner.until * self.steps) if self.inner else 0

    def goes_on_from(self, shorter: Train) -> bool:
        """Whether its first steps are all those of ``shorter``, bit for bit, as far as these settings go."""
        same = shorter.model_copy(update={"steps": self.steps}) == self
        # a field that came later may depend on the number of steps: only where it does nothing is that known
        others = Train.model_fields.keys() - _STEADY
        plain = all(getattr(self, name) == Train.model_fields[name].default for name in others)
        plain = plain and self.schedule in _ENDLESS
        return same and plain and 0 < shorter.steps < self.steps and shorter.looped == min(self.looped, shorter.steps)

    @property
    def updates(self) -> int:
        """Optimiser steps in all, those of inner loops among them, where ``steps`` say it."""
        return self.steps + (self.looped * self.inner.steps if self.inner else 0)

    @property
    def length(self) -> tuple[str, float]:
        """What training is counted in, ``updates``, ``evaluations`` or ``seconds``, and how many of it there are."""
        if self.budget is None:
            return "updates", self.updates
        return next((name, value) for name, value in self.budget if value is not None)

    @model_serializer(mode="wrap")
    def _told(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # what came later stands in a spec only where it is used: keys of older results stay
        told = {name: value for name, value in dump(self).items() if value != UNTOLD.get(name, UNTOLD)}
        dropped = [*_FALLS, "steps"] if self.budget else _FALLS
        falls = {"step_size": self.step_size, "gamma": self.gamma} if self.schedule == "step" else {}
        return {name: value for name, value in told.items() if name not in dropped} | falls


class Reference(Train):
    """How the run is trained at whose frozen parameters every estimator is measured.

    Attributes:
        estimator: written out in full; None for the host's choice.
    """

    estimator: Annotated[str, "estimator of the reference run"] | None = None

    @property
    def train(self) -> Train:
        """The same without the estimator."""
        return Train(**self.model_dump(exclude={"estimator"}))


class Gradients(Settings):
    """How gradient variance is measured.

    Attributes:
        batch: None for the cell's training batch size.
        reference, checkpoints: of ``at: shared``: the run, and its steps to measure at, in order; what is read has
            initialisation and the last step among them.
        target: what bias and error are to: ``evidence``, ``bound`` (each estimator's own), or the expectation of an
            estimator, written out in full; None for no such measure.
        target_draws: of that estimator, where no exact answer is known.
        posterior: whether to measure by what the encoder returns too, part ``posterior``.
        layers: whether to measure each layer too, part ``encoder.net.0``.
        binarization: whether to tell the part of drawing bits in the data variance; it takes as many draws again.
    """

    draws: Annotated[int, Ge(2), "gradient draws per batch"] = 100
    batches: Annotated[int, Ge(1), "fixed batches"] = 4
    batch: Annotated[int, Ge(1), "data per batch"] | None = None
    at: Literal["shared", "own"] = "own"
    reference: Reference | None = None
    checkpoints: tuple[int, ...] = ()
    warmup: Annotated[int, Ge(0), "steps that an adaptive control gets on other batches"] = 200
    target: Annotated[str, "evidence, bound, or an estimator"] | None = None
    target_draws: Annotated[int, Ge(2), "gradient draws of the target per batch"] | None = None
    posterior: Annotated[bool, "measure by loc and log scale, or logits, too"] = False
    layers: Annotated[bool, "measure each layer of a part too"] = False
    binarization: Annotated[bool, "tell drawing bits apart from drawing data"] = False

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # what came later stands in a spec only where it says something: keys of older results stay
        return {name: value for name, value in dump(self).items() if name not in _LATER or value}


class LogLikelihood(Settings):
    """How held-out log-likelihood is estimated.

    Attributes:
        method: importance sampling, or an estimator whose lower bound is the estimate, written out in full.
        k: of either; of importance sampling there may be several, smallest first.
    """

    method: Annotated[str, "iwae, or an estimator whose bound of k samples is taken"] = "iwae"
    k: Annotated[int, Ge(1), "samples per datum"] | tuple[Annotated[int, Ge(1), "of each rung of a ladder"], ...] = 500


class AIS(Settings):
    """How log-likelihood is estimated by annealed importance sampling, and bracketed on simulated data.

    Attributes:
        data: None for all of them; validation data serve where there are no test data.
        simulated: data that the model makes, on which there is a bound from above too; 0: none.
    """

    chains: Annotated[int, Ge(1), "chains per datum"] = 16
    temperatures: Annotated[int, Ge(1), "steps from the initial distribution to the joint"] = 1000
    leapfrog: Annotated[int, Ge(1), "leapfrog steps of each transition"] = 10
    start: Annotated[Literal["prior", "encoder"], "what chains start from"] = "prior"
    schedule: Annotated[Literal["sigmoid", "linear"], "of the temperatures"] = "sigmoid"
    acceptance: Annotated[float, Gt(0), Lt(1), "that pilot chains tune the step size to"] = 0.65
    pilot: Annotated[int, Ge(1), "temperatures of the pilot chains"] = 100
    data: Annotated[int, Ge(1), "test data that are used at most"] | None = 100
    simulated: Annotated[int, Ge(0), "simulated data"] = 100


class InferenceGap(Settings):
    """How the gap between evidence and ELBO is measured, and split into approximation and amortization."""

    k: Annotated[int, Ge(1), "importance samples per datum"] = 500
    steps: Annotated[int, Ge(1), "steps towards the best posterior"] = 300
    lr: Annotated[float, Gt(0), "learning rate of these steps"] = 0.05
    samples: Annotated[int, Ge(1), "posterior draws per datum"] = 200
    data: Annotated[int, Ge(1), "validation and test data that are used at most"] | None = 200


class SampleQuality(Settings):
    """How samples of the model are held against held-out data, and shown."""

    samples: Annotated[int, Ge(2), "samples, and test data, at most"] = 1000
    neighbors: Annotated[int, Ge(1), "that tell how far a manifold reaches"] = 3
    permutations: Annotated[int, Ge(1), "relabellings of the two-sample test"] = 200


class Measure(Settings):
    """What is measured, and when.

    Attributes:
        every: None for the last step only.
        data: None for all of them.
    """

    every: Annotated[int, Ge(1), "steps between measurements"] | None = None
    samples: Annotated[int, Ge(1), "posterior draws per datum"] = 16
    data: Annotated[int, Ge(1), "validation and test data that are used at most"] | None = None
    gradients: Gradients | None = None
    log_likelihood: LogLikelihood | None = None
    ais: AIS | None = None
    inference_gap: InferenceGap | None = None
    sample_quality: SampleQuality | None = None

    @model_serializer(mode="wrap")
    def _told(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in dump(self).items() if name not in _DEAR or value}

    def steps(self, last: int) -> tuple[int, ...]:
        """The steps after which something is measured, the last one among them.

        >>> Measure(every=400).steps(1000)
        (400, 800, 1000)
        """
        return (*range(self.every, last, self.every), last) if self.every else (last,)


def log_spaced(count: int, last: int) -> tuple[int, ...]:
    """Initialisation, the last step, and steps between them by which s + 1 grows by one factor.

    >>> log_spaced(5, 1000)
    (0, 5, 31, 177, 1000)
    """
    return tuple(sorted({round((last + 1) ** (i / (count - 1))) - 1 for i in range(count)}))
