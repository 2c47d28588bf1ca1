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

// The value, about whose origin the compiler knows nothing.
#if defined(__CUDACC__)
DYT_DEVICE u32 opaque(u32 v) {
    asm("" : "+r"(v));
    return v;
}
#else
DYT_DEVICE u32 opaque(u32 v) { return v; }
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

// The storage types: the element in memory, how many make 16 bytes, conversions, and element `i` from `p` on. Kernels take
// them as values, since a type that is chosen at run time has a state.
struct F32 {
    typedef float Element;
    static constexpr int WIDTH = 4;
    // Whether rounding to this type leaves fewer than 24 bits.
    static constexpr bool NARROW = false;
    DYT_METHOD static float widen(Element e) { return e; }
    DYT_METHOD static float at(const void* p, u64 i) { return widen(static_cast<const Element*>(p)[i]); }
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
    DYT_METHOD static float at(const void* p, u64 i) { return widen(static_cast<const Element*>(p)[i]); }
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
    DYT_METHOD static float at(const void* p, u64 i) { return widen(static_cast<const Element*>(p)[i]); }
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

// f16 or bf16, chosen at run time: for the forms that go by elements.
struct Half {
    bool bf16;
    typedef u16 Element;
    static constexpr bool NARROW = true;
    DYT_METHOD float widen(Element e) const { return bf16 ? Bf16::widen(e) : F16::widen(e); }
    DYT_METHOD Element narrow(float v) const { return bf16 ? Bf16::narrow(v) : F16::narrow(v); }
    DYT_METHOD float at(const void* p, u64 i) const { return widen(static_cast<const Element*>(p)[i]); }
};

// gamma and beta where their type is chosen for each element: f32, or the tensors' type.
struct Either {
    Half half;
    bool f32;
    DYT_METHOD float at(const void* p, u64 i) const { return f32 ? F32::at(p, i) : half.at(p, i); }
};

// Calls `body` with the storage type of gamma and beta, which is f32 or that of the tensors. By 16 bytes this branches
// once, so that the body is there for each; by elements it is there once.
template <class Body>
DYT_DEVICE void with_parameters(F32, u32, const Body& body) {
    body(F32());
}

template <class T, class Body>
DYT_DEVICE void with_parameters(T t, u32 f32, const Body& body) {
    if (f32 != 0) {
        body(F32());
    } else {
        body(t);
    }
}

template <class Body>
DYT_DEVICE void with_parameters(Half half, u32 f32, const Body& body) {
    body(Either{half, f32 != 0});
}

// Calls `body` with the storage type of the tensors: for the forms that go by elements.
template <class Body>
DYT_DEVICE void with_dtype(u32 dtype, const Body& body) {
    if (dtype == DTYPE_F32) {
        body(F32());
    } else {
        body(Half{dtype == DTYPE_BF16});
    }
}

// Calls `body` with both.
template <class Args, class Body>
DYT_DEVICE void with_types(const Args& a, const Body& body) {
    with_dtype(a.dtype, [&](auto type) {
        with_parameters(type, a.param_f32, [&](auto of_parameters) { body(type, of_parameters); });
    });
}

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
    DYT_METHOD explicit Access(T) {}
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
    DYT_METHOD explicit Access(T t) : type(t) {}
    DYT_METHOD void unpack(const Block& block, float (&v)[1]) const { v[0] = type.widen(block); }
    DYT_METHOD void store(Element* p, const float (&v)[1]) const { *p = type.narrow(v[0]); }
    DYT_METHOD void store_streamed(Element* p, const float (&v)[1]) const { store(p, v); }

private:
    T type;
};

template <int N>
DYT_DEVICE void fill(float (&v)[N], float value) {
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = value;
}

// The parameter at N columns from `column` on, or `absent` where there is none. By more than one it is aligned to 16 bytes.
template <class P>
DYT_DEVICE void parameters(P type, const void* p, u64 column, float absent, float (&v)[1]) {
    v[0] = p == nullptr ? absent : type.at(p, column);
}

template <class P, int N>
DYT_DEVICE void parameters(P, const void* p, u64 column, float absent, float (&v)[N]) {
    if (p == nullptr) {
        fill(v, absent);
        return;
    }
    const typename P::Element* from = static_cast<const typename P::Element*>(p) + column;
    // All loads come before the first is needed.
    Raw block[N / P::WIDTH];
#pragma unroll
    for (int i = 0; i < N / P::WIDTH; ++i) block[i] = load_raw(from + i * P::WIDTH);
#pragma unroll
    for (int i = 0; i < N / P::WIDTH; ++i) {
        float part[P::WIDTH];
        P::unpack(block[i], part);
#pragma unroll
        for (int k = 0; k < P::WIDTH; ++k) v[i * P::WIDTH + k] = part[k];
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

// An entry for each storage type: for the forms that go by 16 bytes.
#define DYT_FOR_DTYPES(ENTRY, ...)        \
    ENTRY(f32, dyt::F32, __VA_ARGS__)     \
    ENTRY(f16, dyt::F16, __VA_ARGS__)     \
    ENTRY(bf16, dyt::Bf16, __VA_ARGS__)
