"""kernels/registers.csv: what each kernel takes of a multiprocessor on each architecture."""

import re

from launches import SHARED

# Of one multiprocessor: warps, blocks, bytes of shared memory.
LIMITS = {75: (32, 16, 65536), 80: (64, 32, 167936), 90: (64, 32, 233472)}
REGISTERS = 65536
# The most registers that a kernel may take, by what its name matches: the first that fits. They keep enough warps on a
# multiprocessor to cover the latency of memory at the block sizes of the plans.
CEILINGS = (
    (r"dyt_(dyt|derf)_fwd_scalar", 40),
    # Of calls with options: three blocks of a multiprocessor; one of the norms' backward.
    (r"dyt_(dyt|derf)_fwd_options", 80),
    (r"dyt_(layer|rms)_norm_bwd_long_options", 128),
    (r"dyt_(dyt|derf)_fwd_", 64),
    (r"dyt_(dyt|derf)_bwd_scalar", 48),
    (r"dyt_(dyt|derf)_bwd_", 80),
    # Of 512 threads, of which a multiprocessor holds one block from 65 to 128 registers.
    (r"dyt_(layer|rms)_norm_bwd_\w+_long_vector", 128),
    (r"dyt_(layer|rms)_norm_.*long_", 80),
    (r"dyt_(layer|rms)_norm_fwd_", 64),
    (r"dyt_(layer|rms)_norm_bwd_", 128),
    (r"", 64),
)


def ceiling(kernel):
    return next(limit for pattern, limit in CEILINGS if re.match(pattern, kernel))


def complaints(uses):
    """What is wrong in {architecture: {kernel: Use}}."""
    for architecture, kernels in uses.items():
        for kernel, use in sorted(kernels.items()):
            if use.spills or use.stack:
                yield f"{kernel} on sm_{architecture}: {use.spills} bytes of spills, {use.stack} of stack"
            if use.registers > ceiling(kernel):
                yield f"{kernel} on sm_{architecture}: {use.registers} registers, at most {ceiling(kernel)} allowed"


def threads(ptx):
    """The largest block of each kernel, which __launch_bounds__ left in the PTX."""
    found = re.findall(r"\.entry\s+(\w+)\s*\([^)]*\)\s*((?:\.\w+[^{\n]*\n)*)", ptx)
    sizes = {}
    for kernel, directives in found:
        bound = re.search(r"\.maxntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?", directives)
        sizes[kernel] = 1
        for part in bound.groups() if bound else ("1024",):
            sizes[kernel] *= int(part or 1)
    return sizes


def occupancy(use, block, dynamic, architecture):
    """Warps that are there at once, of those that could be, as registers and shared memory allow; in percent."""
    warps, blocks, shared = LIMITS[architecture]
    of_block = -(-block // 32)
    # Registers are given out to warps in lots of 256, to four partitions.
    per_warp = -(-use.registers * 32 // 256) * 256
    by_registers = REGISTERS // 4 // per_warp * 4 // of_block
    # From 8.0 on each block takes 1 KiB of shared memory more, for the system.
    by_shared = shared // max(1, use.shared + dynamic + (1024 if architecture >= 80 else 0))
    return 100 * min(blocks, warps // of_block, by_registers, by_shared) * of_block / warps


def table(uses, launches):
    """The lines of the file, the head first."""
    architectures = sorted(uses)
    head = ["kernel", "threads", *(f"sm_{a}" for a in architectures), "ceiling"]
    yield [*head, *(f"shared_bytes_{a}" for a in SHARED), *(f"occupancy_percent_{a}" for a in SHARED)]
    # Of a kernel for several storage types the geometry that needs most.
    for kernel in sorted({launch.kernel for launch in launches}):
        largest = max((launch for launch in launches if launch.kernel == kernel), key=lambda launch: launch.shared)
        block = largest.block[0] * largest.block[1]
        shared = [uses[a][kernel].shared + dynamic for a, dynamic in zip(SHARED, largest.shared)]
        full = [occupancy(uses[a][kernel], block, d, a) for a, d in zip(SHARED, largest.shared)]
        yield [kernel, block, *(uses[a][kernel].registers for a in architectures), ceiling(kernel), *shared,
               *(f"{percent:.0f}" for percent in full)]


def too_large(launches, most):
    """Launches whose block is larger than __launch_bounds__."""
    for launch in launches:
        block = launch.block[0] * launch.block[1]
        if block > most[launch.kernel]:
            yield f"{launch.kernel}: the plan launches {block} threads, __launch_bounds__ allows {most[launch.kernel]}"
