// LayerNorm and RMSNorm of rows that no registers hold.
#pragma once

#include "long_row.cuh"

namespace dyt {

// The sums of d^2 and of d about m of a row times `scale`.
template <class Op, class A, class Scale>
DYT_DEVICE void long_deviations(float (&sums)[2], const LongRow<A>& x, u64 blocks, const Scale& scale, float m, u32& turn) {
    constexpr int N = A::WIDTH, COUNT = Tile<A>::COUNT;
    Sum totals[2];
    totals[0].clear();
    totals[1].clear();
#pragma unroll 1
    for (u64 tile = 0; tile < blocks; tile += static_cast<u64>(COUNT) * blockDim.x) {
        float part[2] = {0.0f, 0.0f};
        typename A::Block block[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const u64 at = tile + i * blockDim.x + threadIdx.x;
            block[i] = at < blocks ? x.get(at, Op::CENTER) : A::zero();
        }
        scale.template multiply_tile<A>(block);
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            if (tile + i * blockDim.x + threadIdx.x >= blocks) continue;
            float d[N];
            A::unpack(block[i], d);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                if (Op::CENTER) d[k] -= m;
                part[0] = math::fma_rn(d[k], d[k], part[0]);
                part[1] += d[k];
            }
        }
        fold_into(totals, part);
    }
    sums[0] = totals[0].value();
    sums[1] = totals[1].value();
    row_sums<2>(sums, turn);
}

// Stores the sum of a row and its residual.
template <class A, class Args>
DYT_DEVICE void long_add_residual(const Args& a, const A& access, u64 begin, u64 blocks) {
    typedef typename A::Element Element;
    const Element* x = static_cast<const Element*>(a.x) + begin;
    const Element* residual = static_cast<const Element*>(a.added) + begin;
    Element* sum = static_cast<Element*>(a.sum) + begin;
#pragma unroll 4
    for (u64 at = threadIdx.x; at < blocks; at += blockDim.x) {
        typename A::Block block = access.load(x + at * A::WIDTH);
        add_residual(access, block, residual + at * A::WIDTH, sum + at * A::WIDTH);
    }
    // All threads read the first value.
    __syncthreads();
}

template <class Op, bool VECTOR, class T, class Args>
DYT_DEVICE void norm_forward_long(const Args& a, T type) {
    typedef RowAccess<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = Tile<A>::COUNT;
    const A access(type);
    const Moments moments = Moments::of<Op>(a);
    const u64 blocks = a.cols / N;
    u32 turn = 0;
    Raw* cache = reinterpret_cast<Raw*>(shared_memory() + blockDim.x);
#pragma unroll 1
    for (u64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const Begin begin = begin_of(a, row);
        if constexpr (HAS_OPTIONS<Args>) {
            if (a.added != nullptr) long_add_residual(a, access, begin.x, blocks);
        }
        const LongRow<A> x = {access, static_cast<const Element*>(read_by_op(a)) + begin.x, cache, a.cached};
        float sums[2], m = 0.0f;
        Scaled<T::WIDE> scale = {0, 1.0f};
        const auto gather = [&]() {
            if (Op::CENTER) m = long_origin(moments, type, x, blocks, scale, turn);
            long_deviations<Op>(sums, x, blocks, scale, m, turn);
        };
        if constexpr (T::WIDE) {
#pragma unroll 1
            for (;; ++scale.tries) {
                gather();
                if (!any(strays(sums[0], a.least_squares)) || opaque(scale.tries) == TRIES) break;
                scale.factor = next_scale(scale.tries, scale.factor, sums[0], 0.0f, a.least_squares, m);
            }
        } else {
            gather();
        }
        const float c = Op::CENTER ? moments.average(sums[1]) : 0.0f;
        const float rstd = moments.rstd(moments.variance(sums[0], c), scale.factor);
        const Affine affine = {m, rstd, -(c * rstd)};
        if (threadIdx.x == 0) {
            if (Op::CENTER && a.mean != nullptr) a.mean[row] = (m + c) * inverse_power(scale.factor);
            if (a.rstd != nullptr) a.rstd[row] = rstd * scale.factor;
        }
        // In place this overwrites x, of which every thread reads its own blocks; the first value was read before the
        // last barrier.
        // With options computed where they are needed, so that they take no registers above.
        const u64 this_row = HAS_OPTIONS<Args> ? opaque(row) : row;
        Element* y = static_cast<Element*>(a.y) + (HAS_OPTIONS<Args> ? begin_of(a, this_row).y : begin.y);
        const u32 parameters = static_cast<u32>(parameters_of(a, this_row));
        const auto write = [&](auto p) {
#pragma unroll 1
            for (u64 tile = 0; tile < blocks; tile += static_cast<u64>(COUNT) * blockDim.x) {
                typename A::Block block[COUNT];
#pragma unroll
                for (int i = 0; i < COUNT; ++i) {
                    const u64 at = tile + i * blockDim.x + threadIdx.x;
                    block[i] = at < blocks ? x.again(at) : A::zero();
                }
                scale.template multiply_tile<A>(block);
#pragma unroll
                for (int i = 0; i < COUNT; ++i) {
                    const u64 at = tile + i * blockDim.x + threadIdx.x;
                    if (at >= blocks) continue;
                    float v[N], gamma[N], beta[N];
                    access.unpack(block[i], v);
                    factors(p, a.gamma, parameters + at * N, gamma);
                    terms(p, a.beta, parameters + at * N, beta);
#pragma unroll
                    for (int k = 0; k < N; ++k) v[k] = math::fma_rn(affine.template x_hat<Op>(v[k]), gamma[k], beta[k]);
                    access.store(y + at * N, v);
                }
            }
        };
        if constexpr (HAS_OPTIONS<Args>) {
            write(any_factors(type, a));
        } else {
            with_factors(type, a, write);
        }
    }
}

