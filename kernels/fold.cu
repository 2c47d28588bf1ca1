// The second stage of every backward: the partial sums of chunks become gradients, in an order that the problem alone
// decides.
#include "common.cuh"

namespace dyt {

// Loads of partial sums that a thread has under way.
constexpr u32 FOLD_AHEAD = 16;

DYT_DEVICE void store(float* out, float value, u32 accumulate) { *out = accumulate ? *out + value : value; }

// Adds `count` values from `from` on, `step` apart.
DYT_DEVICE void add_every(Sum& sum, const float* from, u64 step, u64 count) {
#pragma unroll 1
    for (; count > 0; count -= least(count, FOLD_AHEAD)) {
        float part[FOLD_AHEAD];
#pragma unroll
        for (u32 i = 0; i < FOLD_AHEAD; ++i) part[i] = i < count ? from[i * step] : 0.0f;
#pragma unroll
        for (u32 i = 0; i < FOLD_AHEAD; ++i) sum.add(part[i]);
        from += FOLD_AHEAD * step;
    }
}

// Adds the partial sums of one column in the chunks of this thread: each blockDim.y-th.
DYT_DEVICE void add_column(Sum& sum, const Fold& a, const float* partials, u64 column) {
    const u64 count = threadIdx.y < a.chunks ? quotient(a.chunks - threadIdx.y + blockDim.y - 1, blockDim.y) : 0;
    const float* of_thread = partials + threadIdx.y * a.pieces;
    const u64 step = blockDim.y * a.pieces;
    // A column that slabs cut has a partial sum in each of them.
    const u64 first = a.slab == 0 ? column : column + quotient(column * a.inner, a.slab);
    const u64 last = a.slab == 0 ? column : column + quotient((column + 1) * a.inner - 1, a.slab);
#pragma unroll 1
    for (u64 piece = first; piece <= last; ++piece) add_every(sum, of_thread + piece, step, count);
}

// 32 columns of a group: a thread adds up one in some of the chunks, then, from the exchange, blockDim.y threads that follow one
// another have the parts of one column.
template <bool GROUPS>
DYT_DEVICE void fold_columns(const Fold& a, const float* partials, float* out, u32 block) {
    if (GROUPS) {
        const u32 of_group = static_cast<u32>((a.cols + 31) / 32), group = block / of_group;
        block -= group * of_group;
        partials += group * a.chunks * a.pieces;
        out += group * a.cols;
    }
    const u64 begin = static_cast<u64>(block) * 32;
    Sum sum;
    sum.clear();
    if (begin + threadIdx.x < a.cols) add_column(sum, a, partials, begin + threadIdx.x);
    // A row of 33: the threads of a warp read a column of it.
    float* highs = reinterpret_cast<float*>(shared_memory());
    float* lows = highs + 33 * blockDim.y;
    highs[threadIdx.y * 33 + threadIdx.x] = sum.high;
    lows[threadIdx.y * 33 + threadIdx.x] = sum.low;
    __syncthreads();
    const u32 thread = threadIdx.y * 32 + threadIdx.x;
    const u32 column = thread / blockDim.y, lane = thread % blockDim.y;
    sum.high = highs[lane * 33 + column];
    sum.low = lows[lane * 33 + column];
    sum = lane_sum(sum, blockDim.y);
    if (lane == 0 && begin + column < a.cols) store(out + begin + column, sum.value(), a.accumulate);
}

// The partial sums of all blocks.
DYT_DEVICE void fold_scalars(const Fold& a, const float* partials, float* out) {
    const u32 threads = 32 * blockDim.y, thread = threadIdx.y * 32 + threadIdx.x;
    Sum sum;
    sum.clear();
    if (thread < a.scalars)
        add_every(sum, partials + thread, threads, quotient(a.scalars - thread + threads - 1, threads));
    sum = lane_sum(sum, 32);
    float* exchange = reinterpret_cast<float*>(shared_memory());
    if (threadIdx.x == 0) {
        exchange[threadIdx.y] = sum.high;
        exchange[32 + threadIdx.y] = sum.low;
    }
    __syncthreads();
    if (threadIdx.y > 0) return;
    const bool live = threadIdx.x < blockDim.y;
    sum.high = live ? exchange[threadIdx.x] : 0.0f;
    sum.low = live ? exchange[32 + threadIdx.x] : 0.0f;
    sum = lane_sum(sum, 32);
    if (threadIdx.x == 0) store(out, sum.value(), a.accumulate);
}

// Blocks for dgamma, dbeta, dalpha and dshift, of those that there are, in this order.
template <bool GROUPS>
DYT_DEVICE void fold_as(const Fold& a) {
    const u32 kinds = (a.dgamma != nullptr) + (a.dbeta != nullptr);
    const u32 columns = kinds * a.column_blocks;
    if (blockIdx.x < columns) {
        if (a.dgamma != nullptr && blockIdx.x < a.column_blocks) {
            fold_columns<GROUPS>(a, a.dgamma_partials, a.dgamma, blockIdx.x);
        } else {
            fold_columns<GROUPS>(a, a.dbeta_partials, a.dbeta, blockIdx.x - (kinds - 1) * a.column_blocks);
        }
    } else if (a.dalpha != nullptr && blockIdx.x == columns) {
        fold_scalars(a, a.dalpha_partials, a.dalpha);
    } else {
        fold_scalars(a, a.dshift_partials, a.dshift);
    }
}

// Several groups apart, which cost a single one nothing.
DYT_DEVICE void fold(const Fold& a) {
    if (a.groups > 1) {
        fold_as<true>(a);
    } else {
        fold_as<false>(a);
    }
}

}  // namespace dyt

DYT_ENTRY(dyt_fold, Fold, 256, 4, dyt::fold(a))
