// For kernels whose threads wait for each other: a block's threads run in turn on stacks of their own, each up to its next barrier.
// The functions of tensor_core.cuh are here as what they promise, no more: a copy that was started happens at once or only when the
// thread waits for it, as the launch is told (`order`). A test that runs both ways finds a kernel that relies on either.

#include <ucontext.h>

#include <deque>
#include <vector>

#define __shared__ static  // one block at a time
#define __launch_bounds__(...)

struct float4 {
    float x, y, z, w;
};

namespace host {

enum State { running, at_block_barrier, at_warp_barrier, done };

struct Copy {
    uint4* target;
    const void* source;
    bool exists;

    void run() const {
        if (exists)
            __builtin_memcpy(target, source, sizeof(uint4));
        else
            *target = {};
    }
};

struct Thread {
    ucontext_t context;
    State state = running;
    std::deque<std::vector<Copy>> groups = {{}};  // the last is still open
    const unsigned *a, *b;                        // what this thread holds of the factors of a product
};

constexpr int SHARED_BYTES = 227 << 10;
alignas(128) static unsigned char shared_bytes[SHARED_BYTES];
static std::vector<Thread> threads;
static std::vector<std::vector<char>> stacks(1024);
static ucontext_t scheduler;
static int current;
static bool copies_at_once;
static const char* failure;  // what is wrong with the launch

inline void wait_at(State barrier) {
    threads[current].state = barrier;
    swapcontext(&threads[current].context, &scheduler);
}

// Threads first ... last - 1 go on if all of them have come to `barrier`.
inline bool release(int first, int last, State barrier) {
    for (int i = first; i < last; ++i)
        if (threads[i].state != barrier) return false;
    for (int i = first; i < last; ++i) threads[i].state = running;
    return true;
}

template <class Body>
bool run_block(int count, bool backwards, Body& body) {
    threads = std::vector<Thread>(count);
    __builtin_memset(shared_bytes, 0xff, sizeof shared_bytes);  // NaN
    for (int i = 0; i < count; ++i) {
        Thread& thread = threads[i];
        stacks[i].resize(1 << 17);
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = stacks[i].data();
        thread.context.uc_stack.ss_size = stacks[i].size();
        thread.context.uc_link = &scheduler;
        const auto start = +[](unsigned low, unsigned high) {
            (*reinterpret_cast<Body*>(low | (unsigned long long)high << 32))();
            threads[current].state = done;
        };
        const auto address = reinterpret_cast<unsigned long long>(&body);
        makecontext(&thread.context, reinterpret_cast<void (*)()>(start), 2, unsigned(address), unsigned(address >> 32));
    }
    for (;;) {
        bool moved = false;
        for (int i = 0; i < count; ++i) {
            current = backwards ? count - 1 - i : i;
            if (threads[current].state != running) continue;
            threadIdx = {unsigned(current % blockDim.x), unsigned(current / blockDim.x % blockDim.y),
                         unsigned(current / blockDim.x / blockDim.y)};
            swapcontext(&scheduler, &threads[current].context);
            moved = true;
        }
        for (int first = 0; first < count; first += 32) moved |= release(first, min(first + 32, count), at_warp_barrier);
        moved |= release(0, count, at_block_barrier);
        if (release(0, count, done)) return true;
        if (!moved) return false;
    }
}

template <class... Parameters>
const char* launch_blocks(void (*kernel)(Parameters...), uint3 grid, uint3 block, void** arguments, int order) {
    gridDim = grid;
    blockDim = block;
    failure = nullptr;
    const bool backwards = order & last_first;
    copies_at_once = order & copies_first;
    auto body = [&] { call(kernel, arguments, std::index_sequence_for<Parameters...>()); };
    const long long blocks = (long long)grid.x * grid.y * grid.z;
    for (long long i = 0; i < blocks; ++i) {
        const long long number = backwards ? blocks - 1 - i : i;
        blockIdx = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y), unsigned(number / grid.x / grid.y)};
        if (!run_block(block.x * block.y * block.z, backwards, body)) return "threads of a block wait at different barriers";
    }
    return failure;
}

}  // namespace host

inline void __syncthreads() { host::wait_at(host::at_block_barrier); }

inline uint4* shared_memory() { return reinterpret_cast<uint4*>(host::shared_bytes); }

inline void copy_later(uint4* target, const void* source, bool exists) {
    const host::Copy copy = {target, source, exists};
    if (reinterpret_cast<unsigned long long>(target) % 16 || (exists && reinterpret_cast<unsigned long long>(source) % 16))
        host::failure = "misaligned address";
    if (host::copies_at_once)
        copy.run();
    else
        host::threads[host::current].groups.back().push_back(copy);
}

inline void end_group() { host::threads[host::current].groups.emplace_back(); }

template <int pending>
void wait_for_groups() {
    auto& groups = host::threads[host::current].groups;
    for (; groups.size() > pending + 1; groups.pop_front())
        for (const host::Copy& copy : groups.front()) copy.run();
}

constexpr unsigned TF32 = ~0u << 13;  // the bits of a float32 that tensor cores see

inline unsigned __byte_perm(unsigned a, unsigned b, unsigned which) {
    const unsigned long long bytes = (unsigned long long)b << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) result |= unsigned(bytes >> 8 * (which >> 4 * i & 7) & 0xff) << 8 * i;
    return result;
}

// The products of the 4 bytes of two words: of one float32 of which the tensor cores do not see all, or of two bfloat16.
template <int bytes>
float word_product(unsigned a, unsigned b) {
    if constexpr (bytes == 4) return __uint_as_float(a & TF32) * __uint_as_float(b & TF32);
    return __uint_as_float(a << 16) * __uint_as_float(b << 16) + __uint_as_float(a & ~0xffffu) * __uint_as_float(b & ~0xffffu);
}

template <class Real, int M, int N>
void multiply_tiles(float (&c)[M][N][4], const unsigned (&a)[M][4], const unsigned (&b)[N][2]) {
    const int me = host::current, lane = me % 32;
    host::Thread* const warp = &host::threads[me - lane];
    warp[lane].a = a[0], warp[lane].b = b[0];
    host::wait_at(host::at_warp_barrier);
    for (int m = 0; m < M; ++m)
        for (int n = 0; n < N; ++n)
            for (int i = 0; i < 4; ++i) {
                const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
                for (int word = 0; word < 8; ++word) {
                    const unsigned left = warp[row % 8 * 4 + word % 4].a[4 * m + row / 8 + word / 4 * 2];
                    const unsigned right = warp[column * 4 + word % 4].b[2 * n + word / 4];
                    c[m][n][i] += word_product<sizeof(Real)>(left, right);
                }
            }
    host::wait_at(host::at_warp_barrier);  // a and b are the thread's own again
}
