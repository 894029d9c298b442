"""The goals of the transfer room, from the tables of its bench."""

from collections.abc import Iterator
from typing import Any

TRAINED_FROM = {"context_distillation": "zett"}  # its training counts as healing
PEERS = ("mean", "wechsel", "tokenadapt", "focus", "omp", "cw2v", "multivariate")


def goal(
    name: str, wanted: float, measured: float | None, unit: str, *, at_least: bool = False
) -> dict[str, Any]:
    """One row of the goals."""
    holds = None
    if measured is not None:
        holds = measured >= wanted if at_least else measured <= wanted
    return {"name": name, "goal": wanted, "measured": measured, "unit": unit, "holds": holds}


def best_cell(found: dict[str, Any], mark: str) -> dict[str, Any] | None:
    """Return the cell with the fewest bits within so many CPU seconds, and what gap it has closed.

    The seconds of the initializer count (a tenth more is let pass, as steps vary). The gap that is
    left is the distance to the control at the mark: the source trained as long on the same text.
    `of_own_gap` divides it by what the move had cost before anything was trained, `of_fvt_gap` by
    what FVT's start had cost.
    """
    heal, start = found.get("healing"), found.get("zero_shot", {})
    if heal is None or mark not in heal["control"] or "source" not in start:
        return None
    floor, rows = start["source"], start["initializers"]
    reached = []
    for name, curve in heal["curves"].items():
        init = name.split(" + ")[0]
        for cell in curve.values() if init in rows else ():
            seconds = rows[init]["cpu_seconds"] + cell["cpu_seconds"]
            if seconds <= 1.1 * float(mark):
                reached.append((cell["bits_per_byte"], seconds, name))
    if not reached:
        return None
    bits, seconds, name = min(reached)
    left = bits - heal["control"][mark]["bits_per_byte"]
    init = name.split(" + ")[0]
    own = rows[TRAINED_FROM.get(init, init)]["bits_per_byte"] - floor
    return {
        "curve": name,
        "cpu_seconds": seconds,
        "bits_per_byte": bits,
        "control": heal["control"][mark]["bits_per_byte"],
        "of_own_gap": 1 - left / own,
        "of_fvt_gap": 1 - left / (rows["mean"]["bits_per_byte"] - floor),
    }


def goals_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per goal of the room."""
    return [*_zero_shot(found), *_healing(found), *_others(found), *_large(found)]


def _zero_shot(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rows = found.get("zero_shot", {}).get("initializers", {})
    shares = {n: row["share_of_fvt_gap"] for n, row in rows.items() if "share_of_fvt_gap" in row}
    ours = {name: share for name, share in shares.items() if name not in PEERS}
    peers = [shares[name] for name in PEERS if name in shares]
    best = min(ours.values(), default=None)
    yield goal("zero-shot gap of the best initializer, share of FVT's", 0.55, best, "share")
    ratio = best / min(peers) if best is not None and len(peers) > 1 else None
    yield goal("zero-shot gap of the best initializer, share of the best peer's", 1, ratio, "share")


def _healing(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for wanted, mark in ((0.95, "300"), (0.99, "1800")):
        best = best_cell(found, mark)
        name = f"zero-shot gap closed after {mark} CPU-s"
        share = None if best is None else best["of_own_gap"]
        yield {**goal(name, wanted, share, "share of its own", at_least=True), "at": best}


def _others(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    grown = found.get("extension") or {}
    before, after = grown.get("source"), grown.get("grown")
    for wanted, where, column in (
        (1.0, "the domain", "bits_per_byte"),
        (1.01, "general text", "general_bits_per_byte"),
    ):
        ratio = after[column] / before[column] if before and after else None
        yield goal(f"a quarter more tokens, 60 s: bits on {where}", wanted, ratio, "x source")
    data = found.get("bytes") or {}
    ratio = None
    if data.get("bytes") and data.get("source"):
        ratio = data["bytes"]["bits_per_byte"] / data["source"]["bits_per_byte"]
    yield goal("byteification after 1800 CPU-s: bits", 1.1, ratio, "x source")
    rows = found.get("distillation") or {}
    for start, text in (("", "14 MB of text, read once"), ("scarce ", "150 kB, read many times")):
        for other in ("cross_entropy", "uld", "gold"):
            names = [start + other, f"{start}{other}, stopped early"]
            bits = [rows[name]["bits_per_byte"] for name in names if rows.get(name)]
            taught = rows.get(f"{start}alm")
            ratio = taught["bits_per_byte"] / min(bits) if taught and bits else None
            name = f"distillation across vocabularies, {text}: ALM against {other}, equal seconds"
            yield goal(name, 1.0, ratio, f"x {other}")


def _large(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    rows = (found.get("large") or {}).values()
    seconds = max((row["cpu_seconds"] for row in rows), default=None)
    peak = max((row["peak_bytes"] / 1e9 for row in rows), default=None)
    yield goal("128k x 4096 from 32k x 4096, slowest initializer", 120, seconds, "CPU-s")
    yield goal("128k x 4096 from 32k x 4096, peak memory", 8, peak, "GB")


def show(result: dict[str, Any]) -> None:
    """Print the tables and the goals."""
    start, heal = result.get("zero_shot"), result.get("healing")
    if start and "source" in start:
        print(f"source: {start['source']:.4f} bits per byte; right after the move:")
        for name, row in sorted(start["initializers"].items(), key=lambda r: r[1]["bits_per_byte"]):
            print(
                f"  {name:22}{row['bits_per_byte']:8.4f}  {row['share_of_fvt_gap']:6.1%} of FVT's "
                f"gap  {row['cpu_seconds']:7.1f} CPU-s"
            )
    if heal:
        marks = sorted(
            {m for c in [heal["control"], *heal["curves"].values()] for m in c}, key=float
        )
        print(f"\n  {'healed, CPU seconds:':40}" + "".join(f"{m:>9}" for m in marks))
        for name, curve in [("control: the source", heal["control"]), *heal["curves"].items()]:
            cells = (f"{curve[m]['bits_per_byte']:9.4f}" if m in curve else " " * 9 for m in marks)
            print(f"  {name:40}" + "".join(cells))
    for section in ("extension", "bytes", "distillation", "large"):
        for name, row in (result.get(section) or {}).items():
            if row:
                figures = "  ".join(f"{k} {v:.4g}" for k, v in row.items())
                print(f"  {section}: {name:22}{figures}")
    print()
    for row in result["goals"]:
        if row["measured"] is None:
            print(f"  not run {row['name']}")
            continue
        mark = "holds " if row["holds"] else "MISSED"
        print(f"  {mark}  {row['name']}: {row['measured']:.4g} {row['unit']} ({row['goal']:g})")
