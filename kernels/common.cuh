// What the kernels share: storage types, accesses of 16 bytes, sums, and the names of what CUDA and the host twin of
// simt/ do differently. No header of NVIDIA is needed.
#pragma once

#if !defined(__CUDACC__)
#include "simt.hpp"
#endif

#include "args.cuh"
#include "math.cuh"

#if defined(__CUDACC__)
#define DYT_DEVICE static __device__ __forceinline__
#define DYT_METHOD __device__ __forceinline__
// A kernel: its name, the struct that it takes, the most threads of a block, the blocks that a multiprocessor should
// hold, and the body, in which the parameter is `a`.
#define DYT_ENTRY(name, Struct, threads, blocks, ...) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name(const dyt::Struct a) { __VA_ARGS__; }
#else
#define DYT_DEVICE static inline
#define DYT_METHOD inline
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

// Bits and values.
#if defined(__CUDACC__)
DYT_DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }
DYT_DEVICE u32 bits_of(float value) { return __float_as_uint(value); }
#else
DYT_DEVICE float float_of(u32 bits) { return simt::bit_cast<float>(bits); }
DYT_DEVICE u32 bits_of(float value) { return simt::bit_cast<u32>(value); }
#endif

// The instructions of which each compiler has another idea, and conversions; all round to nearest even.
#if defined(__CUDACC__)
DYT_DEVICE float sqrt_rn(float v) {
    float r;
    asm("sqrt.rn.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

DYT_DEVICE float div_rn(float a, float b) {
    float r;
    asm("div.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
}

DYT_DEVICE float widen_f16(u16 bits) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(bits));
    return r;
}

DYT_DEVICE u16 narrow_f16(float v) {
    u16 r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(v));
    return r;
}
#else
DYT_DEVICE float sqrt_rn(float v) { return std::sqrt(v); }
DYT_DEVICE float div_rn(float a, float b) { return a / b; }
DYT_DEVICE float widen_f16(u16 bits) { return simt::widen_f16(bits); }
DYT_DEVICE u16 narrow_f16(float v) { return simt::narrow_f16(v); }
#endif

// To bf16 without the instruction of sm_80.
DYT_DEVICE u16 narrow_bf16_by_bits(float v) {
    const u32 bits = bits_of(v);
    const u32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return static_cast<u16>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : rounded);
}

// Two values, the first in the lower half.
#if defined(__CUDACC__) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
DYT_DEVICE u16 narrow_bf16(float v) {
    u16 r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(v));
    return r;
}

DYT_DEVICE u32 narrow_bf16_pair(float low, float high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

DYT_DEVICE u32 narrow_f16_pair(float low, float high) {
    u32 r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
#else
DYT_DEVICE u16 narrow_bf16(float v) { return narrow_bf16_by_bits(v); }

DYT_DEVICE u32 narrow_bf16_pair(float low, float high) {
    return narrow_bf16_by_bits(low) | static_cast<u32>(narrow_bf16_by_bits(high)) << 16;
}

DYT_DEVICE u32 narrow_f16_pair(float low, float high) {
    return narrow_f16(low) | static_cast<u32>(narrow_f16(high)) << 16;
}
#endif

// The storage types: what an element is in memory, how many make 16 bytes, and how they are read and written.
struct F32 {
    typedef float Element;
    static constexpr int WIDTH = 4;
    // Whether rounding to this type leaves fewer than 24 bits.
    static constexpr bool NARROW = false;
    DYT_METHOD static float widen(Element e) { return e; }
    DYT_METHOD static Element narrow(float v) { return v; }
    DYT_METHOD static void unpack(const Raw& raw, float (&v)[4]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) v[i] = float_of(raw.word[i]);
    }
    DYT_METHOD static Raw pack(const float (&v)[4]) {
        return Raw{{bits_of(v[0]), bits_of(v[1]), bits_of(v[2]), bits_of(v[3])}};
    }
};

struct F16 {
    typedef u16 Element;
    static constexpr int WIDTH = 8;
    static constexpr bool NARROW = true;
    DYT_METHOD static float widen(Element e) { return widen_f16(e); }
    DYT_METHOD static Element narrow(float v) { return narrow_f16(v); }
    DYT_METHOD static void unpack(const Raw& raw, float (&v)[8]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            v[2 * i] = widen_f16(static_cast<u16>(raw.word[i]));
            v[2 * i + 1] = widen_f16(static_cast<u16>(raw.word[i] >> 16));
        }
    }
    DYT_METHOD static Raw pack(const float (&v)[8]) {
        Raw raw;
#pragma unroll
        for (int i = 0; i < 4; ++i) raw.word[i] = narrow_f16_pair(v[2 * i], v[2 * i + 1]);
        return raw;
    }
};

