// The parameter of each kernel, by value; the twins are in src/cuda/plan/args.rs, which says what the fields mean.
#pragma once

namespace dyt {

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

// `dtype`, the storage type of the tensors. Kernels that are compiled for one type do not look at it.
enum : u32 { DTYPE_F32, DTYPE_F16, DTYPE_BF16 };

struct PointwiseForward {
    const void* x;
    void* y;
    const void* gamma;
    const void* beta;
    const float* alpha;
    const float* shift;
    u64 rows;
    u64 len;
    u64 row_stride;
    u64 inner;
    u32 slabs;
    u32 steps;
    u32 dtype;
    u32 param_f32;
    float gamma_offset;
    u32 has_offset;
};

struct PointwiseBackward {
    const void* dy;
    const void* x;
    void* dx;
    const void* gamma;
    const float* alpha;
    const float* shift;
    float* dgamma;
    float* dbeta;
    float* dalpha;
    float* dshift;
    u64 rows;
    u64 len;
    u64 row_stride;
    u64 inner;
    u64 pieces;
    u32 slabs;
    u32 steps;
    u32 dtype;
    u32 param_f32;
    float gamma_offset;
    u32 has_offset;
};

struct NormForward {
    const void* x;
    void* y;
    const void* gamma;
    const void* beta;
    float* mean;
    float* rstd;
    u64 rows;
    u64 cols;
    u64 row_stride;
    u64 inner;
    float eps;
    float least_squares;
    float inverse_cols;
    float bessel;
    u64 cached;
    u32 dtype;
    u32 param_f32;
    float gamma_offset;
    u32 has_offset;
};

// 128 bytes: larger ones the compiler reads anew behind every barrier, which costs a tenth of the instructions.
struct NormBackward {
    const void* dy;
    const void* x;
    void* dx;
    const void* gamma;
    const float* mean;
    const float* rstd;
    float* dgamma;
    float* dbeta;
    u64 rows;
    u64 cols;
    u64 row_stride;
    u64 inner;
    float eps;
    float least_squares;
    float inverse_cols;
    float bessel;
    u32 cached;
    u32 steps;
    float gamma_offset;
    u8 dtype;
    u8 param_f32;
    u16 has_offset;
};

// What options add to the arguments of a pass: `added` is the residual, or dsum.
template <class Plain>
struct WithOptions : Plain {
    const void* added;
    void* sum;
    u64 head_stride;
    u64 y_row_stride;
    u64 y_head_stride;
    u64 group_rows;
    u64 group_cols;
    u64 group_chunks;
    u64 groups;
    u64 heads;
    // Of the divisions by heads and by group_rows.
    u64 head_inverse;
    u64 group_inverse;
    u32 form;
    u32 unused;
};

// `form`, how a kernel with options goes through memory: by 16 bytes, by elements, so through long rows, or
// through channels-first data.
enum : u32 { FORM_VECTOR, FORM_SCALAR, FORM_LONG_SCALAR, FORM_FIRST };

typedef WithOptions<PointwiseForward> PointwiseForwardOptions;
typedef WithOptions<PointwiseBackward> PointwiseBackwardOptions;
typedef WithOptions<NormForward> NormForwardOptions;
typedef WithOptions<NormBackward> NormBackwardOptions;

struct Fold {
    const float* dgamma_partials;
    const float* dbeta_partials;
    const float* dalpha_partials;
    const float* dshift_partials;
    float* dgamma;
    float* dbeta;
    float* dalpha;
    float* dshift;
    u64 cols;
    u64 inner;
    u64 slab;
    u64 pieces;
    u64 chunks;
    u64 scalars;
    u32 column_blocks;
    u32 accumulate;
    u64 groups;
};

}  // namespace dyt
