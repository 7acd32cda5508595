/* A CUDA driver that only pretends: memory is the host's, launches do nothing. With it the CUDA runtime compiles kernels
 * through NVIDIA's real NVRTC on a machine without a GPU, for the compute capability in FAKE_CUDA_COMPUTE (80, 90). */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef unsigned long long Pointer;

static int compute(void) {
    const char *text = getenv("FAKE_CUDA_COMPUTE");
    return text ? atoi(text) : 90;
}

Result cuInit(unsigned flags) { (void)flags; return 0; }
Result cuDriverGetVersion(int *version) { *version = 12080; return 0; }
Result cuDeviceGetCount(int *count) { *count = 1; return 0; }
Result cuDeviceGet(int *device, int index) { *device = index; return index == 0 ? 0 : 101; }
Result cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    strncpy(name, "Pretended GPU", (size_t)length);
    return 0;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = 16ull << 30; return 0; }
Result cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { *free_bytes = *total = 16ull << 30; return 0; }

/* Numbers of CUdevice_attribute in cuda.h. */
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    switch (attribute) {
    case 1: *value = 1024; break;                   /* threads per block */
    case 2: case 3: *value = 1024; break;           /* block x, y */
    case 4: *value = 64; break;                     /* block z */
    case 5: *value = 2147483647; break;             /* grid x */
    case 6: case 7: *value = 65535; break;          /* grid y, z */
    case 8: *value = 49152; break;                  /* shared memory per block */
    case 10: *value = 32; break;                    /* warp */
    case 16: *value = 132; break;                   /* multiprocessors */
    case 75: *value = compute() / 10; break;
    case 76: *value = compute() % 10; break;
    case 97: *value = compute() >= 90 ? 232448 : 166912; break; /* shared memory per block, on request */
    default: *value = 1;
    }
    return 0;
}

Result cuGetErrorName(Result code, const char **text) { (void)code; *text = "PRETENDED"; return 0; }
Result cuGetErrorString(Result code, const char **text) { (void)code; *text = "pretended"; return 0; }

Result cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = (void *)1; return 0; }
Result cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return 0; }
Result cuCtxSetCurrent(void *context) { (void)context; return 0; }
Result cuCtxGetCurrent(void **context) { *context = (void *)1; return 0; }
Result cuCtxPushCurrent_v2(void *context) { (void)context; return 0; }
Result cuCtxPopCurrent_v2(void **context) { *context = (void *)1; return 0; }
Result cuCtxSynchronize(void) { return 0; }

static Result take(Pointer *pointer, size_t bytes) {
    void *memory = calloc(1, bytes ? bytes : 1);
    *pointer = (Pointer)memory;
    return memory ? 0 : 2;
}
Result cuMemAlloc_v2(Pointer *pointer, size_t bytes) { return take(pointer, bytes); }
Result cuMemAllocAsync(Pointer *pointer, size_t bytes, void *stream) { (void)stream; return take(pointer, bytes); }
Result cuMemFree_v2(Pointer pointer) { free((void *)pointer); return 0; }
Result cuMemFreeAsync(Pointer pointer, void *stream) { (void)stream; free((void *)pointer); return 0; }
Result cuMemAllocHost_v2(void **pointer, size_t bytes) { return take((Pointer *)pointer, bytes); }
Result cuMemFreeHost(void *pointer) { free(pointer); return 0; }
Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, void *stream) {
    (void)stream;
    memcpy((void *)to, from, bytes);
    return 0;
}
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, void *stream) {
    (void)stream;
    memcpy(to, (const void *)from, bytes);
    return 0;
}
/* Rows with gaps: what is computed is not looked at, so nothing is copied. */
Result cuMemcpy2DAsync_v2(const void *copy, void *stream) { (void)copy; (void)stream; return 0; }

Result cuStreamCreate(void **stream, unsigned flags) { (void)flags; *stream = (void *)1; return 0; }
Result cuStreamDestroy_v2(void *stream) { (void)stream; return 0; }
Result cuStreamSynchronize(void *stream) { (void)stream; return 0; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { (void)stream; (void)event; (void)flags; return 0; }
Result cuEventCreate(void **event, unsigned flags) { (void)flags; *event = (void *)1; return 0; }
Result cuEventDestroy_v2(void *event) { (void)event; return 0; }
Result cuEventRecord(void *event, void *stream) { (void)event; (void)stream; return 0; }
Result cuEventSynchronize(void *event) { (void)event; return 0; }

Result cuModuleLoadData(void **module, const void *image) { (void)image; *module = (void *)1; return 0; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
    (void)module; (void)name;
    *function = (void *)1;
    return 0;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) { (void)function; (void)attribute; (void)value; return 0; }
Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **arguments, void **extra) {
    (void)function; (void)gx; (void)gy; (void)gz; (void)bx; (void)by; (void)bz;
    (void)shared; (void)stream; (void)arguments; (void)extra;
    return 0;
}
