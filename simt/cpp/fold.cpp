#include "../../kernels/fold.cu"

extern "C" void dyt_simt_fold() {}
