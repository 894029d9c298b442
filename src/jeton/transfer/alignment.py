"""The same text in the tokens of a student and of a teacher, aligned by bytes.

Both token sequences get positions on one axis: the bytes of the text, with one place of its own
before each document for an end-of-text token, which has no bytes. A chunk is what lies between two
neighbouring positions at which a token of each ends.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from jeton.core.vocabulary import Vocabulary
from jeton.transfer.contract import HealInput

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AlignedText:
    """A text in both vocabularies.

    Attributes:
        student_ends: Position after each student token, shape (student seq,), never falling.
        teacher_ids: Shape (teacher seq,), int64.
        teacher_ends: Position after each teacher token, shape (teacher seq,), never falling.
    """

    student_ends: Ints
    teacher_ids: Tensor
    teacher_ends: Ints


@dataclass(frozen=True, slots=True)
class AlignedRow:
    """One row of training text for both models.

    Attributes:
        teacher_ids: Shape (teacher length + 1,); the first one is only context.
        student_index: Index in the student's row of the token that ends at each shared position,
            shape (chunks + 1,); chunk j is `student_index[j] + 1 ... student_index[j + 1]`.
        teacher_index: The same for the teacher's row.
    """

    teacher_ids: Tensor
    student_index: Ints
    teacher_index: Ints


def align(student: Vocabulary, teacher: Vocabulary, token_ids: Tensor) -> AlignedText:
    """Encode a student's text for the teacher.

    Args:
        student: Vocabulary of `token_ids`.
        teacher: Vocabulary to encode for.
        token_ids: Documents, each behind an end-of-text token, shape (student seq,).
    Raises:
        EncodingError: the teacher has no exact encoding of a document.
    """
    documents = _documents(student, token_ids.numpy())
    encoded = teacher.encode_batch([student.decode(ids) for _, ids in documents])
    student_ends: list[Ints] = []
    teacher_ends: list[Ints] = []
    teacher_ids: list[int] = []
    base = 0
    for (has_end, ids), other in zip(documents, encoded, strict=True):
        start = base + 1
        if has_end:
            student_ends.append(np.array([start]))
            if teacher.eos_token_id is not None:
                teacher_ends.append(np.array([start]))
                teacher_ids.append(teacher.eos_token_id)
        student_ends.append(start + student.token_offsets(ids))
        teacher_ends.append(start + teacher.token_offsets(other))
        teacher_ids += other
        base = int(student_ends[-1][-1]) if len(ids) else start
    return AlignedText(
        np.concatenate(student_ends),
        torch.tensor(teacher_ids, dtype=torch.long),
        np.concatenate(teacher_ends),
    )


def _documents(vocabulary: Vocabulary, token_ids: Ints) -> list[tuple[bool, list[int]]]:
    """Return, for each document, whether an end-of-text stands before it, and its ids."""
    end = vocabulary.eos_token_id
    cuts = np.flatnonzero(token_ids == end) if end is not None else np.zeros(0, dtype=np.int64)
    first = token_ids[: cuts[0]] if len(cuts) else token_ids
    documents = [(False, first.tolist())] if len(first) else []
    stops = [*cuts[1:], len(token_ids)][: len(cuts)]
    for start, stop in zip(cuts, stops, strict=True):
        documents.append((True, token_ids[start + 1 : stop].tolist()))
    return documents


def cut_row(text: AlignedText, start: int, length: int, teacher_limit: int) -> AlignedRow:
    """Return the teacher's row for the student's row of `length + 1` tokens from `start`.

    Args:
        text: The whole text.
        start: First student token, which is only context.
        length: Student tokens that are predicted.
        teacher_limit: Most tokens that the teacher predicts; later chunks are left out.
    """
    ends = text.student_ends[start : start + length + 1]
    before = int(text.student_ends[start - 1]) if start else 0
    starts_at = np.searchsorted(text.teacher_ends, before, side="right")
    first = min(int(starts_at), len(text.teacher_ids) - 1)
    last = int(np.searchsorted(text.teacher_ends, ends[-1], side="right"))
    last = max(first + 1, min(last, first + teacher_limit + 1))
    teacher_ends = text.teacher_ends[first:last]
    shared = np.intersect1d(ends, teacher_ends)
    return AlignedRow(
        text.teacher_ids[first:last],
        np.searchsorted(ends, shared, side="right") - 1,
        np.searchsorted(teacher_ends, shared, side="right") - 1,
    )


def align_inputs(inputs: HealInput) -> tuple[AlignedText, AlignedText | None]:
    """Return the training text and the general text of a healing run, aligned."""
    teacher = inputs.teacher_vocabulary
    assert teacher is not None, "checked by the healer"
    domain = align(inputs.vocabulary, teacher, inputs.token_ids)
    if inputs.replay_ids is None:
        return domain, None
    return domain, align(inputs.vocabulary, teacher, inputs.replay_ids)


def pad_rows(rows: list[AlignedRow]) -> Tensor:
    """Return the teacher's rows side by side, shape (rows, longest); padding stands behind."""
    longest = max(len(row.teacher_ids) for row in rows)
    padded = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        padded[index, : len(row.teacher_ids)] = row.teacher_ids
    return padded
