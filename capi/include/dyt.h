/* dyt: fused forward and backward kernels for DyT, Derf, LayerNorm and RMSNorm.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 * Made by cbindgen from capi/src; README.md beside it shows its use. */

#ifndef DYT_H
#define DYT_H

#include <stddef.h>
#include <stdint.h>

// The version of this ABI. A version that only appends fields or functions keeps the number.
#define DYT_ABI_VERSION 1

// The usual eps of LayerNorm.
#define DYT_LAYER_NORM_EPS 1e-5

// The usual eps of LayerNorm with DYT_STD_UNBIASED.
#define DYT_LAYER_NORM_UNBIASED_EPS 1e-6

// The usual eps of RMSNorm.
#define DYT_RMS_NORM_EPS 1e-6

// What a call returns. `dyt_last_error` has it in words.
typedef enum dyt_status {
    // Done; on a GPU, enqueued.
    DYT_OK = 0,
    // An argument is wrong. No output has been written.
    DYT_INVALID_ARGUMENT = 1,
    // The arguments are right, and this library or device cannot do it.
    DYT_UNSUPPORTED = 2,
    // The device is known by name, and not available here.
    DYT_NO_DEVICE = 3,
    // Memory could not be had.
    DYT_OUT_OF_MEMORY = 4,
    // The device or its driver failed.
    DYT_DEVICE_ERROR = 5,
    // A defect of this library.
    DYT_INTERNAL = 6,
} dyt_status;

// Storage types.
typedef enum dyt_dtype {
    // 32 bits, IEEE 754.
    DYT_F32 = 0,
    // 16 bits, IEEE 754.
    DYT_F16 = 1,
    // The upper 16 bits of an f32.
    DYT_BF16 = 2,
} dyt_dtype;

// Types of a quantised y: one byte an element, y = v / s rounded to nearest even and saturated. v is the op's result in f32.
typedef enum dyt_quant {
    // y is as x.
    DYT_QUANT_NONE = 0,
    // OCP's E4M3, up to 448. NaN stays NaN.
    DYT_QUANT_F8E4M3 = 1,
    // OCP's E5M2, up to 57344. NaN stays NaN.
    DYT_QUANT_F8E5M2 = 2,
    // A signed byte from -127 to 127. NaN gives 0.
    DYT_QUANT_I8 = 3,
} dyt_quant;

// Ops.
typedef enum dyt_op {
    // y = gamma * tanh(alpha * x) + beta
    DYT_OP_DYT = 0,
    // y = gamma * erf(alpha * x + shift) + beta
    DYT_OP_DERF = 1,
    // y = gamma * (x - mean) * rstd + beta, rstd by `dyt_std`
    DYT_OP_LAYER_NORM = 2,
    // y = gamma * x * rstd + beta with rstd = 1 / sqrt(mean(x^2) + eps)
    DYT_OP_RMS_NORM = 3,
} dyt_op;

// How LayerNorm makes rstd; `DYT_STD_BIASED` for every other op.
typedef enum dyt_std {
    // rstd = 1 / sqrt(sum((x - mean)^2) / cols + eps)
    DYT_STD_BIASED = 0,
    // rstd = 1 / (sqrt(sum((x - mean)^2) / (cols - 1)) + eps)
    DYT_STD_UNBIASED = 1,
} dyt_std;

// Directions.
typedef enum dyt_pass {
    // From x to y.
    DYT_FORWARD = 0,
    // From dy to dx and the gradients of the parameters.
    DYT_BACKWARD = 1,
} dyt_pass;

// A device. Every function but dyt_device_close may be called on one from several threads at a time.
typedef struct dyt_device dyt_device;

