"""The ops of dyt.jax on random data, each with its formulas: what the tests of JAX share."""

import os
from dataclasses import dataclass
from typing import Any, NamedTuple

# Read when JAX is first used: for the tests of arrays on several devices.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"

import formulas
import jax
import jax.numpy as jnp
import numpy as np

import dyt.jax

OPS = ("dyt", "derf", "layer_norm", "unbiased", "rms_norm")
NORMS = OPS[2:]
EPS = 1e-5
#: The bound of y by docs/numerics.md, on the CPU and on CUDA.
Y_ULPS = 5 if jax.default_backend() == "gpu" or "DYT_HOST_DRIVER" in os.environ else 4


@dataclass(frozen=True, eq=False)
class Case:
    """A function of JAX, its arguments by name, and what the formulas make of x and those as rows and columns."""

    function: Any
    arguments: dict[str, jax.Array]
    dtype: str

    def __call__(self, *arguments):
        return self.function(**dict(zip(self.arguments, arguments, strict=True)))

    @property
    def values(self):
        return tuple(self.arguments.values())

    def formula(self, rows):
        """The formulas for x as rows × columns in float64."""
        value = {name: np.asarray(argument, np.float64) for name, argument in self.arguments.items() if name != "x"}
        weight, bias = value.get("weight"), value.get("bias")
        if "alpha" in value:
            shift = value["shift"].item() if "shift" in value else None
            return formulas.Pointwise(self.dtype, rows, value["alpha"].item(), shift, weight, bias, Y_ULPS)
        keywords = self.function.keywords
        options = {"centred": self.function.func is dyt.jax.layer_norm, "unbiased": keywords.get("unbiased", False)}
        return formulas.Norm(self.dtype, rows, weight, bias, EPS, **options)


def array(rng, shape, dtype, scale=1.0, mean=0.0):
    return jnp.asarray(rng.normal(mean, scale, shape), dtype)


def case(rng, op, shape, dtype="float32", param=None, weight=True, bias=True, axis=-1):
    """The op with x of that shape; parameters of `param`, by default x's dtype, along `axis`."""
    param = param or dtype
    arguments = {"x": array(rng, shape, dtype, rng.uniform(0.5, 3), rng.uniform(-1, 1))}
    if op in ("dyt", "derf"):
        arguments["alpha"] = array(rng, (1,), param, 0.1, 0.8)
    if op == "derf":
        arguments["shift"] = array(rng, (1,), param, 0.3)
    cols = shape[axis]
    if weight:
        arguments["weight"] = array(rng, (cols,), param, 0.5, 1)
    if bias and op != "rms_norm":
        arguments["bias"] = array(rng, (cols,), param, 0.5)
    return Case(_function(op, cols, axis), arguments, dtype)


def _function(op, cols, axis):
    if op in ("dyt", "derf"):
        return _Partial(getattr(dyt.jax, op), {} if axis == -1 else {"channels_last": False})
    keywords = {"normalized_shape": cols, "eps": EPS}
    if op == "unbiased":
        return _Partial(dyt.jax.layer_norm, {**keywords, "unbiased": True})
    return _Partial(getattr(dyt.jax, op), keywords)


class _Partial(NamedTuple):
    func: Any
    keywords: dict[str, Any]

    def __call__(self, **arguments):
        return self.func(**arguments, **self.keywords)


def rows(array, axis=-1):
    """The array as rows × columns in float64, with the columns along `axis`."""
    array = np.moveaxis(np.asarray(array, np.float64), axis, -1)
    return array.reshape(-1, array.shape[-1])


def check(case, y, gradients, dy, axis=-1):
    """Compares y and the gradients, in the order of the arguments, with the formulas."""
    formula = case.formula(rows(case.arguments["x"], axis))
    formula.y().check("y", rows(y, axis))
    expected = formula.gradients(rows(dy, axis))
    for (name, argument), gradient in zip(case.arguments.items(), gradients, strict=True):
        assert gradient.dtype == argument.dtype and gradient.shape == argument.shape, name
        if name == "x":
            expected[name].check(name, rows(gradient, axis))
        else:
            expected[name].stored(argument.dtype.name).check(name, gradient)


def run(case, rng, jit=True):
    """y, the gradients, and the gradient of y that they are made of."""

    def both(dy, *arguments):
        y, pull = jax.vjp(case, *arguments)
        return y, pull(dy)

    x = case.arguments["x"]
    dy = array(rng, x.shape, x.dtype)
    y, gradients = (jax.jit(both) if jit else both)(dy, *case.values)
    return y, gradients, dy


def equal(left, right):
    """Whether two trees of arrays have the same bits, dtypes and shapes."""
    left, right = jax.tree.leaves(left), jax.tree.leaves(right)
    same = lambda a, b: a.dtype == b.dtype and a.shape == b.shape and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    return len(left) == len(right) and all(map(same, left, right))
