"""The stages of every job: figures, transplant, plan, heal, save."""

import random
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError
from torch import Tensor

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.core.run import disk_errors
from jeton.core.vocabulary import Vocabulary
from jeton.errors import DiskFullError
from jeton.lm.bits import bits_per_byte
from jeton.lm.load import LanguageModel, quiet_transformers
from jeton.retrofit.auto_init import chosen
from jeton.retrofit.auto_tokenizer import follow_tokenizer_json
from jeton.retrofit.config import JobConfig
from jeton.retrofit.rehearsal import rehearse
from jeton.retrofit.texts import Texts
from jeton.transfer.budget import seconds_per_step
from jeton.transfer.checkpoint import read_checkpoint, write_checkpoint
from jeton.transfer.contract import HealInput, HealResult, InitInput, InitResult
from jeton.transfer.registry import HEALERS, INITIALIZERS
from jeton.transfer.transplant import transplant

START_BYTES = 60_000  # enough text to place the figure right after the transplant
REHEARSAL_TOKENS = 65_536  # seconds to sample, and enough for the short runs that need it
INIT_BYTES = 4_000_000  # text for initializers that learn vectors from it


def figures(lm: LanguageModel, texts: Texts, progress: Progress) -> dict[str, Any]:
    """Return bits per byte on domain and general text, and the model's sizes."""
    return {
        "domain": bits_per_byte(lm, texts.held_out, progress=progress),
        "general": bits_per_byte(lm, texts.general, progress=progress),
        "num_parameters": lm.num_parameters,
        "num_embeddings": lm.num_embeddings,
        "size_bytes": lm.size_bytes,
        "vocab_size": lm.vocabulary.vocab_size,
    }


def start_sample(texts: Texts) -> list[str]:
    """Return the part of the held-out text that the figure before healing is measured on."""
    sample, left = [], START_BYTES
    for text in texts.held_out:
        if left > 0:
            sample.append(text.encode()[:left].decode(errors="ignore"))
            left -= len(sample[-1].encode())
    return sample


@dataclass(frozen=True, slots=True)
class Healing:
    """A model on its way to a vocabulary.

    Attributes:
        config: What is asked.
        source: The model; it is not changed.
        vocabulary: The destination's.
        texts: To learn from and to measure on.
        teacher: Of methods that distil; the source where none is given.
        rows: File that keeps what the initializer made, so that it works once; None works anew.
        progress: Where to report.
    """

    config: JobConfig
    source: LanguageModel
    vocabulary: Vocabulary
    texts: Texts
    teacher: LanguageModel | None = None
    rows: Path | None = None
    progress: Progress = NO_PROGRESS

    @property
    def init(self) -> str:
        """Name of the initializer: what is asked, or what "auto" stands for."""
        return chosen(self.config.init, self.config.options, self.source)

    def transplanted(self) -> tuple[Any, InitResult]:
        """Return the destination model before healing, and what the initializer did."""
        initializer: Any = INITIALIZERS.create(self.init, self.config.options_for(self.init))
        texts: tuple[str, ...] = ()
        if self.rows is not None and self.rows.is_file():
            initializer = _Kept(InitResult(**read_checkpoint(self.rows)))
        else:
            sample = some_documents(self.texts.train, INIT_BYTES, self.config.seed)
            texts = tuple(str(text) for text in sample)
        model, result = transplant(
            self.source.model,
            self.source.vocabulary,
            self.vocabulary,
            initializer,
            texts=texts,
            seed=self.config.seed,
        )
        if self.rows is not None and not isinstance(initializer, _Kept):
            kept = {part.name: getattr(result, part.name) for part in fields(result)}
            write_checkpoint(kept, self.rows)
        return model, result

    def bits_at_start(self, domain_bits: float) -> dict[str, Any]:
        """Return what the initializer did, and bits per byte of source and destination then.

        Args:
            domain_bits: Of the source on all of the held-out text, which may be short.
        """
        model, result = self.transplanted()
        moved = replace(self.source, model=model, vocabulary=self.vocabulary)
        sample = start_sample(self.texts)
        before = domain_bits
        if sample != self.texts.held_out:
            before = bits_per_byte(self.source, sample, progress=self.progress).bits_per_byte
        after = bits_per_byte(moved, sample, progress=self.progress).bits_per_byte
        return {
            "init": self.init,
            "source_bits_per_byte": before,
            "bits_per_byte": after,
            "num_copied": result.num_copied,
            "num_composed": result.num_composed,
            "num_fallback": result.num_fallback,
        }

    def plan(self) -> dict[str, Any]:
        """Turn minutes into steps, once, so that a resumed run does exactly the same."""
        config = self.config
        if config.steps >= 0 or config.minutes == 0:
            return {"num_steps": max(0, config.steps), "seconds_per_step": None}
        seconds = seconds_per_step(self._healer(), self.inputs(0, is_probe=True))
        return {
            "num_steps": max(1, int(config.minutes * 60 / seconds)),
            "seconds_per_step": seconds,
        }

    def train(self, num_steps: int, checkpoint: Path | None) -> tuple[Any, HealResult]:
        """Return the healed model in float32, and what healing did."""
        inputs = self.inputs(num_steps)
        inputs = replace(inputs, progress=self.progress, checkpoint=checkpoint)
        result = self._healer().heal(inputs) if num_steps else HealResult(0, 0, 0, 0.0)
        return inputs.model, result

    def heal(self, num_steps: int, work: Path, folder: Path | None) -> HealResult:
        """Train the transplanted model and write it as a Hugging Face folder, if one is named."""
        model, result = self.train(num_steps, work / "healing.pt")
        if folder is None:
            return result
        wanted = self.config.dtype
        dtype = self.source.model.dtype if wanted == "auto" else getattr(torch, wanted)
        save_folder(model.to(dtype), work / "tokenizer", folder)
        return result

    def inputs(self, num_steps: int, *, is_probe: bool = False) -> HealInput:
        """Return the transplanted model in float32 with the ids that it is trained on."""
        model, _ = self.transplanted()
        healer, texts, seed = self._healer(), self.texts, self.config.seed
        batch_tokens = getattr(healer, "batch_tokens", 8192)
        wanted = 4 * batch_tokens if is_probe else num_steps * batch_tokens
        domain = some_documents(texts.train, wanted * 8, seed)
        replay: list[str | bytes] = list(texts.general_train)
        if not is_probe and not replay and num_steps:
            share = getattr(healer, "replay", 0.0)
            num_tokens = min(REHEARSAL_TOKENS, int(share * wanted))
            replay = [*rehearse(self.source, num_tokens=num_tokens, seed=seed)]
        guide = self.teacher or self.source
        return HealInput(
            model=model.float(),
            vocabulary=self.vocabulary,
            teacher=guide.model if healer.needs_teacher else None,
            teacher_vocabulary=guide.vocabulary,
            token_ids=_join(self.vocabulary, domain),
            replay_ids=_join(self.vocabulary, replay) if replay else None,
            num_steps=num_steps,
            seed=seed,
        )

    def _healer(self) -> Any:
        return HEALERS.create(self.config.heal, self.config.options_for(self.config.heal))


@dataclass(frozen=True, slots=True)
class _Kept:
    """Stands for the initializer once its rows are there."""

    result: InitResult

    copies_shared: ClassVar[bool] = True

    def initialize(self, inputs: InitInput) -> InitResult:
        return self.result


def some_documents(documents: Iterable[Any], limit_bytes: int, seed: int) -> list[str | bytes]:
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
