// LayerNorm and RMSNorm of channels-first data: a warp has 32 positions along inner, each of which is a row of its own,
// and the warps of a block take turns with its columns.
#include "norm.cuh"

namespace dyt {

struct Position {
    // The element of the first column.
    u64 begin;
    // The index of the row's statistics.
    u64 row;
    bool live;
    DYT_METHOD Position(u64 tile, u64 tiles, u64 inner, u64 row_stride) {
        const u64 n = quotient(tile, tiles);
        const u64 s = (tile - n * tiles) * 32 + threadIdx.x;
        live = s < inner;
        begin = n * row_stride + s;
        row = n * inner + s;
    }
};

// Additions to a sum before it is folded.
constexpr u32 FIRST_STEPS = 16;

// Adds up K values over the warps of a block.
template <int K>
DYT_DEVICE void warp_sums(float (&values)[K]) {
    float* exchange = reinterpret_cast<float*>(shared_memory());
    const u32 threads = blockDim.x * blockDim.y;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; ++k) exchange[k * threads + threadIdx.y * blockDim.x + threadIdx.x] = values[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; ++k) {
        values[k] = 0.0f;
#pragma unroll 1
        for (u32 y = 0; y < blockDim.y; ++y) values[k] += exchange[k * threads + y * blockDim.x + threadIdx.x];
    }
}

template <class T>
DYT_DEVICE float first_origin(const Moments& moments, T type, const typename T::Element* x, u64 cols, u64 inner) {
    const float first = type.widen(*x);
    Sum total[1];
    total[0].clear();
#pragma unroll 1
    for (u64 c = threadIdx.y; c < cols;) {
        float part[1] = {0.0f};
#pragma unroll 4
        for (u32 i = 0; i < FIRST_STEPS && c < cols; ++i, c += blockDim.y) part[0] += type.widen(x[c * inner]) - first;
        fold_into(total, part);
    }
    float sum[1] = {total[0].value()};
    warp_sums<1>(sum);
    return first + moments.average(sum[0]);
}

template <class Op, class T, class P>
DYT_DEVICE void norm_forward_first(const NormForward& a, T type, P of_parameters) {
    typedef typename T::Element Element;
    const Moments moments = Moments::of(a);
    const u64 tiles = (a.inner + 31) / 32;
#pragma unroll 1
    for (u64 tile = blockIdx.x; tile < a.rows * tiles; tile += gridDim.x) {
        const Position at(tile, tiles, a.inner, a.row_stride);
        // Threads without a position go along on one that is there, and write nothing.
        const Element* x = static_cast<const Element*>(a.x) + (at.live ? at.begin : at.begin - threadIdx.x);
        const float m = Op::CENTER ? first_origin(moments, type, x, a.cols, a.inner) : 0.0f;
        Sum totals[2];
        totals[0].clear();
        totals[1].clear();
#pragma unroll 1
        for (u64 c = threadIdx.y; c < a.cols;) {
            float part[2] = {0.0f, 0.0f};
#pragma unroll 4
            for (u32 i = 0; i < FIRST_STEPS && c < a.cols; ++i, c += blockDim.y) {
                const float value = type.widen(x[c * a.inner]);
                const float d = Op::CENTER ? value - m : value;
                part[0] = math::fma_rn(d, d, part[0]);
                part[1] += d;
            }
            fold_into(totals, part);
        }
        float sums[2] = {totals[0].value(), totals[1].value()};
        warp_sums<2>(sums);
        const float c = Op::CENTER ? moments.average(sums[1]) : 0.0f;
        const float rstd = moments.rstd(moments.variance(sums[0], c));
        const Affine affine = {m, rstd, -(c * rstd)};
        if (!at.live) continue;
        if (threadIdx.y == 0) {
            if (Op::CENTER && a.mean != nullptr) a.mean[at.row] = m + c;
            if (a.rstd != nullptr) a.rstd[at.row] = rstd;
        }
        Element* y = static_cast<Element*>(a.y) + at.begin;
#pragma unroll 1
        for (u64 column = threadIdx.y; column < a.cols; column += blockDim.y) {
            float gamma[1], beta[1];
            factors(of_parameters, a.gamma, column, gamma);
            terms(of_parameters, a.beta, column, beta);
            const float x_hat = affine.x_hat<Op>(type.widen(x[column * a.inner]));
            y[column * a.inner] = type.narrow(math::fma_rn(x_hat, gamma[0], beta[0]));
        }
    }
}

