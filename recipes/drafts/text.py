"""Collect the text that drafts of the starter model are trained on.

    python recipes/drafts/text.py --data FOLDER --out TEXT

Python: the standard library of the interpreter that runs this (PSF licence), every file but those
of bucket 0, which stays held out. Prose: the English books and speeches of `FOLDER/corpora/en`
(public domain), but the two books that stay held out, and the problems of GSM8K
(`FOLDER/math/gsm8k_train.jsonl`, MIT). Without --data the text is the standard library alone.
"""

import argparse
import json
from pathlib import Path

from jeton.starter import library_bucket, library_files

HELD_OUT_BOOKS = ("botchan.txt", "carroll-alice.txt")
MOST_PYTHON_BYTES = 14_000_000  # about as much as there is prose


def collect(data: Path | None) -> dict[str, str]:
    """Return documents by file name."""
    documents = {}
    left = MOST_PYTHON_BYTES
    names = library_files()
    for name in sorted(names, key=lambda name: (library_bucket(f"order {name}"), name)):
        text = names[name].read_text(encoding="utf-8")
        if library_bucket(name) == 0 or left < len(text):
            continue
        left -= len(text)
        documents["python/" + name.replace("/", "__")] = text
    if data is None:
        return documents
    for path in sorted((data / "corpora" / "en").rglob("*.txt")):
        if path.name not in HELD_OUT_BOOKS:
            documents[f"prose/{path.name}"] = path.read_text(encoding="utf-8")
    problems = (data / "math" / "gsm8k_train.jsonl").read_text(encoding="utf-8").splitlines()
    parsed = [json.loads(line) for line in problems]
    lines = [f"Question: {p['question']}\nAnswer: {p['answer']}" for p in parsed]
    documents["prose/gsm8k.txt"] = "\n\n".join(lines)
    return documents


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with corpora/ and math/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    documents = collect(arguments.data)
    for name, text in documents.items():
        path = arguments.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    size = sum(len(text.encode()) for text in documents.values())
    print(f"{arguments.out}: {len(documents)} files, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
