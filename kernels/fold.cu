// The second stage of every backward: the partial sums of chunks become gradients, in an order that the problem alone
// decides.
#include "common.cuh"

namespace dyt {

// Adds up what the threads of a block have, in their order along y for each x; the threads with y = 0 return the sum.
DYT_DEVICE float across_lanes(const Sum& sum, float* exchange) {
    const u32 threads = blockDim.x * blockDim.y;
    const u32 thread = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();
    exchange[thread] = sum.high;
    exchange[threads + thread] = sum.low;
    __syncthreads();
    Sum total;
    total.clear();
    if (threadIdx.y == 0) {
#pragma unroll 1
        for (u32 y = 0; y < blockDim.y; ++y) {
            total.add(exchange[y * blockDim.x + threadIdx.x]);
            total.low += exchange[threads + y * blockDim.x + threadIdx.x];
        }
    }
    return total.value();
}

DYT_DEVICE void store(float* out, float value, u32 accumulate) { *out = accumulate ? *out + value : value; }

// The partial sums of one column in each chunk.
DYT_DEVICE void fold_columns(const Fold& a, const float* partials, float* out, float* exchange) {
    const u64 column = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x;
    Sum sum;
    sum.clear();
    if (column < a.cols) {
        // A column that slabs cut has a partial sum in each of them.
        const u64 first = a.slab == 0 ? column : column + quotient(column * a.inner, a.slab);
        const u64 last = a.slab == 0 ? column : column + quotient((column + 1) * a.inner - 1, a.slab);
#pragma unroll 1
        for (u64 chunk = threadIdx.y; chunk < a.chunks; chunk += blockDim.y)
#pragma unroll 1
            for (u64 piece = first; piece <= last; ++piece) sum.add(partials[chunk * a.pieces + piece]);
    }
    const float total = across_lanes(sum, exchange);
    if (column < a.cols && threadIdx.y == 0) store(out + column, total, a.accumulate);
}

// The partial sums of all blocks.
DYT_DEVICE void fold_scalars(const Fold& a, const float* partials, float* out, float* exchange) {
    const u32 threads = blockDim.x * blockDim.y;
    const u32 thread = threadIdx.y * blockDim.x + threadIdx.x;
    Sum sum;
    sum.clear();
#pragma unroll 1
    for (u64 i = thread; i < a.scalars; i += threads) sum.add(partials[i]);
    const float part = across_lanes(sum, exchange);
    // The threads with y = 0 are the first warp.
    if (threadIdx.y == 0) {
        const float total = lane_sum(part, 32);
        if (threadIdx.x == 0) store(out, total, a.accumulate);
    }
}

DYT_DEVICE void fold(const Fold& a) {
    float* exchange = reinterpret_cast<float*>(shared_memory());
    if (blockIdx.x < a.column_blocks) {
        if (a.dgamma != nullptr) fold_columns(a, a.dgamma_partials, a.dgamma, exchange);
        if (a.dbeta != nullptr) fold_columns(a, a.dbeta_partials, a.dbeta, exchange);
    } else {
        if (a.dalpha != nullptr) fold_scalars(a, a.dalpha_partials, a.dalpha, exchange);
        if (a.dshift != nullptr) fold_scalars(a, a.dshift_partials, a.dshift, exchange);
    }
}

}  // namespace dyt

DYT_ENTRY(dyt_fold, Fold, 1024, 1, dyt::fold(a))
