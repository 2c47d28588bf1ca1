/* Every op, both directions, against the formulas in double: storage types, strides, channels-first, in place. On the
 * device that the command line names. */
#include "common.h"

#define PI 3.14159265358979323846

typedef struct {
    dyt_problem p;
    size_t rows, cols, inner, stride, tensor;
    float alpha, shift;
    Mem x, dy, gamma, beta, alpha_there, shift_there, mean, rstd;
} Case;

static double f(const Case *c, double u) { return c->p.op == DYT_OP_DYT ? tanh(u) : erf(u); }
static double slope(const Case *c, double u) {
    return c->p.op == DYT_OP_DYT ? 1 / (cosh(u) * cosh(u)) : 2 / sqrt(PI) * exp(-u * u);
}
static size_t at(const Case *c, size_t n, size_t k, size_t s) { return n * c->stride + k * c->inner + s; }
static int pointwise(const Case *c) { return c->p.op == DYT_OP_DYT || c->p.op == DYT_OP_DERF; }
static double x_at(const Case *c, size_t n, size_t k, size_t s) { return get(c->x.host, c->p.dtype, at(c, n, k, s)); }
static double dy_at(const Case *c, size_t n, size_t k, size_t s) { return get(c->dy.host, c->p.dtype, at(c, n, k, s)); }
static double gamma_at(const Case *c, size_t k) { return get(c->gamma.host, c->p.param_dtype, k) + c->p.gamma_offset; }

static void close_to(const char *what, const Case *c, double actual, double expected, double scale, uint32_t dtype) {
    double unit = dtype == DYT_F32 ? 4e-6 : dtype == DYT_F16 ? 1.5e-3 : 1e-2;
    if (!(fabs(actual - expected) <= unit * (scale + fabs(expected)))) {
        if (failures++ < 20)
            fprintf(stderr, "op %u dtype %u: %s is %.9g, expected %.9g\n", c->p.op, c->p.dtype, what, actual, expected);
    }
}

static void statistics(const Case *c, size_t n, size_t s, double *mean, double *rstd) {
    double sum = 0, squares = 0;
    for (size_t k = 0; k < c->cols; k++) sum += x_at(c, n, k, s);
    *mean = c->p.op == DYT_OP_LAYER_NORM ? sum / (double)c->cols : 0;
    for (size_t k = 0; k < c->cols; k++) {
        double d = x_at(c, n, k, s) - *mean;
        squares += d * d;
    }
    *rstd = c->p.std == DYT_STD_UNBIASED ? 1 / (sqrt(squares / (double)(c->cols - 1)) + c->p.eps)
                                         : 1 / sqrt(squares / (double)c->cols + c->p.eps);
}

static void check_forward(const Case *c, const void *y) {
    const float *mean = c->mean.host, *rstd = c->rstd.host;
    for (size_t n = 0; n < c->rows; n++)
        for (size_t s = 0; s < c->inner; s++) {
            double m = 0, r = 1;
            if (!pointwise(c)) {
                statistics(c, n, s, &m, &r);
                if (c->p.op == DYT_OP_LAYER_NORM) close_to("mean", c, mean[n * c->inner + s], m, 3, DYT_F32);
                close_to("rstd", c, rstd[n * c->inner + s], r, 0, DYT_F32);
            }
            for (size_t k = 0; k < c->cols; k++) {
                double x = x_at(c, n, k, s);
                double z = pointwise(c) ? f(c, c->alpha * x + c->shift) : (x - m) * r;
                double y0 = gamma_at(c, k) * z + get(c->beta.host, c->p.param_dtype, k);
                close_to("y", c, get(y, c->p.dtype, at(c, n, k, s)), y0, 3, c->p.dtype);
            }
        }
}

typedef struct {
    double *dgamma, *dbeta, dalpha, dshift;
} Sums;

