// A threadgroup on one thread of a CPU: each of its threads is a fiber, which runs until it waits for others.
//
// One simdgroup runs as far as it can, to a barrier of the threadgroup or to its end, before the next one starts, and within it one
// lane as far as it can, so that whatever lacks a barrier meets memory that nobody has written yet. In which order is the caller's
// to say: results must not depend on it.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

namespace shim {

// What runs a kernel; its mirror is `Launch` in src/lib.rs.
struct Launch {
    uint32_t grid[3];
    uint32_t threads;
    void *const *arguments;
    uint64_t memory_bytes;
    uint32_t order; // FORWARD, REVERSE, SHUFFLED
    uint32_t seed;
    char *error;
    uint64_t error_bytes;
};
enum { FORWARD, REVERSE, SHUFFLED };
enum State { READY, AT_SIMDGROUP, AT_THREADGROUP, DONE };

struct Lane {
    float in[6], out[2];
    int index, lane, simdgroup;
    State state;
    int line; // of the source, where it waits
    void (*together)(Lane *); // what the simdgroup does when all of it is there
    void *stack_pointer;
};

struct Run {
    Lane lanes[1024];
    Lane *current;
    void *scheduler;
    unsigned char *memory;
    uint32_t group[3];
    Launch *launch;
    void (*body)(Run &, Lane &);
};
inline thread_local Run *run;
inline Lane &own() { return *run->current; }

// Puts the registers that a call keeps on the stack, and goes on on another one.
#ifndef __x86_64__
#error "the switch between fibers is written for x86-64"
#endif
extern "C" void shim_switch(void **from, void *to);
asm(R"(
.text
.type shim_switch,@function
shim_switch:
    push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
    mov %rsp,(%rdi)
    mov %rsi,%rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
    ret
)");

__attribute__((noinline)) inline void leave(State state, int line) {
    Lane &lane = own();
    lane.state = state;
    lane.line = line;
    shim_switch(&lane.stack_pointer, run->scheduler);
}
inline void wait_threadgroup(int line) { leave(AT_THREADGROUP, line); }
inline void wait_simdgroup(int line, void (*together)(Lane *)) {
    own().together = together;
    leave(AT_SIMDGROUP, line);
}

inline void start() {
    run->body(*run, own());
    leave(DONE, 0);
    abort();
}

// Numbers 0 .. count in the order that is wanted.
struct Order {
    uint32_t state;
    uint32_t kind;
    void fill(uint32_t *numbers, uint32_t count) {
        for (uint32_t i = 0; i < count; i++) numbers[i] = kind == REVERSE ? count - 1 - i : i;
        for (uint32_t i = count; kind == SHUFFLED && i > 1; i--) {
            state = state * 1664525 + 1013904223;
            uint32_t j = uint64_t(state >> 8) * i >> 24, number = numbers[j];
            numbers[j] = numbers[i - 1];
            numbers[i - 1] = number;
        }
    }
};

constexpr size_t STACK = 256 << 10;

// Runs one threadgroup to its end; false, with words in `launch.error`, when its threads wait for each other in vain.
inline bool run_group(Run &r, Order &order, unsigned char *stacks) {
    Launch &launch = *r.launch;
    const uint32_t threads = launch.threads, simdgroups = threads / 32;
    memset(r.memory, 0xff, launch.memory_bytes); // NaN
    for (uint32_t i = 0; i < threads; i++) {
        Lane &lane = r.lanes[i];
        lane = Lane{};
        lane.index = i;
        lane.lane = i % 32;
        lane.simdgroup = i / 32;
        // What `shim_switch` takes off: six registers, and where to go; a place for a return address keeps the alignment of a call.
        void **top = (void **)(stacks + STACK * (i + 1));
        *--top = nullptr;
        *--top = (void *)start;
        for (int j = 0; j < 6; j++) *--top = nullptr;
        lane.stack_pointer = top;
    }
    uint32_t groups[32], lanes[32];
    for (;;) {
        order.fill(groups, simdgroups);
        for (uint32_t g = 0; g < simdgroups; g++) {
            Lane *simdgroup = r.lanes + 32 * groups[g];
            for (;;) {
                order.fill(lanes, 32);
                for (uint32_t i = 0; i < 32; i++) {
                    r.current = simdgroup + lanes[i];
                    if (r.current->state == READY) shim_switch(&r.scheduler, r.current->stack_pointer);
                }
                uint32_t waiting = 0;
                for (uint32_t i = 0; i < 32; i++) waiting += simdgroup[i].state == AT_SIMDGROUP;
                if (waiting == 0) break;
                for (uint32_t i = 0; i < 32; i++) {
                    if (simdgroup[i].state != AT_SIMDGROUP || simdgroup[i].line != simdgroup[0].line ||
                        simdgroup[i].together != simdgroup[0].together) {
                        snprintf(launch.error, launch.error_bytes, "lanes of a simdgroup wait at line %d and elsewhere",
                                 simdgroup[i].line);
                        return false;
                    }
                }
                simdgroup[0].together(simdgroup);
                for (uint32_t i = 0; i < 32; i++) simdgroup[i].state = READY;
            }
        }
        uint32_t done = 0;
        for (uint32_t i = 0; i < threads; i++) done += r.lanes[i].state == DONE;
        if (done == threads) return true;
        for (uint32_t i = 0; i < threads; i++) {
            if (done > 0 || r.lanes[i].line != r.lanes[0].line) {
                snprintf(launch.error, launch.error_bytes, "threads of a threadgroup wait at line %d, others elsewhere or nowhere",
                         r.lanes[i].line);
                return false;
            }
        }
        for (uint32_t i = 0; i < threads; i++) r.lanes[i].state = READY;
    }
}

// Every threadgroup of a grid; 0 when it went well.
inline int run_grid(Launch *launch, void (*body)(Run &, Lane &)) {
    static thread_local Run storage;
    static thread_local unsigned char *stacks;
    if (!stacks) {
        stacks = (unsigned char *)mmap(nullptr, STACK * 1024, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED) abort();
    }
    Run &r = storage;
    run = &r;
    r.launch = launch;
    r.body = body;
    // Of its own, so that AddressSanitizer knows its end.
    if (posix_memalign((void **)&r.memory, 64, launch->memory_bytes + !launch->memory_bytes)) abort();
    Order order{launch->seed, launch->order};
    uint32_t count = launch->grid[0] * launch->grid[1] * launch->grid[2];
    uint32_t *groups = (uint32_t *)malloc(sizeof(uint32_t) * (count + 1));
    order.fill(groups, count);
    bool well = true;
    for (uint32_t i = 0; well && i < count; i++) {
        uint32_t x = launch->grid[0], y = launch->grid[1];
        r.group[0] = groups[i] % x;
        r.group[1] = groups[i] / x % y;
        r.group[2] = groups[i] / x / y;
        well = run_group(r, order, stacks);
    }
    free(groups);
    free(r.memory);
    return well ? 0 : 1;
}

} // namespace shim
