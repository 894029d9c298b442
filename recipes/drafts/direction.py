"""Train a draft of every kind for the starter model and print what it is worth before and after.

    python recipes/drafts/text.py --data FOLDER --out TEXT
    python recipes/drafts/direction.py --text TEXT --work WORK [--minutes 4] [--methods a,b]

Figures are those of files that were held out from everything (bucket 0 of the standard library),
replayed: tokens per step and acceptance rate, or what the method measures instead. Each method has
a run folder in WORK; a killed run goes on where it was.
"""

import argparse
import json
import sys
from pathlib import Path

from jeton.core.progress import Bars
from jeton.decoding.training.config import DraftTrainConfig
from jeton.decoding.training.registry import DRAFT_TRAINERS
from jeton.decoding.training.run import DraftTrained, resume_draft, train_draft
from jeton.starter import library_bucket, library_files

DRAFT = "starter-draft"  # what the methods that train a draft model further begin with


def held_out(folder: Path) -> Path:
    """Write files of bucket 0 and return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in library_files().items():
        text = path.read_text(encoding="utf-8")
        if library_bucket(name) == 0 and len(text) > 4000:
            (folder / name.replace("/", "__")).write_text(text, encoding="utf-8")
    return folder


def run(name: str, arguments: argparse.Namespace) -> DraftTrained:
    """Train by one method, or go on with it."""
    out = arguments.work / name
    if (out / "run.json").is_file():
        return resume_draft(out, progress=Bars())
    config = DraftTrainConfig(
        target="starter",
        text=(arguments.text,),
        held_out=(held_out(arguments.work / "held_out"),),
        out=out,
        method=name,
        draft_model=DRAFT if DRAFT_TRAINERS.load(name).needs_draft else "",  # type: ignore[attr-defined]
        minutes=arguments.minutes,
        threads=1,
    )
    return train_draft(config, progress=Bars())


def main() -> None:
    """Print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="folder of text.py")
    parser.add_argument("--work", type=Path, required=True, help="run folders")
    parser.add_argument("--minutes", type=float, default=4.0, help="training per method")
    parser.add_argument("--methods", default="", help="names joined by commas; all by default")
    arguments = parser.parse_args()
    names = arguments.methods.split(",") if arguments.methods else DRAFT_TRAINERS.names()
    rows = []
    for name in names:
        found = run(name, arguments)
        rows.append(
            {
                "method": name,
                "steps": found.num_steps,
                "tokens": found.num_tokens,
                "seconds": found.seconds,
                "before": found.before,
                "after": found.after,
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr)
    print(json.dumps({"schema_version": 1, "target": "starter", "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
