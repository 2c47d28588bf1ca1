// LayerNorm and RMSNorm of rows that registers hold.
#pragma once

#include "row.cuh"

namespace dyt {

// The next row of a thread, on its way into shared memory while the one before it is computed. A thread reads what it
// fetched itself, so that no barrier is needed.
template <class A, int COUNT>
struct Ahead {
    // Counted in 16 bytes of shared memory, which takes fewer registers than a pointer.
    u32 place;
    DYT_METHOD void fetch(const typename A::Element* dy, const typename A::Element* x,
                          const Share<A, COUNT>& share, u32 there, bool reads_x) const {
        const u32 threads = blockDim.x * blockDim.y;
        Raw* to = reinterpret_cast<Raw*>(shared_memory()) + place;
        // Not all at once: the addresses would take registers that the sums need.
#pragma unroll 2
        for (int i = 0; i < COUNT; ++i) {
            if (!has(there, i)) continue;
            copy_async(to + i * threads, dy + share.at(i));
            if (reads_x) copy_async(to + (COUNT + i) * threads, x + share.at(i));
        }
        commit_copies();
    }
    DYT_METHOD void take(Kept<A, COUNT>& of_dy, Kept<A, COUNT>& of_x, u32 there) const {
        const u32 threads = blockDim.x * blockDim.y;
        const Raw* from = reinterpret_cast<const Raw*>(shared_memory()) + place;
        wait_copies<0>();
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            of_dy.block[i] = A::zero();
            of_x.block[i] = A::zero();
            if (!has(there, i)) continue;
            take(of_dy.block[i], from[i * threads]);
            take(of_x.block[i], from[(COUNT + i) * threads]);
        }
    }

private:
    DYT_METHOD static void take(Raw& to, const Raw& from) { to = from; }
    // Elements are never fetched ahead.
    template <class Element>
    DYT_METHOD static void take(Element&, const Raw&) {}
};

// The origin: the first value of the row, and the mean of what the others differ from it, so that the mean of equal
// values is exact.
template <class A, int COUNT>
DYT_DEVICE float origin_of(const Moments& moments, const Kept<A, COUNT>& kept, float first, u32 there, u32& turn) {
    float sum[1] = {0.0f};
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        if (!has(there, i)) continue;
        float x[A::WIDTH];
        A::unpack(kept.block[i], x);
        sum[0] += deviation_sum(x, first);
    }
    row_sums<1>(sum, turn);
    return first + moments.average(sum[0]);
}

// The deviations of a row from an origin near its mean, and what of them a forward needs.
template <int COUNT, int N>
struct Deviations {
    float d[COUNT][N];
    float m;
    // The mean of the deviations.
    float c;
    float squares;
};

template <class Op, class A, int COUNT, int N>
DYT_DEVICE void deviate(Deviations<COUNT, N>& of, const Moments& moments, const Kept<A, COUNT>& kept, float first,
                        u32 there, u32& turn) {
    // After an even number of sums it is 0 in any case, which the compiler does not see.
    if (Op::CENTER) turn = 0;
    of.m = Op::CENTER ? origin_of(moments, kept, first, there, turn) : 0.0f;
    float sums[2] = {0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        A::unpack(kept.block[i], of.d[i]);
        if (!has(there, i)) continue;
        float square = 0.0f, sum = 0.0f;
#pragma unroll
        for (int k = 0; k < N; ++k) {
            if (Op::CENTER) of.d[i][k] -= of.m;
            square = math::fma_rn(of.d[i][k], of.d[i][k], square);
            sum += of.d[i][k];
        }
        sums[0] += square;
        sums[1] += sum;
    }
    if (Op::CENTER) {
        row_sums<2>(sums, turn);
    } else {
        float squares[1] = {sums[0]};
        row_sums<1>(squares, turn);
        sums[0] = squares[0];
    }
    of.squares = sums[0];
    of.c = Op::CENTER ? moments.average(sums[1]) : 0.0f;
}

