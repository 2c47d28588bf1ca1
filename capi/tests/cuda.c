/* What holds of CUDA alone, on a driver without a GPU (simt/driver): the context that is current to the caller stays so,
 * and a call enqueues its work on the stream that is handed over and waits for nothing. ops.c has the results. */
#include "common.h"

int cuCtxSetCurrent(void *context);
int cuCtxGetCurrent(void **context);
void fake_clear_log(void);
const char *fake_log(void);
long long fake_live_bytes(void);

/* The call returns the status, and leaves the context of the caller current. */
#define KEEPS(status, call)                                                                \
    do {                                                                                   \
        void *now = NULL;                                                                  \
        CHECK(cuCtxSetCurrent(context) == 0);                                              \
        CHECK((call) == (status));                                                         \
        CHECK(cuCtxGetCurrent(&now) == 0 && now == context);                               \
    } while (0)

/* Whether each line of the log is one of these calls, and how many are the last of them. */
static int only(const char *const *calls, int n) {
    int launches = 0;
    for (const char *at = fake_log(); *at != '\0'; at = strchr(at, '\n') + 1) {
        int known = -1;
        for (int i = 0; i < n; i++)
            if (strncmp(at, calls[i], strlen(calls[i])) == 0) known = i;
        if (known < 0) return -1;
        launches += known == n - 1;
    }
    return launches;
}

static void steps(void *context) {
    static const char *const expected[] = {"cuCtxGetCurrent ", "cuCtxSetCurrent ", "cuLaunchKernel 119\n"};
    static const char *const own[] = {"cuCtxGetCurrent ", "cuCtxSetCurrent ", "cuLaunchKernel 0\n"};
    dyt_device *device = NULL, *absent = NULL;
    void *x = NULL, *y = NULL, *sums = NULL, *workspace = NULL, *stream = (void *)(uintptr_t)0x77;
    float values[15], back[15];
    size_t bytes = 0;
    KEEPS(DYT_NO_DEVICE, dyt_device_open("cuda:9", &absent));
    KEEPS(DYT_OK, dyt_device_open("auto", &device));
    if (device == NULL) return;
    KEEPS(DYT_OK, dyt_alloc(device, sizeof values, &x));
    KEEPS(DYT_OK, dyt_alloc(device, sizeof values, &y));
    KEEPS(DYT_OK, dyt_alloc(device, 20, &sums));
    for (int i = 0; i < 15; i++) values[i] = (float)i;
    KEEPS(DYT_OK, dyt_upload(device, x, values, sizeof values));
    dyt_problem p = problem_of(DYT_OP_RMS_NORM, DYT_F32, 3, 5);
    dyt_forward_args a = forward_args();
    a.x = x;
    a.y = y;
    fake_clear_log();
    KEEPS(DYT_OK, dyt_forward(device, &p, &a, NULL, 0, stream));
    CHECK(only(expected, 3) == 1);
    fake_clear_log();
    KEEPS(DYT_OK, dyt_forward(device, &p, &a, NULL, 0, NULL));
    CHECK(only(own, 3) == 1);
    KEEPS(DYT_OK, dyt_download(device, back, y, sizeof back));
    CHECK(fabs(back[1] - 1 / sqrt(6 + 1e-5)) < 1e-6);
    /* At an address within an allocation, which the CPU allows too: any device pointer will do. */
    a.x = (char *)x + 20;
    p.rows = 2;
    KEEPS(DYT_OK, dyt_forward(device, &p, &a, NULL, 0, stream));
    KEEPS(DYT_OK, dyt_workspace_size(device, &p, DYT_BACKWARD, &bytes));
    KEEPS(DYT_OK, dyt_alloc(device, bytes, &workspace));
    dyt_backward_args b = backward_args();
    b.dy = b.dx = y;
    b.x = x;
    b.dbeta = sums;
    KEEPS(DYT_OK, dyt_download(device, back, y, 40));
    fake_clear_log();
    KEEPS(DYT_OK, dyt_backward(device, &p, &b, workspace, bytes, stream));
    CHECK(only(expected, 3) >= 1);
    KEEPS(DYT_OK, dyt_download(device, values, sums, 20));
    for (int k = 0; k < 5; k++) CHECK(fabsf(values[k] - (back[k] + back[k + 5])) < 1e-6f);
    KEEPS(DYT_INVALID_ARGUMENT, dyt_backward(device, &p, &b, NULL, 0, stream));
    KEEPS(DYT_OK, dyt_synchronize(device));
    KEEPS(DYT_OK, dyt_free(device, y));
    KEEPS(DYT_INVALID_ARGUMENT, dyt_free(device, y));
    /* x, sums and the workspace go with it. */
    KEEPS(DYT_OK, (dyt_device_close(device), DYT_OK));
    CHECK(fake_live_bytes() == 0);
}

int main(void) {
    int theirs = 0;
    steps(NULL);
    steps(&theirs);
    printf("cuda: %d failures\n", failures);
    return failures != 0;
}
