// The kernels of DyT and Derf with options, of any storage type.
#include "pointwise.cuh"

namespace dyt {

// gamma and beta of the group that begins at `first`.
template <class T, int N>
DYT_DEVICE void load_parameters(const PointwiseForward& a, T type, u64 first, u64 position, float (&gamma)[N], float (&beta)[N]) {
    with_parameters(type, a.param_f32, [&](auto p) {
        along(p, a.gamma, first, position, a.inner, 1.0f, gamma);
        // -0 + 0 would be +0.
        along(p, a.beta, first, position, a.inner, -0.0f, beta);
    });
    add_to_each(gamma, a.gamma_offset);
}

// Rows of this thread from `row` on that have its gamma.
DYT_DEVICE u64 rows_of_group(const PointwiseForwardOptions& a, u64 row) {
    const u64 end = (divided(row, a.group_rows, a.group_inverse) + 1) * a.group_rows;
    return (static_cast<u32>(least(end - row, 1u << 16)) + blockDim.y - 1) / blockDim.y;
}

// The values of up to FORWARD_AHEAD rows, with the residual: loads of all rows come before the first is needed.
template <class T, class A>
DYT_DEVICE void load_rows(const PointwiseForwardOptions& a, const A& access, u32 left, const Walk<PointwiseForwardOptions>& walk,
                          typename A::Block (&block)[FORWARD_AHEAD]) {
    typedef typename T::Element Element;
#pragma unroll
    for (u32 i = 0; i < FORWARD_AHEAD; ++i)
        if (i < left) block[i] = A::load(static_cast<const Element*>(a.x) + walk.after(i).x);
    if (a.added == nullptr) return;
#pragma unroll
    for (u32 i = 0; i < FORWARD_AHEAD; ++i) {
        if (i >= left) break;
        const u64 at = walk.after(i).x;
        add_residual(access, block[i], static_cast<const Element*>(a.added) + at, static_cast<Element*>(a.sum) + at);
    }
}

template <class Curve, bool VECTOR, class T>
DYT_DEVICE void pointwise_forward(const PointwiseForwardOptions& a, T type) {
    typedef Access<T, VECTOR> A;
    typedef typename T::Element Element;
    const A access(type);
    constexpr int N = A::WIDTH;
    const u32 chunk = blockIdx.x / a.slabs;
    const u32 slab = blockIdx.x - chunk * a.slabs;
    const u64 position = (static_cast<u64>(slab) * blockDim.x + threadIdx.x) * N;
    const u64 first = static_cast<u64>(chunk) * blockDim.y * a.steps + threadIdx.y;
    if (position >= a.len || first >= a.rows) return;
    const float alpha = *a.alpha;
    const float shift = Curve::SHIFT ? *a.shift : 0.0f;
    u32 left = static_cast<u32>(least(a.steps, quotient(a.rows - first + blockDim.y - 1, blockDim.y)));
    Walk<PointwiseForwardOptions> walk(a, first, position);
    float gamma[N], beta[N];
    // The first row has another group.
    fill(gamma, 0.0f);
    fill(beta, 0.0f);
    u64 group = ~0ull;
#pragma unroll 1
    while (left > 0) {
        const u64 of_row = parameters_of(a, walk.row);
        if (of_row != group) {
            group = of_row;
            load_parameters(a, type, group, position, gamma, beta);
        }
        // Rows that have this gamma.
        u32 count = left < FORWARD_AHEAD ? left : FORWARD_AHEAD;
        if (a.groups > 1) count = static_cast<u32>(least(count, rows_of_group(a, walk.row)));
        typename A::Block block[FORWARD_AHEAD];
        load_rows<T>(a, access, count, walk, block);
#pragma unroll
        for (u32 i = 0; i < FORWARD_AHEAD; ++i) {
            if (i >= count) break;
            float v[N];
            access.unpack(block[i], v);
#pragma unroll
            for (int k = 0; k < N; ++k)
                v[k] = math::fma_rn(gamma[k], Curve::template f<T>(argument<Curve>(alpha, v[k], shift)), beta[k]);
            access.store(static_cast<Element*>(a.y) + walk.here().y, v);
            walk.advance();
        }
        left -= count;
    }
}

template <class Curve>
DYT_DEVICE void forward_options(const PointwiseForwardOptions& a) {
    if (a.form == FORM_VECTOR) {
        with_vectors(a, [&](auto type) { pointwise_forward<Curve, true>(a, type); });
    } else {
        with_dtype(a.dtype, [&](auto type) { pointwise_forward<Curve, false>(a, type); });
    }
}

template <class Curve>
DYT_DEVICE void backward_options(const PointwiseBackwardOptions& a) {
    if (a.form == FORM_VECTOR) {
        with_vectors(a, [&](auto type) { pointwise_backward<Curve, true>(a, type); });
    } else {
        with_dtype(a.dtype, [&](auto type) { pointwise_backward<Curve, false>(a, type); });
    }
}

}  // namespace dyt

#define POINTWISE_OPTIONS(op, Curve)                                                                        \
    DYT_ENTRY(dyt_##op##_fwd_options, PointwiseForwardOptions, 256, 3, dyt::forward_options<Curve>(a))      \
    DYT_ENTRY(dyt_##op##_bwd_options, PointwiseBackwardOptions, 256, 3, dyt::backward_options<Curve>(a))

POINTWISE_OPTIONS(dyt, dyt::Dyt)
POINTWISE_OPTIONS(derf, dyt::Derf)
