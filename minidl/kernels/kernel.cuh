// What every kernel shares: types, and which element of an array a thread works on. cuda.py compiles each .cu file, with this file
// in place of its `#include`, once for every setting of
//
//     Real      float32, float64 or bfloat16: the numbers in memory. Those in registers are `Number`s: float32 where Real is bfloat16,
//               else the same type
//     Position  uint8 or uint32: the number of a position in its window
//     WIDTH     how many neighbouring channels a thread loads, computes and stores together: as many as make 16 bytes, the most
//               that one instruction can move, or 1 where the number of channels or an address does not allow it
//
// Images are N, H, W, C, so channels lie side by side in memory: threads that differ by one in threadIdx.x are neighbours there, and
// a warp reads and writes long runs. Nothing is added up by atomics: every sum has one thread and a fixed order.

using float32 = float;
using float64 = double;
using uint8 = unsigned char;
using uint32 = unsigned int;

// The upper half of a float32. CUDA's own type is in a header that a machine may not have.
struct bfloat16 {
    unsigned short bits;
};

template <class T>
__device__ T number(T stored) {
    return stored;
}
__device__ inline float32 number(bfloat16 stored) { return __uint_as_float((uint32)stored.bits << 16); }

using Number = decltype(number(Real{}));

// To the nearest; of two that are equally near, to the one whose last digit is 0. A NaN stays one, whatever digits it has.
__device__ inline bfloat16 rounded(float32 value) {
    const uint32 bits = __float_as_uint(value);
    return {(unsigned short)((value != value ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

// WIDTH neighbouring channels, in registers as long as `of` is indexed by unrolled loops.
template <class T>
struct alignas(sizeof(T) * WIDTH) Channels {
    T of[WIDTH];
};

// From memory to registers, as they are or as numbers to compute with, and back.
template <class T>
__device__ Channels<T> stored(const T* address) {
    return *reinterpret_cast<const Channels<T>*>(address);
}
template <class T>
__device__ Channels<T> numbers(Channels<T> stored) {
    return stored;
}
__device__ inline Channels<float32> numbers(Channels<bfloat16> stored) {
    Channels<float32> value;
    for (int e = 0; e < WIDTH; ++e) value.of[e] = number(stored.of[e]);
    return value;
}
template <class T>
__device__ auto load(const T* address) {
    return numbers(stored(address));
}

template <class T>
__device__ void store(T* address, Channels<T> value) {
    *reinterpret_cast<Channels<T>*>(address) = value;
}
__device__ inline void store(bfloat16* address, Channels<float32> value) {
    Channels<bfloat16> stored;
    for (int e = 0; e < WIDTH; ++e) stored.of[e] = rounded(value.of[e]);
    *reinterpret_cast<Channels<bfloat16>*>(address) = stored;
}

// `task(row, column, channel)` for every WIDTH channels of an array (rows, columns, channels), shared out among all threads: a block
// takes a row, threadIdx.y goes along it, threadIdx.x along the channels. No index has to be taken apart by a division for that.
template <class Task>
__device__ void for_each_pixel(long long rows, int columns, int channels, Task task) {
    for (long long row = blockIdx.x; row < rows; row += gridDim.x)
        for (int column = threadIdx.y; column < columns; column += blockDim.y)
            for (int channel = threadIdx.x * WIDTH; channel < channels; channel += blockDim.x * WIDTH) task(row, column, channel);
}

// `task(i)` for every WIDTH elements of `size`, whatever the shape of the array.
template <class Task>
__device__ void for_each_element(long long size, Task task) {
    const long long step = (long long)gridDim.x * blockDim.x * WIDTH;
    for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * WIDTH; i < size; i += step) task(i);
}

// ReLU. A NaN, which is neither above nor below 0, stays one.
template <class T>
__device__ T above_zero(T value) {
    return value <= 0 ? T(0) : value;
}

// How a window lies over images (window.py): the pixels of position (i, j) of the window at place (row, column) are
// (row * stride_down + i * dilation_down - top, column * stride_along + j * dilation_along - left), or padding outside of the image.
struct Geometry {
    int images, height, width, channels;  // of the images
    int rows, columns;                    // the places of the window
    int kernel_height, kernel_width;
    int stride_down, stride_along;
    int top, left;
    int dilation_down, dilation_along;

    __device__ bool inside(int y, int x) const { return y >= 0 && y < height && x >= 0 && x < width; }
    __device__ long long pixel(long long image, int y, int x) const { return ((image * height + y) * width + x) * channels; }
    __device__ long long place(long long image, int row, int column) const {
        return ((image * rows + row) * columns + column) * channels;
    }
};
