// im2col and col2im of N, H, W, C images, as im2col.py has them.
#include "kernel.cuh"

// A thread copies WIDTH channels of one position of the window at one place. A block takes the positions of one row of the window over
// one row of places, so its reads lie in one row of the image and neighbouring threads write neighbouring memory. Padding is read as
// 0 without a padded copy; x may be a part of the channels (a tower): the strides, in elements, say where its pixels are.
extern "C" __global__ void im2col(
    const Real* __restrict__ x, Real* __restrict__ cols, const Geometry g,
    const long long image_stride, const long long row_stride, const long long pixel_stride) {
    const long long lines = (long long)g.images * g.rows * g.kernel_height;
    for_each_pixel(lines, g.columns * g.kernel_width, g.channels, [&](long long line, int position, int channel) {
        const long long image = line / (g.rows * g.kernel_height);
        const int rest = line % (g.rows * g.kernel_height);
        const int row = rest / g.kernel_height, i = rest % g.kernel_height;
        const int column = position / g.kernel_width, j = position % g.kernel_width;
        const int down = row * g.stride_down + i * g.dilation_down - g.top;
        const int along = column * g.stride_along + j * g.dilation_along - g.left;
        Channels<Number> pixel = {};
        if (g.inside(down, along))
            pixel = load(x + image * image_stride + down * row_stride + along * pixel_stride + channel);
        const long long patch = g.place(image, row, column) * (g.kernel_height * g.kernel_width);
        store(cols + patch + (i * g.kernel_width + j) * g.channels + channel, pixel);
    });
}

// A thread adds up, for WIDTH channels of one pixel, its places in the patches: a gather in the order of the window's positions, which
// is the order of im2col.py. A loop over the patches would be a scatter instead, with atomic additions in no fixed order.
extern "C" __global__ void col2im(const Real* __restrict__ cols, Real* __restrict__ x, const Geometry g) {
    for_each_pixel((long long)g.images * g.height, g.width, g.channels, [&](long long line, int along, int channel) {
        const long long image = line / g.height;
        const int down = line % g.height;
        Channels<Number> sum = {};
        for (int i = 0; i < g.kernel_height; ++i) {
            const int below = down + g.top - i * g.dilation_down, row = below / g.stride_down;
            if (below < 0 || below % g.stride_down || row >= g.rows) continue;
            for (int j = 0; j < g.kernel_width; ++j) {
                const int behind = along + g.left - j * g.dilation_along, column = behind / g.stride_along;
                if (behind < 0 || behind % g.stride_along || column >= g.columns) continue;
                const long long patch = g.place(image, row, column) * (g.kernel_height * g.kernel_width);
                const Channels<Number> part = load(cols + patch + (i * g.kernel_width + j) * g.channels + channel);
                for (int e = 0; e < WIDTH; ++e) sum.of[e] += part.of[e];
            }
        }
        store(x + g.pixel(image, down, along) + channel, sum);
    });
}
