// Runs the blocks of a grid one after the other, and the threads of a block as fibers, which are switched where they
// wait for one another and nowhere else.
#include "simt.hpp"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace simt {

thread_local Here* here = nullptr;

namespace {

// Bytes of a fiber's stack; frames of an instrumented build are large.
constexpr std::size_t STACK = 64 * 1024;

const Entry*& entries() {
    static const Entry* first = nullptr;
    return first;
}

#if defined(__x86_64__)
// Saves the registers that a callee keeps, and goes on where the other stack left off.
extern "C" void dyt_simt_switch(void** from, void* to);
asm(R"(
.text
.globl dyt_simt_switch
.hidden dyt_simt_switch
.type dyt_simt_switch,@function
dyt_simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size dyt_simt_switch,.-dyt_simt_switch
)");

struct Context {
    void* stack_pointer = nullptr;
    void prepare(unsigned char* stack, void (*start)()) {
        void** top = reinterpret_cast<void**>(stack + STACK);
        // A function begins with the stack 8 bytes off a multiple of 16, as after a call.
        *--top = nullptr;
        *--top = reinterpret_cast<void*>(start);
        for (int i = 0; i < 6; ++i) *--top = nullptr;
        stack_pointer = top;
    }
    void leave_to(Context& other) { dyt_simt_switch(&stack_pointer, other.stack_pointer); }
};
#else
struct Context {
    ucontext_t context;
    void prepare(unsigned char* stack, void (*start)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = STACK;
        context.uc_link = nullptr;
        makecontext(&context, start, 0);
    }
    void leave_to(Context& other) { swapcontext(&context, &other.context); }
};
#endif

struct Copy {
    void* target;
    const void* source;
};

struct Fiber {
    Here place;
    Context context;
    std::uint32_t index;
    bool done;
    // The fiber waits as long as this counter has this value.
    const std::uint64_t* counter;
    std::uint64_t value;
    // The copies of each group that is not waited for; the last one is not committed yet.
    std::vector<std::vector<Copy>> groups;
};

// Those that wait for one another: the threads of a block, or of a warp.
struct Meeting {
    std::uint32_t expected = 0;
    std::uint32_t arrived = 0;
    std::uint64_t met = 0;
};

struct Warp {
    Meeting meeting;
    float values[2][32];
};

// A generator of random numbers: xorshift64.
struct Random {
    std::uint64_t state;
    std::uint64_t next() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
    }
};

enum Order : std::uint32_t { FORWARD = 0, REVERSE = 1, RANDOM = 2 };

struct Machine {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<std::uint32_t> order;
    Meeting block;
    // The last meeting at which a thread said yes; a thread can be one meeting ahead of the others, not two.
    std::uint64_t said[2] = {};
    Context scheduler;
    Fiber* running = nullptr;
    const Entry* entry = nullptr;
    const void* parameter = nullptr;
    std::unique_ptr<unsigned char[]> stacks;
    std::size_t stack_count = 0;
    unsigned char* shared = nullptr;
    const char* fault = nullptr;
};

thread_local Machine machine;

[[noreturn]] void start() {
    machine.entry->run(machine.parameter);
    machine.running->done = true;
    for (;;) machine.running->context.leave_to(machine.scheduler);
}

void wait_for(const std::uint64_t& counter, std::uint64_t value) {
    Fiber& fiber = *machine.running;
    fiber.counter = &counter;
    fiber.value = value;
    fiber.context.leave_to(machine.scheduler);
}

void meet(Meeting& meeting) {
    if (++meeting.arrived == meeting.expected) {
        meeting.arrived = 0;
        ++meeting.met;
    } else {
        wait_for(meeting.met, meeting.met);
    }
}

void set_order(std::vector<std::uint32_t>& order, Order how, Random& random) {
    const std::size_t count = order.size();
    for (std::size_t i = 0; i < count; ++i)
        order[i] = static_cast<std::uint32_t>(how == REVERSE ? count - 1 - i : i);
    if (how == RANDOM)
        for (std::size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random.next() % i]);
}

