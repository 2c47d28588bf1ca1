// Holds kernels/math.cuh to its bounds on the host, against long double:
//
//     g++ -std=c++17 -O2 -ffp-contract=off docs/fit/gpu_check.cpp -o target/gpu_check
//     target/gpu_check [STEP]
//
// Every STEP-th float of either sign is tried (10007 unless told), and those next to the joints. The GPU's 2^x may be off
// by 2 ulp and its 1/x by 1: all nine combinations of the extremes are tried on top of correct rounding, so the bounds
// hold by more than what a processor does. Ends with 1 if a bound is passed.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

static int ex2_off = 0;
static int rcp_off = 0;

static float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// Moves a positive value by so many ulp. 0, 1 and what is not finite stay: the processor has them exactly. Subnormals too:
// the processor squares a normal number, which rounds once.
static float moved(float value, int off) {
    const bool stays = !(value >= 1.17549435e-38f) || value == 1.0f || std::isinf(value);
    return stays ? value : float_of(bits_of(value) + static_cast<uint32_t>(off));
}

#define DYT_MATH_EX2_ERROR(value) moved(value, ex2_off)
#define DYT_MATH_RCP_ERROR(value) moved(value, rcp_off)
#include "../../kernels/math.cuh"

// The unit in the last place of `value` in a type with so many bits and this least exponent (of frexp).
static long double ulp(long double value, int bits, int least) {
    int exponent;
    std::frexp(value, &exponent);
    return std::ldexp(1.0L, (exponent < least ? least : exponent) - bits);
}

// The largest error of one function, in units of its bound.
struct Check {
    const char* name;
    double worst;
    uint32_t at;

    void take(double error, float u) {
        if (!(error <= worst)) {
            worst = error;
            at = bits_of(u);
        }
    }
};

enum Name { TANH, TANH_BOTH, TANH_SLOPE, ERF, ERF_BOTH, ERF_SLOPE, ERF_SLOPE_16, TANH_16, ERF_16, COUNT };

static Check checks[COUNT] = {
    {"tanh_fwd, in 3.5 ulp", 0, 0},     {"tanh_both.f, in 3.5 ulp", 0, 0},     {"tanh_both.slope, in the room of dx", 0, 0},
    {"erf_fwd, in 3.5 ulp", 0, 0},      {"erf_both.f, in 3.5 ulp", 0, 0},      {"erf_both.slope, in the room of dx", 0, 0},
    {"erf_both_16.slope, same", 0, 0},  {"tanh_fwd_16, in 1/8 ulp of f16", 0, 0},
    {"erf_fwd_16, in 1/8 ulp of f16", 0, 0},
};

// An f of u, with the sign of u, in units of `allowed` ulp of the type.
static void take_value(Name name, float u, float got, long double want, double allowed, int bits, int least) {
    if (std::isnan(u)) return checks[name].take(std::isnan(got) ? 0 : 1e9, u);
    const bool good = std::isfinite(got) && std::fabs(got) <= 1.0f && std::signbit(got) == std::signbit(u);
    const long double error = std::fabs(got - want) / ulp(want, bits, least) / allowed;
    checks[name].take(good ? static_cast<double>(error) : 1e9, u);
}

// A slope, in units of what the bound of dx, `total` 2^-23 of itself and 2^-149 where it is subnormal, leaves to it:
// the three products of dx take 1.5, and half an ulp of u takes half an ulp of u times the logarithmic `growth` of f'.
static void take_slope(Name name, float u, float got, long double want, long double total, long double growth) {
    if (std::isnan(u)) return checks[name].take(std::isnan(got) ? 0 : 1e9, u);
    const long double by_u = std::isinf(u) ? 0 : 0.5L * ulp(u, 24, -125) * growth * 0x1p23L;
    long double room = want == 0 ? 0 : (total - 1.5L - by_u) * 0x1p-23L * want;
    if (want < 0x1p-126L) room += 0x1p-150L * 1.001L;
    const bool good = std::isfinite(got) && got >= 0.0f;
    checks[name].take(good ? static_cast<double>(std::fabs(got - want) / room) : 1e9, u);
}

static void take(float u) {
    const long double a = std::fabs(static_cast<long double>(u)), t = std::tanh(static_cast<long double>(u));
    const long double r = std::erf(static_cast<long double>(u)), e = std::exp(-2 * a);
    const long double sech2 = 4 * e / ((1 + e) * (1 + e));
    const long double gauss = 1.12837916709551257389615890312154517L * std::exp(-a * a);
    const dyt::math::Both th = dyt::tanh_both(u), er = dyt::erf_both(u);
    take_value(TANH, u, dyt::tanh_fwd(u), t, 3.5, 24, -125);
    take_value(TANH_BOTH, u, th.f, t, 3.5, 24, -125);
    take_value(ERF, u, dyt::erf_fwd(u), r, 3.5, 24, -125);
    take_value(ERF_BOTH, u, er.f, r, 3.5, 24, -125);
    take_slope(TANH_SLOPE, u, th.slope, sech2, 6 + 2 * a, 2 * std::fabs(t));
    take_slope(ERF_SLOPE, u, er.slope, gauss, 6 + 2 * a * a, 2 * a);
    take_slope(ERF_SLOPE_16, u, dyt::erf_both_16(u).slope, gauss, 6 + 2 * a * a, 2 * a);
    take_value(TANH_16, u, dyt::tanh_fwd_16(u), t, 0.125, 11, -13);
    take_value(ERF_16, u, dyt::erf_fwd_16(u), r, 0.125, 11, -13);
}

static void take_both_signs(uint32_t bits) {
    take(float_of(bits & 0x7fffffffu));
    take(float_of(bits | 0x80000000u));
}

int main(int count, char** arguments) {
    const uint64_t step = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 10007;
    // Zero, the normal numbers, where the formulas join, saturation, where slopes vanish, infinity, NaN.
    const float joints[] = {0.0f, 1.17549435e-38f, 0.0078125f, 0.6f, 0.65f, 3.92f, 3.95f, 9.01f, 9.19f, 9.29f, 10.2f,
                            11.0f, 22.9f, 43.67f, 44.36f, 51.9f, 52.7f, INFINITY, NAN};
    for (int k = 0; k < 9 && step > 0; ++k) {
        ex2_off = (k % 3 - 1) * 2;
        rcp_off = k / 3 - 1;
        for (uint64_t bits = 0; bits < 0x80000000u; bits += step) take_both_signs(static_cast<uint32_t>(bits));
        for (const float joint : joints) {
            for (int off = -300; off <= 300; ++off) take_both_signs(bits_of(joint) + static_cast<uint32_t>(off));
        }
    }
    bool passed = step > 0;
    for (const Check& check : checks) {
        std::printf("%-36s %.3f at 0x%08x\n", check.name, check.worst, check.at);
        passed = passed && check.worst <= 1.0;
    }
    return passed ? 0 : 1;
}
