// tanh, erf and their derivatives in f32. docs/math.md has the formulas and the largest errors.
//
// This file is CUDA C++ and, where no CUDA compiler reads it, plain C++17: then each instruction of the GPU below has a
// twin. ex2.approx and rcp.approx, which the GPU rounds its own way, are correctly rounded by their twins, and a test can
// put an error of its choice on top with DYT_MATH_EX2_ERROR and DYT_MATH_RCP_ERROR.
#pragma once

#if defined(__CUDACC__)
#define DYT_MATH static __device__ __forceinline__
#else
#include <cmath>
#define DYT_MATH static inline
#ifndef DYT_MATH_EX2_ERROR
#define DYT_MATH_EX2_ERROR(value) (value)
#endif
#ifndef DYT_MATH_RCP_ERROR
#define DYT_MATH_RCP_ERROR(value) (value)
#endif
#endif

namespace dyt {
namespace math {

// f(u) and f'(u).
struct Both {
    float f;
    float slope;
};

// <coefficients> by docs/fit/gpu.py
// (tanh a / a - 1)/a^2 in powers of a^2, a up to 0.65.
constexpr float TANH_NEAR_0 = -3.333327e-01f;
constexpr float TANH_NEAR_1 = 1.3330968e-01f;
constexpr float TANH_NEAR_2 = -5.3696617e-02f;
constexpr float TANH_NEAR_3 = 2.0493547e-02f;
constexpr float TANH_NEAR_4 = -5.5395253e-03f;
// erf a / a - 1 in powers of a^2, a up to 0.6.
constexpr float ERF_NEAR_0 = 1.2837917e-01f;
constexpr float ERF_NEAR_1 = -3.7612638e-01f;
constexpr float ERF_NEAR_2 = 1.12837225e-01f;
constexpr float ERF_NEAR_3 = -2.685772e-02f;
constexpr float ERF_NEAR_4 = 5.1775197e-03f;
constexpr float ERF_NEAR_5 = -7.357727e-04f;
// log2(1 - erf a) in powers of a, a from 0.6 to 3.95.
constexpr float LOG2_ERFC_0 = 1.11187765e-04f;
constexpr float LOG2_ERFC_1 = -1.6287864e+00f;
constexpr float LOG2_ERFC_2 = -9.1544086e-01f;
constexpr float LOG2_ERFC_3 = -1.5411636e-01f;
constexpr float LOG2_ERFC_4 = 3.4737885e-02f;
constexpr float LOG2_ERFC_5 = -5.390251e-03f;
constexpr float LOG2_ERFC_6 = 4.8529313e-04f;
constexpr float LOG2_ERFC_7 = -1.7145903e-05f;
// The same for results of 16 bits.
constexpr float LOG2_ERFC_16_0 = -1.9515118e-08f;
constexpr float LOG2_ERFC_16_1 = -1.6279069e+00f;
constexpr float LOG2_ERFC_16_2 = -9.183937e-01f;
constexpr float LOG2_ERFC_16_3 = -1.4888345e-01f;
constexpr float LOG2_ERFC_16_4 = 2.974541e-02f;
constexpr float LOG2_ERFC_16_5 = -2.9810427e-03f;
// </coefficients>

// From here on tanh is more than 1/2, so that 1 - (1 - tanh) loses nothing; below it is a polynomial.
constexpr float TANH_NEAR_END = 0.65f;
// The same of erf.
constexpr float ERF_NEAR_END = 0.6f;
// Below it the tangent at 0 is good enough for 16 bits.
constexpr float NEAR_END_16 = 0.0078125f;
// Beyond, erf' rounds to 0; short of where u^2 overflows.
constexpr float ERF_SLOPE_END = 11.0f;
constexpr float LOG2_E = 1.44269504f;
constexpr float LN2 = 0.693147181f;
constexpr float TWO_OVER_SQRT_PI = 1.12837917f;
constexpr float LN_TWO_OVER_SQRT_PI = 0.120782238f;
constexpr float LOG2_TWO_OVER_SQRT_PI = 0.174251935f;

// The instructions, by name, so that no compiler contracts or reorders what must be rounded as it stands.
#if defined(__CUDACC__)
DYT_MATH float fma_rn(float a, float b, float c) {
    float d;
    asm("fma.rn.f32 %0, %1, %2, %3;" : "=f"(d) : "f"(a), "f"(b), "f"(c));
    return d;
}

DYT_MATH float mul_rn(float a, float b) {
    float d;
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
}

DYT_MATH float add_rn(float a, float b) {
    float d;
    asm("add.rn.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
}

DYT_MATH float abs_of(float a) {
    float d;
    asm("abs.f32 %0, %1;" : "=f"(d) : "f"(a));
    return d;
}

// |a| with the sign of u.
DYT_MATH float signed_as(float a, float u) {
    float d;
    asm("copysign.f32 %0, %1, %2;" : "=f"(d) : "f"(u), "f"(a));
    return d;
}

// 2^x within 2 ulp; subnormal results are kept.
DYT_MATH float ex2(float x) {
    float d;
    asm("ex2.approx.f32 %0, %1;" : "=f"(d) : "f"(x));
    return d;
}

// 2^x within 2 ulp; 0 where that is below the normal numbers. Shorter than ex2.
DYT_MATH float ex2_flushed(float x) {
    float d;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(x));
    return d;
}

// 1/d within 1 ulp, for d neither subnormal nor so large that 1/d is.
DYT_MATH float rcp(float d) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(d));
    return r;
}
#else
DYT_MATH float fma_rn(float a, float b, float c) { return std::fma(a, b, c); }
DYT_MATH float mul_rn(float a, float b) { return a * b; }
DYT_MATH float add_rn(float a, float b) { return a + b; }
DYT_MATH float abs_of(float a) { return std::fabs(a); }
DYT_MATH float signed_as(float a, float u) { return std::copysign(a, u); }
DYT_MATH float ex2(float x) {
    return DYT_MATH_EX2_ERROR(static_cast<float>(std::exp2(static_cast<double>(x))));
}
DYT_MATH float ex2_flushed(float x) {
    const float y = ex2(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}
DYT_MATH float rcp(float d) { return DYT_MATH_RCP_ERROR(static_cast<float>(1.0 / static_cast<double>(d))); }
#endif

// tanh u near 0. Elsewhere any value.
DYT_MATH float tanh_near(float u) {
    const float z = mul_rn(u, u);
    float p = fma_rn(TANH_NEAR_4, z, TANH_NEAR_3);
    p = fma_rn(p, z, TANH_NEAR_2);
    p = fma_rn(p, z, TANH_NEAR_1);
    p = fma_rn(p, z, TANH_NEAR_0);
    return fma_rn(mul_rn(u, z), p, u);
}

// erf u near 0. Elsewhere any value.
DYT_MATH float erf_near(float u) {
    const float z = mul_rn(u, u);
    float p = fma_rn(ERF_NEAR_5, z, ERF_NEAR_4);
    p = fma_rn(p, z, ERF_NEAR_3);
    p = fma_rn(p, z, ERF_NEAR_2);
    p = fma_rn(p, z, ERF_NEAR_1);
    p = fma_rn(p, z, ERF_NEAR_0);
    return fma_rn(u, p, u);
}

// The one of the two that holds at |u| = a, `far` for NaN, with the sign of u (that of -0 got lost on the way).
DYT_MATH float near_or_far(float u, float a, float end, float near, float far) {
    return signed_as(a < end ? near : far, u);
}

}  // namespace math

