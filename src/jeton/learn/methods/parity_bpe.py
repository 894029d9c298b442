"""Parity-aware BPE: each merge serves the language that is compressed worst at that moment.

Source: Foroutan et al. 2025, https://arxiv.org/abs/2508.04796, algorithm 1 (base and hybrid).
Differs from the source: the window variant is left out; without parallel text, languages are
compared by tokens per byte of their own text.
Cost: like BPE, and a few microseconds for each merge and language.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jeton.core.progress import Progress
from jeton.core.texts import TextCollection, read_texts
from jeton.errors import ConfigError, InputError
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.counts import Corpus, PretokenCounts, count_pretokens
from jeton.learn.engine import MergeEngine
from jeton.learn.fresh import Fresh, FreshLearner
from jeton.learn.results import check_reached, unique_rules

_ALL = "all"


@dataclass(frozen=True, slots=True)
class ParityBpe(FreshLearner):
    """BPE that balances languages.

    The language of a document is the first part of its name: the folder, or the file's name up to
    its first dot. Texts without names are one language.

    Attributes:
        parallel: Folder with parallel text, one file for each language, to compare by; empty to
            compare by tokens per byte.
        global_share: Share of the merges that are chosen for all languages together, before the
            others (the paper's hybrid).
        spans: What a token may cover; see `bpe`.
    """

    parallel: str = ""
    global_share: float = 0.0
    spans: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.global_share <= 1:
            raise ConfigError(f"global_share must lie between 0 and 1, got {self.global_share}")

    def learn_fresh(
        self, texts: Iterable[str], fresh: Fresh, progress: Progress
    ) -> LearnedVocabulary:
        """Learn from texts; see `FreshLearner.learn_fresh`."""
        pre_tokenizer = fresh.pre_tokenizer(self.spans)
        pretokenizer = fresh.pretokenizer(pre_tokenizer)

        def count(documents: Iterable[str]) -> PretokenCounts:
            return count_pretokens(documents, pretokenizer)

        groups = _count_groups(texts, count)
        whole = sum((groups[name] for name in groups), PretokenCounts())

        def engine(counts: PretokenCounts) -> MergeEngine:
            return MergeEngine(fresh.words(counts), fresh.tokens, banned=fresh.banned)

        engines = {name: engine(counts) for name, counts in groups.items()}
        measures, units = engines, {name: counts.num_bytes for name, counts in groups.items()}
        if self.parallel:
            parallel = self._read_parallel(list(engines), count)
            measures = {name: engine(counts) for name, counts in parallel.items()}
            units = dict.fromkeys(engines, 1)
        state = _State(engines, measures, units, engine(whole) if self.global_share else None)
        first = len(fresh.tokens)
        num_global = int(self.global_share * (fresh.vocab_size - first))
        while state.vocab_size < fresh.vocab_size:
            is_global = state.vocab_size < first + num_global
            is_found = state.merge_for_all() if is_global else state.merge_for_worst()
            check_reached(is_found, state.vocab_size, fresh.vocab_size, whole.num_bytes)
        words = fresh.words(whole)
        learned = next(iter(engines.values()))
        final = MergeEngine(words, learned.tokens(), rules=unique_rules(learned.merges()))
        final.replay()
        shown = ", ".join(
            f"{name} {groups[name].num_bytes / engines[name].num_tokens:.2f}" for name in engines
        )
        notes = [f"bytes per token by language: {shown}"] if len(engines) > 1 else []
        return fresh.finish("parity_bpe", final, words, whole, pre_tokenizer, notes)

    def _read_parallel(
        self, languages: list[str], count: Callable[[Iterable[str]], PretokenCounts]
    ) -> dict[str, PretokenCounts]:
        found = _count_groups(read_texts(Path(self.parallel)), count)
        missing = [name for name in languages if name not in found]
        if missing:
            raise InputError(
                f"{self.parallel} has no parallel text for: {', '.join(missing[:5])}",
                hint=f"it has: {', '.join(found)}",
            )
        return {name: found[name] for name in languages}


class _State:
    """One engine for each language, kept in step."""

    def __init__(
        self,
        engines: dict[str, MergeEngine],
        measures: dict[str, MergeEngine],
        units: dict[str, int],
        together: MergeEngine | None,
    ) -> None:
        self._engines, self._measures, self._units = engines, measures, units
        self._together = together
        self._open = list(engines)
        self._every = [*engines.values()]
        self._every += [e for name, e in measures.items() if e is not engines[name]]
        self._every += [together] if together else []

    @property
    def vocab_size(self) -> int:
        return self._every[0].vocab_size

    def merge_for_all(self) -> bool:
        """Merge the pair that is most frequent in all languages together."""
        if self._together is None or self._together.best() is None:
            return False
        self._merge_best_of(self._together)
        return True

    def merge_for_worst(self) -> bool:
        """Merge the most frequent pair of the language that is compressed worst."""
        while self._open:
            worst = max(
                self._open, key=lambda name: self._measures[name].num_tokens / self._units[name]
            )
            if self._engines[worst].best() is not None:
                self._merge_best_of(self._engines[worst])
                return True
            self._open.remove(worst)
        return False

    def _merge_best_of(self, chosen: MergeEngine) -> None:
        size = chosen.vocab_size
        if not chosen.accept():
            return
        left, right, product = chosen.last_rule()
        for engine in self._every:
            if engine is not chosen:
                if product == size:
                    engine.add_token(chosen.token(product))
                engine.apply(left, right, product)


def _count_groups(
    texts: Iterable[str], count: Callable[[Iterable[str]], PretokenCounts]
) -> dict[str, PretokenCounts]:
    if isinstance(texts, Corpus):
        texts = texts.texts
    if not isinstance(texts, TextCollection):
        return {_ALL: count(texts)}
    groups: dict[str, PretokenCounts] = {}
    for name in sorted({_language(document.name) for document in texts.documents()}):
        groups[name] = count(_of_language(texts, name))
    return groups


def _of_language(texts: TextCollection, language: str) -> Iterator[str]:
    for document in texts.documents():
        if _language(document.name) == language:
            yield document.text


def _language(name: str) -> str:
    folder, slash, _ = name.partition("/")
    return folder if slash else name.split("#")[0].split(".")[0]