// What is to be computed. Zero it, set `size` to sizeof(dyt_problem), then the rest.
//
// Channels-last: x is rows * cols, row r begins at element r * row_stride, inner is 1, and parameters run along a row.
// Channels-first: x is N * C * S with rows = N, cols = C, inner = S; element (n, c, s) stands at
// n * row_stride + c * S + s. y, dx and dy have the stride of x.
//
// With heads, each of the rows is a token that has `heads` rows of cols, head_stride apart: the queries in a packed QKV.
// Row r of all rows * heads is head r % heads of token r / heads. y and dy may have strides of their own.
//
// A larger `size` than this library knows is accepted if the bytes that it does not know are 0. A smaller one that ends behind
// `inner` is accepted too; the fields behind it are then 0.
typedef struct dyt_problem {
    // sizeof(dyt_problem) of the caller.
    uint32_t size;
    // A `dyt_op`.
    uint32_t op;
    // The `dyt_dtype` of x, y, dy and dx.
    uint32_t dtype;
    // The `dyt_dtype` of gamma and beta: that of x, or f32.
    uint32_t param_dtype;
    // A `dyt_std`.
    uint32_t std;
    // 1: the gradients of parameters are added to what is there. 0: they overwrite it.
    uint32_t accumulate;
    // Keeps rstd finite; unused by DyT and Derf. 0 is 0, and no default: DYT_LAYER_NORM_EPS and its like are those of
    // this library.
    float eps;
    // 0.
    uint32_t reserved;
    // Rows; N of channels-first data. May be 0.
    int64_t rows;
    // Columns; C of channels-first data. At least 1.
    int64_t cols;
    // Elements from one row to the next; 0 means cols * inner.
    int64_t row_stride;
    // S of channels-first data; 1 or 0 for channels-last.
    int64_t inner;
    // The factor of each column is gamma + gamma_offset, rounded to f32; 1 where gamma is NULL. Finite.
    float gamma_offset;
    // A `dyt_quant`: what y of the forward is quantised to. A backward takes DYT_QUANT_NONE.
    uint32_t quant;
    // Of a quantised y. 0: `scale` is an input, one f32. 1: an output, rows * inner f32, as rstd.
    uint32_t quant_dynamic;
    // 0.
    uint32_t reserved2;
    // Neighbouring rows, counted with heads, that share gamma and beta; divides rows * heads. 0: all rows.
    int64_t param_rows;
    // Rows of a token; 1 or 0 without heads. For channels-last data.
    int64_t heads;
    // Elements from one head to the next; 0 means cols. Then row_stride 0 means heads * head_stride.
    int64_t head_stride;
    // Elements from one row, or token, of y and dy to the next; 0 means row_stride.
    int64_t y_row_stride;
    // Elements from one head of y and dy to the next; 0 means head_stride.
    int64_t y_head_stride;
} dyt_problem;

// The buffers of a forward. NULL where absent.
//
// alpha and shift are one f32 each, mean and rstd are rows * heads * inner f32, index n * inner + s. gamma and beta are
// (rows * heads / param_rows) * cols of param_dtype, or cols where all rows share them; dgamma and dbeta too.
typedef struct dyt_forward_args {
    // sizeof(dyt_forward_args) of the caller.
    uint32_t size;
    // 0.
    uint32_t reserved;
    // The input.
    const void *x;
    // DyT and Derf: the factor.
    const void *alpha;
    // Derf: the offset.
    const void *shift;
    // Of param_dtype; NULL means 1.
    const void *gamma;
    // Of param_dtype; NULL means 0.
    const void *beta;
    // The output. May be x or residual itself, if it is not quantised.
    void *y;
    // LayerNorm: the mean of each row, or NULL.
    void *mean;
    // LayerNorm and RMSNorm: rstd of each row, or NULL.
    void *rstd;
    // What is added to x before the op, or NULL. As x in type, shape and strides.
    const void *residual;
    // With residual: x + residual as it is stored, to which the op is applied. May be x or residual itself, and is not y.
    void *sum;
    // What a quantised y is divided by, or NULL: an input of one f32, or with `quant_dynamic` an output. Then it is the largest
    // |v| of each row / the largest value of the type, at least 2^-126; 1 where that |v| is 0. NaN is left out of it.
    void *scale;
} dyt_forward_args;

// The buffers of a backward. NULL where absent: a gradient that is not asked for is not written.
//
// The gradients of parameters are f32, whatever the parameters are.
typedef struct dyt_backward_args {
    // sizeof(dyt_backward_args) of the caller.
    uint32_t size;
    // 0.
    uint32_t reserved;
    // The gradient of y.
    const void *dy;
    // The input of the forward; its sum where it had a residual.
    const void *x;
    // DyT and Derf: the factor.
    const void *alpha;
    // Derf: the offset.
    const void *shift;
    // Of param_dtype; NULL means 1. Needed for dgamma.
    const void *gamma;
    // LayerNorm: the mean that the forward wrote, or NULL.
    const void *mean;
    // LayerNorm and RMSNorm: rstd that the forward wrote, or NULL.
    const void *rstd;
    // The gradient of x, or NULL. May be dy or dsum itself.
    void *dx;
    // DyT and Derf: one f32, or NULL.
    void *dalpha;
    // Derf: one f32, or NULL.
    void *dshift;
    // As many f32 as gamma has elements, or NULL.
    void *dgamma;
    // As many f32 as beta has elements, or NULL.
    void *dbeta;
    // What is added to dx before it is rounded, the gradient of the forward's sum, or NULL. As dx in type, shape and
    // strides.
    const void *dsum;
} dyt_backward_args;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// How many bytes of workspace a call needs, whatever gradients it asks for. pass is a dyt_pass. On failure *bytes is
// not written.
//
// # Safety
// device is open; problem has the bytes that its size says; bytes is writable.
int dyt_workspace_size(const struct dyt_device *device,
                       const struct dyt_problem *problem,
                       uint32_t pass,
                       size_t *bytes);

// The most that |y| of DyT and Derf is, whatever x: the largest |gamma + gamma_offset| + |beta| of a column. *bound / the largest
// value of a dyt_quant is a scale with which y never saturates; a bound of 0 stands for a scale of 1. gamma and beta are host
// pointers to cols of param_dtype, or NULL, which means 1 and 0. For the norms it is DYT_INVALID_ARGUMENT. On failure *bound is
// not written.
//
// # Safety
// problem has the bytes that its size says; gamma and beta are NULL or have cols elements; bound is writable.
int dyt_bound(const struct dyt_problem *problem,
              const void *gamma,
              const void *beta,
              float *bound);

