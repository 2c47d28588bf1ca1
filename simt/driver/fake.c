// A driver without a GPU: device memory is host memory, and a launch is a call of a function that the test gives. It
// has the calls that dyt makes, keeps a log of them, and fails where it is told to. While a stream captures, it keeps the
// launches on it for the graph and takes nothing else, which is stricter than NVIDIA's.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef Result (*OnLaunch)(const char* name, const uint32_t* grid, const uint32_t* block, uint32_t shared_bytes,
                           const void* parameter, size_t bytes);

struct Module {
    const char* text;
};
struct Function {
    char name[96];
    size_t bytes;
    unsigned threads;
    unsigned shared_limit;
    struct Module* module;
};
struct Launch {
    struct Function* function;
    uint32_t grid[3], block[3], shared_bytes;
    void* parameter;
    struct Launch* next;
};
struct Graph {
    struct Launch* first;
    struct Launch** end;
};
struct Failure {
    char call[48];
    int code;
    int after;
};

enum { SUCCESS = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_PTX = 218,
       UNSUPPORTED_PTX_VERSION = 222, ILLEGAL_STATE = 401, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700,
       LAST_STICKY = 719, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };

static int version = 12000, devices = 1, capability = 90, pools = 1, newest_isa = 80, sticky;
static struct Failure failures[8];
static OnLaunch on_launch;
static char log_text[1 << 20];
static size_t log_length;
static long long live_bytes;
static _Thread_local void* current;
// The stream that captures, what it has captured, and whether a call has spoilt that.
static void* capturing;
static struct Graph* captured;
static int invalidated;

// --- what the test says and asks ---------------------------------------------------------------------------------

void fake_set(const char* what, int value) {
    if (strcmp(what, "version") == 0) version = value;
    if (strcmp(what, "devices") == 0) devices = value;
    if (strcmp(what, "capability") == 0) capability = value;
    if (strcmp(what, "pools") == 0) pools = value;
    if (strcmp(what, "newest_isa") == 0) newest_isa = value;
}

// The call fails with the code, after it has succeeded so many times.
void fake_fail(const char* call, int code, int after) {
    for (int i = 0; i < 8; ++i) {
        if (failures[i].code != 0) continue;
        snprintf(failures[i].call, sizeof failures[i].call, "%s", call);
        failures[i].code = code;
        failures[i].after = after;
        return;
    }
    abort();
}

void fake_on_launch(OnLaunch function) { on_launch = function; }
const char* fake_log(void) { return log_text; }
void fake_clear_log(void) { log_text[log_length = 0] = 0; }
long long fake_live_bytes(void) { return live_bytes; }

// --- the calls ---------------------------------------------------------------------------------------------------

static Result begin(const char* call, unsigned long long value) {
    if (log_length + 128 < sizeof log_text)
        log_length += (size_t)sprintf(log_text + log_length, "%s %llu\n", call, value);
    if (sticky) return sticky;
    for (int i = 0; i < 8; ++i) {
        if (failures[i].code == 0 || strcmp(failures[i].call, call) != 0) continue;
        if (failures[i].after-- > 0) continue;
        int code = failures[i].code;
        failures[i].code = 0;
        if (code >= ILLEGAL_ADDRESS && code <= LAST_STICKY) sticky = code;
        return code;
    }
    return SUCCESS;
}

#define BEGIN(value)                                                  \
    do {                                                              \
        Result status = begin(__func__, (unsigned long long)(value)); \
        if (status != SUCCESS) return status;                         \
    } while (0)
#define IN_CONTEXT(value)                             \
    do {                                              \
        BEGIN(value);                                 \
        if (current == NULL) return INVALID_CONTEXT; \
    } while (0)

// A call that cannot be part of a graph.
#define OUTSIDE_CAPTURE(value)                               \
    do {                                                     \
        IN_CONTEXT(value);                                   \
        if (capturing != NULL) {                             \
            invalidated = 1;                                 \
            return CAPTURE_UNSUPPORTED;                      \
        }                                                    \
    } while (0)

Result cuInit(unsigned flags) { BEGIN(flags); return devices == 0 ? 100 : SUCCESS; }
Result cuDriverGetVersion(int* out) { *out = version; return SUCCESS; }
Result cuGetErrorName(int code, const char** out) {
    static _Thread_local char text[32];
    sprintf(text, "FAKE_ERROR_%d", code);
    *out = text;
    return SUCCESS;
}
Result cuGetErrorString(int code, const char** out) {
    (void)code;
    *out = "as the test asked for";
    return SUCCESS;
}
Result cuDeviceGet(int* out, int ordinal) {
    BEGIN(ordinal);
    if (ordinal < 0 || ordinal >= devices) return INVALID_DEVICE;
    *out = ordinal;
    return SUCCESS;
}
Result cuDeviceGetCount(int* out) { BEGIN(0); *out = devices; return SUCCESS; }
Result cuDeviceGetName(char* out, int length, int device) {
    BEGIN(device);
    snprintf(out, (size_t)length, "Fake GPU %d", device);
    return SUCCESS;
}
Result cuDeviceGetAttribute(int* out, int attribute, int device) {
    BEGIN(attribute);
    (void)device;
    switch (attribute) {
        case 75: *out = capability / 10; return SUCCESS;
        case 76: *out = capability % 10; return SUCCESS;
        case 97: *out = 64 * 1024; return SUCCESS;
        case 115: *out = pools; return SUCCESS;
        default: return INVALID_VALUE;
    }
}
Result cuDevicePrimaryCtxRetain(void** out, int device) {
    BEGIN(device);
    *out = (void*)(uintptr_t)(0x1000 + device);
    return SUCCESS;
}
Result cuDevicePrimaryCtxRelease_v2(int device) { BEGIN(device); return SUCCESS; }
Result cuCtxGetCurrent(void** out) { BEGIN(0); *out = current; return SUCCESS; }
Result cuCtxSetCurrent(void* context) { BEGIN((uintptr_t)context); current = context; return SUCCESS; }

