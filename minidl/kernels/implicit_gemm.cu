// Convolution and its weight gradient, each as the product of two matrices of which the patches, P = im2col(x), are never written to
// memory: a block gathers those of its tile from the images while it multiplies ("implicit GEMM", Chetlur et al. 2014, cuDNN).
//
//     y[place, o] = sum over k of P[place, k] weight[k, o]           dw[k, o] = sum over places of P[place, k] dy[place, o]
//
// k = (i, j, c) is a position in the window and a channel. Channels, and so chunks of a patch, lie side by side in an image.
#include "kernel.cuh"
#include "tensor_core.cuh"
#include "tiles.cuh"

// A number as three digits, the last two below `middle` and `last`: a place as (image, row, column), a k as (i, j, c).
struct Digits {
    int first, second, third;

    __device__ Digits(int number, int middle, int last)
        : first(number / last / middle), second(number / last % middle), third(number % last) {}

    __device__ void advance(int by, int middle, int last) {  // without a division
        for (third += by; third >= last; third -= last)
            if (++second == middle) second = 0, ++first;
    }
};

// Where a place's window begins: in the array, and in its image. Both may lie in the padding.
struct alignas(16) Corner {
    int element, down, along, unused;
};

__device__ Corner corner(const Geometry& g, const Digits& place, bool exists, int channels) {
    const int down = place.second * g.stride_down - g.top, along = place.third * g.stride_along - g.left;
    const int element = ((place.first * g.height + down) * g.width + along) * channels;
    return {element, exists ? down : -(1 << 30), along, 0};  // or outside of every image
}

// What a chunk of a patch is, from any corner: position (i, j) of the window, from channel c. Beyond the window it is outside as well.
__device__ Corner offset(const Geometry& g, const Digits& k, int channels) {
    const int down = k.first * g.dilation_down, along = k.second * g.dilation_along;
    return {(down * g.width + along) * channels + k.third, k.first < g.kernel_height ? down : 1 << 29, along, 0};
}

__device__ void gather(uint4* target, const Real* x, const Geometry& g, Corner corner, Corner by) {
    const bool exists = (unsigned)(corner.down + by.down) < g.height && (unsigned)(corner.along + by.along) < g.width;
    copy_later(target, x + (uint32)(exists ? corner.element + by.element : 0), exists);
}

// Starts to copy rows first ... first + DEPTH - 1 of `matrix`, TILE_N columns of it from `column`, where there are `rows` and `columns`.
__device__ void fill_right(uint4* right, const Real* matrix, int first, int rows, int stride, int column, int columns) {
    constexpr int ALONG = TILE_N / CHUNK;
    const int chunk = thread() % ALONG, from = column + chunk * CHUNK;
#pragma unroll
    for (int i = 0; i < RIGHT / THREADS; ++i) {
        const int k = thread() / ALONG + i * (THREADS / ALONG);
        const bool exists = first + k < rows && from < columns;
        copy_later(right + in_column(k, chunk, TILE_N), matrix + (uint32)(exists ? (first + k) * stride + from : 0), exists);
    }
}

// y = P @ weight + bias, and with `relu` max(y, 0). blockIdx.x: tiles of y, along its columns first; blockIdx.y: the group, of `outputs` channels.
extern "C" __global__ void __launch_bounds__(THREADS) convolve(
    const Real* __restrict__ x, const Real* __restrict__ weight, const float* __restrict__ bias, Real* __restrict__ y,
    const Geometry g, const int outputs, const int relu) {
    const int places = g.images * g.rows * g.columns, size = g.kernel_height * g.kernel_width * g.channels;
    const int along = (outputs + TILE_N - 1) / TILE_N, group = blockIdx.y, groups = gridDim.y;
    const int first = blockIdx.x / along * TILE_M, column = blockIdx.x % along * TILE_N;

    __shared__ Corner corners[TILE_M];
    for (int row = thread(); row < TILE_M; row += THREADS)
        corners[row] = corner(g, Digits(first + row, g.rows, g.columns), first + row < places, groups * g.channels);
    const int chunk = thread() % 8;
    Digits k(chunk * CHUNK, g.kernel_width, g.channels);
    Sums sums = {};
    multiply(
        (size + DEPTH - 1) / DEPTH, sums, [&](int step) {},
        [&](int step, uint4* left, uint4* right) {
            const Corner by = offset(g, k, groups * g.channels);
            Corner found[LEFT / THREADS];  // read before the first copy starts: after it they would be read one by one
#pragma unroll
            for (int i = 0; i < LEFT / THREADS; ++i) found[i] = corners[thread() / 8 + i * (THREADS / 8)];
#pragma unroll
            for (int i = 0; i < LEFT / THREADS; ++i) {
                const int row = thread() / 8 + i * (THREADS / 8);
                gather(left + in_row(row, chunk), x + group * g.channels, g, found[i], by);
            }
            k.advance(DEPTH, g.kernel_width, g.channels);
            fill_right(right, weight + group * outputs, step * DEPTH, size, groups * outputs, column, outputs);
        },
        [&](const uint4* left, int half, RowWords& words) { read_rows(left, first_row(), half, words); });

    const int lane4 = thread() % 32 / 4, t2 = thread() % 4 * 2;  // g and 2t of tiles.cuh
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        const int place = first + first_row() + i / 2 * 8 + t2 + i % 2;
        if (place >= places) continue;
#pragma unroll
        for (int part = 0; part < 8; part += CHUNK) {
            const int from = column + first_column() + column_of(lane4, part);
            if (from >= outputs) continue;
            Channels<Number> value = {};
            if (bias) value = load(bias + group * outputs + from);
#pragma unroll
            for (int e = 0; e < CHUNK; ++e) {
                value.of[e] += sum_at(sums, i / 2, i % 2, part + e);
                if (relu) value.of[e] = above_zero(value.of[e]);
            }
            store(y + ((long long)place * groups + group) * outputs + from, value);
        }
    }
}