// tanh u.
DYT_MATH float tanh_fwd(float u) {
    using namespace math;
    const float a = abs_of(u);
    const float e = ex2_flushed(mul_rn(a, -2.0f * LOG2_E));
    // 1 - 2e/(1 + e)
    const float r2 = rcp(fma_rn(e, 0.5f, 0.5f));
    const float far = fma_rn(-e, r2, 1.0f);
    return near_or_far(u, a, TANH_NEAR_END, tanh_near(u), far);
}

// tanh u for results stored in 16 bits, off by an eighth of a step of f16 at most. A store rounds by half a step.
DYT_MATH float tanh_fwd_16(float u) {
    using namespace math;
    const float a = abs_of(u);
    const float e = ex2_flushed(mul_rn(a, -2.0f * LOG2_E));
    const float far = fma_rn(-e, rcp(fma_rn(e, 0.5f, 0.5f)), 1.0f);
    return near_or_far(u, a, NEAR_END_16, a, far);
}

// tanh u and 1 - tanh^2 u.
DYT_MATH math::Both tanh_both(float u) {
    using namespace math;
    const float a = abs_of(u);
    // 4e, so that the slope is rounded once where it is subnormal.
    const float e4 = ex2(fma_rn(a, -2.0f * LOG2_E, 2.0f));
    // With q = 4e/(1 + e): tanh a = 1 - q/2, 1 - tanh^2 a = q (1 - q/4)
    const float q = mul_rn(e4, rcp(fma_rn(e4, 0.25f, 1.0f)));
    const float far = fma_rn(q, -0.5f, 1.0f);
    return Both{near_or_far(u, a, TANH_NEAR_END, tanh_near(u), far), mul_rn(q, fma_rn(q, -0.25f, 1.0f))};
}

