/* The C core on tests/vectors/: `vectors [--without-signatures] FILE...`. Without a verifier those of signatures are skipped,
 * which is a failure unless it was asked for. Formats of the files: tests/vectors/README.md. */
#include "etsa.h"
#ifdef ETSA_WITH_ED25519
#include "etsa_ed25519.h"
#endif

#include <errno.h>
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_BYTES (1u << 20)

static uint8_t file[MOST_BYTES + 1];
static const char *name;
static int failed, skipped;

static void fail(const char *what, long got, long wanted)
{
    failed++;
    printf("FAILED %s: %s: got %ld, want %ld\n", name, what, got, wanted);
}

static void want(const char *what, long got, long wanted)
{
    if (got != wanted) fail(what, got, wanted);
}

/* The header: `key: value` lines up to an empty one. */
static const char *header;

/* The value of a key's n-th line, or NULL. */
static const char *value_of(const char *key, int n)
{
    size_t size = strlen(key);
    for (const char *line = header; *line != '\n' && *line != '\0'; line = strchr(line, '\n') + 1) {
        if (strncmp(line, key, size) == 0 && line[size] == ':' && n-- == 0) return line + size + 2;
    }
    return NULL;
}

static unsigned long long number_of(const char *key)
{
    const char *value = value_of(key, 0);
    return value == NULL ? 0 : strtoull(value, NULL, 10);
}

static bool starts(const char *text, const char *with)
{
    return text != NULL && strncmp(text, with, strlen(with)) == 0;
}

static int expected_code(void)
{
    const char *expect = value_of("expect", 0);
    if (starts(expect, "ok\n")) return ETSA_OK;
    int code = (int)strtol(strchr(expect, ' '), NULL, 10);
    if (!starts(expect, etsa_err_name(code))) fail("the error's name", code, 0);
    return code;
}

static void want_digest(const char *what, const uint8_t *data, size_t size, const char *hex)
{
    etsa_sha256_state state;
    uint8_t digest[32];
    char text[65];
    etsa_sha256_start(&state);
    /* in two parts, so that the block buffer is used too */
    etsa_sha256_add(&state, data, size / 3);
    etsa_sha256_add(&state, data + size / 3, size - size / 3);
    etsa_sha256_end(&state, digest);
    for (size_t i = 0; i < 32; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
    if (!starts(hex, text)) {
        failed++;
        printf("FAILED %s: %s: got %s\n", name, what, text);
    }
}

static void store32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> 8 * i);
}

static void store_floats(uint8_t *to, const float *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, from + i, sizeof bits);
        store32(to + 4 * i, bits);
    }
}

static void *allocate(size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);
    if (memory == NULL) abort();
    return memory;
}

/* §5's word, as the README of the vectors has it for base weights. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void fill_base(uint8_t *base, uint32_t tensor, size_t count)
{
    uint64_t key = mix(tensor + ((uint64_t)9 << 32));
    for (size_t i = 0; i < count; i++) {
        int64_t drawn = (int64_t)(mix(key + (i + 1) * 0x9E3779B97F4A7C15u) >> 40) - 8388608;
        float weight = (float)drawn / 67108864.0f;
        if (starts(value_of("base", 0), "largest")) weight = 3.40282346638528859811704183484516925e+38f;
        store_floats(base + 4 * i, &weight, 1);
    }
}

static etsa_err check_merge(const etsa_adapter *adapter, const etsa_delta *delta)
{
    size_t count = (size_t)delta->rows * delta->columns, need = etsa_scratch_count(adapter);
    uint8_t *base = (uint8_t *)allocate(4 * count + 1) + 1; /* any alignment will do */
    float *merged = allocate(count * sizeof *merged);
    int64_t *scratch = allocate(need * sizeof *scratch);
    char prefix[16];
    fill_base(base, delta->tensor, count);
    feclearexcept(FE_ALL_EXCEPT);
    etsa_err err = etsa_merge(delta, base, merged, scratch, need);
    want("floating-point flags", fetestexcept(FE_INVALID | FE_OVERFLOW | FE_DIVBYZERO), 0);
    if (err == ETSA_OK) {
        store_floats(base, merged, count);
        snprintf(prefix, sizeof prefix, "%u ", (unsigned)delta->tensor);
        const char *line = NULL;
        for (int n = 0; (line = value_of("merged", n)) != NULL && !starts(line, prefix); n++) {}
        if (line == NULL) fail("an unexpected tensor", (long)delta->tensor, -1);
        else want_digest("merged", base, 4 * count, line + strlen(prefix));
    }
    if (need > 0 && adapter->delta_count == 1) { /* so it is this delta that needs it */
        want("short scratch", etsa_merge(delta, base, merged, scratch, 0), ETSA_STORAGE_ERROR);
    }
    free(base - 1);
    free(merged);
    free(scratch);
    return err;
}

