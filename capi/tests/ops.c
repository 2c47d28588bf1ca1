/* Every op, both directions, against the formulas in double: storage types, strides, channels-first, in place. */
#include "common.h"

#define PI 3.14159265358979323846

typedef struct {
    dyt_problem p;
    size_t rows, cols, inner, stride, tensor;
    float alpha, shift;
    void *x, *dy, *gamma, *beta;
} Case;

static double f(const Case *c, double u) { return c->p.op == DYT_OP_DYT ? tanh(u) : erf(u); }
static double slope(const Case *c, double u) {
    return c->p.op == DYT_OP_DYT ? 1 / (cosh(u) * cosh(u)) : 2 / sqrt(PI) * exp(-u * u);
}
static size_t at(const Case *c, size_t n, size_t k, size_t s) { return n * c->stride + k * c->inner + s; }
static int pointwise(const Case *c) { return c->p.op == DYT_OP_DYT || c->p.op == DYT_OP_DERF; }
static double x_at(const Case *c, size_t n, size_t k, size_t s) { return get(c->x, c->p.dtype, at(c, n, k, s)); }
static double dy_at(const Case *c, size_t n, size_t k, size_t s) { return get(c->dy, c->p.dtype, at(c, n, k, s)); }
static double gamma_at(const Case *c, size_t k) { return get(c->gamma, c->p.param_dtype, k); }

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

