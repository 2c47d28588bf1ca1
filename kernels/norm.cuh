// LayerNorm and RMSNorm. Deviations are taken from an origin m near the mean, and what rounding took from m is given
// back: with d = x - m and c = sum(d)/cols the variance is sum(d^2)/cols - c^2, and x^ = (d - c) rstd.
#pragma once

#include "common.cuh"

namespace dyt {

struct LayerNorm {
    static constexpr bool CENTER = true;
};

struct RmsNorm {
    static constexpr bool CENTER = false;
};

// What turns sums into statistics.
struct Moments {
    float cols;
    // 1/cols. What is averaged are deviations, which are all 0 where a row's values are equal: no factor spoils that.
    float inverse;
    float eps;
    bool unbiased;

    template <class Args>
    DYT_METHOD static Moments of(const Args& a) {
        const float cols = static_cast<float>(a.cols);
        return Moments{cols, div_rn(1.0f, cols), a.eps, a.unbiased != 0};
    }

    DYT_METHOD float average(float sum) const { return sum * inverse; }

    // From the sums of d^2 and of d; rounding may not take it below 0, and NaN passes.
    DYT_METHOD float variance(float squares, float c) const {
        const float v = average(squares) - c * c;
        return v < 0.0f ? 0.0f : v;
    }

    DYT_METHOD float unbiased_std(float variance) const {
        return sqrt_rn(variance * div_rn(cols, cols - 1.0f));
    }

    DYT_METHOD float rstd(float variance) const {
        const float root = unbiased ? unbiased_std(variance) + eps : sqrt_rn(variance + eps);
        return div_rn(1.0f, root);
    }

    // The factor of x^ in dx/rstd from the sum of h x^; in the unbiased form 0 where std is, as its derivative is there.
    DYT_METHOD float projection(float dot, float variance, float rstd) const {
        if (!unbiased) return average(dot);
        const float std = unbiased_std(variance);
        return std > 0.0f ? div_rn(dot, (cols - 1.0f) * (std * rstd)) : std;
    }
};

// x^ = (x - m) rstd + shift.
struct Affine {
    float m;
    float rstd;
    float shift;
    template <class Op>
    DYT_METHOD float x_hat(float x) const {
        return Op::CENTER ? math::fma_rn(x - m, rstd, shift) : x * rstd;
    }
};

// x^, and dx = h rstd - (x^ b + a).
struct Slope {
    Affine affine;
    float a;
    float b;
    template <class Op>
    DYT_METHOD float dx(float h, float x_hat) const {
        const float along = Op::CENTER ? math::fma_rn(x_hat, b, a) : x_hat * b;
        return math::fma_rn(h, affine.rstd, -along);
    }
};

// The sums that a backward gathers in one pass over a row; RMSNorm needs the first two.
enum { SQUARES, PRODUCTS, DEVIATIONS, GRADIENTS };

// What a forward saved of a row, if it was kept.
struct Saved {
    float mean;
    float rstd;
    // Zero where there is no such row.
    DYT_METHOD static Saved load(const float* mean, const float* rstd, u64 row, bool live) {
        return Saved{mean != nullptr && live ? mean[row] : 0.0f, rstd != nullptr && live ? rstd[row] : 0.0f};
    }
};

// `saved` says whether the forward kept `rstd`. By values: a pointer to one would put it into local memory.
template <class Op>
DYT_DEVICE Slope slope_of(const Moments& moments, float m, bool saved, float rstd, const float* sums) {
    const float c = Op::CENTER ? moments.average(sums[DEVIATIONS]) : 0.0f;
    const float variance = moments.variance(sums[SQUARES], c);
    if (!saved) rstd = moments.rstd(variance);
    const float h = Op::CENTER ? sums[GRADIENTS] : 0.0f;
    const float dot = rstd * (Op::CENTER ? sums[PRODUCTS] - c * h : sums[PRODUCTS]);
    Slope slope;
    slope.affine.m = m;
    slope.affine.rstd = rstd;
    slope.affine.shift = -(c * rstd);
    slope.a = rstd * moments.average(h);
    slope.b = rstd * moments.projection(dot, variance, rstd);
    return slope;
}

// Adds up K values, a power of two, over the threads of a row: blockDim.x of them, which are a power of two within a
// warp, or whole warps. Calls take turns with two halves of shared memory, so that one barrier a call is enough.
template <int K>
DYT_DEVICE void row_sums(float (&values)[K], u32& turn) {
    if (blockDim.x <= 32) {
#pragma unroll
        for (int k = 0; k < K; ++k) values[k] = lane_sum(values[k], blockDim.x);
        return;
    }
    const u32 warps = blockDim.x / 32, lane = threadIdx.x % 32;
    float* half = reinterpret_cast<float*>(shared_memory()) + turn * (4 * warps * blockDim.y);
    float* scratch = half + threadIdx.y * warps * K;
    turn ^= 1;
    const float of_warp = Transposed<K>::sum(values);
    if (lane % (32 / K) == 0) scratch[lane / (32 / K) * warps + threadIdx.x / 32] = of_warp;
    __syncthreads();
    // The warps' sums of each value next to one another, and all values in one warp if they fit.
    const u32 lanes = 1u << (32 - __clz(static_cast<int>(warps - 1)));
    if (K * lanes <= 32) {
        const u32 warp = lane % lanes, k = lane / lanes;
        const float sum = lane_sum(warp < warps && k < K ? scratch[k * warps + warp] : 0.0f, lanes);
#pragma unroll
        for (int k = 0; k < K; ++k) values[k] = __shfl_sync(0xffffffffu, sum, k * lanes);
    } else {
#pragma unroll
        for (int k = 0; k < K; ++k) values[k] = lane_sum(lane < warps ? scratch[k * warps + lane] : 0.0f, 32);
    }
}

// The sums of one row that the backward needs.
template <class Op, int N>
DYT_DEVICE void add_terms(float (&sums)[4], const float (&x)[N], const float (&dy)[N], const float (&gamma)[N], float m) {
    float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const float d = Op::CENTER ? x[k] - m : x[k];
        const float h = dy[k] * gamma[k];
        part[SQUARES] = math::fma_rn(d, d, part[SQUARES]);
        part[PRODUCTS] = math::fma_rn(h, d, part[PRODUCTS]);
        part[DEVIATIONS] += d;
        part[GRADIENTS] += h;
    }
#pragma unroll
    for (int k = 0; k < (Op::CENTER ? 4 : 2); ++k) sums[k] += part[k];
}

template <class Op>
DYT_DEVICE void all_row_sums(float (&sums)[4], u32& turn) {
    if (Op::CENTER) {
        row_sums<4>(sums, turn);
    } else {
        float two[2] = {sums[SQUARES], sums[PRODUCTS]};
        row_sums<2>(two, turn);
        sums[SQUARES] = two[0];
        sums[PRODUCTS] = two[1];
    }
}

// Adds to sums that keep what rounding takes.
template <int K>
DYT_DEVICE void fold_into(Sum (&totals)[K], const float (&part)[K]) {
#pragma unroll
    for (int k = 0; k < K; ++k) totals[k].add(part[k]);
}

// Adds to a partial sum, or begins it.
DYT_DEVICE void add_to(float* sum, float term, bool begins) { *sum = begins ? term : *sum + term; }

}  // namespace dyt
