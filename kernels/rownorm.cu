// The kernels of LayerNorm and RMSNorm for rows that registers hold.
#include "rownorm.cuh"

#define ROWNORM_VECTOR(dtype, T, op, Op)                                                                    \
    DYT_ENTRY(dyt_##op##_fwd_##dtype##_vector, NormForward, 1024, 1, dyt::norm_forward<Op, true>(a, T()))   \
    DYT_ENTRY(dyt_##op##_bwd_##dtype##_vector, NormBackward, 512, 1,                                        \
              dyt::with_few_factors(T(), a, [&](auto p) { dyt::norm_backward<Op, true>(a, T(), p); }))

#define ROWNORM_SCALAR(op, Op)                                                                          \
    DYT_ENTRY(dyt_##op##_fwd_scalar, NormForward, 1024, 1,                                              \
              dyt::with_dtype(a.dtype, [&](auto type) { dyt::norm_forward<Op, false>(a, type); }))      \
    DYT_ENTRY(dyt_##op##_bwd_scalar, NormBackward, 512, 2,                                              \
              dyt::with_types(a, [&](auto type, auto p) { dyt::norm_backward<Op, false>(a, type, p); }))

DYT_FOR_DTYPES(ROWNORM_VECTOR, layer_norm, dyt::LayerNorm)
DYT_FOR_DTYPES(ROWNORM_VECTOR, rms_norm, dyt::RmsNorm)
ROWNORM_SCALAR(layer_norm, dyt::LayerNorm)
ROWNORM_SCALAR(rms_norm, dyt::RmsNorm)
