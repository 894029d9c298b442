"""The stages of a retrofit, one function each: plain inputs, plain outcomes."""

import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor

from jeton.audit.run import AuditResult, audit
from jeton.core.progress import Progress
from jeton.core.run import disk_errors
from jeton.core.vocabulary import Vocabulary
from jeton.errors import DiskFullError
from jeton.learn.export import BaseTokenizer, export_tokenizer
from jeton.learn.registry import LEARNERS
from jeton.lm.bits import bits_per_byte
from jeton.lm.load import LanguageModel, load_model, quiet_transformers
from jeton.retrofit.auto_tokenizer import follow_tokenizer_json
from jeton.retrofit.config import HealingSettings, RetrofitConfig
from jeton.retrofit.rehearsal import rehearse
from jeton.retrofit.result import SCHEMA_VERSION, RetrofitResult, SideFigures
from jeton.retrofit.speed import Speed, compare_speed, excerpts
from jeton.retrofit.texts import Texts
from jeton.transfer.budget import seconds_per_step
from jeton.transfer.contract import HealInput, HealResult
from jeton.transfer.registry import HEALERS, INITIALIZERS
from jeton.transfer.transplant import transplant

START_BYTES = 60_000  # enough text to place the figure right after the transplant
REHEARSAL_TOKENS = 65_536  # seconds to sample, and enough for the short runs that need it
INIT_BYTES = 4_000_000  # text for initializers that learn vectors from it
STRIP_BYTES = 480


def load_source(config: RetrofitConfig) -> LanguageModel:
    """Load the source model, in the numbers that it is stored in."""
    return load_model(config.model, dtype=config.dtype)


def load_destination(config: RetrofitConfig, folder: Path) -> LanguageModel:
    """Load the written model as any user would."""
    return load_model(folder, dtype="auto")


def bits(lm: LanguageModel, texts: Texts, progress: Progress) -> dict[str, Any]:
    """Return bits per byte on the held-out domain text and on general text."""
    domain = bits_per_byte(lm, texts.held_out, progress=progress)
    general = bits_per_byte(lm, texts.general, progress=progress)
    return {"domain": domain, "general": general}


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


def transplanted(
    config: HealingSettings, source: LanguageModel, vocabulary: Vocabulary, texts: Texts
) -> Any:
    """Return the destination model and what the initializer did."""
    initializer = INITIALIZERS.create(config.init, config.options_for(config.init))
    sample = _some_documents(texts.train, INIT_BYTES, config.seed)
    return transplant(
        source.model,
        source.vocabulary,
        vocabulary,
        initializer,
        texts=tuple(str(text) for text in sample),
        seed=config.seed,
    )


def bits_at_start(
    config: HealingSettings,
    source: LanguageModel,
    vocabulary: Vocabulary,
    texts: Texts,
    progress: Progress,
) -> dict[str, Any]:
    """Return what the initializer did, and bits per byte before any healing."""
    model, result = transplanted(config, source, vocabulary, texts)
    moved = replace(source, model=model, vocabulary=vocabulary)
    figure = bits_per_byte(moved, start_sample(texts), progress=progress)
    return {
        "bits_per_byte": figure.bits_per_byte,
        "num_copied": result.num_copied,
        "num_composed": result.num_composed,
        "num_fallback": result.num_fallback,
    }


def start_sample(texts: Texts) -> list[str]:
    """Return the part of the held-out text that the figure before healing is measured on."""
    sample, left = [], START_BYTES
    for text in texts.held_out:
        if left > 0:
            sample.append(text.encode()[:left].decode(errors="ignore"))
            left -= len(sample[-1].encode())
    return sample


def plan(
    config: HealingSettings,
    source: LanguageModel,
    vocabulary: Vocabulary,
    texts: Texts,
    teacher: LanguageModel | None = None,
) -> dict[str, Any]:
    """Turn minutes into steps, once, so that a resumed run does exactly the same."""
    if config.steps >= 0 or config.minutes == 0:
        return {"num_steps": max(0, config.steps), "seconds_per_step": None}
    inputs = heal_input(config, source, vocabulary, texts, 0, teacher=teacher, is_probe=True)
    healer = HEALERS.create(config.heal, config.options_for(config.heal))
    seconds = seconds_per_step(healer, inputs)
    return {
        "num_steps": max(1, int(config.minutes * 60 / seconds)),
        "seconds_per_step": seconds,
    }


