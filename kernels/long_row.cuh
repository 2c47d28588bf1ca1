// A row that no registers hold, read again for each pass.
#pragma once

#include "norm.cuh"

namespace dyt {

// A long row, a block of a thread's after the other. The first `cached` of the row stay in shared memory after the
// first pass; a block is read by the thread that put it there, so that no barrier is needed.
template <class A>
struct LongRow {
    A access;
    const typename A::Element* row;
    Raw* cache;
    u64 cached;
    // Elements are not kept.
    static constexpr bool KEEPS = A::WIDTH > 1;
    DYT_METHOD typename A::Block first(u64 at) const {
        const typename A::Block block = access.load(row + at * A::WIDTH);
        if constexpr (KEEPS) {
            if (at < cached) cache[at] = block;
        }
        return block;
    }
    DYT_METHOD typename A::Block again(u64 at) const {
        if constexpr (KEEPS) {
            if (at < cached) return cache[at];
        }
        return access.load(row + at * A::WIDTH);
    }
    DYT_METHOD typename A::Block get(u64 at, bool seen) const { return KEEPS && seen ? again(at) : first(at); }
};

// Blocks of a long row that a thread adds up before the sum is folded.
template <class A>
struct Tile {
    static constexpr int COUNT = A::WIDTH == 8 ? 2 : 4;
};

// What x is multiplied by: nothing.
struct Unscaled {
    DYT_METHOD float of(float x) const { return x; }
    template <class A, int COUNT>
    DYT_METHOD void multiply_tile(typename A::Block (&)[COUNT]) const {}
    template <int N>
    DYT_METHOD void multiply(float (&)[N]) const {}
};

// Or a power of two, which all threads of a row share, from the second try on.
template <bool WIDE>
struct Scaled {
    u32 tries;
    float factor;
    DYT_METHOD float of(float x) const { return x * factor; }
    template <class A, int COUNT>
    DYT_METHOD void multiply_tile(typename A::Block (&block)[COUNT]) const {
        if constexpr (WIDE) {
            if (tries == 0) return;
#pragma unroll
            for (int i = 0; i < COUNT; ++i) A::multiply(block[i], factor);
        }
    }
    template <int N>
    DYT_METHOD void multiply(float (&v)[N]) const {
        dyt::multiply(v, factor);
    }
};

template <class T, class A, class Scale>
DYT_DEVICE float long_origin(const Moments& moments, T type, const LongRow<A>& x, u64 blocks, const Scale& scale, u32& turn) {
    constexpr int COUNT = Tile<A>::COUNT;
    const float first = scale.of(type.widen(*x.row));
    Sum total[1];
    total[0].clear();
#pragma unroll 1
    for (u64 tile = 0; tile < blocks; tile += static_cast<u64>(COUNT) * blockDim.x) {
        float part[1] = {0.0f};
        typename A::Block block[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const u64 at = tile + i * blockDim.x + threadIdx.x;
            block[i] = at < blocks ? x.first(at) : A::zero();
        }
        scale.template multiply_tile<A>(block);
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            if (tile + i * blockDim.x + threadIdx.x >= blocks) continue;
            float v[A::WIDTH];
            A::unpack(block[i], v);
#pragma unroll
            for (int k = 0; k < A::WIDTH; ++k) part[0] += v[k] - first;
        }
        fold_into(total, part);
    }
    float sum[1] = {total[0].value()};
    row_sums<1>(sum, turn);
    return first + moments.average(sum[0]);
}

}  // namespace dyt
