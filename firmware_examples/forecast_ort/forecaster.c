#define _DEFAULT_SOURCE /* madvise */
#include "forecaster.h"
#ifdef ETSA_WITH_SODIUM
#include "etsa_sodium.h"

#include <sodium.h>
#endif

#include "onnxruntime_c_api.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define API_VERSION 21 /* every function used here is in it; newer libraries keep offering it */

struct fc_base {
    char folder[4096];
    fc_settings settings;
    uint8_t *manifest;
    etsa_bundle bundle;
    etsa_tensor *tensors;
    etsa_graph graph;
    uint32_t patch_size;
    uint8_t *tunable; /* mapped tunable.safetensors */
    size_t tunable_size;
    void *library;
    const OrtApi *ort;
    OrtEnv *env;
    OrtMemoryInfo *cpu;
};

struct fc_forecaster {
    fc_base *base;
    OrtSession *session;
    uint8_t *blob; /* NULL: the base alone */
    etsa_adapter adapter;
    float **merged; /* [tensor_count]; NULL where the adapter changes nothing. The session may point into them */
    float *input;   /* [context_length rounded up to whole patches] */
    double difference;
};

static etsa_err refuse(fc_message message, etsa_err code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, FC_MESSAGE_SIZE, format, arguments);
    va_end(arguments);
    return code;
}

/* Turn a status of ONNX Runtime into an error and release it. */
static etsa_err check(const fc_base *base, OrtStatus *status, etsa_err code, const char *doing, fc_message message)
{
    if (status == NULL) return ETSA_OK;
    const char *text = base->ort->GetErrorMessage(status);
    if (strstr(text, "xternal initializer") != NULL) code = ETSA_MERGE_ERROR;
    refuse(message, code, "%s: onnxruntime: %s", doing, text);
    base->ort->ReleaseStatus(status);
    return code;
}

etsa_err fc_read_file(const char *path, size_t limit, uint8_t **data, size_t *size, fc_message message)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return refuse(message, ETSA_STORAGE_ERROR, "cannot read %s: %s", path, strerror(errno));
    *data = malloc(limit + 1);
    *size = *data == NULL ? 0 : fread(*data, 1, limit + 1, file);
    bool failed = *data == NULL || ferror(file);
    fclose(file);
    if (!failed && *size <= limit) return ETSA_OK;
    free(*data);
    *data = NULL;
    if (failed) return refuse(message, ETSA_STORAGE_ERROR, "cannot read %s", path);
    return refuse(message, ETSA_SIZE_ERROR, "%s: more than %zu bytes", path, limit);
}

static bool path_of(const fc_base *base, etsa_text name, char path[4096])
{
    int size = snprintf(path, 4096, "%s/%.*s", base->folder, (int)name.size, name.at);
    return size > 0 && size < 4096;
}

/* Map a pinned file and compare it with the manifest. The caller unmaps it. */
static etsa_err map_file(const fc_base *base, const etsa_file *pinned, uint8_t **data, fc_message message)
{
    char path[4096];
    struct stat facts;
    *data = NULL;
    if (!path_of(base, pinned->name, path)) return refuse(message, ETSA_STORAGE_ERROR, "path too long");
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    if (handle < 0 || fstat(handle, &facts) != 0) {
        int error = errno;
        if (handle >= 0) close(handle);
        return refuse(message, ETSA_STORAGE_ERROR, "cannot read %s: %s", path, strerror(error));
    }
    size_t size = (size_t)facts.st_size;
    if (facts.st_size <= 0 || size != pinned->size) {
        close(handle);
        return refuse(message, ETSA_BASE_MISMATCH_ERROR, "%s: %lld bytes, the manifest pins %llu", path,
                      (long long)facts.st_size, (unsigned long long)pinned->size);
    }
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, handle, 0);
    close(handle);
    if (map == MAP_FAILED) return refuse(message, ETSA_STORAGE_ERROR, "cannot map %s: %s", path, strerror(errno));
    if (!base->settings.trust_files) {
        /* a window at a time, dropped again: checking 35 MB costs no 35 MB of memory */
        const size_t window = (size_t)1 << 20;
        etsa_sha256_state state;
        uint8_t digest[32];
        etsa_sha256_start(&state);
        for (size_t at = 0; at < size; at += window) {
            size_t part = size - at < window ? size - at : window;
            etsa_sha256_add(&state, (const uint8_t *)map + at, part);
            madvise((uint8_t *)map + at, part, MADV_DONTNEED);
        }
        etsa_sha256_end(&state, digest);
        if (memcmp(digest, pinned->sha256, 32) != 0) {
            munmap(map, size);
            return refuse(message, ETSA_BASE_MISMATCH_ERROR, "%s is not the file that the manifest pins", path);
        }
    }
    *data = map;
    return ETSA_OK;
}

