"""The optimal transport between k drawn tokens and the target: its value and its plan.

Of all rules that pick one of k drafted tokens, or none, and leave the target's law as it is, which
one picks most often? That is a transport problem with a cost of one for every token that was not
drafted. By duality (largest flow, smallest cut) its optimum is the least of
target(S) + P(some draw is not in S) over all sets S of tokens; among the tokens in the order of
target / draft only beginnings need to be looked at.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from jeton.errors import ConfigError

MAX_DISTINCT = 16  # draws without replacement; more would overflow the products below
_CAP = 30.0  # of a rate times a time: exp(-30) = 1e-13 is the precision of the sum
_STEP = 0.125  # of the logarithm of time; the trapezoid rule is exact to 1e-12 from 0.2 on
_CHUNK = 1 << 20  # numbers per block of times


@dataclass(frozen=True, slots=True)
class Plan:
    """An optimal rule for draws with replacement, in two decisions.

    Every drawn token rises to a random level, the token of the highest level is picked (equal
    ones at random), and the pick is judged as a single draft from the law `picked`.

    Attributes:
        bins: The bin of each token, shape (vocab,), -1 where the draft is zero.
        levels: The law of the level, given the bin, shape (bins, bins), float64.
        picked: The law of the picked token, shape (vocab,), float64.
    """

    bins: Tensor
    levels: Tensor
    picked: Tensor


def optimal_acceptance(
    target: Tensor, draft: Tensor, num_drafts: int, *, with_replacement: bool = True
) -> float:
    """Return the largest probability with which any exact rule keeps one of k drawn tokens.

    Args:
        target: Law of the target, shape (vocab,).
        draft: Law of the first draw, shape (vocab,).
        num_drafts: Draws, at least 1; without replacement at most `MAX_DISTINCT`.
        with_replacement: Whether a drawn token may be drawn again.
    Raises:
        ConfigError: the number of draws is out of range.

    Example:
        >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
        >>> [round(optimal_acceptance(p, q, k), 3) for k in (1, 2, 4)]
        [0.6, 0.69, 0.844]
        >>> optimal_acceptance(p, q, 2, with_replacement=False)
        1.0
    """
    if num_drafts < 1 or (num_drafts > MAX_DISTINCT and not with_replacement):
        raise ConfigError(
            f"num_drafts must be 1 or more, without replacement at most {MAX_DISTINCT}; "
            f"got {num_drafts}"
        )
    _, p, q = _by_ratio(target, draft)
    if with_replacement or num_drafts == 1:
        inside = q.cumsum(-1).clamp(max=1.0) ** num_drafts
    else:
        inside = _all_inside(q, num_drafts)
    inside[-1] = 1.0  # all draws are among the tokens that can be drawn
    return 1.0 - max(0.0, float((inside - p.cumsum(-1)).max()))


def optimal_plan(target: Tensor, draft: Tensor, num_drafts: int, *, num_bins: int = 128) -> Plan:
    """Return a rule that reaches `optimal_acceptance` for draws with replacement.

    Where more than `num_bins` tokens can be drawn, tokens of about the same target / draft share
    a bin: the rule stays exact and loses a little acceptance.

    Args:
        target: Law of the target, shape (vocab,), float64.
        draft: Law of the draws, shape (vocab,), float64.
        num_drafts: Draws, at least 1.
        num_bins: Upper bound on the bins.
    """
    order, p, q = _by_ratio(target, draft)
    places = _share_bins((p + q).cumsum(-1), num_bins)
    size = int(places[-1]) + 1
    p_bins = torch.zeros(size, dtype=torch.float64).index_add_(0, places, p)
    q_bins = torch.zeros(size, dtype=torch.float64).index_add_(0, places, q)
    inside = q_bins.cumsum(-1).clamp(max=1.0) ** num_drafts
    inside[-1] = 1.0
    # Picked per draft mass when the highest bin always wins; levels spread it to what is wanted.
    greedy = torch.diff(inside, prepend=torch.zeros(1, dtype=torch.float64)) / q_bins
    levels = _mix(greedy.tolist(), _wanted(p_bins, q_bins, inside).tolist(), q_bins.tolist())
    picked = torch.zeros_like(draft)
    picked[order] = q * (levels @ greedy)[places]
    bins = torch.full_like(draft, -1, dtype=torch.int64)
    bins[order] = places
    return Plan(bins, levels, picked)


def _by_ratio(target: Tensor, draft: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tokens that can be drawn by increasing target / draft, and both laws of them."""
    target, draft = target.double().cpu(), draft.double().cpu()
    support = draft.nonzero()[:, 0]
    order = support[(target[support] / draft[support]).argsort(stable=True)]
    return order, target[order], draft[order]


