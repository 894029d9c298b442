"""Audit a vocabulary: run the metrics over one shared input and collect the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from jeton.audit.contract import Metric, MetricResult
from jeton.audit.encoding import token_bytes
from jeton.audit.evidence import AuditInput
from jeton.audit.registry import METRICS
from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, InputError

SCHEMA_VERSION = 1
NEEDS = {
    "texts": "text to measure on",
    "parallel": "parallel text in at least two languages",
    "embeddings": "the embedding matrices of a model",
    "lexicon": "a lexicon of the language",
    "segmentation": "words with their morphemes",
}
ASKED = ("adt", "character_tasks", "digit_arithmetic")  # they run by default with a model
_STRIP_LINES = 8
_STRIP_CHARS = 100


@dataclass(frozen=True, slots=True)
class StripLine:
    """A line of sample text cut into tokens.

    Attributes:
        group: Where it comes from.
        text: The line.
        tokens: Bytes of each token.
        tokens_against: The same by the tokenizer it is compared with; empty without one.
    """

    group: str
    text: str
    tokens: list[bytes]
    tokens_against: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class AuditResult:
    """An audit of one vocabulary over one body of text.

    Attributes:
        schema_version: Of this JSON.
        tokenizer: Its name.
        vocab_size: Ids that the tokenizer knows.
        model_kind: Kind of tokenizer model.
        num_documents: Documents of the text.
        num_bytes: UTF-8 bytes of the text.
        num_tokens: Tokens of the text.
        figures: One per metric, in the order of the registry.
        skipped: Metric -> what it would need.
        against: The same audit of the tokenizer it is compared with.
        strip: Sample lines, cut by both.
    """

    schema_version: int
    tokenizer: str
    vocab_size: int
    model_kind: str
    num_documents: int
    num_bytes: int
    num_tokens: int
    figures: list[MetricResult]
    skipped: dict[str, str] = field(default_factory=dict)
    against: "AuditResult | None" = None
    strip: list[StripLine] = field(default_factory=list)

    def figure(self, name: str) -> MetricResult | None:
        """Return the figure of a metric; None when it was not measured."""
        return next((f for f in self.figures if f.name == name), None)


def audit(
    vocabulary: Vocabulary,
    texts: Sequence[str] | Mapping[str, Sequence[str]] = (),
    *,
    against: Vocabulary | None = None,
    metrics: Sequence[str] | None = None,
    given: AuditInput | None = None,
    parallel: Mapping[str, Sequence[str]] | None = None,
    reference: str = "",
    progress: Progress = NO_PROGRESS,
) -> AuditResult:
    """Measure a vocabulary on texts, and another one on the same texts.

    Args:
        vocabulary: What is audited.
        texts: Documents, or group (language, domain) -> documents.
        against: Another vocabulary, measured on the same texts.
        metrics: Names of metrics; None for all default ones whose needs are met.
        given: Further evidence (parallel text, embeddings, lexicon); `vocabulary` and `texts`
            replace its own.
        parallel: Language -> passages, line i the same one in each; for the metrics that compare
            languages, and for the others too where there are no texts.
        reference: Language of the parallel text that premiums are relative to.
        progress: Bars.

    Raises:
        UnknownMethodError: a name that is no metric.
        ConfigError: a named metric needs evidence that was not given.
    """
    grouped = _grouped(texts)
    if given is None:
        given = AuditInput(vocabulary, grouped)
    else:
        given = replace(given, vocabulary=vocabulary, texts=grouped or given.texts)
    aligned = given
    if parallel:
        aligned = replace(given, texts=parallel, is_parallel=True, reference=reference)
        if not given.has("texts"):
            given = aligned
    chosen = _choose(metrics, given, aligned)
    other = None
    if against is not None:
        other_given = replace(given, vocabulary=against, embeddings=None, model=None)
        other_aligned = other_given
        if aligned is not given:
            other_aligned = replace(aligned, vocabulary=against, embeddings=None, model=None)
        other = _measure(other_given, other_aligned, chosen, progress)
    result = _measure(given, aligned, chosen, progress)
    return replace(result, against=other, strip=_strip(given, against))


def _grouped(texts: Sequence[str] | Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    if isinstance(texts, str):
        raise InputError(
            "texts must be a list of documents or a mapping of group to documents, got one str",
            hint="put it in a list: [text]",
        )
    if isinstance(texts, Mapping):
        return dict(texts)
    return {"text": texts} if texts else {}


def _evidence(metric: Metric, given: AuditInput, aligned: AuditInput) -> AuditInput:
    """Return what a metric looks at: the aligned text if it compares languages."""
    return aligned if "parallel" in metric.needs else given


def _choose(names: Sequence[str] | None, given: AuditInput, aligned: AuditInput) -> list[Metric]:
    """Return instances of the metrics to run; check the needs of those that were named."""
    if names is None:
        candidates: list[Metric] = [METRICS.create(name) for name in METRICS.rows]
        asked = ASKED if given.model is not None else ()
        return [metric for metric in candidates if metric.is_default or metric.name in asked]
    chosen: list[Metric] = [METRICS.create(name) for name in dict.fromkeys(names)]
    for metric in chosen:
        evidence = _evidence(metric, given, aligned)
        missing = [NEEDS[need] for need in metric.needs if not evidence.has(need)]
        if missing:
            raise ConfigError(f"{metric.name} needs {' and '.join(missing)}; none was given")
    return chosen


def _measure(
    given: AuditInput, aligned: AuditInput, chosen: Sequence[Metric], progress: Progress
) -> AuditResult:
    figures: list[MetricResult] = []
    skipped: dict[str, str] = {}
    what = f"audit {given.vocabulary.name}"
    for metric in progress.track(chosen, len(chosen), what, "metric"):
        evidence = _evidence(metric, given, aligned)
        missing = [NEEDS[need] for need in metric.needs if not evidence.has(need)]
        if missing:
            skipped[metric.name] = " and ".join(missing)
        else:
            figures.append(metric.measure(evidence))
    groups = given.groups.values()
    return AuditResult(
        schema_version=SCHEMA_VERSION,
        tokenizer=given.vocabulary.name,
        vocab_size=given.vocabulary.vocab_size,
        model_kind=str(given.vocabulary.model_kind),
        num_documents=sum(group.num_documents for group in groups),
        num_bytes=given.num_bytes,
        num_tokens=given.num_tokens,
        figures=figures,
        skipped=skipped,
    )


def _strip(given: AuditInput, against: Vocabulary | None) -> list[StripLine]:
    """Cut a few lines, spread over the groups, with both vocabularies."""
    lines: list[StripLine] = []
    names = sorted(name for name, documents in given.texts.items() if documents)
    if given.is_parallel:  # what people can read first
        names.sort(key=lambda name: name != given.reference_group)
    per_group = max(1, _STRIP_LINES // max(1, len(names)))
    step = max(1, -(-len(names) // _STRIP_LINES))
    for name in names[::step]:
        for text in _sample_lines(given.texts[name], per_group):
            tokens = token_bytes(given.vocabulary, given.vocabulary.encode_lossy(text))
            other = token_bytes(against, against.encode_lossy(text)) if against else []
            lines.append(StripLine(name, text, tokens, other))
    return lines


def _sample_lines(documents: Sequence[str], count: int) -> list[str]:
    """Return the first lines with something on them, cut to a readable length."""
    found: list[str] = []
    for document in documents:
        for line in document.splitlines():
            if line.strip():
                found.append(line[:_STRIP_CHARS])
                if len(found) == count:
                    return found
    return found