static etsa_err open_files(fc_base *base, fc_message message)
{
    etsa_file pinned;
    for (uint32_t i = 0; etsa_bundle_file(&base->bundle, i, &pinned); i++) {
        uint8_t *data;
        bool tunable = etsa_text_is(pinned.name, "tunable.safetensors");
        etsa_err err = map_file(base, &pinned, &data, message);
        if (err != ETSA_OK) return err;
        if (tunable) {
            base->tunable = data;
            base->tunable_size = (size_t)pinned.size;
        } else {
            munmap(data, (size_t)pinned.size);
        }
    }
    return ETSA_OK;
}

static etsa_err open_manifest(fc_base *base, fc_message message)
{
    char path[4096];
    size_t size;
    double patch = 0;
    snprintf(path, sizeof path, "%.4000s/bundle.json", base->folder);
    etsa_err err = fc_read_file(path, ETSA_MAX_MANIFEST_SIZE, &base->manifest, &size, message);
    if (err != ETSA_OK) return err;
    err = etsa_bundle_read(base->manifest, size, &base->bundle);
    if (err != ETSA_OK) return refuse(message, err, "%s: %s", path, etsa_err_name((int)err));
    if (!etsa_text_is(base->bundle.family, "chronos-bolt")) {
        return refuse(message, ETSA_UNSUPPORTED_ERROR, "%s: family %.*s: this sample forecasts with chronos-bolt", path,
                      (int)base->bundle.family.size, base->bundle.family.at);
    }
    if (!etsa_bundle_parameter(&base->bundle, "patch_size", &patch) || patch < 1 || patch > 4096) {
        return refuse(message, ETSA_FORMAT_ERROR, "%s: parameters.patch_size", path);
    }
    if (!etsa_bundle_graph(&base->bundle, "forecast", &base->graph) || base->bundle.context_length < 1 ||
        base->bundle.context_length > 65536 || base->bundle.prediction_length < 1) {
        return refuse(message, ETSA_FORMAT_ERROR, "%s: no forecast graph, or lengths that cannot be", path);
    }
    base->patch_size = (uint32_t)patch;
    base->tensors = calloc(base->bundle.tensor_count + 1, sizeof *base->tensors);
    if (base->tensors == NULL) return refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    return etsa_bundle_tensors(&base->bundle, base->tensors, base->bundle.tensor_count);
}

static etsa_err load_runtime(fc_base *base, fc_message message)
{
    const char *name = base->settings.library != NULL ? base->settings.library : "libonnxruntime.so.1";
    base->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (base->library == NULL) return refuse(message, ETSA_STORAGE_ERROR, "%s", dlerror());
    const OrtApiBase *(*get_api_base)(void) = NULL;
    void *symbol = dlsym(base->library, "OrtGetApiBase");
    memcpy(&get_api_base, &symbol, sizeof symbol); /* ISO C has no cast from data to function pointers */
    base->ort = symbol == NULL ? NULL : get_api_base()->GetApi(API_VERSION);
    if (base->ort == NULL) {
        return refuse(message, ETSA_UNSUPPORTED_ERROR, "%s: no C API %d: want ONNX Runtime 1.21 or later", name, API_VERSION);
    }
    etsa_err err = check(base, base->ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "etsa", &base->env), ETSA_STORAGE_ERROR, name, message);
    if (err != ETSA_OK) return err;
    return check(base, base->ort->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &base->cpu), ETSA_STORAGE_ERROR, name, message);
}

