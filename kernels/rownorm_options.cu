// The kernels of LayerNorm and RMSNorm with options, of any storage type, for rows that registers hold by 16 bytes.
#include "rownorm_options.cuh"

namespace dyt {

template <class Op>
DYT_DEVICE void forward_options(const NormForwardOptions& a) {
    with_vectors(a, [&](auto type) { norm_forward<Op, true>(a, type); });
}

// Of f32 and bf16. f16 has a kernel of its own: three types in one take more registers than a block of 512 threads has.
template <class Op>
DYT_DEVICE void backward_options(const NormBackwardOptions& a) {
    if (a.dtype == DTYPE_F32) {
        DYT_MARK("f32");
        norm_backward<Op, true>(a, F32(), any_factors(F32(), a));
    } else {
        DYT_MARK("bf16");
        norm_backward<Op, true>(a, Bf16(), any_factors(Bf16(), a));
    }
}

template <class Op>
DYT_DEVICE void backward_f16_options(const NormBackwardOptions& a) {
    norm_backward<Op, true>(a, F16(), any_factors(F16(), a));
}

}  // namespace dyt

#define ROWNORM_OPTIONS(op, Op)                                                                 \
    DYT_ENTRY(dyt_##op##_fwd_options, NormForwardOptions, 1024, 1, dyt::forward_options<Op>(a)) \
    DYT_ENTRY(dyt_##op##_bwd_options, NormBackwardOptions, 512, 1, dyt::backward_options<Op>(a)) \
    DYT_ENTRY(dyt_##op##_bwd_f16_options, NormBackwardOptions, 512, 1, dyt::backward_f16_options<Op>(a))

ROWNORM_OPTIONS(layer_norm, dyt::LayerNorm)
ROWNORM_OPTIONS(rms_norm, dyt::RmsNorm)
