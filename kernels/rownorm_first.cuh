// LayerNorm and RMSNorm of channels-first data: a warp has 32 positions along inner, each of which is a row of its own,
// and the warps of a block take turns with its columns.
#pragma once

#include "norm.cuh"

namespace dyt {

struct Position {
    // The element of the first column.
    Begin begin;
    // The index of the row's statistics.
    u64 row;
    // Where its gamma begins.
    u64 parameters;
    bool live;
    template <class Args>
    DYT_METHOD Position(const Args& a, u64 tile, u64 tiles) {
        const u64 n = quotient(tile, tiles);
        const u64 s = (tile - n * tiles) * 32 + threadIdx.x;
        live = s < a.inner;
        const Begin of_row = begin_of(a, n);
        begin = Begin{of_row.x + s, of_row.y + s};
        row = n * a.inner + s;
        parameters = parameters_of(a, n);
    }
    // The same of a position that is there, for threads without one: they go along, and write nothing.
    DYT_METHOD Begin some() const {
        return live ? begin : Begin{begin.x - threadIdx.x, begin.y - threadIdx.x};
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
DYT_DEVICE float first_origin(const Moments& moments, T type, const typename T::Element* x, u64 cols, u64 inner, float scale) {
    const float first = type.widen(*x) * scale;
    Sum total[1];
    total[0].clear();
#pragma unroll 1
    for (u64 c = threadIdx.y; c < cols;) {
        float part[1] = {0.0f};
#pragma unroll 4
        for (u32 i = 0; i < FIRST_STEPS && c < cols; ++i, c += blockDim.y) part[0] += math::fma_rn(type.widen(x[c * inner]), scale, -first);
        fold_into(total, part);
    }
    float sum[1] = {total[0].value()};
    warp_sums<1>(sum);
    return first + moments.average(sum[0]);
}

// What the deviations of a row from its origin m are taken of: x times the row's scale.
template <class Op>
DYT_DEVICE float deviation(float x, float scale, float m) {
    return Op::CENTER ? math::fma_rn(x, scale, -m) : x * scale;
}

// The sums of d^2 and of d.
template <class Op, class T>
DYT_DEVICE void first_deviations(float (&sums)[2], T type, const typename T::Element* x, u64 cols, u64 inner, float scale, float m) {
    Sum totals[2];
    totals[0].clear();
    totals[1].clear();
#pragma unroll 1
    for (u64 c = threadIdx.y; c < cols;) {
        float part[2] = {0.0f, 0.0f};
#pragma unroll 4
        for (u32 i = 0; i < FIRST_STEPS && c < cols; ++i, c += blockDim.y) {
            const float d = deviation<Op>(type.widen(x[c * inner]), scale, m);
            part[0] = math::fma_rn(d, d, part[0]);
            part[1] += d;
        }
        fold_into(totals, part);
    }
    sums[0] = totals[0].value();
    sums[1] = totals[1].value();
    warp_sums<2>(sums);
}

// Stores the sum of a position's values and its residual.
template <class T, class Args>
DYT_DEVICE void first_add_residual(const Args& a, T type, const Position& at) {
    typedef typename T::Element Element;
    const Element *x = static_cast<const Element*>(a.x), *residual = static_cast<const Element*>(a.added);
    Element* sum = static_cast<Element*>(a.sum);
#pragma unroll 4
    for (u64 c = threadIdx.y; c < a.cols; c += blockDim.y) {
        const u64 place = at.begin.x + c * a.inner;
        if (at.live) sum[place] = type.narrow(type.widen(x[place]) + type.widen(residual[place]));
    }
    __syncthreads();
}

template <class Op, class T, class P, class Args>
DYT_DEVICE void norm_forward_first(const Args& a, T type, P of_parameters) {
    typedef typename T::Element Element;
    const u64 tiles = (a.inner + 31) / 32;
#pragma unroll 1
    for (u64 tile = blockIdx.x; tile < a.rows * tiles; tile += gridDim.x) {
        const Position at(a, tile, tiles);
        if constexpr (HAS_OPTIONS<Args>) {
            if (a.added != nullptr) first_add_residual(a, type, at);
        }
        const Element* x = static_cast<const Element*>(read_by_op(a)) + at.some().x;
        const Moments moments = Moments::of<Op>(a);
        float sums[2], m = 0.0f, scale = 1.0f;
#pragma unroll 1
        for (u32 tries = 0;; ++tries) {
            if (Op::CENTER) m = first_origin(moments, type, x, a.cols, a.inner, scale);
            first_deviations<Op>(sums, type, x, a.cols, a.inner, scale, m);
            // All warps of a block have the same rows.
            if (!any(strays(sums[0], a.least_squares)) || tries == TRIES) break;
            scale = next_scale(tries, scale, sums[0], 0.0f, a.least_squares, m);
        }
        const float c = Op::CENTER ? moments.average(sums[1]) : 0.0f;
        const float rstd = moments.rstd(moments.variance(sums[0], c), scale);
        const Affine affine = {0.0f, rstd, -(c * rstd)};
        if (!at.live) continue;
        if (threadIdx.y == 0) {
            if (Op::CENTER && a.mean != nullptr) a.mean[at.row] = (m + c) * inverse_power(scale);
            if (a.rstd != nullptr) a.rstd[at.row] = rstd * scale;
        }
        Element* y = static_cast<Element*>(a.y) + at.begin.y;
#pragma unroll 1
        for (u64 column = threadIdx.y; column < a.cols; column += blockDim.y) {
            float gamma[1], beta[1];
            factors(of_parameters, a.gamma, at.parameters + column, gamma);
            terms(of_parameters, a.beta, at.parameters + column, beta);
            const float x_hat = affine.x_hat<Op>(deviation<Op>(type.widen(x[column * a.inner]), scale, m));
            y[column * a.inner] = type.narrow(math::fma_rn(x_hat, gamma[0], beta[0]));
        }
    }
}

// The sums of a backward.
template <class Op, class T, class P, class Args>
DYT_DEVICE void first_terms(float (&sums)[4], const Args& a, T type, P of_parameters, const Position& at, float scale, float m) {
    typedef typename T::Element Element;
    const Begin begin = at.some();
    const Element* x = static_cast<const Element*>(a.x) + begin.x;
    const Element* dy = static_cast<const Element*>(a.dy) + begin.y;
    Sum totals[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) totals[k].clear();
#pragma unroll 1
    for (u64 c = threadIdx.y; c < a.cols;) {
        float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 4
        for (u32 i = 0; i < FIRST_STEPS && c < a.cols; ++i, c += blockDim.y) {
            const float d[1] = {deviation<Op>(type.widen(x[c * a.inner]), scale, m)};
            const float dy_part[1] = {type.widen(dy[c * a.inner])};
            float gamma[1];
            factors(of_parameters, a.gamma, at.parameters + c, gamma);
            add_terms<Op, 1>(part, d, dy_part, gamma, 0.0f);
        }
        fold_into(totals, part);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[k] = totals[k].value();
    warp_sums<4>(sums);
}

// What dx and x^ of a position are made of: those of x times `scale`, and so is dx.
struct ScaledSlope {
    float scale;
    Slope slope;
};

template <class Op, class T, class P, class Args>
DYT_DEVICE ScaledSlope first_slope(const Args& a, T type, P of_parameters, const Position& at) {
    const typename T::Element* x = static_cast<const typename T::Element*>(a.x) + at.some().x;
    const bool searches = Op::CENTER && a.mean == nullptr;
    const Saved saved = Saved::load(Op::CENTER ? a.mean : nullptr, a.rstd, at.row, at.live);
    const Moments moments = Moments::of<Op>(a);
    float sums[4], m = saved.mean, scale = 1.0f;
    u32 tries = 0;
#pragma unroll 1
    for (;; ++tries) {
        if (searches) m = first_origin(moments, type, x, a.cols, a.inner, scale);
        first_terms<Op>(sums, a, type, of_parameters, at, scale, m);
        if (!any(strays(sums[SQUARES], a.least_squares) || !is_finite(sums[PRODUCTS])) || tries == TRIES) break;
        scale = next_scale(tries, scale, sums[SQUARES], sums[PRODUCTS], a.least_squares, m);
        m = saved.mean * scale;
    }
    // The saved rstd of a row that has a scale may be beyond f32.
    const bool keeps_rstd = a.rstd != nullptr && (tries == 0 || scale == 1.0f);
    Slope slope = slope_of<Op>(moments, scale, m, keeps_rstd, saved.rstd, sums);
    const float of_output = output_scale(scale);
    slope.multiply(of_output * inverse_power(scale));
    return ScaledSlope{of_output, slope};
}

template <class Op, class T, class P, class Args>
DYT_DEVICE void norm_backward_first(const Args& a, T type, P of_parameters) {
    typedef typename T::Element Element;
    const u64 tiles = (a.inner + 31) / 32;
    const bool reads_x = a.dx != nullptr || a.dgamma != nullptr;
    float* dgamma = a.dgamma == nullptr ? nullptr : a.dgamma + static_cast<u64>(blockIdx.x) * a.cols;
    float* dbeta = a.dbeta == nullptr ? nullptr : a.dbeta + static_cast<u64>(blockIdx.x) * a.cols;
    const Lines lines = lines_of(a, blockIdx.x, a.steps, 1, tiles);
#pragma unroll 1
    for (u64 tile = lines.begin; tile < least(lines.end, lines.begin + a.steps); ++tile) {
        const Position at(a, tile, tiles);
        const Begin begin = at.some();
        ScaledSlope scaled = {1.0f, {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f}};
        if (reads_x) scaled = first_slope<Op>(a, type, of_parameters, at);
        const Slope& slope = scaled.slope;
        const Affine centred = {0.0f, slope.affine.rstd, slope.affine.shift};
        const Element* x = static_cast<const Element*>(a.x) + begin.x;
        const Element* dy = static_cast<const Element*>(a.dy) + begin.y;
#pragma unroll 1
        for (u64 c = threadIdx.y; c < a.cols; c += blockDim.y) {
            const float of_dy = at.live ? type.widen(dy[c * a.inner]) : 0.0f;
            const bool read = reads_x && at.live;
            const float d = read ? deviation<Op>(type.widen(x[c * a.inner]), scaled.scale, slope.affine.m) : 0.0f;
            const float x_hat = read ? centred.x_hat<Op>(d) : 0.0f;
            float gamma[1];
            factors(of_parameters, a.gamma, at.parameters + c, gamma);
            if (a.dx != nullptr && at.live) {
                const u64 place = begin.x + c * a.inner;
                float dx[1] = {slope.dx<Op>(of_dy * gamma[0], x_hat) * scaled.scale};
                join(a, RowAccess<T, false>(type), place, dx);
                static_cast<Element*>(a.dx)[place] = type.narrow(dx[0]);
            }
            if (dgamma != nullptr) {
                const float sum = lane_sum(of_dy * x_hat, 32);
                if (threadIdx.x == 0) add_to(dgamma + c, sum, tile == lines.begin);
            }
            if (dbeta != nullptr) {
                const float sum = lane_sum(of_dy, 32);
                if (threadIdx.x == 0) add_to(dbeta + c, sum, tile == lines.begin);
            }
        }
    }
}

}  // namespace dyt
