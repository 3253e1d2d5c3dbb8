// CUDA for a C++ compiler of the CPU: every thread of a launch runs, one after the other. For kernels whose threads wait for each other
// there is block_on_host.h. `launch` takes its arguments as cuLaunchKernel does, by addresses that it trusts.

#include <type_traits>
#include <utility>

#define __global__
#define __device__

struct uint3 {
    unsigned x, y, z;
};
struct uint4 {
    unsigned x, y, z, w;
};
static thread_local uint3 gridDim, blockDim, blockIdx, threadIdx;

inline int min(int a, int b) { return a < b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline int abs(int a) { return a < 0 ? -a : a; }
// Not from <math.h>: reading it would be half of the time that compiling a kernel takes.
inline float sqrt(float x) { return __builtin_sqrtf(x); }
inline double sqrt(double x) { return __builtin_sqrt(x); }
inline float rsqrt(float x) { return 1 / sqrt(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float pow(float x, float y) { return __builtin_powf(x, y); }
inline double pow(double x, double y) { return __builtin_pow(x, y); }
inline float exp(float x) { return __builtin_expf(x); }
inline double exp(double x) { return __builtin_exp(x); }
inline float log(float x) { return __builtin_logf(x); }
inline double log(double x) { return __builtin_log(x); }
inline float __uint_as_float(unsigned bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof(value));
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    __builtin_memcpy(&bits, &value, sizeof(bits));
    return bits;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return ((unsigned long long)a * b) >> 32; }

namespace host {

// What a parameter is, in three numbers: whether a pointer, NumPy's letter for the kind, the bytes of an element.
template <class T>
void describe(int* numbers) {
    using Element = std::remove_cv_t<std::remove_pointer_t<T>>;
    numbers[0] = std::is_pointer_v<T>;
    numbers[1] = std::is_same_v<Element, bool>           ? 'b'
                 : std::is_floating_point_v<Element>     ? 'f'
                 : std::is_unsigned_v<Element>           ? 'u'
                 : std::is_integral_v<Element>           ? 'i'
                                                         : 'V';
    numbers[2] = sizeof(Element);
}

template <class... Parameters>
int describe_all(void (*)(Parameters...), int* numbers) {
    ((describe<Parameters>(numbers), numbers += 3), ...);
    return sizeof...(Parameters);
}

template <class T>
T argument(const void* address) {
    T value;
    __builtin_memcpy(&value, address, sizeof(T));
    return value;
}

template <class... Parameters, std::size_t... I>
void call(void (*kernel)(Parameters...), void** arguments, std::index_sequence<I...>) {
    kernel(argument<Parameters>(arguments[I])...);
}

// What a kernel writes must not depend on the order of things: by the bits of `order`, the last thread runs first, and copies that a
// thread starts and waits for later (block_on_host.h) happen at once.
enum Order { last_first = 1, copies_first = 2 };

template <class... Parameters>
const char* launch(void (*kernel)(Parameters...), uint3 grid, uint3 block, void** arguments, int order) {
    const bool backwards = order & last_first;
    gridDim = grid;
    blockDim = block;
    const long long threads = (long long)block.x * block.y * block.z, total = threads * grid.x * grid.y * grid.z;
    for (long long i = 0; i < total; ++i) {
        const long long index = backwards ? total - 1 - i : i, number = index / threads, thread = index % threads;
        blockIdx = {unsigned(number % grid.x), unsigned(number / grid.x % grid.y), unsigned(number / grid.x / grid.y)};
        threadIdx = {unsigned(thread % block.x), unsigned(thread / block.x % block.y), unsigned(thread / block.x / block.y)};
        call(kernel, arguments, std::index_sequence_for<Parameters...>());
    }
    return nullptr;
}

}  // namespace host

// `how` is `launch`, or `launch_blocks` of block_on_host.h. It returns what went wrong, if anything did.
#define EXPORT_KERNEL(kernel, how)                                                                                    \
    extern "C" int describe_##kernel(int* numbers) { return host::describe_all(kernel, numbers); }                    \
    extern "C" const char* launch_##kernel(const unsigned* grid, const unsigned* block, void** arguments, int order) { \
        return host::how(kernel, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, arguments, order);      \
    }
