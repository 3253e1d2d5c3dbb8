// Dropout whose mask is never stored, as dropout.py has it: backwards the same numbers are drawn again.
#include "kernel.cuh"

// Philox4x32 with 10 rounds (Salmon et al. 2011): four random numbers that depend on nothing but the key and the counter. The counter
// is 128 bits of which the upper half stays 0.
__device__ uint4 philox(unsigned long long counter, unsigned long long key) {
    uint4 c = {(uint32)counter, (uint32)(counter >> 32), 0, 0};
    uint32 k0 = (uint32)key, k1 = (uint32)(key >> 32);
    for (int round = 0; round < 10; ++round) {
        c = {__umulhi(0xCD9E8D57, c.z) ^ c.y ^ k0, 0xCD9E8D57 * c.z, __umulhi(0xD2511F53, c.x) ^ c.w ^ k1, 0xD2511F53 * c.x};
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return c;
}

// A thread draws the numbers of WIDTH elements: four elements share a counter, so that with WIDTH 4 and 8 no number goes to waste. An
// element is kept, and multiplied by `scale`, where its number is not below `threshold`.
extern "C" __global__ void dropout(
    const Real* __restrict__ x, Real* __restrict__ y, const long long size, const long long seed, const long long offset,
    const long long threshold, const Number scale) {
    for_each_element(size, [&](long long i) {
        uint4 numbers;
        Channels<Number> value = load(x + i);
        for (int e = 0; e < WIDTH; ++e) {
            const int which = (i + e) % 4;
            if (e % 4 == 0) numbers = philox(offset + (i + e) / 4, seed);
            const uint32 number = which < 2 ? (which == 0 ? numbers.x : numbers.y) : (which == 2 ? numbers.z : numbers.w);
            value.of[e] = number >= threshold ? value.of[e] * scale : Number(0);
        }
        store(y + i, value);
    });
}
