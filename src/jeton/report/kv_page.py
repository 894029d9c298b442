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

_TEXT_EXPLAINED = (
    "KL: from the dense model's law of the next token to the policy's. Full: part of the steps "
    "that read all keys. Limit: the speed-up that the bytes read would allow."
)


def kv_document(result: "KvBench") -> Document:
    """Return the page of a result."""
    dense = next(row for row in result.answers if row.policy == "dense")
    rest = [row for row in result.answers if row.policy != "dense"]
    evicting = [row for row in rest if row.full_steps is None]
    selecting = [row for row in rest if row.full_steps is not None]
    blocks: list[Block] = [
        Section("Key-value chains", _EXPLAINED, "chains"),
        *_answer_tables(result, list(dense.accuracy)),
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
        told = f"Recorded text, forced; model: {result.model}. {_TEXT_EXPLAINED}"
        blocks.append(Section("Real text", told, "text"))
        blocks += [
            _text_table(result, name) for name in dict.fromkeys(r.text for r in result.texts)
        ]
    return Document(
        title="Cache policies",
        subtitle=f"{len({row.policy for row in rest})} policies against the dense cache"
        + ("" if result.is_complete else "; interrupted before the end"),
        blocks=tuple(blocks),
    )


def _answer_tables(result: "KvBench", families: list[str]) -> list[Block]:
    """Return what each policy keeps of the answers, and the same by family."""
    ranked = sorted(result.answers, key=lambda row: (-row.keep, -row.each_key))
    size = f"{result.contexts} contexts of {result.length} tokens."
    means: list[list[str]] = [
        [
            row.policy,
            f"{row.keep:.1%}",
            f"{row.each_key:.3f}",
            f"{row.mean:.3f}",
            f"{row.memory:.0%}",
            "" if row.full_steps is None else f"{row.full_steps:.0%}",
        ]
        for row in ranked
    ]
    parts: list[list[str]] = [
        [row.policy, f"{row.keep:.1%}", *(f"{row.accuracy[name]:.2f}" for name in families)]
        for row in ranked
    ]
    return [
        Table(
            ["policy", "kept", "each key", "families", "memory", "full steps"],
            means,
            caption=f"Accuracy when every key is asked for once, mean over the families; {size}",
        ),
        Table(
            ["policy", "kept", *(name.replace("_", " ") for name in families)],
            parts,
            caption="Accuracy by family of questions.",
        ),
    ]


def _peer_blocks(result: "KvBench") -> list[Block]:
    """Return our policies and those of kvpress side by side."""
    ours = {(row.policy, row.keep): row for row in result.answers}
    answers: list[list[str]] = []
    costs: list[list[str]] = []
    for row in result.peer:
        own, head = ours[row.policy, row.keep], [row.policy, f"{row.keep:.1%}"]
        pairs = (own.each_key, row.each_key, own.mean, row.mean)
        answers.append([*head, *(f"{part:.3f}" for part in pairs)])
        steps = [f"{row.own_ms_per_step:.2f}", f"{row.ms_per_step:.2f}"]
        costs.append([*head, f"{own.memory:.0%}", f"{row.memory:.0%}", *steps])
    series = []
    for name in dict.fromkeys(row.policy for row in result.peer):
        own_rows = sorted((r for r in result.peer if r.policy == name), key=lambda row: row.keep)
        both = [ours[name, row.keep] for row in own_rows]
        series.append((name, [100 * r.memory for r in both], [r.each_key for r in both]))
        x = [100 * r.memory for r in own_rows]
        series.append((f"{name}, kvpress", x, [r.each_key for r in own_rows]))
    return [
        Section(
            "Beside kvpress",
            "The same model, contexts and questions. kvpress cuts the prompt once and keeps what "
            "comes after it; ours go on cutting to the budget.",
            "peer",
        ),
        Table(
            ["policy", "kept", "each key", "kvpress", "families", "kvpress"],
            answers,
            caption="Accuracy when every key is asked for once, mean over the families.",
        ),
        Table(
            ["policy", "kept", "memory", "kvpress", "ms per step", "kvpress"],
            costs,
            caption="Keys and values, of the dense ones; CPU time of a step.",
        ),
        Lines(
            "Accuracy against memory, beside kvpress",
            "memory, % of the dense cache",
            "answers to each key",
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
        series.append((name, x, [row.each_key for row in own]))
    series.sort(key=lambda item: -item[2][-1])
    return Lines(title, x_label, "answers to each key", series, digits=2)


def _text_table(result: "KvBench", text: str) -> Table:
    return Table(
        ["policy", "kept", "bits per byte", "KL, nats", "ms per step", "memory", "full", "limit"],
        [
            [
                row.policy,
                f"{row.keep:.1%}",
                f"{row.bits_per_byte:.4f}",
                f"{row.kl_nats:.4f}",
                f"{row.ms_per_step:.2f}",
                f"{row.memory:.0%}",
                "" if row.full_steps is None else f"{row.full_steps:.0%}",
                f"{row.limit:.2f}x",
            ]
            for row in result.texts
            if row.text == text
        ],
        caption=f"The text: {text}.",
    )
