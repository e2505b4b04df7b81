#define _GNU_SOURCE /* dl_iterate_phdr, madvise, strndup */
#include "parts.h"

#include <dlfcn.h>
#include <link.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SILENCE "ORT_DISABLE_TELEMETRY"
#define API_VERSION 21 /* every function used here is in it; newer libraries keep offering it */

/* Turn a status of ONNX Runtime into an error and release it. */
etsa_err fc_check(const fc_base *base, OrtStatus *status, etsa_err code, const char *doing, fc_message message)
{
    if (status == NULL) return ETSA_OK;
    const char *text = base->ort->GetErrorMessage(status);
    if (strstr(text, "xternal initializer") != NULL) code = ETSA_MERGE_ERROR;
    fc_refuse(message, code, "%s: onnxruntime: %s", doing, text);
    base->ort->ReleaseStatus(status);
    return code;
}

etsa_err fc_load_runtime(fc_base *base, fc_message message)
{
    bool named = base->settings.library != NULL && base->settings.library[0] != '\0';
    const char *name = named ? base->settings.library : "libonnxruntime.so.1";
    /* Microsoft's builds from 1.29 on write to the home folder and report to Microsoft unless this is set before. */
    const char *silence = getenv(SILENCE);
    if ((silence == NULL || strcmp(silence, "1") != 0) && setenv(SILENCE, "1", 1) != 0) {
        return fc_refuse(message, ETSA_STORAGE_ERROR, "cannot set " SILENCE);
    }
    base->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (base->library == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "%s", dlerror());
    const OrtApiBase *(*get_api_base)(void) = NULL;
    void *symbol = base->library_symbol = dlsym(base->library, "OrtGetApiBase");
    memcpy(&get_api_base, &symbol, sizeof symbol); /* ISO C has no cast from data to function pointers */
    base->ort = symbol == NULL ? NULL : get_api_base()->GetApi(API_VERSION);
    if (base->ort == NULL) {
        return fc_refuse(message, ETSA_UNSUPPORTED_ERROR, "%s: no C API %d: want ONNX Runtime 1.21 or later", name, API_VERSION);
    }
    etsa_err err = fc_check(base, base->ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "etsa", &base->env), ETSA_STORAGE_ERROR, name, message);
    if (err == ETSA_OK) err = fc_check(base, base->ort->DisableTelemetryEvents(base->env), ETSA_STORAGE_ERROR, name, message);
    if (err != ETSA_OK) return err;
    return fc_check(base, base->ort->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &base->cpu), ETSA_STORAGE_ERROR, name, message);
}

/* Drop the pages of the library's read-only segments: they are in its file, and are loaded again when they run. */
static int forget_code(struct dl_phdr_info *library, size_t size, void *inside)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), address = (uintptr_t)inside;
    bool found = false;
    (void)size;
    for (int i = 0; i < library->dlpi_phnum; i++) {
        uintptr_t start = library->dlpi_addr + library->dlpi_phdr[i].p_vaddr;
        found = found || (library->dlpi_phdr[i].p_type == PT_LOAD && address - start < library->dlpi_phdr[i].p_memsz);
    }
    for (int i = 0; found && i < library->dlpi_phnum; i++) {
        if (library->dlpi_phdr[i].p_type != PT_LOAD || (library->dlpi_phdr[i].p_flags & PF_W) != 0) continue;
        uintptr_t start = library->dlpi_addr + library->dlpi_phdr[i].p_vaddr, end = start + library->dlpi_phdr[i].p_filesz;
        start = (start + page - 1) / page * page;
        end = end / page * page;
        if (start < end) madvise((void *)start, end - start, MADV_DONTNEED);
    }
    return found;
}

