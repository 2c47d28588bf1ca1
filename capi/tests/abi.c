/* The contract of every entry: layouts, NULL, sizes, enum values, overflow, and the words for an error. */
#include "common.h"

_Static_assert(sizeof(dyt_problem) == 120, "dyt_problem has grown or shrunk");
_Static_assert(offsetof(dyt_problem, op) == 4 && offsetof(dyt_problem, std) == 16, "dyt_problem");
_Static_assert(offsetof(dyt_problem, accumulate) == 20 && offsetof(dyt_problem, eps) == 24, "dyt_problem");
_Static_assert(offsetof(dyt_problem, rows) == 32 && offsetof(dyt_problem, inner) == 56, "dyt_problem");
_Static_assert(offsetof(dyt_problem, gamma_offset) == 64, "dyt_problem");
_Static_assert(offsetof(dyt_problem, param_rows) == 80 && offsetof(dyt_problem, y_head_stride) == 112, "dyt_problem");
_Static_assert(offsetof(dyt_problem, quant) == 68 && offsetof(dyt_problem, quant_dynamic) == 72, "dyt_problem");
_Static_assert(offsetof(dyt_forward_args, x) == 8, "dyt_forward_args");
_Static_assert(sizeof(dyt_forward_args) == 8 + 11 * sizeof(void *), "dyt_forward_args");
_Static_assert(offsetof(dyt_forward_args, y) == 8 + 5 * sizeof(void *), "dyt_forward_args");
_Static_assert(offsetof(dyt_backward_args, dx) == 8 + 7 * sizeof(void *), "dyt_backward_args");
_Static_assert(sizeof(dyt_backward_args) == 8 + 13 * sizeof(void *), "dyt_backward_args");
_Static_assert(DYT_OK == 0 && DYT_UNSUPPORTED == 2 && DYT_INTERNAL == 6, "dyt_status");
_Static_assert(DYT_QUANT_NONE == 0 && DYT_QUANT_F8E4M3 == 1 && DYT_QUANT_F8E5M2 == 2 && DYT_QUANT_I8 == 3, "enums");
_Static_assert(DYT_BF16 == 2 && DYT_OP_RMS_NORM == 3 && DYT_STD_UNBIASED == 1 && DYT_BACKWARD == 1, "enums");

