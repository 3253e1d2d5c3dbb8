// The product of two matrices, TILE_M x TILE_N elements of it by a block of threads, in steps along the sum: what a kernel has to bring
// is where the two factors come from. implicit_gemm.py sets TILE_M, 128 or 256. A step takes 128 bytes of each row of the left factor,
// DEPTH elements. Copies into shared memory run STAGES - 1 steps ahead of the arithmetic, and each warp keeps 64 x 64 sums in registers.
//
// All memory moves in chunks of 16 bytes. In shared memory a tile is
//
//     in rows:     [row][k]      8 chunks to a row
//     in columns:  [k][column]   as many chunks as there are columns, by CHUNK
//
// and the exclusive-or in `in_row` and `in_column` puts the chunks that 8 threads read at one time into 32 different banks.
constexpr int CHUNK = 16 / sizeof(Real);
constexpr int DEPTH = 8 * CHUNK;
constexpr int TILE_N = 128;
constexpr int THREADS = TILE_M / 64 * TILE_N / 64 * 32;  // a warp for every 64 x 64
constexpr int STAGES = 3;
constexpr int LEFT = TILE_M * 8, RIGHT = TILE_N * 8;  // chunks of a step

// Which thread of the block this is. The compiler does not know that there are no more than THREADS; told so, it works out
// much of what is exclusive-ored below once, before the loop.
__device__ int thread() { return (int)(threadIdx.x & (THREADS - 1)); }

__device__ int in_row(int row, int chunk) { return row * 8 + (chunk ^ (row & 1) << 2); }

__device__ int in_column(int k, int chunk, int columns) {
    const int t = k / CHUNK & 3;
    return k * (columns / CHUNK) + (chunk ^ t << 1);
}

// A tensor core multiplies 16 rows of 8 words of 32 bits, a float32 or two bfloat16 each, by 8 columns of as many. The thread with
// g = lane / 4 and t = lane % 4 has
//
//     a: row g and g + 8 of word t, then of word t + 4       b: column g of word t, then of word t + 4
//     c: row g, columns 2t and 2t + 1, then of row g + 8
//
// Its rows are to be columns of the product here, and its columns rows: a thread then has whole chunks of a row of c, and what it reads
// from memory as 16 bytes is in the registers where b wants it. Which k a word stands for is free, as long as a and b agree: word t of
// product `s` is word 4t + 2s of 16, and word t + 4 the one after it. Which row or column of the tile is which of c is free as well.
using ColumnWords = uint32[2][4][4];  // [s][16 rows of a][as above]
using RowWords = uint32[2][8][2];     // [s][8 columns of b][as above]

// Of a float32 tensor cores see 10 bits of mantissa and cut off 13. Adding half of what the last bit seen is worth would round to nearest.
// This factor, 1 + 2 ** -11 / 1.4, adds between 0.7 and 1.4 times as much, on average as much, in one instruction instead of four (the
// loop has 571 instead of 940), and leaves alone infinity, NaN and numbers of 10 bits. Errors are 6 % larger than rounded to nearest.
// A word of two bfloat16 is all seen.
__device__ uint32 seen(uint32 word) {
    if constexpr (CHUNK == 8) return word;
    return __float_as_uint(__uint_as_float(word) * 1.00034877f);
}

__device__ void unpack(uint4 chunk, uint32 (&words)[4]) {
    words[0] = chunk.x, words[1] = chunk.y, words[2] = chunk.z, words[3] = chunk.w;
}

// Rows first ... first + 63 of a tile in rows; column g of the n-th b is row 8n + g. half: which 16 of a row's 32 words.
__device__ void read_rows(const uint4* tile, int first, int half, RowWords& words) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
        uint32 found[4];
        unpack(tile[in_row(first + 8 * n + g, 4 * half + t)], found);
#pragma unroll
        for (int i = 0; i < 4; ++i) words[i / 2][n][i % 2] = seen(found[i]);
    }
}