// What dx and x^ of a position are made of.
template <class Op, class T, class P>
DYT_DEVICE Slope first_slope(const Moments& moments, const NormBackward& a, T type, P of_parameters, const Position& at, u64 begin) {
    typedef typename T::Element Element;
    const Element* x = static_cast<const Element*>(a.x) + begin;
    const Element* dy = static_cast<const Element*>(a.dy) + begin;
    float m = 0.0f;
    if (Op::CENTER) {
        if (a.mean == nullptr) {
            m = first_origin(moments, type, x, a.cols, a.inner);
        } else if (at.live) {
            m = a.mean[at.row];
        }
    }
    Sum totals[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) totals[k].clear();
#pragma unroll 1
    for (u64 c = threadIdx.y; c < a.cols;) {
        float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 4
        for (u32 i = 0; i < FIRST_STEPS && c < a.cols; ++i, c += blockDim.y) {
            const float x_part[1] = {type.widen(x[c * a.inner])};
            const float dy_part[1] = {type.widen(dy[c * a.inner])};
            float gamma[1];
            factors(of_parameters, a.gamma, c, gamma);
            add_terms<Op, 1>(part, x_part, dy_part, gamma, m);
        }
        fold_into(totals, part);
    }
    float sums[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[k] = totals[k].value();
    warp_sums<4>(sums);
    const Saved saved = Saved::load(nullptr, a.rstd, at.row, at.live);
    return slope_of<Op>(moments, m, a.rstd != nullptr, saved.rstd, sums);
}

template <class Op, class T, class P>
DYT_DEVICE void norm_backward_first(const NormBackward& a, T type, P of_parameters) {
    typedef typename T::Element Element;
    const Moments moments = Moments::of(a);
    const u64 tiles = (a.inner + 31) / 32;
    const bool reads_x = a.dx != nullptr || a.dgamma != nullptr;
    float* dgamma = a.dgamma == nullptr ? nullptr : a.dgamma + static_cast<u64>(blockIdx.x) * a.cols;
    float* dbeta = a.dbeta == nullptr ? nullptr : a.dbeta + static_cast<u64>(blockIdx.x) * a.cols;
    const u64 first = static_cast<u64>(blockIdx.x) * a.steps;
#pragma unroll 1
    for (u64 tile = first; tile < least(a.rows * tiles, first + a.steps); ++tile) {
        const Position at(tile, tiles, a.inner, a.row_stride);
        const u64 begin = at.live ? at.begin : at.begin - threadIdx.x;
        Slope slope = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
        if (reads_x) slope = first_slope<Op>(moments, a, type, of_parameters, at, begin);
        const Element* x = static_cast<const Element*>(a.x) + begin;
        const Element* dy = static_cast<const Element*>(a.dy) + begin;
#pragma unroll 1
        for (u64 c = threadIdx.y; c < a.cols; c += blockDim.y) {
            const float of_dy = at.live ? type.widen(dy[c * a.inner]) : 0.0f;
            const float x_hat = reads_x && at.live ? slope.affine.x_hat<Op>(type.widen(x[c * a.inner])) : 0.0f;
            float gamma[1];
            factors(of_parameters, a.gamma, c, gamma);
            if (a.dx != nullptr && at.live)
                static_cast<Element*>(a.dx)[begin + c * a.inner] = type.narrow(slope.dx<Op>(of_dy * gamma[0], x_hat));
            if (dgamma != nullptr) {
                const float sum = lane_sum(of_dy * x_hat, 32);
                if (threadIdx.x == 0) add_to(dgamma + c, sum, tile == first);
            }
            if (dbeta != nullptr) {
                const float sum = lane_sum(of_dy, 32);
                if (threadIdx.x == 0) add_to(dbeta + c, sum, tile == first);
            }
        }
    }
}

}  // namespace dyt

#define ROWNORM_FIRST(op, Op)                                                                                  \
    DYT_ENTRY(dyt_##op##_fwd_first, NormForward, 256, 4,                                                       \
              dyt::with_types(a, [&](auto type, auto p) { dyt::norm_forward_first<Op>(a, type, p); }))         \
    DYT_ENTRY(dyt_##op##_bwd_first, NormBackward, 256, 2,                                                      \
              dyt::with_types(a, [&](auto type, auto p) { dyt::norm_backward_first<Op>(a, type, p); }))

ROWNORM_FIRST(layer_norm, dyt::LayerNorm)
ROWNORM_FIRST(rms_norm, dyt::RmsNorm)
