// What the options of a call change: where rows begin, which gamma a row has, what joins x and dx. A kernel is compiled for
// arguments without options and for arguments with them, so that plain calls pay for none of this.
#pragma once

#include "common.cuh"

namespace dyt {

template <class Args>
constexpr bool HAS_OPTIONS = false;
template <class Plain>
constexpr bool HAS_OPTIONS<WithOptions<Plain>> = true;

// Where a row begins: in x, sum and dx, and in y or dy.
struct Begin {
    u64 x;
    u64 y;
};

// a / b, where `inverse` is 2^64 / b rounded up, and 0 for b = 1. No division of 64 bits: it is a call, which costs registers.
DYT_DEVICE u64 divided(u64 a, u64 b, u64 inverse) {
    if (inverse == 0) return a;
    const u64 over = mul_hi(a, inverse);
    return over * b > a ? over - 1 : over;
}

template <class Args>
DYT_DEVICE Begin begin_of(const Args& a, u64 row) {
    if constexpr (HAS_OPTIONS<Args>) {
        if (a.heads == 1) return Begin{row * a.row_stride, row * a.y_row_stride};
        const u64 token = divided(row, a.heads, a.head_inverse), head = row - token * a.heads;
        return Begin{token * a.row_stride + head * a.head_stride, token * a.y_row_stride + head * a.y_head_stride};
    } else {
        const u64 begin = row * a.row_stride;
        return Begin{begin, begin};
    }
}

// Of one of them; computed anew each time, for what rows have in common would take registers.
template <class Args>
DYT_DEVICE u64 x_begin(const Args& a, u64 row) {
    return begin_of(a, opaque(row)).x;
}

template <class Args>
DYT_DEVICE u64 y_begin(const Args& a, u64 row) {
    return begin_of(a, opaque(row)).y;
}

// The place of a row's group in gamma and beta.
template <class Args>
DYT_DEVICE u64 parameters_of(const Args& a, u64 row) {
    if constexpr (HAS_OPTIONS<Args>) {
        return a.groups == 1 ? 0 : divided(row, a.group_rows, a.group_inverse) * a.group_cols;
    } else {
        return 0;
    }
}

// Lines of work, which are rows, or tiles of channels-first data: from the first of a chunk to the last of its group.
struct Lines {
    u64 begin;
    u64 end;
};

// Those of a chunk of `steps` times `width` lines; a row has `of_row`.
template <class Args>
DYT_DEVICE Lines lines_of(const Args& a, u64 chunk, u32 steps, u32 width = 1, u64 of_row = 1) {
    if constexpr (HAS_OPTIONS<Args>) {
        const u64 group = a.groups == 1 ? 0 : static_cast<u32>(chunk) / static_cast<u32>(a.group_chunks);
        const u64 first = group * a.group_rows * of_row, end = first + a.group_rows * of_row;
        return Lines{first + (chunk - group * a.group_chunks) * steps * width, end};
    } else {
        return Lines{chunk * steps * width, a.rows * of_row};
    }
}

// The rows of a thread of a backward, one after the other.
template <class Args>
struct Walk {
    u64 begin;
    u64 step;
    // `column` is that of the thread.
    DYT_METHOD Walk(const Args& a, u64 row, u64 column) : begin(row * a.row_stride + column), step(blockDim.y * a.row_stride) {}
    // That which comes `rows` later.
    DYT_METHOD Begin after(u32 rows) const { return Begin{begin + rows * step, begin + rows * step}; }
    DYT_METHOD Begin here() const { return Begin{begin, begin}; }
    DYT_METHOD void advance() { begin += step; }
};

template <class Plain>
struct Walk<WithOptions<Plain>> {
    const WithOptions<Plain>& args;
    u64 row;
    u64 column;
    DYT_METHOD Walk(const WithOptions<Plain>& a, u64 first, u64 position) : args(a), row(first), column(position) {}
    // Computed anew each time: what rows have in common would take registers.
    DYT_METHOD Begin after(u32 rows) const {
        const Begin begin = begin_of(args, opaque(row) + static_cast<u64>(rows) * blockDim.y);
        return Begin{begin.x + column, begin.y + column};
    }
    DYT_METHOD Begin here() const { return after(0); }
    DYT_METHOD void advance() { row += blockDim.y; }
};

// Calls `body` with the storage type of the tensors, for forms that go by 16 bytes. The marks keep the compiler from computing
// ahead of the branches what they have in common: that takes registers which the longest of them needs.
template <class Args, class Body>
DYT_DEVICE void with_vectors(const Args& a, const Body& body) {
    if (a.dtype == DTYPE_F32) {
        DYT_MARK("f32");
        body(F32());
    } else if (a.dtype == DTYPE_F16) {
        DYT_MARK("f16");
        body(F16());
    } else {
        DYT_MARK("bf16");
        body(Bf16());
    }
}

// Adds a block of another tensor to values.
template <class A, int N>
DYT_DEVICE void add_block(const A& access, const typename A::Element* from, float (&v)[N]) {
    float other[N];
    access.unpack(access.load(from), other);
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] += other[i];
}

// Stores x + residual, rounded once, and leaves in `x` what an op would read of it.
template <class A>
DYT_DEVICE void add_residual(const A& access, typename A::Block& x, const typename A::Element* residual,
                             typename A::Element* sum) {
    float v[A::WIDTH];
    access.unpack(x, v);
    add_block(access, residual, v);
    x = access.rounded(v);
    access.put(sum, x);
}

// Adds dsum to a block of dx, whose first element is `at`.
template <class Args, class A, int N>
DYT_DEVICE void join(const Args& a, const A& access, u64 at, float (&dx)[N]) {
    if constexpr (HAS_OPTIONS<Args>) {
        if (a.added != nullptr) add_block(access, static_cast<const typename A::Element*>(a.added) + at, dx);
    }
}

// What the op reads: x, or the sum with a residual, which is in its place by then.
template <class Args>
DYT_DEVICE const void* read_by_op(const Args& a) {
    if constexpr (HAS_OPTIONS<Args>) {
        return a.added != nullptr ? a.sum : a.x;
    } else {
        return a.x;
    }
}

}  // namespace dyt
