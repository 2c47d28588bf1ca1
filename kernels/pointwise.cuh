// DyT and Derf. A thread owns the same few positions of every row that it takes, so that gamma and beta stay in
// registers, and in the backward the sums of a column too. Positions are counted along a row of cols * inner elements;
// that of column c begin at c * inner.
#pragma once

#include "options.cuh"

namespace dyt {

// f alone, and f and f' together, for results in the storage type T: math.cuh is shorter for 16 bits.
struct Dyt {
    static constexpr bool SHIFT = false;
    template <class T>
    DYT_METHOD static float f(float u) {
        return T::NARROW ? tanh_fwd_16(u) : tanh_fwd(u);
    }
    template <class T>
    DYT_METHOD static math::Both both(float u) {
        return tanh_both(u);
    }
};

struct Derf {
    static constexpr bool SHIFT = true;
    template <class T>
    DYT_METHOD static float f(float u) {
        return T::NARROW ? erf_fwd_16(u) : erf_fwd(u);
    }
    template <class T>
    DYT_METHOD static math::Both both(float u) {
        return T::NARROW ? erf_both_16(u) : erf_both(u);
    }
};

// u is rounded once.
template <class Curve>
DYT_DEVICE float argument(float alpha, float x, float shift) {
    return Curve::SHIFT ? math::fma_rn(alpha, x, shift) : math::mul_rn(alpha, x);
}

// The parameters at the positions from `position` on, of the group that begins at `first`; `absent` where there are none.
template <class P, int N>
DYT_DEVICE void along(P type, const void* p, u64 first, u64 position, u64 inner, float absent, float (&v)[N]) {
    if (inner == 1 || p == nullptr) {
        parameters(type, p, first + position, absent, v);
        return;
    }
    u64 column = quotient(position, inner);
    u64 rest = position - column * inner;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        v[i] = type.at(p, first + column);
        // The column behind the last is not looked at.
        if (++rest == inner && i + 1 < N) {
            rest = 0;
            ++column;
        }
    }
}

// Rows whose loads are under way before the first is needed.
constexpr int FORWARD_AHEAD = 4;

template <class Curve, bool VECTOR, class T>
DYT_DEVICE void pointwise_forward(const PointwiseForward& a, T type) {
    typedef Access<T, VECTOR> A;
    const A access(type);
    constexpr int N = A::WIDTH;
    const u32 chunk = blockIdx.x / a.slabs;
    const u32 slab = blockIdx.x - chunk * a.slabs;
    const u64 position = (static_cast<u64>(slab) * blockDim.x + threadIdx.x) * N;
    if (position >= a.len) return;
    float gamma[N], beta[N];
    with_parameters(type, a.param_f32, [&](auto p) {
        along(p, a.gamma, 0, position, a.inner, 1.0f, gamma);
        // -0 + 0 would be +0.
        along(p, a.beta, 0, position, a.inner, -0.0f, beta);
    });
    add_to_each(gamma, a.gamma_offset);
    const float alpha = *a.alpha;
    const float shift = Curve::SHIFT ? *a.shift : 0.0f;
    const u64 first = static_cast<u64>(chunk) * blockDim.y * a.steps + threadIdx.y;
    const u64 step = static_cast<u64>(blockDim.y) * a.row_stride;
    const typename T::Element* x = static_cast<const typename T::Element*>(a.x) + first * a.row_stride + position;
    typename T::Element* y = static_cast<typename T::Element*>(a.y) + first * a.row_stride + position;
    // Rows of this thread.
    u32 left = 0;
    if (first < a.rows) left = static_cast<u32>(least(a.steps, quotient(a.rows - first + blockDim.y - 1, blockDim.y)));
#pragma unroll 1
    while (left > 0) {
        typename A::Block block[FORWARD_AHEAD];
#pragma unroll
        for (u32 i = 0; i < FORWARD_AHEAD; ++i)
            if (i < left) block[i] = A::load(x + i * step);
#pragma unroll
        for (u32 i = 0; i < FORWARD_AHEAD; ++i) {
            if (i >= left) break;
            float v[N];
            access.unpack(block[i], v);
#pragma unroll
            for (int k = 0; k < N; ++k)
                v[k] = math::fma_rn(gamma[k], Curve::template f<T>(argument<Curve>(alpha, v[k], shift)), beta[k]);
            access.store(y + i * step, v);
        }
        x += FORWARD_AHEAD * step;
        y += FORWARD_AHEAD * step;
        left -= left < FORWARD_AHEAD ? left : FORWARD_AHEAD;
    }
}

