// LayerNorm and RMSNorm. Deviations are taken from an origin m near the mean, and what rounding took from m is given
// back: with d = x - m and c = sum(d)/cols the variance is sum(d^2)/cols - c^2, and x^ = (d - c) rstd.
#include "common.cuh"

namespace dyt {

struct LayerNorm {
    static constexpr bool CENTER = true;
};

struct RmsNorm {
    static constexpr bool CENTER = false;
};

// What turns sums into statistics.
struct Moments {
    float cols;
    float eps;
    bool unbiased;

    DYT_METHOD float average(float sum) const { return div_rn(sum, cols); }

    // From the sums of d^2 and of d; rounding may not take it below 0, and NaN passes.
    DYT_METHOD float variance(float squares, float c) const {
        const float v = average(squares) - c * c;
        return v < 0.0f ? 0.0f : v;
    }

    DYT_METHOD float unbiased_std(float variance) const {
        return sqrt_rn(variance * div_rn(cols, cols - 1.0f));
    }

    DYT_METHOD float rstd(float variance) const {
        const float root = unbiased ? unbiased_std(variance) + eps : sqrt_rn(variance + eps);
        return div_rn(1.0f, root);
    }

    // The factor of x^ in dx/rstd from the sum of h x^; in the unbiased form 0 where std is, as its derivative is there.
    DYT_METHOD float projection(float dot, float variance, float rstd) const {
        if (!unbiased) return average(dot);
        const float std = unbiased_std(variance);
        return std > 0.0f ? div_rn(dot, (cols - 1.0f) * (std * rstd)) : std;
    }
};

// x^ = (x - m) rstd + shift.
struct Affine {
    float m;
    float rstd;
    float shift;
    template <class Op>
    DYT_METHOD float x_hat(float x) const {
        return Op::CENTER ? math::fma_rn(x - m, rstd, shift) : x * rstd;
    }
};

// x^, and dx = h rstd - (x^ b + a).
struct Slope {
    Affine affine;
    float a;
    float b;
    template <class Op>
    DYT_METHOD float dx(float h, float x_hat) const {
        const float along = Op::CENTER ? math::fma_rn(x_hat, b, a) : x_hat * b;
        return math::fma_rn(h, affine.rstd, -along);
    }
};

// The sums that a backward gathers in one pass over a row; RMSNorm needs the first two.
enum { SQUARES, PRODUCTS, DEVIATIONS, GRADIENTS };

template <class Op>
DYT_DEVICE Slope slope_of(const Moments& moments, float m, const float* saved, const float* sums) {
    const float c = Op::CENTER ? moments.average(sums[DEVIATIONS]) : 0.0f;
    const float variance = moments.variance(sums[SQUARES], c);
    const float rstd = saved != nullptr ? *saved : moments.rstd(variance);
    const float h = Op::CENTER ? sums[GRADIENTS] : 0.0f;
    const float dot = rstd * (Op::CENTER ? sums[PRODUCTS] - c * h : sums[PRODUCTS]);
    Slope slope;
    slope.affine.m = m;
    slope.affine.rstd = rstd;
    slope.affine.shift = -(c * rstd);
    slope.a = rstd * moments.average(h);
    slope.b = rstd * moments.projection(dot, variance, rstd);
    return slope;
}

// Adds up K values over the threads of a row: blockDim.x of them, which are a power of two within a warp, or whole
// warps. Calls take turns with two halves of shared memory, so that one barrier a call is enough.
template <int K>
DYT_DEVICE void row_sums(float (&values)[K], u32& turn) {
    if (blockDim.x <= 32) {
#pragma unroll
        for (int k = 0; k < K; ++k) values[k] = lane_sum(values[k], blockDim.x);
        return;
    }
    const u32 warps = blockDim.x / 32;
    float* half = reinterpret_cast<float*>(shared_memory()) + turn * (4 * warps * blockDim.y);
    float* scratch = half + threadIdx.y * warps * K;
    turn ^= 1;
#pragma unroll
    for (int k = 0; k < K; ++k) values[k] = lane_sum(values[k], 32);
    const u32 lane = threadIdx.x % 32;
    if (lane == 0) {
#pragma unroll
        for (int k = 0; k < K; ++k) scratch[threadIdx.x / 32 * K + k] = values[k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; ++k) values[k] = lane_sum(lane < warps ? scratch[lane * K + k] : 0.0f, 32);
}

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

// The sums of one row that the backward needs.
template <class Op, int N>
DYT_DEVICE void add_terms(float (&sums)[4], const float (&x)[N], const float (&dy)[N], const float (&gamma)[N], float m) {
    float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const float d = Op::CENTER ? x[k] - m : x[k];
        const float h = dy[k] * gamma[k];
        part[SQUARES] = math::fma_rn(d, d, part[SQUARES]);
        part[PRODUCTS] = math::fma_rn(h, d, part[PRODUCTS]);
        part[DEVIATIONS] += d;
        part[GRADIENTS] += h;
    }
#pragma unroll
    for (int k = 0; k < (Op::CENTER ? 4 : 2); ++k) sums[k] += part[k];
}

template <class Op>
DYT_DEVICE void all_row_sums(float (&sums)[4], u32& turn) {
    if (Op::CENTER) {
        row_sums<4>(sums, turn);
    } else {
        float two[2] = {sums[SQUARES], sums[PRODUCTS]};
        row_sums<2>(two, turn);
        sums[SQUARES] = two[0];
        sums[PRODUCTS] = two[1];
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
#pragma unroll 1
    for (u64 base = blockIdx.x * rows; base < least(a.rows, (blockIdx.x + 1) * rows); base += blockDim.y) {
        const u64 row = base + threadIdx.y;
        const u32 end = row < a.rows ? blocks : 0;
        const u64 begin = row * a.row_stride;
        const Element* x = static_cast<const Element*>(a.x) + begin;
        Kept<A, COUNT> of_x, of_dy;
        of_dy.load(static_cast<const Element*>(a.dy) + begin, end);
        of_x.load(x, reads_x ? end : 0);
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
    const u32 scratch = blockDim.x <= 32 ? 0 : blockDim.x * blockDim.y / 32 * 8;
    float* exchange = reinterpret_cast<float*>(shared_memory()) + scratch;
    const u64 first = static_cast<u64>(blockIdx.x) * a.cols;
    store_columns<N, COUNT>(dgamma, a.dgamma == nullptr ? nullptr : a.dgamma + first, a.cols, exchange);
    store_columns<N, COUNT>(dbeta, a.dbeta == nullptr ? nullptr : a.dbeta + first, a.cols, exchange);
}

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

template <int K>
DYT_DEVICE void fold_into(Sum (&totals)[K], const float (&part)[K]) {
#pragma unroll
    for (int k = 0; k < K; ++k) totals[k].add(part[k]);
}

template <class T, class A>
DYT_DEVICE float long_origin(const Moments& moments, const LongRow<A>& x, u64 blocks, bool seen, u32& turn) {
    constexpr int COUNT = Tile<A>::COUNT;
    const float first = T::widen(*x.row);
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

template <class T, class P, class Op, bool VECTOR>
DYT_DEVICE void norm_forward_long(const NormForward& a) {
    typedef Access<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = Tile<A>::COUNT;
    const Moments moments = {static_cast<float>(a.cols), a.eps, a.unbiased != 0};
    const u64 blocks = a.cols / N;
    u32 turn = 0;
    Raw* cache = reinterpret_cast<Raw*>(shared_memory() + blockDim.x);
#pragma unroll 1
    for (u64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const LongRow<A> x = {static_cast<const Element*>(a.x) + row * a.row_stride, cache, a.cached};
        const float m = Op::CENTER ? long_origin<T, A>(moments, x, blocks, false, turn) : 0.0f;
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
                A::unpack(block[i], v);
                parameters<P, N>(a.gamma, at * N, 1.0f, gamma);
                parameters<P, N>(a.beta, at * N, -0.0f, beta);
#pragma unroll
                for (int k = 0; k < N; ++k) v[k] = math::fma_rn(affine.x_hat<Op>(v[k]), gamma[k], beta[k]);
                A::store(y + at * N, v);
            }
        }
    }
}

// Adds to a partial sum, or begins it.
DYT_DEVICE void add_to(float* sum, float term, bool begins) { *sum = begins ? term : *sum + term; }

template <class T, class P, class Op, bool VECTOR>
DYT_DEVICE void norm_backward_long(const NormBackward& a) {
    typedef Access<T, VECTOR> A;
    typedef typename T::Element Element;
    constexpr int N = A::WIDTH, COUNT = Tile<A>::COUNT;
    const Moments moments = {static_cast<float>(a.cols), a.eps, a.unbiased != 0};
    const u64 blocks = a.cols / N;
    const bool reads_x = a.dx != nullptr || a.dgamma != nullptr;
    float* dgamma = a.dgamma == nullptr ? nullptr : a.dgamma + static_cast<u64>(blockIdx.x) * a.cols;
    float* dbeta = a.dbeta == nullptr ? nullptr : a.dbeta + static_cast<u64>(blockIdx.x) * a.cols;
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
                m = long_origin<T, A>(moments, x, blocks, false, turn);
            } else if (Op::CENTER) {
                m = a.mean[row];
            }
            Sum totals[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) totals[k].clear();
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
                    A::unpack(of_x[i], x_part);
                    A::unpack(of_dy[i], dy_part);
                    parameters<P, N>(a.gamma, at * N, 1.0f, gamma);
                    add_terms<Op, N>(part, x_part, dy_part, gamma, m);
                }
                fold_into(totals, part);
            }
            float sums[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) sums[k] = totals[k].value();
            all_row_sums<Op>(sums, turn);
            slope = slope_of<Op>(moments, m, a.rstd != nullptr ? a.rstd + row : nullptr, sums);
        }