/* dx, and the sums of one row. */
static void check_row(const Case *c, size_t n, size_t s, const void *dx, Sums *sums) {
    double m = 0, r = 1, h1 = 0, h2 = 0, cols = (double)c->cols;
    if (!pointwise(c)) statistics(c, n, s, &m, &r);
    for (size_t k = 0; k < c->cols; k++) {
        double h = dy_at(c, n, k, s) * gamma_at(c, k);
        h1 += h / cols;
        h2 += h * (x_at(c, n, k, s) - m) * r / cols;
    }
    /* The unbiased form: rstd = 1/(sd + eps), so that d rstd / d x_k = -rstd^2 (x_k - m) / ((cols - 1) sd). */
    double spread = c->p.std == DYT_STD_UNBIASED ? cols / ((cols - 1) * (1 / r - c->p.eps) * r) : 1;
    for (size_t k = 0; k < c->cols; k++) {
        double x = x_at(c, n, k, s), dy = dy_at(c, n, k, s), h = dy * gamma_at(c, k);
        double u = c->alpha * x + c->shift, z = (x - m) * r;
        double g = pointwise(c) ? h * slope(c, u) : 0;
        double dx0 = pointwise(c) ? c->alpha * g : r * (h - (c->p.op == DYT_OP_LAYER_NORM ? h1 : 0) - z * h2 * spread);
        close_to("dx", c, get(dx, c->p.dtype, at(c, n, k, s)), dx0, 9, c->p.dtype);
        sums->dgamma[k] += dy * (pointwise(c) ? f(c, u) : z);
        sums->dbeta[k] += dy;
        sums->dalpha += g * x;
        sums->dshift += g;
    }
}

typedef struct {
    Mem dx, dgamma, dbeta, dalpha, dshift;
} Gradients;

static void check_backward(const Case *c, const Gradients *g, double before) {
    const float *dgamma = g->dgamma.host, *dbeta = g->dbeta.host;
    Sums sums = {memory(c->cols * sizeof(double)), memory(c->cols * sizeof(double)), before, before};
    for (size_t k = 0; k < c->cols; k++) sums.dgamma[k] = sums.dbeta[k] = before;
    for (size_t n = 0; n < c->rows; n++)
        for (size_t s = 0; s < c->inner; s++) check_row(c, n, s, g->dx.host, &sums);
    double scale = 9 * (double)(c->rows * c->inner);
    for (size_t k = 0; k < c->cols; k++) {
        close_to("dgamma", c, dgamma[k], sums.dgamma[k], scale, DYT_F32);
        close_to("dbeta", c, dbeta[k], sums.dbeta[k], scale, DYT_F32);
    }
    scale *= 3 * (double)c->cols;
    if (pointwise(c)) close_to("dalpha", c, *(float *)g->dalpha.host, sums.dalpha, scale, DYT_F32);
    if (c->p.op == DYT_OP_DERF) close_to("dshift", c, *(float *)g->dshift.host, sums.dshift, scale, DYT_F32);
    free(sums.dgamma);
    free(sums.dbeta);
}

static void forward(const dyt_device *device, const Case *c) {
    Mem y = mem(device, c->x.bytes), in_place = mem(device, c->x.bytes);
    memset(y.host, 0x5a, y.bytes);
    push(device, &y);
    fill(device, &in_place, &c->x);
    dyt_forward_args a = forward_args();
    a.x = c->x.there;
    a.y = y.there;
    a.gamma = c->gamma.there;
    a.beta = c->beta.there;
    if (pointwise(c)) a.alpha = c->alpha_there.there;
    if (c->p.op == DYT_OP_DERF) a.shift = c->shift_there.there;
    if (c->p.op == DYT_OP_LAYER_NORM) a.mean = c->mean.there;
    if (!pointwise(c)) a.rstd = c->rstd.there;
    OK(dyt_forward(device, &c->p, &a, NULL, 0, NULL));
    pull(device, &y);
    pull(device, &c->mean);
    pull(device, &c->rstd);
    check_forward(c, y.host);
    /* In place, and without the statistics: the same bits, and nothing in the gaps between the rows. */
    a.x = a.y = in_place.there;
    a.mean = a.rstd = NULL;
    OK(dyt_forward(device, &c->p, &a, NULL, 0, NULL));
    pull(device, &in_place);
    const char *one = y.host, *other = in_place.host;
    size_t row = c->cols * c->inner * size_of(c->p.dtype), stride = c->stride * size_of(c->p.dtype);
    for (size_t n = 0; n < c->rows; n++) {
        CHECK(memcmp(one + n * stride, other + n * stride, row) == 0);
        for (size_t i = n * stride + row; i < (n + 1) * stride && i < y.bytes; i++) CHECK(one[i] == 0x5a);
    }
    drop(device, &y);
    drop(device, &in_place);
}

