"""Cross-fitted linear classifiers: each item is judged by one that has seen neither it nor anything of its group.

Ridge regression on the classes' indicators, which ranks classes as linear discriminant analysis does (Hastie, Buja and
Tibshirani 1995) and is solved at once, for all classes of all labels together: a thousand images take a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg

Matrix = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

#: Classifiers that share the training items: each has seen all parts of them but one.
FOLDS = 5
#: Penalty on the weights, per standardized feature.
RIDGE = 0.3
#: Features that hardly vary in training would otherwise decide alone about an image in which they do.
_LEAST_DEVIATION = 0.02


def fold_of(group_id: str) -> int:
    """The fold that has not seen a group, by hash of its id: what else there is does not change it."""
    return int.from_bytes(hashlib.sha256(group_id.encode("utf-8", "surrogatepass")).digest()[:4]) % FOLDS


def folds_of(group_ids: Iterable[str]) -> Indices:
    """`fold_of` each, `(n,)`."""
    return np.array([fold_of(group_id) for group_id in group_ids], np.int64)


@dataclass(frozen=True)
class CrossFitted:
    """One classifier per fold, each trained on the items of all other folds.

    Parameters
    ----------
    weights
        `(FOLDS, features, classes)`.
    bias
        `(FOLDS, classes)`.
    prior
        `(FOLDS, classes)`: shares of the classes among the items that the classifier was trained on.
    """

    weights: Matrix
    bias: Matrix
    prior: Matrix

    def scores(self, features: Matrix, folds: Indices) -> Matrix:
        """How much more each class is seen than it is frequent, `(n, classes)`, by the classifiers of these folds."""
        found = np.zeros((len(features), self.weights.shape[2]), np.float32)
        for fold in np.unique(folds):
            rows = folds == fold
            found[rows] = features[rows] @ self.weights[fold] + (self.bias[fold] - self.prior[fold])
        return found

    def of(self, classes: slice) -> CrossFitted:
        """The classifiers of some of the classes."""
        return CrossFitted(self.weights[..., classes], self.bias[..., classes], self.prior[..., classes])

    def predict(self, features: Matrix, folds: Indices) -> Indices:
        """Index of the likeliest class, `(n,)`."""
        likeliest: Indices = (self.scores(features, folds) + self.prior[folds]).argmax(axis=1)
        return likeliest


def cross_fit(features: Matrix, indicators: Matrix, folds: Indices) -> CrossFitted:
    """Train the classifiers of all folds.

    Parameters
    ----------
    features
        `(n, features)`.
    indicators
        `(n, classes)`: 1 for the class of an item, or for one of each of several labels; an item may have none.
    folds
        `(n,)`: of each item's group, see `fold_of`. No fold may hold all items.
    """
    fitted = [_fit(features[folds != fold], indicators[folds != fold]) for fold in range(FOLDS)]
    return CrossFitted(*(np.stack(parts) for parts in zip(*fitted, strict=True)))


def _fit(features: Matrix, indicators: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), _LEAST_DEVIATION)
    standardized = (features - mean) / scale
    prior = indicators.mean(axis=0)
    products = (standardized.T @ standardized).astype(np.float64)
    products[np.diag_indices_from(products)] += RIDGE * features.shape[1]
    weights = scipy.linalg.solve(products, standardized.T @ (indicators - prior), assume_a="pos").astype(np.float32)
    weights /= scale[:, None]
    return weights, prior - mean @ weights, prior
