// LayerNorm and RMSNorm of rows that registers hold.
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
    DYT_METHOD void load(const typename A::Element* row, const Share<A, COUNT>& share, u32 there) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) block[i] = has(there, i) ? A::load(row + share.at(i)) : A::zero();
    }
};

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
template <class A, int COUNT, class T>
DYT_DEVICE float origin_of(const Moments& moments, T type, const A& access, const Kept<A, COUNT>& kept,
                           const typename A::Element* row, u32 there, bool live, u32& turn) {
    const float first = live ? type.widen(*row) : 0.0f;
    float sum[1] = {0.0f};
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        if (!has(there, i)) continue;
        float x[A::WIDTH];
        access.unpack(kept.block[i], x);
        float part = 0.0f;
#pragma unroll
        for (int k = 0; k < A::WIDTH; ++k) part += x[k] - first;
        sum[0] += part;
    }
    row_sums<1>(sum, turn);
    return first + moments.average(sum[0]);
}

template <class Op, bool VECTOR, class T>
DYT_DEVICE void norm_forward(const NormForward& a, T type) {
    typedef Access<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = 4;
    const A access(type);
    const Moments moments = Moments::of(a);
    const Share<A, COUNT> share = Share<A, COUNT>::of(a.cols);
    u32 turn = 0;
#pragma unroll 1
    for (u64 base = static_cast<u64>(blockIdx.x) * blockDim.y; base < a.rows;
         base += static_cast<u64>(gridDim.x) * blockDim.y) {
        const u64 row = base + threadIdx.y;
        // A row that is not there has no blocks, but takes part in the sums.
        const bool live = row < a.rows;
        const u32 there = live ? share.there : 0;
        const Element* x = static_cast<const Element*>(a.x) + row * a.row_stride;
        Kept<A, COUNT> kept;
        #pragma unroll
        for (int i = 0; i < COUNT; ++i) kept.block[i] = has(there, i) ? A::load(share.template in<T>(x, i)) : A::zero();
        const float m = Op::CENTER ? origin_of(moments, type, access, kept, x, there, live, turn) : 0.0f;
        // The deviations, unpacked once.
        float d[COUNT][N];
        float sums[2] = {0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            access.unpack(kept.block[i], d[i]);
            if (!has(there, i)) continue;
            float square = 0.0f, sum = 0.0f;
#pragma unroll
            for (int k = 0; k < N; ++k) {
                if (Op::CENTER) d[i][k] -= m;
                square = math::fma_rn(d[i][k], d[i][k], square);
                sum += d[i][k];
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
            sums[1] = 0.0f;
        }
        const float c = Op::CENTER ? moments.average(sums[1]) : 0.0f;
        const float rstd = moments.rstd(moments.variance(sums[0], c));
        const Affine affine = {0.0f, rstd, -(c * rstd)};
        if (live && threadIdx.x == 0) {
            if (Op::CENTER && a.mean != nullptr) a.mean[row] = m + c;
            if (a.rstd != nullptr) a.rstd[row] = rstd;
        }
        Element* y = static_cast<Element*>(a.y) + row * a.row_stride;
        const auto write = [&](auto p) {
#pragma unroll
            for (int i = 0; i < COUNT; ++i) {
                if (!has(there, i)) continue;
                float gamma[N], beta[N];
                const u32 column = T::NARROW ? opaque(share.at(i)) : share.at(i);
                factors(p, a.gamma, column, gamma);
                terms(p, a.beta, column, beta);
#pragma unroll
                for (int k = 0; k < N; ++k)
                    d[i][k] = math::fma_rn(affine.template x_hat<Op>(d[i][k]), gamma[k], beta[k]);
                access.store(share.template in<T>(y, i), d[i]);
            }
        };
        // What fits into registers, by trial on every architecture.
        if (Op::CENTER) {
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
    typedef Access<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = VECTOR ? 16 / N : 4;
    const A access(type);
    const Moments moments = Moments::of(a);
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
    // All threads of a block go on together, those without a row too.
#pragma unroll 1
    for (u32 i = 0; i < turns; ++i, begin += step) {
        const bool live = i < live_turns;
        const u32 there = live ? share.there : 0;
        // Under way while the row itself is waited for.
        const Saved saved = Saved::load(a.mean, a.rstd, first_row + i * blockDim.y + threadIdx.y, live);
        Kept<A, COUNT> of_x, of_dy;
        if (fetches_ahead) {
            ahead.take(of_dy, of_x, there);
            const u64 later = begin + step;
            ahead.fetch(dy + later, x + later, share, i + 1 < live_turns ? share.there : 0, reads_x);
        } else {
            of_dy.load(dy + begin, share, there);
            of_x.load(x + begin, share, reads_x ? there : 0);
        }
        Slope slope = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
        if (reads_x) {
            float m = 0.0f;
            if (Op::CENTER)
                m = a.mean == nullptr ? origin_of(moments, type, access, of_x, x + begin, there, live, turn)
                                      : saved.mean;
            float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
            for (int i = 0; i < COUNT; ++i) {
                if (!has(there, i)) continue;
                float x_part[N], dy_part[N], gamma[N];
                access.unpack(of_x.block[i], x_part);
                access.unpack(of_dy.block[i], dy_part);
                factors(p, a.gamma, share.at(i), gamma);
                add_terms<Op, N>(sums, x_part, dy_part, gamma, m);
            }
            all_row_sums<Op>(sums, turn);
            slope = slope_of<Op>(moments, m, a.rstd != nullptr, saved.rstd, sums);
        }
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            if (!has(there, i)) continue;
            float x_part[N], dy_part[N], gamma[N];
            access.unpack(of_x.block[i], x_part);
            access.unpack(of_dy.block[i], dy_part);
            factors(p, a.gamma, share.at(i), gamma);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const float x_hat = slope.affine.template x_hat<Op>(x_part[k]);
                dgamma[i][k] = math::fma_rn(dy_part[k], x_hat, dgamma[i][k]);
                dbeta[i][k] += dy_part[k];
                dy_part[k] = slope.template dx<Op>(dy_part[k] * gamma[k], x_hat);
            }
            if (a.dx != nullptr) access.store(static_cast<Element*>(a.dx) + begin + share.at(i), dy_part);
        }
    }
    // Nothing is under way any more, and the place of the copies is free for the exchange.
    wait_copies<0>();
    float* exchange = reinterpret_cast<float*>(shared_memory()) + scratch;
    const u64 first = static_cast<u64>(blockIdx.x) * a.cols;
    store_columns<N, COUNT>(dgamma, a.dgamma == nullptr ? nullptr : a.dgamma + first, a.cols, exchange);
    store_columns<N, COUNT>(dbeta, a.dbeta == nullptr ? nullptr : a.dbeta + first, a.cols, exchange);
}

}  // namespace dyt