// The rows of dy and x that a thread has under way. By 16 bytes they go through shared memory, where each thread has a
// ring of its own and needs no barrier: loads that are only unrolled, a compiler moves down to where they are needed.
template <class T, bool VECTOR>
struct Rows;

template <class T>
struct Rows<T, true> {
    static constexpr u32 STAGES = 4;
    Raw* ring;
    DYT_METHOD void begin(u32 thread, u32 threads) {
        ring = reinterpret_cast<Raw*>(shared_memory()) + thread;
        stride = threads;
    }
    // Row `row` of the thread, `later` rows from here, goes into its slot of the ring, if there are so many.
    template <class Pointer, class Args>
    DYT_METHOD void fetch(u32 row, u32 count, Pointer dy, Pointer x, const Walk<Args>& walk, u32 later) {
        if (row < count) {
            const Begin at = walk.after(later);
            Raw* slot = ring + (row % STAGES) * 2 * stride;
            copy_async(slot, dy + at.y);
            copy_async(slot + stride, x + at.x);
        }
        commit_copies();
    }
    template <class Pointer, class Args>
    DYT_METHOD void prepare(u32 count, Pointer dy, Pointer x, const Walk<Args>& walk) {
#pragma unroll
        for (u32 row = 0; row + 1 < STAGES; ++row) fetch(row, count, dy, x, walk, row);
    }
    template <class Pointer, class Args>
    DYT_METHOD void take(u32 row, u32 count, Pointer dy, Pointer x, const Walk<Args>& walk, Raw& of_dy, Raw& of_x) {
        fetch(row + STAGES - 1, count, dy, x, walk, STAGES - 1);
        wait_copies<STAGES - 1>();
        const Raw* slot = ring + (row % STAGES) * 2 * stride;
        of_dy = slot[0];
        of_x = slot[stride];
    }

private:
    u32 stride;
};

template <class T>
struct Rows<T, false> {
    DYT_METHOD void begin(u32, u32) {}
    template <class Pointer, class Args>
    DYT_METHOD void prepare(u32, Pointer, Pointer, const Walk<Args>&) {}
    template <class Pointer, class Args>
    DYT_METHOD void take(u32, u32, Pointer dy, Pointer x, const Walk<Args>& walk, typename T::Element& of_dy,
                         typename T::Element& of_x) {
        const Begin at = walk.here();
        of_dy = dy[at.y];
        of_x = x[at.x];
    }
};

// The sums of a thread over its rows, which are 32 at most.
template <int N>
struct Sums {
    float gamma[N], beta[N], alpha, shift;
    DYT_METHOD void clear() {
        fill(gamma, 0.0f);
        fill(beta, 0.0f);
        alpha = 0.0f;
        shift = 0.0f;
    }
};

