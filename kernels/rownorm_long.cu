// LayerNorm and RMSNorm of rows that no registers hold.
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

// Multiplies blocks of a row that strays by its scale, which all threads of a row share; other rows do not.
template <class T, class A, int COUNT>
DYT_DEVICE void multiply_tile(typename A::Block (&block)[COUNT], u32 tries, float scale) {
    if constexpr (T::WIDE) {
        if (tries == 0) return;
#pragma unroll
        for (int i = 0; i < COUNT; ++i) A::multiply(block[i], scale);
    }
}

template <class T, class A>
DYT_DEVICE float long_origin(const Moments& moments, T type, const LongRow<A>& x, u64 blocks, u32 tries, float scale, u32& turn) {
    constexpr int COUNT = Tile<A>::COUNT;
    const float first = type.widen(*x.row) * scale;
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
        multiply_tile<T, A>(block, tries, scale);
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

// The sums of d^2 and of d about m of a row times `scale`.
template <class Op, class T, class A>
DYT_DEVICE void long_deviations(float (&sums)[2], const LongRow<A>& x, u64 blocks, u32 tries, float scale,
                                float m, u32& turn) {
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
        multiply_tile<T, A>(block, tries, scale);
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

template <class Op, bool VECTOR, class T>
DYT_DEVICE void norm_forward_long(const NormForward& a, T type) {
    typedef RowAccess<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = Tile<A>::COUNT;
    const A access(type);
    const Moments moments = Moments::of(a);
    const u64 blocks = a.cols / N;
    u32 turn = 0;
    Raw* cache = reinterpret_cast<Raw*>(shared_memory() + blockDim.x);
#pragma unroll 1
    for (u64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const LongRow<A> x = {access, static_cast<const Element*>(a.x) + row * a.row_stride, cache, a.cached};
        float sums[2], m = 0.0f, scale = 1.0f;
        u32 tries = 0;
        const auto gather = [&]() {
            if (Op::CENTER) m = long_origin(moments, type, x, blocks, tries, scale, turn);
            long_deviations<Op, T>(sums, x, blocks, tries, scale, m, turn);
        };
        if constexpr (T::WIDE) {
#pragma unroll 1
            for (;; ++tries) {
                gather();
                if (!any(strays(sums[0], a.least_squares)) || opaque(tries) == TRIES) break;
                scale = next_scale(tries, scale, sums[0], 0.0f, a.least_squares, m);
            }
        } else {
            gather();
        }
        const float c = Op::CENTER ? moments.average(sums[1]) : 0.0f;
        const float rstd = moments.rstd(moments.variance(sums[0], c), scale);
        const Affine affine = {m, rstd, -(c * rstd)};
        if (threadIdx.x == 0) {
            if (Op::CENTER && a.mean != nullptr) a.mean[row] = (m + c) * inverse_power(scale);
            if (a.rstd != nullptr) a.rstd[row] = rstd * scale;
        }
        // In place this overwrites x, of which every thread reads its own blocks; the first value was read before the
        // last barrier.
        Element* y = static_cast<Element*>(a.y) + row * a.row_stride;
        with_factors(type, a, [&](auto p) {
#pragma unroll 1
            for (u64 tile = 0; tile < blocks; tile += static_cast<u64>(COUNT) * blockDim.x) {
                typename A::Block block[COUNT];
#pragma unroll
                for (int i = 0; i < COUNT; ++i) {
                    const u64 at = tile + i * blockDim.x + threadIdx.x;
                    block[i] = at < blocks ? x.again(at) : A::zero();
                }
                multiply_tile<T, A>(block, tries, scale);
#pragma unroll
                for (int i = 0; i < COUNT; ++i) {
                    const u64 at = tile + i * blockDim.x + threadIdx.x;
                    if (at >= blocks) continue;
                    float v[N], gamma[N], beta[N];
                    access.unpack(block[i], v);
                    factors(p, a.gamma, at * N, gamma);
                    terms(p, a.beta, at * N, beta);
#pragma unroll
                    for (int k = 0; k < N; ++k) v[k] = math::fma_rn(affine.template x_hat<Op>(v[k]), gamma[k], beta[k]);
                    access.store(y + at * N, v);
                }
            }
        });
    }
}

// What a backward writes, as bits.
enum { DX = 1, DGAMMA = 2, DBETA = 4 };

// For 16 bits they stay in a register: pointers would be compared with null anew for each block of a row, by two
// instructions each. In f32 the compiler has predicates enough for them.
DYT_DEVICE u32 wanted_of(const NormBackward& a) {
    const u32 bits = (a.dx != nullptr ? DX : 0) | (a.dgamma != nullptr ? DGAMMA : 0) | (a.dbeta != nullptr ? DBETA : 0);
    return opaque(bits);
}

template <class T>
DYT_DEVICE bool wants(u32 wanted, u32 bit, const void* p) {
    return T::NARROW ? (wanted & bit) != 0 : p != nullptr;
}

// What all_row_sums gives of a row times `scale`; `seen` says whether there was a pass over x before.
template <class Op, class T, class A>
DYT_DEVICE bool long_terms(float (&sums)[4], const NormBackward& a, T type, const LongRow<A>& x, const LongRow<A>& dy, u64 blocks,
                           bool seen, u32 tries, float scale, float m, u32& turn) {
    constexpr int N = A::WIDTH, COUNT = Tile<A>::COUNT;
    Sum totals[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) totals[k].clear();
    with_few_factors(type, a, [&](auto p) {
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
            multiply_tile<T, A>(of_x, tries, scale);
#pragma unroll
            for (int i = 0; i < COUNT; ++i) {
                const u64 at = tile + i * blockDim.x + threadIdx.x;
                if (at >= blocks) continue;
                float x_part[N], dy_part[N], gamma[N];
                A::unpack(of_x[i], x_part);
                A::unpack(of_dy[i], dy_part);
                factors(p, a.gamma, at * N, gamma);
                add_terms<Op, N>(part, x_part, dy_part, gamma, m);
            }
            fold_into(totals, part);
        }
    });
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[k] = totals[k].value();
    return all_row_sums<Op>(sums, turn, RangeOf<Op, T>::of(a.least_squares));
}

template <class Op, bool VECTOR, class T>
DYT_DEVICE void norm_backward_long(const NormBackward& a, T type) {
    typedef RowAccess<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH;
    const A access(type);
    const Moments moments = Moments::of(a);
    const u64 blocks = a.cols / N;
    const bool reads_x = a.dx != nullptr || a.dgamma != nullptr;
    float* dgamma = a.dgamma == nullptr ? nullptr : a.dgamma + static_cast<u64>(blockIdx.x) * a.cols;
    float* dbeta = a.dbeta == nullptr ? nullptr : a.dbeta + static_cast<u64>(blockIdx.x) * a.cols;
    const u32 wanted = wanted_of(a);
    const u64 begin = static_cast<u64>(blockIdx.x) * a.steps;
    u32 turn = 0;
    Raw* cache = reinterpret_cast<Raw*>(shared_memory() + blockDim.x);
#pragma unroll 1
    for (u64 row = begin; row < least(a.rows, begin + a.steps); ++row) {
        const u64 offset = row * a.row_stride;
        const LongRow<A> x = {access, static_cast<const Element*>(a.x) + offset, cache, a.cached};
        const LongRow<A> dy = {access, static_cast<const Element*>(a.dy) + offset, cache + a.cached, a.cached};
        Slope slope = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
        // Of x in the second pass; dx is that of the slope times it.
        float scale = 1.0f;
        u32 tries = 0;
        if (reads_x) {
            const bool searches = Op::CENTER && a.mean == nullptr;
            const Saved saved = Saved::load(Op::CENTER ? a.mean : nullptr, a.rstd, row, true);
            float sums[4], m = saved.mean;
            const auto gather = [&]() {
                if (searches) m = long_origin(moments, type, x, blocks, tries, scale, turn);
                return long_terms<Op>(sums, a, type, x, dy, blocks, searches, tries, scale, m, turn);
            };
            if constexpr (T::WIDE) {
                while (gather()) {
                    // Opaque, so that ordinary rows do not look at it.
                    if (opaque(tries) == TRIES) break;
                    const float next = next_scale(tries, scale, sums[SQUARES], sums[PRODUCTS], a.least_squares, m);
                    m *= next * inverse_power(scale);
                    scale = next;
                    ++tries;
                }
            } else {
                gather();
            }
            if (tries == 0) {
                slope = slope_of<Op>(moments, 1.0f, m, a.rstd != nullptr, saved.rstd, sums);
            } else {
                // The saved rstd of a row that has a scale may be beyond f32.
                slope = slope_of<Op>(moments, scale, m, a.rstd != nullptr && scale == 1.0f, saved.rstd, sums);
                const float of_output = output_scale(scale);
                slope.multiply(of_output * inverse_power(scale));
                scale = of_output;
            }
        }
        // The first row begins the sums.
        const u32 added = row > begin ? wanted : 0;
        with_few_factors(type, a, [&](auto p) {
#pragma unroll 1
            for (u64 at = threadIdx.x; at < blocks; at += blockDim.x) {
                float x_part[N], dy_part[N], gamma[N], to_gamma[N], to_beta[N];
                access.unpack(reads_x ? x.again(at) : A::zero(), x_part);
                if (tries > 0) multiply(x_part, scale);
                access.unpack(reads_x ? dy.again(at) : dy.first(at), dy_part);
                factors(p, a.gamma, at * N, gamma);
                fill(to_gamma, 0.0f);
                fill(to_beta, 0.0f);
                if (wants<T>(added, DGAMMA, dgamma) && row > begin) load_sums(dgamma + at * N, to_gamma, aligned_to_16(dgamma));
                if (wants<T>(added, DBETA, dbeta) && row > begin) load_sums(dbeta + at * N, to_beta, aligned_to_16(dbeta));
#pragma unroll
                for (int k = 0; k < N; ++k) {
                    const float x_hat = slope.affine.template x_hat<Op>(x_part[k]);
                    to_gamma[k] += dy_part[k] * x_hat;
                    to_beta[k] += dy_part[k];
                    dy_part[k] = slope.template dx<Op>(dy_part[k] * gamma[k], x_hat);
                }
                if (wants<T>(wanted, DGAMMA, dgamma)) store_sums(dgamma + at * N, to_gamma, aligned_to_16(dgamma));
                if (wants<T>(wanted, DBETA, dbeta)) store_sums(dbeta + at * N, to_beta, aligned_to_16(dbeta));
                if (tries > 0) multiply(dy_part, scale);
                if (wants<T>(wanted, DX, a.dx)) access.store(static_cast<Element*>(a.dx) + offset + at * N, dy_part);
            }
        });
    }
}

}  // namespace dyt