// Runs a forward: y, and the statistics that are asked for. Nothing is allocated or kept.
//
// Every pointer is one into the device's memory: on the CPU any host pointer that is aligned for its elements, on CUDA
// any device pointer, on wgpu a handle of dyt_alloc, at whose beginning the argument begins. y may be x or residual
// itself, and so may sum, where y is another; no other overlap is allowed. workspace has at least the bytes of dyt_workspace_size, and may be NULL if those are 0. On
// the CPU the call has done its work when it returns, and stream is ignored. On a GPU it has enqueued it; on CUDA
// stream is a CUstream, NULL for the device's own, and on wgpu it is NULL. On failure no output has been written.
//
// # Safety
// device is open; problem and args have the bytes that their sizes say; the pointers of args and workspace have the
// elements that problem says, and nobody else uses the outputs and the workspace until the work is done.
int dyt_forward(const struct dyt_device *device,
                const struct dyt_problem *problem,
                const struct dyt_forward_args *args,
                void *workspace,
                size_t workspace_bytes,
                void *stream);

// Runs a backward: the gradients that are asked for. Nothing is allocated or kept.
//
// dx may be dy or dsum itself; no other overlap is allowed. The rest is as dyt_forward has it. alpha and shift are read when
// the work is done, and never on the host of a GPU.
//
// # Safety
// As dyt_forward.
int dyt_backward(const struct dyt_device *device,
                 const struct dyt_problem *problem,
                 const struct dyt_backward_args *args,
                 void *workspace,
                 size_t workspace_bytes,
                 void *stream);

// Opens the device of that name: "auto", "cpu", "cpu:LEVEL", "cuda", "cuda:N", "wgpu" or "wgpu:NAME". dyt_device_close
// closes it. On failure *out is NULL.
//
// "auto" is the best of this machine, or the one that the environment variable DYT_BACKEND names.
//
// # Safety
// name is a string that ends in NUL; out is writable.
int dyt_device_open(const char *name,
                    struct dyt_device **out);

// Closes a device, and frees what dyt_alloc gave on it. Nothing happens for NULL.
//
// # Safety
// device came from dyt_device_open, and neither it nor its memory is used again; no call on it is running.
void dyt_device_close(struct dyt_device *device);

// Writes the name of a device, such as "cpu:avx2", and a NUL behind it. A buffer of fewer than len bytes for both is
// refused, and nothing is written.
//
// # Safety
// device is open; buf is writable for len bytes.
int dyt_device_name(const struct dyt_device *device,
                    char *buf,
                    size_t len);

// Limits the threads of each call on the CPU from now on, the calling thread included. 0 takes the limit away; with 1 the
// library makes no thread. Without a limit, calls of 131,072 elements or more are divided among as many threads as the
// environment variable RAYON_NUM_THREADS says, or as there are processors. On a GPU nothing happens.
//
// # Safety
// device is open.
int dyt_set_threads(const struct dyt_device *device,
                    uint32_t threads);

// Allocates zeroed memory of the device. On the CPU it is host memory, aligned to 64 bytes. On CUDA it is a device
// pointer. On wgpu it is a handle: no arithmetic, and every argument begins at the beginning of one. dyt_free and
// dyt_device_close give it back. On failure *out is NULL.
//
// # Safety
// device is open; out is writable.
int dyt_alloc(const struct dyt_device *device,
              size_t bytes,
              void **out);

// Gives back what dyt_alloc gave on this device. Nothing happens for NULL; any other pointer is refused.
//
// # Safety
// device is open, and no call is using the memory, unless it is a handle: those calls keep it until they are done.
int dyt_free(const struct dyt_device *device,
             void *memory);

// Copies bytes from host memory to memory of the device, any number of them, behind the work that was asked for before
// on the device's own stream. src may be reused when it returns.
//
// # Safety
// device is open; dst and src have that many bytes, each in its memory.
int dyt_upload(const struct dyt_device *device,
               void *dst,
               const void *src,
               size_t bytes);

// Copies bytes from memory of the device to host memory, and waits for the work on the device's own stream that was
// asked for before. The bytes are there when it returns.
//
// # Safety
// device is open; dst and src have that many bytes, each in its memory.
int dyt_download(const struct dyt_device *device,
                 void *dst,
                 const void *src,
                 size_t bytes);

// Waits until everything that the device was asked for has been done. On the CPU it has when a call returns.
//
// # Safety
// device is open.
int dyt_synchronize(const struct dyt_device *device);

// The version of the ABI that this library has: `DYT_ABI_VERSION` of its own header.
uint32_t dyt_abi_version(void);

// The words for the last call of this thread that failed, or "" if none has. The pointer is valid until the thread's
// next failure, and as long as the thread.
const char *dyt_last_error(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DYT_H */