etsa_err fc_base_open(const char *folder, const fc_settings *settings, fc_base **out, fc_message message)
{
    *out = NULL;
    message[0] = '\0';
    fc_base *base = calloc(1, sizeof *base);
    if (base == NULL) return refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    base->settings = *settings;
    etsa_err err = ETSA_OK;
    if (strlen(folder) >= 4000) err = refuse(message, ETSA_STORAGE_ERROR, "path too long");
    else strcpy(base->folder, folder);
    if (err == ETSA_OK) err = open_manifest(base, message);
    if (err == ETSA_OK) err = open_files(base, message);
    if (err == ETSA_OK) err = load_runtime(base, message);
    if (err == ETSA_OK) *out = base;
    else fc_base_close(base);
    return err;
}

void fc_base_close(fc_base *base)
{
    if (base == NULL) return;
    if (base->cpu != NULL) base->ort->ReleaseMemoryInfo(base->cpu);
    if (base->env != NULL) base->ort->ReleaseEnv(base->env);
    if (base->tunable != NULL) munmap(base->tunable, base->tunable_size);
    free(base->tensors);
    free(base->manifest);
    /* The library stays loaded: it starts threads and keeps static state that a second dlopen would meet. */
    free(base);
}

const etsa_bundle *fc_bundle(const fc_base *base) { return &base->bundle; }

static uint32_t padded_length(const fc_base *base, size_t length)
{
    uint32_t patch = base->patch_size;
    return ((uint32_t)length + patch - 1) / patch * patch;
}

static etsa_err verify(const uint8_t *data, size_t size, uint32_t blob_size, const uint8_t *key, fc_message message)
{
#ifdef ETSA_WITH_SODIUM
    uint8_t *framed = malloc(ETSA_PREFIX_SIZE + (size_t)blob_size);
    if (framed == NULL || sodium_init() < 0) {
        free(framed);
        return refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    }
    memcpy(framed, ETSA_PREFIX, ETSA_PREFIX_SIZE);
    memcpy(framed + ETSA_PREFIX_SIZE, data, blob_size);
    etsa_err err = etsa_verify(framed, blob_size, data + blob_size, size - blob_size, key, etsa_sodium_ed25519);
    free(framed);
    return err == ETSA_OK ? ETSA_OK : refuse(message, err, "the trusted key did not sign this adapter");
#else
    (void)data, (void)size, (void)blob_size, (void)key;
    return refuse(message, ETSA_SIGNATURE_ERROR, "built without Ed25519: nothing can be verified");
#endif
}

/* Everything up to the merge. The blob is copied, so that what was verified is what is used. */
static etsa_err read_adapter(fc_forecaster *f, const uint8_t *data, size_t size, const fc_policy *policy, fc_message message)
{
    uint32_t blob_size;
    etsa_err err = etsa_blob_size(data, size, &blob_size);
    if (err != ETSA_OK) return refuse(message, err, "adapter: not a blob, or cut short");
    f->blob = malloc(size);
    if (f->blob == NULL) return refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    memcpy(f->blob, data, size);
    if (policy->key != NULL) {
        err = verify(f->blob, size, blob_size, policy->key, message);
        if (err != ETSA_OK) return err;
    }
    err = etsa_decode(f->blob, blob_size, &f->adapter);
    if (err != ETSA_OK) {
        return refuse(message, err, "adapter: %s: R%d at byte %u", etsa_err_name((int)err), f->adapter.rule, (unsigned)f->adapter.where);
    }
    err = etsa_fits(&f->adapter, &f->base->bundle, f->base->tensors);
    if (err == ETSA_BASE_MISMATCH_ERROR) return refuse(message, err, "the adapter is for another base");
    if (err != ETSA_OK) return refuse(message, err, "the adapter's shapes are not the base's");
    if (f->adapter.version < policy->version_floor) {
        return refuse(message, ETSA_ROLLBACK_ERROR, "adapter version %llu is below the floor of %llu",
                      (unsigned long long)f->adapter.version, (unsigned long long)policy->version_floor);
    }
    if (policy->need_known_answer && f->adapter.expected_size == 0) {
        return refuse(message, ETSA_SELF_TEST_ERROR, "the adapter has no known answer");
    }
    return ETSA_OK;
}

