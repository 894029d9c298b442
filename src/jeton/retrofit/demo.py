"""The demonstration: the starter model moved onto Python code, with text that every machine has."""

from pathlib import Path

from jeton.retrofit.config import RetrofitConfig
from jeton.starter import library_bucket, library_files


def demo_config(out: Path, minutes: float, *, steps: int = -1) -> RetrofitConfig:
    """Return the configuration: the standard library minus the tenth that the model never saw."""
    files = library_files()
    return RetrofitConfig(
        model="starter",
        text=tuple(path for name, path in files.items() if library_bucket(name) != 0),
        held_out=tuple(path for name, path in files.items() if library_bucket(name) == 0),
        out=out,
        minutes=minutes,
        steps=steps,
        # Few seconds to heal: many small steps do more than few large ones.
        options={"cross_entropy.batch_tokens": "2048"},
    )
