// LayerNorm and RMSNorm of rows that no registers hold.
#include "norm.cuh"

namespace dyt {

// A long row, a block of a thread's after the other. The first `cached` of the row stay in shared memory after the
// first pass; a block is read by the thread that put it there, so that no barrier is needed.
template <class A>
struct LongRow {
    const typename A::Element* row;
    Raw* cache;
    u64 cached;
    DYT_METHOD typename A::Block first(u64 at) const {
        const typename A::Block block = A::load(row + at * A::WIDTH);
        keep(at, block);
        return block;
    }
    DYT_METHOD typename A::Block again(u64 at) const {
        typename A::Block block;
        if (at < cached) {
            take(at, block);
        } else {
            block = A::load(row + at * A::WIDTH);
        }
        return block;
    }
    DYT_METHOD typename A::Block get(u64 at, bool seen) const { return seen ? again(at) : first(at); }

private:
    DYT_METHOD void keep(u64 at, const Raw& block) const {
        if (at < cached) cache[at] = block;
    }
    DYT_METHOD void take(u64 at, Raw& block) const { block = cache[at]; }
    // Elements are not kept.
    template <class Element>
    DYT_METHOD void keep(u64, const Element&) const {}
    template <class Element>
    DYT_METHOD void take(u64 at, Element& block) const {
        block = A::load(row + at);
    }
};

// Blocks of a long row that a thread adds up before the sum is folded.
template <class A>
struct Tile {
    static constexpr int COUNT = A::WIDTH == 8 ? 2 : 4;
};

template <class T, class A>
DYT_DEVICE float long_origin(const Moments& moments, T type, const A& access, const LongRow<A>& x, u64 blocks,
                             bool seen, u32& turn) {
    constexpr int COUNT = Tile<A>::COUNT;
    const float first = type.widen(*x.row);
    Sum total[1];
    total[0].clear();
#pragma unroll 1
    for (u64 tile = 0; tile < blocks; tile += static_cast<u64>(COUNT) * blockDim.x) {
        float part[1] = {0.0f};
        typename A::Block block[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const u64 at = tile + i * blockDim.x + threadIdx.x;
            block[i] = at < blocks ? x.get(at, seen) : A::zero();
        }
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            if (tile + i * blockDim.x + threadIdx.x >= blocks) continue;
            float v[A::WIDTH];
            access.unpack(block[i], v);
#pragma unroll
            for (int k = 0; k < A::WIDTH; ++k) part[0] += v[k] - first;
        }
        fold_into(total, part);
    }
    float sum[1] = {total[0].value()};
    row_sums<1>(sum, turn);
    return first + moments.average(sum[0]);
}

template <class Op, bool VECTOR, class T>
DYT_DEVICE void norm_forward_long(const NormForward& a, T type) {
    typedef Access<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = Tile<A>::COUNT;
    const A access(type);
    const Moments moments = Moments::of(a);
    const u64 blocks = a.cols / N;
    u32 turn = 0;
    Raw* cache = reinterpret_cast<Raw*>(shared_memory() + blockDim.x);
#pragma unroll 1
    for (u64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const LongRow<A> x = {static_cast<const Element*>(a.x) + row * a.row_stride, cache, a.cached};
        const float m = Op::CENTER ? long_origin(moments, type, access, x, blocks, false, turn) : 0.0f;
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
#pragma unroll
            for (int i = 0; i < COUNT; ++i) {
                if (tile + i * blockDim.x + threadIdx.x >= blocks) continue;
                float d[N];
                access.unpack(block[i], d);
#pragma unroll
                for (int k = 0; k < N; ++k) {
                    if (Op::CENTER) d[k] -= m;
                    part[0] = math::fma_rn(d[k], d[k], part[0]);
                    part[1] += d[k];
                }
            }
            fold_into(totals, part);
        }
        float sums[2] = {totals[0].value(), totals[1].value()};
        row_sums<2>(sums, turn);
        const float c = Op::CENTER ? moments.average(sums[1]) : 0.0f;
        const float rstd = moments.rstd(moments.variance(sums[0], c));
        const Affine affine = {m, rstd, -(c * rstd)};
        if (threadIdx.x == 0) {
            if (Op::CENTER && a.mean != nullptr) a.mean[row] = m + c;
            if (a.rstd != nullptr) a.rstd[row] = rstd;
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

template <class Op, bool VECTOR, class T>
DYT_DEVICE void norm_backward_long(const NormBackward& a, T type) {
    typedef Access<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = Tile<A>::COUNT;
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
        const LongRow<A> x = {static_cast<const Element*>(a.x) + offset, cache, a.cached};
        const LongRow<A> dy = {static_cast<const Element*>(a.dy) + offset, cache + a.cached, a.cached};
        Slope slope = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
        if (reads_x) {
            const bool search = Op::CENTER && a.mean == nullptr;
            float m = 0.0f;
            if (search) {
                m = long_origin(moments, type, access, x, blocks, false, turn);
            } else if (Op::CENTER) {
                m = a.mean[row];
            }
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
                        of_x[i] = at < blocks ? x.get(at, search) : A::zero();
                        of_dy[i] = at < blocks ? dy.first(at) : A::zero();
                    }
#pragma unroll
                    for (int i = 0; i < COUNT; ++i) {
                        const u64 at = tile + i * blockDim.x + threadIdx.x;
                        if (at >= blocks) continue;
                        float x_part[N], dy_part[N], gamma[N];
                        access.unpack(of_x[i], x_part);
                        access.unpack(of_dy[i], dy_part);
                        factors(p, a.gamma, at * N, gamma);
                        add_terms<Op, N>(part, x_part, dy_part, gamma, m);
                    }
                    fold_into(totals, part);
                }
            });
            float sums[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) sums[k] = totals[k].value();
            all_row_sums<Op>(sums, turn);
            const Saved saved = Saved::load(nullptr, a.rstd, row, true);
            slope = slope_of<Op>(moments, m, a.rstd != nullptr, saved.rstd, sums);
        }
        // The first row begins the sums.
        const u32 added = row > begin ? wanted : 0;
        with_few_factors(type, a, [&](auto p) {
#pragma unroll 1
            for (u64 at = threadIdx.x; at < blocks; at += blockDim.x) {
                float x_part[N], dy_part[N], gamma[N], to_gamma[N], to_beta[N];
                access.unpack(reads_x ? x.again(at) : A::zero(), x_part);
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