def _share_bins(mass: Tensor, num_bins: int) -> Tensor:
    """Return a bin for each token: one each where they are few, else equal shares of the mass."""
    if len(mass) <= num_bins:
        return torch.arange(len(mass))
    shares = (mass * (num_bins / float(mass[-1]))).long().clamp(max=num_bins - 1)
    is_new = torch.diff(shares, prepend=shares[:1]) > 0
    return is_new.cumsum(-1)


def _wanted(p: Tensor, q: Tensor, inside: Tensor) -> Tensor:
    """Return the picked mass per draft mass of an optimal rule, increasing, shape (bins,).

    A rule can pick any law that gives each set at least the probability that all draws lie in
    it. The surplus over the target grows up to the set that limits acceptance and falls after it.
    """
    surplus = [0.0, *(inside - p.cumsum(-1)).tolist()]
    peak = max(range(len(surplus)), key=surplus.__getitem__)
    rising = list(itertools.accumulate(surplus[: peak + 1], max))
    falling = list(itertools.accumulate(surplus[: peak - 1 if peak else None : -1], max))[::-1]
    total = torch.tensor(rising + falling[1:], dtype=torch.float64)
    return (p + torch.diff(total)) / q


def _mix(values: list[float], wanted: list[float], mass: list[float]) -> Tensor:
    """Return a kernel that keeps `mass` and whose means of `values` are `wanted`, (bins, bins).

    Low bins must gain and high bins must lose: each trade mixes one of both, as in the proof of
    Hardy, Littlewood and Polya that majorized vectors are doubly stochastic images.
    """
    size = len(values)
    kernel = torch.eye(size, dtype=torch.float64)
    now, high = list(values), 0
    for low in range(size):
        while (missing := mass[low] * (wanted[low] - now[low])) > 1e-17:
            while high < size and (high <= low or now[high] <= wanted[high]):
                high += 1
            if high == size:  # only rounding is left
                break
            gap = now[high] - now[low]
            spare = mass[high] * (now[high] - wanted[high])
            moved = min(missing, spare, gap * min(mass[low], mass[high]))
            if moved <= 0.0:
                break
            up, down = moved / (mass[low] * gap), moved / (mass[high] * gap)
            first, second = kernel[low].clone(), kernel[high].clone()
            kernel[low] = (1 - up) * first + up * second
            kernel[high] = (1 - down) * second + down * first
            now[low] += moved / mass[low]
            now[high] = wanted[high] if moved == spare else now[high] - moved / mass[high]
            if moved == missing:
                break
    return kernel


def _all_inside(q: Tensor, num_drafts: int) -> Tensor:
    """Return, for each beginning of the tokens, the probability that all distinct draws lie in it.

    Draws without replacement are the first arrivals of independent exponential clocks of rates q:
    k of the beginning arrive before any other token. An integral over the time of the first other
    one, by the trapezoid rule in the logarithm of time.
    """
    num_drafts = min(num_drafts, len(q))
    outside = (1.0 - q.cumsum(-1)).clamp_min(1e-18)  # rate of the rest, (tokens,)
    found = torch.zeros_like(q)
    last = 4.0 - float(outside[:-1].min().log()) if len(q) > 1 else 4.0
    times = torch.arange(-40.0, last, _STEP, dtype=torch.float64).exp()
    for block in times.split(max(1, _CHUNK // len(q))):
        rates = (block[:, None] * q).clamp(max=_CAP)  # (times, tokens)
        odds = torch.expm1(rates)
        none = (-rates.cumsum(-1)).exp()  # no token of the beginning has arrived
        before, fewer = torch.ones_like(odds), none.clone()
        for _ in range(1, num_drafts):  # elementary symmetric sums of the next order
            products = (odds * before).cumsum(-1)
            fewer += none * products
            before = torch.cat([torch.zeros_like(odds[:, :1]), products[:, :-1]], dim=1)
        density = block[:, None] * outside * (-block[:, None] * outside).exp() * _STEP
        found += (density * (1.0 - fewer).clamp(0.0, 1.0)).sum(0)
    found[: num_drafts - 1] = 0.0  # too few tokens
    return found
