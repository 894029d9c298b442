"""Progress bars on stderr, with an honest estimate of the time left; silent where nobody looks."""

import sys
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from tqdm import tqdm

T = TypeVar("T")


class Progress(Protocol):
    """What a long job reports to; pass `NO_PROGRESS` for silence."""

    def track(self, items: Iterable[T], total: int | None, what: str, unit: str) -> Iterator[T]:
        """Yield the items while a bar shows how far the job is."""
        ...

    def stage(self, what: str) -> None:
        """Say which part of a job begins."""
        ...


class Silent:
    """Shows nothing."""

    def track(self, items: Iterable[T], total: int | None, what: str, unit: str) -> Iterator[T]:
        """Yield the items."""
        yield from items

    def stage(self, what: str) -> None:
        """Say nothing."""


NO_PROGRESS: Progress = Silent()


class Bars:
    """Bars on stderr by tqdm; plain stage lines when stderr is not a terminal."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def track(self, items: Iterable[T], total: int | None, what: str, unit: str) -> Iterator[T]:
        """Yield the items while a bar with rate and time left is drawn."""
        yield from tqdm(
            items,
            total=total,
            desc=what,
            unit=unit,
            file=sys.stderr,
            leave=False,
            disable=not self._is_terminal,
            dynamic_ncols=True,
        )

    def stage(self, what: str) -> None:
        """Write the stage's name on a line of its own."""
        sys.stderr.write(f"» {what}\n")
        sys.stderr.flush()