void prepare_block(const Here& place, std::uint32_t count) {
    const std::uint32_t warps = (count + 31) / 32;
    machine.block.expected = count;
    machine.block.arrived = 0;
    machine.warps.resize(warps);
    for (std::uint32_t w = 0; w < warps; ++w) {
        Meeting& meeting = machine.warps[w].meeting;
        meeting.expected = w + 1 < warps ? 32 : count - 32 * w;
        meeting.arrived = 0;
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        Fiber& fiber = machine.fibers[i];
        fiber.place = place;
        fiber.place.thread = {i % place.threads.x, i / place.threads.x % place.threads.y,
                              i / (place.threads.x * place.threads.y)};
        fiber.index = i;
        fiber.done = false;
        fiber.counter = nullptr;
        fiber.groups.clear();
        fiber.context.prepare(machine.stacks.get() + STACK * i, start);
    }
}

// Runs every fiber until all are done; false if they wait for what does not come.
bool run_block(std::uint32_t count, Order how, Random& random) {
    std::uint32_t left = count;
    set_order(machine.order, how, random);
    while (left > 0) {
        bool moved = false;
        for (const std::uint32_t i : machine.order) {
            Fiber& fiber = machine.fibers[i];
            if (fiber.done || (fiber.counter != nullptr && *fiber.counter == fiber.value)) continue;
            fiber.counter = nullptr;
            machine.running = &fiber;
            here = &fiber.place;
            machine.scheduler.leave_to(fiber.context);
            moved = true;
            left -= fiber.done ? 1 : 0;
        }
        if (!moved) {
            machine.fault = "threads wait at a barrier that others have not reached";
            return false;
        }
        if (how == RANDOM) set_order(machine.order, how, random);
    }
    return true;
}

// Copies that nobody waited for.
bool copies_left(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i)
        for (const auto& group : machine.fibers[i].groups)
            if (!group.empty()) return true;
    return false;
}

void make_room(std::uint32_t count) {
    if (machine.stack_count < count) {
        machine.stacks.reset(new unsigned char[STACK * count]);
        machine.stack_count = count;
    }
    if (machine.fibers.size() < count) machine.fibers.resize(count);
    machine.order.resize(count);
}

const char* run_grid(const Here& grid, std::uint32_t shared_bytes, Order how, std::uint64_t seed) {
    const std::uint32_t count = grid.threads.x * grid.threads.y * grid.threads.z;
    make_room(count);
    machine.fault = nullptr;
    Random random = {seed * 2 + 1};
    const std::uint64_t blocks = static_cast<std::uint64_t>(grid.blocks.x) * grid.blocks.y * grid.blocks.z;
    // As many bytes as the launch asks for, so that AddressSanitizer sees whoever needs more.
    std::unique_ptr<unsigned char[]> shared(new unsigned char[shared_bytes]);
    machine.shared = shared.get();
    // Blocks are independent: a step that shares no factor with their number visits all of them.
    const std::uint64_t step = how == RANDOM && blocks % 7 != 0 ? 7 : 1;
    for (std::uint64_t i = 0; i < blocks; ++i) {
        const std::uint64_t at = how == REVERSE ? blocks - 1 - i : i * step % blocks;
        Here place = grid;
        place.block = {static_cast<std::uint32_t>(at % grid.blocks.x),
                       static_cast<std::uint32_t>(at / grid.blocks.x % grid.blocks.y),
                       static_cast<std::uint32_t>(at / grid.blocks.x / grid.blocks.y)};
        // NaN, as what is read before it is written must show.
        std::memset(shared.get(), 0xff, shared_bytes);
        prepare_block(place, count);
        if (!run_block(count, how, random)) return machine.fault;
        if (machine.fault != nullptr) return machine.fault;
        if (copies_left(count)) return "a thread ended before its copies had arrived";
    }
    return nullptr;
}

}  // namespace

Entry::Entry(const char* name, std::size_t parameter_bytes, std::uint32_t most_threads, void (*run)(const void*))
    : name(name), parameter_bytes(parameter_bytes), most_threads(most_threads), run(run), next(entries()) {
    entries() = this;
}

void sync_threads() { meet(machine.block); }

int sync_threads_or(bool here) {
    const std::uint64_t meeting = machine.block.met + 1;
    std::uint64_t& said = machine.said[meeting % 2];
    if (here) said = meeting;
    meet(machine.block);
    return said == meeting;
}

