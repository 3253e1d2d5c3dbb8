// What NVIDIA's GPUs have for products of matrices since 2020 (compute capability 8.0), and C++ has no words for: copies that run while
// the threads go on computing, and tensor cores, which multiply small matrices that the 32 threads of a warp hold together. For a CPU
// the tests have a header with the same functions, so that a kernel that is written with them can be executed there.
#ifdef __CUDACC__
#if __CUDA_ARCH__ >= 800
#define PTX(...) asm volatile(__VA_ARGS__)
#else
#define PTX(...) __trap()
#endif

// The memory that the threads of a block share, in the 16 bytes that are copied at a time.
__device__ uint4* shared_memory() {
    extern __shared__ uint4 memory[];
    return memory;
}

// Starts to copy 16 bytes into shared memory; without a `source` worth it they become 0.
__device__ void copy_later(uint4* target, const void* source, bool exists) {
    PTX("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32)__cvta_generic_to_shared(target)), "l"(source),
        "r"(exists ? 16 : 0)
        : "memory");
}

// What this thread started since the last call becomes one group.
__device__ void end_group() { PTX("cp.async.commit_group;" ::: "memory"); }

// Waits until no more than the latest `pending` groups of this thread are under way.
template <int pending>
__device__ void wait_for_groups() {
    PTX("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// c += a @ b, the tile of 16 x 8 that a warp holds as tiles.cuh says.
__device__ void multiply_tile(float (&c)[4], const uint32 (&a)[4], const uint32 (&b)[2], float32) {
    PTX("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ void multiply_tile(float (&c)[4], const uint32 (&a)[4], const uint32 (&b)[2], bfloat16) {
    PTX("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <class Real, int M, int N>
__device__ void multiply_tiles(float (&c)[M][N][4], const uint32 (&a)[M][4], const uint32 (&b)[N][2]) {
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
        for (int n = 0; n < N; ++n) multiply_tile(c[m][n], a[m], b[n], Real());
}
#endif
