"""What a generation did, step by step and in all."""

from dataclasses import dataclass, field

from jeton.lm.tree import TokenTree


@dataclass(slots=True)
class DecodingStats:
    """What a generation did; times in seconds of wall clock.

    `num_near_ties` counts greedy choices in bf16 or float16 whose two best logits lay within
    rounding, in forwards that do not promise the bits of single steps: there, and only there, the
    text may depend on the drafts.
    """

    num_prompt_tokens: int = 0
    num_tokens: int = 0
    num_steps: int = 0
    num_proposed: int = 0
    num_accepted: int = 0
    num_near_ties: int = 0
    prefill_s: float = 0.0
    draft_s: float = 0.0
    verify_s: float = 0.0
    accepted_by_depth: list[int] = field(default_factory=list)
    proposed_by_depth: list[int] = field(default_factory=list)

    @property
    def tokens_per_step(self) -> float:
        """Tokens gained per forward; 1 without drafting."""
        return self.num_tokens / self.num_steps if self.num_steps else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Accepted over proposed draft tokens."""
        return self.num_accepted / self.num_proposed if self.num_proposed else 0.0

    def count(self, tree: TokenTree, path: tuple[int, ...]) -> None:
        """Add one verified tree whose node 0 is the root, and its accepted path."""
        self.num_proposed += len(tree) - 1
        self.num_accepted += len(path) - 1
        depths = tree.depths
        missing = max(depths) - len(self.proposed_by_depth)
        if missing > 0:
            self.proposed_by_depth += [0] * missing
            self.accepted_by_depth += [0] * missing
        for depth in depths[1:]:
            self.proposed_by_depth[depth - 1] += 1
        for node in path[1:]:
            self.accepted_by_depth[depths[node] - 1] += 1
