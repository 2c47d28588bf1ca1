#include "../../kernels/rownorm.cu"

extern "C" void dyt_simt_rownorm() {}
