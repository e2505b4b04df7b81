#include "parts.h"
#ifdef ETSA_WITH_ED25519
#include "etsa_ed25519.h"
#endif

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fc_forecaster {
    fc_base *base;
    void *model; /* of the base's family */
    uint8_t *blob; /* with signatures; NULL: the base alone */
    size_t size;   /* of blob */
    etsa_adapter adapter;
    float **merged; /* [tensor_count]; NULL where the adapter changes nothing, and after the sessions are open */
    double difference;
    uint32_t accepted, differences; /* between the adapter's use and its binding */
};

static const fc_family *const families[] = {&fc_bolt, &fc_t5, &fc_chronos2};

static void *verify_files(void *base) { return (void *)(uintptr_t)fc_wrong_file(base, 0); }

/* Map the files and check their digests, in a thread of its own while ONNX Runtime is loaded: on two cores the one costs
 * no time beside the other. Nothing is used before both are done. */
static etsa_err open_files_and_runtime(fc_base *base, fc_message message)
{
    pthread_t thread;
    void *wrong = NULL;
    etsa_err err = fc_map_files(base, message);
    if (err != ETSA_OK) return err;
    bool checked = !base->settings.trust_files, started = checked && pthread_create(&thread, NULL, verify_files, base) == 0;
    if (checked && !started) wrong = verify_files(base);
    err = fc_load_runtime(base, message);
    if (started) pthread_join(thread, &wrong);
    if (err != ETSA_OK || wrong == NULL) return err;
    etsa_text name = ((const fc_file *)wrong)->pinned.name;
    return fc_refuse(message, ETSA_BASE_MISMATCH_ERROR, "%s/%.*s is not the file that the manifest pins", base->folder, (int)name.size,
                     name.at);
}

/* Only what the manifest names as a graph is opened as one. */
static etsa_err check_graphs(const fc_base *base, fc_message message)
{
    etsa_err err = ETSA_OK;
    etsa_graph graph;
    for (uint32_t i = 0; err == ETSA_OK && etsa_bundle_graph_at(&base->bundle, i, &graph); i++) {
        err = fc_check_graph(base, fc_file_of(base, graph.file), message);
    }
    return err;
}

static etsa_err open_manifest(fc_base *base, fc_message message)
{
    char path[FC_PATH_SIZE];
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
    if (base->settings.threads < 1) base->settings.threads = 2;
    etsa_err err = ETSA_OK;
    if (strlen(folder) >= 4000) err = fc_refuse(message, ETSA_STORAGE_ERROR, "path too long");
    else strcpy(base->folder, folder);
    if (err == ETSA_OK) err = open_manifest(base, message);
    if (err == ETSA_OK) err = open_files_and_runtime(base, message);
    if (err == ETSA_OK) err = check_graphs(base, message);
    if (err == ETSA_OK) *out = base;
    else fc_base_close(base);
    return err;
}

void fc_base_close(fc_base *base)
{
    if (base == NULL) return;
    if (base->cpu != NULL) base->ort->ReleaseMemoryInfo(base->cpu);
    if (base->env != NULL) base->ort->ReleaseEnv(base->env);
    fc_unmap_files(base);
    free(base->tensors);
    free(base->learning_manifest);
    free(base->manifest);
    /* The library stays loaded: it starts threads and keeps static state that a second dlopen would meet. */
    free(base);
}

const etsa_bundle *fc_bundle(const fc_base *base) { return &base->bundle; }

static const char *const differences[] = {"signal", "unit", "interval", "context_length", "prediction_length"};

uint32_t fc_read_difference(const char *name)
{
    for (uint32_t i = 0; i < sizeof differences / sizeof *differences; i++) {
        if (strcmp(name, differences[i]) == 0) return 1u << i;
    }
    return 0;
}

