"""Bytes of text per token: the figure that a price per token multiplies.

Source: common practice; the currency of jeton (docs/concepts).
Differs from the source: a group of which more than 1% becomes unknown tokens has no figure of
    its own, since its text is lost.
Cost: one encoding of the text.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput


@dataclass(frozen=True, slots=True)
class BytesPerToken:
    """UTF-8 bytes of the text divided by its tokens, in all and per group."""

    name: ClassVar[str] = "bytes_per_token"
    needs: ClassVar[tuple[str, ...]] = ("texts",)
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return bytes per token; witnesses are the tokens that carry most of the text."""
        counts = given.token_counts
        carried = counts * given.token_lengths
        top = sorted(range(len(counts)), key=lambda i: (-carried[i], i))[:10]
        total = max(1, given.num_bytes)
        lost = given.unreadable_groups if len(given.groups) > 1 else []
        return MetricResult(
            name=self.name,
            title="Bytes per token",
            value=given.num_bytes / given.num_tokens if given.num_tokens else None,
            unit="bytes",
            is_lower_better=False,
            detail=f"{given.num_tokens:,} tokens for {given.num_bytes:,} bytes of text"
            + _unknown(given),
            groups={
                name: group.num_bytes / group.num_tokens
                for name, group in given.groups.items()
                if group.num_tokens and name not in lost
            },
            witnesses=[
                Witness(i, readable(given.vocabulary.tokens[i]), _share(carried[i], total))
                for i in top
                if carried[i]
            ],
        )


def _unknown(given: AuditInput) -> str:
    """Warn where the unknown token hides text, which makes the figure too good."""
    unk = given.vocabulary.unk_token_id
    count = 0 if unk is None else int(given.token_counts[unk])
    if not count:
        return ""
    return f"; {count / given.num_tokens:.1%} of the tokens are unknown and hide their text"


def _share(num_bytes: int, total: int) -> str:
    return f"carries {100 * num_bytes / total:.1f}% of the bytes"