static void check_calibration(const etsa_adapter *adapter)
{
    const char *line = value_of("calibrated", 0);
    char *digest;
    if (line == NULL) return;
    uint32_t steps = (uint32_t)strtoul(line, &digest, 10), levels = adapter->calibration_levels;
    float *quantiles = allocate(steps * levels * sizeof *quantiles);
    uint8_t *bytes = allocate(4 * (size_t)steps * levels);
    for (uint32_t h = 0; h < steps; h++) {
        for (uint32_t j = 0; j < levels; j++) quantiles[h * levels + j] = 80.0f + 2.0f * (float)j + (float)h / 2.0f;
    }
    etsa_calibrate(adapter, quantiles, steps, levels);
    store_floats(bytes, quantiles, (size_t)steps * levels);
    want_digest("calibrated", bytes, 4 * (size_t)steps * levels, digest + 1);
    free(quantiles);
    free(bytes);
}

static void check_comparison(const float *expected, uint32_t count, double tolerance)
{
    float probe[ETSA_MAX_EXPECTED];
    double worst;
    memcpy(probe, expected, count * sizeof *probe);
    want("the answer itself", etsa_compare_probe(expected, probe, count, tolerance, &worst), ETSA_OK);
    want("no difference", worst == 0, true);
    probe[count - 1] += (float)(tolerance * 0.9);
    want("an answer within the tolerance", etsa_compare_probe(expected, probe, count, tolerance, &worst), ETSA_OK);
    probe[count - 1] += (float)(tolerance * 0.6);
    want("an answer beyond it", etsa_compare_probe(expected, probe, count, tolerance, NULL), ETSA_SELF_TEST_ERROR);
    probe[count - 1] = NAN;
    want("an answer that is no number", etsa_compare_probe(expected, probe, count, tolerance, NULL), ETSA_SELF_TEST_ERROR);
    probe[count - 1] = INFINITY;
    want("an infinite answer", etsa_compare_probe(expected, probe, count, tolerance, NULL), ETSA_SELF_TEST_ERROR);
}

/* A base's own: known_answer holds the sizes, the bits of tolerance and widest tolerance (f64), and the digest of context
 * and expected numbers (f32). */
static void check_base_answer(const etsa_bundle *bundle)
{
    float numbers[ETSA_MAX_CONTEXT + ETSA_MAX_EXPECTED];
    uint8_t bytes[4 * (ETSA_MAX_CONTEXT + ETSA_MAX_EXPECTED)];
    const char *line = value_of("known_answer", 0);
    char *at;
    uint64_t tolerance, widest;
    bool there = etsa_bundle_known_answer(bundle, numbers, numbers + bundle->context_size);
    want("a known answer", there, line != NULL);
    if (!there || line == NULL) return;
    double allowed = etsa_widest_tolerance(numbers, bundle->context_size);
    memcpy(&tolerance, &bundle->tolerance, sizeof tolerance);
    memcpy(&widest, &allowed, sizeof widest);
    want("numbers of the context", (long)bundle->context_size, strtol(line, &at, 10));
    want("expected numbers", (long)bundle->expected_size, strtol(at, &at, 10));
    want("the tolerance", tolerance == strtoull(at, &at, 16), true);
    want("the widest tolerance", widest == strtoull(at, &at, 16), true);
    store_floats(bytes, numbers, bundle->context_size + bundle->expected_size);
    want_digest("known_answer", bytes, 4 * ((size_t)bundle->context_size + bundle->expected_size), at + 1);
    check_comparison(numbers + bundle->context_size, bundle->expected_size, bundle->tolerance);
}