static etsa_err merge(fc_forecaster *f, fc_message message)
{
    size_t need = etsa_scratch_count(&f->adapter);
    int64_t *scratch = malloc((need + 1) * sizeof *scratch);
    etsa_err err = scratch == NULL ? refuse(message, ETSA_STORAGE_ERROR, "out of memory") : ETSA_OK;
    etsa_delta delta = {0};
    while (err == ETSA_OK && etsa_next(&f->adapter, &delta)) {
        const etsa_tensor *tensor = &f->base->tensors[delta.tensor];
        float *merged = malloc((size_t)tensor->rows * tensor->columns * sizeof *merged);
        f->merged[delta.tensor] = merged;
        if (merged == NULL) err = refuse(message, ETSA_STORAGE_ERROR, "out of memory");
        else err = etsa_merge(&delta, f->base->tunable + tensor->offset, merged, scratch, need);
        if (err == ETSA_MERGE_ERROR) {
            refuse(message, err, "%.*s: a merged weight is not finite", (int)tensor->name.size, tensor->name.at);
        }
    }
    free(scratch);
    madvise(f->base->tunable, f->base->tunable_size, MADV_DONTNEED); /* the pages read are in the file */
    return err;
}

/* Give the session the merged tensors before it optimises the graph. Never AddInitializer: where constants are folded it
 * keeps the base's weights and says nothing. */
static etsa_err replace_tensors(const fc_forecaster *f, OrtSessionOptions *options, fc_message message)
{
    const fc_base *base = f->base;
    uint32_t total = base->bundle.tensor_count, count = 0;
    char **names = calloc(total + 1, sizeof *names);
    OrtValue **values = calloc(total + 1, sizeof *values);
    etsa_err err = names == NULL || values == NULL ? refuse(message, ETSA_STORAGE_ERROR, "out of memory") : ETSA_OK;
    for (uint32_t i = 0; i < total && err == ETSA_OK; i++) {
        const etsa_tensor *tensor = &base->tensors[i];
        if (f->merged[i] == NULL || !etsa_graph_uses(&base->graph, i)) continue;
        int64_t shape[2] = {tensor->rows, tensor->columns};
        size_t bytes = (size_t)tensor->rows * tensor->columns * sizeof(float);
        names[count] = strndup(tensor->name.at, tensor->name.size);
        if (names[count] == NULL) err = refuse(message, ETSA_STORAGE_ERROR, "out of memory");
        else {
            err = check(base, base->ort->CreateTensorWithDataAsOrtValue(base->cpu, f->merged[i], bytes, shape, tensor->dimensions,
                                                                        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &values[count]),
                        ETSA_MERGE_ERROR, names[count], message);
        }
        count++;
    }
    if (err == ETSA_OK && count > 0) {
        err = check(base, base->ort->AddExternalInitializers(options, (const char *const *)names, (const OrtValue *const *)values, count),
                    ETSA_MERGE_ERROR, "merged tensors", message);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (values[i] != NULL) base->ort->ReleaseValue(values[i]);
        free(names[i]);
    }
    free(names);
    free(values);
    return err;
}

