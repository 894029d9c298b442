"""Stop strings: bytes that end a text, wherever the borders of tokens lie."""

from collections.abc import Sequence

from jeton.errors import ConfigError


class StopStrings:
    """Finds the first stop string in a growing text and holds back what may be part of one.

    Example:
        >>> stops = StopStrings(["\\n\\n"])
        >>> stops.add(b"one\\n"), stops.add(b"two\\n"), stops.add(b"\\nthree"), stops.is_met
        (b'one', b'\\ntwo', b'', True)
    """

    def __init__(self, stops: Sequence[str | bytes]) -> None:
        """Start with an empty text.

        Raises:
            ConfigError: a stop string is empty.
        """
        self._stops = [stop.encode() if isinstance(stop, str) else bytes(stop) for stop in stops]
        if not all(self._stops):
            raise ConfigError("a stop string is empty", hint="leave it out")
        self._held = b""
        self.is_met = False

    def add(self, data: bytes) -> bytes:
        """Return the bytes that are now known to stand before any stop string."""
        if self.is_met:
            return b""
        text = self._held + data
        places = [place for place in map(text.find, self._stops) if place >= 0]
        if places:
            self.is_met, self._held = True, b""
            return text[: min(places)]
        keep = self._overlap(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> bytes:
        """Return what was held back when the text ends for another reason."""
        held, self._held = self._held, b""
        return held

    def _overlap(self, text: bytes) -> int:
        """Return the length of the longest end of the text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
