// Pooling over windows of N, H, W, C images: the same results as pooling.py, bit for bit, but for gradients that are not finite: here
// they reach one pixel; there they are multiplied by 0 for the others of the window, which makes those NaN.
#include "kernel.cuh"

// A thread finds the maxima of one window in WIDTH channels. Overlapping windows read a pixel again, but from the cache. Padding is
// minus infinity; of equal maxima the first counts; a NaN replaces everything and is replaced by the next NaN only.
extern "C" __global__ void max_pool(
    const Real* __restrict__ x, Real* __restrict__ y, Position* __restrict__ position, const Geometry g) {
    for_each_pixel((long long)g.images * g.rows, g.columns, g.channels, [&](long long line, int column, int channel) {
        const long long image = line / g.rows;
        const int row = line % g.rows;
        Channels<Number> best;
        Channels<Position> where;
        for (int e = 0; e < WIDTH; ++e) {
            best.of[e] = -1 / Number(0);
            where.of[e] = 0;
        }
        for (int i = 0; i < g.kernel_height; ++i)
            for (int j = 0; j < g.kernel_width; ++j) {
                const int down = row * g.stride_down + i - g.top, along = column * g.stride_along + j - g.left;
                if (!g.inside(down, along)) continue;
                const Channels<Number> pixel = load(x + g.pixel(image, down, along) + channel);
                for (int e = 0; e < WIDTH; ++e) {
                    if (!(pixel.of[e] > best.of[e] || pixel.of[e] != pixel.of[e])) continue;
                    best.of[e] = pixel.of[e];
                    where.of[e] = i * g.kernel_width + j;
                }
            }
        store(y + g.place(image, row, column) + channel, best);
        store(position + g.place(image, row, column) + channel, where);
    });
}

// A thread adds up the gradients of the windows that cover its pixel and found their maximum there: a gather, where going through the
// windows would be a scatter that has to be atomic. The window furthest down comes first, which is the order of pooling.py.
extern "C" __global__ void max_pool_backward(
    const Real* __restrict__ dy, const Position* __restrict__ position, Real* __restrict__ dx, const Geometry g) {
    for_each_pixel((long long)g.images * g.height, g.width, g.channels, [&](long long line, int x, int channel) {
        const long long image = line / g.height;
        const int down = line % g.height + g.top, along = x + g.left;
        Channels<Number> sum = {};
        for (int row = min(down / g.stride_down, g.rows - 1); row >= 0; --row) {
            const int i = down - row * g.stride_down;
            if (i >= g.kernel_height) break;
            for (int column = min(along / g.stride_along, g.columns - 1); column >= 0; --column) {
                const int j = along - column * g.stride_along;
                if (j >= g.kernel_width) break;
                const long long place = g.place(image, row, column) + channel;
                const Channels<Position> where = load(position + place);
                const Channels<Number> gradient = load(dy + place);
                for (int e = 0; e < WIDTH; ++e)
                    if (where.of[e] == i * g.kernel_width + j) sum.of[e] += gradient.of[e];
            }
        }
        store(dx + g.pixel(image, down - g.top, x) + channel, sum);
    });
}

// A thread takes from one window the elements at the recorded positions, each channel from another pixel.
extern "C" __global__ void max_pool_gather(
    const Real* __restrict__ x, const Position* __restrict__ position, Real* __restrict__ y, const Geometry g) {
    for_each_pixel((long long)g.images * g.rows, g.columns, g.channels, [&](long long line, int column, int channel) {
        const long long image = line / g.rows;
        const int row = line % g.rows;
        const Channels<Position> where = load(position + g.place(image, row, column) + channel);
        Channels<Number> taken;
        for (int e = 0; e < WIDTH; ++e) {
            const int i = where.of[e] / g.kernel_width, j = where.of[e] % g.kernel_width;
            const int down = row * g.stride_down + i - g.top, along = column * g.stride_along + j - g.left;
            taken.of[e] = g.inside(down, along) ? number(x[g.pixel(image, down, along) + channel + e]) : Number(0);
        }
        store(y + g.place(image, row, column) + channel, taken);
    });
}

// A thread adds up one window in WIDTH channels, row by row; padding is 0.
extern "C" __global__ void sum_pool(const Real* __restrict__ x, Real* __restrict__ y, const Geometry g) {
    for_each_pixel((long long)g.images * g.rows, g.columns, g.channels, [&](long long line, int column, int channel) {
        const long long image = line / g.rows;
        const int row = line % g.rows;
        Channels<Number> sum = {};
        for (int i = 0; i < g.kernel_height; ++i)
            for (int j = 0; j < g.kernel_width; ++j) {
                const int down = row * g.stride_down + i - g.top, along = column * g.stride_along + j - g.left;
                if (!g.inside(down, along)) continue;
                const Channels<Number> pixel = load(x + g.pixel(image, down, along) + channel);
                for (int e = 0; e < WIDTH; ++e) sum.of[e] += pixel.of[e];
            }
        store(y + g.place(image, row, column) + channel, sum);
    });
}

// A thread adds up the gradients of all windows that cover its pixel, as max_pool_backward without the choice.
extern "C" __global__ void sum_pool_backward(const Real* __restrict__ dy, Real* __restrict__ dx, const Geometry g) {
    for_each_pixel((long long)g.images * g.height, g.width, g.channels, [&](long long line, int x, int channel) {
        const long long image = line / g.height;
        const int down = line % g.height + g.top, along = x + g.left;
        Channels<Number> sum = {};
        for (int row = min(down / g.stride_down, g.rows - 1); row >= 0; --row) {
            if (down - row * g.stride_down >= g.kernel_height) break;
            for (int column = min(along / g.stride_along, g.columns - 1); column >= 0; --column) {
                if (along - column * g.stride_along >= g.kernel_width) break;
                const Channels<Number> gradient = load(dy + g.place(image, row, column) + channel);
                for (int e = 0; e < WIDTH; ++e) sum.of[e] += gradient.of[e];
            }
        }
        store(dx + g.pixel(image, down - g.top, x) + channel, sum);
    });
}
