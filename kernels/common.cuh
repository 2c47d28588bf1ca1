// What the kernels share beside storage types: sums in a fixed order, and whole numbers.
#pragma once

#include "storage.cuh"

namespace dyt {

// A sum that keeps what rounding takes from it (Knuth's two-sum).
struct Sum {
    float high;
    float low;
    DYT_METHOD void clear() {
        high = 0.0f;
        low = 0.0f;
    }
    DYT_METHOD void add(float term) {
        using math::add_rn;
        const float sum = add_rn(high, term);
        const float part = add_rn(sum, -high);
        const float error = add_rn(add_rn(high, -add_rn(sum, -part)), add_rn(term, -part));
        high = sum;
        low = add_rn(low, error);
    }
    // Where the sum is not finite the high part alone tells.
    DYT_METHOD float value() const {
        const float difference = math::add_rn(high, -high);
        return difference == 0.0f ? math::add_rn(high, low) : high;
    }
};

// Sums `value` over `lanes` threads that follow one another, a power of two within a warp; every one gets it.
DYT_DEVICE float lane_sum(float value, u32 lanes) {
#pragma unroll 5
    for (u32 apart = lanes / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
    return value;
}

// As lane_sum, of sums that keep what rounding takes; the first of the threads gets it.
DYT_DEVICE Sum lane_sum(Sum sum, u32 lanes) {
#pragma unroll 5
    for (u32 apart = lanes / 2; apart > 0; apart /= 2) {
        const float high = __shfl_xor_sync(0xffffffffu, sum.high, apart);
        const float low = __shfl_xor_sync(0xffffffffu, sum.low, apart);
        sum.add(high);
        sum.low = math::add_rn(sum.low, low);
    }
    return sum;
}

// Sums each of K values over a warp of one row of threads, K a power of two: lane l gets that of value l / (32 / K). The
// first steps halve the values too, so that four take 6 shuffles instead of 20.
template <int K, u32 APART = 16>
struct Transposed {
    DYT_METHOD static float sum(const float (&values)[K]) {
        const bool upper = (threadIdx.x & APART) != 0;
        float half[K / 2];
#pragma unroll
        for (int k = 0; k < K / 2; ++k) {
            const float other = upper ? values[k] : values[K / 2 + k];
            half[k] = (upper ? values[K / 2 + k] : values[k]) + __shfl_xor_sync(0xffffffffu, other, APART);
        }
        return Transposed<K / 2, APART / 2>::sum(half);
    }
};

template <u32 APART>
struct Transposed<1, APART> {
    DYT_METHOD static float sum(const float (&values)[1]) { return lane_sum(values[0], 2 * APART); }
};

// N sums of f32 in memory that promises no more than their own alignment: by 16 bytes where `aligned`.
template <int N>
DYT_DEVICE void load_sums(const float* from, float (&sums)[N], bool aligned) {
    if (N % 4 == 0 && aligned) {
#pragma unroll
        for (int k = 0; k + 3 < N; k += 4) {
            float four[4];
            F32::unpack(load_raw(from + k), four);
#pragma unroll
            for (int i = 0; i < 4; ++i) sums[k + i] = four[i];
        }
    } else {
#pragma unroll
        for (int k = 0; k < N; ++k) sums[k] = from[k];
    }
}

template <int N>
DYT_DEVICE void store_sums(float* to, const float (&sums)[N], bool aligned) {
    if (N % 4 == 0 && aligned) {
#pragma unroll
        for (int k = 0; k + 3 < N; k += 4) {
            const float four[4] = {sums[k], sums[k + 1], sums[k + 2], sums[k + 3]};
            *reinterpret_cast<Raw*>(to + k) = F32::pack(four);
        }
    } else {
#pragma unroll
        for (int k = 0; k < N; ++k) to[k] = sums[k];
    }
}

DYT_DEVICE bool aligned_to_16(const void* p) { return reinterpret_cast<u64>(p) % 16 == 0; }

DYT_DEVICE u64 least(u64 a, u64 b) { return a < b ? a : b; }
DYT_DEVICE u64 most(u64 a, u64 b) { return a > b ? a : b; }

// a / b, by the shorter division of 32 bits where both fit.
DYT_DEVICE u64 quotient(u64 a, u64 b) {
    return ((a | b) >> 32) == 0 ? static_cast<u32>(a) / static_cast<u32>(b) : a / b;
}

}  // namespace dyt
