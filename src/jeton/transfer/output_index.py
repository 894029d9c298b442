"""The output rows with the largest products with a hidden state, for vocabularies of any size.

Source: Feher et al. 2025, https://arxiv.org/abs/2411.18553, section 4, which searches a million
rows by an approximate index; largest products as nearest neighbours after Bachrach et al. 2014,
"Speeding Up the Xbox Recommender System Using a Euclidean Transformation for Inner-Product
Spaces", https://doi.org/10.1145/2645710.2645741.
Differs from the source: exact search by default; the approximate one is an inverted file in torch
(cells of k-means; the rows of the cells nearest to the query are compared exactly), not HNSW.
Cost: exact, one pass over all rows; with cells, one over their centres and over
`num_probes / num_cells` of the rows, and k-means once.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jeton.errors import ConfigError

_BLOCK = 1 << 24  # numbers of scores or distances that are held at a time
_MEANS_SAMPLE = 64  # rows per cell that k-means looks at
_MEANS_STEPS = 8


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Options.

    Attributes:
        num_cells: Cells of the inverted file; 0 searches all rows, exactly.
        num_probes: Cells that are searched for a query; all of them is exact.
    """

    num_cells: int = 0
    num_probes: int = 16

    def __post_init__(self) -> None:
        if self.num_cells < 0 or self.num_probes < 1:
            raise ConfigError(
                "num_cells must be 0 or more and num_probes 1 or more, got "
                f"{self.num_cells} and {self.num_probes}"
            )


class OutputIndex:
    """Rows that can be searched for the largest products.

    Example:
        >>> index = OutputIndex(torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
        >>> index.search(torch.tensor([[1.0, 0.5]]), 2)[1].tolist()
        [[2, 0]]
    """

    def __init__(
        self,
        rows: Tensor,
        bias: Tensor | None = None,
        options: IndexOptions | None = None,
        seed: int = 0,
    ) -> None:
        """Make an index.

        Args:
            rows: Shape (tokens, hidden), at least one; kept, not copied, where the search is exact.
            bias: Added to each row's product, shape (tokens,).
            options: None takes the defaults.
            seed: Of the first centres.
        Raises:
            ConfigError: no rows, a bias of another length, or more cells than rows.
        """
        self.options = options or IndexOptions()
        num_cells = self.options.num_cells
        if rows.ndim != 2 or not len(rows) or (bias is not None and len(bias) != len(rows)):
            raise ConfigError(f"an index needs rows and a bias for each, got {tuple(rows.shape)}")
        if num_cells > len(rows):
            raise ConfigError(
                f"{num_cells} cells are more than the {len(rows)} rows", hint="ask for fewer cells"
            )
        self.rows, self.bias = rows, bias
        if num_cells:
            self._fill_cells(num_cells, seed)

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the largest logits and their ids, best first; of equal ones the lowest id first.

        Args:
            hidden: Queries, shape (queries, hidden).
            k: At most the number of rows; with cells fewer than k may be found.
        Returns:
            Logits and int64 ids, each of shape (queries, k); -inf and -1 where nothing was found.
        """
        if not 1 <= k <= len(self.rows):
            raise ConfigError(f"k must be 1 to {len(self.rows)}, got {k}")
        searched = self._search_all if not self.options.num_cells else self._search_cells
        with torch.inference_mode():
            return searched(hidden, k)

    def _search_all(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        block = max(k, _BLOCK // len(hidden))
        scores, ids = [], []
        for start in range(0, len(self.rows), block):
            logits = hidden @ self.rows[start : start + block].T
            if self.bias is not None:
                logits = logits + self.bias[start : start + block]
            found, places = _best(logits, min(k, logits.shape[1]))
            scores.append(found)
            ids.append(places + start)
        found, places = _best(torch.cat(scores, 1), k)  # earlier blocks hold lower ids
        return found, torch.cat(ids, 1).gather(1, places)

    def _search_cells(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        scores = hidden.new_full((len(hidden), k), -torch.inf)
        ids = torch.full((len(hidden), k), -1, device=hidden.device)
        if self.bias is not None:
            hidden = torch.cat([hidden, hidden.new_ones(len(hidden), 1)], 1)
        # The query has a zero where the points have what fills their length up.
        distances = self._half_squares - hidden @ self._centres[:, :-1].T
        probes = min(self.options.num_probes, self.options.num_cells)
        nearest = distances.topk(probes, largest=False).indices.tolist()
        for query, cells in enumerate(nearest):
            spans = [slice(self._begins[c], self._begins[c + 1]) for c in cells]
            own = torch.cat([self._ids[span] for span in spans])
            if not len(own):
                continue
            logits = torch.cat([self._cells[span] @ hidden[query] for span in spans])
            own, order = own.sort()  # of equal logits the lowest id is the first
            found, places = _best(logits[order][None], min(k, len(own)))
            scores[query, : found.shape[1]] = found[0]
            ids[query, : found.shape[1]] = own[places[0]]
        return scores, ids

    def _fill_cells(self, num_cells: int, seed: int) -> None:
        """Put the rows, lengthened to one common length, into cells of k-means."""
        rows = self.rows if self.bias is None else torch.cat([self.rows, self.bias[:, None]], 1)
        squares = rows.square().sum(1)
        points = torch.cat([rows, (squares.max() - squares).clamp_min(0).sqrt()[:, None]], 1)
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
        sample = points[order[: num_cells * _MEANS_SAMPLE].to(points.device)]
        centres = sample[:num_cells].clone()
        for _ in range(_MEANS_STEPS):
            cells = _nearest(sample, centres)
            counts = torch.bincount(cells, minlength=num_cells)
            sums = torch.zeros_like(centres).index_add_(0, cells, sample)
            is_used = counts > 0  # an empty cell keeps its centre
            centres[is_used] = sums[is_used] / counts[is_used, None]
        cells = _nearest(points, centres)
        self._ids = cells.argsort(stable=True)
        self._begins = [0, *torch.bincount(cells, minlength=num_cells).cumsum(0).tolist()]
        self._cells, self._centres = rows[self._ids], centres
        self._half_squares = centres.square().sum(1) / 2


def _best(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row and their places; of equal ones the first place wins."""
    if k == 1:
        places = logits.argmax(1, keepdim=True)
        return logits.gather(1, places), places
    values, places = logits.topk(k)
    tied = (logits >= values[:, -1:]).sum(1) > k
    places = places.sort(1).values
    for row in torch.nonzero(tied)[:, 0].tolist():
        full = logits[row].sort(descending=True, stable=True).indices[:k]
        places[row] = full.sort().values
    order = logits.gather(1, places).sort(descending=True, stable=True).indices
    places = places.gather(1, order)
    return logits.gather(1, places), places


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Return the nearest centre of each point, shape (points,)."""
    half_squares = centres.square().sum(1) / 2
    block = max(1, _BLOCK // len(centres))
    return torch.cat(
        [
            (half_squares - points[start : start + block] @ centres.T).argmin(1)
            for start in range(0, len(points), block)
        ]
    )
