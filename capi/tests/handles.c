/* What holds of handles alone, on the wgpu device that the command line names: they are no addresses, and whatever is no
 * handle of the device is refused, also while other threads call. */
#include "common.h"

#include <pthread.h>
#include <time.h>

static const float values[6] = {0.5f, -1.0f, 2.0f, 0.0f, -0.25f, 8.0f};

static void *filled(const dyt_device *device, const void *from, size_t bytes) {
    void *handle = NULL;
    OK(dyt_alloc(device, bytes, &handle));
    OK(dyt_upload(device, handle, from, bytes));
    return handle;
}

static void allocations(const dyt_device *device, const dyt_device *other) {
    void *one = NULL, *two = NULL, *none = &one;
    unsigned char byte = 3;
    OK(dyt_alloc(device, 24, &one));
    OK(dyt_alloc(other, 0, &two));
    CHECK(one != NULL && two != NULL && one != two);
    REFUSED(DYT_OUT_OF_MEMORY, "memory", dyt_alloc(device, SIZE_MAX - 8, &none));
    CHECK(none == NULL);
    REFUSED(DYT_OUT_OF_MEMORY, "memory", dyt_alloc(device, SIZE_MAX, &none));
    void *wrong[] = {(char *)one + 1, (char *)one + 24, (char *)one + 4096, two, &byte, (void *)(uintptr_t)1};
    for (int i = 0; i < 6; i++) {
        REFUSED(DYT_INVALID_ARGUMENT, "none that dyt_alloc", dyt_free(device, wrong[i]));
        REFUSED(DYT_INVALID_ARGUMENT, "dst is no handle", dyt_upload(device, wrong[i], &byte, 1));
        REFUSED(DYT_INVALID_ARGUMENT, "src is no handle", dyt_download(device, &byte, wrong[i], 1));
    }
    unsigned char bytes[25] = {0};
    REFUSED(DYT_INVALID_ARGUMENT, "dst needs 25 bytes", dyt_upload(device, one, bytes, 25));
    REFUSED(DYT_INVALID_ARGUMENT, "src needs 25 bytes", dyt_download(device, bytes, one, 25));
    OK(dyt_free(device, NULL));
    OK(dyt_free(device, one));
    REFUSED(DYT_INVALID_ARGUMENT, "it was freed", dyt_free(device, one));
    REFUSED(DYT_INVALID_ARGUMENT, "it was freed", dyt_upload(device, one, &byte, 1));
    OK(dyt_free(other, two));
}

static void arguments(const dyt_device *device, const dyt_device *other) {
    float alpha = 0.5f, y[6];
    size_t bytes = 0;
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, 2, 3);
    dyt_forward_args a, good = forward_args();
    void *out = filled(device, values, sizeof values), *elsewhere = filled(other, values, sizeof values);
    void *freed = filled(device, values, sizeof values), *small = filled(device, values, 20);
    OK(dyt_free(device, freed));
    good.x = filled(device, values, sizeof values);
    good.y = out;
    good.alpha = filled(device, &alpha, 4);
