"""Estimators against each other and against their formulas written out, draw by draw."""

import math

import pytest
import torch

from tests import toys
from tests.estimators.truth import model as known
from tests.gradients import gradient_function
from vbench.builtin.decoders.linear_gaussian import LinearGaussianDecoder
from vbench.builtin.encoders.gaussian import GaussianEncoder
from vbench.builtin.priors.standard_normal import StandardNormalPrior
from vbench.estimators.dreg import dreg
from vbench.estimators.iwae import iwae
from vbench.estimators.nvil import nvil
from vbench.estimators.reinforce import reinforce
from vbench.estimators.renyi import renyi
from vbench.estimators.reparam import reparam
from vbench.estimators.rloo import rloo
from vbench.estimators.stl import stl
from vbench.estimators.vimco import vimco
from vbench.model import Model
from vbench.oracles import conjugate
from vbench.rng import Rng
from vbench.types import REAL_SPACE as _unused  # noqa: F401
