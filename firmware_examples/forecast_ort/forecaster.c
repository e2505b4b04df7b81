#define _DEFAULT_SOURCE /* madvise */
#include "parts.h"
#ifdef ETSA_WITH_SODIUM
#include "etsa_sodium.h"

#include <sodium.h>
#endif

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct fc_forecaster {
    fc_base *base;
    void *model; /* of the base's family */
    uint8_t *blob; /* NULL: the base alone */
    etsa_adapter adapter;
    float **merged; /* [tensor_count]; NULL where the adapter changes nothing. Sessions may point into them */
    double difference;
};

static const fc_family *const families[] = {&fc_bolt, &fc_t5, &fc_chronos2};

etsa_err fc_read_file(const char *path, size_t limit, uint8_t **data, size_t *size, fc_message message)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "cannot read %s: %s", path, strerror(errno));
    *data = malloc(limit + 1);
    *size = *data == NULL ? 0 : fread(*data, 1, limit + 1, file);
    bool failed = *data == NULL || ferror(file);
    fclose(file);
    if (!failed && *size <= limit) return ETSA_OK;
    free(*data);
    *data = NULL;
    if (failed) return fc_refuse(message, ETSA_STORAGE_ERROR, "cannot read %s", path);
    return fc_refuse(message, ETSA_SIZE_ERROR, "%s: more than %zu bytes", path, limit);
}

bool fc_path_of(const fc_base *base, etsa_text name, char path[4096])
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
    if (!fc_path_of(base, pinned->name, path)) return fc_refuse(message, ETSA_STORAGE_ERROR, "path too long");
    int handle = open(path, O_RDONLY | O_CLOEXEC);
    if (handle < 0 || fstat(handle, &facts) != 0) {
        int error = errno;
        if (handle >= 0) close(handle);
        return fc_refuse(message, ETSA_STORAGE_ERROR, "cannot read %s: %s", path, strerror(error));
    }
    size_t size = (size_t)facts.st_size;
    if (facts.st_size <= 0 || size != pinned->size) {
        close(handle);
        return fc_refuse(message, ETSA_BASE_MISMATCH_ERROR, "%s: %lld bytes, the manifest pins %llu", path,
                      (long long)facts.st_size, (unsigned long long)pinned->size);
    }
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, handle, 0);
    close(handle);
    if (map == MAP_FAILED) return fc_refuse(message, ETSA_STORAGE_ERROR, "cannot map %s: %s", path, strerror(errno));
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
            return fc_refuse(message, ETSA_BASE_MISMATCH_ERROR, "%s is not the file that the manifest pins", path);
        }
    }
    *data = map;
    return ETSA_OK;
}

etsa_err fc_whole(const fc_base *base, const char *name, uint32_t least, uint32_t most, uint32_t *value, fc_message message)
{
    double number = 0;
    if (!etsa_bundle_parameter(&base->bundle, name, &number) || !(number >= least && number <= most) || number != floor(number)) {
        return fc_refuse(message, ETSA_FORMAT_ERROR, "bundle.json: parameters.%s: want a whole number from %u to %u", name,
                         (unsigned)least, (unsigned)most);
    }
    *value = (uint32_t)number;
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
    snprintf(path, sizeof path, "%.4000s/bundle.json", base->folder);
    etsa_err err = fc_read_file(path, ETSA_MAX_MANIFEST_SIZE, &base->manifest, &size, message);
    if (err != ETSA_OK) return err;
    err = etsa_bundle_read(base->manifest, size, &base->bundle);
    if (err != ETSA_OK) return fc_refuse(message, err, "%s: %s", path, etsa_err_name((int)err));
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (etsa_text_is(base->bundle.family, families[i]->name)) base->family = families[i];
    }
    if (base->family == NULL) {
        return fc_refuse(message, ETSA_UNSUPPORTED_ERROR, "%s: family %.*s: not known here", path, (int)base->bundle.family.size,
                         base->bundle.family.at);
    }
    if (base->bundle.context_length < 1 || base->bundle.context_length > 65536 || base->bundle.prediction_length < 1 ||
        base->bundle.prediction_length > 65536) {
        return fc_refuse(message, ETSA_FORMAT_ERROR, "%s: lengths that cannot be", path);
    }
    base->tensors = calloc(base->bundle.tensor_count + 1, sizeof *base->tensors);
    if (base->tensors == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    return etsa_bundle_tensors(&base->bundle, base->tensors, base->bundle.tensor_count);
}

