"""Pure helpers of encoding: the byte alphabet, runs of valid UTF-8, BPE by rank, longest match."""

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_CUTS = re.compile("(▁+)|(?<=<)(?=0x[0-9A-Fa-f]{2}>)")
_ESCAPED = re.compile("[\udc80-\udcff]+")


def _byte_alphabet() -> str:
    """Return the 256 characters that byte-level BPE writes for the bytes 0 to 255."""
    hidden = iter(range(0x100, 0x200))
    printable = set(_PRINTABLE)
    return "".join(chr(byte if byte in printable else next(hidden)) for byte in range(256))


BYTE_ALPHABET = _byte_alphabet()
_TO_BYTES = codecs.charmap_build(BYTE_ALPHABET)


def byte_level_to_bytes(content: str) -> bytes:
    """Return the bytes of a token written in the byte-level alphabet.

    A token with any character outside the alphabet stands for its own UTF-8, as in the ByteLevel
    decoder of `tokenizers`.

    Raises:
        UnicodeEncodeError: a lone surrogate, which has no UTF-8.
    Example:
        >>> byte_level_to_bytes("Ġthe"), byte_level_to_bytes("ü"), byte_level_to_bytes(" the")
        (b' the', b'\\xfc', b' the')
    """
    try:
        return codecs.charmap_encode(content, "strict", _TO_BYTES)[0]
    except UnicodeEncodeError:
        return content.encode()


def bytes_to_byte_level(data: bytes) -> str:
    """Return bytes in the byte-level alphabet.

    Example:
        >>> bytes_to_byte_level(b" the")
        'Ġthe'
    """
    return codecs.charmap_decode(data, "strict", BYTE_ALPHABET)[0]


def split_utf8_runs(data: bytes) -> Iterator[str | bytes]:
    """Yield maximal runs of valid UTF-8 as str, and the bytes between them as bytes.

    Example:
        >>> list(split_utf8_runs(b"a\\xff\\xc3\\xa9\\xe4\\xbd"))
        ['a', b'\\xff', 'é', b'\\xe4\\xbd']
    """
    text = data.decode("utf-8", "surrogateescape")
    end = 0
    for match in _ESCAPED.finditer(text):
        if match.start() > end:
            yield text[end : match.start()]
        yield match.group().encode("utf-8", "surrogateescape")
        end = match.end()
    if end < len(text):
        yield text[end:]


def cut_for_byte_fallback(runs: Iterable[str | bytes]) -> Iterator[str | bytes]:
    """Cut runs where SentencePiece with byte fallback would not give back what it got.

    The character "▁" becomes bytes, and text that looks like a byte token is cut after its "<".

    Example:
        >>> list(cut_for_byte_fallback(["a▁b <0x0A>"]))
        ['a', b'\\xe2\\x96\\x81', 'b <', '0x0A>']
    """
    for run in runs:
        if isinstance(run, bytes):
            yield run
            continue
        end = 0
        for match in _CUTS.finditer(run):
            if match.start() > end:
                yield run[end : match.start()]
            if match[1]:
                yield match[1].encode()
            end = match.end()
        if end < len(run):
            yield run[end:]


def bpe_by_rank(data: bytes, ranks: Mapping[bytes, int], below: int | None = None) -> list[bytes]:
    """Merge the neighbours whose concatenation has the lowest rank, leftmost first, to the end.

    Args:
        data: One pretoken.
        ranks: Rank of every token.
        below: Only tokens of a lower rank are built; None for all.
    Example:
        >>> bpe_by_rank(b"abab", {b"a": 0, b"b": 1, b"ab": 2, b"abab": 3}, below=3)
        [b'ab', b'ab']
    """
    parts = [data[i : i + 1] for i in range(len(data))]
    infinity = len(ranks) + 1 if below is None else below
    pairs = [ranks.get(parts[i] + parts[i + 1], infinity) for i in range(len(parts) - 1)]
    while pairs:
        best = min(pairs)
        if best >= infinity:
            break
        i = pairs.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
        del pairs[i]
        if i < len(pairs):
            pairs[i] = ranks.get(parts[i] + parts[i + 1], infinity)
        if i > 0:
            pairs[i - 1] = ranks.get(parts[i - 1] + parts[i], infinity)
    return parts


def recover_merges(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Return the merge that builds each token of a rank file, in order of rank.

    The merge of a token is what BPE over the lower ranks makes of its bytes, when that is two
    parts. Tokens that are one byte, or that no merge builds, have none.

    Example:
        >>> recover_merges({b"a": 0, b"b": 1, b"ab": 2, b"aba": 3})
        [(b'a', b'b'), (b'ab', b'a')]
    """
    merges = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) < 2:
            continue
        if len(token) == 2:
            parts = [token[:1], token[1:]]
        else:
            splits = [
                (left, right)
                for i in range(1, len(token))
                if ranks.get(left := token[:i], rank) < rank
                and ranks.get(right := token[i:], rank) < rank
            ]
            if len(splits) == 1:  # BPE ends in one part at this rank, and this is the only way
                merges.append(splits[0])
                continue
            parts = bpe_by_rank(token, ranks, below=rank) if splits else []
        if len(parts) == 2 and parts[0] in ranks and parts[1] in ranks:
            merges.append((parts[0], parts[1]))
    return merges


class LongestMatch:
    """Greedy longest match over raw bytes, as in RWKV World.

    Cost: per token one dictionary look-up for each length that its first two bytes allow.
    """

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._ids: dict[bytes, int] = {}
        for token_id, token in enumerate(tokens):
            if token:
                self._ids.setdefault(token, token_id)  # the lowest id of duplicates
        lengths: dict[bytes, set[int]] = {}
        for token in self._ids:
            if len(token) > 1:
                lengths.setdefault(token[:2], set()).add(len(token))
        self._lengths = {head: sorted(found, reverse=True) for head, found in lengths.items()}

    def encode(self, data: bytes) -> list[int]:
        """Return the ids; a byte that has no token is left out.

        Example:
            >>> LongestMatch([b"a", b"b", b"ab", b"abc"]).encode(b"abbab")
            [2, 1, 2]
        """
        ids, lengths, found = self._ids, self._lengths, []
        i, end = 0, len(data)
        while i < end:
            for length in lengths.get(data[i : i + 2], ()):
                token_id = ids.get(data[i : i + length])
                if token_id is not None and i + length <= end:
                    found.append(token_id)
                    i += length
                    break
            else:
                token_id = ids.get(data[i : i + 1])
                if token_id is not None:
                    found.append(token_id)
                i += 1
        return found
