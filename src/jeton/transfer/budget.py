"""How many steps of healing fit into a time, measured on the model and text at hand."""

import copy
import time
from collections.abc import Callable
from dataclasses import replace

from jeton.transfer.contract import Healer, HealInput

PROBE_STEPS = 3


def seconds_per_step(
    healer: Healer, inputs: HealInput, clock: Callable[[], float] = time.monotonic
) -> float:
    """Return the time of a step; the model of `inputs` is trained a little, its checkpoint ignored.

    Args:
        healer: The method.
        inputs: With a model that may be spoilt.
        clock: Seconds that pass; `time.process_time` where other work shares the machine.
    """
    given = replace(inputs, checkpoint=None)
    healer.heal(replace(given, num_steps=1))  # warms up
    probe = replace(given, model=copy.deepcopy(inputs.model), num_steps=PROBE_STEPS)
    started = clock()
    healer.heal(replace(probe, num_steps=0))
    once = clock() - started  # encoding for a teacher and the like is no part of a step
    started = clock()
    healer.heal(probe)
    return max(1e-9, clock() - started - once) / PROBE_STEPS


def steps_within(
    healer: Healer,
    inputs: HealInput,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Return the number of steps that fit into so many seconds, at least one.

    The learning rate of a healer follows the number of steps, so a shorter run is not the beginning
    of a longer one: curves at equal seconds need a run for each time.
    """
    return max(1, int(seconds / seconds_per_step(healer, inputs, clock)))
