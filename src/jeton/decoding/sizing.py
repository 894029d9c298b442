"""How many nodes of a draft are worth verifying on this machine."""

from collections.abc import Sequence

from jeton.lm.cost import CostTable


def best_num_nodes(survival: Sequence[float], cost: CostTable) -> int:
    """Return the number of nodes, best first, that gives the most tokens per second.

    With n nodes a step gives 1 + sum of their survival tokens in cost(n + 1) seconds. At the
    optimum the last node's survival exceeds the slope of the cost, relative to the cost, times
    the tokens of the step. Of one vocabulary, tokens per second and bytes per second rank alike.

    Args:
        survival: Estimated probability of each node to be accepted, any order.
        cost: Of the target's forward.

    Example:
        >>> table = CostTable([1, 2, 4], [1.0, 1.1, 2.0], 0, "toy", "float32")
        >>> best_num_nodes([0.5, 0.2, 0.1], table), best_num_nodes([0.05], table)
        (1, 0)
    """
    best, best_speed = 0, 1.0 / cost.seconds_for(1)
    tokens = 1.0
    for count, share in enumerate(sorted(survival, reverse=True), start=1):
        tokens += share
        speed = tokens / cost.seconds_for(count + 1)
        if speed > best_speed:
            best, best_speed = count, speed
    return best
