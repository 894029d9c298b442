"""How far a draft's distribution is from the target's, as losses."""

import math
from collections.abc import Callable

from torch import Tensor


def forward_kl(target: Tensor, draft: Tensor) -> Tensor:
    """Return KL(target, draft) in nats per place, shape (...), of logprobs (..., vocab)."""
    return (target.exp() * (target - draft)).sum(-1)


def reverse_kl(target: Tensor, draft: Tensor) -> Tensor:
    """Return KL(draft, target) in nats per place."""
    return (draft.exp() * (draft - target)).sum(-1)


def jsd(target: Tensor, draft: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence in nats per place, both sides weighing one half."""
    middle = target.logaddexp(draft) - math.log(2)
    return 0.5 * (forward_kl(target, middle) + forward_kl(draft, middle))


def tvd(target: Tensor, draft: Tensor) -> Tensor:
    """Return the total variation distance per place: 1 - what speculative sampling accepts."""
    return 0.5 * (target.exp() - draft.exp()).abs().sum(-1)


DIVERGENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jsd": jsd,
    "tvd": tvd,
}
