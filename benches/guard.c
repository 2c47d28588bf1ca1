/* One call of one case, for counting its instructions: guard LEVEL OP PASS DTYPE, with the numbers of dyt.h.
 * 64 x 768 elements run on the calling thread alone. guard.sh runs it under callgrind. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dyt.h"

enum { ROWS = 64, COLS = 768, ELEMENTS = ROWS * COLS };

static unsigned seed = 1;

/* Of about unit size, and never 0. */
static float value(void) {
    seed = seed * 1664525u + 1013904223u;
    return (float)((seed >> 8) | 1u) / 8388608.0f * 3.0f - 3.0f;
}

/* Values of a type: f32, or its upper half. */
static void *values(size_t count, unsigned dtype) {
    void *memory = aligned_alloc(64, (count * 4 + 63) / 64 * 64);
    if (memory == NULL) exit(3);
    for (size_t i = 0; i < count; i++) {
        float v = value();
        if (dtype == DYT_F32) {
            ((float *)memory)[i] = v;
        } else {
            uint32_t bits;
            memcpy(&bits, &v, sizeof bits);
            ((uint16_t *)memory)[i] = (uint16_t)(bits >> 16);
        }
    }
    return memory;
}

static void check(int status) {
    if (status != DYT_OK) {
        fprintf(stderr, "guard: %s\n", dyt_last_error());
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    unsigned op = (unsigned)atoi(argv[2]), pass = (unsigned)atoi(argv[3]), dtype = (unsigned)atoi(argv[4]);
    int pointwise = op == DYT_OP_DYT || op == DYT_OP_DERF;
    dyt_device *device;
    check(dyt_device_open(argv[1], &device));
    dyt_problem problem = {.size = sizeof problem, .op = op, .dtype = dtype, .param_dtype = dtype,
                           .eps = pointwise ? 0.0f : 1e-5f, .rows = ROWS, .cols = COLS, .inner = 1};
    float alpha = 0.5f, shift = 0.25f, dalpha, dshift;
    void *x = values(ELEMENTS, dtype), *dy = values(ELEMENTS, dtype), *out = values(ELEMENTS, dtype);
    void *gamma = values(COLS, dtype), *beta = values(COLS, dtype);
    void *mean = values(ROWS, DYT_F32), *rstd = values(ROWS, DYT_F32);
    void *dgamma = values(COLS, DYT_F32), *dbeta = values(COLS, DYT_F32);
    size_t bytes;
    check(dyt_workspace_size(device, &problem, pass, &bytes));
    void *workspace = values(bytes / 4 + 16, DYT_F32);
    if (pass == DYT_FORWARD) {
        dyt_forward_args args = {.size = sizeof args, .x = x, .gamma = gamma, .beta = beta, .y = out,
                                 .alpha = pointwise ? &alpha : NULL, .shift = op == DYT_OP_DERF ? &shift : NULL,
                                 .mean = op == DYT_OP_LAYER_NORM ? mean : NULL, .rstd = pointwise ? NULL : rstd};
        check(dyt_forward(device, &problem, &args, workspace, bytes, NULL));
    } else {
        dyt_backward_args args = {.size = sizeof args, .dy = dy, .x = x, .gamma = gamma, .dx = out,
                                  .alpha = pointwise ? &alpha : NULL, .shift = op == DYT_OP_DERF ? &shift : NULL,
                                  .mean = op == DYT_OP_LAYER_NORM ? mean : NULL, .rstd = pointwise ? NULL : rstd,
                                  .dalpha = pointwise ? &dalpha : NULL, .dshift = op == DYT_OP_DERF ? &dshift : NULL,
                                  .dgamma = dgamma, .dbeta = dbeta};
        check(dyt_backward(device, &problem, &args, workspace, bytes, NULL));
    }
    dyt_device_close(device);
    return 0;
}