const char *fc_first_difference(uint32_t found)
{
    for (uint32_t i = 0; i < sizeof differences / sizeof *differences; i++) {
        if ((found & 1u << i) != 0) return differences[i];
    }
    return "use";
}

static etsa_err verify(const uint8_t *data, size_t size, uint32_t blob_size, const fc_policy *policy, fc_message message)
{
#ifdef ETSA_WITH_ED25519
    uint8_t *framed = malloc(ETSA_PREFIX_SIZE + (size_t)blob_size);
    if (framed == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    memcpy(framed, ETSA_PREFIX, ETSA_PREFIX_SIZE);
    memcpy(framed + ETSA_PREFIX_SIZE, data, blob_size);
    etsa_err err = ETSA_SIGNATURE_ERROR;
    for (uint32_t i = 0; i < policy->key_count && err != ETSA_OK; i++) {
        err = etsa_verify(framed, blob_size, data + blob_size, size - blob_size, policy->keys[i], etsa_ed25519_verify);
    }
    free(framed);
    return err == ETSA_OK ? ETSA_OK : fc_refuse(message, err, "no trusted key signed this adapter");
#else
    (void)data, (void)size, (void)blob_size, (void)policy;
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
    f->size = size;
    err = etsa_checksum(f->blob, blob_size);
    if (err != ETSA_OK) return fc_refuse(message, err, "adapter: R4: damaged, its checksum does not match");
    if (policy->key_count > 0) {
        err = verify(f->blob, size, blob_size, policy, message);
        if (err != ETSA_OK) return err;
    }
    if (memcmp(etsa_base_of(f->blob), f->base->bundle.digest, 32) != 0) {
        return fc_refuse(message, ETSA_BASE_MISMATCH_ERROR, "the adapter is for another base");
    }
    if (etsa_version_of(f->blob) < policy->version_floor) {
        return fc_refuse(message, ETSA_ROLLBACK_ERROR, "adapter version %llu is below the floor of %llu",
                         (unsigned long long)etsa_version_of(f->blob), (unsigned long long)policy->version_floor);
    }
    err = etsa_decode(f->blob, blob_size, &f->adapter);
    if (err != ETSA_OK) {
        return fc_refuse(message, err, "adapter: %s: R%d at byte %u", etsa_err_name((int)err), f->adapter.rule, (unsigned)f->adapter.where);
    }
    err = etsa_fits(&f->adapter, &f->base->bundle, f->base->tensors);
    if (err != ETSA_OK) return fc_refuse(message, err, "the adapter's shapes are not the base's");
    bool bound = f->adapter.signal.size > 0;
    if (bound && policy->need_use && (policy->use.signal == NULL || (f->adapter.interval_us > 0 && policy->use.interval_us == 0))) {
        return fc_refuse(message, ETSA_SIGNAL_MISMATCH_ERROR, "the adapter is for %.*s: say the signal and the interval that it will forecast",
                         (int)f->adapter.signal.size, f->adapter.signal.at);
    }
    err = etsa_is_for(&f->adapter, &policy->use, policy->accepted, &f->differences);
    if (err != ETSA_OK) {
        return fc_refuse(message, err, "the adapter is for %.*s%s%.*s every %g s: another %s is asked for", (int)f->adapter.signal.size,
                         f->adapter.signal.at, f->adapter.unit.size > 0 ? " in " : "", (int)f->adapter.unit.size, f->adapter.unit.at,
                         (double)f->adapter.interval_us / 1e6, fc_first_difference(f->differences & ~policy->accepted));
    }
    f->accepted = policy->accepted;
    if (policy->need_known_answer && f->adapter.expected_size == 0) {
        return fc_refuse(message, ETSA_SELF_TEST_ERROR, "the adapter has no known answer");
    }
    return ETSA_OK;
}

/* A limit of the adapter's if it is bound and no more was accepted, else the base's. */
static uint32_t limited(const fc_forecaster *f, uint32_t of_base, uint32_t of_adapter, uint32_t difference)
{
    bool bound = f->blob != NULL && f->adapter.signal.size > 0 && (f->accepted & difference) == 0;
    return bound && of_adapter < of_base ? of_adapter : of_base;
}

etsa_err fc_prove(fc_forecaster *f, fc_probe *ask, void *model, fc_message message)
{
    const etsa_bundle *bundle = &f->base->bundle;
    const char *whose = f->blob == NULL ? "the base's" : "the adapter's";
    float context[ETSA_MAX_CONTEXT], expected[ETSA_MAX_EXPECTED], probe[ETSA_MAX_EXPECTED];
    bool there = f->blob == NULL ? etsa_bundle_known_answer(bundle, context, expected) : etsa_known_answer(&f->adapter, context, expected);
    uint32_t length = f->blob == NULL ? bundle->context_size : f->adapter.context_size, most = bundle->context_length;
    uint32_t count = f->blob == NULL ? bundle->expected_size : f->adapter.expected_size;
    double tolerance = f->blob == NULL ? bundle->tolerance : (double)f->adapter.tolerance;
    if (!there) return ETSA_OK;
    double widest = etsa_widest_tolerance(context, length);
    if (tolerance > widest) {
        return fc_refuse(message, ETSA_SELF_TEST_ERROR, "%s known-answer test: allows %g, want at most %g", whose, tolerance, widest);
    }
    etsa_err err = ask(model, context + (length > most ? length - most : 0), length > most ? most : length, count, probe, message);
    if (err != ETSA_OK) return err;
    err = etsa_compare_probe(expected, probe, count, tolerance, &f->difference);
    if (err == ETSA_OK) return ETSA_OK;
    return fc_refuse(message, err, "%s known-answer test: off by %g, allowed %g", whose, f->difference, tolerance);
}

etsa_err fc_self_test(fc_forecaster *f, fc_message message) { return fc_prove(f, f->base->family->probe, f->model, message); }

bool fc_is_proven(const fc_forecaster *f)
{
    return (f->blob == NULL ? f->base->bundle.expected_size : f->adapter.expected_size) > 0;
}

static void forget_merged(fc_forecaster *f)
{
    for (uint32_t i = 0; f->merged != NULL && i < f->base->bundle.tensor_count; i++) {
        free(f->merged[i]);
        f->merged[i] = NULL;
    }
}

/* Whether a damaged base, that was not noticed as one, can be what an adapter failed for. */
static bool may_be_the_base(etsa_err err)
{
    return err == ETSA_MERGE_ERROR || err == ETSA_SELF_TEST_ERROR || err == ETSA_FORECAST_ERROR;
}

/* An adapter failed: if the base alone does not open either, its own known answer included, the machine is at fault. */
static etsa_err check_machine(fc_base *base, etsa_err err, const fc_policy *policy, fc_message message)
{
    fc_forecaster *alone;
    fc_message why;
    if (fc_open(base, NULL, 0, policy, &alone, why) == ETSA_OK) {
        fc_close(alone);
        return err;
    }
    return fc_refuse(message, ETSA_STORAGE_ERROR, "this monitor's base does not open, so the adapter could not be tested: %s", why);
}

etsa_err fc_open_merged(fc_base *base, const uint8_t *data, size_t size, const fc_policy *policy, fc_forecaster **out,
                        fc_message message)
{
    message[0] = '\0';
    fc_forecaster *f = *out = calloc(1, sizeof *f);
    if (f == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    f->base = base;
    f->merged = calloc(base->bundle.tensor_count + 1, sizeof *f->merged);
    if (f->merged == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    if (data == NULL) return ETSA_OK;
    etsa_err err = read_adapter(f, data, size, policy, message);
    return err == ETSA_OK ? fc_merge(base, &f->adapter, f->merged, message) : err;
}

etsa_err fc_open(fc_base *base, const uint8_t *data, size_t size, const fc_policy *policy, fc_forecaster **out, fc_message message)
{
    fc_forecaster *f;
    *out = NULL;
    etsa_err err = fc_open_merged(base, data, size, policy, &f, message);
    if (err == ETSA_OK) err = base->family->open(base, f->merged, &f->model, message);
    if (err == ETSA_OK && !base->settings.keep_merged) forget_merged(f); /* ONNX Runtime has made copies */
    fc_trim_memory(base);
    if (err == ETSA_OK) err = fc_self_test(f, message);
    if (err == ETSA_OK) *out = f;
    else fc_close(f);
    return data != NULL && may_be_the_base(err) ? check_machine(base, err, policy, message) : err;
}

void fc_close(fc_forecaster *f)
{
    if (f == NULL) return;
    f->base->family->close(f->model);
    forget_merged(f);
    free(f->merged);
    free(f->blob);
    free(f);
}

static bool all_finite(const float *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(numbers[i])) return false;
    }
    return true;
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
    for (size_t i = 0; i < length; i++) {
        if (isinf(context[i])) return fc_refuse(message, ETSA_INPUT_ERROR, "the context has an infinite value; missing ones are NaN");
    }
    size_t most = limited(f, bundle->context_length, f->adapter.context_length, ETSA_OTHER_CONTEXT_LENGTH);
    if (length > most) { /* the latest values count */
        context += length - most;
        length = most;
    }
    for (size_t i = 0; i < length; i++) observed = observed || !isnan(context[i]);
    if (!observed) return fc_refuse(message, ETSA_INPUT_ERROR, "the context has no observed value");
    etsa_err err = f->base->family->predict(f->model, context, length, sampling, quantiles, message);
    if (err != ETSA_OK) return err;
    size_t count = (size_t)fc_steps(f) * bundle->level_count;
    if (!all_finite(quantiles, count)) return fc_refuse(message, ETSA_FORECAST_ERROR, "the model's quantiles are not finite");
    etsa_sort_levels(quantiles, bundle->prediction_length, bundle->level_count);
    if (f->blob == NULL) return ETSA_OK;
    etsa_calibrate(&f->adapter, quantiles, fc_steps(f), bundle->level_count);
    if (all_finite(quantiles, count)) return ETSA_OK;
    return fc_refuse(message, ETSA_FORECAST_ERROR, "the adapter's calibration makes quantiles that are not finite");
}

uint64_t fc_adapter_version(const fc_forecaster *f) { return f->blob == NULL ? 0 : f->adapter.version; }

const etsa_adapter *fc_adapter(const fc_forecaster *f) { return f->blob == NULL ? NULL : &f->adapter; }

uint32_t fc_differences(const fc_forecaster *f, size_t length)
{
    if (f->blob == NULL || f->adapter.signal.size == 0) return 0;
    uint32_t of_base = f->base->bundle.context_length, context = length < of_base ? (uint32_t)length : of_base, found = f->differences;
    if (context > f->adapter.context_length) found |= f->accepted & ETSA_OTHER_CONTEXT_LENGTH; /* else it is cut */
    if (fc_steps(f) > f->adapter.prediction_length) found |= ETSA_OTHER_PREDICTION_LENGTH;
    return found;
}

uint32_t fc_steps(const fc_forecaster *f)
{
    return limited(f, f->base->bundle.prediction_length, f->adapter.prediction_length, ETSA_OTHER_PREDICTION_LENGTH);
}

const uint8_t *fc_data(const fc_forecaster *f, size_t *size)
{
    *size = f->size;
    return f->blob;
}

double fc_self_test_difference(const fc_forecaster *f) { return f->difference; }

float *const *fc_all_merged(const fc_forecaster *f) { return f->merged; }

const float *fc_merged(const fc_forecaster *f, uint32_t tensor)
{
    return tensor < f->base->bundle.tensor_count ? f->merged[tensor] : NULL;
}
