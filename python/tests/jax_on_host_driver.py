"""A plugin of pytest: dyt.jax by its CUDA handlers, without a GPU.

    DYT_HOST_DRIVER=libcuda.so python -m pytest -p jax_on_host_driver …

The driver is the one of `simt/`, whose device memory is host memory, and which runs each launch on the host. JAX runs on
the CPU. Its calls get a table of XLA's functions that names a GPU and a stream, which JAX has none of here.
"""

import ctypes
import os

DRIVER = ctypes.CDLL(os.environ["DYT_HOST_DRIVER"], mode=ctypes.RTLD_GLOBAL)
DRIVER.fake_log.restype = ctypes.c_char_p
LIBM = ctypes.CDLL("libm.so.6")
STREAM = 0x5EED
#: Bytes of XLA_FFI_Api up to its last function here, and where those two functions stand.
API_BYTES, STREAM_GET, DEVICE_ORDINAL_GET = 192, 80, 184
#: Where XLA_FFI_CallFrame has the table, and its own bytes.
FRAME_API, FRAME_BYTES = 16, 168

Handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
Getter = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
calls = {"dyt_forward": 0, "dyt_backward": 0}
_alive = []


@Getter
def _stream(arguments):
    ctypes.c_uint64.from_address(arguments + 24).value = STREAM
    return None


@Getter
def _ordinal(arguments):
    ctypes.c_int32.from_address(arguments + 24).value = 0
    return None


def _wrapped(name, address):
    """The handler as one for the CPU: it gets each frame with another table."""
    handler = Handler(address)

    def call(frame):
        copy = ctypes.create_string_buffer(ctypes.string_at(frame, FRAME_BYTES), FRAME_BYTES)
        at = ctypes.c_uint64.from_buffer(copy, FRAME_API)
        if not at.value or ctypes.c_uint64.from_address(frame + 8).value:
            # A question for metadata.
            return handler(frame)
        table = ctypes.create_string_buffer(ctypes.string_at(at.value, API_BYTES), API_BYTES)
        for place, function in ((STREAM_GET, _stream), (DEVICE_ORDINAL_GET, _ordinal)):
            ctypes.c_uint64.from_buffer(table, place).value = ctypes.cast(function, ctypes.c_void_p).value
        at.value = ctypes.addressof(table)
        calls[name] += 1
        # XLA's threads flush subnormal numbers, and a GPU does not.
        before = ctypes.create_string_buffer(64)
        LIBM.fegetenv(before)
        LIBM.fesetenv(ctypes.c_void_p(-1))
        error = handler(ctypes.addressof(copy))
        LIBM.fesetenv(before)
        return error

    _alive.append(Handler(call))
    return ctypes.cast(_alive[-1], ctypes.c_void_p).value


def _replace():
    from dyt import _dyt

    handlers, workspace = _dyt.xla_handlers(), _dyt.xla_workspace
    gpu = [
        (name, "cpu", stage, _wrapped(name, at))
        for name, platform, stage, at in handlers
        if platform == "CUDA" and stage == "execute"
    ]
    _dyt.xla_handlers = lambda: gpu
    _dyt.xla_workspace = lambda description, gpu: workspace(description, True)


_replace()


def pytest_terminal_summary(terminalreporter):
    """How many calls there were, the streams of the launches, and what the driver was asked for besides."""
    log = [line.split() for line in DRIVER.fake_log().decode().splitlines()]
    streams = sorted({hex(int(value)) for name, value in log if name == "cuLaunchKernel"})
    # What would spoil a capture into a graph.
    others = sorted({name for name, _ in log if name.startswith(("cuMem", "cuStream", "cuEvent", "cuCtxSynchronize"))})
    terminalreporter.write_line(f"host driver: {calls}, streams {streams}, others {others}")
