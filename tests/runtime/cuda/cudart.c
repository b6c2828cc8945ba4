/* A libcudart that works on host memory and notes its calls: the ctypes adapter is tried on a real
 * library, with the prototypes of NVIDIA's cuda_runtime_api.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int cudaError_t;
typedef void *cudaStream_t, *cudaEvent_t, *cudaGraph_t, *cudaGraphExec_t;

static char log_text[1 << 16];
static int next_error = 0;

#define NOTE(...) do { \
    size_t used = strlen(log_text); \
    snprintf(log_text + used, sizeof log_text - used, __VA_ARGS__); \
    if (next_error) { int code = next_error; next_error = 0; return code; } \
  } while (0)

const char *fake_log(void) { return log_text; }
void fake_fail(int code) { next_error = code; }

const char *cudaGetErrorName(cudaError_t code) {
  return code == 2 ? "cudaErrorMemoryAllocation" : code == 35 ? "cudaErrorInsufficientDriver"
       : code == 700 ? "cudaErrorIllegalAddress" : NULL;
}
cudaError_t cudaSetDevice(int device) { NOTE("device %d;", device); return 0; }
cudaError_t cudaGetDeviceProperties(void *properties, int device) {
  NOTE("properties %d;", device); strcpy(properties, "Made of host memory"); return 0;
}
cudaError_t cudaDeviceGetAttribute(int *value, int attribute, int device) {
  NOTE("attribute %d %d;", attribute, device);
  *value = attribute == 75 ? 8 : attribute == 76 ? 7 : attribute == 18; return 0;
}
cudaError_t cudaRuntimeGetVersion(int *version) { NOTE("version;"); *version = 12060; return 0; }
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total) {
  NOTE("info;"); *unused = 3u << 30; *total = 8ull << 30; return 0;
}
cudaError_t cudaMalloc(void **address, size_t size) {
  NOTE("malloc %zu;", size); *address = malloc(size); return 0;
}
cudaError_t cudaFree(void *address) { NOTE("free;"); free(address); return 0; }
cudaError_t cudaHostAlloc(void **address, size_t size, unsigned flags) {
  NOTE("host %zu %u;", size, flags); *address = malloc(size); return 0;
}
cudaError_t cudaFreeHost(void *address) { NOTE("free host;"); free(address); return 0; }
cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags) {
  NOTE("pointer %u;", flags); *device = host; return 0;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, cudaStream_t s) {
  NOTE("copy %zu kind %d stream %zx;", size, kind, (size_t)s); memcpy(to, from, size); return 0;
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, int kind, cudaStream_t s) {
  NOTE("copy %zux%zu kind %d stream %zx;", width, height, kind, (size_t)s);
  for (size_t n = 0; n < height; n++)
    memcpy((char *)to + n * to_pitch, (const char *)from + n * from_pitch, width);
  return 0;
}
cudaError_t cudaMemsetAsync(void *to, int byte, size_t size, cudaStream_t s) {
  NOTE("set %d %zu stream %zx;", byte, size, (size_t)s); memset(to, byte, size); return 0;
}
/* A handle over 32 bits: an adapter that cuts it to an int loses it. */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
  NOTE("stream %u;", flags); *s = (void *)0x7fff00000010; return 0;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) { NOTE("destroy %zx;", (size_t)s); return 0; }
cudaError_t cudaStreamSynchronize(cudaStream_t s) { NOTE("wait %zx;", (size_t)s); return 0; }
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags) {
  NOTE("stream %zx for event %zx %u;", (size_t)s, (size_t)e, flags); return 0;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
  NOTE("event %u;", flags); *e = (void *)0x7fff00000020; return 0;
}
cudaError_t cudaEventDestroy(cudaEvent_t e) { NOTE("no event %zx;", (size_t)e); return 0; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  NOTE("record %zx stream %zx;", (size_t)e, (size_t)s); return 0;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t a, cudaEvent_t b) {
  NOTE("elapsed %zx %zx;", (size_t)a, (size_t)b); *ms = 1.5f; return 0;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, int mode) {
  NOTE("begin %zx %d;", (size_t)s, mode); return 0;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph) {
  NOTE("end %zx;", (size_t)s); *graph = (void *)0x7fff00000030; return 0;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *run, cudaGraph_t graph,
                                          unsigned long long flags) {
  NOTE("instantiate %zx %llu;", (size_t)graph, flags); *run = (void *)0x7fff00000040; return 0;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t run, cudaStream_t s) {
  NOTE("launch %zx stream %zx;", (size_t)run, (size_t)s); return 0;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t run) { NOTE("no run %zx;", (size_t)run); return 0; }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { NOTE("no graph %zx;", (size_t)graph); return 0; }