// dx of one row's positions, and their part of the sums.
template <class T, class Curve, class A, int N, class Args>
DYT_DEVICE void slope(const Args& a, const A& access, const typename A::Block& of_dy, const typename A::Block& of_x,
                      typename T::Element* dx, u64 at, float alpha, float shift, const float (&gamma)[N], Sums<N>& sums) {
    float dy[N], x[N];
    access.unpack(of_dy, dy);
    access.unpack(of_x, x);
    float alpha_row = 0.0f, shift_row = 0.0f;
#pragma unroll
    for (int k = 0; k < N; ++k) {
        const math::Both both = Curve::template both<T>(argument<Curve>(alpha, x[k], shift));
        const float h = math::mul_rn(dy[k], gamma[k]);
        const float g = math::mul_rn(h, both.slope);
        sums.gamma[k] = math::fma_rn(dy[k], both.f, sums.gamma[k]);
        sums.beta[k] += dy[k];
        alpha_row = math::fma_rn(g, x[k], alpha_row);
        if (Curve::SHIFT) shift_row += g;
        // The slope comes last: where it is subnormal, dx is rounded but once more.
        dy[k] = math::mul_rn(math::mul_rn(alpha, h), both.slope);
    }
    sums.alpha += alpha_row;
    if (Curve::SHIFT) sums.shift += shift_row;
    join(a, access, at, dy);
    if (dx != nullptr) access.store_streamed(dx + at, dy);
}
// Where a block's sums of columns go.
struct Target {
    u64 begin;
    u64 end;
    u64 inner;
    u64 slab;
    // The partial sums of this chunk.
    u64 first;
};

// The sums of each position in the rows of a block's threads, in shared memory: a row of it for each, and a column of
// padding, so that threads which follow one another may read down a column.
struct Exchange {
    float* at;
    u32 width;
    DYT_METHOD static Exchange of(u32 which, u32 width) {
        return Exchange{reinterpret_cast<float*>(shared_memory()) + which * blockDim.y * (width + 1), width};
    }
    template <int N>
    DYT_METHOD void put(const float (&sums)[N]) const {
#pragma unroll
        for (int k = 0; k < N; ++k) at[threadIdx.y * (width + 1) + threadIdx.x * N + k] = sums[k];
    }
    // The sums over all rows go to `out` where each position is a column, else into the first row here.
    DYT_METHOD void fold_rows(float* out, const Target& to) const {
        const u32 threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
        // Threads that share a position, all powers of two; a thread that reads the first row is the one that writes it.
        const u32 lanes = width >= threads ? 1 : (threads / width < 32 ? threads / width : 32);
        const u32 rows = blockDim.y / lanes;
        const u32 lane = thread % lanes;
#pragma unroll 1
        for (u32 position = thread / lanes; position < width; position += threads / lanes) {
            const float* from = at + lane * rows * (width + 1) + position;
            Sum sum;
            sum.clear();
#pragma unroll 4
            for (u32 row = 0; row < rows; ++row) sum.add(from[row * (width + 1)]);
            const float total = lane_sum(sum, lanes).value();
            if (lane != 0) continue;
            if (to.inner > 1) {
                at[position] = total;
            } else if (to.begin + position < to.end) {
                out[to.first + to.begin + position] = total;
            }
        }
    }
    // A warp for each column of several positions, of which this block may have only a part.
    DYT_METHOD void fold_positions(float* out, const Target& to) const {
        const u32 thread = threadIdx.y * blockDim.x + threadIdx.x;
        const u64 last = quotient(to.end - 1, to.inner), warps = blockDim.x * blockDim.y / 32;
#pragma unroll 1
        for (u64 column = quotient(to.begin, to.inner) + thread / 32; column <= last; column += warps) {
            const u64 from = most(to.begin, column * to.inner);
            const u64 until = least(to.end, (column + 1) * to.inner);
            float part = 0.0f;
#pragma unroll 1
            for (u64 i = from + thread % 32; i < until; i += 32) part += at[i - to.begin];
            part = lane_sum(part, 32);
            if (thread % 32 == 0) out[to.first + column + to.slab] = part;
        }
    }
};

// Adds up the sums of a block's positions over its rows of threads, and over the positions of a column.
template <int N>
DYT_DEVICE void store_columns(const Sums<N>& sums, float* dgamma, float* dbeta, const Target& to) {
    const Exchange gamma = Exchange::of(0, blockDim.x * N), beta = Exchange::of(1, blockDim.x * N);
    __syncthreads();
    if (dgamma != nullptr) gamma.put(sums.gamma);
    if (dbeta != nullptr) beta.put(sums.beta);
    __syncthreads();
    if (dgamma != nullptr) gamma.fold_rows(dgamma, to);
    if (dbeta != nullptr) beta.fold_rows(dbeta, to);
    if (to.inner == 1) return;
    __syncthreads();
    if (dgamma != nullptr) gamma.fold_positions(dgamma, to);
    if (dbeta != nullptr) beta.fold_positions(dbeta, to);
}