// A part of dw = P^T @ dy, the sum over `share` places: blockIdx.x: tiles of dw, along its columns first; blockIdx.y: the group;
// blockIdx.z: the share. parts: (shares, KH * KW * C, O).
extern "C" __global__ void __launch_bounds__(THREADS) weight_gradient(
    const Real* __restrict__ x, const Real* __restrict__ dy, float* __restrict__ parts, const Geometry g, const int outputs,
    const int share) {
    const int places = g.images * g.rows * g.columns, size = g.kernel_height * g.kernel_width * g.channels;
    const int along = (outputs + TILE_N - 1) / TILE_N, group = blockIdx.y, groups = gridDim.y;
    const int first = blockIdx.x / along * TILE_M, column = blockIdx.x % along * TILE_N;
    const int begin = blockIdx.z * share, end = min(begin + share, places);

    constexpr int ALONG = TILE_M / CHUNK;
    const int chunk = thread() % ALONG;
    const Corner by = offset(g, Digits(first + chunk * CHUNK, g.kernel_width, g.channels), groups * g.channels);
    __shared__ Corner corners[2][DEPTH];
    Digits place(begin + thread(), g.rows, g.columns);
    Sums sums = {};
    multiply(
        (end - begin + DEPTH - 1) / DEPTH, sums,
        [&](int step) {
            if (thread() < DEPTH) {
                corners[step % 2][thread()] = corner(g, place, begin + step * DEPTH + thread() < end, groups * g.channels);
                place.advance(DEPTH, g.rows, g.columns);
            }
        },
        [&](int step, uint4* left, uint4* right) {
            Corner found[LEFT / THREADS];
#pragma unroll
            for (int i = 0; i < LEFT / THREADS; ++i) found[i] = corners[step % 2][thread() / ALONG + i * (THREADS / ALONG)];
#pragma unroll
            for (int i = 0; i < LEFT / THREADS; ++i) {
                const int row = thread() / ALONG + i * (THREADS / ALONG);
                gather(left + in_column(row, chunk, TILE_M), x + group * g.channels, g, found[i], by);
            }
            fill_right(right, dy + group * outputs, begin + step * DEPTH, end, groups * outputs, column, outputs);
        },
        [&](const uint4* left, int half, RowWords& words) { read_columns(left, TILE_M, first_row(), half, words); });

    const int lane4 = thread() % 32 / 4, t2 = thread() % 4 * 2;  // g and 2t of tiles.cuh
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        const int position = first + first_row() + column_of(t2 + i % 2, i / 2);
        if (position >= size) continue;
#pragma unroll
        for (int part = 0; part < 8; part += 4) {
            const int from = column + first_column() + column_of(lane4, part);
            if (from >= outputs) continue;
            float4 value;
            value.x = sum_at(sums, i / 2, i % 2, part), value.y = sum_at(sums, i / 2, i % 2, part + 1);
            value.z = sum_at(sums, i / 2, i % 2, part + 2), value.w = sum_at(sums, i / 2, i % 2, part + 3);
            *reinterpret_cast<float4*>(parts + (((long long)blockIdx.z * size + position) * groups + group) * outputs + from) = value;
        }
    }
}

// The sum of the parts, in their order. A thread adds up WIDTH elements.
extern "C" __global__ void add_parts(
    const float* __restrict__ parts, Real* __restrict__ sum, const long long size, const long long shares) {
    for_each_element(size, [&](long long i) {
        Channels<Number> total = {};
        for (long long part = 0; part < shares; ++part) {
            const Channels<Number> more = load(parts + part * size + i);
            for (int e = 0; e < WIDTH; ++e) total.of[e] += more.of[e];
        }
        store(sum + i, total);
    });
}
