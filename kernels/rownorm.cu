// LayerNorm and RMSNorm of rows that registers hold.
#include "norm.cuh"

namespace dyt {

// The blocks of a row that one thread keeps: block i is the (i * threads + thread)th.
template <class A, int COUNT>
struct Kept {
    typename A::Block block[COUNT];
    // Of the `end` blocks of a row at `row`.
    DYT_METHOD void load(const typename A::Element* row, u32 end) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const u32 at = i * blockDim.x + threadIdx.x;
            block[i] = at < end ? A::load(row + static_cast<u64>(at) * A::WIDTH) : A::zero();
        }
    }
};

// The next row of a thread, on its way into shared memory while the one before it is computed. A thread reads what it
// fetched itself, so that no barrier is needed.
template <class A, int COUNT>
struct Ahead {
    // Counted in 16 bytes of shared memory, which takes fewer registers than a pointer.
    u32 slot;
    DYT_METHOD void fetch(const typename A::Element* row, u32 end) {
        const u32 threads = blockDim.x * blockDim.y;
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const u32 at = i * blockDim.x + threadIdx.x;
            if (at < end) copy_async(place(slot + i * threads), row + static_cast<u64>(at) * A::WIDTH);
        }
    }
    // Behind `wait_copies`.
    DYT_METHOD void take(Kept<A, COUNT>& kept, u32 end) const {
        const u32 threads = blockDim.x * blockDim.y;
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const u32 at = i * blockDim.x + threadIdx.x;
            kept.block[i] = A::zero();
            if (at < end) take(kept.block[i], *place(slot + i * threads));
        }
    }

private:
    DYT_METHOD static Raw* place(u32 at) { return reinterpret_cast<Raw*>(shared_memory()) + at; }
    DYT_METHOD static void take(Raw& to, const Raw& from) { to = from; }
    // Elements are never fetched ahead.
    template <class Element>
    DYT_METHOD static void take(Element&, const Raw&) {}
};

// The origin: the first value of the row, and the mean of what the others differ from it, so that the mean of equal
// values is exact.
template <class A, int COUNT, class T>
DYT_DEVICE float origin_of(const Moments& moments, const Kept<A, COUNT>& kept, const typename A::Element* row,
                           u32 end, u32& turn) {
    const float first = end > 0 ? T::widen(*row) : 0.0f;
    float sum[1] = {0.0f};
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        if (i * blockDim.x + threadIdx.x >= end) continue;
        float x[A::WIDTH];
        A::unpack(kept.block[i], x);
        float part = 0.0f;
#pragma unroll
        for (int k = 0; k < A::WIDTH; ++k) part += x[k] - first;
        sum[0] += part;
    }
    row_sums<1>(sum, turn);
    return first + moments.average(sum[0]);
}

template <class T, class P, class Op, bool VECTOR>
DYT_DEVICE void norm_forward(const NormForward& a) {
    typedef Access<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = 4;
    const Moments moments = {static_cast<float>(a.cols), a.eps, a.unbiased != 0};
    const u32 blocks = static_cast<u32>(a.cols / N);
    u32 turn = 0;
#pragma unroll 1
    for (u64 base = static_cast<u64>(blockIdx.x) * blockDim.y; base < a.rows;
         base += static_cast<u64>(gridDim.x) * blockDim.y) {
        const u64 row = base + threadIdx.y;
        // A row that is not there has no blocks, but takes part in the sums.
        const u32 end = row < a.rows ? blocks : 0;
        const Element* x = static_cast<const Element*>(a.x) + row * a.row_stride;
        Kept<A, COUNT> kept;
        kept.load(x, end);
        const float m = Op::CENTER ? origin_of<A, COUNT, T>(moments, kept, x, end, turn) : 0.0f;
        float sums[2] = {0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            if (i * blockDim.x + threadIdx.x >= end) continue;
            float d[N], square = 0.0f, sum = 0.0f;
            A::unpack(kept.block[i], d);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                if (Op::CENTER) d[k] -= m;
                square = math::fma_rn(d[k], d[k], square);
                sum += d[k];
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
        const Affine affine = {m, rstd, -(c * rstd)};
        if (end > 0 && threadIdx.x == 0) {
            if (Op::CENTER && a.mean != nullptr) a.mean[row] = m + c;
            if (a.rstd != nullptr) a.rstd[row] = rstd;
        }
        Element* y = static_cast<Element*>(a.y) + row * a.row_stride;
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const u32 at = i * blockDim.x + threadIdx.x;
            if (at >= end) continue;
            const u64 column = static_cast<u64>(at) * N;
            float v[N], gamma[N], beta[N];
            A::unpack(kept.block[i], v);
            parameters<P, N>(a.gamma, column, 1.0f, gamma);
            parameters<P, N>(a.beta, column, -0.0f, beta);
#pragma unroll
            for (int k = 0; k < N; ++k) v[k] = math::fma_rn(affine.x_hat<Op>(v[k]), gamma[k], beta[k]);
            A::store(y + column, v);
        }
    }
}

// Adds up the sums of columns over the rows of a block's threads, and stores them; `columns` are those of a row.
template <int N, int COUNT>
DYT_DEVICE void store_columns(const float (&sums)[COUNT][N], float* out, u64 columns, float* exchange) {
    if (out == nullptr) return;
    if (blockDim.y == 1) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const u64 column = (static_cast<u64>(i) * blockDim.x + threadIdx.x) * N;
#pragma unroll
            for (int k = 0; k < N; ++k)
                if (column + k < columns) out[column + k] = sums[i][k];
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
#pragma unroll 1
        for (u32 y = 0; y < blockDim.y; ++y) sum.add(exchange[y * width + column]);
        out[column] = sum.value();
    }
}

