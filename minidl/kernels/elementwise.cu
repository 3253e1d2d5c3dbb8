// ReLU and its gradient, and adding a bias, as elementwise.py has them. Nothing but moving memory: a thread has one vector of 16 bytes
// an array.
#include "kernel.cuh"

extern "C" __global__ void relu(const Real* x, Real* y, const long long size) {  // the two may be one array
    for_each_element(size, [&](long long i) {
        Channels<Number> value = load(x + i);
        for (int e = 0; e < WIDTH; ++e) value.of[e] = above_zero(value.of[e]);
        store(y + i, value);
    });
}

// A thread lets through those of WIDTH gradients whose output is positive.
extern "C" __global__ void relu_backward(
    const Real* __restrict__ y, const Real* __restrict__ gradient, Real* __restrict__ dx, const long long size) {
    for_each_element(size, [&](long long i) {
        const Channels<Number> output = load(y + i);
        Channels<Number> passed = load(gradient + i);
        for (int e = 0; e < WIDTH; ++e) passed.of[e] = output.of[e] > 0 ? passed.of[e] : Number(0);
        store(dx + i, passed);
    });
}

// The end of a layer, in place: to every pixel the same bias; then, if so wanted, ReLU.
extern "C" __global__ void finish(
    Real* __restrict__ y, const Number* __restrict__ bias, const long long rows, const long long columns, const long long channels,
    const long long relu) {
    for_each_pixel(rows, columns, channels, [&](long long row, int column, int channel) {
        Real* const pixel = y + (row * columns + column) * channels + channel;
        const Channels<Number> more = load(bias + channel);
        Channels<Number> value = load(pixel);
        for (int e = 0; e < WIDTH; ++e) {
            value.of[e] += more.of[e];
            if (relu) value.of[e] = above_zero(value.of[e]);
        }
        store(pixel, value);
    });
}
