// What a thread keeps of a row in registers, and the backward of rows that stray from what f32 holds.
#pragma once

#include "norm.cuh"

namespace dyt {

// Which blocks of a row a thread keeps: block i begins at element `first + i * stride`, if the row is so long.
template <class A, int COUNT>
struct Share {
    u32 first;
    u32 stride;
    // Bit i: there is a block i.
    u32 there;
    DYT_METHOD static Share of(u64 cols) {
        Share share = {threadIdx.x * A::WIDTH, blockDim.x * A::WIDTH, 0};
#pragma unroll
        for (int i = 0; i < COUNT; ++i) share.there |= share.at(i) < cols ? 1u << i : 0u;
        return share;
    }
    DYT_METHOD u32 at(int i) const { return first + i * stride; }
    // Block i of a row. Of 16 bits a thread has so many values that the place of each block would not fit into registers
    // too: the stride is the same for all threads, and takes none.
    template <class T, class Pointer>
    DYT_METHOD Pointer in(Pointer row, int i) const {
        return T::NARROW ? row + first + i * stride : row + at(i);
    }
};

DYT_DEVICE bool has(u32 there, int i) { return (there >> i & 1) != 0; }

// Those blocks.
template <class A, int COUNT>
struct Kept {
    typename A::Block block[COUNT];
    DYT_METHOD void load(const A& access, const typename A::Element* row, const Share<A, COUNT>& share, u32 there) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) block[i] = has(there, i) ? access.load(row + share.at(i)) : A::zero();
    }
    DYT_METHOD void multiply(float factor) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) A::multiply(block[i], factor);
    }
};

// What the values of a block differ from the first of the row.
template <int N>
DYT_DEVICE float deviation_sum(const float (&x)[N], float first) {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < N; ++k) sum += x[k] - first;
    return sum;
}

// dx of a block of a row, in place of dy, and its terms of dgamma and dbeta.
template <class Op, int N>
DYT_DEVICE void differentiate(const float (&x)[N], float (&dy)[N], const float (&gamma)[N], const Slope& slope,
                              float (&dgamma)[N], float (&dbeta)[N]) {
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const float x_hat = slope.affine.template x_hat<Op>(x[k]);
        dgamma[k] = math::fma_rn(dy[k], x_hat, dgamma[k]);
        dbeta[k] += dy[k];
        dy[k] = slope.template dx<Op>(dy[k] * gamma[k], x_hat);
    }
}

// Adds to what store_columns stored.
template <int N>
DYT_DEVICE void add_to_columns(float* sums, const float (&terms)[N]) {
#pragma unroll
    for (int k = 0; k < N; ++k) sums[k] += terms[k];
}

// The row of a thread's turn. In plain calls from the index of the block, which is there anyway: the function of the rows below
// decides which registers the kernel has.
template <class Args>
DYT_DEVICE u64 row_of(const Args& a, u32 turn, const Lines& lines) {
    if constexpr (HAS_OPTIONS<Args>) {
        return lines.begin + static_cast<u64>(turn) * blockDim.y + threadIdx.y;
    } else {
        return (static_cast<u64>(blockIdx.x) * a.steps + turn) * blockDim.y + threadIdx.y;
    }
}

