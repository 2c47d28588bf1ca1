"""kernels/counts.csv: the instructions that a lane issues for each element, on sm_90.

They are counted by running one lane through the machine code (lane.py) with the arguments of a launch, so that they are those
of the path which the launch takes, from the first instruction to the last.
"""

import sass
from lane import Lane, Lost

# The code that is counted: that of the GPUs which the project is measured on.
ARCHITECTURE = 90
HEAD = ["kernel", "dtype", "param_dtype", "elements", "instructions", "per_element"]
# A rise by more than this fails.
TOLERANCE = 0.02


def table(listings, launches):
    """The lines of the file, the head first."""
    kernels = {}
    for listing in listings:
        kernels.update(sass.functions(listing))
    yield HEAD
    for launch in launches:
        try:
            count = Lane(kernels[launch.kernel], ARCHITECTURE, launch).run()
        except Lost as reason:
            raise SystemExit(f"{launch.kernel} with {launch.dtype}, {launch.param_dtype}: {reason}") from reason
        each = f"{count / launch.elements:.2f}"
        yield [launch.kernel, launch.dtype, launch.param_dtype, launch.elements, count, each]


def complaints(before, now):
    """What of the lines `now` is above those `before`, or has no like there."""
    known = {tuple(line[:3]): line for line in before[1:]}
    for line in now[1:]:
        old = known.pop(tuple(line[:3]), None)
        name = ", ".join(line[:3])
        if old is None:
            yield f"{name}: not in kernels/counts.csv"
        elif float(line[4]) / float(line[3]) > (1 + TOLERANCE) * float(old[4]) / float(old[3]):
            yield f"{name}: {line[5]} instructions an element, kernels/counts.csv has {old[5]}"
    for name in known:
        yield f"{', '.join(name)}: in kernels/counts.csv, and not launched any more"
