"""Exact bits per byte under a measure, comparable across vocabularies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.contract import FloatArray, Measure
from jeton.bytelm.score import score
from jeton.core.progress import NO_PROGRESS, Progress
from jeton.errors import ConfigError


@dataclass(frozen=True)
class ByteBits:
    """The cost of some documents in bits.

    Attributes:
        measure: Which tokenizations counted.
        bits_per_byte: total_bits / num_bytes.
        total_bits: Of the bytes of all documents; their ends are not counted.
        end_bits: Of the ends of text, beside it.
        num_bytes: Of all documents.
        nodes_per_byte: Tokens that the model read, per byte.
        leak_bits: Bits of mass that `fast` dropped; 0 elsewhere.
        is_upper_bound: Whether tokenizations were left out (`all`), so that the true bits are
            fewer.
        surprise: Bits of each byte, document by document.
        reasons: Why documents have no probability, by number.
    """

    measure: str
    bits_per_byte: float
    total_bits: float
    end_bits: float
    num_bytes: int
    nodes_per_byte: float
    leak_bits: float
    is_upper_bound: bool
    reasons: dict[int, str]
    surprise: list[FloatArray] = field(repr=False)


def measure_bits(
    byte_lm: ByteLM, documents: Sequence[bytes | str], progress: Progress = NO_PROGRESS
) -> ByteBits:
    """Score documents, each on its own.

    Raises:
        ConfigError: there are no bytes.
    """
    data = [d.encode("utf-8", "surrogatepass") if isinstance(d, str) else d for d in documents]
    num_bytes = sum(map(len, data))
    if not num_bytes:
        raise ConfigError("the text to score is empty", hint="give at least one byte")
    results = [
        score(byte_lm, document)
        for document in progress.track(data, len(data), "bits per byte", "document")
        if document
    ]
    total = -math.fsum(result.logprob for result in results) / math.log(2)
    return ByteBits(
        measure=byte_lm.measure.value,
        bits_per_byte=total / num_bytes,
        total_bits=total,
        end_bits=-math.fsum(result.end_logprob for result in results) / math.log(2),
        num_bytes=num_bytes,
        nodes_per_byte=sum(result.num_nodes for result in results) / num_bytes,
        leak_bits=-math.fsum(result.leak for result in results) / math.log(2),
        is_upper_bound=byte_lm.measure is Measure.ALL,
        reasons={i: result.reason for i, result in enumerate(results) if result.reason},
        surprise=[-result.logprobs / math.log(2) for result in results],
    )