static etsa_err open_session(fc_forecaster *f, fc_message message)
{
    const fc_base *base = f->base;
    const OrtApi *ort = base->ort;
    OrtSessionOptions *options = NULL;
    char path[4096];
    if (!path_of(base, base->graph.file, path)) return refuse(message, ETSA_STORAGE_ERROR, "path too long");
    etsa_err err = check(base, ort->CreateSessionOptions(&options), ETSA_STORAGE_ERROR, "options", message);
    if (err != ETSA_OK) return err;
    const char *const entries[][2] = {
        {"session.intra_op.allow_spinning", "0"}, /* a monitor has other work for the core */
        {"session.disable_prepacking", base->settings.prepacking ? "0" : "1"},
        /* It would copy each weight once more only to transpose it: longer starts, more memory. Left alone, weights stay
         * in the mapped file, and the transposition becomes a flag of the matrix product. */
        {"optimization.disable_specified_optimizers", "ConstantFolding"},
    };
    err = check(base, ort->DisableCpuMemArena(options), ETSA_STORAGE_ERROR, "options", message);
    for (size_t i = 0; i < sizeof entries / sizeof *entries && err == ETSA_OK; i++) {
        err = check(base, ort->AddSessionConfigEntry(options, entries[i][0], entries[i][1]), ETSA_STORAGE_ERROR, entries[i][0], message);
    }
    if (err == ETSA_OK) {
        int threads = base->settings.threads > 0 ? base->settings.threads : 2;
        err = check(base, ort->SetIntraOpNumThreads(options, threads), ETSA_STORAGE_ERROR, "threads", message);
    }
    if (err == ETSA_OK) err = check(base, ort->SetInterOpNumThreads(options, 1), ETSA_STORAGE_ERROR, "threads", message);
    if (err == ETSA_OK) err = replace_tensors(f, options, message);
    if (err == ETSA_OK) err = check(base, ort->CreateSession(base->env, path, options, &f->session), ETSA_STORAGE_ERROR, path, message);
    ort->ReleaseSessionOptions(options);
    return err;
}

static etsa_err run(fc_forecaster *f, const float *context, size_t length, float *quantiles, fc_message message)
{
    const fc_base *base = f->base;
    const OrtApi *ort = base->ort;
    const char *input_name = "context", *output_name = "quantiles";
    uint32_t padded = padded_length(base, length), levels = base->bundle.level_count, steps = base->bundle.prediction_length;
    int64_t shape[2] = {1, padded};
    OrtValue *input = NULL, *output = NULL;
    OrtTensorTypeAndShapeInfo *info = NULL;
    float *made = NULL;
    size_t count = 0;
    for (uint32_t i = 0; i < padded - (uint32_t)length; i++) f->input[i] = NAN;
    memcpy(f->input + (padded - (uint32_t)length), context, length * sizeof *context);
    etsa_err err = check(base, ort->CreateTensorWithDataAsOrtValue(base->cpu, f->input, padded * sizeof(float), shape, 2,
                                                                   ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input),
                         ETSA_FORECAST_ERROR, "context", message);
    if (err == ETSA_OK) {
        err = check(base, ort->Run(f->session, NULL, &input_name, (const OrtValue *const *)&input, 1, &output_name, 1, &output),
                    ETSA_FORECAST_ERROR, "forecast", message);
    }
    if (err == ETSA_OK) err = check(base, ort->GetTensorTypeAndShape(output, &info), ETSA_FORECAST_ERROR, "quantiles", message);
    if (err == ETSA_OK) err = check(base, ort->GetTensorShapeElementCount(info, &count), ETSA_FORECAST_ERROR, "quantiles", message);
    if (err == ETSA_OK && count != (size_t)levels * steps) {
        err = refuse(message, ETSA_FORECAST_ERROR, "the graph gave %zu quantiles, want %u", count, (unsigned)(levels * steps));
    }
    if (err == ETSA_OK) err = check(base, ort->GetTensorMutableData(output, (void **)&made), ETSA_FORECAST_ERROR, "quantiles", message);
    for (uint32_t h = 0; h < steps && err == ETSA_OK; h++) { /* [Q, H] to [H, Q] */
        for (uint32_t j = 0; j < levels; j++) quantiles[h * levels + j] = made[(size_t)j * steps + h];
    }
    if (info != NULL) ort->ReleaseTensorTypeAndShapeInfo(info);
    if (output != NULL) ort->ReleaseValue(output);
    if (input != NULL) ort->ReleaseValue(input);
    return err;
}

