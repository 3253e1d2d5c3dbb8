// The sum of the rows of a matrix (rows, channels), as sums.py has it.
#include "kernel.cuh"

// A thread adds up WIDTH channels of one strip, and leaves them as one row of `sums`.
extern "C" __global__ void sum_strips(
    const Real* __restrict__ x, Number* __restrict__ sums, const long long rows, const long long channels, const long long strip,
    const long long together) {
    for_each_strip(rows, channels, strip, together, [&](long long number, long long first, long long last, int channel) {
        Channels<Number> sum = {};
#pragma unroll 4
        for (long long row = first; row < last; ++row) {
            const Channels<Number> part = load(x + row * channels + channel);
            for (int e = 0; e < WIDTH; ++e) sum.of[e] += part.of[e];
        }
        store(sums + number * channels + channel, sum);
    });
}