// The rows that a block has left out because f32 does not hold their sums: bit i of `strayed` is that of turn i. After all
// others, from memory.
template <class Op, class T, class A, int COUNT, class Args>
DYT_DEVICE void stray_rows_of(const Args& a, u32 strayed) {
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH;
    const T type = type_of<T>(a);
    const A access(type);
    const auto p = any_factors(type, a);
    const Moments moments = Moments::of<Op>(a);
    const Share<A, COUNT> share = Share<A, COUNT>::of(a.cols);
    const u64 first = static_cast<u64>(blockIdx.x) * a.cols;
    const Lines lines = lines_of(a, blockIdx.x, a.steps, blockDim.y);
    const u64 parameters = parameters_of(a, lines.begin);
    u32 turn = 0;
#pragma unroll 1
    for (u32 i = 0; i < a.steps; ++i) {
        const bool live = has(strayed, i);
        if (__syncthreads_or(live) == 0) continue;
        const u64 row = row_of(a, i, lines);
        const Begin begin = begin_of(a, row);
        const u32 there = live && row < lines.end ? share.there : 0;
        const Element* x = static_cast<const Element*>(a.x) + begin.x;
        const Element* dy = static_cast<const Element*>(a.dy) + begin.y;
        const auto load = [&](const Element* from, int k, float factor, float (&v)[N]) {
            A::unpack(access.load(from + share.at(k)), v);
            multiply(v, factor);
        };
        const Saved saved = Saved::load(Op::CENTER ? a.mean : nullptr, a.rstd, row, there != 0);
        float sums[4], m = saved.mean, scale = 1.0f;
        float x_part[N], dy_part[N], gamma[N];
#pragma unroll 1
        for (u32 tries = 0;; ++tries) {
            if (Op::CENTER && a.mean == nullptr) {
                const float origin = there != 0 ? type.widen(*x) * scale : 0.0f;
                float sum[1] = {0.0f};
#pragma unroll 1
                for (int k = 0; k < COUNT; ++k) {
                    if (!has(there, k)) continue;
                    load(x, k, scale, x_part);
                    sum[0] += deviation_sum(x_part, origin);
                }
                row_sums<1>(sum, turn);
                m = origin + moments.average(sum[0]);
            }
            fill(sums, 0.0f);
#pragma unroll 1
            for (int k = 0; k < COUNT; ++k) {
                if (!has(there, k)) continue;
                load(x, k, scale, x_part);
                load(dy, k, 1.0f, dy_part);
                factors(p, a.gamma, parameters + share.at(k), gamma);
                add_terms<Op, N>(sums, x_part, dy_part, gamma, m);
            }
            all_row_sums<Op>(sums, turn);
            // The rows of a block go on together; one that needs no further try gets the scale that it has.
            if (tries == TRIES) break;
            scale = next_scale(tries, scale, sums[SQUARES], sums[PRODUCTS], a.least_squares, m);
            m = saved.mean * scale;
        }
        // The saved rstd of a row that has a scale may be beyond f32.
        Slope slope = slope_of<Op>(moments, scale, m, a.rstd != nullptr && scale == 1.0f, saved.rstd, sums);
        const float of_output = output_scale(scale);
        slope.multiply(of_output * inverse_power(scale));
#pragma unroll 1
        for (int k = 0; k < COUNT; ++k) {
            float dgamma[N], dbeta[N];
            fill(dgamma, 0.0f);
            fill(dbeta, 0.0f);
            if (has(there, k)) {
                load(x, k, of_output, x_part);
                load(dy, k, 1.0f, dy_part);
                factors(p, a.gamma, parameters + share.at(k), gamma);
                differentiate<Op>(x_part, dy_part, gamma, slope, dgamma, dbeta);
                multiply(dy_part, of_output);
                join(a, access, begin.x + share.at(k), dy_part);
                if (a.dx != nullptr) access.store(static_cast<Element*>(a.dx) + begin.x + share.at(k), dy_part);
            }
            // The rows of a block one after the other.
#pragma unroll 1
            for (u32 y = 0; y < blockDim.y; ++y) {
                __syncthreads();
                if (y != threadIdx.y || !has(there, k)) continue;
                if (a.dgamma != nullptr) add_to_columns(a.dgamma + first + share.at(k), dgamma);
                if (a.dbeta != nullptr) add_to_columns(a.dbeta + first + share.at(k), dbeta);
            }
        }
    }
}

