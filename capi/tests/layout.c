/* Heads in wider rows, strides of y and parameters that change with the row: the bits of calls on packed rows, one for each
 * group of rows. On the device that the command line names. */
#include "common.h"

enum { TOKENS = 6, HEADS = 4, COLS = 24, GROUPS = 3, ROWS = TOKENS * HEADS, WIDE = 3 * HEADS * COLS };

static Mem floats(const dyt_device *device, size_t n, uint32_t seed) {
    Mem m = mem(device, n * sizeof(float));
    for (size_t i = 0; i < n; i++) ((float *)m.host)[i] = number(&seed);
    push(device, &m);
    return m;
}

/* Elements from `first` on; those of another allocation where memory is not the host's, which takes no inner pointers. */
static Mem part(const dyt_device *device, const Mem *from, size_t first, size_t n) {
    Mem m = mem(device, n * sizeof(float));
    memcpy(m.host, (const float *)from->host + first, m.bytes);
    push(device, &m);
    return m;
}

typedef struct {
    Mem y, rstd, dx, dgamma, dbeta;
} Results;

static Results run(const dyt_device *device, const dyt_problem *p, const Mem in[4], size_t y_len) {
    size_t bytes = 0, params = in[2].bytes / sizeof(float), rows = (size_t)(p->rows * (p->heads == 0 ? 1 : p->heads));
    Results r = {floats(device, y_len, 1), floats(device, rows, 2), floats(device, in[0].bytes / sizeof(float), 3),
                 floats(device, params, 4), floats(device, params, 5)};
    Mem alpha = floats(device, 1, 9);
    int norm = p->op == DYT_OP_RMS_NORM;
    dyt_forward_args a = forward_args();
    dyt_backward_args b = backward_args();
    a.x = b.x = in[0].there;
    b.dy = in[1].there;
    a.gamma = b.gamma = in[2].there;
    a.beta = in[3].there;
    a.y = r.y.there;
    b.dx = r.dx.there;
    b.dgamma = r.dgamma.there;
    b.dbeta = r.dbeta.there;
    if (norm) a.rstd = r.rstd.there, b.rstd = r.rstd.there;
    else a.alpha = b.alpha = alpha.there;
    OK(dyt_forward(device, p, &a, NULL, 0, NULL));
    OK(dyt_workspace_size(device, p, DYT_BACKWARD, &bytes));
    Mem space = mem(device, bytes);
    OK(dyt_backward(device, p, &b, space.there, bytes, NULL));
    Mem *all[] = {&r.y, &r.rstd, &r.dx, &r.dgamma, &r.dbeta};
    for (size_t i = 0; i < 5; i++) pull(device, all[i]);
    drop(device, &alpha);
    drop(device, &space);
    return r;
}

static void drop_all(const dyt_device *device, Results *r) {
    Mem *all[] = {&r->y, &r->rstd, &r->dx, &r->dgamma, &r->dbeta};
    for (size_t i = 0; i < 5; i++) drop(device, all[i]);
}

static int same(const float *a, const float *b, size_t n) { return memcmp(a, b, n * sizeof *a) == 0; }

/* Queries in a packed QKV to a packed y. */
static void heads_are_packed_rows(const dyt_device *device, uint32_t op) {
    dyt_problem packed = problem_of(op, DYT_F32, ROWS, COLS), wide = problem_of(op, DYT_F32, TOKENS, COLS);
    wide.heads = HEADS;
    wide.row_stride = WIDE;
    wide.y_row_stride = HEADS * COLS;
    Mem in[4] = {floats(device, TOKENS * WIDE, 11), floats(device, ROWS * COLS, 12), floats(device, COLS, 13),
                 floats(device, COLS, 14)};
    Mem x = mem(device, ROWS * COLS * sizeof(float));
    for (size_t t = 0; t < TOKENS; t++)
        memcpy((float *)x.host + t * HEADS * COLS, (float *)in[0].host + t * WIDE, HEADS * COLS * sizeof(float));
    push(device, &x);
    Mem rows[4] = {x, in[1], in[2], in[3]};
    Results got = run(device, &wide, in, ROWS * COLS), expected = run(device, &packed, rows, ROWS * COLS);
    CHECK(same(got.y.host, expected.y.host, ROWS * COLS));
    CHECK(op != DYT_OP_RMS_NORM || same(got.rstd.host, expected.rstd.host, ROWS));
    for (size_t t = 0; t < TOKENS; t++)
        CHECK(same((float *)got.dx.host + t * WIDE, (float *)expected.dx.host + t * HEADS * COLS, HEADS * COLS));
    drop_all(device, &got);
    drop_all(device, &expected);
    drop(device, &x);
    for (size_t i = 0; i < 4; i++) drop(device, &in[i]);
}

static void groups_are_calls(const dyt_device *device, uint32_t op) {
    enum { EACH = ROWS / GROUPS };
    dyt_problem all = problem_of(op, DYT_F32, ROWS, COLS), one = problem_of(op, DYT_F32, EACH, COLS);
    all.param_rows = EACH;
    Mem in[4] = {floats(device, ROWS * COLS, 21), floats(device, ROWS * COLS, 22), floats(device, GROUPS * COLS, 23),
                 floats(device, GROUPS * COLS, 24)};
    Results got = run(device, &all, in, ROWS * COLS);
    for (size_t g = 0; g < GROUPS; g++) {
        Mem own[4];
        for (size_t i = 0; i < 4; i++) {
            size_t n = i < 2 ? EACH * COLS : COLS;
            own[i] = part(device, &in[i], g * n, n);
        }
        Results expected = run(device, &one, own, EACH * COLS);
        CHECK(same((float *)got.y.host + g * EACH * COLS, expected.y.host, EACH * COLS));
        CHECK(same((float *)got.dx.host + g * EACH * COLS, expected.dx.host, EACH * COLS));
        for (size_t k = 0; k < COLS; k++) {
            float a = ((float *)got.dgamma.host)[g * COLS + k], b = ((float *)expected.dgamma.host)[k];
            CHECK(fabsf(a - b) < 1e-4f);
            a = ((float *)got.dbeta.host)[g * COLS + k], b = ((float *)expected.dbeta.host)[k];
            CHECK(fabsf(a - b) < 1e-4f);
        }
        drop_all(device, &expected);
        for (size_t i = 0; i < 4; i++) drop(device, &own[i]);
    }
    drop_all(device, &got);
    for (size_t i = 0; i < 4; i++) drop(device, &in[i]);
}

int main(int argc, char **argv) {
    dyt_device *device = open_device(argc, argv);
    uint32_t ops[] = {DYT_OP_DYT, DYT_OP_RMS_NORM};
    for (size_t i = 0; i < 2; i++) {
        heads_are_packed_rows(device, ops[i]);
        groups_are_calls(device, ops[i]);
    }
    dyt_device_close(device);
    printf("layout: %d failures\n", failures);
    return failures != 0;
}
