"""What is measured on the CPU, for how long, and what counts as right: the shapes of the design's targets, the most
telling first."""

from cells import OPS, TENSORS, Cell

# L2, memory with narrow rows, memory with wide rows; then the rest, by size.
QUICK_SHAPES = ((64, 768), (8, 4096))
SHAPES = (
    (64, 768), (8, 4096), (1, 4096), (512, 768), (16384, 768), (4096, 4096), (4096, 1024), (512, 8192),
    (8192, 4096), (32768, 1024), (4096, 8192), (4096, 16384),
)  # fmt: skip
DTYPES = ("f32", "bf16")
# Seconds: what one batch of calls takes at least, so that the clock is exact enough; and what the rounds of a cell take
# together before no further one is begun.
BATCH = 0.0005
TOTAL = {False: 0.8, True: 0.15}
ROUNDS = {False: 21, True: 7}
# Seconds of rest before each turn on several threads: the pools of the contender before spin for a while after its last
# call, and would hold processors that this one's threads wait for.
REST = 0.01
# Norm of the error by norm of the result. A check that the same function is computed; the conformance tests are what
# bounds errors of ours. Peers round parameters' gradients to 16 bits, and eager rounds each step.
CLOSE = {"f32": 1e-3, "bf16": 3e-2}


def groups(quick=False, ops=OPS, dtypes=DTYPES):
    """Lists of cells, a list for each shape, type and op: they have inputs, reference and compiled functions in common."""
    shapes = QUICK_SHAPES if quick else SHAPES
    return [
        [Cell(op, pass_, rows, cols, dtype) for pass_ in TENSORS]
        for rows, cols in shapes for dtype in dtypes for op in ops
    ]  # fmt: skip
