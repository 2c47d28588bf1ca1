"""One lane of a kernel, run as far as its control flow needs: how many instructions does it issue?

Integers and predicates are computed; what comes from memory, from other lanes and from floating point is unknown, and
whatever is made of it is, too. A branch on an unknown predicate is taken so that no call follows: those are the slow paths
of division and square root. Any other is an error, so that a count is never a guess.
"""

import math
import struct

from words import WORD, Partly, bits_of, combine, float_of, halves, lookup, signed, table_of

# The first byte of the parameters in the constant bank, by architecture.
PARAMETERS = {90: 0x210}
COMPARE = {
    "EQ": lambda a, b: a == b, "NE": lambda a, b: a != b, "LT": lambda a, b: a < b,
    "LE": lambda a, b: a <= b, "GT": lambda a, b: a > b, "GE": lambda a, b: a >= b,
}
# More are taken for a loop without end.
MOST = 1 << 20


class Lost(Exception):
    """The path depends on something unknown."""


class Lane:
    """Thread 0 of block 0."""

    def __init__(self, code, architecture, launch):
        self.code = code
        self.launch = launch
        bank = bytearray(PARAMETERS[architecture]) + launch.args + bytes(16)
        for place, number in enumerate((*launch.block, *launch.grid)):
            struct.pack_into("<I", bank, 4 * place, number)
        self.bank = bytes(bank)
        self.registers = {"R": {}, "UR": {}, "P": {}, "UP": {}}

    # --- values ---------------------------------------------------------------------------------------------------

    def word(self, operand, more=0):
        """The value of an operand, `more` words behind it, or None."""
        kind, index, sign = operand
        if kind in ("R", "UR"):
            value = 0 if index is None else self.registers[kind].get(index + more)
            value = None if isinstance(value, Partly) else value
        elif kind == "number":
            value = index & WORD if more == 0 else 0
        elif kind == "constant":
            at = self.word(index)
            value = None if at is None else struct.unpack_from("<I", self.bank, at + 4 * more)[0]
        else:
            value = None
        if value is None or not sign:
            return value
        # Not cut to a word: the carry of x - 0 is 1.
        return (value ^ WORD) + 1 if sign == "-" else value ^ WORD

    def real(self, operand):
        """The value of an operand of floating point, or None; NaN is none that is known."""
        if operand.kind == "other":
            try:
                return float(operand.index)
            except ValueError:
                return None
        value = self.word(operand._replace(sign=""))
        if value is None or math.isnan(float_of(value)):
            return None
        return -float_of(value) if operand.sign == "-" else float_of(value)

    def bits(self, operand):
        """What is known of a word."""
        kind, index, sign = operand
        value = self.registers[kind].get(index) if kind in ("R", "UR") else None
        if isinstance(value, Partly) and not sign:
            return value
        value = self.word(operand)
        return Partly(0, 0) if value is None else Partly(value & WORD, WORD)

    def truth(self, operand):
        kind, index, sign = operand
        value = True if index is None else self.registers[kind].get(index)
        return value if value is None or sign != "!" else not value

    def put(self, operand, *values):
        """Words into a register and those behind it, or a truth into a predicate."""
        kind, index, _ = operand
        for more, value in enumerate(values):
            if index is not None:
                masked = value if value is None or kind in ("P", "UP") else value & WORD
                self.registers[kind][index + more] = masked

    # --- the path -------------------------------------------------------------------------------------------------

    def run(self):
        """The instructions that are issued from the first to the exit."""
        place, count = 0, 0
        instructions = self.code.instructions
        while count < MOST:
            step = instructions[place]
            count += 1
            live = True if step.guard is None else self.guard(step.guard)
            if step.name == "EXIT":
                if live is None:
                    raise Lost(f"{step.at:#06x}: EXIT on an unknown predicate")
                if live:
                    return count
                place += 1
            elif step.name == "BRA":
                place = self.branch(step, place, live)
            elif step.name in ("CALL", "RET", "BRX", "JMP"):
                if live is not False:
                    raise Lost(f"{step.at:#06x}: {step.text}")
                place += 1
            else:
                if live is None:
                    self.forget(step)
                elif live:
                    # Those of uniform registers do as the others.
                    getattr(self, f"do_{step.name.removeprefix('U')}", self.forget)(step)
                place += 1
        raise Lost(f"more than {MOST} instructions")

    def guard(self, guard):
        name, negated = guard
        kind, index = name[:-1], name[-1]
        value = True if index == "T" else self.registers[kind].get(int(index))
        return value if value is None else value != negated

    def branch(self, step, place, live):
        target = self.code.labels[step.operands[-1].index]
        # Lanes of a warp that go different ways are not looked at.
        if "DIV" in step.parts:
            return place + 1
        # A second condition stands in front of the target.
        for operand in step.operands[:-1]:
            more = self.truth(operand)
            live = False if live is False or more is False else None if live is None or more is None else True
        if live is None:
            calls = [self.calls(start) for start in (place + 1, target)]
            if calls[0] == calls[1]:
                raise Lost(f"{step.at:#06x}: {step.text} on an unknown predicate")
            live = calls[0]
        return target if live else place + 1

    def calls(self, place):
        """Whether straight code from there on has a call."""
        for step in self.code.instructions[place:]:
            if step.name == "CALL":
                return True
            if step.name in ("BRA", "EXIT", "RET", "BSYNC"):
                return False
        return False

    def forget(self, step):
        """What an instruction writes is unknown."""
        if step.name in ("ST", "STG", "STS", "STL", "RED", "LDGSTS", "BAR", "BSSY", "BSYNC", "NOP", "DEPBAR"):
            return
        width = next((int(part) // 32 for part in ("64", "128") if part in step.parts), 1)
        if step.parts & {"WIDE", "U64"} and step.name != "I2F":
            width = 2
        for operand in step.operands[:3]:
            if operand.kind in ("P", "UP"):
                self.put(operand, None)
            elif operand.kind in ("R", "UR"):
                self.put(operand, *[None] * width)
                return

    def outputs(self, step):
        """The register that is written, the predicates that are, and the operands behind them."""
        operands = list(step.operands)
        target = operands.pop(0) if operands[0].kind in ("R", "UR") else None
        predicates = []
        while operands and operands[0].kind in ("P", "UP") and len(predicates) < 2:
            predicates.append(operands.pop(0))
        if target is None and operands and operands[0].kind in ("R", "UR"):
            target = operands.pop(0)
        return target, predicates, operands

    def words(self, operands):
        values = [self.word(operand) for operand in operands]
        return None if None in values else values

    # --- the instructions, in the order of their names -------------------------------------------------------------

    def do_CS2R(self, step):
        width = 1 if "32" in step.parts else 2
        self.put(step.operands[0], *[0 if step.operands[1].index == "SRZ" else None] * width)

    def do_F2I(self, step):
        value = self.word(step.operands[1])
        if "U64" in step.parts or value is None:
            return self.forget(step)
        self.put(step.operands[0], min(max(int(float_of(value)), 0), WORD))

    def do_FLO(self, step):
        value = self.word(step.operands[-1])
        self.put(step.operands[0], None if value is None else (value.bit_length() - 1) & WORD)

    def do_FSETP(self, step):
        first, second, a, b, with_ = step.operands
        values = None if "|" in step.text else (self.real(a), self.real(b))
        result = None
        if values is not None and None not in values:
            how = next(name for name in COMPARE if {name, f"{name}U"} & step.parts)
            result = COMPARE[how](*values)
        self.put(first, combine(step.parts, result, self.truth(with_)))
        self.put(second, combine(step.parts, None if result is None else not result, self.truth(with_)))

    def do_HFMA2(self, step):
        target, a, b, *rest = step.operands
        constant = a.index is None and b.index is None and len(rest) == 2
        self.put(target, halves(*(operand.index for operand in rest)) if constant else None)

    def do_I2F(self, step):
        value = self.word(step.operands[1])
        if "U64" in step.parts or value is None:
            return self.forget(step)
        bits = bits_of(float(value))
        if "RP" in step.parts and float_of(bits) < value:
            bits += 1
        self.put(step.operands[0], bits)

    def do_IADD3(self, step):
        target, carries, rest = self.outputs(step)
        values = self.words(rest[:3])
        more = [self.truth(operand) for operand in rest[3:]]
        total = None if values is None or None in more else sum(values) + sum(more)
        self.put(target, total)
        for place, carry in enumerate(carries):
            self.put(carry, None if total is None else total >> 32 > place)

    def do_IMAD(self, step):
        target, carries, rest = self.outputs(step)
        values = self.words(rest[:3])
        wide = "WIDE" in step.parts
        # Of which the third operand is a pair.
        third = self.word(rest[2], 1) if wide or "HI" in step.parts else 0
        more = [self.truth(operand) for operand in rest[3:]]
        if values is None or third is None or None in more:
            self.put(target, *[None] * (2 if wide else 1))
            for carry in carries:
                self.put(carry, None)
            return
        a, b, c = values
        if (wide or "HI" in step.parts) and "U32" not in step.parts:
            a, b = signed(a), signed(b)
        total = a * b + c + (third << 32) + sum(more)
        if wide:
            self.put(target, total, total >> 32)
        else:
            self.put(target, total >> 32 if "HI" in step.parts else total)
        for carry in carries:
            self.put(carry, None)

    def do_ISETP(self, step):
        first, second, a, b, with_, *low = step.operands
        values = self.words((a, b))
        result = None
        if values is not None:
            values = [value & WORD for value in values]
            if "U32" not in step.parts:
                values = [signed(value) for value in values]
            how = next(name for name in COMPARE if name in step.parts)
            result = COMPARE[how](*values)
            if "EX" in step.parts:
                below = self.truth(low[0])
                if values[0] == values[1]:
                    result = below
                elif how in ("EQ", "NE"):
                    result = how == "NE"
        self.put(first, combine(step.parts, result, self.truth(with_)))
        self.put(second, combine(step.parts, None if result is None else not result, self.truth(with_)))

    def do_LDC(self, step):
        width = 2 if "64" in step.parts else 1
        target, source = step.operands[:2]
        # Bytes and halves of words.
        mask = next((mask for part, mask in (("U8", 0xFF), ("U16", 0xFFFF)) if part in step.parts), WORD)
        words = [self.word(source, more) for more in range(width)]
        self.put(target, *(None if word is None else word & mask for word in words))

    def do_LEA(self, step):
        target, carries, rest = self.outputs(step)
        if "HI" in step.parts:
            a, b, c, shift, *more = rest
            values = self.words((a, b, c, shift))
            part = None if values is None else (values[2] << 32 | values[0]) >> (32 - values[3]) & WORD
        else:
            a, b, shift, *more = rest
            values = self.words((a, b, shift))
            part = None if values is None else values[0] << values[2] & WORD
        add = [self.truth(operand) for operand in more]
        total = None if values is None or None in add else part + values[1] + sum(add)
        self.put(target, total)
        for carry in carries:
            self.put(carry, None if total is None else total > WORD)

    def do_LOP3(self, step):
        target, predicates, rest = self.outputs(step)
        result = lookup([self.bits(operand) for operand in rest[:3]], self.word(rest[3]))
        # ptxas keeps predicates in single bits of a register, whose other bits nobody has set.
        whole = {WORD: result.value, 0: None}.get(result.known, result)
        if target.index is not None:
            self.registers[target.kind][target.index] = whole
        any_bit = True if result.value & result.known else False if result.known == WORD else None
        for predicate in predicates:
            self.put(predicate, combine(step.parts if "PAND" in step.parts else {"OR"}, any_bit, self.truth(rest[4])))

    def do_MOV(self, step):
        self.put(step.operands[0], self.word(step.operands[1]))

    def do_MUFU(self, step):
        value = self.word(step.operands[1])
        number = 0.0 if value is None else float_of(value)
        if "RCP" in step.parts and math.isfinite(number) and number > 0:
            self.put(step.operands[0], bits_of(1 / number))
        else:
            self.forget(step)

    def do_P2R(self, step):
        target, _, base, mask = step.operands
        mask = self.word(mask)
        bits = [self.registers["P"].get(i) for i in range(8) if mask >> i & 1]
        value = self.word(base)
        if None in bits or value is None:
            self.put(target, None)
        else:
            places = [i for i in range(8) if mask >> i & 1]
            self.put(target, value & ~mask | sum(bit << place for bit, place in zip(bits, places)))

    def do_PLOP3(self, step):
        first, second, a, b, c, *tables = step.operands
        inputs = [self.truth(operand) for operand in (a, b, c)]
        for target, table in zip((first, second), tables):
            self.put(target, table_of(inputs, self.word(table)))

    def do_PRMT(self, step):
        target, low, selector, high = step.operands
        values = self.words((low, selector, high))
        if values is None or step.parts:
            return self.put(target, None)
        pair = ((values[0] & WORD) | (values[2] & WORD) << 32).to_bytes(8, "little")
        result = 0
        for place in range(4):
            nibble = values[1] >> 4 * place & 15
            byte = pair[nibble & 7]
            # The highest bit asks for the sign of the byte, eight times.
            result |= (0xFF * (byte >> 7) if nibble & 8 else byte) << 8 * place
        self.put(target, result)

    def do_R2P(self, step):
        _, source, mask = step.operands
        value, mask = self.word(source), self.word(mask)
        for i in range(7):
            if mask >> i & 1:
                self.registers["P"][i] = None if value is None else bool(value >> i & 1)

    def do_R2UR(self, step):
        self.do_MOV(step)

    def do_S2R(self, step):
        known = {"SR_TID.X": 0, "SR_TID.Y": 0, "SR_CTAID.X": 0}
        self.put(step.operands[0], known.get(step.operands[1].index))

    def do_S2UR(self, step):
        self.do_S2R(step)

    def do_SEL(self, step):
        target, a, b, which = step.operands
        chosen = self.truth(which)
        self.put(target, None if chosen is None else self.word(a if chosen else b))

    def do_SHF(self, step):
        target, low, shift, high = step.operands
        values = self.words((low, shift, high))
        if values is None:
            return self.put(target, None)
        low, shift, high = values
        pair = high << 32 | low
        if "L" in step.parts:
            self.put(target, pair << shift >> 32 if "HI" in step.parts else low << shift)
        elif "HI" in step.parts:
            self.put(target, (signed(high) if "S32" in step.parts else high) >> shift)
        else:
            self.put(target, pair >> shift)

    def do_VIADD(self, step):
        values = self.words(step.operands[1:])
        self.put(step.operands[0], None if values is None else sum(values))

    def do_VIMNMX(self, step):
        target, a, b, least = step.operands
        values = self.words((a, b))
        if values is not None and "U32" not in step.parts:
            values = [signed(value) for value in values]
        self.put(target, None if values is None else (min if self.truth(least) else max)(values))

    def do_VOTE(self, step):
        # What holds for this lane is taken to hold for its warp. Kernels ask by a vote whether a row strays (norm.cuh), which
        # ordinary rows do not.
        found = self.truth(step.operands[1])
        self.put(step.operands[0], False if found is None and "ANY" in step.parts else found)

    def do_B2R(self, step):
        # The same of a block: BAR.RED asks for a row that strays.
        self.forget(step)
        for operand in step.operands:
            if operand.kind == "P" and "RESULT" in step.parts:
                self.put(operand, False)

    def do_VOTEU(self, step):
        self.do_VOTE(step)