#pragma unroll 1
        for (u64 at = threadIdx.x; at < blocks; at += blockDim.x) {
            float x_part[N], dy_part[N], gamma[N];
            A::unpack(reads_x ? x.again(at) : A::zero(), x_part);
            A::unpack(reads_x ? dy.again(at) : dy.first(at), dy_part);
            parameters<P, N>(a.gamma, at * N, 1.0f, gamma);
#pragma unroll
            for (int k = 0; k < N; ++k) {
                const float x_hat = slope.affine.x_hat<Op>(x_part[k]);
                if (dgamma != nullptr) add_to(dgamma + at * N + k, dy_part[k] * x_hat, row == begin);
                if (dbeta != nullptr) add_to(dbeta + at * N + k, dy_part[k], row == begin);
                dy_part[k] = slope.dx<Op>(dy_part[k] * gamma[k], x_hat);
            }
            if (a.dx != nullptr) A::store(static_cast<Element*>(a.dx) + offset + at * N, dy_part);
        }
    }
}

// Channels-first data: a warp has 32 positions along inner, each of which is a row of its own, and the warps of a block
// take turns with its columns.
struct Position {
    // The element of the first column.
    u64 begin;
    // The index of the row's statistics.
    u64 row;
    bool live;
    DYT_METHOD Position(u64 tile, u64 tiles, u64 inner, u64 row_stride) {
        const u64 n = quotient(tile, tiles);
        const u64 s = (tile - n * tiles) * 32 + threadIdx.x;
        live = s < inner;
        begin = n * row_stride + s;
        row = n * inner + s;
    }
};