static void check_known_answer(const etsa_adapter *adapter)
{
    float context[ETSA_MAX_CONTEXT], expected[ETSA_MAX_EXPECTED];
    bool there = etsa_known_answer(adapter, context, expected);
    want("a known answer", there, adapter->context_size > 0);
    if (!there) return;
    check_comparison(expected, adapter->expected_size, (double)adapter->tolerance);
}

static void want_text(const char *key, etsa_text text)
{
    const char *value = value_of(key, 0);
    want(key, value != NULL && strncmp(value, text.at, text.size) == 0 && value[text.size] == '\n', true);
}

static void check_binding(const etsa_adapter *adapter)
{
    const char *line = value_of("binding", 0);
    char *at;
    etsa_use use = {NULL, NULL, adapter->interval_us, adapter->context_length, adapter->prediction_length};
    uint32_t differences, low, high;
    want("a binding", adapter->signal.size > 0, line != NULL);
    want("its own use", etsa_is_for(adapter, &use, 0, &differences), ETSA_OK);
    want("no difference", (long)differences, 0);
    if (line == NULL) return;
    want("interval", adapter->interval_us == strtoull(line, &at, 10), true);
    want("context length", (long)adapter->context_length, strtol(at, &at, 10));
    want("prediction length", (long)adapter->prediction_length, strtol(at, &at, 10));
    memcpy(&low, &adapter->low, sizeof low);
    memcpy(&high, &adapter->high, sizeof high);
    want("low", low == strtoul(at, &at, 16), true);
    want("high", high == strtoul(at, &at, 16), true);
    want_text("code", adapter->signal_code);
    want_text("unit", adapter->unit);
    want_text("signal", adapter->signal);
    use.signal = "another signal";
    use.unit = "another unit";
    use.interval_us = adapter->interval_us + 1;
    use.context_length++;
    use.prediction_length++;
    uint32_t all = ETSA_OTHER_SIGNAL | ETSA_OTHER_CONTEXT_LENGTH | ETSA_OTHER_PREDICTION_LENGTH;
    if (adapter->unit.size > 0) all |= ETSA_OTHER_UNIT; /* what the adapter leaves out cannot differ */
    if (adapter->interval_us > 0) all |= ETSA_OTHER_INTERVAL;
    want("another use", etsa_is_for(adapter, &use, all & ~(uint32_t)ETSA_OTHER_SIGNAL, &differences),
         ETSA_SIGNAL_MISMATCH_ERROR);
    want("its differences", (long)differences, (long)all);
    want("an accepted use", etsa_is_for(adapter, &use, all, NULL), ETSA_OK);
}

static void check_blob(const uint8_t *data, size_t size)
{
    etsa_adapter adapter;
    etsa_delta delta = {0};
    int code = expected_code(), merged = 0;
    etsa_err err = etsa_decode(data, size, &adapter);
    if (err != ETSA_OK) {
        want("code", err, code);
        if (value_of("rule", 0) == NULL) fail("refused by rule", adapter.rule, 0);
        else want("rule", adapter.rule, strtol(value_of("rule", 0) + 1, NULL, 10));
        return;
    }
    if (value_of("rule", 0) != NULL) fail("code", err, code);
    while (etsa_next(&adapter, &delta) && err == ETSA_OK) {
        err = check_merge(&adapter, &delta);
        merged++;
    }
    want("merge", err, code);
    if (err != ETSA_OK) return;
    want("deltas", merged, (long)adapter.delta_count);
    want("parameters", (long)adapter.parameters, (long)number_of("parameters"));
    want("version", adapter.version == number_of("version"), true);
    want("forced", adapter.forced, (long)number_of("forced"));
    check_calibration(&adapter);
    check_known_answer(&adapter);
    check_binding(&adapter);
}

