"""Every exception that jeton raises on purpose.

A message says what was asked, what was found and what is allowed; the hint is the command or the
argument that mends it. Anything else that escapes is a bug.
"""


class JetonError(Exception):
    """Base of all errors of jeton; carries an optional hint as an exception note."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if hint is not None:
            self.add_note(f"hint: {hint}")


class ConfigError(JetonError, ValueError):
    """An argument or option has a value that is not allowed."""


class UnknownMethodError(JetonError, LookupError):
    """A registry has no row of the asked name."""


class InputError(JetonError, ValueError):
    """A text, folder or file given by the user cannot be used."""


class TokenizerError(JetonError, ValueError):
    """A tokenizer file is truncated, contradicts itself, or is of an unknown kind."""


class TokenizerMismatchError(JetonError, ValueError):
    """Two things that must share a vocabulary do not, or ids are out of range."""


class EncodingError(JetonError, ValueError):
    """Bytes have no encoding whose tokens concatenate to them; the message names the reason."""


class UnsupportedModelError(JetonError, TypeError):
    """A model cannot do what was asked of it."""


class CheckpointError(JetonError, ValueError):
    """A checkpoint misses tensors, has surplus ones, or is in a format that is not safe to read."""


class MissingExtraError(JetonError, ImportError):
    """An optional dependency is not installed."""


class CorruptRunError(JetonError, ValueError):
    """A run folder cannot be resumed: it is damaged, or the configuration changed."""


class DiskFullError(JetonError, OSError):
    """Writing failed for lack of space or permission; finished work is kept."""
