// Runs two builds of libdyt side by side on the grid of shapes, and prints the time of the new one as a part of the old
// one's time for each cell: compare OLD.so NEW.so [DEVICE [THREADS [FILTER]]].
//
// Both are called in turn, in an order that changes by chance, on the same buffers; a cell is the median of the ratios of
// neighbouring samples. The exit status is 1 where a cell is more than LIMIT slower in each of three runs.
#define _GNU_SOURCE
#include "dyt.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define LIMIT 1.03
#define RUNS 3
#define MOST 101

typedef struct library {
    int (*open)(const char *, dyt_device **);
    int (*workspace)(const dyt_device *, const dyt_problem *, uint32_t, size_t *);
    int (*forward)(const dyt_device *, const dyt_problem *, const dyt_forward_args *, void *, size_t, void *);
    int (*backward)(const dyt_device *, const dyt_problem *, const dyt_backward_args *, void *, size_t, void *);
    const char *(*error)(void);
    dyt_device *device;
} library;

typedef struct shape {
    int64_t rows, cols, inner;
    int large;
} shape;

// Within caches and beyond them, powers of two and ragged rows, one row, channels-first.
static const shape shapes[] = {
    {64, 768, 1, 0},   {8, 4096, 1, 0},   {512, 768, 1, 0},  {197, 1000, 1, 0},  {1024, 17, 1, 0},
    {1, 4096, 1, 0},   {256, 1024, 1, 0}, {2, 96, 3136, 0},  {8, 768, 49, 0},    {16384, 768, 1, 1},
    {4096, 4096, 1, 1},
};
static const char *const ops[] = {"dyt", "derf", "layer_norm", "rms_norm"};
static const char *const dtypes[] = {"f32", "f16", "bf16"};
enum { X, DY, OUT, GAMMA, BETA, DGAMMA, DBETA, MEAN, RSTD, WORKSPACE, BUFFERS };

static void *symbol(void *handle, const char *name) {
    void *found = dlsym(handle, name);
    if (!found) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    return found;
}

static library load(const char *path, const char *device) {
    // Each keeps its own symbols.
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    library lib = {symbol(handle, "dyt_device_open"), symbol(handle, "dyt_workspace_size"), symbol(handle, "dyt_forward"),
                   symbol(handle, "dyt_backward"),    symbol(handle, "dyt_last_error"),     NULL};
    if (lib.open(device, &lib.device)) {
        fprintf(stderr, "%s: %s\n", path, lib.error());
        exit(2);
    }
    return lib;
}

