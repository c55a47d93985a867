/* NVML of a machine with one GPU and one MIG slice of it: the functions that the project calls, by NVML's own signatures
   (nvml.h of CUDA 12). The variables at the top belong to the test, which reads and sets them. An OLD_DRIVER lacks one. */
#include <stdlib.h>
#include <string.h>

enum { SUCCESS, INVALID_ARGUMENT = 2, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE };
typedef struct { int is_slice; } *Device;
typedef struct { int metric, result; double value; char *names[3]; } Metric;
typedef struct { unsigned version, count; int *first, *second; Metric metrics[]; } MetricsGet;
typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } Process;
typedef unsigned long long Wide;

int live_samples, samples_taken, failing_sample, temperatures_read, mig_mode, ecc = 1, process_id, has_no_mig;
unsigned power_limit = 500000;
Wide reasons, millijoules;
char name[96] = "NVIDIA H100 80GB HBM3";
static struct { int is_slice; } gpu = {0}, slice = {1};

static int give(unsigned *out, unsigned value) { *out = value; return SUCCESS; }
static int text(char *out, unsigned size, const char *value) {
    if (strlen(value) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}
static int find(Device *out, void *device) { *out = device; return device ? SUCCESS : NOT_FOUND; }

int nvmlInitWithFlags(unsigned flags) { return flags ? INVALID_ARGUMENT : SUCCESS; }
const char *nvmlErrorString(int result) { return result == NOT_SUPPORTED ? "Not Supported" : "another error"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { return text(out, size, "580.65.06"); }
int nvmlDeviceGetCount_v2(unsigned *out) { return give(out, 1); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *out) { return find(out, index ? 0 : &gpu); }
int nvmlDeviceGetHandleByUUID(const char *uuid, Device *out) {
    return find(out, strcmp(uuid, "GPU-0123") ? strcmp(uuid, "MIG-4567") ? 0 : (void *)&slice : (void *)&gpu);
}
int nvmlDeviceGetName(Device device, char *out, unsigned size) { return text(out, size, name); }
int nvmlDeviceGetUtilizationRates(Device device, unsigned *out) {
    if (device->is_slice) return NOT_SUPPORTED;
    return give(out, 80), give(out + 1, 30);
}
int nvmlDeviceGetPowerUsage(Device device, unsigned *out) {
    return device->is_slice ? NOT_SUPPORTED : give(out, 412500);
}
int nvmlDeviceGetTotalEnergyConsumption(Device device, Wide *out) {
    return device->is_slice ? NOT_SUPPORTED : (*out = millijoules, SUCCESS);
}
int nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned *out) {
    return device->is_slice ? NOT_SUPPORTED : give(out, power_limit);
}
int nvmlDeviceGetClockInfo(Device device, int clock, unsigned *out) {
    return device->is_slice ? NOT_SUPPORTED : give(out, 1000 + clock);
}
int nvmlDeviceGetMaxClockInfo(Device device, int clock, unsigned *out) { return give(out, 2000 + clock); }
int nvmlDeviceGetApplicationsClock(Device device, int clock, unsigned *out) { return NOT_SUPPORTED; }
int nvmlDeviceGetTemperature(Device device, int sensor, unsigned *out) {
    return device->is_slice ? NOT_SUPPORTED : (temperatures_read++, give(out, 61));
}
int nvmlDeviceGetCurrentClocksThrottleReasons(Device device, Wide *out) {
    return device->is_slice ? NOT_SUPPORTED : (*out = reasons, SUCCESS);
}
int nvmlDeviceGetPersistenceMode(Device device, unsigned *out) { return give(out, 1); }
int nvmlDeviceGetEccMode(Device device, int *current, int *pending) {
    return ecc < 0 ? NOT_SUPPORTED : (*current = ecc, *pending = !ecc, SUCCESS);
}
int nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
    return give(current, mig_mode), give(pending, !mig_mode);
}
int nvmlDeviceIsMigDeviceHandle(Device device, unsigned *out) {
    return has_no_mig ? NOT_SUPPORTED : give(out, device->is_slice);
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device device, Device *out) { return find(out, &gpu); }
int nvmlDeviceGetGpuInstanceId(Device device, unsigned *out) { return device->is_slice ? give(out, 3) : NOT_SUPPORTED; }
#ifndef OLD_DRIVER
int nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, Process *out) {
    if (*count < 1) return give(count, 1), INSUFFICIENT_SIZE;
    *out = (Process){process_id, 7ull << 32, 0, 0};
    return give(count, 1);
}
#endif

int nvmlGpmSampleAlloc(int **out) { live_samples++; return (*out = calloc(1, sizeof(int))) ? SUCCESS : NOT_FOUND; }
int nvmlGpmSampleFree(int *sample) { live_samples--; free(sample); return SUCCESS; }
int nvmlGpmSampleGet(Device device, int *sample) {
    if (device->is_slice) return INVALID_ARGUMENT;
    return (*sample = ++samples_taken) == failing_sample ? NOT_SUPPORTED : SUCCESS;
}
int nvmlGpmMigSampleGet(Device device, unsigned instance, int *sample) {
    return instance == 3 ? nvmlGpmSampleGet(device, sample) : INVALID_ARGUMENT;
}
int nvmlGpmMetricsGet(MetricsGet *get) {
    if (get->version != 1 || get->count != 1 || *get->first >= *get->second) return INVALID_ARGUMENT;
    get->metrics[0].result = SUCCESS;
    get->metrics[0].value = get->metrics[0].metric + 0.5;
    return SUCCESS;
}