static etsa_err self_test(fc_forecaster *f, fc_message message)
{
    const etsa_bundle *bundle = &f->base->bundle;
    float context[ETSA_MAX_CONTEXT], expected[ETSA_MAX_EXPECTED];
    uint32_t count = bundle->prediction_length * bundle->level_count;
    if (!etsa_known_answer(&f->adapter, context, expected)) return ETSA_OK;
    double low = context[0], high = context[0];
    for (uint32_t i = 1; i < f->adapter.context_size; i++) {
        if (context[i] < low) low = context[i];
        if (context[i] > high) high = context[i];
    }
    double widest = (high - low) / 50 + (high > -low ? high : -low) / 50000; /* FORMAT.md, section 7 */
    if ((double)f->adapter.tolerance > widest) {
        return refuse(message, ETSA_SELF_TEST_ERROR, "known-answer test: allows %g, want at most %g", (double)f->adapter.tolerance, widest);
    }
    if (f->adapter.expected_size > count) {
        return refuse(message, ETSA_UNSUPPORTED_ERROR, "the known answer is longer than one forecast");
    }
    float *probe = malloc(count * sizeof *probe);
    if (probe == NULL) return refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    size_t length = f->adapter.context_size, most = bundle->context_length;
    etsa_err err = run(f, context + (length > most ? length - most : 0), length > most ? most : length, probe, message);
    if (err == ETSA_OK) err = etsa_self_test(&f->adapter, probe, &f->difference);
    if (err == ETSA_SELF_TEST_ERROR) {
        refuse(message, err, "known-answer test: off by %g, allowed %g", f->difference, (double)f->adapter.tolerance);
    }
    free(probe);
    return err;
}

etsa_err fc_open(fc_base *base, const uint8_t *data, size_t size, const fc_policy *policy, fc_forecaster **out, fc_message message)
{
    *out = NULL;
    message[0] = '\0';
    fc_forecaster *f = calloc(1, sizeof *f);
    if (f == NULL) return refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    f->base = base;
    f->merged = calloc(base->bundle.tensor_count + 1, sizeof *f->merged);
    f->input = malloc(padded_length(base, base->bundle.context_length) * sizeof *f->input);
    etsa_err err = f->merged == NULL || f->input == NULL ? refuse(message, ETSA_STORAGE_ERROR, "out of memory") : ETSA_OK;
    if (err == ETSA_OK && data != NULL) err = read_adapter(f, data, size, policy, message);
    if (err == ETSA_OK && data != NULL) err = merge(f, message);
    if (err == ETSA_OK) err = open_session(f, message);
    if (err == ETSA_OK && data != NULL) err = self_test(f, message);
    if (err == ETSA_OK) *out = f;
    else fc_close(f);
    return err;
}

void fc_close(fc_forecaster *f)
{
    if (f == NULL) return;
    if (f->session != NULL) f->base->ort->ReleaseSession(f->session);
    for (uint32_t i = 0; f->merged != NULL && i < f->base->bundle.tensor_count; i++) free(f->merged[i]);
    free(f->merged);
    free(f->input);
    free(f->blob);
    free(f);
}

etsa_err fc_forecast(fc_forecaster *f, const float *context, size_t length, float *quantiles, fc_message message)
{
    const etsa_bundle *bundle = &f->base->bundle;
    bool observed = false;
    message[0] = '\0';
    if (length > bundle->context_length) { /* the latest values count */
        context += length - bundle->context_length;
        length = bundle->context_length;
    }
    for (size_t i = 0; i < length; i++) {
        if (isinf(context[i])) return refuse(message, ETSA_INPUT_ERROR, "the context has an infinite value; missing ones are NaN");
        observed = observed || !isnan(context[i]);
    }
    if (!observed) return refuse(message, ETSA_INPUT_ERROR, "the context has no observed value");
    etsa_err err = run(f, context, length, quantiles, message);
    if (err != ETSA_OK) return err;
    for (size_t i = 0; i < (size_t)bundle->prediction_length * bundle->level_count; i++) {
        if (!isfinite(quantiles[i])) return refuse(message, ETSA_FORECAST_ERROR, "the model's quantiles are not finite");
    }
    if (f->blob != NULL) etsa_calibrate(&f->adapter, quantiles, bundle->prediction_length, bundle->level_count);
    return ETSA_OK;
}

uint64_t fc_adapter_version(const fc_forecaster *f) { return f->blob == NULL ? 0 : f->adapter.version; }

double fc_self_test_difference(const fc_forecaster *f) { return f->difference; }

const float *fc_merged(const fc_forecaster *f, uint32_t tensor)
{
    return tensor < f->base->bundle.tensor_count ? f->merged[tensor] : NULL;
}
