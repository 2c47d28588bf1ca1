"""Who computes a cell. Each is prepared for a set of inputs, and is then a function that runs one call, and one that
gives the results of the last call as arrays. What a contender cannot do raises NotImplementedError."""

import numpy as np

import abi
from cells import EPS
from inputs import NUMPY, empty


class Ours:
    """libdyt on the caller's memory. Outputs and workspace are allocated here, before anything is timed."""

    def __init__(self, device):
        self.device = device

    def prepare(self, cell, t):
        """(run, results)."""
        problem = abi.problem(cell.op, cell.dtype, cell.rows, cell.cols, EPS[cell.op])
        inputs = {"x": t.x, **t.parameters(cell.op)}
        inputs.update({n: inputs[n].astype(np.float32) for n in ("alpha", "shift") if n in inputs})
        # A training step needs the statistics, and every peer keeps them.
        names = {"layer_norm": ("mean", "rstd"), "rms_norm": ("rstd",)}.get(cell.op, ())
        statistics = {name: empty(cell.rows, np.float32) for name in names}
        y = {"y": empty(t.x.shape, NUMPY[cell.dtype], np.nan)}
        # Inference has no use for the statistics; a training step has.
        kept = {} if cell.pass_ == "forward" else statistics
        forward = self._call(problem, "forward", abi.ForwardArgs, {**inputs, **kept, **y})
        if cell.pass_ == "forward":
            return forward, lambda: y
        forward()
        grads = {"dx": empty(t.x.shape, NUMPY[cell.dtype], np.nan)}
        grads |= {f"d{n}": empty(v.shape, np.float32, np.nan) for n, v in t.parameters(cell.op).items()}
        inputs = {name: value for name, value in inputs.items() if name != "beta"}
        arrays = {**inputs, **statistics, "dy": t.dy, **grads}
        backward = self._call(problem, "backward", abi.BackwardArgs, arrays)
        if cell.pass_ == "backward":
            return backward, lambda: grads

        def step():
            forward()
            backward()

        return step, lambda: {**y, **grads}

    def _call(self, problem, pass_, struct, arrays):
        size = self.device.workspace_size(problem, pass_)
        space = empty(size, np.uint8) if size else None
        args = abi.sized(struct, **{name: array.ctypes.data for name, array in arrays.items()})
        enqueue = self.device.call(problem, args, space.ctypes.data if size else None, size)

        def run():
            enqueue()

        # The library keeps no memory alive; whoever has this function does.
        run.keeps = (arrays, space, problem, args)
        return run


class Torch:
    """A function of torch on the caller's inputs. Its backward is autograd's, on a graph that is built before."""

    def __init__(self, function, before=lambda: None):
        self.function, self.before = function, before

    @staticmethod
    def tensor(array):
        """The same memory."""
        import torch

        if array.dtype == np.float32:
            return torch.from_numpy(array)
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)

    def prepare(self, cell, t):
        """(run, results)."""
        import torch

        self.before()
        grad = cell.pass_ != "forward"
        x, dy = self.tensor(t.x).requires_grad_(grad), self.tensor(t.dy)
        p = {name: self.tensor(value).requires_grad_(grad) for name, value in t.parameters(cell.op).items()}
        last, names, leaves = {}, ["dx", *(f"d{name}" for name in p)], (x, *p.values())

        def forward():
            with torch.inference_mode():
                last["y"] = self.function(cell.op, x, p)

        def results():
            return {name: value.detach().float().numpy() for name, value in last.items()}

        if not grad:
            return forward, results
        if cell.pass_ == "backward":
            y = self.function(cell.op, x, p)

            def backward():
                last.update(zip(names, torch.autograd.grad(y, leaves, dy, retain_graph=True)))

            return backward, results

        def step():
            y = self.function(cell.op, x, p)
            last["y"] = y
            last.update(zip(names, torch.autograd.grad(y, leaves, dy)))

        return step, results