static void check_manifest(const uint8_t *data, size_t size)
{
    etsa_bundle bundle;
    etsa_tensor tensors[8];
    etsa_file pinned;
    etsa_graph graph;
    double levels[8], patch = 0;
    char hex[65];
    etsa_err err = etsa_bundle_read(data, size, &bundle);
    want("code", err, expected_code());
    if (err != ETSA_OK) return;
    want("tensors", (long)bundle.tensor_count, (long)number_of("tensors"));
    for (size_t i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", bundle.digest[i]);
    want("digest", starts(value_of("digest", 0), hex), true);
    want("table", etsa_bundle_tensors(&bundle, tensors, 8), ETSA_OK);
    want("levels", etsa_bundle_levels(&bundle, levels, 8), ETSA_OK);
    want("the level 0.9", levels[2] == 0.9, true);
    want("patch_size", etsa_bundle_parameter(&bundle, "patch_size", &patch) && patch == 16.0, true);
    want("family", etsa_text_is(bundle.family, "chronos-bolt"), true);
    want("last file", etsa_bundle_file(&bundle, bundle.file_count - 1, &pinned) && pinned.size == 400, true);
    want("its name", etsa_text_is(pinned.name, "tunable.safetensors") && pinned.sha256[31] == 0xef, true);
    want("no further file", etsa_bundle_file(&bundle, bundle.file_count, &pinned), false);
    check_base_answer(&bundle);
    if (bundle.tensor_count == 0) return;
    want("short table", etsa_bundle_tensors(&bundle, tensors, 1), ETSA_STORAGE_ERROR);
    want("a matrix", tensors[0].rows == 8 && tensors[0].columns == 8 && tensors[0].offset == 80, true);
    want("a vector", tensors[1].rows == 16 && tensors[1].columns == 1 && tensors[1].dimensions == 1, true);
    want("its name", etsa_text_is(tensors[1].name, "encoder.bias"), true);
    want("quantised", tensors[0].quantised == bundle.quantised && !tensors[1].quantised, true);
    want("graph", etsa_bundle_graph(&bundle, "forecast", &graph), true);
    want("graph's tensors", etsa_graph_uses(&graph, 1) && !etsa_graph_uses(&graph, 2), true);
}

static void check_quantised(const uint8_t *data, size_t size)
{
    unsigned rows = 0, columns = 0;
    size_t count = size / 4;
    want("shape", sscanf(value_of("shape", 0), "%u %u", &rows, &columns) == 2 && rows * (size_t)columns == count, true);
    float *weights = allocate(size), *scales = allocate(rows * sizeof *scales);
    uint8_t *bytes = allocate(count + 4 * (size_t)rows);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = data[4 * i] | (uint32_t)data[4 * i + 1] << 8 | (uint32_t)data[4 * i + 2] << 16 | (uint32_t)data[4 * i + 3] << 24;
        memcpy(weights + i, &bits, sizeof bits);
    }
    etsa_err err = etsa_quantise(weights, rows, columns, (int8_t *)bytes, scales);
    want("code", err, expected_code());
    if (err == ETSA_OK) {
        store_floats(bytes + count, scales, rows);
        want_digest("integers and scales", bytes, count + 4 * (size_t)rows, value_of("digest", 0));
    }
    free(weights);
    free(scales);
    free(bytes);
}

