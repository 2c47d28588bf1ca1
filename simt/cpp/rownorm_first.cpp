#include "../../kernels/rownorm_first.cu"

extern "C" void dyt_simt_rownorm_first() {}
