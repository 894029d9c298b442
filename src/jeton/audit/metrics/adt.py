"""ADT: strings on which a tokenizer cuts across the border of two words.

Source: Wang et al. 2024, Tokenization Matters!, https://arxiv.org/abs/2405.17067 (ADT-Auto)
Differs from the source: candidates come from the vocabulary's own words (or the lexicon given)
    instead of a language model, and are kept only if the encoding shows the trap.
Cost: one encoding per candidate; with a model, three forwards of it for each of 100 traps and as
    many pairs that are no traps.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.asking import choose
from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import encode_all
from jeton.audit.evidence import AuditInput
from jeton.errors import ConfigError

_ASKED = 100
_EXAMPLES = "sunflower -> sun flower\nbookcase -> book case\nredwine -> red wine\n"


@dataclass(frozen=True, slots=True)
class Trap:
    """Two words whose concatenation is encoded with a token across their border."""

    left: str
    right: str
    token: str


@dataclass(frozen=True, slots=True)
class Adt:
    """Share of tried word pairs that the tokenizer cuts across their border.

    Attributes:
        num_candidates: At most so many pairs are tried.
        min_letters: Words and trap tokens have at least so many letters.
    """

    num_candidates: int = 2000
    min_letters: int = 3

    name: ClassVar[str] = "adt"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = False
    is_per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_candidates < 1 or self.min_letters < 2:
            raise ConfigError("num_candidates must be at least 1 and min_letters at least 2")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the share of traps; witnesses are the strings."""
        tried, traps, honest = find_traps(given, self.num_candidates, self.min_letters)
        damage = measure_damage(given, traps, honest)
        said = (
            f"; the model finds the border in {damage['accuracy, traps']:.0%} of the traps and "
            f"{damage['accuracy, other pairs']:.0%} of other pairs"
            if damage
            else ""
        )
        return MetricResult(
            name=self.name,
            title="Word pairs cut across their border",
            value=len(traps) / tried if tried else None,
            unit="share",
            is_lower_better=True,
            detail=f"{len(traps):,} traps among {tried:,} candidates{said}"
            if tried
            else "no token can be split into the end of one word and the start of another",
            groups={"tried": float(tried), "found": float(len(traps))} | damage,
            witnesses=[
                Witness(None, t.left + t.right, f"{t.left}+{t.right} has the token {t.token!r}")
                for t in traps[:MAX_WITNESSES]
            ],
        )


def measure_damage(
    given: AuditInput, traps: Sequence[Trap], honest: Sequence[Trap]
) -> dict[str, float]:
    """Return how often a model tells where two words meet, in traps and in other pairs.

    It chooses between the right border and the two beside it.
    """
    if given.model is None or not traps or not honest:
        return {}
    found = {}
    for name, pairs in (("traps", traps), ("other pairs", honest)):
        prompts, options = [], []
        for pair in pairs[:_ASKED]:
            joined, at = pair.left + pair.right, len(pair.left)
            prompts.append(f"{_EXAMPLES}{joined} ->")
            places = (at, at - 1, at + 1)
            options.append([f" {joined[:place]} {joined[place:]}\n" for place in places])
        chosen = choose(given.model, given.vocabulary, prompts, options)
        found[f"accuracy, {name}"] = sum(index == 0 for index in chosen) / len(chosen)
    return found


def find_traps(
    given: AuditInput, num_candidates: int, min_letters: int
) -> tuple[int, list[Trap], list[Trap]]:
    """Return how many candidates were tried, those that are traps, and those cut at the border."""
    candidates = []
    for candidate in _candidates(given, min_letters):
        candidates.append(candidate)
        if len(candidates) == num_candidates:
            break
    encodings = encode_all(given.vocabulary, [f"a {t.left}{t.right}" for t in candidates])
    tokens = given.vocabulary.tokens
    traps, honest = [], []
    for trap, ids in zip(candidates, encodings, strict=True):
        border, end = len(f" {trap.left}".encode()), len(trap.token.encode())
        at = -1  # "a" stands before the space
        for piece in (tokens[i] for i in ids.tolist()):
            if piece == trap.token.encode() and at < border < at + end:
                traps.append(trap)
                break
            if at == border:
                honest.append(trap)
                break
            at += len(piece)
    return len(candidates), traps, honest


def _candidates(given: AuditInput, min_letters: int) -> Iterator[Trap]:
    """Yield pairs of words whose border a token of the vocabulary spans."""
    words = _words(given, min_letters)
    ending, starting = defaultdict(list), defaultdict(list)
    for word in words:
        for size in range(1, len(word)):
            ending[word[-size:]].append(word)
            starting[word[:size]].append(word)
    for token in sorted(_inner_tokens(given, min_letters), key=lambda t: (-len(t), t)):
        for cut in range(1, len(token)):
            lefts, rights = ending.get(token[:cut], []), starting.get(token[cut:], [])
            if lefts and rights:
                yield Trap(lefts[len(token) % len(lefts)], rights[cut % len(rights)], token)


def _words(given: AuditInput, min_letters: int) -> list[str]:
    """Return the lexicon's words, or else the vocabulary's tokens that begin with a space."""
    if given.lexicon is not None:
        words = {word for word in given.lexicon.words if word.isalpha()}
    else:
        texts = (given.vocabulary.tokens[i] for i in given.text_ids.tolist())
        words = {_text(t[1:]) for t in texts if t[:1] == b" "}
    return sorted(w for w in words if len(w) >= min_letters and w.isalpha() and w.islower())


def _inner_tokens(given: AuditInput, min_letters: int) -> set[str]:
    texts = {_text(given.vocabulary.tokens[i]) for i in given.text_ids.tolist()}
    return {t for t in texts if len(t) >= min_letters and t.isalpha() and t.islower()}


def _text(token: bytes) -> str:
    return token.decode("utf-8", errors="ignore")
