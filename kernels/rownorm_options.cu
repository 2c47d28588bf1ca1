// The kernels of LayerNorm and RMSNorm with options, of any storage type, for rows that registers hold by 16 bytes.
#include "rownorm_options.cuh"

namespace dyt {

template <class Op>
DYT_DEVICE void forward_options(const NormForwardOptions& a) {
    with_vectors(a, [&](auto type) { norm_forward<Op, true>(a, type); });
}

template <class Op>
DYT_DEVICE void backward_options(const NormBackwardOptions& a) {
    with_vectors(a, [&](auto type) { norm_backward<Op, true>(a, type, any_factors(type, a)); });
}

}  // namespace dyt

#define ROWNORM_OPTIONS(op, Op)                                                                 \
    DYT_ENTRY(dyt_##op##_fwd_options, NormForwardOptions, 1024, 1, dyt::forward_options<Op>(a)) \
    DYT_ENTRY(dyt_##op##_bwd_options, NormBackwardOptions, 512, 1, dyt::backward_options<Op>(a))

ROWNORM_OPTIONS(layer_norm, dyt::LayerNorm)
ROWNORM_OPTIONS(rms_norm, dyt::RmsNorm)
