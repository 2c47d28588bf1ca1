/* Linked beside a test of the CUDA devices, where there is no GPU: launches that reach the driver of simt/driver run as
 * simt/ has them, on the host. */
#include <stdint.h>
#include <stdio.h>

typedef int (*OnLaunch)(const char *name, const uint32_t *grid, const uint32_t *block, uint32_t shared_bytes,
                        const void *parameter, size_t bytes);
void fake_on_launch(OnLaunch function);
const char *dyt_simt_launch(const char *name, const uint32_t *grid, const uint32_t *block, uint32_t shared_bytes,
                            const void *parameter, size_t bytes, uint32_t order, uint64_t seed);

static int launch(const char *name, const uint32_t *grid, const uint32_t *block, uint32_t shared_bytes,
                  const void *parameter, size_t bytes) {
    const char *fault = dyt_simt_launch(name, grid, block, shared_bytes, parameter, bytes, 0, grid[0]);
    if (fault == NULL) return 0;
    fprintf(stderr, "%s: %s\n", name, fault);
    return 719;
}

__attribute__((constructor)) static void install(void) { fake_on_launch(launch); }