class Jax:
    """XLA's compilation of the formula, and of its vector-Jacobian product."""

    def __init__(self):
        import jax

        # Else a call runs on another thread than the caller's, which costs a small call more than its work.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        self.jax = jax

    def function(self, op):
        """x and the parameters to y. The norms take their statistics in f32, as layers for 16-bit types do."""
        jnp, lax = self.jax.numpy, self.jax.lax
        if op == "dyt":
            return lambda x, alpha, gamma, beta: gamma * jnp.tanh(alpha * x) + beta
        if op == "derf":
            return lambda x, alpha, shift, gamma, beta: gamma * lax.erf(alpha * x + shift) + beta

        def norm(x, gamma, beta=None):
            wide = x.astype(jnp.float32)
            if op == "layer_norm":
                wide = wide - wide.mean(axis=-1, keepdims=True)
            rstd = lax.rsqrt((wide * wide).mean(axis=-1, keepdims=True) + EPS[op])
            y = wide * rstd * gamma.astype(jnp.float32)
            return (y if beta is None else y + beta.astype(jnp.float32)).astype(x.dtype)

        return norm

    def prepare(self, cell, t):
        """(run, results)."""
        jax, function, last = self.jax, self.function(cell.op), {}
        args = [jax.numpy.asarray(array) for array in (t.x, *t.parameters(cell.op).values())]
        dy, names = jax.numpy.asarray(t.dy), ["dx", *(f"d{name}" for name in t.parameters(cell.op))]
        if cell.pass_ == "forward":
            call = jax.jit(function)

            def run():
                last["y"] = call(*args).block_until_ready()

        elif cell.pass_ == "backward":
            _, pullback = jax.jit(lambda *a: jax.vjp(function, *a))(*args)
            call = jax.jit(lambda pull, g: pull(g))

            def run():
                last["grads"] = jax.block_until_ready(call(pullback, dy))

        else:

            def both(g, *a):
                y, pull = jax.vjp(function, *a)
                return y, pull(g)

            call = jax.jit(both)

            def run():
                last["y"], last["grads"] = jax.block_until_ready(call(dy, *args))

        def results():
            found = dict(zip(names, last.get("grads", ())))
            found |= {"y": last["y"]} if "y" in last else {}
            return {name: np.asarray(value) for name, value in found.items()}

        return run, results


class Onnx:
    """onnxruntime's CPU provider on bound buffers. It has no backward outside of its training builds."""

    def __init__(self, threads):
        import onnxruntime

        self.ort, self.threads = onnxruntime, threads
        onnxruntime.set_default_logger_severity(4)

    def prepare(self, cell, t):
        """(run, results)."""
        if cell.pass_ != "forward":
            raise NotImplementedError("no backward")
        options = self.ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        model = _onnx_model(cell, t).SerializeToString()
        session = self.ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        y, bound = empty(t.x.shape, NUMPY[cell.dtype], np.nan), session.io_binding()
        kind = _onnx_kind(cell)
        bound.bind_input("x", "cpu", 0, kind, t.x.shape, t.x.ctypes.data)
        bound.bind_output("y", "cpu", 0, kind, y.shape, y.ctypes.data)

        def run():
            session.run_with_iobinding(bound)

        run.keeps = (t, y)
        return run, lambda: {"y": y}


def _onnx_kind(cell):
    from onnx import TensorProto

    return {"f32": TensorProto.FLOAT, "bf16": TensorProto.BFLOAT16}[cell.dtype]


def _onnx_model(cell, t):
    from onnx import helper, numpy_helper

    kind, p, node = _onnx_kind(cell), t.parameters(cell.op), helper.make_node
    if cell.op in ("dyt", "derf"):
        nodes = [node("Mul", ["x", "alpha"], ["u"])]
        nodes += [node("Add", ["u", "shift"], ["v"])] if cell.op == "derf" else []
        nodes += [node({"dyt": "Tanh", "derf": "Erf"}[cell.op], [nodes[-1].output[0]], ["f"])]
        nodes += [node("Mul", ["f", "gamma"], ["g"]), node("Add", ["g", "beta"], ["y"])]
    else:
        name = {"layer_norm": "LayerNormalization", "rms_norm": "RMSNormalization"}[cell.op]
        nodes = [node(name, ["x", *p], ["y"], axis=-1, epsilon=EPS[cell.op])]
    shape = list(t.x.shape)
    graph = helper.make_graph(
        nodes, cell.op, [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
        [numpy_helper.from_array(value, name) for name, value in p.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


def _eager():
    from formula import formula

    return Torch(formula)


def _compiled():
    import torch
    import torch._functorch.config

    from formula import formula

    # A retained graph is run again and again, so that its saved tensors must not be reused for outputs.
    torch._functorch.config.donated_buffer = False
    # A cell compiles anew: torch.compile falls back to eager, silently, after some recompilations of one function.
    return Torch(torch.compile(formula, dynamic=False), torch._dynamo.reset)


def found(device, threads, names=None):
    """(name -> contender, name -> why it is absent)."""
    there, absent = {"dyt": Ours(device)}, {}
    peers = {"eager": _eager, "compile": _compiled, "jax": Jax, "onnxruntime": lambda: Onnx(threads)}
    for name, make in peers.items():
        if names is not None and name not in names:
            absent[name] = "left out by --peers"
            continue
        try:
            there[name] = make()
        except Exception as error:  # A package that is broken is absent too, whatever it raises.
            absent[name] = f"{type(error).__name__}: {error}"
    return there, absent
