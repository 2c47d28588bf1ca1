// The kernels of LayerNorm and RMSNorm for rows that no registers hold.
#include "rownorm_long.cuh"

#define ROWNORM_LONG_VECTOR(dtype, T, op, Op)                                                                        \
    DYT_ENTRY(dyt_##op##_fwd_##dtype##_long_vector, NormForward, 1024, 1, dyt::norm_forward_long<Op, true>(a, T())) \
    DYT_ENTRY(dyt_##op##_bwd_##dtype##_long_vector, NormBackward, 512, 1, dyt::norm_backward_long<Op>(a, T()))

#define ROWNORM_LONG_SCALAR(op, Op)                                                                       \
    DYT_ENTRY(dyt_##op##_fwd_long_scalar, NormForward, 1024, 1,                                           \
              dyt::with_dtype(a.dtype, [&](auto type) { dyt::norm_forward_long<Op, false>(a, type); }))   \
    DYT_ENTRY(dyt_##op##_bwd_long_scalar, NormBackward, 512, 2,                                           \
              dyt::with_dtype(a.dtype, [&](auto type) { dyt::norm_backward_elements<Op>(a, type); }))

DYT_FOR_DTYPES(ROWNORM_LONG_VECTOR, layer_norm, dyt::LayerNorm)
DYT_FOR_DTYPES(ROWNORM_LONG_VECTOR, rms_norm, dyt::RmsNorm)
ROWNORM_LONG_SCALAR(layer_norm, dyt::LayerNorm)
ROWNORM_LONG_SCALAR(rms_norm, dyt::RmsNorm)
