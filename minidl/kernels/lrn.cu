// Local response normalisation across channels, as lrn.py has it, in one pass each way: every array is read once from memory and
// written once. The arrays are (rows, columns, channels) where `channels` are those of one tower; windows end with them.
#include "kernel.cuh"

__device__ Number negative_power(Number s, Number beta) {
    if (beta != Number(0.75)) return pow(s, -beta);
    const Number root = rsqrt(s);  // s ** -3/4 = s ** -1/2 * s ** -1/4
    return root * sqrt(root);
}

// k + alpha * (sum of x ** 2 over the window around `channel`)
__device__ Number scale(const Real* __restrict__ pixel, int channel, int channels, int half, Number alpha, Number k) {
    Number sum = 0;
    for (int c = max(channel - half, 0); c <= min(channel + half, channels - 1); ++c) sum += number(pixel[c]) * number(pixel[c]);
    return k + alpha * sum;
}

// A thread normalises WIDTH channels of a pixel. Its window reaches into the channels of its neighbours, which are in the cache.
extern "C" __global__ void lrn(
    const Real* __restrict__ x, Real* __restrict__ y, const long long rows, const long long columns, const long long channels,
    const long long half, const Number alpha, const Number beta, const Number k) {
    for_each_pixel(rows, columns, channels, [&](long long row, int column, int channel) {
        const long long start = (row * columns + column) * channels;
        const Channels<Number> own = load(x + start + channel);
        Channels<Number> y_own;
        for (int e = 0; e < WIDTH; ++e)
            y_own.of[e] = own.of[e] * negative_power(scale(x + start, channel + e, channels, half, alpha, k), beta);
        store(y + start + channel, y_own);
    });
}

// A thread computes the gradient of WIDTH channels of a pixel,
//     dx = g * s ** -beta + factor * x * (window sum of x * s ** -(beta + 1) * g),     factor = -2 alpha beta
// where every channel of its windows needs an s of its own: computed again, from the cache, by each thread that needs it.
extern "C" __global__ void lrn_backward(
    const Real* __restrict__ x, const Real* __restrict__ g, Real* __restrict__ dx, const long long rows, const long long columns,
    const long long channels, const long long half, const Number alpha, const Number beta, const Number k, const Number factor) {
    for_each_pixel(rows, columns, channels, [&](long long row, int column, int channel) {
        const long long start = (row * columns + column) * channels;
        const int last = min((int)(channel + WIDTH - 1 + half), (int)channels - 1);
        Channels<Number> sum = {}, power = {};
        for (int c = max((int)(channel - half), 0); c <= last; ++c) {
            const Number s = scale(x + start, c, channels, half, alpha, k), to_beta = negative_power(s, beta);
            const Number cross = number(x[start + c]) * (to_beta / s) * number(g[start + c]);
            for (int e = 0; e < WIDTH; ++e) {
                const int distance = c - (channel + e);
                if (abs(distance) <= half) sum.of[e] += cross;
                if (distance == 0) power.of[e] = to_beta;
            }
        }
        const Channels<Number> own = load(x + start + channel), gradient = load(g + start + channel);
        Channels<Number> result;
        for (int e = 0; e < WIDTH; ++e) result.of[e] = gradient.of[e] * power.of[e] + own.of[e] * (factor * sum.of[e]);
        store(dx + start + channel, result);
    });
}
