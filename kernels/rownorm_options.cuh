// The backward of rows that registers hold, with options. It is that of rownorm.cuh but for where rows begin and end, which gamma
// they have, and dsum. One function for both would do; but of calls to functions in the place of `begin` the compiler makes
// slower code of a plain call, by a sixth in bf16.
#pragma once

#include "rownorm.cuh"

namespace dyt {

template <class Op, bool VECTOR, class T, class P>
DYT_DEVICE void norm_backward(const NormBackwardOptions& a, T type, P p) {
    typedef RowAccess<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = VECTOR ? 16 / N : 4;
    const A access(type);
    const Moments moments = Moments::of<Op>(a);
    const Share<A, COUNT> share = Share<A, COUNT>::of(a.cols);
    const bool reads_x = a.dx != nullptr || a.dgamma != nullptr;
    float dgamma[COUNT][N], dbeta[COUNT][N];
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        fill(dgamma[i], 0.0f);
        fill(dbeta[i], 0.0f);
    }
    u32 turn = 0;
    const u32 scratch = blockDim.x <= 32 ? 0 : blockDim.x * blockDim.y / 32 * 8;
    const bool fetches_ahead = VECTOR && a.cached != 0;
    const Ahead<A, COUNT> ahead = {scratch / 4 + threadIdx.y * blockDim.x + threadIdx.x};
    // Rows of the block's threads, of which this one may have one less, or none.
    const Lines lines = lines_of(a, blockIdx.x, a.steps, blockDim.y);
    const u64 first_row = lines.begin, end = lines.end;
    const u32 turns = static_cast<u32>(least(a.steps, quotient(end - first_row + blockDim.y - 1, blockDim.y)));
    const u32 live_turns = first_row + (turns - 1) * blockDim.y + threadIdx.y < end ? turns : turns - 1;
    const u32 parameters = static_cast<u32>(parameters_of(a, first_row));
    // The number of the row.
    u64 at = first_row + threadIdx.y;
    const u64 step = blockDim.y;
    const Element* dy = static_cast<const Element*>(a.dy);
    const Element* x = static_cast<const Element*>(a.x);
    if (fetches_ahead)
        ahead.fetch(dy + y_begin(a, at), x + x_begin(a, at), share, live_turns > 0 ? share.there : 0, reads_x);
    // Bit i: the row of turn i is left for later, with those that share its warp. No memory has rows for more than 32 turns.
    u32 strayed = 0;
    // All threads of a block go on together, those without a row too.
#pragma unroll 1
    for (u32 i = 0; i < turns; ++i, at += step) {
        const bool live = i < live_turns;
        const u32 there = live ? share.there : 0;
        // What is written of them.
        u32 here = there;
        // Under way while the row itself is waited for.
        const Saved saved = Saved::load(Op::CENTER ? a.mean : nullptr, a.rstd, at, live);
        Kept<A, COUNT> of_x, of_dy;
        if (fetches_ahead) {
            ahead.take(of_dy, of_x, there);
            const u64 later = at + step;
            ahead.fetch(dy + y_begin(a, later), x + x_begin(a, later), share, i + 1 < live_turns ? share.there : 0, reads_x);
        } else {
            of_dy.load(access, dy + y_begin(a, at), share, there);
            of_x.load(access, x + x_begin(a, at), share, reads_x ? there : 0);
        }
        Slope slope = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
        float x_part[N], dy_part[N], gamma[N];
        if (reads_x) {
            float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f}, m = saved.mean;
            if (Op::CENTER && a.mean == nullptr)
                m = origin_of(moments, of_x, live ? type.widen(x[x_begin(a, at)]) : 0.0f, there, turn);
#pragma unroll
            for (int k = 0; k < COUNT; ++k) {
                if (!has(there, k)) continue;
                access.unpack(of_x.block[k], x_part);
                access.unpack(of_dy.block[k], dy_part);
                factors(p, a.gamma, parameters + share.at(k), gamma);
                add_terms<Op, N>(sums, x_part, dy_part, gamma, m);
            }
            all_row_sums<Op>(sums, turn);
            if (T::WIDE && any(out_of_range(sums, a.least_squares))) {
                strayed |= 1u << i;
                // Which of the two keeps more of what rows have in common in registers, by trial.
                if constexpr (T::NARROW) continue;
                here = 0;
            }
            slope = slope_of<Op>(moments, 1.0f, m, a.rstd != nullptr, saved.rstd, sums);
        }
        const u64 begin = x_begin(a, at);
#pragma unroll
        for (int k = 0; k < COUNT; ++k) {
            if (!has(here, k)) continue;
            access.unpack(of_x.block[k], x_part);
            access.unpack(of_dy.block[k], dy_part);
            factors(p, a.gamma, parameters + share.at(k), gamma);
            differentiate<Op>(x_part, dy_part, gamma, slope, dgamma[k], dbeta[k]);
            join(a, access, begin + share.at(k), dy_part);
            if (a.dx != nullptr) access.store(static_cast<Element*>(a.dx) + begin + share.at(k), dy_part);
        }
    }
    // Nothing is under way any more, and the place of the copies is free for the exchange.
    wait_copies<0>();
    float* exchange = reinterpret_cast<float*>(shared_memory()) + scratch;
    const u64 first = static_cast<u64>(blockIdx.x) * a.cols;
    store_columns<N, COUNT>(dgamma, a.dgamma == nullptr ? nullptr : a.dgamma + first, a.cols, exchange);
    store_columns<N, COUNT>(dbeta, a.dbeta == nullptr ? nullptr : a.dbeta + first, a.cols, exchange);
    if constexpr (T::WIDE) {
        if (__syncthreads_or(strayed != 0) != 0) stray_rows<Op, T, A, COUNT>(a, strayed);
    }
}

}  // namespace dyt
