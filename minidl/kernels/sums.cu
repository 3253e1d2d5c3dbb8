// The sum of the rows of a matrix (rows, channels), or of what is made of them on the way, as sums.py has it.
#include "kernel.cuh"

constexpr int MOST_THREADS = 256;  // in a block
constexpr int AHEAD = 8;           // vectors that a thread reads before it computes with the first: memory is far away

// What the threads with one threadIdx.x have, added up pair by pair in a fixed order, for the first of them. blockDim.y: a power of 2.
__device__ Channels<Number> sum_of_column(Channels<Number> own) {
    __shared__ Channels<Number> parts[MOST_THREADS];
    Channels<Number>* const mine = parts + threadIdx.y * blockDim.x + threadIdx.x;
    *mine = own;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half)
            for (int e = 0; e < WIDTH; ++e) mine->of[e] += mine[half * blockDim.x].of[e];
        __syncthreads();
    }
    return *mine;
}

// Rows in strips of `strip`: the sum of each becomes a row of `sums`. A block has blockDim.x * WIDTH channels of a strip, and of its rows
// a thread has every blockDim.y-th. read(at) gets from memory what belongs to the WIDTH channels at `at`, part(at, found) makes of it what
// is added.
template <class Read, class Part>
__device__ void sum_strips_of(long long rows, long long channels, long long strip, Number* sums, Read read, Part part) {
    constexpr int AT_ONCE = AHEAD * sizeof(Channels<Real>) / sizeof(read(0));  // rows
    const long long along = blockDim.x * WIDTH, chunks = (channels + along - 1) / along, strips = (rows + strip - 1) / strip;
    for (long long block = blockIdx.x; block < strips * chunks; block += gridDim.x) {
        const long long number = block / chunks, first = number * strip, last = min(first + strip, rows);
        const long long channel = block % chunks * along + threadIdx.x * WIDTH;
        Channels<Number> sum = {};
        const auto add = [&](long long at, auto found) {
            const Channels<Number> more = part(at, found);
            for (int e = 0; e < WIDTH; ++e) sum.of[e] += more.of[e];
        };
        long long row = channel < channels ? first + threadIdx.y : last;
        for (; row + (AT_ONCE - 1) * blockDim.y < last; row += AT_ONCE * blockDim.y) {
            decltype(read(row)) found[AT_ONCE];
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) found[i] = read((row + i * blockDim.y) * channels + channel);
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) add((row + i * blockDim.y) * channels + channel, found[i]);
        }
        for (; row < last; row += blockDim.y) add(row * channels + channel, read(row * channels + channel));
        sum = sum_of_column(sum);
        if (threadIdx.y == 0 && channel < channels) store(sums + number * channels + channel, sum);
    }
}

extern "C" __global__ void sum_strips(
    const Real* __restrict__ x, Number* __restrict__ sums, const long long rows, const long long channels, const long long strip) {
    sum_strips_of(
        rows, channels, strip, sums, [&](long long at) { return stored(x + at); },
        [&](long long, auto row) { return numbers(row); });
}

struct Passing {
    Channels<Real> output, gradient;
};

// dx = the gradient where the output `y` of ReLU is positive, and dx in strips. Without __restrict__: with it the compiler moves each row's
// loads to where it is stored, and no more than these two are under way.
extern "C" __global__ void relu_backward_strips(
    const Real* y, const Real* gradient, Real* dx, Number* sums, const long long rows, const long long channels, const long long strip) {
    sum_strips_of(
        rows, channels, strip, sums, [&](long long at) { return Passing{stored(y + at), stored(gradient + at)}; },
        [&](long long at, const Passing& passing) {
            const Channels<Number> output = numbers(passing.output);
            Channels<Number> passed = numbers(passing.gradient);
            for (int e = 0; e < WIDTH; ++e) passed.of[e] = output.of[e] > 0 ? passed.of[e] : Number(0);
            store(dx + at, passed);
            return passed;
        });
}