def heal(
    config: HealingSettings,
    source: LanguageModel,
    vocabulary: Vocabulary,
    texts: Texts,
    planned: dict[str, Any],
    work: Path,
    folder: Path,
    progress: Progress,
    teacher: LanguageModel | None = None,
) -> HealResult:
    """Train the transplanted model and write it as a Hugging Face folder."""
    inputs = heal_input(config, source, vocabulary, texts, planned["num_steps"], teacher=teacher)
    inputs = replace(inputs, progress=progress, checkpoint=work / "healing.pt")
    result = HealResult(0, 0, 0, 0.0)
    if inputs.num_steps:
        healer = HEALERS.create(config.heal, config.options_for(config.heal))
        result = healer.heal(inputs)
    model = inputs.model.to(source.model.dtype if config.dtype == "auto" else inputs.model.dtype)
    if config.dtype != "auto":
        model = model.to(getattr(torch, config.dtype))
    save_folder(model, work / "tokenizer", folder)
    return result


def save_folder(model: Any, tokenizer_folder: Path, folder: Path) -> None:
    """Write model and tokenizer beside each other; the folder appears whole or not at all."""
    partial = folder.with_name(folder.name + ".partial")
    with disk_errors(folder):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            with quiet_transformers():
                model.save_pretrained(partial, safe_serialization=True)
            for file in sorted(tokenizer_folder.iterdir()):
                shutil.copyfile(file, partial / file.name)
            follow_tokenizer_json(partial)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        except SafetensorError as error:  # its writer has no other class for a full disk
            shutil.rmtree(partial, ignore_errors=True)
            raise DiskFullError(
                f"cannot write {folder}: {error}",
                hint="free some space, then finish the run with --resume",
            ) from error
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def heal_input(
    config: HealingSettings,
    source: LanguageModel,
    vocabulary: Vocabulary,
    texts: Texts,
    num_steps: int,
    *,
    teacher: LanguageModel | None = None,
    is_probe: bool = False,
) -> HealInput:
    """Return the transplanted model in float32 with the ids that it is trained on.

    The teacher of methods that distil is the source unless another one is given.
    """
    model, _ = transplanted(config, source, vocabulary, texts)
    healer = HEALERS.create(config.heal, config.options_for(config.heal))
    batch_tokens = getattr(healer, "batch_tokens", 8192)
    wanted = 4 * batch_tokens if is_probe else num_steps * batch_tokens
    domain = _some_documents(texts.train, wanted * 8, config.seed)
    replay: list[str | bytes] = list(texts.general_train)
    if not is_probe and not replay and num_steps:
        share = getattr(healer, "replay", 0.0)
        num_tokens = min(REHEARSAL_TOKENS, int(share * wanted))
        replay = [*rehearse(source, num_tokens=num_tokens, seed=config.seed)]
    guide = teacher or source
    return HealInput(
        model=model.float(),
        vocabulary=vocabulary,
        teacher=guide.model if healer.needs_teacher else None,
        teacher_vocabulary=guide.vocabulary,
        token_ids=_join(vocabulary, domain),
        replay_ids=_join(vocabulary, replay) if replay else None,
        num_steps=num_steps,
        seed=config.seed,
    )


def _some_documents(documents: Any, limit_bytes: int, seed: int) -> list[str | bytes]:
    """Return documents in a shuffled order, about `limit_bytes` of them."""
    everything = list(documents)
    random.Random(seed).shuffle(everything)
    taken: list[str | bytes] = []
    for text in everything:
        if limit_bytes <= 0:
            break
        taken.append(text)
        limit_bytes -= len(text.encode())
    return taken


def _join(vocabulary: Vocabulary, documents: list[str | bytes]) -> Tensor:
    """Return the ids of all documents with an end-of-text between them, shape (seq,)."""
    end = vocabulary.eos_token_id
    ids: list[int] = []
    for encoded in vocabulary.encode_batch(documents):
        if end is not None:
            ids.append(end)
        ids.extend(encoded)
    return torch.tensor(ids, dtype=torch.long)


