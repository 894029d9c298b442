"""Next-token logprobs of a transformers model after many sequences, over one runner.

What all sequences share stands in the runner's cache; what they do not share is read as one
token tree. A new stem is one or two tokens, so that a byte costs about one node. Models that take
no trees read chain after chain.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from jeton.bytelm.contract import FloatArray
from jeton.bytelm.paths import Paths
from jeton.errors import ConfigError
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree

_PREFILL = 32  # tokens from which a shared beginning is read without logits
_KEPT_BYTES = 1 << 28  # of logprobs that were asked for ahead


class RunnerLM:
    """A language model as `TokenLM`.

    Attributes:
        paths: The sequences by number.
        num_nodes: Tokens that were read behind the prefilled ones.
        vocab_size: Ids of the tokenizer; padding rows of the matrix are left out.
    """

    def __init__(self, lm: LanguageModel, temperature: float = 1.0) -> None:
        if not 0.0 < temperature < float("inf"):
            raise ConfigError(f"temperature must be above 0, got {temperature}")
        self.runner = Runner(lm.model)
        self.paths = Paths()
        self.vocab_size = lm.vocabulary.vocab_size
        self.num_nodes = 0
        self._temperature = temperature
        self._committed = [0]  # the numbers of all beginnings of what the runner holds
        self._rows: dict[int, FloatArray] = {}
        self._num_kept = max(16, _KEPT_BYTES // (4 * self.vocab_size))

    @property
    def room(self) -> int:
        """Tokens that fit in all."""
        return self.runner.max_length

    def logprobs(self, nodes: Sequence[int], keep: int) -> list[FloatArray]:
        """Return the logprobs after each sequence; see `TokenLM`."""
        missing = [node for node in nodes if node not in self._rows]
        if missing:
            self.prefetch(missing, keep)
        return [self._rows[node] for node in nodes]

    def prefetch(self, nodes: Sequence[int], keep: int) -> None:
        """Read sequences in one forward, so that `logprobs` has them."""
        logits = self.forward(nodes, keep)
        rows = (logits / self._temperature).log_softmax(dim=-1).cpu().numpy()
        for node, row in zip(nodes, rows, strict=True):
            while len(self._rows) >= self._num_kept:
                del self._rows[next(iter(self._rows))]
            self._rows[node] = row

    def forward(self, nodes: Sequence[int], keep: int) -> Tensor:
        """Return the logits after each sequence, shape (nodes, vocab_size), float32.

        Args:
            nodes: Numbers of sequences.
            keep: A beginning of all of them that is kept in the cache.
        """
        wanted = [node for node in nodes if node > 0]
        if not wanted:  # nothing stands in front: every token is as likely
            return torch.zeros((len(nodes), self.vocab_size))
        self._return_to(self.paths.common([*wanted, keep] if keep > 0 else wanted), wanted)
        places = {node: i for i, node in enumerate(self._new_nodes(wanted))}
        self.num_nodes += len(places)
        found, is_pending = self._read(places)
        result = found[[places.get(node, 0) for node in nodes], : self.vocab_size]
        for i, node in enumerate(nodes):
            if node == 0:
                result[i] = 0.0
        self._commit(keep, places, is_pending=is_pending)
        return result

    def _return_to(self, shared: int, wanted: list[int]) -> None:
        """Bring the cache to a beginning that all wanted sequences share and go beyond."""
        paths, depth = self.paths, self.paths.depths
        node = shared
        while depth[node] >= len(self._committed) or self._committed[depth[node]] != node:
            node = paths.parents[node]
        if node in wanted and node > 0:  # its own logits are wanted: its last token is read again
            node = paths.parents[node]
        if depth[node] + 1 < len(self._committed):
            self.runner.truncate(depth[node])
            del self._committed[depth[node] + 1 :]
        ids = paths.ids(shared, above=node)
        if len(ids) > _PREFILL:
            self.runner.prefill(ids[:-1])
            self._extend(ids[:-1])

    def _extend(self, ids: list[int]) -> None:
        for token_id in ids:
            self._committed.append(self.paths.child(self._committed[-1], token_id))

    def _new_nodes(self, wanted: list[int]) -> list[int]:
        """Return all sequences behind the cache's, parents first."""
        top, found = self._committed[-1], set()
        for start in wanted:
            node = start
            while node != top and node not in found:
                found.add(node)
                node = self.paths.parents[node]
        return sorted(found, key=lambda node: (self.paths.depths[node], node))

    def _read(self, places: dict[int, int]) -> tuple[Tensor, bool]:
        """Return the logits after new nodes, and whether the runner still holds them."""
        tokens = [self.paths.tokens[node] for node in places]
        parents = [places.get(self.paths.parents[node], -1) for node in places]
        tree = TokenTree(tokens, parents)
        if tree.is_chain or self.runner.supports_trees:
            return self.runner.verify(tree).logits, True
        logits: list[Tensor | None] = [None] * len(tree)
        inner = set(parents)
        for leaf in (node for node in range(len(tree)) if node not in inner):
            path = tree.path_to(leaf)
            chain = self.runner.verify(TokenTree.chain([tokens[node] for node in path])).logits
            for row, node in enumerate(path):
                logits[node] = chain[row]
        self.runner.commit([])
        return torch.stack([row for row in logits if row is not None]), False

    def _commit(self, keep: int, places: dict[int, int], *, is_pending: bool) -> None:
        """Keep a beginning in the cache where it was just read."""
        path: list[int] = []
        node = keep
        while node in places:
            path.append(node)
            node = self.paths.parents[node]
        if node != self._committed[-1]:
            path = []
        path.reverse()
        if is_pending:
            self.runner.commit([places[node] for node in path])
        elif path:
            self.runner.prefill([self.paths.tokens[node] for node in path])
        self._committed += path