// What a backward writes, as bits, and which of its sums lie on a boundary of 16 bytes.
enum { DX = 1, DGAMMA = 2, DBETA = 4, DGAMMA_ALIGNED = 8, DBETA_ALIGNED = 16 };

// The sums of a block, and what of a backward is wanted.
struct Columns {
    float* dgamma;
    float* dbeta;
    // For 16 bits they stay in a register: pointers would be compared with null anew for each block of a row, by two
    // instructions each. In f32 the compiler has predicates enough for them.
    u32 wanted;
    // Where gamma of the block's rows begins.
    u64 parameters;
    template <class Args>
    DYT_METHOD static Columns of(const Args& a, const Lines& lines) {
        // Not computed anew where it is needed.
        const u64 first = opaque(static_cast<u64>(blockIdx.x) * a.cols);
        Columns columns = {a.dgamma + first, a.dbeta + first, 0, parameters_of(a, lines.begin)};
        const u32 bits = (a.dx != nullptr ? DX : 0) | (a.dgamma != nullptr ? DGAMMA : 0) | (a.dbeta != nullptr ? DBETA : 0);
        const u32 aligned = (aligned_to_16(columns.dgamma) ? DGAMMA_ALIGNED : 0) | (aligned_to_16(columns.dbeta) ? DBETA_ALIGNED : 0);
        columns.wanted = opaque(bits | aligned);
        return columns;
    }
};

template <class T>
DYT_DEVICE bool wants(u32 wanted, u32 bit, const void* p) {
    return T::NARROW ? (wanted & bit) != 0 : p != nullptr;
}

template <class T>
DYT_DEVICE bool adds(u32 added, u32 bit, const void* p) {
    return T::NARROW ? (added & bit) != 0 : added != 0 && p != nullptr;
}

// Calls `body` with the types of gamma: with one that stands for all where rows are scaled.
template <class T, class Args, class Body>
DYT_DEVICE void with_factors_for(Unscaled, T type, const Args& a, const Body& body) {
    if constexpr (HAS_OPTIONS<Args>) {
        body(any_factors(type, a));
    } else {
        with_few_factors(type, a, body);
    }
}

template <bool WIDE, class T, class Args, class Body>
DYT_DEVICE void with_factors_for(Scaled<WIDE>, T type, const Args& a, const Body& body) {
    body(any_factors(type, a));
}

// The sums of a row times `scale`; `seen` says whether there was a pass over x before.
template <class Op, class T, class A, class Scale, class Args>
DYT_DEVICE void long_terms(float (&sums)[4], const Args& a, T type, const LongRow<A>& x, const LongRow<A>& dy, u64 blocks,
                           u64 parameters, bool seen, const Scale& scale, float m, u32& turn) {
    constexpr int N = A::WIDTH, COUNT = Tile<A>::COUNT;
    Sum totals[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) totals[k].clear();
    with_factors_for(scale, type, a, [&](auto p) {
#pragma unroll 1
        for (u64 tile = 0; tile < blocks; tile += static_cast<u64>(COUNT) * blockDim.x) {
            float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            typename A::Block of_x[COUNT], of_dy[COUNT];
#pragma unroll
            for (int i = 0; i < COUNT; ++i) {
                const u64 at = tile + i * blockDim.x + threadIdx.x;
                of_x[i] = at < blocks ? x.get(at, seen) : A::zero();
                of_dy[i] = at < blocks ? dy.first(at) : A::zero();
            }
            scale.template multiply_tile<A>(of_x);
#pragma unroll
            for (int i = 0; i < COUNT; ++i) {
                const u64 at = tile + i * blockDim.x + threadIdx.x;
                if (at >= blocks) continue;
                float x_part[N], dy_part[N], gamma[N];
                A::unpack(of_x[i], x_part);
                A::unpack(of_dy[i], dy_part);
                factors(p, a.gamma, parameters + at * N, gamma);
                add_terms<Op, N>(part, x_part, dy_part, gamma, m);
            }
            fold_into(totals, part);
        }
    });
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[k] = totals[k].value();
    all_row_sums<Op>(sums, turn);
}

