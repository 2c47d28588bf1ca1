// The kernels of DyT and Derf.
#include "pointwise.cuh"

#define POINTWISE_VECTOR(dtype, T, op, Curve)                                                                        \
    DYT_ENTRY(dyt_##op##_fwd_##dtype##_vector, PointwiseForward, 256, 4, dyt::pointwise_forward<Curve, true>(a, T())) \
    DYT_ENTRY(dyt_##op##_bwd_##dtype##_vector, PointwiseBackward, 256, 3, dyt::pointwise_backward<Curve, true>(a, T()))

#define POINTWISE_SCALAR(op, Curve)                                                                    \
    DYT_ENTRY(dyt_##op##_fwd_scalar, PointwiseForward, 256, 4,                                         \
              dyt::with_dtype(a.dtype, [&](auto type) { dyt::pointwise_forward<Curve, false>(a, type); })) \
    DYT_ENTRY(dyt_##op##_bwd_scalar, PointwiseBackward, 256, 4,                                        \
              dyt::with_dtype(a.dtype, [&](auto type) { dyt::pointwise_backward<Curve, false>(a, type); }))

DYT_FOR_DTYPES(POINTWISE_VECTOR, dyt, dyt::Dyt)
DYT_FOR_DTYPES(POINTWISE_VECTOR, derf, dyt::Derf)
POINTWISE_SCALAR(dyt, dyt::Dyt)
POINTWISE_SCALAR(derf, dyt::Derf)
