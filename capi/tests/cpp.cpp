// The header in C++: it compiles, and the names link as those of C.
#include "dyt.h"

#include <cmath>
#include <cstdio>
#include <memory>

struct Close {
    void operator()(dyt_device *device) const { dyt_device_close(device); }
};

int main() {
    dyt_device *raw = nullptr;
    if (dyt_device_open("cpu", &raw) != DYT_OK) {
        std::fprintf(stderr, "%s\n", dyt_last_error());
        return 1;
    }
    std::unique_ptr<dyt_device, Close> device(raw);
    dyt_problem problem{};
    problem.size = sizeof problem;
    problem.op = DYT_OP_RMS_NORM;
    problem.eps = 0.0f;
    problem.rows = 1;
    problem.cols = 2;
    problem.inner = 1;
    float x[2] = {3.0f, 4.0f}, y[2] = {};
    dyt_forward_args args{};
    args.size = sizeof args;
    args.x = x;
    args.y = y;
    if (dyt_forward(device.get(), &problem, &args, nullptr, 0, nullptr) != DYT_OK) {
        std::fprintf(stderr, "%s\n", dyt_last_error());
        return 1;
    }
    return std::fabs(y[0] - 3.0f / std::sqrt(12.5f)) < 1e-6f ? 0 : 1;
}
