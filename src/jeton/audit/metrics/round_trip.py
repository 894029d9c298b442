"""Round trip: text that does not come back from its tokens, by cause.

Source: common practice.
Differs from the source: nothing; a built-in set of awkward strings is tried beside the text.
Cost: one strict encoding of the text's lines.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import encode_all
from jeton.audit.evidence import AuditInput
from jeton.errors import ConfigError

AWKWARD = (
    "Hello, world!",
    "two  spaces and a tab\there",
    " leading and trailing ",
    "line\nbreaks\r\nof both kinds\n\n",
    "        indented = code(1_000, 3.14159)",
    "naïve café Größe Ünïcödé",
    "e\u0301 a\u030a decomposed",
    "Привет, мир! Ελληνικά; שלום עולם; مرحبا",
    "你好，世界！ 日本語テキスト 한국어 문장",
    "नमस्ते दुनिया สวัสดีชาวโลก မြန်မာ አማርኛ",
    "🦙🚀👩‍🚀 emoji",
    "ﬁ ligature, ½, ²，ｆｕｌｌ ｗｉｄｔｈ",
    "zero\u200bwidth\u200djoiner\u00a0and\u3000spaces",
    "control \x00\x01\x7f\x85 characters",
    "▁ lower block and Ġ letter",
    "<s> </s> <unk> <|endoftext|> [UNK] look-alikes",
    "private \ue000 and unassigned \U0003fffe",
)


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Share of pieces of the text that are not restored exactly, and the causes.

    Attributes:
        max_pieces: At most so many distinct lines of each group are tried.
    """

    max_pieces: int = 500

    name: ClassVar[str] = "round_trip"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.max_pieces < 1:
            raise ConfigError(f"max_pieces must be at least 1, got {self.max_pieces}")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the share of tried strings that fail; `groups` counts failures by cause."""
        causes: Counter[str] = Counter()
        witnesses: list[Witness] = []
        pieces = list(AWKWARD)
        for name in sorted(given.texts):
            pieces += _lines(given.texts[name], self.max_pieces)
        restored = _restored(given, pieces)
        failed_text = 0
        for index, piece in enumerate(pieces):
            if index in restored:
                continue
            reason = given.vocabulary.why_not_lossless(piece)
            if reason is None:
                continue
            failed_text += index >= len(AWKWARD)
            cause = _cause(reason)
            causes[cause] += 1
            if causes[cause] <= 3 and len(witnesses) < MAX_WITNESSES:
                witnesses.append(Witness(None, piece[:80], reason))
        num_failed = sum(causes.values())
        return MetricResult(
            name=self.name,
            title="Text that does not round-trip",
            value=num_failed / len(pieces),
            unit="share",
            is_lower_better=True,
            detail=f"{num_failed - failed_text} of {len(AWKWARD)} awkward strings and "
            f"{failed_text} of {len(pieces) - len(AWKWARD)} lines of the text are not restored",
            groups={cause: float(count) for cause, count in sorted(causes.items())},
            witnesses=witnesses,
        )


def _restored(given: AuditInput, pieces: Sequence[str]) -> set[int]:
    """Return which pieces come back from the tokenizer's own encoding, all encoded at once."""
    new = [piece for piece in pieces if piece not in given.encodings]
    encodings = given.encodings | dict(zip(new, encode_all(given.vocabulary, new), strict=True))
    decode = given.vocabulary.decode
    return {i for i, piece in enumerate(pieces) if decode(encodings[piece]) == piece.encode()}


def _lines(documents: Sequence[str], limit: int) -> list[str]:
    """Return the first distinct lines that are not blank, with their line ends."""
    found: dict[str, None] = {}
    for document in documents:
        for line in document.splitlines(keepends=True):
            if line.strip():
                found[line] = None
            if len(found) == limit:
                return list(found)
    return list(found)


def _cause(reason: str) -> str:
    """Return the class of a reason."""
    for word in ("normalizer", "unknown", "unk", "added token", "decoder", "space"):
        if word in reason.lower():
            return {"unk": "unknown", "space": "white space"}.get(word, word)
    return "other"