Result cuModuleLoadDataEx(struct Module** out, const void* image, unsigned count, int* options, void** values) {
    OUTSIDE_CAPTURE(0);
    int isa = 0, fraction = 0, architecture = 0;
    const char* target = strstr(image, ".target sm_");
    if (sscanf(image, "%*[^.].version %d.%d", &isa, &fraction) != 2 &&
        sscanf(image, ".version %d.%d", &isa, &fraction) != 2)
        return INVALID_PTX;
    if (target == NULL || sscanf(target, ".target sm_%d", &architecture) != 1) return INVALID_PTX;
    if (isa * 10 + fraction > newest_isa || architecture > capability) {
        for (unsigned i = 0; i < count; ++i)
            if (options[i] == 5) sprintf(values[i], "ptxas fatal: unsupported .version %d.%d", isa, fraction);
        return UNSUPPORTED_PTX_VERSION;
    }
    *out = malloc(sizeof **out);
    (*out)->text = image;
    return SUCCESS;
}
Result cuModuleGetFunction(struct Function** out, struct Module* module, const char* name) {
    OUTSIDE_CAPTURE(0);
    char entry[128];
    snprintf(entry, sizeof entry, ".entry %s(", name);
    const char* at = strstr(module->text, entry);
    if (at == NULL) return NOT_FOUND;
    struct Function* function = calloc(1, sizeof *function);
    snprintf(function->name, sizeof function->name, "%s", name);
    function->bytes = strtoul(strchr(at, '[') + 1, NULL, 10);
    unsigned x = 1, y = 1, z = 1;
    sscanf(strstr(at, ".maxntid"), ".maxntid %u, %u, %u", &x, &y, &z);
    function->threads = x * y * z;
    function->shared_limit = 48 * 1024;
    function->module = module;
    *out = function;
    return SUCCESS;
}
Result cuModuleUnload(struct Module* module) { OUTSIDE_CAPTURE(0); free(module); return SUCCESS; }
Result cuFuncSetAttribute(struct Function* function, int attribute, int value) {
    OUTSIDE_CAPTURE(value);
    if (attribute != 8 || value > 64 * 1024) return INVALID_VALUE;
    function->shared_limit = (unsigned)value;
    return SUCCESS;
}
static Result run(const struct Launch* launch) {
    if (on_launch == NULL) return SUCCESS;
    const struct Function* function = launch->function;
    return on_launch(function->name, launch->grid, launch->block, launch->shared_bytes, launch->parameter,
                     function->bytes);
}
static void forget(struct Launch* launch) {
    free(launch->parameter);
    free(launch);
}
Result cuLaunchKernel(struct Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                      unsigned bz, unsigned shared_bytes, void* stream, void** parameters, void** extra) {
    IN_CONTEXT((uintptr_t)stream);
    if (gx == 0 || gy == 0 || gz == 0 || gx > 0x7fffffffu || gy > 65535 || gz > 65535 || extra != NULL)
        return INVALID_VALUE;
    if (bx * by * bz == 0 || bx * by * bz > function->threads || shared_bytes > function->shared_limit)
        return INVALID_VALUE;
    struct Launch* launch = malloc(sizeof *launch);
    *launch = (struct Launch){function, {gx, gy, gz}, {bx, by, bz}, shared_bytes, malloc(function->bytes), NULL};
    // The driver copies the parameter: so many bytes as the PTX says.
    memcpy(launch->parameter, parameters[0], function->bytes);
    if (capturing != NULL) {
        if (stream != capturing) invalidated = 1;
        *captured->end = launch;
        captured->end = &launch->next;
        return stream == capturing ? SUCCESS : CAPTURE_UNSUPPORTED;
    }
    Result status = run(launch);
    forget(launch);
    return status;
}

