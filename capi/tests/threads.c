/* Eight threads on one device: the same bits as one thread alone, allocations of their own, and each its own words. */
#include "common.h"

#include <pthread.h>

enum { THREADS = 8, ROUNDS = 20 };

typedef struct {
    const dyt_device *device;
    int id, failures;
    int64_t rows, cols;
    Mem x, y, dx, dgamma, dalpha, alpha;
} Work;

/* Only statuses are looked at, because the counter of failures is not the thread's own. */
static int step(Work *w, void *workspace, size_t bytes) {
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, w->rows, w->cols);
    dyt_forward_args a = forward_args();
    a.x = w->x.there;
    a.y = w->y.there;
    a.alpha = w->alpha.there;
    int status = dyt_forward(w->device, &p, &a, NULL, 0, NULL);
    dyt_backward_args b = backward_args();
    b.dy = w->y.there;
    b.x = w->x.there;
    b.gamma = w->x.there;
    b.alpha = w->alpha.there;
    b.dx = w->dx.there;
    b.dgamma = w->dgamma.there;
    b.dalpha = w->dalpha.there;
    status += dyt_backward(w->device, &p, &b, workspace, bytes, NULL);
    const Mem *out[] = {&w->y, &w->dx, &w->dgamma, &w->dalpha};
    for (int i = 0; i < 4; i++)
        if (!on_host) status += dyt_download(w->device, out[i]->host, out[i]->there, out[i]->bytes);
    return status;
}

static Work make(const dyt_device *device, int id, int64_t rows, int64_t cols) {
    size_t n = (size_t)(rows * cols);
    uint32_t seed = (uint32_t)id;
    Work w = {device, id, 0, rows, cols, mem(device, n * 4), mem(device, n * 4), mem(device, n * 4),
              mem(device, (size_t)cols * 4), mem(device, 4), mem(device, 4)};
    for (size_t i = 0; i < n; i++) ((float *)w.x.host)[i] = number(&seed);
    *(float *)w.alpha.host = 0.5f + 0.1f * (float)id;
    push(device, &w.x);
    push(device, &w.alpha);
    return w;
}

static void release(Work *w) {
    Mem *all[] = {&w->x, &w->y, &w->dx, &w->dgamma, &w->dalpha, &w->alpha};
    for (int i = 0; i < 6; i++) drop(w->device, all[i]);
}

static int same(const Mem *a, const Mem *b) { return memcmp(a->host, b->host, a->bytes) == 0; }

static void *many(void *argument) {
    Work *w = argument, alone = make(w->device, w->id, w->rows, w->cols);
    size_t bytes = 0, unused = 0;
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
        w->failures += !same(&alone.y, &w->y) || !same(&alone.dx, &w->dx);
        w->failures += !same(&alone.dgamma, &w->dgamma) || !same(&alone.dalpha, &w->dalpha);
        p.op = 100 + (uint32_t)w->id;
        w->failures += dyt_workspace_size(w->device, &p, DYT_BACKWARD, &unused) != DYT_INVALID_ARGUMENT;
        w->failures += strstr(dyt_last_error(), words) == NULL;
    }
    release(&alone);
    return NULL;
}

/* A size for one thread of the library, and with "large" one that it divides among several. */
int main(int argc, char **argv) {
    dyt_device *device = open_device(argc, argv);
    int large = argc > 2 && strcmp(argv[2], "large") == 0;
    int64_t rows = large ? 512 : 24, cols = large ? 768 : 40;
    Work work[THREADS];
    pthread_t threads[THREADS];
    size_t bytes = 0;
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, rows, cols);
    OK(dyt_workspace_size(device, &p, DYT_BACKWARD, &bytes));
    Mem workspace = mem(device, bytes);
    for (int i = 0; i < THREADS; i++) {
        work[i] = make(device, i, rows, cols);
        CHECK(step(&work[i], workspace.there, bytes) == DYT_OK);
    }
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, many, &work[i]) == 0);
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(work[i].failures == 0);
        release(&work[i]);
    }
    drop(device, &workspace);
    dyt_device_close(device);
    printf("%d threads%s: %d failures\n", THREADS, large ? ", large calls" : "", failures);
    return failures != 0;
}
