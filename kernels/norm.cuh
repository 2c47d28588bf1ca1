// LayerNorm and RMSNorm. Deviations are taken from an origin m near the mean, and what rounding took from m is given
// back: with d = x - m and c = sum(d)/cols the variance is sum(d^2)/cols - c^2, and x^ = (d - c) rstd.
#pragma once

#include "options.cuh"

namespace dyt {

struct LayerNorm {
    static constexpr bool CENTER = true;
};

struct RmsNorm {
    static constexpr bool CENTER = false;
};

// As Access, for the norms: a block can be multiplied by a power of two, so that a single element is kept as f32.
template <class T, bool VECTOR>
struct RowAccess;

template <class T>
struct RowAccess<T, true> : Access<T, true> {
    typedef Access<T, true> Base;
    typedef typename Base::Block Block;
    DYT_METHOD explicit RowAccess(T t) : Base(t) {}
    DYT_METHOD static void multiply(Block& block, float factor) {
        float v[Base::WIDTH];
        T::unpack(block, v);
#pragma unroll
        for (int i = 0; i < Base::WIDTH; ++i) v[i] *= factor;
        block = T::pack(v);
    }
};

template <class T>
struct RowAccess<T, false> {
    typedef typename T::Element Element;
    typedef float Block;
    static constexpr int WIDTH = 1;
    DYT_METHOD static Block zero() { return 0.0f; }
    DYT_METHOD explicit RowAccess(T t) : type(t) {}
    DYT_METHOD Block load(const Element* p) const { return type.widen(*p); }
    DYT_METHOD static void unpack(Block block, float (&v)[1]) { v[0] = block; }
    DYT_METHOD void store(Element* p, const float (&v)[1]) const { *p = type.narrow(v[0]); }
    DYT_METHOD Block rounded(const float (&v)[1]) const { return type.widen(type.narrow(v[0])); }
    DYT_METHOD void put(Element* p, Block block) const { *p = type.narrow(block); }
    DYT_METHOD static void multiply(Block& block, float factor) { block *= factor; }

private:
    T type;
};

// What turns sums into statistics: numbers of the parameter, which take no registers.
struct Moments {
    // 1/cols. What is averaged are deviations, which are all 0 where a row's values are equal: no factor spoils that.
    float inverse;
    // Bessel's correction, cols/(cols - 1), in the unbiased form; 0 in the other.
    float bessel;
    float eps;

    // RMSNorm has no unbiased form.
    template <class Op, class Args>
    DYT_METHOD static Moments of(const Args& a) {
        return Moments{a.inverse_cols, Op::CENTER ? a.bessel : 0.0f, a.eps};
    }

    DYT_METHOD bool unbiased() const { return bits_of(bessel) != 0; }

    DYT_METHOD float average(float sum) const { return sum * inverse; }

    // From the sums of d^2 and of d; rounding may not take it below 0, and NaN passes.
    DYT_METHOD float variance(float squares, float c) const {
        const float v = average(squares) - c * c;
        return v < 0.0f ? 0.0f : v;
    }

    DYT_METHOD float unbiased_std(float variance) const {
        return sqrt_rn(variance * bessel);
    }

    // Of a row that was multiplied by `scale`.
    DYT_METHOD float rstd(float variance, float scale) const {
        const float of_row = eps * scale;
        const float root =
            unbiased() ? unbiased_std(variance) + of_row : sqrt_rn(math::fma_rn(of_row, scale, variance));
        return div_rn(1.0f, root);
    }

    // The factor of x^ in dx/rstd from the sum of h x^; in the unbiased form 0 where std is, as its derivative is there.
    DYT_METHOD float projection(float dot, float variance, float rstd) const {
        if (!unbiased()) return average(dot);
        const float std = unbiased_std(variance);
        return std > 0.0f ? div_rn(average(dot) * bessel, std * rstd) : std;
    }
};

// 1/power for a power of two from 2^-126 to 2^126.
DYT_DEVICE float inverse_power(float power) { return float_of((254u << 23) - bits_of(power)); }

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
    // Goes over to the same row times a power of two.
    DYT_METHOD void multiply(float factor) {
        const float inverse = inverse_power(factor);
        affine.m *= factor;
        affine.rstd *= inverse;
        a *= inverse;
        b *= inverse;
    }
};

// The sums that a backward gathers in one pass over a row; RMSNorm needs the first two.
enum { SQUARES, PRODUCTS, DEVIATIONS, GRADIENTS };

