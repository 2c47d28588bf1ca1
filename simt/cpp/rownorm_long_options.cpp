#include "../../kernels/rownorm_long_options.cu"

extern "C" void dyt_simt_rownorm_long_options() {}