Result cuStreamBeginCapture_v2(void* stream, int mode) {
    OUTSIDE_CAPTURE((uintptr_t)stream);
    (void)mode;
    // The default stream cannot.
    if (stream == NULL) return CAPTURE_UNSUPPORTED;
    captured = malloc(sizeof *captured);
    captured->first = NULL;
    captured->end = &captured->first;
    capturing = stream;
    invalidated = 0;
    return SUCCESS;
}
Result cuGraphDestroy(struct Graph* graph) {
    BEGIN(0);
    while (graph->first != NULL) {
        struct Launch* launch = graph->first;
        graph->first = launch->next;
        forget(launch);
    }
    free(graph);
    return SUCCESS;
}
Result cuStreamEndCapture(void* stream, struct Graph** out) {
    IN_CONTEXT((uintptr_t)stream);
    *out = NULL;
    if (stream == NULL || stream != capturing) return ILLEGAL_STATE;
    capturing = NULL;
    if (invalidated) {
        cuGraphDestroy(captured);
        return CAPTURE_INVALIDATED;
    }
    *out = captured;
    return SUCCESS;
}
// What is launched is the graph itself: nothing changes it.
Result cuGraphInstantiateWithFlags(struct Graph** out, struct Graph* graph, unsigned long long flags) {
    OUTSIDE_CAPTURE(flags);
    *out = graph;
    return SUCCESS;
}
Result cuGraphExecDestroy(struct Graph* graph) { (void)graph; BEGIN(0); return SUCCESS; }
Result cuGraphLaunch(struct Graph* graph, void* stream) {
    OUTSIDE_CAPTURE((uintptr_t)stream);
    Result status = SUCCESS;
    for (const struct Launch* launch = graph->first; launch != NULL && status == SUCCESS; launch = launch->next)
        status = run(launch);
    return status;
}

static Result take(unsigned long long* out, size_t bytes) {
    // The length stands in front, and nothing is zero that nobody has set.
    unsigned char* memory = aligned_alloc(256, (bytes + 511) / 256 * 256);
    if (memory == NULL) return 2;
    memset(memory, 0xA5, bytes + 256);
    memcpy(memory, &bytes, sizeof bytes);
    live_bytes += (long long)bytes;
    *out = (uintptr_t)(memory + 256);
    return SUCCESS;
}
static Result give(unsigned long long address) {
    unsigned char* memory = (unsigned char*)(uintptr_t)address - 256;
    size_t bytes;
    memcpy(&bytes, memory, sizeof bytes);
    live_bytes -= (long long)bytes;
    free(memory);
    return SUCCESS;
}
Result cuMemAlloc_v2(unsigned long long* out, size_t bytes) { OUTSIDE_CAPTURE(bytes); return take(out, bytes); }
Result cuMemAllocAsync(unsigned long long* out, size_t bytes, void* stream) {
    OUTSIDE_CAPTURE(bytes);
    (void)stream;
    return take(out, bytes);
}
Result cuMemFree_v2(unsigned long long address) { OUTSIDE_CAPTURE(0); return give(address); }
Result cuMemFreeAsync(unsigned long long address, void* stream) { OUTSIDE_CAPTURE(stream); return give(address); }
Result cuMemsetD8Async(unsigned long long address, unsigned char value, size_t bytes, void* stream) {
    OUTSIDE_CAPTURE(bytes);
    (void)stream;
    memset((void*)(uintptr_t)address, value, bytes);
    return SUCCESS;
}
static Result copy(void* target, const void* source, size_t bytes) {
    memmove(target, source, bytes);
    return SUCCESS;
}
Result cuMemcpyHtoDAsync_v2(unsigned long long target, const void* source, size_t bytes, void* stream) {
    OUTSIDE_CAPTURE(bytes);
    (void)stream;
    return copy((void*)(uintptr_t)target, source, bytes);
}
Result cuMemcpyDtoHAsync_v2(void* target, unsigned long long source, size_t bytes, void* stream) {
    OUTSIDE_CAPTURE(bytes);
    (void)stream;
    return copy(target, (const void*)(uintptr_t)source, bytes);
}
Result cuMemcpyDtoDAsync_v2(unsigned long long target, unsigned long long source, size_t bytes, void* stream) {
    OUTSIDE_CAPTURE(bytes);
    (void)stream;
    return copy((void*)(uintptr_t)target, (const void*)(uintptr_t)source, bytes);
}
Result cuCtxSynchronize(void) { OUTSIDE_CAPTURE(0); return SUCCESS; }
Result cuStreamCreate(void** out, unsigned flags) { OUTSIDE_CAPTURE(flags); *out = malloc(1); return SUCCESS; }
Result cuStreamDestroy_v2(void* stream) { OUTSIDE_CAPTURE(stream); free(stream); return SUCCESS; }
Result cuStreamSynchronize(void* stream) { OUTSIDE_CAPTURE(stream); return SUCCESS; }
Result cuEventCreate(void** out, unsigned flags) { OUTSIDE_CAPTURE(flags); *out = malloc(1); return SUCCESS; }
Result cuEventRecord(void* event, void* stream) { (void)event; OUTSIDE_CAPTURE(stream); return SUCCESS; }
Result cuEventSynchronize(void* event) { (void)event; OUTSIDE_CAPTURE(0); return SUCCESS; }
Result cuEventElapsedTime(float* out, void* begin_event, void* end_event) {
    (void)begin_event, (void)end_event;
    OUTSIDE_CAPTURE(0);
    *out = 1.5f;
    return SUCCESS;
}
Result cuEventDestroy_v2(void* event) { OUTSIDE_CAPTURE(0); free(event); return SUCCESS; }
