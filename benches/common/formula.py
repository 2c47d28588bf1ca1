"""The ops as torch's users write them: what eager and torch.compile are given."""

import torch

from cells import EPS


def formula(op, x, p):
    """The op as its formula stands, in the type of its arguments."""
    if op == "dyt":
        return p["gamma"] * torch.tanh(p["alpha"] * x) + p["beta"]
    if op == "derf":
        return p["gamma"] * torch.erf(p["alpha"] * x + p["shift"]) + p["beta"]
    shape = x.shape[-1:]
    if op == "layer_norm":
        return torch.nn.functional.layer_norm(x, shape, p["gamma"], p["beta"], EPS[op])
    return torch.nn.functional.rms_norm(x, shape, p["gamma"], EPS[op])