// Which of 64 columns is column g of the n-th b. The chunks that 8 threads read, and in the end write, lie side by side.
__device__ int column_of(int g, int n) { return CHUNK == 4 ? n / 4 * 32 + 4 * g + n % 4 : 8 * g + n; }

// Columns first ... first + 63 of a tile in columns. A word of bfloat16 takes from two k.
__device__ void read_columns(const uint4* tile, int columns, int first, int half, RowWords& words) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, chunk = first / CHUNK + g;
    const int at = in_column(CHUNK * t, chunk, columns), beside = in_column(CHUNK * t, chunk + 8, columns);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int down = (4 * CHUNK * half + CHUNK / 4 * i) * (columns / CHUNK);
        uint32 one[4], other[4];
        unpack(tile[at + down], one);
        unpack(CHUNK == 4 ? tile[beside + down] : tile[at + down + columns / CHUNK], other);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
            if constexpr (CHUNK == 4) {
                words[i / 2][n][i % 2] = seen(one[n]);
                words[i / 2][4 + n][i % 2] = seen(other[n]);
            } else {
                words[i / 2][2 * n][i % 2] = __byte_perm(one[n], other[n], 0x5410);  // the lower halves of both
                words[i / 2][2 * n + 1][i % 2] = __byte_perm(one[n], other[n], 0x7632);  // the upper ones
            }
        }
    }
}

// The same for a; row g + 8h of the m-th a is column_of(g, 2m + h).
__device__ void read_columns(const uint4* tile, int columns, int first, int half, ColumnWords& words) {
    RowWords found;
    read_columns(tile, columns, first, half, found);
#pragma unroll
    for (int s = 0; s < 2; ++s)
#pragma unroll
        for (int i = 0; i < 16; ++i) words[s][i / 4][i % 4] = found[s][i / 4 * 2 + i % 2][i % 4 / 2];
}

// Where a warp's 64 x 64 elements begin in the block's tile.
__device__ int first_row() { return threadIdx.x / 32 / (TILE_N / 64) * 64; }
__device__ int first_column() { return threadIdx.x / 32 % (TILE_N / 64) * 64; }

// What a thread has of its warp's 64 x 64 sums: in row `n`, i (which is a function of how rows were read), the columns
// column_of(g, 0) ... column_of(g, 7).
using Sums = float[4][8][4];

__device__ float sum_at(const Sums& sums, int n, int i, int column) { return sums[column / 2][n][column % 2 * 2 + i]; }

// Adds the products of `steps` steps to `sums`. fill(step, left, right) starts to copy what belongs to a step, with what prepare(step) has
// put into shared memory for it; both are called for one step after the other, and for a few beyond the last. read(left, half, words)
// gets the words of the warp's rows.
template <class Prepare, class Fill, class Read>
__device__ void multiply(int steps, Sums& sums, Prepare prepare, Fill fill, Read read) {
    uint4* const memory = shared_memory();
    const auto start = [&](int step) {  // also for steps that there are not: there is nothing in them, and their groups are counted
        uint4* const left = memory + step % STAGES * (LEFT + RIGHT);
        fill(step, left, left + LEFT);
        end_group();
        prepare(step + 1);
    };
    prepare(0);
    for (int step = 0; step < STAGES - 1; ++step) {
        __syncthreads();  // what has been prepared is there
        start(step);
    }
    for (int step = 0; step < steps; ++step) {
        wait_for_groups<STAGES - 2>();
        __syncthreads();  // this step's chunks are there, and nobody reads those any more that are overwritten next
        const uint4* const left = memory + step % STAGES * (LEFT + RIGHT);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            ColumnWords a;
            RowWords b;
            read_columns(left + LEFT, TILE_N, first_column(), half, a);
            read(left, half, b);
#pragma unroll
            for (int s = 0; s < 2; ++s) multiply_tiles<Real>(sums, a[s], b[s]);
            if (half == 0) start(step + STAGES - 1);  // between products, not before all of them
        }
    }
}
