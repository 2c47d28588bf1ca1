#include "../../kernels/rownorm_options.cu"

extern "C" void dyt_simt_rownorm_options() {}
