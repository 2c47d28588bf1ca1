// The names of what CUDA and the host twin of simt/ do differently. No header of NVIDIA is needed.
#pragma once

#if !defined(__CUDACC__)
#include "simt.hpp"
#endif

#include "args.cuh"
#include "math.cuh"

#if defined(__CUDACC__)
#define DYT_DEVICE static __device__ __forceinline__
#define DYT_METHOD __device__ __forceinline__
#define DYT_APART static __device__ __noinline__
// A place that the compiler moves nothing across branches for.
#define DYT_MARK(name) asm volatile("// " name)
// A kernel: its name, the struct that it takes, the most threads of a block, the blocks that a multiprocessor should
// hold, and the body, in which the parameter is `a`.
#define DYT_ENTRY(name, Struct, threads, blocks, ...) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const dyt::Struct a) { __VA_ARGS__; }
#else
#define DYT_DEVICE static inline
#define DYT_METHOD inline
#define DYT_APART static
#define DYT_MARK(name)
#define DYT_ENTRY(name, Struct, threads, blocks, ...)                                                     \
    static void name(const dyt::Struct& a) { __VA_ARGS__; }                                               \
    static const simt::Entry name##_entry(#name, sizeof(dyt::Struct), threads, [](const void* parameter) { \
        name(*static_cast<const dyt::Struct*>(parameter));                                                \
    });
#endif

namespace dyt {

// 16 bytes, as they are in memory.
struct alignas(16) Raw {
    u32 word[4];
};

// The value, about whose origin the compiler knows nothing.
#if defined(__CUDACC__)
DYT_DEVICE u32 opaque(u32 v) {
    asm("" : "+r"(v));
    return v;
}
DYT_DEVICE u64 opaque(u64 v) {
    asm("" : "+l"(v));
    return v;
}
#else
DYT_DEVICE u32 opaque(u32 v) { return v; }
DYT_DEVICE u64 opaque(u64 v) { return v; }
#endif

// The upper half of a product.
#if defined(__CUDACC__)
DYT_DEVICE u64 mul_hi(u64 a, u64 b) { return __umul64hi(a, b); }
#else
DYT_DEVICE u64 mul_hi(u64 a, u64 b) { return static_cast<u64>(static_cast<unsigned __int128>(a) * b >> 64); }
#endif

// Dynamic shared memory; no kernel has any other.
#if defined(__CUDACC__)
extern __shared__ __align__(16) unsigned char dyt_shared[];
DYT_DEVICE unsigned char* shared_memory() { return dyt_shared; }
#else
DYT_DEVICE unsigned char* shared_memory() { return simt::shared_memory(); }
#endif

// Copies of 16 bytes into shared memory that arrive when their group is waited for. Before sm_80 they are there at once.
#if !defined(__CUDACC__)
DYT_DEVICE void copy_async(void* shared, const void* global) { simt::copy_async(shared, global); }
DYT_DEVICE void commit_copies() { simt::commit_copies(); }
template <int PENDING>
DYT_DEVICE void wait_copies() {
    simt::wait_copies(PENDING);
}
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
DYT_DEVICE void copy_async(void* shared, const void* global) {
    asm volatile(
        "{\n"
        ".reg .u64 to, from;\n"
        "cvta.to.shared.u64 to, %0;\n"
        "cvta.to.global.u64 from, %1;\n"
        "cp.async.cg.shared.global [to], [from], 16;\n"
        "}\n" ::"l"(shared),
        "l"(global)
        : "memory");
}
DYT_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
DYT_DEVICE void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
#else
DYT_DEVICE void copy_async(void* shared, const void* global) { *static_cast<Raw*>(shared) = *static_cast<const Raw*>(global); }
DYT_DEVICE void commit_copies() {}
template <int PENDING>
DYT_DEVICE void wait_copies() {}
#endif

}  // namespace dyt