// Adds the residual to a row, whose first value is `first`, and stores the sum.
template <class Op, class T, class A, int COUNT, class Args>
DYT_DEVICE void add_residual_row(const Args& a, const A& access, T type, const Share<A, COUNT>& share, u64 begin, u32 there,
                                 bool live, Kept<A, COUNT>& kept, float& first) {
    typedef typename T::Element Element;
    const Element* residual = static_cast<const Element*>(a.added) + begin;
    Element* sum = static_cast<Element*>(a.sum) + begin;
    if (Op::CENTER) {
        if (live) first = type.widen(type.narrow(first + type.widen(*residual)));
        // In place the sum overwrites the first value, which all threads of the row read.
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
        if (has(there, i)) add_residual(access, kept.block[i], residual + share.at(i), sum + share.at(i));
}

template <class Op, bool VECTOR, class T, class Args>
DYT_DEVICE void norm_forward(const Args& a, T type) {
    typedef RowAccess<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = 4;
    const A access(type);
    const Moments moments = Moments::of<Op>(a);
    const Share<A, COUNT> share = Share<A, COUNT>::of(a.cols);
    u32 turn = 0;
#pragma unroll 1
    for (u64 base = static_cast<u64>(blockIdx.x) * blockDim.y; base < a.rows;
         base += static_cast<u64>(gridDim.x) * blockDim.y) {
        const u64 row = base + threadIdx.y;
        // A row that is not there has no blocks, but takes part in the sums.
        const bool live = row < a.rows;
        const u32 there = live ? share.there : 0;
        const Begin begin = begin_of(a, row);
        const Element* x = static_cast<const Element*>(a.x) + begin.x;
        Kept<A, COUNT> kept;
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            kept.block[i] = has(there, i) ? access.load(share.template in<T>(x, i)) : A::zero();
        float first = Op::CENTER && live ? type.widen(*x) : 0.0f;
        if constexpr (HAS_OPTIONS<Args>) {
            if (a.added != nullptr)
                add_residual_row<Op>(a, access, type, share, begin.x, there, live, kept, first);
        }
        Deviations<COUNT, N> of_row;
        float scale = 1.0f;
        const auto deviate_row = [&]() { deviate<Op>(of_row, moments, kept, first, there, turn); };
        if constexpr (T::WIDE) {
#pragma unroll 1
            for (u32 tries = 0;; ++tries) {
                deviate_row();
                // Where rows share a warp, all of them are tried again; those that need not stay as they are.
                if (!any(strays(of_row.squares, a.least_squares)) || tries == TRIES) break;
                scale = next_scale(tries, scale, of_row.squares, 0.0f, a.least_squares, of_row.m);
                // From memory, which no thread has written to yet: registers hold deviations instead of x.
                const Element* again = static_cast<const Element*>(read_by_op(a)) + begin.x + opaque(0u);
                // Another thread has stored the first value of a sum.
                if constexpr (HAS_OPTIONS<Args>) __syncwarp();
                kept.load(access, again, share, there);
                kept.multiply(scale);
                first = Op::CENTER && live ? type.widen(*again) * scale : 0.0f;
            }
        } else {
            deviate_row();
        }
        const float c = of_row.c, rstd = moments.rstd(moments.variance(of_row.squares, c), scale);
        const Affine affine = {0.0f, rstd, -(c * rstd)};
        if (live && threadIdx.x == 0) {
            if (Op::CENTER && a.mean != nullptr) a.mean[row] = (of_row.m + c) * inverse_power(scale);
            if (a.rstd != nullptr) a.rstd[row] = rstd * scale;
        }
        // Before the branches on the types of gamma and beta, so that rstd and the shift take no registers there; but where
        // the compiler finds registers for them, and not for this. By trial, as below.
        constexpr bool EARLY = Op::CENTER || !T::NARROW || !T::WIDE;
        if constexpr (EARLY) {
#pragma unroll
            for (int i = 0; i < COUNT; ++i)
#pragma unroll
                for (int k = 0; k < N; ++k) of_row.d[i][k] = affine.template x_hat<Op>(of_row.d[i][k]);
        }
        // With options computed where they are needed, so that they take no registers above.
        const u64 this_row = HAS_OPTIONS<Args> ? opaque(row) : row;
        Element* y = static_cast<Element*>(a.y) + (HAS_OPTIONS<Args> ? begin_of(a, this_row).y : begin.y);
        const u32 parameters = static_cast<u32>(parameters_of(a, this_row));
        const auto write = [&](auto p) {
#pragma unroll
            for (int i = 0; i < COUNT; ++i) {
                if (!has(there, i)) continue;
                float gamma[N], beta[N];
                const u32 column = T::NARROW ? opaque(share.at(i)) : share.at(i);
                factors(p, a.gamma, parameters + column, gamma);
                terms(p, a.beta, parameters + column, beta);
#pragma unroll
                for (int k = 0; k < N; ++k) {
                    const float x_hat = EARLY ? of_row.d[i][k] : affine.template x_hat<Op>(of_row.d[i][k]);
                    of_row.d[i][k] = math::fma_rn(x_hat, gamma[k], beta[k]);
                }
                access.store(share.template in<T>(y, i), of_row.d[i]);
            }
        };
        // What fits into registers, by trial on every architecture.
        if constexpr (HAS_OPTIONS<Args>) {
            write(any_factors(type, a));
        } else if (Op::CENTER) {
            with_factors(type, a, write);
        } else {
            with_few_factors(type, a, write);
        }
    }
}

// Adds up the sums of columns over the rows of a block's threads, and stores them; `columns` are those of a row.
template <int N, int COUNT>
DYT_DEVICE void store_columns(const float (&sums)[COUNT][N], float* out, u64 columns, float* exchange) {
    if (out == nullptr) return;
    if (blockDim.y == 1) {
        const bool aligned = aligned_to_16(out);
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const u64 column = (static_cast<u64>(i) * blockDim.x + threadIdx.x) * N;
            if (column < columns) store_sums(out + column, sums[i], aligned);
        }
        return;
    }
    const u32 width = blockDim.x * N * COUNT;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
#pragma unroll
        for (int k = 0; k < N; ++k)
            exchange[threadIdx.y * width + (i * blockDim.x + threadIdx.x) * N + k] = sums[i][k];
    __syncthreads();
#pragma unroll 1
    for (u32 column = threadIdx.y * blockDim.x + threadIdx.x; column < columns; column += blockDim.x * blockDim.y) {
        Sum sum;
        sum.clear();
#pragma unroll 4
        for (u32 y = 0; y < blockDim.y; ++y) sum.add(exchange[y * width + column]);
        out[column] = sum.value();
    }
}

