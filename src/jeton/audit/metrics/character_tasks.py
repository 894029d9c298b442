"""Character tasks: counting and finding letters in words, by the length of the token they hide in.

Source: Uzan & Pinter 2025, CharBench, https://arxiv.org/abs/2508.02591 (accuracy on positions falls
    with the length of the token that holds the letter); Zhang et al. 2024, Counting Ability of
    Large Language Models and Impact of Tokenization, https://arxiv.org/abs/2410.19730
Differs from the source: items are generated, with their answers, for any tokenizer; a model that
    is given chooses the answer among all letters, or the numbers 0 to 9.
Cost: one encoding per word; with a model, a forward of it per possible answer.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.asking import accuracy_by, choose
from jeton.audit.contract import MAX_WITNESSES, MetricResult, Series, Witness
from jeton.audit.encoding import cut_word
from jeton.audit.evidence import AuditInput
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError

_WORDS = (
    "strawberry", "banana", "committee", "mississippi", "bookkeeper", "parallel", "necessary",
    "independent", "information", "government", "temperature", "restaurant", "difference",
    "university", "successful", "photograph", "assessment", "development", "environment",
    "accommodate",
)  # fmt: skip


_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
_NUMBERS = tuple("0123456789")


@dataclass(frozen=True, slots=True)
class CharacterTask:
    """A question with its answer.

    Attributes:
        question: For a model.
        answer: The right answer.
        token_letters: Letters in the token that holds the letter asked about.
    """

    question: str
    answer: str
    token_letters: int


@dataclass(frozen=True, slots=True)
class CharacterTasks:
    """Mean length of the token that hides the letter asked about.

    Attributes:
        num_tasks: Items to generate; half count a letter, half ask for a position.
    """

    num_tasks: int = 200

    name: ClassVar[str] = "character_tasks"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = False
    is_per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_tasks < 1:
            raise ConfigError(f"num_tasks must be at least 1, got {self.num_tasks}")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the mean; the series has how many items hide in tokens of each length."""
        words = sorted(given.lexicon.words) if given.lexicon else list(_WORDS)
        tasks = make_tasks(given.vocabulary, words, self.num_tasks, given.seed)
        lengths = [task.token_letters for task in tasks]
        accuracy = self._accuracy(given, tasks)
        said = f"; the model answers {accuracy['all']:.0%} right" if accuracy else ""
        bins = list(range(1, max(lengths, default=0) + 1))
        return MetricResult(
            name=self.name,
            title="Letters in the token that hides the letter asked about",
            value=sum(lengths) / len(lengths) if lengths else None,
            unit="letters",
            is_lower_better=True,
            detail=f"over {len(tasks)} generated items{said}"
            if tasks
            else "there is no word of three letters to ask about",
            groups={f"{n} letters": float(lengths.count(n)) for n in bins if n in lengths}
            | {f"accuracy, {name}": value for name, value in accuracy.items()},
            witnesses=[Witness(None, t.question, t.answer) for t in tasks[:MAX_WITNESSES]],
            series={
                "items": Series(
                    "Items by token length",
                    "letters",
                    "items",
                    [float(n) for n in bins],
                    [float(lengths.count(n)) for n in bins],
                )
            },
        )

    def _accuracy(self, given: AuditInput, tasks: list[CharacterTask]) -> dict[str, float]:
        """Return the model's share of right answers by kind of item and length of the token."""
        if given.model is None or not tasks:
            return {}
        options = [_LETTERS if task.answer.isalpha() else _NUMBERS for task in tasks]
        prompts = [f"{task.question} Answer:" for task in tasks]
        answers = [[f" {option}" for option in own] for own in options]
        chosen = choose(given.model, given.vocabulary, prompts, answers)
        right = [own[i] == t.answer for own, i, t in zip(options, chosen, tasks, strict=True)]
        kinds = ["position" if task.answer.isalpha() else "count" for task in tasks]
        lengths = [
            f"{kind}, token of {task.token_letters}"
            for kind, task in zip(kinds, tasks, strict=True)
        ]
        found = {"all": sum(right) / len(right)}
        return found | accuracy_by(right, kinds) | accuracy_by(right, lengths)


def make_tasks(
    vocabulary: Vocabulary, words: Sequence[str], num_tasks: int, seed: int
) -> list[CharacterTask]:
    """Return items about letters of words, the same for the same seed."""
    generator = random.Random(seed)
    usable = [word for word in words if len(word) >= 3 and word.isalpha() and word.isascii()]
    tasks: list[CharacterTask] = []
    while usable and len(tasks) < num_tasks:
        word = generator.choice(usable)
        at = generator.randrange(len(word))
        letters = _letters_of_token(cut_word(vocabulary, word), at)
        if len(tasks) % 2:
            question = f'Which letter is number {at + 1} of "{word}"?'
            tasks.append(CharacterTask(question, word[at], letters))
        else:
            question = f'How often does "{word[at]}" occur in "{word}"?'
            tasks.append(CharacterTask(question, str(word.count(word[at])), letters))
    return tasks


def _letters_of_token(pieces: Sequence[bytes], at: int) -> int:
    end = 0
    for piece in pieces:
        end += len(piece)
        if at < end:
            return len(piece)
    return 1
