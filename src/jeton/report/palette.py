"""Which name has which colour: the same name the same one all over a report."""

from collections.abc import Sequence

from jeton.report.document import Bars, Block, Histogram, Lines, MarkedText, TokenStrip

NUM_COLOURS = 6


def _names(block: Block) -> list[str]:
    """Return the names that get a colour in a block."""
    match block:
        case Bars():
            return block.series()
        case Lines() | Histogram():
            return [row[0] for row in block.series]
        case TokenStrip():
            return [label for label, _ in block.rows]
        case MarkedText():
            return block.marks()
    return []


def assign_colours(blocks: Sequence[Block]) -> dict[str, int]:
    """Return a colour for each name, the same all over the page."""
    names = dict.fromkeys(name for block in blocks for name in _names(block))
    return {name: index for index, name in enumerate(names)}


def block_colours(block: Block, colours: dict[str, int]) -> dict[str, int]:
    """Return a block's colours, distinct within the block as far as there are enough."""
    chosen: dict[str, int] = {}
    for name in _names(block):
        wanted = colours[name]
        if wanted >= NUM_COLOURS:  # the first colour is the quiet one: it stays with its name
            wanted = 1 + (wanted - 1) % (NUM_COLOURS - 1)
        order = [(wanted + step) % NUM_COLOURS for step in range(NUM_COLOURS)]
        free = [colour for colour in order if colour not in chosen.values()]
        chosen.setdefault(name, free[0] if free else wanted)
    return chosen