template <class Op, bool VECTOR, class T, class P>
DYT_DEVICE void norm_backward(const NormBackward& a, T type, P p) {
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
    const u64 first_row = static_cast<u64>(blockIdx.x) * a.steps * blockDim.y;
    const u32 turns = static_cast<u32>(least(a.steps, quotient(a.rows - first_row + blockDim.y - 1, blockDim.y)));
    const u32 live_turns = first_row + (turns - 1) * blockDim.y + threadIdx.y < a.rows ? turns : turns - 1;
    // Where the row begins, and how far it is to the thread's next.
    u64 begin = (first_row + threadIdx.y) * a.row_stride;
    const u64 step = blockDim.y * a.row_stride;
    const Element* dy = static_cast<const Element*>(a.dy);
    const Element* x = static_cast<const Element*>(a.x);
    if (fetches_ahead) ahead.fetch(dy + begin, x + begin, share, live_turns > 0 ? share.there : 0, reads_x);
    // Bit i: the row of turn i is left for later, with those that share its warp. No memory has rows for more than 32 turns.
    u32 strayed = 0;
    // All threads of a block go on together, those without a row too.
#pragma unroll 1
    for (u32 i = 0; i < turns; ++i, begin += step) {
        const bool live = i < live_turns;
        const u32 there = live ? share.there : 0;
        // What is written of them.
        u32 here = there;
        // Under way while the row itself is waited for.
        const Saved saved = Saved::load(Op::CENTER ? a.mean : nullptr, a.rstd, first_row + i * blockDim.y + threadIdx.y, live);
        Kept<A, COUNT> of_x, of_dy;
        if (fetches_ahead) {
            ahead.take(of_dy, of_x, there);
            const u64 later = begin + step;
            ahead.fetch(dy + later, x + later, share, i + 1 < live_turns ? share.there : 0, reads_x);
        } else {
            of_dy.load(access, dy + begin, share, there);
            of_x.load(access, x + begin, share, reads_x ? there : 0);
        }
        Slope slope = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
        float x_part[N], dy_part[N], gamma[N];
        if (reads_x) {
            float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f}, m = saved.mean;
            if (Op::CENTER && a.mean == nullptr)
                m = origin_of(moments, of_x, live ? type.widen(x[begin]) : 0.0f, there, turn);
#pragma unroll
            for (int k = 0; k < COUNT; ++k) {
                if (!has(there, k)) continue;
                access.unpack(of_x.block[k], x_part);
                access.unpack(of_dy.block[k], dy_part);
                factors(p, a.gamma, share.at(k), gamma);
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
#pragma unroll
        for (int k = 0; k < COUNT; ++k) {
            if (!has(here, k)) continue;
            access.unpack(of_x.block[k], x_part);
            access.unpack(of_dy.block[k], dy_part);
            factors(p, a.gamma, share.at(k), gamma);
            differentiate<Op>(x_part, dy_part, gamma, slope, dgamma[k], dbeta[k]);
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