struct Bf16 {
    typedef u16 Element;
    static constexpr int WIDTH = 8;
    static constexpr bool NARROW = true;
    DYT_METHOD static float widen(Element e) { return float_of(static_cast<u32>(e) << 16); }
    DYT_METHOD static Element narrow(float v) { return narrow_bf16(v); }
    DYT_METHOD static void unpack(const Raw& raw, float (&v)[8]) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            v[2 * i] = float_of(raw.word[i] << 16);
            v[2 * i + 1] = float_of(raw.word[i] & 0xffff0000u);
        }
    }
    DYT_METHOD static Raw pack(const float (&v)[8]) {
        Raw raw;
#pragma unroll
        for (int i = 0; i < 4; ++i) raw.word[i] = narrow_bf16_pair(v[2 * i], v[2 * i + 1]);
        return raw;
    }
};

DYT_DEVICE Raw load_raw(const void* p) { return *static_cast<const Raw*>(p); }

// Stores that nobody on the GPU reads soon: the first to leave the L2.
#if defined(__CUDACC__)
DYT_DEVICE void store_raw_streamed(void* p, const Raw& raw) {
    asm volatile("st.global.cs.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(raw.word[0]), "r"(raw.word[1]),
                 "r"(raw.word[2]), "r"(raw.word[3])
                 : "memory");
}
#else
DYT_DEVICE void store_raw_streamed(void* p, const Raw& raw) { *static_cast<Raw*>(p) = raw; }
#endif

// What a thread reads and writes at once: 16 bytes, or a single element where data is not aligned to 16 bytes.
template <class T, bool VECTOR>
struct Access;

template <class T>
struct Access<T, true> {
    typedef typename T::Element Element;
    typedef Raw Block;
    static constexpr int WIDTH = T::WIDTH;
    DYT_METHOD static Block zero() { return Raw{{0, 0, 0, 0}}; }
    DYT_METHOD static Block load(const Element* p) { return load_raw(p); }
    DYT_METHOD static void unpack(const Block& block, float (&v)[WIDTH]) { T::unpack(block, v); }
    DYT_METHOD static void store(Element* p, const float (&v)[WIDTH]) {
        *reinterpret_cast<Raw*>(p) = T::pack(v);
    }
    DYT_METHOD static void store_streamed(Element* p, const float (&v)[WIDTH]) { store_raw_streamed(p, T::pack(v)); }
};

template <class T>
struct Access<T, false> {
    typedef typename T::Element Element;
    typedef Element Block;
    static constexpr int WIDTH = 1;
    DYT_METHOD static Block zero() { return Block(); }
    DYT_METHOD static Block load(const Element* p) { return *p; }
    DYT_METHOD static void unpack(const Block& block, float (&v)[1]) { v[0] = T::widen(block); }
    DYT_METHOD static void store(Element* p, const float (&v)[1]) { *p = T::narrow(v[0]); }
    DYT_METHOD static void store_streamed(Element* p, const float (&v)[1]) { store(p, v); }
};

// gamma or beta at N columns that follow one another; P is its storage type. Kept as it is in memory, which takes
// half the registers for 16-bit types.
template <class P, int N>
struct Parameters {
    static constexpr int BLOCKS = N / P::WIDTH;
    Raw block[BLOCKS];
    // `p` is aligned to 16 bytes.
    DYT_METHOD void load(const typename P::Element* p) {
#pragma unroll
        for (int i = 0; i < BLOCKS; ++i) block[i] = load_raw(p + i * P::WIDTH);
    }
    DYT_METHOD void get(float (&v)[N]) const {
#pragma unroll
        for (int i = 0; i < BLOCKS; ++i) {
            float part[P::WIDTH];
            P::unpack(block[i], part);
#pragma unroll
            for (int k = 0; k < P::WIDTH; ++k) v[i * P::WIDTH + k] = part[k];
        }
    }
};

template <class P>
struct Parameters<P, 1> {
    typename P::Element element;
    DYT_METHOD void load(const typename P::Element* p) { element = *p; }
    DYT_METHOD void get(float (&v)[1]) const { v[0] = P::widen(element); }
};

template <int N>
DYT_DEVICE void fill(float (&v)[N], float value) {
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = value;
}

// N parameters from `p` on, or `absent` where there are none.
template <class P, int N>
DYT_DEVICE void parameters(const void* p, u64 column, float absent, float (&v)[N]) {
    if (p == nullptr) {
        fill(v, absent);
    } else {
        Parameters<P, N> some;
        some.load(static_cast<const typename P::Element*>(p) + column);
        some.get(v);
    }
}