float shuffle(std::uint32_t mask, float value, std::uint32_t from) {
    const std::uint32_t index = machine.running->index;
    Warp& warp = machine.warps[index / 32];
    if (mask != 0xffffffffu || warp.meeting.expected != 32 || from > 31) {
        machine.fault = "a shuffle among lanes that are not there";
        return value;
    }
    // A lane can be one shuffle ahead of the others, not two.
    float* values = warp.values[warp.meeting.met % 2];
    values[index % 32] = value;
    meet(warp.meeting);
    return values[from];
}

float shuffle_xor(std::uint32_t mask, float value, std::uint32_t apart) {
    return shuffle(mask, value, machine.running->index % 32 ^ apart);
}

int any(std::uint32_t mask, bool here) {
    float lanes = here ? 1.0f : 0.0f;
    for (std::uint32_t apart = 16; apart > 0; apart /= 2) lanes += shuffle_xor(mask, lanes, apart);
    return lanes > 0.0f;
}

unsigned char* shared_memory() { return machine.shared; }

void copy_async(void* target, const void* source) {
    auto& groups = machine.running->groups;
    if (groups.empty()) groups.emplace_back();
    groups.back().push_back({target, source});
}

void commit_copies() {
    auto& groups = machine.running->groups;
    if (groups.empty()) groups.emplace_back();
    groups.emplace_back();
}

void wait_copies(std::size_t pending) {
    auto& groups = machine.running->groups;
    while (groups.size() > pending + 1) {
        for (const Copy& copy : groups.front()) std::memcpy(copy.target, copy.source, 16);
        groups.erase(groups.begin());
    }
}

float widen_f16(std::uint16_t bits) {
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    const std::uint32_t exponent = bits >> 10 & 31, fraction = bits & 0x3ffu;
    if (exponent == 31) return bit_cast<float>(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0) return bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
}

std::uint16_t narrow_f16(float value) {
    const std::uint32_t bits = bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7fff;
    if (magnitude >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {
        // Subnormal: an integer number of 2^-24, rounded by the addition.
        const float shifted = bit_cast<float>(magnitude) + 0.5f;
        return static_cast<std::uint16_t>(sign | (bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
    }
    const std::uint32_t rebased = magnitude - (112u << 23);
    return static_cast<std::uint16_t>(sign | (rebased + 0xfffu + (rebased >> 13 & 1)) >> 13);
}

}  // namespace simt

// Each of these is in the object file of some kernels, which a linker would leave out of the program otherwise.
extern "C" void dyt_simt_pointwise();
extern "C" void dyt_simt_pointwise_options();
extern "C" void dyt_simt_rownorm();
extern "C" void dyt_simt_rownorm_options();
extern "C" void dyt_simt_rownorm_long();
extern "C" void dyt_simt_rownorm_long_options();
extern "C" void dyt_simt_rownorm_first();
extern "C" void dyt_simt_fold();
extern "C" void dyt_simt_faults();

// Runs a launch. Returns null, or what went wrong.
extern "C" const char* dyt_simt_launch(const char* name, const std::uint32_t* grid, const std::uint32_t* block,
                                       std::uint32_t shared_bytes, const void* parameter,
                                       std::size_t parameter_bytes, std::uint32_t order, std::uint64_t seed) {
    dyt_simt_pointwise();
    dyt_simt_pointwise_options();
    dyt_simt_rownorm();
    dyt_simt_rownorm_options();
    dyt_simt_rownorm_long();
    dyt_simt_rownorm_long_options();
    dyt_simt_rownorm_first();
    dyt_simt_fold();
    dyt_simt_faults();
    const simt::Entry* entry = simt::entries();
    while (entry != nullptr && std::strcmp(entry->name, name) != 0) entry = entry->next;
    if (entry == nullptr) return "no kernel has this name";
    if (entry->parameter_bytes != parameter_bytes) return "the parameter has another size than the kernel's";
    if (block[0] * block[1] * block[2] > entry->most_threads) return "more threads than __launch_bounds__";
    simt::Here place = {{0, 0, 0}, {0, 0, 0}, {block[0], block[1], block[2]}, {grid[0], grid[1], grid[2]}};
    simt::machine.entry = entry;
    simt::machine.parameter = parameter;
    return simt::run_grid(place, shared_bytes, static_cast<simt::Order>(order), seed);
}
