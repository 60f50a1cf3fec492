"""The whole contract: what flows between parts, and what each part must be.

Letters everywhere: K samples per datum, B batch, D latent, X data, Z latent event. Samples lead: ``[K, B, *Z]``.
Everything a third party writes is one of five parts (encoder, decoder, prior, estimator, dataset).
"""

from vbench.types.estimands import Atoms, Bound, Objective, Parts, Target
from vbench.types.parts import (
    Dataset,
    Decoder,
    Density,
    Encoder,
    Estimator,
    Likelihood,
    Natural,
    Posterior,
    Prior,
    Refittable,
)
from vbench.types.values import Batch, Draw, Estimate, Incompatible, Space, Support, Trait

__all__ = [
    "Atoms",
    "Batch",
    "Bound",
    "Dataset",
    "Decoder",
    "Density",
    "Draw",
    "Encoder",
    "Estimate",
    "Estimator",
    "Incompatible",
    "Likelihood",
    "Natural",
    "Objective",
    "Parts",
    "Posterior",
    "Prior",
    "Refittable",
    "Space",
    "Support",
    "Target",
    "Trait",
]
