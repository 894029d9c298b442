"""Statistics that several figures share."""

import numpy as np
import numpy.typing as npt


def gini(amounts: npt.NDArray[np.int64]) -> float:
    """Return the Gini coefficient: 0 when all are equal, towards 1 when one has everything.

    Example:
        >>> gini(np.array([1, 1, 1])), gini(np.array([0, 0, 3]))
        (0.0, 0.6666666666666666)
    """
    ordered = np.sort(amounts).astype(np.float64)
    if not len(ordered) or ordered.sum() == 0:
        return 0.0
    weights = 2 * np.arange(1, len(ordered) + 1) - len(ordered) - 1
    return float((weights * ordered).sum() / (len(ordered) * ordered.sum()))
