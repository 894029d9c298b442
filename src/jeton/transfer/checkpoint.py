"""The file that a killed healing run goes on from: written whole or not at all."""

import pickle
from pathlib import Path
from typing import Any

import torch

from jeton.core.run import disk_errors
from jeton.errors import CorruptRunError


def write_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Replace a checkpoint.

    Raises:
        DiskFullError: the disk is full; the old checkpoint is still there.
    """
    partial = path.with_name(path.name + ".partial")
    with disk_errors(path):
        try:
            _write(state, partial)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def _write(state: dict[str, Any], path: Path) -> None:
    """Save a state; a full disk is an OSError, not what torch makes of it while it unwinds."""
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `write_checkpoint` saved.

    Raises:
        CorruptRunError: the file is damaged or something else.
    """
    try:
        state = torch.load(path, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CorruptRunError(
            f"{path} is damaged: {error}", hint="delete it to heal again from the start"
        ) from error
    if not isinstance(state, dict):
        raise CorruptRunError(f"{path} is not a healing checkpoint")
    return state