static void devices(void) {
    dyt_device *device = (dyt_device *)&failures;
    CHECK(dyt_abi_version() == DYT_ABI_VERSION);
    CHECK(strcmp(dyt_last_error(), "") == 0);
    REFUSED(DYT_INVALID_ARGUMENT, "unknown backend", dyt_device_open("gpu", &device));
    CHECK(device == NULL);
    REFUSED(DYT_INVALID_ARGUMENT, "name is NULL", dyt_device_open(NULL, &device));
    REFUSED(DYT_INVALID_ARGUMENT, "out is NULL", dyt_device_open("cpu", NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "UTF-8", dyt_device_open("cpu:\xff", &device));
    REFUSED(DYT_INVALID_ARGUMENT, "unknown CPU level", dyt_device_open("cpu:sse9", &device));
    REFUSED(DYT_NO_DEVICE, "not available", dyt_device_open("cuda:4000000000", &device));
    char portable[] = "cpu:portable", buffer[64];
    OK(dyt_device_open(portable, &device));
    memset(buffer, 'z', sizeof buffer);
    REFUSED(DYT_INVALID_ARGUMENT, "needs 13", dyt_device_name(device, buffer, 12));
    CHECK(buffer[0] == 'z');
    OK(dyt_device_name(device, buffer, 13));
    CHECK(strcmp(buffer, portable) == 0 && buffer[13] == 'z');
    REFUSED(DYT_INVALID_ARGUMENT, "buf is NULL", dyt_device_name(device, NULL, 64));
    REFUSED(DYT_INVALID_ARGUMENT, "device is NULL", dyt_device_name(NULL, buffer, 64));
    REFUSED(DYT_INVALID_ARGUMENT, "device is NULL", dyt_synchronize(NULL));
    OK(dyt_synchronize(device));
    dyt_device_close(device);
    dyt_device_close(NULL);
}

static void allocations(const dyt_device *device) {
    void *p = NULL, *q = NULL;
    char text[16] = "";
    OK(dyt_alloc(device, 1001, &p));
    OK(dyt_alloc(device, 0, &q));
    CHECK(p != NULL && q != NULL && p != q && (uintptr_t)p % 64 == 0 && ((const char *)p)[1000] == 0);
    OK(dyt_upload(device, p, "sixteen letters", 16));
    OK(dyt_download(device, text, p, 16));
    CHECK(strcmp(text, "sixteen letters") == 0);
    OK(dyt_upload(device, NULL, NULL, 0));
    REFUSED(DYT_INVALID_ARGUMENT, "dst is NULL", dyt_upload(device, NULL, text, 1));
    REFUSED(DYT_INVALID_ARGUMENT, "src is NULL", dyt_download(device, text, NULL, 1));
    REFUSED(DYT_INVALID_ARGUMENT, "bytes", dyt_download(device, text, p, SIZE_MAX));
    REFUSED(DYT_INVALID_ARGUMENT, "device is NULL", dyt_upload(NULL, p, text, 1));
    REFUSED(DYT_INVALID_ARGUMENT, "out is NULL", dyt_alloc(device, 8, NULL));
    OK(dyt_free(device, p));
    OK(dyt_free(device, q));
    OK(dyt_free(device, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "none that dyt_alloc", dyt_free(device, p));
    REFUSED(DYT_INVALID_ARGUMENT, "none that dyt_alloc", dyt_free(device, text));
    p = text;
    REFUSED(DYT_OUT_OF_MEMORY, "memory", dyt_alloc(device, SIZE_MAX, &p));
    CHECK(p == NULL);
    /* Not freed: dyt_device_close does it. */
    OK(dyt_alloc(device, 100, &p));
}

/* One problem for each field that can be wrong. */
static void problems(const dyt_device *device) {
    size_t bytes = 7;
    dyt_problem p, good = problem_of(DYT_OP_LAYER_NORM, DYT_F32, 4, 8);
#define WRONG(status, words, change)                                                       \
    p = good;                                                                              \
    change;                                                                                \
    REFUSED(status, words, dyt_workspace_size(device, &p, DYT_BACKWARD, &bytes))
    WRONG(DYT_INVALID_ARGUMENT, "size of dyt_problem", p.size = 0);
    WRONG(DYT_INVALID_ARGUMENT, "size of dyt_problem", p.size = offsetof(dyt_problem, gamma_offset) - 1);
    WRONG(DYT_INVALID_ARGUMENT, "size of dyt_problem", p.size = offsetof(dyt_problem, gamma_offset) + 2);
    WRONG(DYT_INVALID_ARGUMENT, "size of dyt_problem", p.size = UINT32_MAX);
    WRONG(DYT_INVALID_ARGUMENT, "reserved2 of dyt_problem", p.reserved2 = 1);
    WRONG(DYT_INVALID_ARGUMENT, "heads is -1", p.heads = -1);
    WRONG(DYT_INVALID_ARGUMENT, "2 heads beside inner 3", { p.heads = 2; p.inner = 3; });
    WRONG(DYT_INVALID_ARGUMENT, "head_stride of x is 7", { p.heads = 2; p.head_stride = 7; });
    WRONG(DYT_INVALID_ARGUMENT, "head_stride of y is 7", { p.heads = 2; p.y_head_stride = 7; });
    WRONG(DYT_INVALID_ARGUMENT, "row_stride of x is 15", { p.heads = 2; p.row_stride = 15; });
    WRONG(DYT_INVALID_ARGUMENT, "row_stride of y is 7", p.y_row_stride = 7);
    WRONG(DYT_INVALID_ARGUMENT, "y_row_stride is -1", p.y_row_stride = -1);
    WRONG(DYT_INVALID_ARGUMENT, "param_rows is 3", p.param_rows = 3);
    WRONG(DYT_INVALID_ARGUMENT, "param_rows is -3", p.param_rows = -3);
    WRONG(DYT_INVALID_ARGUMENT, "overflow", p.heads = INT64_MAX);
    WRONG(DYT_INVALID_ARGUMENT, "op is 4", p.op = 4);
    WRONG(DYT_INVALID_ARGUMENT, "dtype is 3", p.dtype = 3);
    WRONG(DYT_INVALID_ARGUMENT, "param_dtype is 9", p.param_dtype = 9);
    WRONG(DYT_INVALID_ARGUMENT, "f16", p.param_dtype = DYT_F16);
    WRONG(DYT_INVALID_ARGUMENT, "std is 2", p.std = 2);
    WRONG(DYT_INVALID_ARGUMENT, "LayerNorm", p.std = DYT_STD_UNBIASED; p.op = DYT_OP_DYT);
    WRONG(DYT_INVALID_ARGUMENT, "accumulate is 2", p.accumulate = 2);
    WRONG(DYT_INVALID_ARGUMENT, "reserved", p.reserved = 1);
    WRONG(DYT_INVALID_ARGUMENT, "reserved", p.reserved2 = 1);
    WRONG(DYT_INVALID_ARGUMENT, "quant is 4", p.quant = 4);
    WRONG(DYT_INVALID_ARGUMENT, "quant_dynamic is 2", p.quant_dynamic = 2);
    WRONG(DYT_INVALID_ARGUMENT, "gamma_offset is inf", p.gamma_offset = INFINITY);
    WRONG(DYT_INVALID_ARGUMENT, "eps", p.eps = NAN);
    WRONG(DYT_INVALID_ARGUMENT, "eps", p.eps = -1.0f);
    WRONG(DYT_INVALID_ARGUMENT, "rows is -1", p.rows = -1);
    WRONG(DYT_INVALID_ARGUMENT, "cols is 0", p.cols = 0);
    WRONG(DYT_INVALID_ARGUMENT, "row_stride is -9", p.row_stride = -9);
    WRONG(DYT_INVALID_ARGUMENT, "row_stride of x is 7", p.row_stride = 7);
    WRONG(DYT_INVALID_ARGUMENT, "overflow", p.rows = INT64_MAX);
    WRONG(DYT_INVALID_ARGUMENT, "overflow", p.cols = INT64_MAX);
    WRONG(DYT_INVALID_ARGUMENT, "overflow", p.rows = p.cols = (int64_t)1 << 32);
    WRONG(DYT_INVALID_ARGUMENT, "overflow", p.row_stride = INT64_MAX);
    WRONG(DYT_INVALID_ARGUMENT, "overflow", p.inner = INT64_MAX / 2);
    REFUSED(DYT_INVALID_ARGUMENT, "pass is 2", dyt_workspace_size(device, &good, 2, &bytes));
    REFUSED(DYT_INVALID_ARGUMENT, "bytes is NULL", dyt_workspace_size(device, &good, DYT_FORWARD, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "dyt_problem is NULL", dyt_workspace_size(device, NULL, DYT_FORWARD, &bytes));
    REFUSED(DYT_INVALID_ARGUMENT, "device is NULL", dyt_workspace_size(NULL, &good, DYT_FORWARD, &bytes));
    const char *unaligned = (const char *)&good + 1;
    REFUSED(DYT_INVALID_ARGUMENT, "aligned",
            dyt_workspace_size(device, (const dyt_problem *)(const void *)unaligned, DYT_FORWARD, &bytes));
    CHECK(bytes == 7);
    /* What is not set is channels-last, and 0 is an eps. */
    dyt_problem least = {.size = sizeof least, .op = DYT_OP_LAYER_NORM, .rows = 2, .cols = 4};
    OK(dyt_workspace_size(device, &least, DYT_FORWARD, &bytes));
    least.eps = DYT_LAYER_NORM_EPS;
    OK(dyt_workspace_size(device, &least, DYT_FORWARD, &bytes));
    OK(dyt_workspace_size(device, &good, DYT_FORWARD, &bytes));
    CHECK(bytes == 0);
    OK(dyt_workspace_size(device, &good, DYT_BACKWARD, &bytes));
    CHECK(bytes > 0);
}

/* A caller of the first version, whose problem ends behind `inner`: what stands there is not its own. */
static void first_version(const dyt_device *device) {
    float x[2] = {1, -1}, y[2] = {0, 0}, gamma[2] = {2, 3}, alpha = 1;
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, 1, 2);
    dyt_forward_args a = forward_args();
    a.x = x;
    a.y = y;
    a.alpha = &alpha;
    a.gamma = gamma;
    p.size = offsetof(dyt_problem, gamma_offset);
    p.gamma_offset = NAN;
    OK(dyt_forward(device, &p, &a, NULL, 0, NULL));
    CHECK(fabs(y[0] - 2 * tanh(1)) < 1e-6 && fabs(y[1] + 3 * tanh(1)) < 1e-6);
}

/* A caller of the version before residual and dsum: what lies behind its structs is none of theirs. */
static void without_residual(const dyt_device *device) {
    float x[2] = {1, -1}, y[2] = {0, 0}, dy[2] = {1, 2}, dx[2] = {0, 0}, alpha = 1;
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, 1, 2);
    dyt_forward_args a = forward_args();
    dyt_backward_args b = backward_args();
    size_t bytes = 0;
    a.size = offsetof(dyt_forward_args, residual);
    a.x = x;
    a.y = y;
    a.alpha = &alpha;
    a.residual = a.sum = y + 1;
    OK(dyt_forward(device, &p, &a, NULL, 0, NULL));
    CHECK(fabs(y[0] - tanh(1)) < 1e-6 && y[1] == -y[0]);
    a.size += 4;
    REFUSED(DYT_INVALID_ARGUMENT, "size of dyt_forward_args is", dyt_forward(device, &p, &a, NULL, 0, NULL));
    OK(dyt_workspace_size(device, &p, DYT_BACKWARD, &bytes));
    void *workspace = memory(bytes);
    b.size = offsetof(dyt_backward_args, dsum);
    b.dy = dy;
    b.x = x;
    b.alpha = &alpha;
    b.dx = dx;
    b.dsum = dx + 1;
    OK(dyt_backward(device, &p, &b, workspace, bytes, NULL));
    CHECK(fabs(dx[0] - 0.41997434) < 1e-6 && fabs(dx[1] - 2 * dx[0]) < 1e-6);
    free(workspace);
}

/* A caller of a later version, whose structs are longer. */
static void later_versions(const dyt_device *device) {
    struct { dyt_problem p; uint64_t more[2]; } later;
    struct { dyt_forward_args a; void *more; } args;
    float x[2] = {1, -1}, y[2] = {0, 0}, alpha = 1;
    memset(&later, 0, sizeof later);
    memset(&args, 0, sizeof args);
    later.p = problem_of(DYT_OP_DYT, DYT_F32, 1, 2);
    later.p.size = sizeof later;
    args.a.size = sizeof args;
    args.a.x = x;
    args.a.y = y;
    args.a.alpha = &alpha;
    OK(dyt_forward(device, &later.p, &args.a, NULL, 0, NULL));
    CHECK(fabs(y[0] - tanh(1)) < 1e-6 && y[1] == -y[0]);
    y[0] = 5;
    later.more[1] = 1;
    REFUSED(DYT_UNSUPPORTED, "dyt_problem sets fields", dyt_forward(device, &later.p, &args.a, NULL, 0, NULL));
    later.more[1] = 0;
    args.more = x;
    REFUSED(DYT_UNSUPPORTED, "dyt_forward_args sets", dyt_forward(device, &later.p, &args.a, NULL, 0, NULL));
    CHECK(y[0] == 5);
}

static void arguments(const dyt_device *device) {
    float x[9] = {0}, y[9], alpha = 1, gamma[4] = {1, 1, 1, 1}, sums[4];
    for (int i = 0; i < 9; i++) y[i] = 5;
    dyt_problem p = problem_of(DYT_OP_DYT, DYT_F32, 2, 4);
    dyt_forward_args a, good = forward_args();
    good.x = x;
    good.y = y;
    good.alpha = &alpha;
#define FORWARD(words, change)                                                             \
    a = good;                                                                              \
    change;                                                                                \
    REFUSED(DYT_INVALID_ARGUMENT, words, dyt_forward(device, &p, &a, NULL, 0, NULL))
    FORWARD("x is NULL", a.x = NULL);
    FORWARD("y is NULL", a.y = NULL);
    FORWARD("needs alpha", a.alpha = NULL);
    FORWARD("no argument shift", a.shift = &alpha);
    FORWARD("no argument rstd", a.rstd = sums);
    FORWARD("size of dyt_forward_args", a.size = 16);
    FORWARD("reserved of dyt_forward_args", a.reserved = 3);
    FORWARD("x is not aligned", a.x = (const char *)x + 2);
    FORWARD("shares memory", a.y = x + 1);
    FORWARD("shares memory", a.gamma = y);
    FORWARD("residual is given, and sum is not", a.residual = x);
    FORWARD("sum is given, and residual is not", a.sum = sums);
    FORWARD("sum shares memory with y", { a.residual = x; a.sum = y; });
    FORWARD("sum shares memory with x", { a.residual = x; a.sum = x + 1; });
    REFUSED(DYT_INVALID_ARGUMENT, "args is NULL", dyt_forward(device, &p, NULL, NULL, 0, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "workspace is NULL", dyt_forward(device, &p, &good, NULL, 64, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "workspace", dyt_forward(device, &p, &good, x, SIZE_MAX, NULL));
    for (int i = 0; i < 9; i++) CHECK(y[i] == 5);

    size_t bytes = 0;
    OK(dyt_workspace_size(device, &p, DYT_BACKWARD, &bytes));
    void *workspace = memory(bytes);
    dyt_backward_args b, right = backward_args();
    right.dy = right.x = x;
    right.alpha = &alpha;
    right.gamma = gamma;
    right.dx = y;
    right.dgamma = sums;
#define BACKWARD(words, change)                                                            \
    b = right;                                                                             \
    change;                                                                                \
    REFUSED(DYT_INVALID_ARGUMENT, words, dyt_backward(device, &p, &b, workspace, bytes, NULL))
    BACKWARD("dy is NULL", b.dy = NULL);
    BACKWARD("x is NULL", b.x = NULL);
    BACKWARD("gamma is not given", b.gamma = NULL);
    BACKWARD("no argument dshift", b.dshift = &alpha);
    BACKWARD("size of dyt_backward_args", b.size = 0);
    BACKWARD("reserved of dyt_backward_args", b.reserved = 1);
    BACKWARD("dx shares memory", b.dx = x + 1);
    BACKWARD("dsum is given, and dx is not", { b.dsum = x; b.dx = NULL; });
    BACKWARD("shares memory", b.dbeta = sums);
    REFUSED(DYT_INVALID_ARGUMENT, "args is NULL", dyt_backward(device, &p, NULL, NULL, 0, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "the workspace has 0 bytes",
            dyt_backward(device, &p, &right, NULL, 0, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "the workspace has", dyt_backward(device, &p, &right, workspace, bytes - 4, NULL));
    REFUSED(DYT_INVALID_ARGUMENT, "workspace is not aligned",
            dyt_backward(device, &p, &right, (char *)workspace + 2, bytes, NULL));
    for (int i = 0; i < 9; i++) CHECK(y[i] == 5);
    OK(dyt_backward(device, &p, &right, workspace, bytes, NULL));
    free(workspace);

    /* No rows: the pointers of the tensors may be NULL, and sums are 0. */
    p.rows = 0;
    good.x = good.y = NULL;
    OK(dyt_forward(device, &p, &good, NULL, 0, NULL));
    right.dy = right.x = right.dx = NULL;
    OK(dyt_workspace_size(device, &p, DYT_BACKWARD, &bytes));
    workspace = memory(bytes);
    sums[3] = 9;
    OK(dyt_backward(device, &p, &right, bytes == 0 ? NULL : workspace, bytes, NULL));
    CHECK(sums[3] == 0);
    free(workspace);
}

int main(int argc, char **argv) {
    dyt_device *device = NULL;
    CHECK((float)DYT_LAYER_NORM_EPS == 1e-5f);
    CHECK((float)DYT_LAYER_NORM_UNBIASED_EPS == 1e-6f);
    CHECK((float)DYT_RMS_NORM_EPS == 1e-6f);
    devices();
    REFUSED(DYT_INVALID_ARGUMENT, "device is NULL", dyt_set_threads(NULL, 1));
    OK(dyt_device_open(argc > 1 ? argv[1] : "cpu", &device));
    if (device == NULL) return 1;
    allocations(device);
    problems(device);
    first_version(device);
    without_residual(device);
    later_versions(device);
    arguments(device);
    dyt_device_close(device);
    printf("abi: %d failures\n", failures);
    return failures != 0;
}