// Memory that begins so many bytes behind a page's begin, as malloc gives large blocks.
static void *memory(size_t bytes, size_t offset) {
    char *p = mmap(NULL, bytes + offset + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p + offset;
}

static uint32_t state = 1;
static float uniform(void) {
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / (1 << 24);
}

static void fill(void *p, int64_t n, int dtype, float scale) {
    for (int64_t i = 0; i < n; i++) {
        // About normal.
        float v = scale * (uniform() + uniform() + uniform() + uniform() - 2) * 1.7f;
        if (dtype == DYT_F32) {
            ((float *)p)[i] = v;
        } else if (dtype == DYT_BF16) {
            uint32_t bits;
            memcpy(&bits, &v, 4);
            ((uint16_t *)p)[i] = bits >> 16;
        } else {
            _Float16 half = (_Float16)v;
            memcpy((uint16_t *)p + i, &half, 2);
        }
    }
}

static void call(library *lib, const dyt_problem *problem, int backward, void **b, size_t bytes) {
    static const float alpha = 0.8f, shift = 0.1f;
    static float dalpha, dshift;
    int pointwise = problem->op <= DYT_OP_DERF, derf = problem->op == DYT_OP_DERF, layer = problem->op == DYT_OP_LAYER_NORM;
    const void *a = pointwise ? &alpha : NULL, *s = derf ? &shift : NULL;
    int failed;
    if (backward) {
        dyt_backward_args args = {.size = sizeof args, .dy = b[DY], .x = b[X], .alpha = a, .shift = s, .gamma = b[GAMMA],
                                  .mean = layer ? b[MEAN] : NULL, .rstd = pointwise ? NULL : b[RSTD], .dx = b[OUT],
                                  .dalpha = pointwise ? &dalpha : NULL, .dshift = derf ? &dshift : NULL,
                                  .dgamma = b[DGAMMA], .dbeta = b[DBETA]};
        failed = lib->backward(lib->device, problem, &args, b[WORKSPACE], bytes, NULL);
    } else {
        dyt_forward_args args = {.size = sizeof args, .x = b[X], .alpha = a, .shift = s, .gamma = b[GAMMA], .beta = b[BETA],
                                 .y = b[OUT], .mean = layer ? b[MEAN] : NULL, .rstd = pointwise ? NULL : b[RSTD]};
        failed = lib->forward(lib->device, problem, &args, b[WORKSPACE], bytes, NULL);
    }
    if (failed) {
        fprintf(stderr, "%s\n", lib->error());
        exit(2);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

// The median of new by old.
static double ratio(library *libs, const dyt_problem *problem, int backward, void **b, size_t bytes, int samples) {
    double ratios[MOST];
    int calls = 1;
    for (;; calls *= 2) {
        double begin = now();
        for (int i = 0; i < calls; i++) call(&libs[0], problem, backward, b, bytes);
        if (now() - begin > 2e-4 || calls > 1000000) break;
    }
    for (int k = 0; k < samples; k++) {
        double times[2];
        int first = uniform() < 0.5f;
        for (int i = 0; i < 2; i++) {
            int which = first ^ i;
            call(&libs[which], problem, backward, b, bytes);
            double begin = now();
            for (int j = 0; j < calls; j++) call(&libs[which], problem, backward, b, bytes);
            times[which] = now() - begin;
        }
        ratios[k] = times[1] / times[0];
    }
    qsort(ratios, samples, sizeof *ratios, by_size);
    return ratios[samples / 2];
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: compare OLD.so NEW.so [DEVICE [THREADS [FILTER]]]\n");
        return 2;
    }
    const char *device = argc > 3 ? argv[3] : "cpu", *threads = argc > 4 ? argv[4] : "1", *filter = argc > 5 ? argv[5] : "";
    setenv("RAYON_NUM_THREADS", threads, 1);
    library libs[2] = {load(argv[1], device), load(argv[2], device)};
    int slower = 0;
    printf("new / old, %s, %s thread(s): aligned, 16 bytes behind a page; slower cells are marked\n", device, threads);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (int cell = 0; cell < 24; cell++) {
            int op = cell / 6, backward = cell / 3 % 2, dtype = cell % 3;
            shape at = shapes[s];
            char name[96];
            snprintf(name, sizeof name, "%s %s %s %ldx%ldx%ld", ops[op], backward ? "backward" : "forward", dtypes[dtype],
                     (long)at.rows, (long)at.cols, (long)at.inner);
            if (!strstr(name, filter)) continue;
            dyt_problem problem = {.size = sizeof problem, .op = op, .dtype = dtype, .param_dtype = dtype, .eps = 1e-5f,
                                   .rows = at.rows, .cols = at.cols, .inner = at.inner};
            int64_t n = at.rows * at.cols * at.inner;
            size_t size = dtype == DYT_F32 ? 4 : 2, bytes = 0, most = 0;
            for (int i = 0; i < 2; i++) {
                libs[i].workspace(libs[i].device, &problem, backward, &bytes);
                if (bytes > most) most = bytes;
            }
            printf("%-44s", name);
            int marked = 0;
            for (size_t offset = 0; offset <= 16; offset += 16) {
                size_t lengths[BUFFERS] = {n * size, n * size, n * size, at.cols * size, at.cols * size, at.cols * 4,
                                           at.cols * 4, at.rows * at.inner * 4, at.rows * at.inner * 4, most};
                void *b[BUFFERS];
                for (int i = 0; i < BUFFERS; i++) b[i] = memory(lengths[i], offset);
                fill(b[X], n, dtype, 1.0f);
                fill(b[DY], n, dtype, 1.0f);
                fill(b[GAMMA], at.cols, dtype, 0.3f);
                fill(b[BETA], at.cols, dtype, 0.3f);
                call(&libs[0], &problem, 0, b, most);
                double best = 1e9;
                // A cell is slower if all runs say so.
                for (int run = 0; run < RUNS && best > LIMIT; run++) {
                    double r = ratio(libs, &problem, backward, b, most, at.large ? 7 : 41);
                    if (r < best) best = r;
                }
                printf("  %.3f", best);
                marked |= best > LIMIT;
                for (int i = 0; i < BUFFERS; i++) munmap((char *)b[i] - offset, lengths[i] + offset + 4096);
            }
            printf(marked ? "  slower\n" : "\n");
            fflush(stdout);
            slower += marked;
        }
    }
    printf("%d cell(s) slower\n", slower);
    return slower > 0;
}