etsa_err fc_base_open(const char *folder, const fc_settings *settings, fc_base **out, fc_message message)
{
    *out = NULL;
    message[0] = '\0';
    fc_base *base = calloc(1, sizeof *base);
    if (base == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    base->settings = *settings;
    etsa_err err = ETSA_OK;
    if (strlen(folder) >= 4000) err = fc_refuse(message, ETSA_STORAGE_ERROR, "path too long");
    else strcpy(base->folder, folder);
    if (err == ETSA_OK) err = open_manifest(base, message);
    if (err == ETSA_OK) err = open_files(base, message);
    if (err == ETSA_OK) err = fc_load_runtime(base, message);
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

static etsa_err verify(const uint8_t *data, size_t size, uint32_t blob_size, const uint8_t *key, fc_message message)
{
#ifdef ETSA_WITH_SODIUM
    uint8_t *framed = malloc(ETSA_PREFIX_SIZE + (size_t)blob_size);
    if (framed == NULL || sodium_init() < 0) {
        free(framed);
        return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    }
    memcpy(framed, ETSA_PREFIX, ETSA_PREFIX_SIZE);
    memcpy(framed + ETSA_PREFIX_SIZE, data, blob_size);
    etsa_err err = etsa_verify(framed, blob_size, data + blob_size, size - blob_size, key, etsa_sodium_ed25519);
    free(framed);
    return err == ETSA_OK ? ETSA_OK : fc_refuse(message, err, "the trusted key did not sign this adapter");
#else
    (void)data, (void)size, (void)blob_size, (void)key;
    return fc_refuse(message, ETSA_SIGNATURE_ERROR, "built without Ed25519: nothing can be verified");
#endif
}

/* Everything up to the merge. The blob is copied, so that what was verified is what is used. */
static etsa_err read_adapter(fc_forecaster *f, const uint8_t *data, size_t size, const fc_policy *policy, fc_message message)
{
    uint32_t blob_size;
    etsa_err err = etsa_blob_size(data, size, &blob_size);
    if (err != ETSA_OK) return fc_refuse(message, err, "adapter: not a blob, or cut short");
    f->blob = malloc(size);
    if (f->blob == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    memcpy(f->blob, data, size);
    if (policy->key != NULL) {
        err = verify(f->blob, size, blob_size, policy->key, message);
        if (err != ETSA_OK) return err;
    }
    err = etsa_decode(f->blob, blob_size, &f->adapter);
    if (err != ETSA_OK) {
        return fc_refuse(message, err, "adapter: %s: R%d at byte %u", etsa_err_name((int)err), f->adapter.rule, (unsigned)f->adapter.where);
    }
    err = etsa_fits(&f->adapter, &f->base->bundle, f->base->tensors);
    if (err == ETSA_BASE_MISMATCH_ERROR) return fc_refuse(message, err, "the adapter is for another base");
    if (err != ETSA_OK) return fc_refuse(message, err, "the adapter's shapes are not the base's");
    if (f->adapter.version < policy->version_floor) {
        return fc_refuse(message, ETSA_ROLLBACK_ERROR, "adapter version %llu is below the floor of %llu",
                      (unsigned long long)f->adapter.version, (unsigned long long)policy->version_floor);
    }
    if (policy->need_known_answer && f->adapter.expected_size == 0) {
        return fc_refuse(message, ETSA_SELF_TEST_ERROR, "the adapter has no known answer");
    }
    return ETSA_OK;
}

static etsa_err merge(fc_forecaster *f, fc_message message)
{
    size_t need = etsa_scratch_count(&f->adapter);
    int64_t *scratch = malloc((need + 1) * sizeof *scratch);
    etsa_err err = scratch == NULL ? fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory") : ETSA_OK;
    etsa_delta delta = {0};
    while (err == ETSA_OK && etsa_next(&f->adapter, &delta)) {
        const etsa_tensor *tensor = &f->base->tensors[delta.tensor];
        float *merged = malloc((size_t)tensor->rows * tensor->columns * sizeof *merged);
        f->merged[delta.tensor] = merged;
        if (merged == NULL) err = fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
        else err = etsa_merge(&delta, f->base->tunable + tensor->offset, merged, scratch, need);
        if (err == ETSA_MERGE_ERROR) {
            fc_refuse(message, err, "%.*s: a merged weight is not finite", (int)tensor->name.size, tensor->name.at);
        }
    }
    free(scratch);
    madvise(f->base->tunable, f->base->tunable_size, MADV_DONTNEED); /* the pages read are in the file */
    return err;
}

static etsa_err self_test(fc_forecaster *f, fc_message message)
{
    const etsa_bundle *bundle = &f->base->bundle;
    float context[ETSA_MAX_CONTEXT], expected[ETSA_MAX_EXPECTED], probe[ETSA_MAX_EXPECTED];
    if (!etsa_known_answer(&f->adapter, context, expected)) return ETSA_OK;
    double low = context[0], high = context[0];
    for (uint32_t i = 1; i < f->adapter.context_size; i++) {
        if (context[i] < low) low = context[i];
        if (context[i] > high) high = context[i];
    }
    double widest = (high - low) / 50 + (high > -low ? high : -low) / 50000; /* FORMAT.md, section 7 */
    if ((double)f->adapter.tolerance > widest) {
        return fc_refuse(message, ETSA_SELF_TEST_ERROR, "known-answer test: allows %g, want at most %g", (double)f->adapter.tolerance, widest);
    }
    size_t length = f->adapter.context_size, most = bundle->context_length;
    etsa_err err = f->base->family->probe(f->model, context + (length > most ? length - most : 0), length > most ? most : length,
                                          f->adapter.expected_size, probe, message);
    if (err == ETSA_OK) err = etsa_self_test(&f->adapter, probe, &f->difference);
    if (err == ETSA_SELF_TEST_ERROR) {
        fc_refuse(message, err, "known-answer test: off by %g, allowed %g", f->difference, (double)f->adapter.tolerance);
    }
    return err;
}

etsa_err fc_open(fc_base *base, const uint8_t *data, size_t size, const fc_policy *policy, fc_forecaster **out, fc_message message)
{
    *out = NULL;
    message[0] = '\0';
    fc_forecaster *f = calloc(1, sizeof *f);
    if (f == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    f->base = base;
    f->merged = calloc(base->bundle.tensor_count + 1, sizeof *f->merged);
    etsa_err err = f->merged == NULL ? fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory") : ETSA_OK;
    if (err == ETSA_OK && data != NULL) err = read_adapter(f, data, size, policy, message);
    if (err == ETSA_OK && data != NULL) err = merge(f, message);
    if (err == ETSA_OK) err = base->family->open(base, f->merged, &f->model, message);
    if (err == ETSA_OK && data != NULL) err = self_test(f, message);
    if (err == ETSA_OK) *out = f;
    else fc_close(f);
    return err;
}

void fc_close(fc_forecaster *f)
{
    if (f == NULL) return;
    f->base->family->close(f->model);
    for (uint32_t i = 0; f->merged != NULL && i < f->base->bundle.tensor_count; i++) free(f->merged[i]);
    free(f->merged);
    free(f->blob);
    free(f);
}

etsa_err fc_forecast(fc_forecaster *f, const float *context, size_t length, const fc_sampling *sampling, float *quantiles,
                     fc_message message)
{
    static const fc_sampling usual = {0, 0};
    const etsa_bundle *bundle = &f->base->bundle;
    bool observed = false;
    message[0] = '\0';
    if (sampling == NULL) sampling = &usual;
    if (!f->base->family->samples && (sampling->num_samples > 0 || sampling->seed > 0)) {
        return fc_refuse(message, ETSA_INPUT_ERROR, "num_samples and seed: %s does not sample", f->base->family->name);
    }
    if (length > bundle->context_length) { /* the latest values count */
        context += length - bundle->context_length;
        length = bundle->context_length;
    }
    for (size_t i = 0; i < length; i++) {
        if (isinf(context[i])) return fc_refuse(message, ETSA_INPUT_ERROR, "the context has an infinite value; missing ones are NaN");
        observed = observed || !isnan(context[i]);
    }
    if (!observed) return fc_refuse(message, ETSA_INPUT_ERROR, "the context has no observed value");
    etsa_err err = f->base->family->predict(f->model, context, length, sampling, quantiles, message);
    if (err != ETSA_OK) return err;
    for (size_t i = 0; i < (size_t)bundle->prediction_length * bundle->level_count; i++) {
        if (!isfinite(quantiles[i])) return fc_refuse(message, ETSA_FORECAST_ERROR, "the model's quantiles are not finite");
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