#define ROWNORM_LONG_VECTOR(dtype, T, op, Op)                                                                        \
    DYT_ENTRY(dyt_##op##_fwd_##dtype##_long_vector, NormForward, 1024, 1, dyt::norm_forward_long<Op, true>(a, T())) \
    DYT_ENTRY(dyt_##op##_bwd_##dtype##_long_vector, NormBackward, 512, 1, dyt::norm_backward_long<Op, true>(a, T()))

#define ROWNORM_LONG_SCALAR(op, Op)                                                                       \
    DYT_ENTRY(dyt_##op##_fwd_long_scalar, NormForward, 1024, 1,                                           \
              dyt::with_dtype(a.dtype, [&](auto type) { dyt::norm_forward_long<Op, false>(a, type); }))   \
    DYT_ENTRY(dyt_##op##_bwd_long_scalar, NormBackward, 512, 2,                                           \
              dyt::with_dtype(a.dtype, [&](auto type) { dyt::norm_backward_long<Op, false>(a, type); }))

DYT_FOR_DTYPES(ROWNORM_LONG_VECTOR, layer_norm, dyt::LayerNorm)
DYT_FOR_DTYPES(ROWNORM_LONG_VECTOR, rms_norm, dyt::RmsNorm)
ROWNORM_LONG_SCALAR(layer_norm, dyt::LayerNorm)
ROWNORM_LONG_SCALAR(rms_norm, dyt::RmsNorm)
