"""Fitting: many readouts at once on one read of the features, and their scores."""

from posjax.fitting.closed_form import Ridge
from posjax.fitting.scoring import predict, score
from posjax.fitting.sgd import SGD
from posjax.fitting.spec import (
    FEATURE_SIZE,
    Fitted,
    Readouts,
    ReadoutSpec,
    select_stages,
)

__all__ = [
    "FEATURE_SIZE",
    "SGD",
    "Fitted",
    "ReadoutSpec",
    "Readouts",
    "Ridge",
    "predict",
    "score",
    "select_stages",
]