// Rows of which f32 does not hold the squares are multiplied by a power of two, their scale, and tried again; and once more
// where their values turn out to be equal, or a product with them overflows still. Times UP, or DOWN, f32 holds the squares
// of the values, and the sum of 2^36 of them.
constexpr u32 TRIES = 2;
constexpr float UP = 0x1p96f;
constexpr float DOWN = 0x1p-100f;

DYT_DEVICE bool is_finite(float v) { return (bits_of(v) & 0x7f800000u) != 0x7f800000u; }

// Whether some thread of the warp says so.
DYT_DEVICE bool any(bool here) { return __any_sync(0xffffffffu, here) != 0; }

// Whether f32 does not hold the squares of a row, by their sum.
DYT_DEVICE bool strays(float squares, float least) { return !(squares >= least && squares < float_of(0x7f800000u)); }

// Or the sums of a backward.
DYT_DEVICE bool out_of_range(const float (&sums)[4], float least) {
    return strays(sums[SQUARES], least) || !is_finite(sums[PRODUCTS]);
}

// The scale of a row's next try from what its last one gave, `tries` before that. `products` are the sum of h d, 0 in a
// forward.
DYT_DEVICE float next_scale(u32 tries, float scale, float squares, float products, float least, float m) {
    if (tries == 0) {
        // Values from 1 on that lie so near to one another are equal, and need no scale.
        if (squares < least) return m < 1.0f && m > -1.0f ? UP : 1.0f;
        if (!is_finite(squares)) return DOWN;
    } else if (squares == 0.0f) {
        return 1.0f;
    }
    if (is_finite(products) || !is_finite(squares)) return scale;
    // Such that the sum of the squares is about 1.
    const float further = scale * float_of((190u - (bits_of(squares) >> 24)) << 23);
    return further < 0x1p-126f ? 0x1p-126f : further;
}

// The scale at which x^ and dx of a row are computed whose sums were taken at `scale`: its dx is that times what its slope
// gives. Neither deviations nor dx overflow there where they should not.
DYT_DEVICE float output_scale(float scale) { return scale == UP ? 0x1p48f : scale == DOWN ? 0x1p-2f : scale; }

// What a forward saved of a row, if it was kept.
struct Saved {
    float mean;
    float rstd;
    // Zero where there is no such row.
    DYT_METHOD static Saved load(const float* mean, const float* rstd, u64 row, bool live) {
        return Saved{mean != nullptr && live ? mean[row] : 0.0f, rstd != nullptr && live ? rstd[row] : 0.0f};
    }
};

// `saved` says whether the forward kept `rstd`. By values: a pointer to one would put it into local memory. The sums and m
// are of the row times `scale`.
template <class Op>
DYT_DEVICE Slope slope_of(const Moments& moments, float scale, float m, bool saved, float rstd, const float* sums) {
    const float c = Op::CENTER ? moments.average(sums[DEVIATIONS]) : 0.0f;
    const float variance = moments.variance(sums[SQUARES], c);
    if (!saved) rstd = moments.rstd(variance, scale);
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
    // The warps' sums of each value next to one another, and the values of all rows in one warp if they fit, as they do
    // where there are several rows.
    const u32 lanes = 1u << (32 - __clz(static_cast<int>(warps - 1)));
    if (K * lanes * blockDim.y <= 32) {
        const u32 warp = lane % lanes, at = lane / lanes;
        const float sum = lane_sum(warp < warps && at < K * blockDim.y ? half[at * warps + warp] : 0.0f, lanes);
        const u32 first = threadIdx.y * K;
#pragma unroll
        for (int k = 0; k < K; ++k) values[k] = __shfl_sync(0xffffffffu, sum, (first + k) * lanes);
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
    if constexpr (Op::CENTER) {
        row_sums<4>(sums, turn);
    } else {
        float two[2] = {sums[SQUARES], sums[PRODUCTS]};
        row_sums<2>(two, turn);
        sums[SQUARES] = two[0];
        sums[PRODUCTS] = two[1];
    }
}

template <int N>
DYT_DEVICE void multiply(float (&v)[N], float factor) {
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] *= factor;
}

// The storage type of the tensors, of a kernel that is compiled for T.
template <class T>
DYT_DEVICE T type_of(const NormBackward& a) {
    if constexpr (same<T, Half>) {
        return Half{a.dtype == DTYPE_BF16};
    } else {
        return T();
    }
}

// gamma of any type, with any offset.
template <class Args>
DYT_DEVICE Offset<F32> any_factors(F32 type, const Args& a) { return Offset<F32>{type, a.gamma_offset}; }

template <class T, class Args>
DYT_DEVICE Offset<Either<T>> any_factors(T type, const Args& a) {
    return Offset<Either<T>>{{type, a.param_f32 != 0}, a.gamma_offset};
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
