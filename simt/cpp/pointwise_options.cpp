#include "../../kernels/pointwise_options.cu"

extern "C" void dyt_simt_pointwise_options() {}