static void backward(const dyt_device *device, const Case *c) {
    size_t workspace_bytes = 0;
    Gradients g = {mem(device, c->x.bytes), mem(device, c->cols * 4), mem(device, c->cols * 4), mem(device, 4),
                   mem(device, 4)};
    Mem *sums[] = {&g.dgamma, &g.dbeta, &g.dalpha, &g.dshift};
    for (int i = 0; i < 4; i++) {
        for (size_t k = 0; k < sums[i]->bytes / 4; k++) ((float *)sums[i]->host)[k] = 2;
        push(device, sums[i]);
    }
    OK(dyt_workspace_size(device, &c->p, DYT_BACKWARD, &workspace_bytes));
    void *workspace = NULL;
    OK(dyt_alloc(device, workspace_bytes, &workspace));
    dyt_backward_args a = backward_args();
    a.dy = c->dy.there;
    a.x = c->x.there;
    a.gamma = c->gamma.there;
    a.dx = g.dx.there;
    a.dgamma = g.dgamma.there;
    a.dbeta = g.dbeta.there;
    if (pointwise(c)) {
        a.alpha = c->alpha_there.there;
        a.dalpha = g.dalpha.there;
    }
    if (c->p.op == DYT_OP_DERF) {
        a.shift = c->shift_there.there;
        a.dshift = g.dshift.there;
    }
    if (c->p.op == DYT_OP_LAYER_NORM) a.mean = c->mean.there;
    if (!pointwise(c)) a.rstd = c->rstd.there;
    OK(dyt_backward(device, &c->p, &a, workspace, workspace_bytes, NULL));
    pull(device, &g.dx);
    for (int i = 0; i < 4; i++) pull(device, sums[i]);
    double before = c->p.accumulate ? 2 : 0;
    check_backward(c, &g, before);
    /* Without saved statistics, in place, and the input's gradient alone. */
    fill(device, &g.dx, &c->dy);
    a.dy = g.dx.there;
    a.mean = a.rstd = NULL;
    a.dgamma = a.dbeta = a.dalpha = a.dshift = NULL;
    OK(dyt_backward(device, &c->p, &a, workspace, workspace_bytes, NULL));
    pull(device, &g.dx);
    check_backward(c, &g, before);
    OK(dyt_free(device, workspace));
    drop(device, &g.dx);
    for (int i = 0; i < 4; i++) drop(device, sums[i]);
}

/* The bytes of the elements, without the gaps between rows, are the same. */
static void same_rows(const Case *c, const Mem *one, const Mem *other) {
    size_t row = c->cols * c->inner * size_of(c->p.dtype), stride = c->stride * size_of(c->p.dtype);
    for (size_t n = 0; n < c->rows; n++)
        CHECK(memcmp((const char *)one->host + n * stride, (const char *)other->host + n * stride, row) == 0);
}

/* Whether a residual changes no bit of y: on CUDA the sums of a row that is not aligned to 16 bytes have another order. */
static int keeps_bits(const dyt_device *device, const Case *c) {
    char name[128];
    OK(dyt_device_name(device, name, sizeof name));
    size_t size = size_of(c->p.dtype);
    int aligned = c->cols * size % 16 == 0 && c->stride * size % 16 == 0;
    return strncmp(name, "cuda", 4) != 0 || pointwise(c) || aligned;
}

/* Every value of `one` is near that of `other`, beside gamma and beta of about 1. */
static void near_rows(const Case *c, const Mem *one, const Mem *other) {
    for (size_t n = 0; n < c->rows; n++)
        for (size_t k = 0; k < c->cols; k++)
            for (size_t s = 0; s < c->inner; s++)
                close_to("y of a sum", c, get(one->host, c->p.dtype, at(c, n, k, s)), get(other->host, c->p.dtype, at(c, n, k, s)),
                         1, c->p.dtype);
}