// Additions to a sum before it is folded.
constexpr u32 FIRST_STEPS = 16;

// Adds up K values over the warps of a block.
template <int K>
DYT_DEVICE void warp_sums(float (&values)[K]) {
    float* exchange = reinterpret_cast<float*>(shared_memory());
    const u32 threads = blockDim.x * blockDim.y;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; ++k) exchange[k * threads + threadIdx.y * blockDim.x + threadIdx.x] = values[k];
    __syncthreads();
#pragma unroll
    for (int k = 0; k < K; ++k) {
        values[k] = 0.0f;
#pragma unroll 1
        for (u32 y = 0; y < blockDim.y; ++y) values[k] += exchange[k * threads + y * blockDim.x + threadIdx.x];
    }
}

template <class T>
DYT_DEVICE float first_origin(const Moments& moments, const typename T::Element* x, u64 cols, u64 inner) {
    const float first = T::widen(*x);
    Sum total[1];
    total[0].clear();
#pragma unroll 1
    for (u64 c = threadIdx.y; c < cols;) {
        float part[1] = {0.0f};
#pragma unroll 4
        for (u32 i = 0; i < FIRST_STEPS && c < cols; ++i, c += blockDim.y) part[0] += T::widen(x[c * inner]) - first;
        fold_into(total, part);
    }
    float sum[1] = {total[0].value()};
    warp_sums<1>(sum);
    return first + moments.average(sum[0]);
}

