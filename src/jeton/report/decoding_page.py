"""The page of a generation: who drafted each token, what held, how fast, how near the optimum."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jeton.decoding.generation import Generation
from jeton.decoding.loops import IS_LOOPING, loop_share
from jeton.decoding.trace import TARGET, Trace, TracedStep
from jeton.decoding.tune import Tuning
from jeton.report.document import (
    Bars,
    Block,
    Cell,
    Code,
    Document,
    Figure,
    Figures,
    Lines,
    MarkedText,
    Note,
    Section,
    Table,
)
from jeton.report.format import format_number, format_percent, format_ratio, format_seconds

_MAX_DEPTHS = 12
_WINDOW = 8  # steps over which tokens per step are averaged


@dataclass(frozen=True, slots=True)
class GenerationReport:
    """What the page of a generation shows.

    Attributes:
        model: Name.
        prompt: Its bytes.
        tokens: Bytes of each new token.
        generation: The text and its statistics.
        trace: The steps.
        drafter: Name, "none" for plain decoding.
        verifier: Name.
        settings: Sampling, dtype and machine in words.
        seconds: Of decoding without the prompt.
        reference_bytes_per_second: Of `generate` of transformers; None when not measured.
    """

    model: str
    prompt: bytes
    tokens: Sequence[bytes]
    generation: Generation
    trace: Trace
    drafter: str
    verifier: str
    settings: str
    seconds: float
    reference_bytes_per_second: float | None = None

    @property
    def bytes_per_second(self) -> float:
        """Bytes of text per second of decoding."""
        return sum(map(len, self.tokens)) / self.seconds if self.seconds else 0.0


def generation_document(report: GenerationReport) -> Document:
    """Return the page."""
    stats, trace = report.generation.stats, report.trace
    marks = [name for step in trace.steps for name in step.drafted_by][: len(report.tokens)]
    blocks: list[Block] = [
        Figures(_figures(report)),
        *_remarks(report),
        Section("Who drafted each token"),
        MarkedText(
            "Text",
            list(zip(marks, report.tokens, strict=True)),
            quiet=TARGET,
            note="A drafted token was proposed and held; the target drew the others itself.",
        ),
        Section("What held, and when"),
        *_depths(stats.proposed_by_depth, stats.accepted_by_depth),
        *_over_time(trace.steps),
        Section("Where the time went"),
        _phases(report, Counter(marks)),
        Section("The prompt"),
        Code(report.prompt.decode("utf-8", errors="replace")),
    ]
    return Document(
        title=f"{report.model}: {len(report.tokens)} tokens",
        subtitle=report.settings,
        headline=_headline(report),
        blocks=tuple(blocks),
        footer=f"drafter {report.drafter}, verifier {report.verifier}",
    )


def _headline(report: GenerationReport) -> str:
    stats = report.generation.stats
    text = f"{format_number(float(stats.tokens_per_step))} tokens per forward of the model"
    if report.reference_bytes_per_second:
        ratio = report.bytes_per_second / report.reference_bytes_per_second
        text += f", {format_ratio(ratio)} the speed of generate of transformers"
    return f"{text}."


def _figures(report: GenerationReport) -> list[Figure]:
    stats, trace = report.generation.stats, report.trace
    figures = [
        Figure("bytes per second", format_number(report.bytes_per_second), "without the prompt"),
        Figure("tokens per step", format_number(float(stats.tokens_per_step)), "1 without drafts"),
        Figure(
            "drafted tokens that held",
            format_percent(stats.acceptance_rate),
            f"{stats.num_accepted:,} of {stats.num_proposed:,}",
        ),
    ]
    reference = report.reference_bytes_per_second
    if reference:
        ratio = report.bytes_per_second / reference
        figures.append(
            Figure(
                "against transformers",
                format_ratio(ratio),
                f"generate: {format_number(reference)} bytes per second",
                "good" if ratio > 1 else "bad",
            )
        )
    if trace.acceptance is not None and trace.optimal_acceptance is not None:
        figures.append(
            Figure(
                "levels that kept a draft",
                format_percent(trace.acceptance),
                f"the optimal rule expects {format_percent(trace.optimal_acceptance)}",
            )
        )
    return figures


def _remarks(report: GenerationReport) -> list[Block]:
    share = loop_share(report.generation.token_ids)
    if share < IS_LOOPING:
        return []
    return [
        Note(
            f"The text repeats itself ({format_percent(share, 0)} of its 8-grams stood in it "
            "before): its speed says nothing about other text.",
            "bad",
        )
    ]


def _depths(proposed: Sequence[int], accepted: Sequence[int]) -> list[Block]:
    """Return the bars of what held by depth; nothing where nothing was drafted."""
    pairs = list(zip(proposed, accepted, strict=True))[:_MAX_DEPTHS]
    if not any(count for count, _ in pairs):
        return []
    bars = [
        (f"depth {depth}", [("held", held / count if count else None)])
        for depth, (count, held) in enumerate(pairs, start=1)
    ]
    return [Bars("Acceptance by depth", "share of drafted tokens that held", bars)]


def _over_time(steps: Sequence[TracedStep]) -> list[Block]:
    """Return tokens per step, averaged over a few steps, by the tokens so far."""
    if len(steps) < 2:
        return []
    so_far, xs, ys = 0, [], []
    for index, step in enumerate(steps):
        so_far += len(step.token_ids)
        window = steps[max(0, index + 1 - _WINDOW) : index + 1]
        xs.append(float(so_far))
        ys.append(sum(len(one.token_ids) for one in window) / len(window))
    note = f"Mean of the last {_WINDOW} steps."
    return [
        Lines(
            "Tokens per step", "tokens so far", "tokens per step", [("tokens", xs, ys)], note=note
        )
    ]


def _phases(report: GenerationReport, marks: Counter[str]) -> Table:
    stats = report.generation.stats
    rows: list[tuple[str, str]] = [
        ("reading the prompt", format_seconds(stats.prefill_s)),
        ("drafting", format_seconds(stats.draft_s)),
        ("verifying", format_seconds(stats.verify_s)),
        ("steps", format_number(stats.num_steps)),
        ("nodes verified", format_number(stats.num_proposed)),
    ]
    rows += [(f"tokens of {name}", format_number(count)) for name, count in marks.most_common()]
    return Table(("what", "how much"), rows)


def tuning_document(tuning: Tuning) -> Document:
    """Return the table of a tuning, fastest first."""
    best = tuning.best
    rows = [
        (
            row.drafter,
            str(row.num_draft_tokens or ""),
            format_number(row.bytes_per_second),
            Cell(format_ratio(row.ratio), "good" if row is best else "neutral"),
            format_number(float(row.tokens_per_step)),
            format_percent(row.acceptance_rate, 0),
        )
        for row in tuning.rows
    ]
    headline = (
        "Plain decoding is the fastest way."
        if best.drafter == "none"
        else f"{best.drafter} with drafts of up to {best.num_draft_tokens} tokens is the fastest "
        f"way: {format_ratio(best.ratio)} plain decoding."
    )
    heads = ("drafter", "draft", "bytes/s", "of plain", "tokens/step", "held")
    return Document(
        title=f"{tuning.model}: ways of decoding",
        subtitle=f"{tuning.num_texts} texts, {tuning.dtype}, {tuning.machine}",
        headline=headline,
        blocks=(Table(heads, rows),),
    )