static void check_signed(const uint8_t *data, size_t size)
{
#ifdef ETSA_WITH_ED25519
    uint32_t blob_size = 0;
    uint8_t key[32], *message = allocate(ETSA_PREFIX_SIZE + size);
    const char *hex = value_of("key", 0);
    for (size_t i = 0; i < 32; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        key[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    memcpy(message, ETSA_PREFIX, ETSA_PREFIX_SIZE);
    memcpy(message + ETSA_PREFIX_SIZE, data, size);
    want("size", etsa_blob_size(data, size, &blob_size), ETSA_OK);
    want("code", etsa_verify(message, blob_size, data + blob_size, size - blob_size, key, etsa_ed25519_verify), expected_code());
    message[0] ^= 1;
    want("no prefix", etsa_verify(message, blob_size, data + blob_size, size - blob_size, key, etsa_ed25519_verify), ETSA_SIGNATURE_ERROR);
    free(message);
#else
    (void)data, (void)size;
    skipped++;
#endif
}

static void check_entries(const uint8_t *data, size_t size)
{
    uint32_t count = (uint32_t)number_of("count");
    int64_t *entries = allocate(count * sizeof *entries);
    uint8_t *bytes = allocate(size);
    etsa_entries((uint32_t)number_of("seed"), (uint32_t)number_of("rows"), (uint32_t)number_of("columns"), count, entries);
    for (uint32_t k = 0; k < count; k++) store32(bytes + 4 * k, (uint32_t)entries[k]);
    want("entries", size == 4 * (size_t)count && memcmp(bytes, data, size) == 0, true);
    free(entries);
    free(bytes);
}

static void check_projection(const uint8_t *data)
{
    uint32_t rank = (uint32_t)number_of("rank"), width = (uint32_t)number_of("width");
    for (uint32_t i = 0; i < rank * width; i++, data += 2) {
        int32_t number = etsa_projection((uint32_t)number_of("seed"), (uint32_t)number_of("stream"), i / width, i % width);
        want("projection", (long)(number & 0xffff), (long)(data[0] | data[1] << 8));
    }
}

int main(int argc, char **argv)
{
    bool may_skip = argc > 1 && strcmp(argv[1], "--without-signatures") == 0;
    int first = may_skip ? 2 : 1;
    for (int i = first; i < argc; i++) {
        name = argv[i];
        FILE *input = fopen(name, "rb");
        if (input == NULL) {
            printf("cannot open %s: %s\n", name, strerror(errno));
            return 2;
        }
        size_t size = fread(file, 1, MOST_BYTES, input);
        fclose(input);
        file[size] = '\0';
        header = (const char *)file;
        const char *end = strstr(header, "\n\n");
        if (end == NULL) {
            fail("no header", 0, 0);
            continue;
        }
        /* a copy of exactly the payload's size, so that a sanitizer sees a byte too far */
        size -= (size_t)(end + 2 - header);
        uint8_t *payload = allocate(size);
        memcpy(payload, end + 2, size);
        feclearexcept(FE_ALL_EXCEPT);
        const char *what = value_of("what", 0);
        if (starts(what, "blob\n")) check_blob(payload, size);
        else if (starts(what, "manifest\n")) check_manifest(payload, size);
        else if (starts(what, "quantised\n")) check_quantised(payload, size);
        else if (starts(what, "signed\n")) check_signed(payload, size);
        else if (starts(what, "entries\n")) check_entries(payload, size);
        else if (starts(what, "projection\n")) check_projection(payload);
        else fail("what", 0, 0);
        want("floating-point flags", fetestexcept(FE_INVALID | FE_OVERFLOW | FE_DIVBYZERO), 0);
        free(payload);
    }
    printf("%d vectors, %d failures, %d skipped%s\n", argc - first, failed, skipped, skipped ? " (built without Ed25519)" : "");
    return failed > 0 || argc == first || (skipped > 0 && !may_skip);
}
