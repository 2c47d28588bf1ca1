"""Who computes a cell. Each is prepared once for a set of tensors, and is then a function that runs one call."""

import torch

import abi
from cells import EPS
from formula import formula


class Ours:
    """libdyt on torch's memory and stream. Outputs and workspace are allocated here, before anything is timed."""

    def __init__(self, device):
        self.device = device

    def prepare(self, cell, t, stream):
        """(run, results)."""
        problem = abi.problem(cell.op, cell.dtype, cell.rows, cell.cols, EPS[cell.op])
        keep = {"alpha": t.alpha.float(), "shift": t.shift.float(), "gamma": t.gamma, "beta": t.beta, "x": t.x}
        inputs = {name: value for name, value in keep.items() if name in ("x", *t.parameters(cell.op))}
        forward_outputs = {"y": torch.full_like(t.x, float("nan")), **self._statistics(cell, t)}
        forward = self._call(problem, "forward", abi.ForwardArgs, {**inputs, **forward_outputs}, stream)
        if cell.pass_ == "forward":
            return forward, lambda: forward_outputs
        forward()
        statistics = {name: value for name, value in forward_outputs.items() if name != "y"}
        inputs = {name: value for name, value in inputs.items() if name != "beta"}
        outputs = {"dx": torch.full_like(t.x, float("nan"))}
        for name, value in t.parameters(cell.op).items():
            outputs[f"d{name}"] = torch.full(value.shape, float("nan"), device=value.device, dtype=torch.float32)
        tensors = {**inputs, **statistics, "dy": t.dy, **outputs}
        return self._call(problem, "backward", abi.BackwardArgs, tensors, stream), lambda: outputs

    @staticmethod
    def _statistics(cell, t):
        # A training step needs them, and every peer writes them.
        names = {"layer_norm": ("mean", "rstd"), "rms_norm": ("rstd",)}.get(cell.op, ())
        return {name: torch.empty(cell.rows, device=t.x.device, dtype=torch.float32) for name in names}

    def _call(self, problem, pass_, struct, tensors, stream):
        size = self.device.workspace_size(problem, pass_)
        workspace = torch.empty(size, dtype=torch.uint8, device="cuda") if size else None
        args = abi.sized(struct, **{name: value.data_ptr() for name, value in tensors.items()})
        enqueue = self.device.call(
            problem, args, workspace.data_ptr() if size else None, size, stream.cuda_stream
        )

        def run():
            enqueue()

        # The library keeps no memory alive; whoever has this function does.
        run.keeps = (tensors, workspace, problem, args)
        return run


class Autograd:
    """A function of torch. Its backward is that of autograd, on a graph which is built before."""

    def __init__(self, function):
        self.function = function

    def prepare(self, cell, t, _stream):
        """(run, results)."""
        last = {}
        needs_grad = cell.pass_ == "backward"
        x = t.x.detach().requires_grad_(needs_grad)
        p = {name: value.detach().requires_grad_(needs_grad) for name, value in t.parameters(cell.op).items()}
        if not needs_grad:

            def forward():
                with torch.no_grad():
                    last["y"] = self.function(cell.op, x, p)

            return forward, lambda: last
        y, names = self.function(cell.op, x, p), ["dx", *(f"d{name}" for name in p)]

        def backward():
            gradients = torch.autograd.grad(y, (x, *p.values()), t.dy, retain_graph=True)
            last.update(zip(names, gradients))

        return backward, lambda: last


def _compiled():
    # One function for all cells, so that a cell compiles once for its shape, type and op.
    return torch.compile(formula, dynamic=False)


def _liger():
    from liger_kernel.ops.layer_norm import LigerLayerNormFunction
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    try:
        from liger_kernel.ops.dyt import LigerDyTFunction
    except ImportError:
        LigerDyTFunction = None

    def run(op, x, p):
        if op == "dyt" and LigerDyTFunction is not None:
            return LigerDyTFunction.apply(x, p["alpha"], p["gamma"], p["beta"])
        if op == "layer_norm":
            return LigerLayerNormFunction.apply(x, p["gamma"], p["beta"], EPS[op])
        if op == "rms_norm":
            # Not in place: the same dy is used for every repetition.
            return LigerRMSNormFunction.apply(x, p["gamma"], EPS[op], 0.0, "llama", False)
        raise NotImplementedError(op)

    return run


def _quack():
    from quack import rmsnorm

    def run(op, x, p):
        if op != "rms_norm":
            raise NotImplementedError(op)
        return rmsnorm(x, p["gamma"], eps=EPS[op])

    return run


def found(device, compiled=True):
    """(name -> contender, name -> why it is absent)."""
    there, absent = {"dyt": Ours(device), "eager": Autograd(formula)}, {}
    peers = {"compile": _compiled, "liger": _liger, "quack": _quack}
    if not compiled:
        del peers["compile"]
        absent["compile"] = "left out by --no-compile"
    for name, make in peers.items():
        try:
            there[name] = Autograd(make())
        except Exception as error:  # A package that is broken is absent too, whatever it raises.
            absent[name] = f"{type(error).__name__}: {error}"
    return there, absent
