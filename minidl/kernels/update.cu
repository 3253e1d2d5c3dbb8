// The optimisers' updates, as update.py has them: a thread changes WIDTH elements in place, and no temporary array is written.
#include "kernel.cuh"

// v <- momentum v - decay w - lr g;  w <- w + v, where decay has the learning rate in it.
extern "C" __global__ void sgd_paper(
    Real* __restrict__ w, Real* __restrict__ v, const Real* __restrict__ g, const long long size,
    const Number lr, const Number momentum, const Number decay) {
    for_each_element(size, [&](long long i) {
        Channels<Number> weight = load(w + i), velocity = load(v + i);
        const Channels<Number> gradient = load(g + i);
        for (int e = 0; e < WIDTH; ++e) {
            velocity.of[e] *= momentum;
            if (decay != 0) velocity.of[e] -= decay * weight.of[e];
            velocity.of[e] -= lr * gradient.of[e];
            weight.of[e] += velocity.of[e];
        }
        store(v + i, velocity);
        store(w + i, weight);
    });
}

// v <- momentum v + g + decay w;  w <- w - lr v.
extern "C" __global__ void sgd_pytorch(
    Real* __restrict__ w, Real* __restrict__ v, const Real* __restrict__ g, const long long size,
    const Number lr, const Number momentum, const Number decay) {
    for_each_element(size, [&](long long i) {
        Channels<Number> weight = load(w + i), velocity = load(v + i);
        const Channels<Number> gradient = load(g + i);
        for (int e = 0; e < WIDTH; ++e) {
            velocity.of[e] = momentum * velocity.of[e] + gradient.of[e];
            if (decay != 0) velocity.of[e] += decay * weight.of[e];
            weight.of[e] -= lr * velocity.of[e];
        }
        store(v + i, velocity);
        store(w + i, weight);
    });
}

// Adam: m and s are the moving means of the gradient and its square; `keep` and `take` of each sum to 1. step = lr / (1 - beta_1 ** t)
// and root = sqrt(1 - beta_2 ** t) correct for their start at 0.
extern "C" __global__ void adam(
    Real* __restrict__ w, Real* __restrict__ m, Real* __restrict__ s, const Real* __restrict__ g, const long long size,
    const Number step, const Number root, const Number keep_m, const Number take_m, const Number keep_s, const Number take_s,
    const Number eps, const Number decay) {
    for_each_element(size, [&](long long i) {
        Channels<Number> weight = load(w + i), mean = load(m + i), square = load(s + i), gradient = load(g + i);
        for (int e = 0; e < WIDTH; ++e) {
            if (decay != 0) gradient.of[e] += decay * weight.of[e];
            mean.of[e] = keep_m * mean.of[e] + take_m * gradient.of[e];
            square.of[e] = keep_s * square.of[e] + take_s * (gradient.of[e] * gradient.of[e]);
            weight.of[e] -= step * mean.of[e] / (sqrt(square.of[e]) / root + eps);
        }
        store(m + i, mean);
        store(s + i, square);
        store(w + i, weight);
    });
}