void fc_trim_memory(const fc_base *base)
{
    dl_iterate_phdr(forget_code, base->library_symbol);
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

/* Merged tensors on their way into a session. */
typedef struct replacement {
    char **names;
    OrtValue **values;
    uint32_t count;
} replacement;

/* An initializer named after a tensor; the numbers stay the caller's. */
static etsa_err add_value(const fc_base *base, replacement *r, const etsa_tensor *tensor, const char *suffix, void *data, size_t bytes,
                          const int64_t *shape, size_t dimensions, ONNXTensorElementDataType type, fc_message message)
{
    size_t size = tensor->name.size + strlen(suffix) + 1;
    char *name = r->names[r->count] = malloc(size);
    if (name == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    snprintf(name, size, "%.*s%s", (int)tensor->name.size, tensor->name.at, suffix);
    return fc_check(base, base->ort->CreateTensorWithDataAsOrtValue(base->cpu, data, bytes, shape, dimensions, type, &r->values[r->count++]),
                    ETSA_MERGE_ERROR, name, message);
}

static etsa_err add_tensor(const fc_base *base, replacement *r, const etsa_tensor *tensor, float *merged, fc_message message)
{
    const ONNXTensorElementDataType floats = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, integers = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    int64_t shape[2] = {tensor->rows, tensor->columns};
    size_t count = (size_t)tensor->rows * tensor->columns;
    if (!tensor->quantised) {
        return add_value(base, r, tensor, "", merged, count * sizeof *merged, shape, tensor->dimensions, floats, message);
    }
    etsa_err err = add_value(base, r, tensor, ".int8", fc_integers(tensor, merged), count, shape, 2, integers, message);
    if (err != ETSA_OK) return err;
    return add_value(base, r, tensor, ".scale", fc_scales(tensor, merged), tensor->rows * sizeof *merged, shape, 1, floats, message);
}

/* Give the session the merged tensors before it optimises the graph. Never AddInitializer: where constants are folded it
 * keeps the base's weights and says nothing. */
static etsa_err replace_tensors(const fc_base *base, const etsa_graph *graph, float *const *merged, OrtSessionOptions *options,
                                fc_message message)
{
    uint32_t total = base->bundle.tensor_count;
    replacement r = {calloc(2 * (size_t)total + 1, sizeof *r.names), calloc(2 * (size_t)total + 1, sizeof *r.values), 0};
    etsa_err err = r.names == NULL || r.values == NULL ? fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory") : ETSA_OK;
    for (uint32_t i = 0; i < total && err == ETSA_OK; i++) {
        if (merged[i] != NULL && etsa_graph_uses(graph, i)) err = add_tensor(base, &r, &base->tensors[i], merged[i], message);
    }
    if (err == ETSA_OK && r.count > 0) {
        const OrtValue *const *values = (const OrtValue *const *)r.values;
        err = fc_check(base, base->ort->AddExternalInitializers(options, (const char *const *)r.names, values, r.count), ETSA_MERGE_ERROR,
                       "merged tensors", message);
    }
    for (uint32_t i = 0; i < r.count; i++) {
        if (r.values[i] != NULL) base->ort->ReleaseValue(r.values[i]);
        free(r.names[i]);
    }
    free(r.names);
    free(r.values);
    return err;
}

etsa_err fc_open_session(const fc_base *base, const char *name, bool fold, float *const *merged, OrtSession **session,
                         fc_message message)
{
    const OrtApi *ort = base->ort;
    OrtSessionOptions *options = NULL;
    etsa_graph graph;
    bool found = etsa_bundle_graph(&base->bundle, name, &graph) ||
                 (base->learning_manifest != NULL && etsa_learning_graph(&base->learning, name, &graph));
    if (!found) return fc_refuse(message, ETSA_FORMAT_ERROR, "bundle.json: no graph %s", name);
    const fc_file *file = fc_file_of(base, graph.file);
    if (file == NULL) return fc_refuse(message, ETSA_FORMAT_ERROR, "bundle.json: graph %s: its file is not pinned", name);
    etsa_err err = fc_check(base, ort->CreateSessionOptions(&options), ETSA_STORAGE_ERROR, "options", message);
    if (err != ETSA_OK) return err;
    const char *const entries[][2] = {
        {"session.model_external_initializers_file_folder_path", base->folder},
        {"session.intra_op.allow_spinning", "0"}, /* a monitor has other work for the core */
        {"session.disable_prepacking", base->settings.prepacking ? "0" : "1"},
        {"mlas.disable_kleidiai", "1"}, /* where there is SME, its int8 products are not those that were measured */
        /* Folding copies each weight once more only to transpose it: longer starts, more memory. Left alone, weights stay
         * in the mapped file, and the transposition becomes a flag of the matrix product. Products of integers have none. */
        {"optimization.disable_specified_optimizers", "ConstantFolding"}, /* the last: see `fold` */
    };
    err = fc_check(base, ort->DisableCpuMemArena(options), ETSA_STORAGE_ERROR, "options", message);
    size_t count = sizeof entries / sizeof *entries - (fold || base->bundle.quantised ? 1 : 0);
    for (size_t i = 0; i < count && err == ETSA_OK; i++) {
        err = fc_check(base, ort->AddSessionConfigEntry(options, entries[i][0], entries[i][1]), ETSA_STORAGE_ERROR, entries[i][0], message);
    }
    if (err == ETSA_OK) {
        err = fc_check(base, ort->SetIntraOpNumThreads(options, base->settings.threads), ETSA_STORAGE_ERROR, "threads", message);
    }
    if (err == ETSA_OK) err = fc_check(base, ort->SetInterOpNumThreads(options, 1), ETSA_STORAGE_ERROR, "threads", message);
    if (err == ETSA_OK) err = replace_tensors(base, &graph, merged, options, message);
    if (err == ETSA_OK) {
        err = fc_check(base, ort->CreateSessionFromArray(base->env, file->data, file->size, options, session), ETSA_STORAGE_ERROR,
                       name, message);
    }
    ort->ReleaseSessionOptions(options);
    if (err == ETSA_OK) err = fc_check_unchanged(base, message);
    return err;
}

etsa_err fc_value(const fc_base *base, void *data, ONNXTensorElementDataType type, const int64_t *shape, size_t dimensions,
                  OrtValue **value, fc_message message)
{
    size_t bytes = type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64 ? sizeof(int64_t) : sizeof(float);
    for (size_t i = 0; i < dimensions; i++) bytes *= (size_t)shape[i];
    return fc_check(base, base->ort->CreateTensorWithDataAsOrtValue(base->cpu, data, bytes, shape, dimensions, type, value),
                    ETSA_FORECAST_ERROR, "tensor", message);
}

etsa_err fc_floats(const fc_base *base, OrtValue *value, size_t count, float **data, fc_message message)
{
    const OrtApi *ort = base->ort;
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t made = 0;
    etsa_err err = fc_check(base, ort->GetTensorTypeAndShape(value, &info), ETSA_FORECAST_ERROR, "result", message);
    if (err == ETSA_OK) err = fc_check(base, ort->GetTensorElementType(info, &type), ETSA_FORECAST_ERROR, "result", message);
    if (err == ETSA_OK) err = fc_check(base, ort->GetTensorShapeElementCount(info, &made), ETSA_FORECAST_ERROR, "result", message);
    if (info != NULL) ort->ReleaseTensorTypeAndShapeInfo(info);
    if (err == ETSA_OK && type != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
        err = fc_refuse(message, ETSA_FORECAST_ERROR, "the graph gave numbers of type %d, want float32", (int)type);
    }
    if (err == ETSA_OK && made != count) err = fc_refuse(message, ETSA_FORECAST_ERROR, "the graph gave %zu numbers, want %zu", made, count);
    if (err != ETSA_OK) return err;
    return fc_check(base, ort->GetTensorMutableData(value, (void **)data), ETSA_FORECAST_ERROR, "result", message);
}