#define ROWNORM_VECTOR(dtype, T, op, Op)                                                                    \
    DYT_ENTRY(dyt_##op##_fwd_##dtype##_vector, NormForward, 1024, 1, dyt::norm_forward<Op, true>(a, T()))   \
    DYT_ENTRY(dyt_##op##_bwd_##dtype##_vector, NormBackward, 512, 1,                                        \
              dyt::with_few_factors(T(), a, [&](auto p) { dyt::norm_backward<Op, true>(a, T(), p); }))

#define ROWNORM_SCALAR(op, Op)                                                                          \
    DYT_ENTRY(dyt_##op##_fwd_scalar, NormForward, 1024, 1,                                              \
              dyt::with_dtype(a.dtype, [&](auto type) { dyt::norm_forward<Op, false>(a, type); }))      \
    DYT_ENTRY(dyt_##op##_bwd_scalar, NormBackward, 512, 1,                                              \
              dyt::with_types(a, [&](auto type, auto p) { dyt::norm_backward<Op, false>(a, type, p); }))

DYT_FOR_DTYPES(ROWNORM_VECTOR, layer_norm, dyt::LayerNorm)
DYT_FOR_DTYPES(ROWNORM_VECTOR, rms_norm, dyt::RmsNorm)
ROWNORM_SCALAR(layer_norm, dyt::LayerNorm)
ROWNORM_SCALAR(rms_norm, dyt::RmsNorm)
