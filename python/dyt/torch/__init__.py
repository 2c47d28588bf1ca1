"""DyT, Derf, LayerNorm and RMSNorm for PyTorch: functions, modules, and what exchanges the norms of a model.

import dyt.torch

norm = dyt.torch.DynamicTanh(768)
model = dyt.torch.use_fused_norms(model)
"""

import torch as _torch

from .. import _dyt

if not hasattr(_dyt, "torch_register"):
    raise ImportError("dyt.torch runs on Linux only")
if not hasattr(_torch.library, "register_vmap") or tuple(map(int, _torch.__version__.split(".")[:2])) < (2, 9):
    raise ImportError(f"dyt.torch needs torch 2.9 or later, and this is {_torch.__version__}")

from .attention import qk_norm
from .convert import (
    convert_ln_to_derf,
    convert_ln_to_dyt,
    convert_rms_to_dyt,
    convert_rmsnorm_to_derf,
    llama_alpha,
    use_fused_norms,
)
from .functional import (
    add_derf,
    add_dyt,
    add_layer_norm,
    add_rms_norm,
    derf,
    dyt,
    layer_norm,
    rms_norm,
    set_compile_policy,
)
from .modules import Derf, Dynamic_erf, DynamicTanh, LayerNorm, RMSNorm
from .quantised import quant_scale, quantised_derf, quantised_dyt, quantised_layer_norm, quantised_rms_norm

__all__ = [
    "Derf",
    "DynamicTanh",
    "Dynamic_erf",
    "LayerNorm",
    "RMSNorm",
    "add_derf",
    "add_dyt",
    "add_layer_norm",
    "add_rms_norm",
    "convert_ln_to_derf",
    "convert_ln_to_dyt",
    "convert_rms_to_dyt",
    "convert_rmsnorm_to_derf",
    "derf",
    "dyt",
    "layer_norm",
    "llama_alpha",
    "qk_norm",
    "quant_scale",
    "quantised_derf",
    "quantised_dyt",
    "quantised_layer_norm",
    "quantised_rms_norm",
    "rms_norm",
    "set_compile_policy",
    "use_fused_norms",
]
