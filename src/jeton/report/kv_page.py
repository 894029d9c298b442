"""The page of a bench of cache policies: answers, memory, text, and a picture of the trade."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jeton.report.document import Block, Document, Lines, Section, Table

if TYPE_CHECKING:
    from jeton.kv.harness import Answers, KvBench

_EXPLAINED = (
    "A tiny model that knows key-value chains reads a context, the policy cuts or selects, and "
    "only then come the questions. It shows which facts survive, not the quality of language."
)


def kv_document(result: "KvBench") -> Document:
    """Return the page of a result."""
    dense = next(row for row in result.answers if row.policy == "dense")
    rest = [row for row in result.answers if row.policy != "dense"]
    evicting = [row for row in rest if row.full_steps is None]
    selecting = [row for row in rest if row.full_steps is not None]
    families = list(dense.accuracy)
    blocks: list[Block] = [
        Section("Key-value chains", _EXPLAINED, "chains"),
        Table(
            ["policy", "kept", *families, "mean", "memory", "full steps"],
            [
                [
                    row.policy,
                    f"{row.keep:.1%}",
                    *(round(row.accuracy[family], 3) for family in families),
                    round(row.mean, 3),
                    f"{row.memory:.0%}",
                    "" if row.full_steps is None else f"{row.full_steps:.0%}",
                ]
                for row in sorted(result.answers, key=lambda row: (-row.keep, -row.mean))
            ],
            caption=f"Accuracy by family; {result.contexts} contexts of {result.length} tokens.",
        ),
    ]
    for title, x_label, part in (
        ("Evicting: accuracy against memory", "memory, % of the dense cache", evicting),
        ("Selecting: accuracy against what is attended", "context attended, %", selecting),
    ):
        if part:
            blocks.append(_picture(title, x_label, part))
    if result.peer:
        blocks += _peer_blocks(result)
    if result.texts:
        blocks += [Section("Real text", f"Recorded text, forced; model: {result.model}.", "text")]
        blocks.append(_text_table(result))
    return Document(
        title="Cache policies",
        subtitle=f"{len({row.policy for row in rest})} policies against the dense cache",
        blocks=tuple(blocks),
    )


def _peer_blocks(result: "KvBench") -> list[Block]:
    """Return our policies and those of kvpress side by side."""
    ours = {(row.policy, row.keep): row for row in result.answers}
    rows: list[list[str | float]] = []
    for row in result.peer:
        own = ours[row.policy, row.keep]
        rows.append(
            [
                row.policy,
                f"{row.keep:.1%}",
                round(own.mean, 3),
                round(row.mean, 3),
                f"{own.memory:.0%}",
                f"{row.memory:.0%}",
                round(row.own_ms_per_step, 2),
                round(row.ms_per_step, 2),
            ]
        )
    columns = ["policy", "kept", "accuracy", "kvpress", "memory", "kvpress", "ms/step", "kvpress"]
    series = []
    for name in dict.fromkeys(row.policy for row in result.peer):
        own_rows = sorted((r for r in result.peer if r.policy == name), key=lambda row: row.keep)
        both = [ours[name, row.keep] for row in own_rows]
        series.append((name, [100 * r.memory for r in both], [r.mean for r in both]))
        x = [100 * r.memory for r in own_rows]
        series.append((f"{name}, kvpress", x, [r.mean for r in own_rows]))
    return [
        Section(
            "Beside kvpress",
            "The same model, contexts and questions. kvpress cuts the prompt once and keeps what "
            "comes after it; ours go on cutting to the budget.",
            "peer",
        ),
        Table(columns, rows, caption="Mean accuracy, keys and values of dense, CPU time."),
        Lines(
            "Accuracy against memory, beside kvpress",
            "memory, % of the dense cache",
            "mean accuracy",
            series,
            digits=2,
        ),
    ]


def _picture(title: str, x_label: str, rows: "Sequence[Answers]") -> Lines:
    by_memory = x_label.startswith("memory")
    series = []
    for name in sorted({row.policy for row in rows}):
        own = sorted((row for row in rows if row.policy == name), key=lambda row: row.keep)
        x = [100 * (row.memory if by_memory else row.keep) for row in own]
        series.append((name, x, [row.mean for row in own]))
    series.sort(key=lambda item: -item[2][-1])
    return Lines(title, x_label, "mean accuracy", series, digits=2)


def _text_table(result: "KvBench") -> Table:
    return Table(
        [
            "text",
            "policy",
            "kept",
            "bits per byte",
            "KL, nats",
            "ms per step",
            "memory",
            "full steps",
            "limit",
        ],
        [
            [
                row.text,
                row.policy,
                f"{row.keep:.1%}",
                round(row.bits_per_byte, 4),
                round(row.kl_nats, 4),
                round(row.ms_per_step, 2),
                f"{row.memory:.0%}",
                "" if row.full_steps is None else f"{row.full_steps:.0%}",
                f"{row.limit:.2f}x",
            ]
            for row in result.texts
        ],
        caption="KL: dense law to the policy's. Limit: the speed-up by bytes read alone.",
    )
