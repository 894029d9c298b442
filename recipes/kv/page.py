"""Write the tables and pictures of docs/kv.md from documents of `jeton bench kv --json`.

    jeton bench kv --policies all --keep 0.125,0.25,0.5 --json > run.json
    jeton bench kv --policies snapkv,adakv,h2o,tova,keydiff,streaming,knorm,random \\
        --keep 0.125,0.25,0.5 --no-text --peer E/bin/python --json > peer.json
    python recipes/kv/page.py run.json peer.json

E is an environment with kvpress, which `make bench-kv` builds; `make kv-page` does all three.
"""

import json
import re
import sys
from pathlib import Path

from jeton.report.charts import draw_lines
from jeton.report.document import Lines

ROOT = Path(__file__).resolve().parents[2]
PAGE, IMAGES = ROOT / "docs" / "kv.md", ROOT / "docs" / "img"
CSS = ROOT / "src" / "jeton" / "report" / "page.css"
SHOWN = ("oracle", "a2sf", "snapkv", "keydiff", "h2o", "random")  # as many as there are colours
BESIDE = ("snapkv", "h2o", "keydiff")


def style():
    """Return the style of a picture that stands alone, in the colours of our pages."""
    colours = dict(reversed(re.findall(r"--c(\d): (#\w{6})", CSS.read_text(encoding="utf-8"))))
    rules = [f".f{n}{{fill:{c}}}.l{n}{{stroke:{c};fill:none}}" for n, c in colours.items()]
    return (
        "text{font:12px system-ui,sans-serif;fill:#1a1e24}.muted,.tick{fill:#59626e}"
        "[class^=l]{stroke-width:2}.value{font-weight:600}.axis{stroke:#8a93a2}"
        ".grid{stroke:#8a93a2;stroke-opacity:.3}" + "".join(rules) + "@media "
        "(prefers-color-scheme: dark){text{fill:#e7e9ed}.muted,.tick{fill:#a0a8b4}}"
    )


def draw(name, title, series):
    """Write a picture of accuracy against memory."""
    block = Lines(title, "memory, % of the dense cache", "answers to each key", series, digits=2)
    colours = {name: index for index, (name, _, _) in enumerate(series)}
    svg = draw_lines(block, 720.0, name, colours)
    svg = svg.replace(">", f"><style>{style()}</style>", 1)
    (IMAGES / f"{name}.svg").write_text(svg + "\n", encoding="utf-8")


def curve(rows, name):
    """Return memory and accuracy of a policy, by memory."""
    own = sorted((row for row in rows if row["policy"] == name), key=lambda row: row["memory"])
    return [100 * row["memory"] for row in own], [row["each_key"] for row in own]


def mean(row):
    """Return the mean accuracy over the families."""
    return sum(row["accuracy"].values()) / len(row["accuracy"])


def answers_table(run):
    """Return the rows of the first table, the best at 25% first."""
    by = {(row["policy"], row["keep"]): row for row in run["answers"]}
    prose = {(r["policy"], r["keep"]): r["kl_nats"] for r in run["texts"] if r["text"] == "prose"}
    names = sorted({name for name, _ in by} - {"dense"}, key=lambda n: -by[n, 0.25]["each_key"])
    lines = [
        "| policy | each key at 12.5% | 25% | 50% | families at 25% | memory at 25% "
        "| KL on prose at 25%, nats |",
        "|---|---|---|---|---|---|---|",
    ]
    dense = by["dense", 1.0]
    cells = [f"{dense['each_key']:.2f}"] * 3 + [f"{mean(dense):.2f}", "100%", "0"]
    lines.append(f"| dense | {' | '.join(cells)} |")
    for name in names:
        row = by[name, 0.25]
        cells = [f"{by[name, keep]['each_key']:.2f}" for keep in (0.125, 0.25, 0.5)]
        kl = prose.get((name, 0.25))
        cells += [f"{mean(row):.2f}", f"{row['memory']:.0%}", "" if kl is None else f"{kl:.3f}"]
        shown = name if name in ("oracle", "random") else f"`{name}`"
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return lines


def peer_table(run):
    """Return the rows of the table beside kvpress."""
    ours = {(row["policy"], row["keep"]): row for row in run["answers"]}
    lines = [
        "| policy | kept | each key | kvpress | memory | kvpress | ms per step | kvpress |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(run["peer"], key=lambda row: row["keep"]):
        own = ours[row["policy"], row["keep"]]
        answers = f"{own['each_key']:.2f} | {row['each_key']:.2f}"
        memory = f"{own['memory']:.0%} | {row['memory']:.0%}"
        times = f"{row['own_ms_per_step']:.2f} | {row['ms_per_step']:.2f}"
        lines.append(f"| `{row['policy']}` | {row['keep']:.1%} | {answers} | {memory} | {times} |")
    return lines


def fill(name, lines):
    """Put a table between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    part = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    assert part.search(text), f"docs/kv.md has no mark {name}"
    table = "\n".join(["", *lines, ""])
    PAGE.write_text(part.sub(lambda m: m[1] + table + m[2], text), encoding="utf-8")


def main():
    run, peer = (json.loads(Path(path).read_text(encoding="utf-8")) for path in sys.argv[1:3])
    fill("answers", answers_table(run))
    fill("peer", peer_table(peer))
    draw("kv", "Accuracy against memory", [(n, *curve(run["answers"], n)) for n in SHOWN])
    beside = []
    for name in BESIDE:
        beside.append((name, *curve(peer["answers"], name)))
        beside.append((f"{name}, kvpress", *curve(peer["peer"], name)))
    draw("kv_peer", "Accuracy against memory, beside kvpress", beside)


if __name__ == "__main__":
    main()
