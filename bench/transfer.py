"""Bench of the transfer room: initializers and healers on the starter model, in bits per byte.

python bench/transfer.py [--json] [--quick] [--only SECTION ...] [--cells FILE [--read]]

Sections: zero_shot, healing, extension, bytes, distillation, large. The source is the starter
model; the destination is a BPE vocabulary of the same size, learned on the part of Python's
standard library that the model never read; figures are of the held-out tenth of it. "gap" is bits
per byte of the destination minus that of the control: the source itself, trained for the same CPU
seconds on the same text, at a tenth of the rates, which suits it better. Times are CPU seconds of
one thread; each mark of a healing curve is a run of its own, whose learning rate falls to zero at
that mark. How many steps fit into a time is measured once per healer, so that all initializers get
the same steps.

With --cells each figure goes to a file when it is measured; a killed bench that is started again
measures only what is missing, and sections can run at different times. Cells that were taken from
the file are listed as "recorded"; --read measures nothing. A section that was not run leaves its
rows without a measurement. The whole bench takes some 6 CPU hours; --inits, --healers and --marks
narrow the healing table, and its goal at 1,800 seconds needs `--marks 1800`.
"""

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from jeton.transfer.registry import INITIALIZERS
from transfer_goals import goals_of, show
from transfer_ground import Cells, make_ground
from transfer_sections import (
    byteification,
    distillation,
    extension,
    healing,
    large,
    zero_shot,
)

SCHEMA_VERSION = 2
SECTIONS = ("zero_shot", "healing", "extension", "bytes", "distillation", "large")
MARKS = (10.0, 60.0, 300.0)
HEALERS_SHOWN = ("cross_entropy", "embedding_ce", "alm")
QUICK = ("mean", "random", "ridge", "context_distillation")


def grid_of(
    arguments: argparse.Namespace, names: Sequence[str]
) -> Iterator[tuple[str, str, float]]:
    """Yield (initializer, healer, seconds), the control at every mark."""
    inits = arguments.inits or ["mean", *(name for name in names if name != "mean")]
    if arguments.read:
        return
    for mark in arguments.marks:
        if not arguments.without_control:
            yield "control", "cross_entropy", mark
        for healer in arguments.healers:
            for init in inits:
                yield init, healer, mark


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the sections that were asked for."""
    torch.set_num_threads(1)
    quick = arguments.quick
    wanted = arguments.only or (["zero_shot"] if quick else list(SECTIONS))
    ground = make_ground(quick, arguments.hypernetwork)
    cells = Cells(arguments.cells, ground.fingerprint(), is_reading=arguments.read)
    names = INITIALIZERS.names()
    if arguments.read:
        wanted = list(SECTIONS)
    found: dict[str, Any] = {}
    if "zero_shot" in wanted:
        found["zero_shot"] = zero_shot(cells, ground, QUICK if quick else ["mean", *names])
    if "healing" in wanted:
        grid = grid_of(arguments, names)
        found["healing"] = healing(cells, ground, list(grid), arguments.compile)
    if "extension" in wanted:
        found["extension"] = extension(cells, ground, 60.0)
    if "bytes" in wanted:
        found["bytes"] = byteification(cells, ground, arguments.byte_seconds)
    if "distillation" in wanted:
        found["distillation"] = distillation(cells, ground, arguments.distill_seconds)
    if "large" in wanted:
        some = [n for n in names if n not in ("zett", "context_distillation")]
        found["large"] = large(cells, some)
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": f"{platform.machine()}, 1 thread, CPU time",
        "sections": wanted,
        "recorded": sorted(cells.recorded),
        **found,
        "goals": goals_of({} if quick else found),  # --quick measures less than a goal asks
    }


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="sections to run")
    parser.add_argument("--cells", type=Path, help="file of what was measured, read and added to")
    parser.add_argument("--read", action="store_true", help="only show what --cells holds")
    parser.add_argument("--hypernetwork", default="", help="ZeTT network; default: the starter's")
    parser.add_argument("--inits", nargs="+", help="initializers to heal; default: all")
    parser.add_argument("--healers", nargs="+", default=HEALERS_SHOWN, help="healers of the table")
    parser.add_argument("--marks", nargs="+", type=float, default=MARKS, help="CPU seconds")
    parser.add_argument("--without-control", action="store_true", help="heal no control")
    parser.add_argument("--compile", action="store_true", help="compile the healers' losses")
    parser.add_argument("--byte-seconds", type=float, default=1800.0)
    parser.add_argument("--distill-seconds", type=float, default=300.0)
    arguments = parser.parse_args()
    if arguments.read and arguments.cells is None:
        parser.error("--read needs --cells FILE")
    result = run(arguments)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