// A sum that keeps what rounding takes from it (Knuth's two-sum).
struct Sum {
    float high;
    float low;
    DYT_METHOD void clear() {
        high = 0.0f;
        low = 0.0f;
    }
    DYT_METHOD void add(float term) {
        using math::add_rn;
        const float sum = add_rn(high, term);
        const float part = add_rn(sum, -high);
        const float error = add_rn(add_rn(high, -add_rn(sum, -part)), add_rn(term, -part));
        high = sum;
        low = add_rn(low, error);
    }
    // Where the sum is not finite the high part alone tells.
    DYT_METHOD float value() const {
        const float difference = math::add_rn(high, -high);
        return difference == 0.0f ? math::add_rn(high, low) : high;
    }
};

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
DYT_DEVICE void copy_async(void* shared, const void* global) { *static_cast<Raw*>(shared) = load_raw(global); }
DYT_DEVICE void commit_copies() {}
template <int PENDING>
DYT_DEVICE void wait_copies() {}
#endif

// Sums `value` over `lanes` threads that follow one another, a power of two within a warp; every one gets it.
DYT_DEVICE float lane_sum(float value, u32 lanes) {
#pragma unroll 5
    for (u32 apart = lanes / 2; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
    return value;
}

// As lane_sum, of sums that keep what rounding takes; the first of the threads gets it.
DYT_DEVICE Sum lane_sum(Sum sum, u32 lanes) {
#pragma unroll 5
    for (u32 apart = lanes / 2; apart > 0; apart /= 2) {
        const float high = __shfl_xor_sync(0xffffffffu, sum.high, apart);
        const float low = __shfl_xor_sync(0xffffffffu, sum.low, apart);
        sum.add(high);
        sum.low = math::add_rn(sum.low, low);
    }
    return sum;
}

// Sums each of K values over a warp of one row of threads, K a power of two: lane l gets that of value l / (32 / K). The
// first steps halve the values too, so that four take 6 shuffles instead of 20.
template <int K, u32 APART = 16>
struct Transposed {
    DYT_METHOD static float sum(const float (&values)[K]) {
        const bool upper = (threadIdx.x & APART) != 0;
        float half[K / 2];
#pragma unroll
        for (int k = 0; k < K / 2; ++k) {
            const float other = upper ? values[k] : values[K / 2 + k];
            half[k] = (upper ? values[K / 2 + k] : values[k]) + __shfl_xor_sync(0xffffffffu, other, APART);
        }
        return Transposed<K / 2, APART / 2>::sum(half);
    }
};

template <u32 APART>
struct Transposed<1, APART> {
    DYT_METHOD static float sum(const float (&values)[1]) { return lane_sum(values[0], 2 * APART); }
};

// N sums of f32 in memory that promises no more than their own alignment: by 16 bytes where `aligned`.
template <int N>
DYT_DEVICE void load_sums(const float* from, float (&sums)[N], bool aligned) {
    if (N % 4 == 0 && aligned) {
#pragma unroll
        for (int k = 0; k + 3 < N; k += 4) {
            float four[4];
            F32::unpack(load_raw(from + k), four);
#pragma unroll
            for (int i = 0; i < 4; ++i) sums[k + i] = four[i];
        }
    } else {
#pragma unroll
        for (int k = 0; k < N; ++k) sums[k] = from[k];
    }
}

template <int N>
DYT_DEVICE void store_sums(float* to, const float (&sums)[N], bool aligned) {
    if (N % 4 == 0 && aligned) {
#pragma unroll
        for (int k = 0; k + 3 < N; k += 4) {
            const float four[4] = {sums[k], sums[k + 1], sums[k + 2], sums[k + 3]};
            *reinterpret_cast<Raw*>(to + k) = F32::pack(four);
        }
    } else {
#pragma unroll
        for (int k = 0; k < N; ++k) to[k] = sums[k];
    }
}

DYT_DEVICE bool aligned_to_16(const void* p) { return reinterpret_cast<u64>(p) % 16 == 0; }

DYT_DEVICE u64 least(u64 a, u64 b) { return a < b ? a : b; }
DYT_DEVICE u64 most(u64 a, u64 b) { return a > b ? a : b; }

// a / b, by the shorter division of 32 bits where both fit.
DYT_DEVICE u64 quotient(u64 a, u64 b) {
    return ((a | b) >> 32) == 0 ? static_cast<u32>(a) / static_cast<u32>(b) : a / b;
}

}  // namespace dyt

// An instantiation for each pair of storage types.
#define DYT_FOR_STORAGE(ENTRY, ...)                   \
    ENTRY(f32_f32, dyt::F32, dyt::F32, __VA_ARGS__)   \
    ENTRY(f16_f16, dyt::F16, dyt::F16, __VA_ARGS__)   \
    ENTRY(f16_f32, dyt::F16, dyt::F32, __VA_ARGS__)   \
    ENTRY(bf16_bf16, dyt::Bf16, dyt::Bf16, __VA_ARGS__) \
    ENTRY(bf16_f32, dyt::Bf16, dyt::F32, __VA_ARGS__)
