"""The stages that only a retrofit has: it learns a vocabulary, and times decoding."""

import shutil
from pathlib import Path
from typing import Any, cast

from jeton.audit.run import audit
from jeton.core.progress import Progress
from jeton.core.run import disk_errors
from jeton.learn.export import BaseTokenizer, export_tokenizer
from jeton.learn.registry import LEARNERS
from jeton.lm.load import LanguageModel
from jeton.retrofit.config import RetrofitConfig
from jeton.retrofit.healing import some_documents
from jeton.retrofit.result import (
    RetrofitResult,
    SideFigures,
    common_fields,
    figures_of,
    lost_bits,
    with_speed,
)
from jeton.retrofit.speed import Speed, compare_speed, excerpts
from jeton.retrofit.texts import Texts

GENERAL_LIMIT = 0.03  # general text may lose this share before it counts as a regression
STRIP_BYTES = 480


def learn(
    config: RetrofitConfig, source: LanguageModel, texts: Texts, work: Path, progress: Progress
) -> dict[str, Any]:
    """Learn the vocabulary and write it as a tokenizer folder."""
    name = config.learner_for(source.vocabulary)
    learner = LEARNERS.create(name, config.options_for(name))
    learned = learner.learn(
        texts.train,
        base=source.vocabulary,
        vocab_size=config.vocab_size or None,
        progress=progress,
    )
    folder = work / "tokenizer"
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        export_tokenizer(learned, folder, base=cast(BaseTokenizer | None, source.tokenizer))
    return {
        "learner": name,
        "vocab_size": learned.vocab_size,
        "num_new": learned.num_new,
        "num_kept": learned.num_kept,
        "bytes_per_token": learned.bytes_per_token,
    }


def speeds(
    config: RetrofitConfig, source: LanguageModel, destination: LanguageModel, texts: Texts
) -> list[Speed]:
    """Return the decoding speed of source and destination on held-out text."""
    tuning = excerpts([str(t) for t in some_documents(texts.train, 200_000, 1)], 2)
    return compare_speed([source, destination], tuning, excerpts(texts.held_out, 3), config.drafter)


def certificate(
    config: RetrofitConfig,
    source: LanguageModel,
    destination: LanguageModel,
    texts: Texts,
    done: dict[str, Any],
) -> RetrofitResult:
    """Put the outcomes of all stages together."""
    before = with_speed(figures_of(config.model, done["source figures"]), done["speed"][0])
    after = with_speed(figures_of("destination", done["destination figures"]), done["speed"][1])
    sample = _sample_lines(max(texts.held_out, key=len))
    return RetrofitResult(
        **common_fields(done, texts.general_source),
        heal=config.heal,
        source=before,
        destination=after,
        held_out_files=texts.held_out_names,
        drafter=config.drafter,
        strip=[
            [lm.vocabulary.tokens[i] for i in lm.vocabulary.encode_lossy(sample)]
            for lm in (source, destination)
        ],
        audits=[audit(lm.vocabulary, texts.held_out) for lm in (source, destination)],
        regressions=regressions(before, after, config.heal),
    )


def _sample_lines(text: str) -> str:
    """Return whole lines from the middle of a text, about `STRIP_BYTES` of them."""
    middle = text.find("\n", max(0, len(text) // 2 - STRIP_BYTES)) + 1
    piece = text[middle:].lstrip("\n").encode()[:STRIP_BYTES].decode(errors="ignore")
    return piece[: piece.rfind("\n") + 1] or piece


def regressions(
    source: SideFigures, destination: SideFigures, heal: str = "cross_entropy"
) -> list[str]:
    """Return what is worse after than before, in words; empty when nothing is."""
    found = lost_bits(source, destination, heal, GENERAL_LIMIT)
    if destination.bytes_per_token <= source.bytes_per_token:
        found.append(
            f"bytes per token did not grow ({source.bytes_per_token:.3f} to "
            f"{destination.bytes_per_token:.3f}): ask for a larger --vocab-size"
        )
    before, after = source.speed, destination.speed
    for kind, old, new in (
        ("plain", before.bytes_per_second, after.bytes_per_second),
        (
            "speculative",
            before.speculative_bytes_per_second,
            after.speculative_bytes_per_second,
        ),
    ):
        if new < old:
            found.append(
                f"{kind} decoding became slower, from {old:.0f} to {new:.0f} bytes per second"
            )
    return found
