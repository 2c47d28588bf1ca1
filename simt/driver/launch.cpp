// Makes a driver of fake.c that needs no test to run its launches: they run on the host. For programs that are built
// already, such as those that benches/gpu/pack.sh packs; .ci/bundle builds it.
#include <cstdint>
#include <cstdio>

extern "C" void fake_on_launch(int (*)(const char*, const std::uint32_t*, const std::uint32_t*, std::uint32_t,
                                       const void*, std::size_t));
extern "C" const char* dyt_simt_launch(const char*, const std::uint32_t*, const std::uint32_t*, std::uint32_t,
                                       const void*, std::size_t, std::uint32_t, std::uint64_t);

static int run(const char* name, const std::uint32_t* grid, const std::uint32_t* block, std::uint32_t shared_bytes,
               const void* parameter, std::size_t bytes) {
    const char* fault = dyt_simt_launch(name, grid, block, shared_bytes, parameter, bytes, 0, grid[0]);
    if (fault == nullptr) return 0;
    std::fprintf(stderr, "%s: %s\n", name, fault);
    // CUDA_ERROR_LAUNCH_FAILED.
    return 719;
}

__attribute__((constructor)) static void begin() { fake_on_launch(run); }