static void check_forward(const Case *c, const void *y, const float *mean, const float *rstd) {
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
                double y0 = gamma_at(c, k) * z + get(c->beta, c->p.param_dtype, k);
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

static void check_backward(const Case *c, const void *dx, const float *dgamma, const float *dbeta, float dalpha,
                           float dshift, double before) {
    Sums sums = {memory(c->cols * sizeof(double)), memory(c->cols * sizeof(double)), before, before};
    for (size_t k = 0; k < c->cols; k++) sums.dgamma[k] = sums.dbeta[k] = before;
    for (size_t n = 0; n < c->rows; n++)
        for (size_t s = 0; s < c->inner; s++) check_row(c, n, s, dx, &sums);
    double scale = 9 * (double)(c->rows * c->inner);
    for (size_t k = 0; k < c->cols; k++) {
        close_to("dgamma", c, dgamma[k], sums.dgamma[k], scale, DYT_F32);
        close_to("dbeta", c, dbeta[k], sums.dbeta[k], scale, DYT_F32);
    }
    scale *= 3 * (double)c->cols;
    if (pointwise(c)) close_to("dalpha", c, dalpha, sums.dalpha, scale, DYT_F32);
    if (c->p.op == DYT_OP_DERF) close_to("dshift", c, dshift, sums.dshift, scale, DYT_F32);
    free(sums.dgamma);
    free(sums.dbeta);
}

static void forward(const dyt_device *device, const Case *c, float *mean, float *rstd) {
    size_t bytes = c->tensor * size_of(c->p.dtype);
    char *y = memory(bytes), *in_place = memory(bytes);
    memset(y, 0x5a, bytes);
    memcpy(in_place, c->x, bytes);
    dyt_forward_args a = forward_args();
    a.x = c->x;
    a.y = y;
    a.gamma = c->gamma;
    a.beta = c->beta;
    if (pointwise(c)) a.alpha = &c->alpha;
    if (c->p.op == DYT_OP_DERF) a.shift = &c->shift;
    if (c->p.op == DYT_OP_LAYER_NORM) a.mean = mean;
    if (!pointwise(c)) a.rstd = rstd;
    OK(dyt_forward(device, &c->p, &a, NULL, 0, NULL));
    check_forward(c, y, mean, rstd);
    /* In place, and without the statistics: the same bits, and nothing in the gaps between the rows. */
    a.x = a.y = in_place;
    a.mean = a.rstd = NULL;
    OK(dyt_forward(device, &c->p, &a, NULL, 0, NULL));
    size_t row = c->cols * c->inner * size_of(c->p.dtype), stride = c->stride * size_of(c->p.dtype);
    for (size_t n = 0; n < c->rows; n++) {
        CHECK(memcmp(y + n * stride, in_place + n * stride, row) == 0);
        for (size_t i = n * stride + row; i < (n + 1) * stride && i < bytes; i++) CHECK(y[i] == 0x5a);
    }
    free(y);
    free(in_place);
}

static void backward(const dyt_device *device, const Case *c, const float *mean, const float *rstd) {
    size_t bytes = c->tensor * size_of(c->p.dtype), workspace_bytes = 0;
    void *dx = memory(bytes);
    float *dgamma = memory(c->cols * 4), *dbeta = memory(c->cols * 4), dalpha = 2, dshift = 2;
    for (size_t k = 0; k < c->cols; k++) dgamma[k] = dbeta[k] = 2;
    OK(dyt_workspace_size(device, &c->p, DYT_BACKWARD, &workspace_bytes));
    void *workspace = NULL;
    OK(dyt_alloc(device, workspace_bytes, &workspace));
    dyt_backward_args a = backward_args();
    a.dy = c->dy;
    a.x = c->x;
    a.gamma = c->gamma;
    a.dx = dx;
    a.dgamma = dgamma;
    a.dbeta = dbeta;
    if (pointwise(c)) {
        a.alpha = &c->alpha;
        a.dalpha = &dalpha;
    }
    if (c->p.op == DYT_OP_DERF) {
        a.shift = &c->shift;
        a.dshift = &dshift;
    }
    if (c->p.op == DYT_OP_LAYER_NORM) a.mean = mean;
    if (!pointwise(c)) a.rstd = rstd;
    OK(dyt_backward(device, &c->p, &a, workspace, workspace_bytes, NULL));
    double before = c->p.accumulate ? 2 : 0;
    check_backward(c, dx, dgamma, dbeta, dalpha, dshift, before);
    /* Without saved statistics, in place, and the input's gradient alone. */
    memcpy(dx, c->dy, bytes);
    a.dy = dx;
    a.mean = a.rstd = NULL;
    a.dgamma = a.dbeta = a.dalpha = a.dshift = NULL;
    OK(dyt_backward(device, &c->p, &a, workspace, workspace_bytes, NULL));
    check_backward(c, dx, dgamma, dbeta, dalpha, dshift, before);
    OK(dyt_free(device, workspace));
    free(dx);
    free(dgamma);
    free(dbeta);
}

static void run(const dyt_device *device, dyt_problem p) {
    uint32_t seed = p.op * 97 + p.dtype * 31 + 5;
    Case c = {p, (size_t)p.rows, (size_t)p.cols, (size_t)p.inner, 0, 0, 0.6f, 0, NULL, NULL, NULL, NULL};
    c.stride = p.row_stride == 0 ? c.cols * c.inner : (size_t)p.row_stride;
    c.tensor = c.rows == 0 ? 0 : (c.rows - 1) * c.stride + c.cols * c.inner;
    if (p.op == DYT_OP_DERF) c.shift = -0.3f;
    c.x = memory(c.tensor * size_of(p.dtype));
    c.dy = memory(c.tensor * size_of(p.dtype));
    c.gamma = memory(c.cols * size_of(p.param_dtype));
    c.beta = memory(c.cols * size_of(p.param_dtype));
    for (size_t i = 0; i < c.tensor; i++) {
        put(c.x, p.dtype, i, number(&seed));
        put(c.dy, p.dtype, i, number(&seed));
    }
    for (size_t k = 0; k < c.cols; k++) {
        put(c.gamma, p.param_dtype, k, number(&seed));
        put(c.beta, p.param_dtype, k, number(&seed));
    }
    float *mean = memory(c.rows * c.inner * 4), *rstd = memory(c.rows * c.inner * 4);
    forward(device, &c, mean, rstd);
    backward(device, &c, mean, rstd);
    free(mean);
    free(rstd);
    free(c.x);
    free(c.dy);
    free(c.gamma);
    free(c.beta);
}

int main(int argc, char **argv) {
    dyt_device *device = NULL;
    OK(dyt_device_open(argc > 1 ? argv[1] : "cpu", &device));
    if (device == NULL) return 1;
    char name[32] = "";
    OK(dyt_device_name(device, name, sizeof name));
    for (uint32_t op = DYT_OP_DYT; op <= DYT_OP_RMS_NORM; op++)
        for (uint32_t dtype = DYT_F32; dtype <= DYT_BF16; dtype++) {
            dyt_problem p = problem_of(op, dtype, 7, 33);
            run(device, p);
            p.row_stride = 40;
            p.param_dtype = DYT_F32;
            p.accumulate = 1;
            run(device, p);
            p = problem_of(op, dtype, 3, 5);
            p.inner = 6;
            run(device, p);
            p = problem_of(op, dtype, 1, 770);
            p.std = op == DYT_OP_LAYER_NORM ? DYT_STD_UNBIASED : DYT_STD_BIASED;
            run(device, p);
        }
    dyt_device_close(device);
    printf("ops on %s: %d failures\n", name, failures);
    return failures != 0;
}
