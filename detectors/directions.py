"""Directions in which a window varies more, or less, than independent events would, and how much in each.

Dependence makes φ of a few scores of the ranks larger than that of all others; knowing the season makes it smaller in
those directions in which the parts of the season differ. Both together are one covariance, whose eigenvectors are
directions of their own. Pure. Used by `bridge_law`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from detectors.dependence import SCORES, rank_scores
from detectors.types import FloatArray

_MOST: Final = 40
_NOTHING: Final = 1e-3  # of φ: a direction that differs so little from the others is one of them


def directions(weights: FloatArray, phi: FloatArray, between: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Return scores of points and φ of each.

    Args:
        weights: Of the points, shape (k,).
        phi: φ of the scores of `dependence`, the last of all other directions; shape (scores + 1,).
        between: How the shares of the points in each part of the season differ from those of all parts, times the root
            of the share of the part; shape (parts, k). None: the season is not known.

    Returns:
        Scores with mean 0 and variance 1, shape (k, directions), and φ of each, shape (directions,).
    """
    scores = rank_scores(weights, SCORES)
    own, rest = phi[:-1][: scores.shape[1]], float(phi[-1])
    scores = scores[:, : len(own)]
    if between is None:
        return scores, own
    root = np.sqrt(weights / max(float(np.sum(weights)), 1.0))
    unit = scores * root[:, None]
    grown = np.sqrt(rest) * np.eye(len(root)) + (unit * (np.sqrt(own) - np.sqrt(rest))) @ unit.T
    apart = (between / root) @ grown
    covariance = grown @ grown - apart.T @ apart
    mean = np.eye(len(root)) - np.outer(root, root)
    excess, vectors = np.linalg.eigh(mean @ (covariance - rest * np.eye(len(root))) @ mean)
    order = np.argsort(-np.abs(excess))[:_MOST]
    order = order[np.abs(excess[order]) > _NOTHING * rest]
    return vectors[:, order] / root[:, None], np.maximum(rest + excess[order], 0.0)