// Whether one of the first rows of a block has begun its sums: those that stray are added at the end.
DYT_DEVICE bool sums_begun(u32 strayed, u32 rows) { return strayed != (rows < 32 ? (1u << rows) - 1 : ~0u); }

// dx of a row, x times `scale` and dx that of the slope times it, and its terms of dgamma and dbeta. `added` are those to
// whose sums it adds.
template <class Op, class T, class A, class Scale, class Args>
DYT_DEVICE void long_write(const Args& a, T type, const LongRow<A>& x, const LongRow<A>& dy, u64 blocks, u64 offset,
                           const Slope& slope, const Columns& columns, u32 added, const Scale& scale) {
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH;
    Element* dx = static_cast<Element*>(a.dx) + offset;
    float *dgamma = columns.dgamma, *dbeta = columns.dbeta;
    const u32 wanted = columns.wanted;
    const bool reads_x = (wanted & (DX | DGAMMA)) != 0;
    with_factors_for(scale, type, a, [&](auto p) {
#pragma unroll 1
        for (u64 at = threadIdx.x; at < blocks; at += blockDim.x) {
            float x_part[N], dy_part[N], gamma[N], to_gamma[N], to_beta[N];
            x.access.unpack(reads_x ? x.again(at) : A::zero(), x_part);
            scale.multiply(x_part);
            x.access.unpack(reads_x ? dy.again(at) : dy.first(at), dy_part);
            factors(p, a.gamma, columns.parameters + at * N, gamma);
            fill(to_gamma, 0.0f);
            fill(to_beta, 0.0f);
            if (adds<T>(added, DGAMMA, a.dgamma)) load_sums(dgamma + at * N, to_gamma, (wanted & DGAMMA_ALIGNED) != 0);
            if (adds<T>(added, DBETA, a.dbeta)) load_sums(dbeta + at * N, to_beta, (wanted & DBETA_ALIGNED) != 0);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const float x_hat = slope.affine.template x_hat<Op>(x_part[k]);
                to_gamma[k] += dy_part[k] * x_hat;
                to_beta[k] += dy_part[k];
                dy_part[k] = slope.template dx<Op>(dy_part[k] * gamma[k], x_hat);
            }
            if (wants<T>(wanted, DGAMMA, a.dgamma)) store_sums(dgamma + at * N, to_gamma, (wanted & DGAMMA_ALIGNED) != 0);
            if (wants<T>(wanted, DBETA, a.dbeta)) store_sums(dbeta + at * N, to_beta, (wanted & DBETA_ALIGNED) != 0);
            scale.multiply(dy_part);
            join(a, x.access, offset + at * N, dy_part);
            if (wants<T>(wanted, DX, a.dx)) x.access.store(dx + at * N, dy_part);
        }
    });
}

// A row whatever its values are, from memory.
template <class Op, class T, class A, class Args>
DYT_DEVICE void long_any_row(const Args& a, T type, const A& access, u64 row, const Columns& columns, bool begun,
                             u32& turn) {
    typedef typename T::Element Element;
    const Moments moments = Moments::of<Op>(a);
    const u64 blocks = a.cols / A::WIDTH;
    const Begin begin = begin_of(a, row);
    const LongRow<A> x = {access, static_cast<const Element*>(a.x) + begin.x, nullptr, 0};
    const LongRow<A> dy = {access, static_cast<const Element*>(a.dy) + begin.y, nullptr, 0};
    Slope slope = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
    Scaled<true> scale = {1, 1.0f};
    if ((columns.wanted & (DX | DGAMMA)) != 0) {
        const bool searches = Op::CENTER && a.mean == nullptr;
        const Saved saved = Saved::load(Op::CENTER ? a.mean : nullptr, a.rstd, row, true);
        float sums[4], m = saved.mean;
#pragma unroll 1
        for (u32 tries = 0;; ++tries) {
            if (searches) m = long_origin(moments, type, x, blocks, scale, turn);
            long_terms<Op>(sums, a, type, x, dy, blocks, columns.parameters, false, scale, m, turn);
            if (!any(out_of_range(sums, a.least_squares)) || tries == TRIES) break;
            scale.factor = next_scale(tries, scale.factor, sums[SQUARES], sums[PRODUCTS], a.least_squares, m);
            m = saved.mean * scale.factor;
        }
        // The saved rstd of a row that has a scale may be beyond f32.
        const bool keeps_rstd = a.rstd != nullptr && scale.factor == 1.0f;
        slope = slope_of<Op>(moments, scale.factor, m, keeps_rstd, saved.rstd, sums);
        const float of_output = output_scale(scale.factor);
        slope.multiply(of_output * inverse_power(scale.factor));
        scale.factor = of_output;
    }
    long_write<Op>(a, type, x, dy, blocks, begin.x, slope, columns, begun ? columns.wanted : 0, scale);
}