#define FORWARD(words, change)                                                             \
    a = good;                                                                              \
    change;                                                                                \
    REFUSED(DYT_INVALID_ARGUMENT, words, dyt_forward(device, &p, &a, NULL, 0, NULL))
    FORWARD("x is NULL", a.x = NULL);
    FORWARD("y is NULL", a.y = NULL);
    FORWARD("x is no handle", a.x = values);
    FORWARD("x is no handle", a.x = freed);
    FORWARD("y is no handle", a.y = elsewhere);
    FORWARD("alpha is no handle", a.alpha = &alpha);
    FORWARD("gamma is no handle", a.gamma = (const char *)good.x + 4);
    FORWARD("x needs 24 bytes", a.x = small);
    FORWARD("shares memory", a.gamma = out);
    FORWARD("needs alpha", a.alpha = NULL);
    REFUSED(DYT_INVALID_ARGUMENT, "stream", dyt_forward(device, &p, &good, NULL, 0, &p));
    OK(dyt_download(device, y, out, sizeof y));
    CHECK(memcmp(y, values, sizeof y) == 0);
    OK(dyt_forward(device, &p, &good, NULL, 0, NULL));
    OK(dyt_synchronize(device));
    OK(dyt_download(device, y, out, sizeof y));
    for (int i = 0; i < 6; i++) CHECK(fabs(y[i] - tanh(0.5 * values[i])) < 1e-6);

    OK(dyt_workspace_size(device, &p, DYT_BACKWARD, &bytes));
    CHECK(bytes > 0);
    void *workspace = NULL, *sums = NULL;
    OK(dyt_alloc(device, bytes, &workspace));
    OK(dyt_alloc(device, bytes, &sums));
    OK(dyt_upload(device, sums, values, 12));
    dyt_backward_args b = backward_args();
    b.dy = b.dx = out;
    b.x = good.x;
    b.alpha = good.alpha;
    b.dbeta = sums;
    REFUSED(DYT_INVALID_ARGUMENT, "stream", dyt_backward(device, &p, &b, workspace, bytes, &p));
    REFUSED(DYT_INVALID_ARGUMENT, "workspace is NULL", dyt_backward(device, &p, &b, NULL, bytes, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "the workspace has 0", dyt_backward(device, &p, &b, NULL, 0, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "workspace is no handle", dyt_backward(device, &p, &b, freed, bytes, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "workspace needs", dyt_backward(device, &p, &b, workspace, bytes + 4, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "shares memory", dyt_backward(device, &p, &b, sums, bytes, NULL));
    OK(dyt_backward(device, &p, &b, workspace, bytes, NULL));
    /* No rows: the pointers of the tensors may be NULL, and sums are 0. */
    p.rows = 0;
    good.x = b.dy = b.x = NULL;
    good.y = b.dx = NULL;
    OK(dyt_forward(device, &p, &good, NULL, 0, NULL));
    OK(dyt_backward(device, &p, &b, workspace, bytes, NULL));
    OK(dyt_download(device, y, sums, 12));
    CHECK(y[0] == 0 && y[1] == 0 && y[2] == 0);
    OK(dyt_free(other, elsewhere));
    /* The others are not freed: dyt_device_close does it. */
}

typedef struct {
    const dyt_device *device;
    const void *alpha;
    void *shared;
    int failures;
} Caller;

/* Calls until the memory is gone; whichever call it is, it works or is refused. */
static void *until_freed(void *argument) {
    Caller *c = argument;
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, 2, 3);
    dyt_forward_args a = forward_args();
    a.x = c->shared;
    a.y = NULL;
    a.alpha = c->alpha;
    c->failures += dyt_alloc(c->device, sizeof values, &a.y) != DYT_OK;
    int status = DYT_OK;
    while (status == DYT_OK) status = dyt_forward(c->device, &p, &a, NULL, 0, NULL);
    c->failures += status != DYT_INVALID_ARGUMENT || strstr(dyt_last_error(), "x is no handle") == NULL;
    c->failures += dyt_free(c->device, a.y) != DYT_OK;
    return NULL;
}

static void freed_while_used(const dyt_device *device) {
    enum { THREADS = 4 };
    float alpha = 0.5f;
    pthread_t threads[THREADS];
    Caller callers[THREADS];
    struct timespec moment = {0, 50000000};
    void *shared = filled(device, values, sizeof values), *scale = filled(device, &alpha, 4);
    for (int i = 0; i < THREADS; i++) {
        callers[i] = (Caller){device, scale, shared, 0};
        CHECK(pthread_create(&threads[i], NULL, until_freed, &callers[i]) == 0);
    }
    nanosleep(&moment, NULL);
    OK(dyt_free(device, shared));
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(callers[i].failures == 0);
    }
}

int main(int argc, char **argv) {
    dyt_device *device = open_device(argc, argv), *other = open_device(argc, argv);
    allocations(device, other);
    arguments(device, other);
    freed_while_used(device);
    dyt_device_close(other);
    dyt_device_close(device);
    printf("handles of %s: %d failures\n", argc > 1 ? argv[1] : "cpu", failures);
    return failures != 0;
}