def speeds(
    config: RetrofitConfig, source: LanguageModel, destination: LanguageModel, texts: Texts
) -> list[Speed]:
    """Return the decoding speed of source and destination on held-out text."""
    tuning = excerpts([str(t) for t in _some_documents(texts.train, 200_000, 1)], 2)
    return compare_speed([source, destination], tuning, excerpts(texts.held_out, 3), config.drafter)


def audits(source: LanguageModel, destination: LanguageModel, texts: Texts) -> list[AuditResult]:
    """Return the audits of both tokenizers on the held-out text."""
    return [audit(lm.vocabulary, texts.held_out) for lm in (source, destination)]


def certificate(
    config: RetrofitConfig,
    source: LanguageModel,
    destination: LanguageModel,
    texts: Texts,
    outcomes: dict[str, Any],
    audited: list[AuditResult],
) -> RetrofitResult:
    """Put the outcomes of all stages together."""
    before, after = outcomes["source figures"], outcomes["destination figures"]
    sides = [
        _side(name, lm, figures, speed)
        for name, lm, figures, speed in zip(
            (config.model, "destination"),
            (source, destination),
            (before, after),
            outcomes["speed"],
            strict=True,
        )
    ]
    sample = _sample_lines(max(texts.held_out, key=len))
    learned, start, healed = outcomes["learn"], outcomes["transplant"], outcomes["heal"]
    return RetrofitResult(
        schema_version=SCHEMA_VERSION,
        source=sides[0],
        destination=sides[1],
        num_new_tokens=learned["num_new"],
        num_kept_tokens=learned["num_kept"],
        num_copied_rows=start["num_copied"],
        num_composed_rows=start["num_composed"],
        bits_per_byte_at_start=start["bits_per_byte"],
        healing_steps=healed["num_steps"],
        healing_bytes=healed["num_bytes"],
        healing=[(p["step"], p["seconds"], p["bits_per_byte"]) for p in healed["curve"]],
        held_out_bytes=before["domain"]["num_bytes"],
        held_out_files=texts.held_out_names,
        general_source=texts.general_source,
        general_bytes=before["general"]["num_bytes"],
        drafter=config.drafter,
        strip=[
            [lm.vocabulary.tokens[i] for i in lm.vocabulary.encode_lossy(sample)]
            for lm in (source, destination)
        ],
        audits=audited,
        regressions=regressions(*sides),
    )


def _sample_lines(text: str) -> str:
    """Return whole lines from the middle of a text, about `STRIP_BYTES` of them."""
    middle = text.find("\n", max(0, len(text) // 2 - STRIP_BYTES)) + 1
    piece = text[middle:].lstrip("\n").encode()[:STRIP_BYTES].decode(errors="ignore")
    return piece[: piece.rfind("\n") + 1] or piece


def _side(
    name: str, lm: LanguageModel, figures: dict[str, Any], speed: dict[str, Any]
) -> SideFigures:
    return SideFigures(
        name=name,
        vocab_size=lm.vocabulary.vocab_size,
        num_parameters=lm.num_parameters,
        size_bytes=lm.size_bytes,
        bytes_per_token=figures["domain"]["bytes_per_token"],
        bits_per_byte=figures["domain"]["bits_per_byte"],
        general_bits_per_byte=figures["general"]["bits_per_byte"],
        general_bytes_per_token=figures["general"]["bytes_per_token"],
        speed=Speed(**speed),
    )


def regressions(source: SideFigures, destination: SideFigures) -> list[str]:
    """Return what is worse after than before, in words; empty when nothing is."""
    found = []
    lost = destination.bits_per_byte / source.bits_per_byte - 1
    if lost > 0:
        found.append(
            f"bits per byte on your text rose by {lost:.1%}, from {source.bits_per_byte:.4f} to "
            f"{destination.bits_per_byte:.4f}: heal for longer (--minutes)"
        )
    lost = destination.general_bits_per_byte / source.general_bits_per_byte - 1
    if lost > 0.03:
        found.append(
            f"bits per byte on general text rose by {lost:.1%}, from "
            f"{source.general_bits_per_byte:.4f} to {destination.general_bits_per_byte:.4f}: mix "
            "in more text of that kind (--general, --set cross_entropy.replay=0.5)"
        )
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