// Adds up a sum of each thread of the block.
DYT_DEVICE void store_scalar(float sum, float* out) {
    const u32 thread = threadIdx.y * blockDim.x + threadIdx.x;
    float* exchange = reinterpret_cast<float*>(shared_memory());
    sum = lane_sum(sum, 32);
    __syncthreads();
    if (thread % 32 == 0) exchange[thread / 32] = sum;
    __syncthreads();
    if (thread >= 32) return;
    const float total = lane_sum(thread < blockDim.x * blockDim.y / 32 ? exchange[thread] : 0.0f, 32);
    if (thread == 0) out[blockIdx.x] = total;
}

// dx of this thread's rows, and the sums over them.
template <class T, class Curve, bool VECTOR, class A, int N, class Args>
DYT_DEVICE void slopes(const Args& a, const A& access, Walk<Args> walk, u32 count, float alpha, float shift,
                       const float (&gamma)[N], Sums<N>& sums) {
    typedef typename T::Element Element;
    // One position for the three tensors: a pointer to each would be six registers more, and nvcc spills them.
    const Element* dy = static_cast<const Element*>(a.dy);
    const Element* x = static_cast<const Element*>(a.x);
    Element* dx = static_cast<Element*>(a.dx);
    Rows<T, VECTOR> rows;
    rows.begin(threadIdx.y * blockDim.x + threadIdx.x, blockDim.x * blockDim.y);
    rows.prepare(count, dy, x, walk);
#pragma unroll 1
    for (u32 row = 0; row < count; ++row) {
        typename A::Block of_dy, of_x;
        rows.take(row, count, dy, x, walk, of_dy, of_x);
        slope<T, Curve>(a, access, of_dy, of_x, dx, walk.here().x, alpha, shift, gamma, sums);
        walk.advance();
    }
    wait_copies<0>();
}

template <class Curve, bool VECTOR, class T, class Args>
DYT_DEVICE void pointwise_backward(const Args& a, T type) {
    typedef Access<T, VECTOR> A;
    constexpr int N = A::WIDTH;
    const A access(type);
    const u32 chunk = blockIdx.x / a.slabs;
    const u32 slab = blockIdx.x - chunk * a.slabs;
    const u64 position = (static_cast<u64>(slab) * blockDim.x + threadIdx.x) * N;
    const Lines lines = lines_of(a, chunk, blockDim.y, a.steps);
    const u64 first = lines.begin + threadIdx.y;
    const float alpha = *a.alpha;
    const float shift = Curve::SHIFT ? *a.shift : 0.0f;
    Sums<N> sums;
    sums.clear();
    if (position < a.len && first < lines.end) {
        float gamma[N];
        with_parameters(type, a.param_f32, [&](auto p) { along(p, a.gamma, parameters_of(a, lines.begin), position, a.inner, 1.0f, gamma); });
        add_to_each(gamma, a.gamma_offset);
        const u32 count = static_cast<u32>(least(a.steps, quotient(lines.end - first + blockDim.y - 1, blockDim.y)));
        slopes<T, Curve, VECTOR>(a, access, Walk<Args>(a, first, position), count, alpha, shift, gamma, sums);
    }
    const u64 width = static_cast<u64>(blockDim.x) * N;
    const Target to = {slab * width, least(a.len, (slab + 1) * width), a.inner, slab, chunk * a.pieces};
    if (a.dgamma != nullptr || a.dbeta != nullptr) store_columns<N>(sums, a.dgamma, a.dbeta, to);
    if (a.dalpha != nullptr) store_scalar(sums.alpha, a.dalpha);
    if (Curve::SHIFT && a.dshift != nullptr) store_scalar(sums.shift, a.dshift);
}

}  // namespace dyt
