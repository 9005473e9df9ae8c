"""Ridge: the linear readout in closed form, from one sum over the images.

A linear readout predicts U(X w + b): X are the columns of the features, one for each tap and
channel of the kernel, a row for each pixel of the response, and U is the bilinear upsampling to
the map's size. For a target t its weights and bias minimise

    mean over images of mean over pixels of (U(X w + b) - t)²  +  λ |w|².

The bias is not penalised, and nothing is squashed into [0, 1]. λ is a relative penalty times the
mean diagonal of the centred Gram matrix, that is the mean variance of a column of U X: the same
penalty means the same for features of any scale and for any number of images. Columns are not
standardised, as weight decay does not standardise them either.

With the QR decomposition U / √pixels = Q R, which is separable, the error is |Z w + b R1 - Qᵀt|²
plus a constant, for Z = R X. All that it needs to know of the images is Σ ZᵀZ and Σ Z, whatever
the targets and the penalties are. The penalty of each target is the one of `PENALTIES` with the
smallest error, a quadratic form, on images that were held out; then all images are fitted.

Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, sections 3.4.1 and 7.10.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from posjax.probes.moments import Moments
from posjax.probes.readout import Readout
from posjax.probes.scores import PenaltyPath
from posjax.probes.trainer import target_for

# Relative to the mean variance of a column. Below the last, the rounding of float32 products
# weighs as much as the penalty; above the first, predictions are all but constant.
PENALTIES = tuple(10.0**e for e in range(3, -6, -1))
CONSTANT = 1e-5  # relative variation that is rounding: float32 encoders differ by as much


class Ridge(NamedTuple):
    """Readouts of t targets, stacked along a first axis: errors are mean squared on all images."""

    variables: dict[str, Any]
    error: Float[np.ndarray, " t"]
    path: PenaltyPath


def fit_ridge(
    readout: Readout,
    fitted: Moments,
    held_out: Moments,
    shift: Float[np.ndarray, " c"],
    targets: Float[np.ndarray, "t h w"],
    penalties: Sequence[float] = PENALTIES,
) -> Ridge:
    """Fits a linear readout to every target, with the penalty that is best for `held_out`.

    `penalties` are relative to the mean variance of a column, above 0; of equal errors the first
    wins. In the end both sets of images are fitted together.

    Raises:
        ValueError: the targets do not have the readout's map size.
        FloatingPointError: an error is not finite.
    """
    goals = _goals(readout, targets)
    level = np.tile(np.abs(shift), readout.kernel_size**2).astype(np.float64)
    solutions = _solve(fitted, goals, penalties, level)
    errors = np.stack([_error(held_out, goals, *solution) for solution in solutions])
    best = errors.argmin(axis=0)

    whole = Moments(
        fitted.count + held_out.count, fitted.gram + held_out.gram, fitted.total + held_out.total
    )
    weights, bias = np.empty((len(level), len(targets))), np.empty(len(targets))
    chosen = np.unique(best)
    solutions = _solve(whole, goals, [penalties[i] for i in chosen], level)
    for i, (w, b) in zip(chosen, solutions, strict=True):
        weights[:, best == i], bias[best == i] = w[:, best == i], b[best == i]
    error = _error(whole, goals, weights, bias)
    if not (np.isfinite(errors).all() and np.isfinite(error).all()):
        raise FloatingPointError(f"held-out errors {errors} and training errors {error}")
    kernel = weights.T.reshape(len(targets), readout.kernel_size, readout.kernel_size, -1, 1)
    bias -= np.einsum("tijcd,c->t", kernel, shift.astype(np.float64))
    conv = {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)[:, None]}
    path = np.array(penalties, np.float64)
    return Ridge({"params": {"conv1": conv}}, error, PenaltyPath(path, errors, path[best]))


class _Goals(NamedTuple):
    """Qᵀt for every target, R1, and the squared error that no response can take away."""

    whitened: Float[np.ndarray, "p t"]
    ones: Float[np.ndarray, " p"]
    residual: Float[np.ndarray, " t"]


def _goals(readout: Readout, targets: Float[np.ndarray, "t h w"]) -> _Goals:
    whitened, residual = map(np.asarray, target_for(readout, targets))
    # U maps ones to ones.
    ones = np.asarray(target_for(readout, np.ones(readout.map_size)).target)
    return _Goals(whitened.reshape(len(targets), -1).T, ones.ravel(), residual)


def _solve(
    moments: Moments, goals: _Goals, penalties: Sequence[float], level: Float[np.ndarray, " d"]
) -> Iterator[tuple[Float[np.ndarray, "d t"], Float[np.ndarray, " t"]]]:
    """Weights and biases on shifted columns, for one penalty after the other.

    `level` is what was taken off each column. One that varies by rounding alone is constant.
    """
    mean = goals.ones @ moments.total / moments.count
    goal_mean = goals.ones @ goals.whitened
    cross = moments.total.T @ goals.whitened / moments.count - np.outer(mean, goal_mean)
    centred = moments.gram / moments.count
    for row, value in zip(centred, mean, strict=True):  # an outer product would be another matrix
        row -= value * mean
    diagonal = np.einsum("ii->i", centred)  # a view
    squares = np.einsum("ii->i", moments.gram) / moments.count
    constant = diagonal <= np.maximum(CONSTANT * squares, (CONSTANT * level) ** 2)
    for array in (centred, centred.T, cross):
        array[constant] = 0
    variances = diagonal.copy()
    # Columns that are all constant leave nothing to divide by, and no weight.
    scale = variances.mean() or 1.0
    for penalty in penalties:
        diagonal[:] = variances + penalty * scale
        weights = np.linalg.solve(centred, cross)
        yield weights, goal_mean - mean @ weights


def _error(
    moments: Moments,
    goals: _Goals,
    weights: Float[np.ndarray, "d t"],
    bias: Float[np.ndarray, " t"],
) -> Float[np.ndarray, " t"]:
    """Mean squared errors at the map's size."""
    squares = np.sum(weights * (moments.gram @ weights), axis=0)
    rest = bias * goals.ones[:, None] - goals.whitened
    products = np.sum((moments.total @ weights) * rest, axis=0)
    return (squares + 2 * products) / moments.count + np.sum(rest**2, axis=0) + goals.residual