/* y is the op of x + residual as it is stored, to the bit where it can be, in place and out of place; dsum joins dx. */
static void residual(const dyt_device *device, const Case *c) {
    Mem sum = mem(device, c->x.bytes), y = mem(device, c->x.bytes), plain = mem(device, c->x.bytes);
    Mem other = mem(device, c->x.bytes);
    dyt_forward_args a = forward_args();
    a.x = c->x.there;
    a.residual = c->dy.there;
    a.sum = sum.there;
    a.y = y.there;
    a.gamma = c->gamma.there;
    if (pointwise(c)) a.alpha = c->alpha_there.there;
    if (c->p.op == DYT_OP_DERF) a.shift = c->shift_there.there;
    OK(dyt_forward(device, &c->p, &a, NULL, 0, NULL));
    pull(device, &sum);
    pull(device, &y);
    for (size_t n = 0; n < c->rows; n++)
        for (size_t k = 0; k < c->cols; k++)
            for (size_t s = 0; s < c->inner; s++)
                close_to("sum", c, get(sum.host, c->p.dtype, at(c, n, k, s)), x_at(c, n, k, s) + dy_at(c, n, k, s), 0,
                         c->p.dtype);
    dyt_forward_args b = a;
    b.x = sum.there;
    b.y = plain.there;
    b.residual = b.sum = NULL;
    OK(dyt_forward(device, &c->p, &b, NULL, 0, NULL));
    pull(device, &plain);
    if (keeps_bits(device, c)) {
        same_rows(c, &y, &plain);
    } else {
        near_rows(c, &y, &plain);
    }
    fill(device, &other, &c->x);
    fill(device, &plain, &c->dy);
    a.x = a.y = other.there;
    a.residual = a.sum = plain.there;
    OK(dyt_forward(device, &c->p, &a, NULL, 0, NULL));
    pull(device, &other);
    pull(device, &plain);
    same_rows(c, &y, &other);
    same_rows(c, &sum, &plain);
    drop(device, &sum);
    drop(device, &y);
    drop(device, &plain);
    drop(device, &other);
}

/* dx with dsum is that without it and dsum, whichever of dy and dsum dx takes the place of. */
static void joined(const dyt_device *device, const Case *c) {
    Mem alone = mem(device, c->x.bytes), dx = mem(device, c->x.bytes), in_place = mem(device, c->x.bytes);
    size_t bytes = 0;
    OK(dyt_workspace_size(device, &c->p, DYT_BACKWARD, &bytes));
    void *workspace = NULL;
    OK(dyt_alloc(device, bytes, &workspace));
    dyt_backward_args b = backward_args();
    b.dy = c->dy.there;
    b.x = c->x.there;
    b.gamma = c->gamma.there;
    if (pointwise(c)) b.alpha = c->alpha_there.there;
    if (c->p.op == DYT_OP_DERF) b.shift = c->shift_there.there;
    b.dx = alone.there;
    OK(dyt_backward(device, &c->p, &b, workspace, bytes, NULL));
    b.dx = dx.there;
    b.dsum = c->x.there;
    OK(dyt_backward(device, &c->p, &b, workspace, bytes, NULL));
    pull(device, &alone);
    pull(device, &dx);
    for (size_t n = 0; n < c->rows; n++)
        for (size_t k = 0; k < c->cols; k++)
            for (size_t s = 0; s < c->inner; s++) {
                double one = get(alone.host, c->p.dtype, at(c, n, k, s));
                close_to("dx", c, get(dx.host, c->p.dtype, at(c, n, k, s)), one + x_at(c, n, k, s), fabs(one),
                         c->p.dtype);
            }
    fill(device, &in_place, &c->x);
    b.dsum = b.dx = in_place.there;
    OK(dyt_backward(device, &c->p, &b, workspace, bytes, NULL));
    pull(device, &in_place);
    same_rows(c, &dx, &in_place);
    OK(dyt_free(device, workspace));
    drop(device, &alone);
    drop(device, &dx);
    drop(device, &in_place);
}

/* Memory with such numbers. */
static Mem numbers(const dyt_device *device, uint32_t dtype, size_t n, uint32_t *seed) {
    Mem m = mem(device, n * size_of(dtype));
    for (size_t i = 0; i < n; i++) put(m.host, dtype, i, number(seed));
    push(device, &m);
    return m;
}

