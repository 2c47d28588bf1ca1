"""Words of 32 bits and truths, of which some are unknown: None."""

import collections
import struct

WORD = 0xFFFFFFFF
# A word of which the bits in `known` are known.
Partly = collections.namedtuple("Partly", "value known")


def halves(high, low):
    """The word of two f16 constants, or None."""
    try:
        return int.from_bytes(struct.pack("<ee", float(low), float(high)), "little")
    except ValueError:
        return None


def bits_of(number):
    """The bits of the nearest f32."""
    return int.from_bytes(struct.pack("<f", number), "little")


def float_of(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def signed(value):
    value &= WORD
    return value - (1 << 32) if value >> 31 else value


def combine(parts, result, other):
    """AND or OR of two truths of which either may be unknown."""
    if "OR" in parts:
        return True if True in (result, other) else None if None in (result, other) else False
    return False if False in (result, other) else None if None in (result, other) else True


def lookup(inputs, table):
    """A table of three bits, for each bit of the words."""
    can_be = [0, 0]
    for i in range(8):
        possible = WORD
        for (value, known), bit in zip(inputs, (4, 2, 1)):
            possible &= (value if i & bit else ~value) | ~known
        can_be[table >> i & 1] |= possible
    return Partly(can_be[1] & WORD, ~(can_be[0] & can_be[1]) & WORD)


def table_of(inputs, table):
    """A table of three truths; known if all that the unknown ones may be give the same."""
    results = set()
    for i in range(8):
        if all(known is None or known == bool(i & bit) for known, bit in zip(inputs, (4, 2, 1))):
            results.add(bool(table >> i & 1))
    return results.pop() if len(results) == 1 else None
