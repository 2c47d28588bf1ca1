/* What the tests share: checks that say where they failed, small numbers, and the formulas in double. */
#ifndef DYT_TESTS_COMMON_H
#define DYT_TESTS_COMMON_H

#include "dyt.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

#define CHECK(condition)                                                                   \
    do {                                                                                   \
        if (!(condition)) {                                                                \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);        \
            failures++;                                                                    \
        }                                                                                  \
    } while (0)

/* The call returns this status, and the words for it hold this part. */
#define REFUSED(status, words, call) refused(__FILE__, __LINE__, status, words, call)
/* The call returns DYT_OK. */
#define OK(call) ok(__FILE__, __LINE__, call)

static inline void refused(const char *file, int line, int status, const char *words, int actual) {
    if (actual != status || strstr(dyt_last_error(), words) == NULL) {
        fprintf(stderr, "%s:%d: status %d, wanted %d; message \"%s\", wanted \"%s\"\n", file, line, actual, status,
                dyt_last_error(), words);
        failures++;
    }
}

static inline void ok(const char *file, int line, int actual) {
    if (actual != DYT_OK) {
        fprintf(stderr, "%s:%d: status %d: %s\n", file, line, actual, dyt_last_error());
        failures++;
    }
}

static inline void *memory(size_t bytes) {
    void *p = malloc(bytes == 0 ? 1 : bytes);
    if (p == NULL) {
        fprintf(stderr, "no memory\n");
        exit(2);
    }
    return p;
}

/* Whether the memory of the device under test is the host's. */
static int on_host = 1, on_cuda = 0;

/* Opens the device that the command line names, or the CPU. */
static inline dyt_device *open_device(int argc, char **argv) {
    dyt_device *device = NULL;
    const char *name = argc > 1 ? argv[1] : "cpu";
    OK(dyt_device_open(name, &device));
    if (device == NULL) exit(1);
    on_host = strncmp(name, "cpu", 3) == 0;
    on_cuda = strncmp(name, "cuda", 4) == 0;
    return device;
}

/* Bytes of the device, and the same ones on the host: where both are one memory, exactly as long, from malloc. */
typedef struct {
    void *host, *there;
    size_t bytes;
} Mem;

static inline Mem mem(const dyt_device *device, size_t bytes) {
    Mem m = {memory(bytes), NULL, bytes};
    if (on_host) m.there = m.host;
    else OK(dyt_alloc(device, bytes, &m.there));
    return m;
}
static inline void push(const dyt_device *device, const Mem *m) {
    if (!on_host) OK(dyt_upload(device, m->there, m->host, m->bytes));
}
static inline void pull(const dyt_device *device, const Mem *m) {
    if (!on_host) OK(dyt_download(device, m->host, m->there, m->bytes));
}
/* Copies what the host has of one to another. */
static inline void fill(const dyt_device *device, const Mem *to, const Mem *from) {
    memcpy(to->host, from->host, to->bytes);
    push(device, to);
}
static inline void drop(const dyt_device *device, Mem *m) {
    if (!on_host) OK(dyt_free(device, m->there));
    free(m->host);
}

/* Numbers in [-3, 3), the same ones for the same seed, 0 or normal numbers of each type. */
static inline float number(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 16) / 65536.0f * 6.0f - 3.0f;
}

static inline float half_to_float(uint16_t h) {
    int exponent = (h >> 10) & 31;
    float fraction = (float)(h & 1023) / 1024.0f;
    float value = exponent == 0 ? ldexpf(fraction, -14) : ldexpf(1.0f + fraction, exponent - 15);
    return h >> 15 ? -value : value;
}

/* Only for values that are normal numbers of the type; rounds to nearest. */
static inline uint16_t float_to_half(float value) {
    uint16_t sign = value < 0 ? 0x8000u : 0;
    int exponent;
    float fraction = frexpf(fabsf(value), &exponent);
    if (fraction == 0) {
        return sign;
    }
    return (uint16_t)(sign + (uint32_t)((exponent + 13) << 10) + (uint32_t)lrintf(ldexpf(fraction, 11)));
}

static inline float bf16_to_float(uint16_t b) {
    uint32_t bits = (uint32_t)b << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint16_t float_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

static inline size_t size_of(uint32_t dtype) { return dtype == DYT_F32 ? 4 : 2; }

static inline double get(const void *from, uint32_t dtype, size_t i) {
    switch (dtype) {
    case DYT_F16: return half_to_float(((const uint16_t *)from)[i]);
    case DYT_BF16: return bf16_to_float(((const uint16_t *)from)[i]);
    default: return ((const float *)from)[i];
    }
}

static inline void put(void *to, uint32_t dtype, size_t i, float value) {
    switch (dtype) {
    case DYT_F16: ((uint16_t *)to)[i] = float_to_half(value); break;
    case DYT_BF16: ((uint16_t *)to)[i] = float_to_bf16(value); break;
    default: ((float *)to)[i] = value;
    }
}

static inline dyt_problem problem_of(uint32_t op, uint32_t dtype, int64_t rows, int64_t cols) {
    dyt_problem p;
    memset(&p, 0, sizeof p);
    p.size = sizeof p;
    p.op = op;
    p.dtype = p.param_dtype = dtype;
    p.eps = 1e-5f;
    p.rows = rows;
    p.cols = cols;
    p.inner = 1;
    return p;
}

static inline dyt_forward_args forward_args(void) {
    dyt_forward_args a;
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    return a;
}

static inline dyt_backward_args backward_args(void) {
    dyt_backward_args a;
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    return a;
}

/* A forward of DyT without gamma and beta, on host memory, with alpha 0.5. */
static inline int dyt_alone(const dyt_device *device, const float *x, float *y, int64_t rows, int64_t cols) {
    float alpha = 0.5f;
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, rows, cols);
    dyt_forward_args a = forward_args();
    a.x = x;
    a.y = y;
    a.alpha = &alpha;
    return dyt_forward(device, &p, &a, NULL, 0, NULL);
}

#endif