// The rows that a block has left out because f32 does not hold their sums. Bit i of `strayed`: row i of the block.
template <class Op, class T, class A, class Args>
DYT_DEVICE void long_strays_of(const Args& a, u32 strayed) {
    const T type = type_of<T>(a);
    const Lines lines = lines_of(a, blockIdx.x, a.steps);
    const Columns columns = Columns::of(a, lines);
    bool begun = sums_begun(strayed, static_cast<u32>(least(a.steps, lines.end - lines.begin)));
    u32 turn = 0;
#pragma unroll 1
    for (u64 row = lines.begin; strayed != 0; ++row, strayed >>= 1) {
        if ((strayed & 1) == 0) continue;
        long_any_row<Op>(a, type, A(type), row, columns, begun, turn);
        begun = true;
    }
}

// Apart, so that they take no registers of the other rows.
template <class Op, class T, class A>
DYT_APART void long_strays(const NormBackward a, u32 strayed) {
    long_strays_of<Op, T, A>(a, strayed);
}

// With options the argument would go through memory.
template <class Op, class T, class A>
DYT_DEVICE void long_strays(const NormBackwardOptions& a, u32 strayed) {
    long_strays_of<Op, T, A>(a, strayed);
}

// By elements, of which none is kept, there is one way for all rows.
template <class Op, class T, class Args>
DYT_DEVICE void norm_backward_elements(const Args& a, T type) {
    const Lines lines = lines_of(a, blockIdx.x, a.steps);
    const Columns columns = Columns::of(a, lines);
    u32 turn = 0;
#pragma unroll 1
    for (u64 row = lines.begin; row < least(lines.end, lines.begin + a.steps); ++row)
        long_any_row<Op>(a, type, RowAccess<T, false>(type), row, columns, row > lines.begin, turn);
}

template <class Op, class T, class Args>
DYT_DEVICE void norm_backward_long(const Args& a, T type) {
    typedef RowAccess<T, true> A;
    typedef typename T::Element Element;
    const A access(type);
    const Moments moments = Moments::of<Op>(a);
    const u64 blocks = a.cols / A::WIDTH;
    const bool reads_x = a.dx != nullptr || a.dgamma != nullptr;
    const Lines lines = lines_of(a, blockIdx.x, a.steps);
    const Columns columns = Columns::of(a, lines);
    u32 turn = 0;
    // Bit i: row i is left for later. No memory has rows for more than 32.
    u32 strayed = 0;
    Raw* cache = reinterpret_cast<Raw*>(shared_memory() + blockDim.x);
#pragma unroll 1
    for (u64 row = lines.begin; row < least(lines.end, lines.begin + a.steps); ++row) {
        const u32 at = static_cast<u32>(row - lines.begin);
        const Begin begin = begin_of(a, row);
        const LongRow<A> x = {access, static_cast<const Element*>(a.x) + begin.x, cache, a.cached};
        const LongRow<A> dy = {access, static_cast<const Element*>(a.dy) + begin.y, cache + a.cached, a.cached};
        Slope slope = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
        if (reads_x) {
            const bool searches = Op::CENTER && a.mean == nullptr;
            const Saved saved = Saved::load(Op::CENTER ? a.mean : nullptr, a.rstd, row, true);
            float sums[4], m = saved.mean;
            if (searches) m = long_origin(moments, type, x, blocks, Unscaled(), turn);
            long_terms<Op>(sums, a, type, x, dy, blocks, columns.parameters, searches, Unscaled(), m, turn);
            if (T::WIDE && any(out_of_range(sums, a.least_squares))) {
                strayed |= 1u << at;
                continue;
            }
            slope = slope_of<Op>(moments, 1.0f, m, a.rstd != nullptr, saved.rstd, sums);
        }
        const u32 added = sums_begun(strayed, at) ? columns.wanted : 0;
        long_write<Op>(a, type, x, dy, blocks, begin.x, slope, columns, added, Unscaled());
    }
    if constexpr (T::WIDE) {
        if (any(strayed != 0)) long_strays<Op, T, A>(a, strayed);
    }
}

}  // namespace dyt