// Apart, so that the other rows have the registers of the kernel: in one function the compiler would compute anew for each row
// what its addresses have in common.
template <class Op, class T, class A, int COUNT>
DYT_APART void stray_rows(const NormBackward a, u32 strayed) {
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH;
    const T type = type_of<T>(a);
    const A access(type);
    const auto p = any_factors(type, a);
    const Moments moments = Moments::of<Op>(a);
    const Share<A, COUNT> share = Share<A, COUNT>::of(a.cols);
    const u64 first = static_cast<u64>(blockIdx.x) * a.cols;
    u32 turn = 0;
#pragma unroll 1
    for (u32 i = 0; i < a.steps; ++i) {
        const bool live = has(strayed, i);
        if (__syncthreads_or(live) == 0) continue;
        const u64 row = (static_cast<u64>(blockIdx.x) * a.steps + i) * blockDim.y + threadIdx.y;
        const u64 begin = row * a.row_stride;
        const u32 there = live && row < a.rows ? share.there : 0;
        const Element* x = static_cast<const Element*>(a.x) + begin;
        const Element* dy = static_cast<const Element*>(a.dy) + begin;
        const auto load = [&](const Element* from, int k, float factor, float (&v)[N]) {
            A::unpack(access.load(from + share.at(k)), v);
            multiply(v, factor);
        };
        const Saved saved = Saved::load(Op::CENTER ? a.mean : nullptr, a.rstd, row, there != 0);
        float sums[4], m = saved.mean, scale = 1.0f;
        float x_part[N], dy_part[N], gamma[N];
#pragma unroll 1
        for (u32 tries = 0;; ++tries) {
            if (Op::CENTER && a.mean == nullptr) {
                const float origin = there != 0 ? type.widen(*x) * scale : 0.0f;
                float sum[1] = {0.0f};
#pragma unroll 1
                for (int k = 0; k < COUNT; ++k) {
                    if (!has(there, k)) continue;
                    load(x, k, scale, x_part);
                    sum[0] += deviation_sum(x_part, origin);
                }
                row_sums<1>(sum, turn);
                m = origin + moments.average(sum[0]);
            }
            fill(sums, 0.0f);
#pragma unroll 1
            for (int k = 0; k < COUNT; ++k) {
                if (!has(there, k)) continue;
                load(x, k, scale, x_part);
                load(dy, k, 1.0f, dy_part);
                factors(p, a.gamma, share.at(k), gamma);
                add_terms<Op, N>(sums, x_part, dy_part, gamma, m);
            }
            all_row_sums<Op>(sums, turn);
            // The rows of a block go on together; one that needs no further try gets the scale that it has.
            if (tries == TRIES) break;
            scale = next_scale(tries, scale, sums[SQUARES], sums[PRODUCTS], a.least_squares, m);
            m = saved.mean * scale;
        }
        // The saved rstd of a row that has a scale may be beyond f32.
        Slope slope = slope_of<Op>(moments, scale, m, a.rstd != nullptr && scale == 1.0f, saved.rstd, sums);
        const float of_output = output_scale(scale);
        slope.multiply(of_output * inverse_power(scale));
#pragma unroll 1
        for (int k = 0; k < COUNT; ++k) {
            float dgamma[N], dbeta[N];
            fill(dgamma, 0.0f);
            fill(dbeta, 0.0f);
            if (has(there, k)) {
                load(x, k, of_output, x_part);
                load(dy, k, 1.0f, dy_part);
                factors(p, a.gamma, share.at(k), gamma);
                differentiate<Op>(x_part, dy_part, gamma, slope, dgamma, dbeta);
                multiply(dy_part, of_output);
                if (a.dx != nullptr) access.store(static_cast<Element*>(a.dx) + begin + share.at(k), dy_part);
            }
            // The rows of a block one after the other.
#pragma unroll 1
            for (u32 y = 0; y < blockDim.y; ++y) {
                __syncthreads();
                if (y != threadIdx.y || !has(there, k)) continue;
                if (a.dgamma != nullptr) add_to_columns(a.dgamma + first + share.at(k), dgamma);
                if (a.dbeta != nullptr) add_to_columns(a.dbeta + first + share.at(k), dbeta);
            }
        }
    }
}

// With options the argument would go through memory.
template <class Op, class T, class A, int COUNT>
DYT_DEVICE void stray_rows(const NormBackwardOptions& a, u32 strayed) {
    stray_rows_of<Op, T, A, COUNT>(a, strayed);
}

}  // namespace dyt
