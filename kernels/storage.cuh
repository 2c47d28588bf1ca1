// Storage types: conversions, accesses of 16 bytes or of an element, gamma and beta, and where a type is chosen at run time.
#pragma once

#include "platform.cuh"

namespace dyt {

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

// The storage types: the element in memory, how many make 16 bytes, conversions, and element `i` from `p` on. Kernels take
// them as values, since a type that is chosen at run time has a state. f32 holds the square of every f16; of the types with
// WIDE it does not.
struct F32 {
    typedef float Element;
    static constexpr int WIDTH = 4;
    // Whether rounding to this type leaves fewer than 24 bits.
    static constexpr bool NARROW = false;
    static constexpr bool WIDE = true;
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
    static constexpr bool WIDE = false;
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
    static constexpr bool WIDE = true;
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
    static constexpr bool WIDE = true;
    DYT_METHOD float widen(Element e) const { return bf16 ? Bf16::widen(e) : F16::widen(e); }
    DYT_METHOD Element narrow(float v) const { return bf16 ? Bf16::narrow(v) : F16::narrow(v); }
    DYT_METHOD float at(const void* p, u64 i) const { return widen(static_cast<const Element*>(p)[i]); }
};

template <class A, class B>
constexpr bool same = false;
template <class A>
constexpr bool same<A, A> = true;

// gamma and beta where their type is chosen at each access: f32, or the tensors' type.
template <class T>
struct Either {
    T type;
    bool f32;
    DYT_METHOD float at(const void* p, u64 i) const { return f32 ? F32::at(p, i) : type.at(p, i); }
};

// gamma and beta of a type P, where something is added to gamma; -0 adds nothing.
template <class P>
struct Offset {
    P type;
    float gamma;
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
    body(Either<Half>{half, f32 != 0});
}

// As with_parameters, with the offset of gamma. By 16 bytes bodies of their own add it, so that others do not.
template <class T, class Args, class Body>
DYT_DEVICE void with_factors(T t, const Args& a, const Body& body) {
    if (a.has_offset != 0) {
        with_parameters(t, a.param_f32, [&](auto p) { body(Offset<decltype(p)>{p, a.gamma_offset}); });
    } else {
        with_parameters(t, a.param_f32, body);
    }
}

template <class Args, class Body>
DYT_DEVICE void with_factors(Half half, const Args& a, const Body& body) {
    body(Offset<Either<Half>>{{half, a.param_f32 != 0}, a.gamma_offset});
}

// The same, for large bodies: of 16 bits one body adds it, and chooses the type at each access.
template <class T, class Args, class Body>
DYT_DEVICE void with_few_factors(T t, const Args& a, const Body& body) {
    if (a.has_offset != 0) {
        body(Offset<Either<T>>{{t, a.param_f32 != 0}, a.gamma_offset});
    } else {
        with_parameters(t, a.param_f32, body);
    }
}

template <class Args, class Body>
DYT_DEVICE void with_few_factors(F32 t, const Args& a, const Body& body) {
    with_factors(t, a, body);
}

template <class Args, class Body>
DYT_DEVICE void with_few_factors(Half t, const Args& a, const Body& body) {
    with_factors(t, a, body);
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
        with_factors(type, a, [&](auto of_parameters) { body(type, of_parameters); });
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
    // What is read of values that are stored.
    DYT_METHOD static Block rounded(const float (&v)[WIDTH]) { return T::pack(v); }
    DYT_METHOD static void put(Element* p, const Block& block) { *reinterpret_cast<Raw*>(p) = block; }
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
    DYT_METHOD Block rounded(const float (&v)[1]) const { return type.narrow(v[0]); }
    DYT_METHOD static void put(Element* p, const Block& block) { *p = block; }

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

template <class T>
DYT_DEVICE void parameters(Either<T> p, const void* of, u64 column, float absent, float (&v)[8]) {
    if (p.f32) {
        parameters(F32(), of, column, absent, v);
    } else {
        parameters(p.type, of, column, absent, v);
    }
}

template <int N>
DYT_DEVICE void add_to_each(float (&v)[N], float term) {
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] += term;
}

// What N columns from `column` on are multiplied by: gamma with its offset, or 1.
template <class P, int N>
DYT_DEVICE void factors(P type, const void* gamma, u64 column, float (&v)[N]) {
    parameters(type, gamma, column, 1.0f, v);
}

template <class P, int N>
DYT_DEVICE void factors(Offset<P> p, const void* gamma, u64 column, float (&v)[N]) {
    parameters(p.type, gamma, column, 1.0f, v);
    add_to_each(v, p.gamma);
}

// What is added to them: beta, or -0, which changes no value.
template <class P, int N>
DYT_DEVICE void terms(P type, const void* beta, u64 column, float (&v)[N]) {
    parameters(type, beta, column, -0.0f, v);
}

template <class P, int N>
DYT_DEVICE void terms(Offset<P> p, const void* beta, u64 column, float (&v)[N]) {
    parameters(p.type, beta, column, -0.0f, v);
}

}  // namespace dyt

// An entry for each storage type: for the forms that go by 16 bytes.
#define DYT_FOR_DTYPES(ENTRY, ...)        \
    ENTRY(f32, dyt::F32, __VA_ARGS__)     \
    ENTRY(f16, dyt::F16, __VA_ARGS__)     \
    ENTRY(bf16, dyt::Bf16, __VA_ARGS__)