static Mem one_float(const dyt_device *device, float value) {
    Mem m = mem(device, 4);
    memcpy(m.host, &value, 4);
    push(device, &m);
    return m;
}

static void run(const dyt_device *device, dyt_problem p) {
    uint32_t seed = p.op * 97 + p.dtype * 31 + 5;
    Case c;
    memset(&c, 0, sizeof c);
    c.p = p;
    c.rows = (size_t)p.rows;
    c.cols = (size_t)p.cols;
    c.inner = (size_t)p.inner;
    c.stride = p.row_stride == 0 ? c.cols * c.inner : (size_t)p.row_stride;
    c.tensor = c.rows == 0 ? 0 : (c.rows - 1) * c.stride + c.cols * c.inner;
    c.alpha = 0.6f;
    if (p.op == DYT_OP_DERF) c.shift = -0.3f;
    c.x = numbers(device, p.dtype, c.tensor, &seed);
    c.dy = numbers(device, p.dtype, c.tensor, &seed);
    c.gamma = numbers(device, p.param_dtype, c.cols, &seed);
    c.beta = numbers(device, p.param_dtype, c.cols, &seed);
    c.alpha_there = one_float(device, c.alpha);
    c.shift_there = one_float(device, c.shift);
    c.mean = mem(device, c.rows * c.inner * 4);
    c.rstd = mem(device, c.rows * c.inner * 4);
    forward(device, &c);
    backward(device, &c);
    residual(device, &c);
    joined(device, &c);
    Mem *all[] = {&c.x, &c.dy, &c.gamma, &c.beta, &c.alpha_there, &c.shift_there, &c.mean, &c.rstd};
    for (int i = 0; i < 8; i++) drop(device, all[i]);
}

/* Copies of any number of bytes, and of no others than those, from and to host memory that is not aligned. */
static void copies(const dyt_device *device) {
    unsigned char from[42], to[42], *source = from + 1, *target = to + 1;
    size_t all = sizeof from - 1;
    void *there = NULL;
    OK(dyt_alloc(device, all, &there));
    OK(dyt_download(device, target, there, all));
    for (size_t i = 0; i < all; i++) CHECK(target[i] == 0);
    for (size_t bytes = 0; bytes <= all; bytes++) {
        memset(from, 0xee, sizeof from);
        OK(dyt_upload(device, there, source, all));
        for (size_t i = 0; i < all; i++) source[i] = (unsigned char)(i + 7);
        OK(dyt_upload(device, there, source, bytes));
        OK(dyt_download(device, target, there, all));
        for (size_t i = 0; i < all; i++) CHECK(target[i] == (i < bytes ? source[i] : 0xee));
        memset(to, 0xdd, sizeof to);
        OK(dyt_download(device, target, there, bytes));
        for (size_t i = 0; i < all; i++) CHECK(target[i] == (i < bytes ? source[i] : 0xdd));
    }
    OK(dyt_free(device, there));
}

int main(int argc, char **argv) {
    dyt_device *device = open_device(argc, argv);
    char name[64] = "";
    OK(dyt_device_name(device, name, sizeof name));
    copies(device);
    for (uint32_t op = DYT_OP_DYT; op <= DYT_OP_RMS_NORM; op++)
        for (uint32_t dtype = DYT_F32; dtype <= DYT_BF16; dtype++) {
            dyt_problem p = problem_of(op, dtype, 7, 33);
            run(device, p);
            p.row_stride = 40;
            p.param_dtype = DYT_F32;
            p.accumulate = 1;
            p.gamma_offset = 1;
            run(device, p);
            p = problem_of(op, dtype, 3, 5);
            p.inner = 6;
            p.gamma_offset = -0.25f;
            run(device, p);
            p = problem_of(op, dtype, 1, 770);
            p.std = op == DYT_OP_LAYER_NORM ? DYT_STD_UNBIASED : DYT_STD_BIASED;
            run(device, p);
        }
    dyt_device_close(device);
    printf("ops on %s: %d failures\n", name, failures);
    return failures != 0;
}