template <class T, class P, class Op>
DYT_DEVICE void norm_forward_first(const NormForward& a) {
    typedef typename T::Element Element;
    const Moments moments = {static_cast<float>(a.cols), a.eps, a.unbiased != 0};
    const u64 tiles = (a.inner + 31) / 32;
#pragma unroll 1
    for (u64 tile = blockIdx.x; tile < a.rows * tiles; tile += gridDim.x) {
        const Position at(tile, tiles, a.inner, a.row_stride);
        // Threads without a position go along on one that is there, and write nothing.
        const Element* x = static_cast<const Element*>(a.x) + (at.live ? at.begin : at.begin - threadIdx.x);
        const float m = Op::CENTER ? first_origin<T>(moments, x, a.cols, a.inner) : 0.0f;
        Sum totals[2];
        totals[0].clear();
        totals[1].clear();
#pragma unroll 1
        for (u64 c = threadIdx.y; c < a.cols;) {
            float part[2] = {0.0f, 0.0f};
#pragma unroll 4
            for (u32 i = 0; i < FIRST_STEPS && c < a.cols; ++i, c += blockDim.y) {
                const float value = T::widen(x[c * a.inner]);
                const float d = Op::CENTER ? value - m : value;
                part[0] = math::fma_rn(d, d, part[0]);
                part[1] += d;
            }
            fold_into(totals, part);
        }
        float sums[2] = {totals[0].value(), totals[1].value()};
        warp_sums<2>(sums);
        const float c = Op::CENTER ? moments.average(sums[1]) : 0.0f;
        const float rstd = moments.rstd(moments.variance(sums[0], c));
        const Affine affine = {m, rstd, -(c * rstd)};
        if (!at.live) continue;
        if (threadIdx.y == 0) {
            if (Op::CENTER && a.mean != nullptr) a.mean[at.row] = m + c;
            if (a.rstd != nullptr) a.rstd[at.row] = rstd;
        }
        Element* y = static_cast<Element*>(a.y) + at.begin;
#pragma unroll 1
        for (u64 column = threadIdx.y; column < a.cols; column += blockDim.y) {
            float gamma[1], beta[1];
            parameters<P, 1>(a.gamma, column, 1.0f, gamma);
            parameters<P, 1>(a.beta, column, -0.0f, beta);
            const float x_hat = affine.x_hat<Op>(T::widen(x[column * a.inner]));
            y[column * a.inner] = T::narrow(math::fma_rn(x_hat, gamma[0], beta[0]));
        }
    }
}

