// Softmax cross-entropy of rows of scores, as cross_entropy.py has it. A block of threads takes a row.
#include "kernel.cuh"

constexpr int MOST_THREADS = 1024;  // that CUDA allows in a block

struct Larger {
    // Of a NaN and a number it may be either: the NaN is in the sum in any case.
    __device__ Number operator()(Number a, Number b) const { return a > b ? a : b; }
};
struct Plus {
    __device__ Number operator()(Number a, Number b) const { return a + b; }
};

__device__ Number* place_for_each_thread() {
    __shared__ Number parts[MOST_THREADS];
    return parts;
}

// All threads' `own` combined, pair by pair in a fixed order: every thread gets the result.
template <class Combine>
__device__ Number of_all_threads(Number own, Combine combine) {
    Number* const parts = place_for_each_thread();
    parts[threadIdx.x] = own;
    __syncthreads();
    for (int count = blockDim.x; count > 1;) {
        const int half = (count + 1) / 2;
        if (threadIdx.x + half < count) parts[threadIdx.x] = combine(parts[threadIdx.x], parts[threadIdx.x + half]);
        __syncthreads();
        count = half;
    }
    const Number all = parts[0];
    __syncthreads();  // before the next call writes
    return all;
}

// The share of class k in what a row with this label should be. A label that is no class makes it NaN.
__device__ Number target(long long k, long long label, long long classes, Number smoothing) {
    if (label < 0 || label >= classes) return Number(0) / Number(0);
    return (k == label ? 1 - smoothing : Number(0)) + smoothing / classes;
}

// `task(k)` for every WIDTH classes that are this thread's.
template <class Task>
__device__ void for_its_classes(long long classes, Task task) {
    for (long long k = threadIdx.x * WIDTH; k < classes; k += blockDim.x * WIDTH) task(k);
}

__device__ Number largest(const Real* scores, long long classes) {
    Number most = -1 / Number(0);
    for_its_classes(classes, [&](long long k) {
        const Channels<Number> score = load(scores + k);
        for (int e = 0; e < WIDTH; ++e) most = Larger()(most, score.of[e]);
    });
    return of_all_threads(most, Larger());
}

__device__ Number sum_of_exponentials(const Real* scores, long long classes, Number most) {
    Number sum = 0;
    for_its_classes(classes, [&](long long k) {
        const Channels<Number> score = load(scores + k);
        for (int e = 0; e < WIDTH; ++e) sum += exp(score.of[e] - most);
    });
    return of_all_threads(sum, Plus());
}

extern "C" __global__ void cross_entropy(
    const Real* __restrict__ scores, const long long* __restrict__ labels, Number* __restrict__ losses, const long long rows,
    const long long classes, const Number smoothing) {
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        const Real* own = scores + row * classes;
        const Number most = largest(own, classes), sum = sum_of_exponentials(own, classes, most);
        Number aimed = 0;
        for_its_classes(classes, [&](long long k) {
            const Channels<Number> score = load(own + k);
            for (int e = 0; e < WIDTH; ++e) {
                const Number share = target(k + e, labels[row], classes, smoothing);
                if (share != 0) aimed += share * (score.of[e] - most);  // an infinite score of another class times 0 would be NaN
            }
        });
        aimed = of_all_threads(aimed, Plus());
        if (threadIdx.x == 0) losses[row] = log(sum) - aimed;
    }
}

extern "C" __global__ void cross_entropy_backward(
    const Real* __restrict__ scores, const long long* __restrict__ labels, const Number* __restrict__ gradient, Real* __restrict__ dx,
    const long long rows, const long long classes, const Number smoothing) {
    for (long long row = blockIdx.x; row < rows; row += gridDim.x) {
        const Real* own = scores + row * classes;
        const Number most = largest(own, classes), sum = sum_of_exponentials(own, classes, most);
        for_its_classes(classes, [&](long long k) {
            Channels<Number> value = load(own + k);
            for (int e = 0; e < WIDTH; ++e)
                value.of[e] = (exp(value.of[e] - most) / sum - target(k + e, labels[row], classes, smoothing)) * gradient[row];
            store(dx + row * classes + k, value);
        });
    }
}
