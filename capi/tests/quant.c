/* Quantised y: both kinds of scale, the bound, and what is refused. */
#include "common.h"

enum { ROWS = 3, COLS = 5, N = ROWS * COLS };

/* A number that the type holds. */
static double value_of(uint32_t quant, uint8_t byte) {
    if (quant == DYT_QUANT_I8) return byte < 128 ? byte : byte - 256;
    int digits = quant == DYT_QUANT_F8E4M3 ? 3 : 2, bias = quant == DYT_QUANT_F8E4M3 ? 7 : 15;
    int exponent = (byte & 127) >> digits, fraction = byte & ((1 << digits) - 1);
    double value = exponent == 0 ? ldexp(fraction, 1 - bias - digits)
                                 : ldexp(fraction + (1 << digits), exponent - bias - digits);
    return byte >> 7 ? -value : value;
}

static double largest_of(uint32_t quant) {
    return quant == DYT_QUANT_I8 ? 127 : quant == DYT_QUANT_F8E4M3 ? 448 : 57344;
}

/* The largest distance of q to the number that it is rounded to, and a little for q itself. */
static double step_of(uint32_t quant, double q) {
    if (quant == DYT_QUANT_I8) return 0.5001;
    int digits = quant == DYT_QUANT_F8E4M3 ? 3 : 2, least = quant == DYT_QUANT_F8E4M3 ? -6 : -14, exponent;
    frexp(q, &exponent);
    return ldexp(0.5001, (exponent - 1 < least ? least : exponent - 1) - digits);
}

static void forward(const dyt_device *device, uint32_t quant, int dynamic) {
    uint32_t seed = 7;
    Mem x = mem(device, N * 4), y = mem(device, N + 1), scale = mem(device, ROWS * 4);
    Mem gamma = mem(device, COLS * 4), alpha = mem(device, 4);
    for (size_t i = 0; i < N; i++) ((float *)x.host)[i] = number(&seed);
    for (size_t i = 0; i < COLS; i++) ((float *)gamma.host)[i] = number(&seed);
    *(float *)alpha.host = 0.5f;
    memset(y.host, 0x55, y.bytes);
    for (size_t i = 0; i < ROWS; i++) ((float *)scale.host)[i] = dynamic ? -1 : 0.5f / (float)largest_of(quant);
    push(device, &x), push(device, &y), push(device, &scale), push(device, &gamma), push(device, &alpha);
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, ROWS, COLS);
    p.quant = quant;
    p.quant_dynamic = (uint32_t)dynamic;
    dyt_forward_args a = forward_args();
    a.x = x.there;
    a.alpha = alpha.there;
    a.gamma = gamma.there;
    a.y = y.there;
    a.scale = scale.there;
    if (on_cuda) {
        REFUSED(DYT_UNSUPPORTED, "do not take scale", dyt_forward(device, &p, &a, NULL, 0, NULL));
    } else {
        OK(dyt_forward(device, &p, &a, NULL, 0, NULL));
        OK(dyt_synchronize(device));
        pull(device, &y), pull(device, &scale);
        for (size_t row = 0; row < ROWS; row++) {
            double v[COLS], most = 0;
            for (size_t c = 0; c < COLS; c++) {
                v[c] = ((float *)gamma.host)[c] * tanh(0.5 * ((float *)x.host)[row * COLS + c]);
                most = fmax(most, fabs(v[c]));
            }
            double s = ((float *)scale.host)[dynamic ? row : 0];
            CHECK(!dynamic || fabs(s * largest_of(quant) - most) < 1e-5 * most);
            for (size_t c = 0; c < COLS; c++) {
                double q = fmax(-largest_of(quant), fmin(largest_of(quant), v[c] / s));
                double got = value_of(quant, ((uint8_t *)y.host)[row * COLS + c]);
                CHECK(fabs(got - q) <= step_of(quant, q));
            }
        }
        CHECK(((uint8_t *)y.host)[N] == 0x55);
    }
    drop(device, &x), drop(device, &y), drop(device, &scale), drop(device, &gamma), drop(device, &alpha);
}

static void refusals(void) {
    dyt_device *device = NULL;
    OK(dyt_device_open("cpu", &device));
    float x[4] = {1, 2, 3, 4}, alpha = 1, scale = 1, space[256] = {0};
    int8_t y[4] = {5, 5, 5, 5};
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, 2, 2);
    p.quant = DYT_QUANT_I8;
    dyt_forward_args a, good = forward_args();
    good.x = x;
    good.y = y;
    good.alpha = &alpha;
    good.scale = &scale;
#define FORWARD(words, change)                                                             \
    a = good;                                                                              \
    change;                                                                                \
    REFUSED(DYT_INVALID_ARGUMENT, words, dyt_forward(device, &p, &a, NULL, 0, NULL))
    FORWARD("needs scale", a.scale = NULL);
    FORWARD("y shares memory with x", a.y = x);
    FORWARD("scale is not aligned", a.scale = (char *)&scale + 1);
    p.quant_dynamic = 1;
    FORWARD("needs scale", a.scale = NULL);
    FORWARD("scales shares memory with x", a.scale = x);
    p.quant = DYT_QUANT_NONE;
    FORWARD("y is not quantised", a.y = space);
    p.quant_dynamic = 0;
    FORWARD("y is not quantised", a.y = space);
    for (int i = 0; i < 4; i++) CHECK(y[i] == 5);
    /* A caller of an earlier version has no scale. */
    a.size = offsetof(dyt_forward_args, scale);
    OK(dyt_forward(device, &p, &a, NULL, 0, NULL));
    p.size = offsetof(dyt_problem, quant_dynamic);
    OK(dyt_forward(device, &p, &a, NULL, 0, NULL));
    p.size = sizeof p;
    p.quant = DYT_QUANT_I8;
    dyt_backward_args b = backward_args();
    b.dy = b.x = x;
    b.alpha = &alpha;
    b.dx = space;
    REFUSED(DYT_INVALID_ARGUMENT, "a backward takes", dyt_backward(device, &p, &b, space + 8, 4 * 240, NULL));
    dyt_device_close(device);
}

static void bounds(void) {
    float gamma[3] = {1, -3, 2}, beta[3] = {0.5f, 0.25f, -4}, bound = 9;
    dyt_problem p = problem_of(DYT_OP_DERF, DYT_F32, 2, 3);
    REFUSED(DYT_INVALID_ARGUMENT, "bound is NULL", dyt_bound(&p, gamma, beta, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "aligned", dyt_bound(&p, (char *)gamma + 1, beta, &bound));
    p.op = DYT_OP_RMS_NORM;
    REFUSED(DYT_INVALID_ARGUMENT, "no bound", dyt_bound(&p, gamma, beta, &bound));
    CHECK(bound == 9);
    p.op = DYT_OP_DERF;
    OK(dyt_bound(&p, gamma, beta, &bound));
    CHECK(bound == 6);
    OK(dyt_bound(&p, gamma, NULL, &bound));
    CHECK(bound == 3);
    OK(dyt_bound(&p, NULL, NULL, &bound));
    CHECK(bound == 1);
    p.gamma_offset = 1;
    OK(dyt_bound(&p, gamma, beta, &bound));
    CHECK(bound == 7);
}

int main(int argc, char **argv) {
    dyt_device *device = open_device(argc, argv);
    for (uint32_t quant = DYT_QUANT_F8E4M3; quant <= DYT_QUANT_I8; quant++) {
        forward(device, quant, 0);
        forward(device, quant, 1);
    }
    refusals();
    bounds();
    dyt_device_close(device);
    printf("quant: %d failures\n", failures);
    return failures != 0;
}
