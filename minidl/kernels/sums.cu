// The sum of the rows of a matrix (rows, channels), as sums.py has it.
#include "kernel.cuh"

// A thread adds up WIDTH channels of one strip of `strip` rows, and leaves them as one row of `sums`. A block has several strips side by
// side, so that it has enough threads also where there are few channels.
extern "C" __global__ void sum_strips(
    const Real* __restrict__ x, Number* __restrict__ sums, const long long rows, const long long channels, const long long strip,
    const long long together) {
    const long long strips = (rows + strip - 1) / strip;
    for_each_pixel((strips + together - 1) / together, together, channels, [&](long long line, int place, int channel) {
        const long long number = line * together + place, first = number * strip, last = min(first + strip, rows);
        if (number >= strips) return;
        Channels<Number> sum = {};
#pragma unroll 4
        for (long long row = first; row < last; ++row) {
            const Channels<Number> part = load(x + row * channels + channel);
            for (int e = 0; e < WIDTH; ++e) sum.of[e] += part.of[e];
        }
        store(sums + number * channels + channel, sum);
    });
}
