"""Machine code as nvdisasm prints it, taken apart."""

import collections
import re

# `guard` is None, or the register of the predicate and whether it is negated. `at` is the address.
Instruction = collections.namedtuple("Instruction", "at guard name parts operands text")
# What an instruction reads or writes: kind is R, UR, P, UP (index None for RZ, PT …), "number", "constant" (index is the
# bank's offset: a number or an operand), "label", or "other". `sign` is "", "-", "~" or "!".
Operand = collections.namedtuple("Operand", "kind index sign")
# The instructions of a kernel in order, and the position of each label.
Code = collections.namedtuple("Code", "instructions labels")

LINE = re.compile(r"\s+/\*([0-9a-f]{4,5})\*/\s+(?:@(!?)(U?P(?:\d|T))\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")


def functions(listing):
    """{name: Code} of the kernels in what `nvdisasm -c` prints."""
    kernels, code, labels = {}, None, []
    for line in listing.splitlines():
        section = re.match(r"\s+\.section\s+\.text\.(\w+)", line)
        if section:
            code = kernels[section[1]] = Code([], {})
            continue
        if code is None:
            continue
        label = re.match(r"([.$\w]+):", line)
        if label:
            labels.append(label[1])
            continue
        found = LINE.match(line)
        if found:
            code.labels.update((name, len(code.instructions)) for name in labels)
            labels = []
            code.instructions.append(instruction(*found.groups()))
    return kernels


def instruction(at, negated, predicate, name, rest):
    guard = (predicate, bool(negated)) if predicate else None
    parts = name.split(".")
    operands = [operand(text.strip()) for text in split(rest)]
    return Instruction(int(at, 16), guard, parts[0], frozenset(parts[1:]), operands, f"{name} {rest}")


def split(text):
    """At the commas that stand in no brackets."""
    return re.split(r",\s*(?![^\[]*\])", text) if text else []


def operand(text):
    label = re.fullmatch(r"`\((.*)\)", text)
    if label:
        return Operand("label", label[1], "")
    sign = text[0] if text[0] in "-~!" and not text[1:2].isdigit() else ""
    bare = re.sub(r"\.(reuse|64|H[01]_H[01]|F32|X\d+|U32)\b", "", text[len(sign):]).strip("|")
    register = re.fullmatch(r"(UR|UP|R|P)(\d+|Z|T)", bare)
    if register:
        kind, index = register.groups()
        return Operand(kind, int(index) if index.isdigit() else None, sign)
    constant = re.fullmatch(r"c\[0x0\]\[(\w+)\]", bare)
    if constant:
        inside = operand(constant[1])
        if inside.kind == "R" and inside.index is None:
            inside = Operand("number", 0, "")
        return Operand("constant", inside, sign)
    if re.fullmatch(r"-?0x[0-9a-f]+", bare):
        return Operand("number", int(bare, 16), sign)
    return Operand("other", text, "")