// erf u.
DYT_MATH float erf_fwd(float u) {
    using namespace math;
    const float a = abs_of(u);
    // 1 - 2^log2(1 - erf a); the highest coefficient is negative, so that 2^x becomes 0 at infinity.
    float x = fma_rn(LOG2_ERFC_7, a, LOG2_ERFC_6);
    x = fma_rn(x, a, LOG2_ERFC_5);
    x = fma_rn(x, a, LOG2_ERFC_4);
    x = fma_rn(x, a, LOG2_ERFC_3);
    x = fma_rn(x, a, LOG2_ERFC_2);
    x = fma_rn(x, a, LOG2_ERFC_1);
    x = fma_rn(x, a, LOG2_ERFC_0);
    const float far = add_rn(1.0f, -ex2_flushed(x));
    return near_or_far(u, a, ERF_NEAR_END, erf_near(u), far);
}

// erf u for results stored in 16 bits, off by an eighth of a step of f16 at most.
DYT_MATH float erf_fwd_16(float u) {
    using namespace math;
    const float a = abs_of(u);
    float x = fma_rn(LOG2_ERFC_16_5, a, LOG2_ERFC_16_4);
    x = fma_rn(x, a, LOG2_ERFC_16_3);
    x = fma_rn(x, a, LOG2_ERFC_16_2);
    x = fma_rn(x, a, LOG2_ERFC_16_1);
    x = fma_rn(x, a, LOG2_ERFC_16_0);
    const float far = add_rn(1.0f, -ex2_flushed(x));
    return near_or_far(u, a, NEAR_END_16, mul_rn(a, TWO_OVER_SQRT_PI), far);
}

// erf u and 2/sqrt(pi) exp(-u^2).
DYT_MATH math::Both erf_both(float u) {
    using namespace math;
    const float a = abs_of(u);
    // Where u^2 overflows, inf - inf would be NaN; NaN passes.
    const float b = a > ERF_SLOPE_END ? ERF_SLOPE_END : a;
    // b^2 = high - below: rounded once it would cost 43 ulp of the result at u = 9.3.
    const float high = mul_rn(b, b);
    const float below = fma_rn(-b, b, high);
    const float x = fma_rn(high, -LOG2_E, LOG2_TWO_OVER_SQRT_PI);
    const float e = ex2(x);
    // What 2^x still lacks: ln(2/sqrt(pi)) - b^2 - x ln 2.
    const float rest = add_rn(fma_rn(x, -LN2, -high), add_rn(below, LN_TWO_OVER_SQRT_PI));
    return Both{erf_fwd(u), fma_rn(e, rest, e)};
}

// erf u and 2/sqrt(pi) exp(-u^2), shorter, the slope off by (2.5 + 1.3 u^2) 2^-23 of itself.
DYT_MATH math::Both erf_both_16(float u) {
    using namespace math;
    return Both{erf_fwd(u), ex2(fma_rn(mul_rn(u, u), -LOG2_E, LOG2_TWO_OVER_SQRT_PI))};
}

}  // namespace dyt
