"""The C ABI of dyt by ctypes: the structs of dyt.h, and a device that runs on the caller's pointers and stream."""

import ctypes as c

ABI_VERSION = 1
DTYPES = {"f32": 0, "f16": 1, "bf16": 2}
OPS = {"dyt": 0, "derf": 1, "layer_norm": 2, "rms_norm": 3}
PASSES = {"forward": 0, "backward": 1}


class Problem(c.Structure):
    """dyt_problem."""

    _fields_ = [
        *((name, c.c_uint32) for name in ("size", "op", "dtype", "param_dtype", "std", "accumulate")),
        ("eps", c.c_float),
        ("reserved", c.c_uint32),
        *((name, c.c_int64) for name in ("rows", "cols", "row_stride", "inner")),
        ("gamma_offset", c.c_float),
        *((name, c.c_uint32) for name in ("quant", "quant_dynamic", "reserved2")),
        *((name, c.c_int64) for name in ("param_rows", "heads", "head_stride", "y_row_stride", "y_head_stride")),
    ]


def _args(*pointers):
    return [("size", c.c_uint32), ("reserved", c.c_uint32), *((name, c.c_void_p) for name in pointers)]


class ForwardArgs(c.Structure):
    """dyt_forward_args."""

    _fields_ = _args("x", "alpha", "shift", "gamma", "beta", "y", "mean", "rstd", "residual", "sum", "scale")


class BackwardArgs(c.Structure):
    """dyt_backward_args."""

    _fields_ = _args(
        "dy", "x", "alpha", "shift", "gamma", "mean", "rstd", "dx", "dalpha", "dshift", "dgamma", "dbeta", "dsum"
    )


STRUCTS = {"dyt_problem": Problem, "dyt_forward_args": ForwardArgs, "dyt_backward_args": BackwardArgs}


def sized(struct, **fields):
    """A struct with `size` set. Fields that are not named are 0 or NULL."""
    return struct(size=c.sizeof(struct), **fields)


def problem(op, dtype, rows, cols, eps):
    """Channels-last, contiguous, parameters of the same type, gradients that overwrite."""
    code = DTYPES[dtype]
    return sized(
        Problem, op=OPS[op], dtype=code, param_dtype=code, eps=eps, rows=rows, cols=cols, inner=1
    )


class DytError(RuntimeError):
    """A call that failed, with the library's own words."""


class Device:
    """An open device. Keep it until the last call has been made."""

    def __init__(self, library, name):
        self._lib = _load(library)
        self._handle = c.c_void_p()
        self.check(self._lib.dyt_device_open(name.encode(), c.byref(self._handle)))

    def close(self):
        """Closes it; a second time does nothing."""
        self._lib.dyt_device_close(self._handle)
        self._handle = c.c_void_p()

    def check(self, status):
        """Raises what the library says about a status that is not DYT_OK."""
        if status != 0:
            raise DytError(f"status {status}: {self._lib.dyt_last_error().decode()}")

    def name(self):
        """Its name, such as `cuda:0`."""
        buffer = c.create_string_buffer(256)
        self.check(self._lib.dyt_device_name(self._handle, buffer, len(buffer)))
        return buffer.value.decode()

    def workspace_size(self, problem_, pass_):
        """Bytes of workspace that a call needs."""
        size = c.c_size_t()
        status = self._lib.dyt_workspace_size(
            self._handle, c.byref(problem_), PASSES[pass_], c.byref(size)
        )
        self.check(status)
        return size.value

    def call(self, problem_, args, workspace=None, workspace_bytes=0, stream=None):
        """A function that enqueues this one call: what a caller repeats, with everything prepared."""
        run = self._lib.dyt_forward if isinstance(args, ForwardArgs) else self._lib.dyt_backward
        handle, p, a = self._handle, c.byref(problem_), c.byref(args)
        space, space_bytes, queue = c.c_void_p(workspace), c.c_size_t(workspace_bytes), c.c_void_p(stream)

        def enqueue():
            status = run(handle, p, a, space, space_bytes, queue)
            if status != 0:
                self.check(status)

        return enqueue


def _load(path):
    lib = c.CDLL(str(path))
    pointer, size = c.c_void_p, c.c_size_t
    lib.dyt_last_error.restype = c.c_char_p
    lib.dyt_abi_version.restype = c.c_uint32
    lib.dyt_device_open.argtypes = [c.c_char_p, c.POINTER(pointer)]
    lib.dyt_device_close.argtypes = [pointer]
    lib.dyt_device_close.restype = None
    lib.dyt_device_name.argtypes = [pointer, c.c_char_p, size]
    lib.dyt_workspace_size.argtypes = [pointer, c.POINTER(Problem), c.c_uint32, c.POINTER(size)]
    for function, args in ((lib.dyt_forward, ForwardArgs), (lib.dyt_backward, BackwardArgs)):
        function.argtypes = [pointer, c.POINTER(Problem), c.POINTER(args), pointer, size, pointer]
    if lib.dyt_abi_version() != ABI_VERSION:
        raise DytError(f"{path} has ABI {lib.dyt_abi_version()}, and this script is for {ABI_VERSION}")
    return lib
