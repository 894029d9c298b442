"""Fertility: tokens per word.

Source: Acs 2019, Exploring BERT's vocabulary, http://juditacs.github.io/2019/02/19/bert-tokenization-stats.html;
    Rust et al. 2021, How Good is Your Tokenizer?, https://arxiv.org/abs/2012.15613
Differs from the source: words are runs of anything but white space, so that no language tool is
    needed; in scripts that write without spaces the figure means tokens per phrase.
Cost: one encoding of the text.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MetricResult
from jeton.audit.evidence import AuditInput


@dataclass(frozen=True, slots=True)
class Fertility:
    """Tokens divided by white-space separated words, in all and per group."""

    name: ClassVar[str] = "fertility"
    needs: ClassVar[tuple[str, ...]] = ("texts",)
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return tokens per word; None for a text of white space alone."""
        num_words = sum(group.num_words for group in given.groups.values())
        return MetricResult(
            name=self.name,
            title="Fertility",
            value=given.num_tokens / num_words if num_words else None,
            unit="tokens per word",
            is_lower_better=True,
            detail=f"{given.num_tokens:,} tokens for {num_words:,} words"
            if num_words
            else "the text has no words",
            groups={
                name: group.num_tokens / group.num_words
                for name, group in given.groups.items()
                if group.num_words
            },
        )