// What dx and x^ of a position are made of.
template <class T, class P, class Op>
DYT_DEVICE Slope first_slope(const Moments& moments, const NormBackward& a, const Position& at, u64 begin) {
    typedef typename T::Element Element;
    const Element* x = static_cast<const Element*>(a.x) + begin;
    const Element* dy = static_cast<const Element*>(a.dy) + begin;
    float m = 0.0f;
    if (Op::CENTER) {
        if (a.mean == nullptr) {
            m = first_origin<T>(moments, x, a.cols, a.inner);
        } else if (at.live) {
            m = a.mean[at.row];
        }
    }
    Sum totals[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) totals[k].clear();
#pragma unroll 1
    for (u64 c = threadIdx.y; c < a.cols;) {
        float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll 4
        for (u32 i = 0; i < FIRST_STEPS && c < a.cols; ++i, c += blockDim.y) {
            const float x_part[1] = {T::widen(x[c * a.inner])};
            const float dy_part[1] = {T::widen(dy[c * a.inner])};
            float gamma[1];
            parameters<P, 1>(a.gamma, c, 1.0f, gamma);
            add_terms<Op, 1>(part, x_part, dy_part, gamma, m);
        }
        fold_into(totals, part);
    }
    float sums[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[k] = totals[k].value();
    warp_sums<4>(sums);
    return slope_of<Op>(moments, m, at.live && a.rstd != nullptr ? a.rstd + at.row : nullptr, sums);
}

template <class T, class P, class Op>
DYT_DEVICE void norm_backward_first(const NormBackward& a) {
    typedef typename T::Element Element;
    const Moments moments = {static_cast<float>(a.cols), a.eps, a.unbiased != 0};
    const u64 tiles = (a.inner + 31) / 32;
    const bool reads_x = a.dx != nullptr || a.dgamma != nullptr;
    float* dgamma = a.dgamma == nullptr ? nullptr : a.dgamma + static_cast<u64>(blockIdx.x) * a.cols;
    float* dbeta = a.dbeta == nullptr ? nullptr : a.dbeta + static_cast<u64>(blockIdx.x) * a.cols;
    const u64 first = static_cast<u64>(blockIdx.x) * a.steps;
#pragma unroll 1
    for (u64 tile = first; tile < least(a.rows * tiles, first + a.steps); ++tile) {
        const Position at(tile, tiles, a.inner, a.row_stride);
        const u64 begin = at.live ? at.begin : at.begin - threadIdx.x;
        Slope slope = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f};
        if (reads_x) slope = first_slope<T, P, Op>(moments, a, at, begin);
        const Element* x = static_cast<const Element*>(a.x) + begin;
        const Element* dy = static_cast<const Element*>(a.dy) + begin;
#pragma unroll 1
        for (u64 c = threadIdx.y; c < a.cols; c += blockDim.y) {
            const float of_dy = at.live ? T::widen(dy[c * a.inner]) : 0.0f;
            const float x_hat = reads_x && at.live ? slope.affine.x_hat<Op>(T::widen(x[c * a.inner])) : 0.0f;
            float gamma[1];
            parameters<P, 1>(a.gamma, c, 1.0f, gamma);
            if (a.dx != nullptr && at.live)
                static_cast<Element*>(a.dx)[begin + c * a.inner] = T::narrow(slope.dx<Op>(of_dy * gamma[0], x_hat));
            if (dgamma != nullptr) {
                const float sum = lane_sum(of_dy * x_hat, 32);
                if (threadIdx.x == 0) add_to(dgamma + c, sum, tile == first);
            }
            if (dbeta != nullptr) {
                const float sum = lane_sum(of_dy, 32);
                if (threadIdx.x == 0) add_to(dbeta + c, sum, tile == first);
            }
        }
    }
}

}  // namespace dyt

#define ROWNORM(storage, T, P, op, Op)                                                                   \
    DYT_ENTRY(dyt_##op##_fwd_##storage##_vector, NormForward, 1024, 1, dyt::norm_forward<T, P, Op, true>(a)) \
    DYT_ENTRY(dyt_##op##_fwd_##storage##_scalar, NormForward, 1024, 1, dyt::norm_forward<T, P, Op, false>(a)) \
    DYT_ENTRY(dyt_##op##_fwd_##storage##_long_vector, NormForward, 1024, 1,                              \
              dyt::norm_forward_long<T, P, Op, true>(a))                                                 \
    DYT_ENTRY(dyt_##op##_fwd_##storage##_long_scalar, NormForward, 1024, 1,                              \
              dyt::norm_forward_long<T, P, Op, false>(a))                                                \
    DYT_ENTRY(dyt_##op##_fwd_##storage##_first, NormForward, 256, 4, dyt::norm_forward_first<T, P, Op>(a)) \
    DYT_ENTRY(dyt_##op##_bwd_##storage##_vector, NormBackward, 512, 1, dyt::norm_backward<T, P, Op, true>(a)) \
    DYT_ENTRY(dyt_##op##_bwd_##storage##_scalar, NormBackward, 512, 1, dyt::norm_backward<T, P, Op, false>(a)) \
    DYT_ENTRY(dyt_##op##_bwd_##storage##_long_vector, NormBackward, 512, 1,                              \
              dyt::norm_backward_long<T, P, Op, true>(a))                                                \
    DYT_ENTRY(dyt_##op##_bwd_##storage##_long_scalar, NormBackward, 512, 1,                              \
              dyt::norm_backward_long<T, P, Op, false>(a))                                               \
    DYT_ENTRY(dyt_##op##_bwd_##storage##_first, NormBackward, 256, 2, dyt::norm_backward_first<T, P, Op>(a))

DYT_FOR_STORAGE(ROWNORM, layer_norm, dyt::LayerNorm)
DYT_FOR_STORAGE(ROWNORM, rms_norm, dyt::RmsNorm)
