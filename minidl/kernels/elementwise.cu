// ReLU and its gradient, as elementwise.py has them. Nothing but moving memory: a thread has one vector of 16 bytes an array.
#include "kernel.cuh"

// Written so that a NaN, which is neither above nor below 0, stays one.
__device__ Channels<Number> rectified(Channels<Number> x) {
    for (int e = 0; e < WIDTH; ++e) x.of[e] = x.of[e] <= 0 ? Number(0) : x.of[e];
    return x;
}

// A thread computes WIDTH elements.
extern "C" __global__ void relu(const Real* __restrict__ x, Real* __restrict__ y, const long long size) {
    for_each_element(size, [&](long long i) { store(y + i, rectified(load(x + i))); });
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

// A thread adds the bias to WIDTH channels of a pixel and rectifies them, in place: one pass over memory where two operations make
// two. `bias` is small and stays in the cache.
extern "C" __global__ void add_bias_relu(
    const Real* __restrict__ bias, Real* __restrict__ y, const long long rows, const long long columns, const long long channels) {
    for_each_pixel(rows, columns, channels, [&](long long row, int column, int channel) {
        const long long at = (row * columns + column) * channels + channel;
        const Channels<Number> added = load(bias + channel);
        Channels<Number> value = load(y + at);
        for (int e = 0; e < WIDTH; ++e) value.of[e] += added.of[e];
        store(y + at, rectified(value));
    });
}
