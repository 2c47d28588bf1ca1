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
    const void* residual;
    void* sum;
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
    const void* dsum;
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
    const void* residual;
    void* sum;
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
    float gamma_offset;
    u8 dtype;
    u8 param_f32;
    u16 has_offset;
};

// 128 bytes: larger ones the compiler reads anew behind every barrier, which costs a tenth of the instructions.
struct NormBackward {
    const void* dy;
    const void* x;
    const void* dsum;
    void* dx;
    const void* gamma;
    const float* mean;
    const float* rstd;
    float* dgamma;
    float* dbeta;
    u64 rows;
    u64 cols;
    u64 row_stride;
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

// That of channels-first data.
struct NormFirstBackward : NormBackward {
    u64 inner;
};

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
};

}  // namespace dyt
