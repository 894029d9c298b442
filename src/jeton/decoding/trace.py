"""What happened in each step of a generation: who drafted, how long, how near to the optimum."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jeton.decoding.contract import DISTINCT, Draft, Step, TreeLogits
from jeton.decoding.transport import MAX_DISTINCT, optimal_acceptance

TARGET = "target"


@dataclass(frozen=True, slots=True)
class TracedStep:
    """One step.

    Attributes:
        token_ids: What it added.
        drafted_by: Who proposed each of them; `TARGET` for those that the target drew itself.
        num_drafted: Nodes that were verified.
        seconds: Since the step before.
        num_judged: Nodes of the path whose children were drawn at random.
        num_kept: Those of them of which a child was kept.
        bound: Sum of the optimal probabilities that one is kept.
    """

    token_ids: tuple[int, ...]
    drafted_by: tuple[str, ...]
    num_drafted: int
    seconds: float
    num_judged: int
    num_kept: int
    bound: float


class Trace:
    """Records steps; give it to `generate` as `watch`.

    Example:
        >>> from jeton.decoding.generation import generate
        >>> from jeton.testing.decoding import tiny_language_model
        >>> lm, trace = tiny_language_model("llama"), Trace(["prompt_lookup"])
        >>> found = generate(lm, [5, 6, 5, 6], max_new_tokens=8, stop_ids=[], watch=trace)
        >>> sum(len(step.token_ids) for step in trace.steps)
        8
    """

    def __init__(
        self,
        sources: Sequence[str] = (),
        *,
        draws: str = "",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Start an empty record.

        Args:
            sources: Names of the drafters, in the order of a tree's `source`.
            draws: How the verifier has siblings drawn; "" leaves the bound out.
            clock: Seconds.
        """
        self.steps: list[TracedStep] = []
        self._sources, self._draws, self._clock = list(sources), draws, clock
        self._last = clock()

    def __call__(self, step: Step, new: tuple[int, ...], logits: TreeLogits) -> None:
        """Record a step."""
        now = self._clock()
        tree = step.tree
        drafted = step.accepted[1 : len(new) + 1]
        names = [self._name(tree.source[node] if tree.source else 0) for node in drafted]
        names += [TARGET] * (len(new) - len(names))
        judged = self._judge(step, logits) if self._draws else (0, 0, 0.0)
        self.steps.append(
            TracedStep(tuple(new), tuple(names), len(tree) - 1, now - self._last, *judged)
        )
        self._last = self._clock()

    def _name(self, source: int) -> str:
        return self._sources[source] if source < len(self._sources) else "draft"

    def _judge(self, step: Step, logits: TreeLogits) -> tuple[int, int, float]:
        """Return the judged nodes, those that kept a child, and the sum of their optima."""
        laws = step.tree.laws if isinstance(step.tree, Draft) else {}
        judged, bound = [], 0.0
        for node in step.accepted:
            law = laws.get(node)
            is_distinct = self._draws == DISTINCT
            if law is None or (is_distinct and len(law.drawn) > MAX_DISTINCT):
                continue
            judged.append(node)
            bound += optimal_acceptance(
                logits[node].double().softmax(-1),
                law.probabilities,
                len(law.drawn),
                with_replacement=not is_distinct,
            )
        return len(judged), sum(node != step.accepted[-1] for node in judged), bound

    @property
    def acceptance(self) -> float | None:
        """Share of judged nodes of which a child was kept; None where nothing was drawn."""
        judged = sum(step.num_judged for step in self.steps)
        return sum(step.num_kept for step in self.steps) / judged if judged else None

    @property
    def optimal_acceptance(self) -> float | None:
        """The same for the best exact rule, on the same draws' laws."""
        judged = sum(step.num_judged for step in self.steps)
        return sum(step.bound for step in self.steps) / judged if judged else None
