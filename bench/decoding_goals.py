"""The goals of the decoding room, one row each, from what the bench measured; the tables."""

from typing import Any

import decoding_laws as laws

GREEDY, LOOKUP = "generate", "generate, prompt lookup"
LOOKING_BACK = ("prompt_lookup", "lookahead", "auto")
WITH_LOGITS = ("token_recycling", "aded", "lookahead+token_recycling")
WITH_MODEL = ("draft_model", "dyspec")
SINGLE = ("none", "prompt_lookup", "lookahead", "token_recycling", "aded")


def goals_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per goal of the room; what a quick run leaves out has no figure."""
    rows: list[dict[str, Any]] = []

    def add(name: str, goal: float, measured: float | None, unit: str = "x") -> None:
        is_limit = unit in ("TV", "deviation", "excess")
        holds = None
        if measured is not None:
            holds = measured <= goal if is_limit else measured >= goal
        rows.append(
            {"name": name, "goal": goal, "measured": measured, "unit": unit, "holds": holds}
        )

    large, starter = found.get("100M bfloat16"), found.get("starter bfloat16")
    for task, label in (("code", "code"), ("prose", "prose")):
        add(f"100M bf16, {label}, no store / generate", 2.4, _best(large, task))
        add(f"100M bf16, {label}, no store / prompt lookup", 1.6, _best(large, task, LOOKUP))
    for task, label in (("code", "code"), ("docs", "prose (docstrings)")):
        add(f"100M bf16, {label}, store / generate", 3.8, _best(large, task, store=True))
        name = f"100M bf16, {label}, store / prompt lookup"
        add(name, 2.5, _best(large, task, LOOKUP, store=True))
    add("100M bf16, edit / generate", 6.0, _best(large, "edit"))
    add("100M bf16, edit / prompt lookup", 1.6, _best(large, "edit", LOOKUP))
    add("stretch: 100M bf16, code, store / generate", 4.5, _best(large, "code", store=True))
    add("stretch: 100M bf16, edit / generate", 8.0, _best(large, "edit"))
    stock = found.get("100M bfloat16, unmodified modules")
    add("100M bf16, unmodified HF modules, code / generate", 2.1, _best(stock, "code"))
    add("100M bf16, unmodified HF modules, edit / generate", 5.0, _best(stock, "edit"))
    for task in ("prose", "code"):
        add(f"starter with its draft model, {task} / generate", 2.5, _with_model(starter, task))
        free = found.get("free running", {}).get(task)
        add(
            f"starter with its draft model, {task}, free running / generate",
            2.5,
            free and free["ratio"].get("draft_model"),
        )
    for name in ("starter bfloat16", "100M bfloat16"):
        add(f"no drafter / generate, {name}", 1.6, _plain(found.get(name)))
    for task in ("code", "docs", "edit", "chat"):
        add(f"automatic choice / best single drafter, {task}", 0.97, _auto(starter, task))
    add("automatic choice / no drafter, worst task", 0.97, _auto_over_plain(starter))
    for name in ("identical, greedy bf16", "identical, seed-exact bf16"):
        add(f"{name}, 1,000 prompts", 1.0, found.get(name), "share")
    add("largest total variation over enumerated strings", 1e-10, found["enumerated"], "TV")
    add("batch of 8, ragged / batched generate", 1.5, found.get("batch"))
    add("recurrent and hybrid models take chains", 1.0, found["hybrids"], "share")
    table = found.get("acceptance")
    for name in (*laws.SAMPLERS, "seed_exact"):
        off, over = _deviation(table, name)
        add(f"one-step acceptance of {name}, off its known value", 0.02, off, "deviation")
        add(f"one-step acceptance of {name}, above the bound", 0.01, over, "excess")
    add("chi-square over 20,000 samples, smallest p", 0.001, found.get("chi-square"), "p")
    add("tune picks the winner on code, chat, prose", 0.97, found.get("tune"), "share")
    add("on a GPU: 8B-class and starter model", 1.0, None)
    return rows


def _best(
    result: dict[str, Any] | None, task: str, base: str = GREEDY, *, store: bool = False
) -> float | None:
    """Return the ratio of the best way on a task to a way of transformers."""
    if result is None or task not in result["tasks"]:
        return None
    rows = result["tasks"][task]
    ours = [row["ratio"] for name, row in rows.items() if _is_ours(name, store)]
    return max(ours) / rows[base]["ratio"] if ours else None


def _is_ours(name: str, store: bool) -> bool:
    return not name.startswith("generate") and ("rest" in name) == store


def _with_model(result: dict[str, Any] | None, task: str) -> float | None:
    rows = result["tasks"].get(task, {}) if result else {}
    return max((rows[n]["ratio"] for n in WITH_MODEL if n in rows), default=None)


def _plain(result: dict[str, Any] | None) -> float | None:
    return min(rows["none"]["ratio"] for rows in result["tasks"].values()) if result else None


def _auto(result: dict[str, Any] | None, task: str) -> float | None:
    rows = result["tasks"].get(task) if result else None
    if not rows or "auto" not in rows:
        return None
    best: float = max(rows[name]["ratio"] for name in SINGLE if name in rows)
    return float(rows["auto"]["ratio"]) / best


def _auto_over_plain(result: dict[str, Any] | None) -> float | None:
    if result is None:
        return None
    return min(r["auto"]["ratio"] / r["none"]["ratio"] for r in result["tasks"].values())


def _deviation(table: dict[str, Any] | None, name: str) -> tuple[float | None, float | None]:
    """Return the largest relative distance to the known value, and above the bound."""
    if table is None:
        return None, None
    row = table[name]
    pairs = list(zip(row["measured"], row["known"], strict=True))
    above = zip(row["measured"], row["bound"], strict=True)
    return max(abs(a - b) / b for a, b in pairs), max(max(0.0, a / b - 1.0) for a, b in above)


def show(document: dict[str, Any]) -> None:
    """Print the result as tables."""
    print(f"{document['machine']}; text forced on both sides unless it says otherwise")
    for name, result in document["results"].items():
        if isinstance(result, dict) and "tasks" in result:
            _show_tasks(name, result)
    for task, free in document["results"].get("free running", {}).items():
        looping = f"{free['num_looping']} of {free['num_texts']} texts loop"
        print(f"\nstarter bfloat16, {task}, free running ({looping}), x generate:")
        print("  " + ", ".join(f"{way} {ratio:.2f}" for way, ratio in free["ratio"].items()))
    table = document["results"].get("acceptance")
    if table:
        print("\none-step acceptance at k = 1, 2, 4, 8: measured (known) [bound]")
        for name, row in table.items():
            cells = zip(row["measured"], row["known"], row["bound"], strict=True)
            print(f"  {name:18}", "  ".join(f"{m:.3f} ({k:.3f}) [{b:.3f}]" for m, k, b in cells))
    print("\ngoals:")
    for goal in document["goals"]:
        mark = {True: "holds", False: "MISSED", None: "n/a"}[goal["holds"]]
        value = "not measured" if goal["measured"] is None else f"{goal['measured']:.3g}"
        print(f"  {mark:6} {goal['name']}: {value} {goal['unit']} ({goal['goal']:g})")


def _show_tasks(name: str, result: dict[str, Any]) -> None:
    forwards = ", ".join(f"{n}: {ms:.2f}" for n, ms in result["forward_ms"].items())
    print(f"\n{name} ({result['forward_by']} forward; ms by tokens {forwards})")
    for task, rows in result["tasks"].items():
        print(f"  {task:30} bytes/s  x generate (min-max)  tokens/step")
        for way, row in rows.items():
            steps = "" if row["tokens_per_step"] is None else f"{row['tokens_per_step']:.2f}"
            print(
                f"    {way:28} {row['bytes_per_second']:7.0f}  {row['ratio']:5.2f} "
                f"({row['min']:.2f}-{row['max']:.2f})  {steps:>8}"
            )
