// The kernels of LayerNorm and RMSNorm with options, of any storage type, for all other rows: longer ones, those that go by
// elements, and channels-first data.
#include "rownorm_first.cuh"
#include "rownorm_long.cuh"
#include "rownorm_options.cuh"

namespace dyt {

template <class Op>
DYT_DEVICE void forward_options(const NormForwardOptions& a) {
    if (a.form == FORM_FIRST) {
        with_dtype(a.dtype, [&](auto type) { norm_forward_first<Op>(a, type, any_factors(type, a)); });
    } else if (a.form == FORM_VECTOR) {
        with_vectors(a, [&](auto type) { norm_forward_long<Op, true>(a, type); });
    } else {
        with_dtype(a.dtype, [&](auto type) { norm_forward_long<Op, false>(a, type); });
    }
}

template <class Op>
DYT_DEVICE void backward_options(const NormBackwardOptions& a) {
    if (a.form == FORM_FIRST) {
        with_dtype(a.dtype, [&](auto type) { norm_backward_first<Op>(a, type, any_factors(type, a)); });
    } else if (a.form == FORM_VECTOR) {
        with_vectors(a, [&](auto type) { norm_backward_long<Op>(a, type); });
    } else if (a.form == FORM_SCALAR) {
        with_dtype(a.dtype, [&](auto type) { norm_backward<Op, false>(a, type, any_factors(type, a)); });
    } else {
        with_dtype(a.dtype, [&](auto type) { norm_backward_elements<Op>(a, type); });
    }
}

}  // namespace dyt

#define ROWNORM_LONG_OPTIONS(op, Op)                                                                 \
    DYT_ENTRY(dyt_##op##_fwd_long_options, NormForwardOptions, 1024, 1, dyt::forward_options<Op>(a)) \
    DYT_ENTRY(dyt_##op##_bwd_long_options, NormBackwardOptions, 512, 1, dyt::backward_options<Op>(a))

ROWNORM_LONG_OPTIONS(layer_norm, dyt::LayerNorm)
ROWNORM_LONG_OPTIONS(rms_norm, dyt::RmsNorm)
