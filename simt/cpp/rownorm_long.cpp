#include "../../kernels/rownorm_long.cu"

extern "C" void dyt_simt_rownorm_long() {}
