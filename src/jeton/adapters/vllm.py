"""Any drafter that needs no model, as a proposer of vLLM.

vLLM loads it by name, with `speculative_config={"method": "custom_class",
"custom_proposer_backend": "jeton.adapters.vllm.Proposer", "num_speculative_tokens": 4}`. It takes
chains only: of a tree the most likely path is proposed. vLLM itself is not imported here; it hands
over what is needed. The name of the drafter is read from the key `jeton_drafter` of
`additional_config`, and is prompt_lookup without it.
"""

from collections.abc import Sequence
from typing import Any

from jeton.decoding.contract import DraftContext, Drafter, Sampling, Step
from jeton.decoding.create import create_drafter
from jeton.errors import ConfigError
from jeton.lm.tree import TokenTree

DEFAULT_DRAFTER = "prompt_lookup"


class Proposer:
    """Proposes tokens for each request of a batch; one drafter per row of the batch.

    Example:
        >>> from types import SimpleNamespace as Settings
        >>> config = Settings(
        ...     speculative_config=Settings(num_speculative_tokens=2),
        ...     model_config=Settings(get_vocab_size=lambda: 10),
        ... )
        >>> tokens = [[1, 2, 3, 1, 2, 0]]
        >>> Proposer(config).propose([[2]], [5], tokens)
        [[3, 1]]
    """

    def __init__(self, vllm_config: Any) -> None:
        """Read the settings.

        Raises:
            ConfigError: the drafter needs a model, or figures that vLLM does not give.
        """
        settings = getattr(vllm_config, "additional_config", None) or {}
        self.name = str(settings.get("jeton_drafter", DEFAULT_DRAFTER))
        self.num_draft_tokens = int(vllm_config.speculative_config.num_speculative_tokens)
        self.vocab_size = int(vllm_config.model_config.get_vocab_size())
        needs = sorted(create_drafter(self.name).needs)
        if needs:
            raise ConfigError(
                f"{self.name} needs {', '.join(needs)}, which vLLM does not give to a proposer",
                hint="use prompt_lookup or lookahead",
            )
        self._rows: dict[int, tuple[Drafter, list[int]]] = {}

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Load nothing; vLLM asks every proposer."""

    def propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: Sequence[int],
        token_ids_cpu: Any,
        slot_mappings: Any = None,
    ) -> list[list[int]]:
        """Return the draft of each request, [] where nothing is proposed.

        Args:
            sampled_token_ids: What each request got in this step; [] for one that got nothing.
            num_tokens_no_spec: Tokens of each request, sampled ones included.
            token_ids_cpu: Ids of each request, shape (requests, longest), prompt first.
            slot_mappings: Not used.
        """
        drafts: list[list[int]] = []
        for row, sampled in enumerate(sampled_token_ids):
            length = int(num_tokens_no_spec[row])
            if not len(sampled) or length < 1:
                drafts.append([])
                continue
            token_ids = [int(i) for i in token_ids_cpu[row][:length]]
            drafter = self._drafter(row, token_ids)
            drafts.append(best_path(drafter.propose(self.num_draft_tokens)))
        return drafts

    def _drafter(self, row: int, token_ids: list[int]) -> Drafter:
        """Return the drafter of a row, brought up to its text; a new request begins anew."""
        drafter, seen = self._rows.get(row, (None, []))
        if drafter is None or not seen or token_ids[: len(seen)] != seen:
            drafter = drafter or create_drafter(self.name)
            drafter.begin(DraftContext(token_ids, self.vocab_size, Sampling()))
        elif len(token_ids) > len(seen):
            root = TokenTree.chain([seen[-1]])
            drafter.observe(Step(root, (0,), tuple(token_ids[len(seen) :])))
        self._rows[row] = (drafter, token_ids)
        return drafter


def best_path(tree: TokenTree) -> list[int]:
    """Return the tokens of the most likely path, children by their own likelihood.

    Example:
        >>> best_path(TokenTree([5, 6, 7], [-1, -1, 1], [-2.0, -0.5, -1.0]))
        [6, 7]
    """
    path: list[int] = []
    node = -1
    while children := tree.children(node):
        logq = tree.logq
        node = children[0] if logq is None else max(children, key=lambda c: (logq[c], -c))
        path.append(tree.token_ids[node])
    return path
