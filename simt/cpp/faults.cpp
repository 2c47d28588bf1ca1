// Kernels with mistakes, for the tests of the checks themselves.
#include "common.cuh"

namespace {

struct Outputs {
    float* out;
};

std::uint32_t thread() { return threadIdx.x; }

float* shared() { return reinterpret_cast<float*>(dyt::shared_memory()); }

// What a thread reads of its neighbour is there or not, by their order.
void missing_barrier(const Outputs& a) {
    shared()[thread()] = static_cast<float>(thread());
    a.out[thread()] = shared()[thread() ^ 1];
}

void with_barrier(const Outputs& a) {
    shared()[thread()] = static_cast<float>(thread());
    __syncthreads();
    a.out[thread()] = shared()[thread() ^ 1];
}

void divergent_barrier(const Outputs& a) {
    if (thread() != 0) __syncthreads();
    a.out[thread()] = 1.0f;
}

void divergent_shuffle(const Outputs& a) {
    a.out[thread()] = thread() != 0 ? dyt::lane_sum(1.0f, 32) : 0.0f;
}

// The copy is read before it is waited for.
void missing_wait(const Outputs& a) {
    dyt::Raw* slot = reinterpret_cast<dyt::Raw*>(shared()) + thread();
    dyt::copy_async(slot, a.out + 4 * thread());
    dyt::commit_copies();
    const float read = dyt::float_of(slot->word[0]);
    dyt::wait_copies<0>();
    a.out[4 * thread()] = read;
}

void abandoned_copy(const Outputs& a) {
    dyt::copy_async(reinterpret_cast<dyt::Raw*>(shared()) + thread(), a.out + 4 * thread());
    dyt::commit_copies();
}

// One element behind the buffer, and behind shared memory.
void beyond(const Outputs& a) { a.out[thread() + 1] = 1.0f; }

void beyond_shared(const Outputs& a) {
    shared()[thread() + 1] = 1.0f;
    a.out[thread()] = 1.0f;
}

#define FAULT(name)                                                                                \
    const simt::Entry name##_entry("fault_" #name, sizeof(Outputs), 64, [](const void* parameter) { \
        name(*static_cast<const Outputs*>(parameter));                                             \
    });

FAULT(missing_barrier)
FAULT(with_barrier)
FAULT(divergent_barrier)
FAULT(divergent_shuffle)
FAULT(missing_wait)
FAULT(abandoned_copy)
FAULT(beyond)
FAULT(beyond_shared)

}  // namespace

extern "C" void dyt_simt_faults() {}