template <class T, class P, class Op, bool VECTOR>
DYT_DEVICE void norm_backward(const NormBackward& a) {
    typedef Access<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = VECTOR ? 16 / N : 4;
    const Moments moments = {static_cast<float>(a.cols), a.eps, a.unbiased != 0};
    const u32 blocks = static_cast<u32>(a.cols / N);
    const bool reads_x = a.dx != nullptr || a.dgamma != nullptr;
    const u64 rows = static_cast<u64>(blockDim.y) * a.steps;
    float dgamma[COUNT][N], dbeta[COUNT][N];
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        fill(dgamma[i], 0.0f);
        fill(dbeta[i], 0.0f);
    }
    u32 turn = 0;
    const u32 scratch = blockDim.x <= 32 ? 0 : blockDim.x * blockDim.y / 32 * 8;
    // A row of f32 takes twice the registers, and has twice the bytes under way without it.
    const bool ahead = VECTOR && T::NARROW && a.cached != 0;
    const u32 slots = scratch / 4 + threadIdx.y * blockDim.x + threadIdx.x;
    Ahead<A, COUNT> next_x = {slots}, next_dy = {slots + COUNT * blockDim.x * blockDim.y};
    const u64 last = least(a.rows, (blockIdx.x + 1) * rows);
    const Element* all_x = static_cast<const Element*>(a.x);
    const Element* all_dy = static_cast<const Element*>(a.dy);
    if (ahead) {
        const u64 row = blockIdx.x * rows + threadIdx.y;
        const u32 end = row < last ? blocks : 0;
        next_dy.fetch(all_dy + row * a.row_stride, end);
        next_x.fetch(all_x + row * a.row_stride, reads_x ? end : 0);
        commit_copies();
    }
#pragma unroll 1
    for (u64 base = blockIdx.x * rows; base < last; base += blockDim.y) {
        const u64 row = base + threadIdx.y;
        const u32 end = row < last ? blocks : 0;
        const u64 begin = row * a.row_stride;
        const Element* x = all_x + begin;
        Kept<A, COUNT> of_x, of_dy;
        if (ahead) {
            wait_copies<0>();
            next_dy.take(of_dy, end);
            next_x.take(of_x, reads_x ? end : 0);
            const u32 more = row + blockDim.y < last ? blocks : 0;
            const u64 step = begin + blockDim.y * a.row_stride;
            next_dy.fetch(all_dy + step, more);
            next_x.fetch(all_x + step, reads_x ? more : 0);
            commit_copies();
        } else {
            of_dy.load(all_dy + begin, end);
            of_x.load(x, reads_x ? end : 0);
        }
        Slope slope = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
        if (reads_x) {
            float m = 0.0f;
            if (Op::CENTER) {
                if (a.mean == nullptr) {
                    m = origin_of<A, COUNT, T>(moments, of_x, x, end, turn);
                } else if (end > 0) {
                    m = a.mean[row];
                }
            }
            float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
            for (int i = 0; i < COUNT; ++i) {
                const u32 at = i * blockDim.x + threadIdx.x;
                if (at >= end) continue;
                float x_part[N], dy_part[N], gamma[N];
                A::unpack(of_x.block[i], x_part);
                A::unpack(of_dy.block[i], dy_part);
                parameters<P, N>(a.gamma, static_cast<u64>(at) * N, 1.0f, gamma);
                add_terms<Op, N>(sums, x_part, dy_part, gamma, m);
            }
            all_row_sums<Op>(sums, turn);
            slope = slope_of<Op>(moments, m, end > 0 && a.rstd != nullptr ? a.rstd + row : nullptr, sums);
        }
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            const u32 at = i * blockDim.x + threadIdx.x;
            if (at >= end) continue;
            const u64 column = static_cast<u64>(at) * N;
            float x_part[N], dy_part[N], gamma[N];
            A::unpack(of_x.block[i], x_part);
            A::unpack(of_dy.block[i], dy_part);
            parameters<P, N>(a.gamma, column, 1.0f, gamma);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const float x_hat = slope.affine.x_hat<Op>(x_part[k]);
                dgamma[i][k] = math::fma_rn(dy_part[k], x_hat, dgamma[i][k]);
                dbeta[i][k] += dy_part[k];
                dy_part[k] = slope.dx<Op>(dy_part[k] * gamma[k], x_hat);
            }
            if (a.dx != nullptr) A::store(static_cast<Element*>(a.dx) + begin + column, dy_part);
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

#define ROWNORM(storage, T, P, op, Op)                                                                   \
    DYT_ENTRY(dyt_##op##_fwd_##storage##_vector, NormForward, 1024, 1, dyt::norm_forward<T, P, Op, true>(a)) \
    DYT_ENTRY(dyt_##op##_fwd_##storage##_scalar, NormForward, 1024, 1, dyt::norm_forward<T, P, Op, false>(a)) \
    DYT_ENTRY(dyt_##op##_bwd_##storage##_vector, NormBackward, 512, 1, dyt::norm_backward<T, P, Op, true>(a)) \
    DYT_ENTRY(dyt_##op##_bwd_##storage##_scalar, NormBackward, 512, 1, dyt::norm_backward<T, P, Op, false>(a))

DYT_FOR_NORMS(ROWNORM)
