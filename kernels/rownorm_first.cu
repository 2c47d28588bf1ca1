// The kernels of LayerNorm and RMSNorm for channels-first data.
#include "rownorm_first.cuh"

#define ROWNORM_FIRST(op, Op)                                                                                  \
    DYT_ENTRY(dyt_##op##_fwd_first, NormForward, 256, 4,                                                       \
              dyt::with_types(a, [&](auto type, auto p) { dyt::norm_forward_first<Op>(a, type, p); }))         \
    DYT_ENTRY(dyt_##op##_bwd_first, NormBackward, 256, 2,                                                      \
              dyt::with_types(a, [&](auto type, auto p) { dyt::norm_backward_first<Op>(a, type, p); }))

ROWNORM_FIRST(layer_norm, dyt::LayerNorm)
ROWNORM_FIRST(rms_norm, dyt::RmsNorm)
