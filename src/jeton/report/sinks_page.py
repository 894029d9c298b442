"""The page of the heads that rest on the first tokens: sink mass, drained values, peaks."""

from typing import TYPE_CHECKING

from jeton.report.document import Block, Document, Figure, Figures, HeatTable, Section, Table

if TYPE_CHECKING:
    from jeton.kv.sinks import SinkReport

_EXPLAINED = (
    "A head whose queries find nothing gives its attention to the first tokens, whose values are "
    "short: it rests. A policy that drops these tokens wakes it. Many heads rest in some places "
    "of a text and work in others."
)
_SHOWN = 16  # heads in the table


def sinks_document(result: "SinkReport") -> Document:
    """Return the page of a result."""
    heads = result.heads
    resting = [row for row in heads if row.dormant > 0.5]
    most = max(heads, key=lambda row: row.sink_mass)
    first = {row.layer: row for row in heads}
    peak = max(first.values(), key=lambda row: row.residual_peak)
    share = sum(row.sink_mass for row in heads) / len(heads)
    blocks: list[Block] = [
        Figures(
            [
                Figure("Mean sink mass", f"{share:.1%}", f"even: {most.even_mass:.1%}"),
                Figure(
                    "Resting heads",
                    f"{len(resting)} of {len(heads)}",
                    "rest at more than half of the tokens",
                ),
                Figure("Most", f"{most.sink_mass:.1%}", f"layer {most.layer}, head {most.head}"),
                Figure("Residual peak", f"{peak.residual_peak:.1f}x", f"into layer {peak.layer}"),
            ]
        ),
        Section("Heads that rest", _EXPLAINED, "heads"),
        _map(
            result,
            "Attention on the first tokens, % of a query's",
            [100 * row.sink_mass for row in heads],
            (10.0, 20.0, 40.0, 60.0, 80.0),
            "Mean over the queries after them.",
        ),
        _map(
            result,
            "Part of the queries that rest, %",
            [100 * row.dormant for row in heads],
            (5.0, 25.0, 50.0, 75.0, 95.0),
            "More than half of their attention lies on the first tokens.",
        ),
        Section(
            "Why resting costs nothing",
            "Where values of the first tokens are short, attention to them adds little to the "
            "residual stream.",
            "drain",
        ),
        _map(
            result,
            "Norm of the first tokens' values, % of the others'",
            [100 * row.value_drain for row in heads],
            (20.0, 40.0, 60.0, 80.0, 100.0),
            "Heads of a group share values.",
        ),
        Table(
            ["layer", "residual peak", "sink mass", "value norm"],
            [_layer_row(result, layer) for layer in first],
            caption="Peak: norm of a layer's input at the first tokens over the others' median.",
        ),
        Table(
            ["head", "sink mass", "resting", "value norm"],
            [
                [
                    f"layer {row.layer}, head {row.head}",
                    f"{row.sink_mass:.1%}",
                    f"{row.dormant:.1%}",
                    f"{row.value_drain:.0%}",
                ]
                for row in sorted(heads, key=lambda row: -row.sink_mass)[:_SHOWN]
            ],
            caption="The heads with the most attention on the first tokens.",
        ),
    ]
    return Document(
        title="Attention sinks",
        subtitle=f"{result.model}: {result.num_windows} windows of {result.window} tokens, "
        f"first {result.sinks} of each",
        blocks=tuple(blocks),
    )


def _map(
    result: "SinkReport", title: str, values: list[float], limits: tuple[float, ...], note: str
) -> HeatTable:
    """Return one figure of all heads, a row for each layer."""
    rows: dict[int, list[float | None]] = {}
    for row, value in zip(result.heads, values, strict=True):
        rows.setdefault(row.layer, []).append(value)
    columns = [f"head {i}" for i in range(max(map(len, rows.values())))]
    named = [(f"layer {layer}", found) for layer, found in rows.items()]
    return HeatTable(title, columns, named, limits, note, digits=0)


def _layer_row(result: "SinkReport", layer: int) -> list[str]:
    own = [row for row in result.heads if row.layer == layer]
    mass = sum(row.sink_mass for row in own) / len(own)
    drain = sum(row.value_drain for row in own) / len(own)
    return [str(layer), f"{own[0].residual_peak:.2f}x", f"{mass:.1%}", f"{drain:.0%}"]
