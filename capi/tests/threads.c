/* Eight threads on one device: the same bits as one thread alone, allocations of their own, and each its own words. */
#include "common.h"

#include <pthread.h>

enum { THREADS = 8, ROUNDS = 20 };

typedef struct {
    const dyt_device *device;
    int id, failures;
    int64_t rows, cols;
    float *x, *y, *dx, *dgamma, dalpha;
} Work;

static int step(Work *w, void *workspace, size_t bytes) {
    float alpha = 0.5f + 0.1f * (float)w->id;
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, w->rows, w->cols);
    dyt_forward_args a = forward_args();
    a.x = w->x;
    a.y = w->y;
    a.alpha = &alpha;
    int status = dyt_forward(w->device, &p, &a, NULL, 0, NULL);
    dyt_backward_args b = backward_args();
    b.dy = w->y;
    b.x = w->x;
    b.gamma = w->x;
    b.alpha = &alpha;
    b.dx = w->dx;
    b.dgamma = w->dgamma;
    b.dalpha = &w->dalpha;
    return status + dyt_backward(w->device, &p, &b, workspace, bytes, NULL);
}

static Work make(const dyt_device *device, int id, int64_t rows, int64_t cols) {
    size_t n = (size_t)(rows * cols);
    uint32_t seed = (uint32_t)id;
    Work w = {device, id, 0, rows, cols, memory(n * 4), memory(n * 4), memory(n * 4), memory((size_t)cols * 4), 0};
    for (size_t i = 0; i < n; i++) w.x[i] = number(&seed);
    return w;
}

static void release(Work *w) {
    free(w->x);
    free(w->y);
    free(w->dx);
    free(w->dgamma);
}

static void *many(void *argument) {
    Work *w = argument, alone = make(w->device, w->id, w->rows, w->cols);
    size_t bytes = 0, n = (size_t)(w->rows * w->cols) * 4;
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, w->rows, w->cols);
    void *workspace = NULL;
    char words[64];
    snprintf(words, sizeof words, "op is %d,", 100 + w->id);
    w->failures += dyt_workspace_size(w->device, &p, DYT_BACKWARD, &bytes) != DYT_OK;
    w->failures += *dyt_last_error() != '\0';
    for (int round = 0; round < ROUNDS; round++) {
        w->failures += dyt_alloc(w->device, bytes, &workspace) != DYT_OK;
        w->failures += step(&alone, workspace, bytes) != DYT_OK;
        w->failures += dyt_free(w->device, workspace) != DYT_OK;
        w->failures += memcmp(alone.y, w->y, n) != 0 || memcmp(alone.dx, w->dx, n) != 0;
        w->failures += memcmp(alone.dgamma, w->dgamma, (size_t)w->cols * 4) != 0 || alone.dalpha != w->dalpha;
        p.op = 100 + (uint32_t)w->id;
        w->failures += dyt_workspace_size(w->device, &p, DYT_BACKWARD, &n) != DYT_INVALID_ARGUMENT;
        w->failures += strstr(dyt_last_error(), words) == NULL;
    }
    release(&alone);
    return NULL;
}

/* A size for one thread of the library, and with "large" one that it divides among several. */
int main(int argc, char **argv) {
    dyt_device *device = NULL;
    int large = argc > 2 && strcmp(argv[2], "large") == 0;
    int64_t rows = large ? 512 : 24, cols = large ? 768 : 40;
    OK(dyt_device_open(argc > 1 ? argv[1] : "cpu", &device));
    if (device == NULL) return 1;
    Work work[THREADS];
    pthread_t threads[THREADS];
    size_t bytes = 0;
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, rows, cols);
    OK(dyt_workspace_size(device, &p, DYT_BACKWARD, &bytes));
    void *workspace = memory(bytes);
    for (int i = 0; i < THREADS; i++) {
        work[i] = make(device, i, rows, cols);
        CHECK(step(&work[i], workspace, bytes) == DYT_OK);
    }
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, many, &work[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(work[i].failures == 0);
        release(&work[i]);
    }
    free(workspace);
    dyt_device_close(device);
    printf("%d threads%s: %d failures\n", THREADS, large ? ", large calls" : "", failures);
    return failures != 0;
}
