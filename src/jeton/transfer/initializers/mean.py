"""Mean of sub-tokens (FVT): a new token starts as the mean of the rows that used to spell it.

Source: Gee et al. 2022, "Fast Vocabulary Transfer for Language Model Compression",
https://aclanthology.org/2022.emnlp-industry.41
Differs from the source: a token that the source cannot spell starts as the mean of all its rows.
Cost: one encoding per new token; no training.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.transfer.contract import InitInput, InitResult
from jeton.transfer.matching import match_tokens
from jeton.transfer.rows import compose


@dataclass(frozen=True, slots=True)
class Mean:
    """Copy what is shared, average what is new."""

    copies_shared: ClassVar[bool] = True

    def initialize(self, inputs: InitInput) -> InitResult:
        """Return the destination matrices; see the module's text."""
        return compose(inputs, match_tokens(inputs.source, inputs.destination), {})
