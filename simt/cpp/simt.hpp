// What a CUDA compiler supplies, for a C++ compiler on the host: kernels/platform.cuh includes this in its place. Each
// thread of a block is a fiber; simt.cpp has the scheduler.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __syncthreads() simt::sync_threads()
#define __syncwarp() simt::any(0xffffffffu, false)
#define __syncthreads_or(here) simt::sync_threads_or(here)
#define __shfl_sync(mask, value, from) simt::shuffle(mask, value, from)
#define __shfl_xor_sync(mask, value, apart) simt::shuffle_xor(mask, value, apart)
#define __any_sync(mask, here) simt::any(mask, here)
#define __clz(value) __builtin_clz(value)
#define threadIdx (simt::here->thread)
#define blockIdx (simt::here->block)
#define blockDim (simt::here->threads)
#define gridDim (simt::here->blocks)

namespace simt {

struct Index {
    std::uint32_t x;
    std::uint32_t y;
    std::uint32_t z;
};

// Where the running fiber is.
struct Here {
    Index thread;
    Index block;
    Index threads;
    Index blocks;
};

extern thread_local Here* here;

void sync_threads();
int sync_threads_or(bool here);
float shuffle(std::uint32_t mask, float value, std::uint32_t from);
float shuffle_xor(std::uint32_t mask, float value, std::uint32_t apart);
int any(std::uint32_t mask, bool here);
unsigned char* shared_memory();

// Copies whose target gets nothing, and whose source is not read, before their group is waited for.
void copy_async(void* target, const void* source);
void commit_copies();
void wait_copies(std::size_t pending);

float widen_f16(std::uint16_t bits);
std::uint16_t narrow_f16(float value);

template <class To, class From>
inline To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "as many bits");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

// A kernel, found by its name.
struct Entry {
    const char* name;
    std::size_t parameter_bytes;
    std::uint32_t most_threads;
    void (*run)(const void* parameter);
    const Entry* next;
    Entry(const char* name, std::size_t parameter_bytes, std::uint32_t most_threads, void (*run)(const void*));
};

}  // namespace simt
