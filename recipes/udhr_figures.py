"""Counts the tokens of the UDHR with every tokenizer of a folder: `src/jeton/audit/udhr.json`.

    python recipes/udhr_figures.py ../shared/data

Only figures are written, no text. The text is the 30 articles of the Universal Declaration of
Human Rights, one paragraph per line, as packaged by github.com/wooorm/udhr (MIT; the UN lets its
text be reproduced freely).
"""

import csv
import json
import sys
from pathlib import Path

from jeton.audit.evidence import AuditInput
from jeton.audit.sources import read_parallel
from jeton.core.vocabulary import load_vocabulary

TEXT = (
    "the 30 articles of the Universal Declaration of Human Rights, 50 paragraphs in 68 languages, "
    "github.com/wooorm/udhr at d3d38276c916 (packaging MIT; the text is the UN's, free to copy)"
)
SMALL = ("sentencepiece-test-en",)  # a test fixture, not a tokenizer that anyone uses


def main(data: Path) -> None:
    """Write the figures."""
    texts = read_parallel(data / "udhr" / "articles")
    with (data / "udhr" / "index.tsv").open(encoding="utf-8") as stream:
        names = {row["code"]: row["name"] for row in csv.DictReader(stream, delimiter="\t")}
    languages = {
        code: {"name": names[code], "bytes": sum(len(p.encode()) for p in texts[code])}
        for code in sorted(texts)
    }
    tokenizers = {}
    for folder in sorted(path for path in (data / "tokenizers").iterdir() if path.is_dir()):
        if folder.name not in SMALL:
            vocabulary = load_vocabulary(folder)
            given = AuditInput(vocabulary, texts, is_parallel=True)
            tokenizers[folder.name] = {
                "vocab_size": vocabulary.vocab_size,
                "tokens": [given.groups[code].num_tokens for code in languages],
                "unreadable": given.unreadable_groups,
            }
    figures = {"text": TEXT, "languages": languages, "tokenizers": tokenizers}
    out = Path(__file__).resolve().parent.parent / "src" / "jeton" / "audit" / "udhr.json"
    lines = json.dumps(figures, ensure_ascii=False, separators=(",", ":"))
    out.write_text(lines.replace('"},', '"},\n').replace("]},", "]},\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
