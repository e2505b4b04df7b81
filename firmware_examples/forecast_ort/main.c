/* etsa-forecast: forecast a series from a CSV file or standard input. See usage() and ../README.md. */
#define _POSIX_C_SOURCE 200809L
#include "arguments.h"
#include "forecaster.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char USAGE[] =
    "usage: etsa-forecast [options] BUNDLE [FILE]\n"
    "  FILE               numbers, one row a step: the last column is read; standard input when there is none\n"
    "  --adapter FILE     an .etsa blob, with signatures behind it or without\n"
    "  --key HEX          public key (64 digits) that must have signed the adapter; repeatable: one of them\n"
    "                     Needed, and one that it names, where /etc/edge-tsfm/device.toml says signed_only\n"
    "  --floor N          lowest adapter version\n"
    "  --signal NAME      what the numbers are, as MAP or LOINC's 8478-0: an adapter for another signal is refused\n"
    "  --unit UNIT        their unit (UCUM), as mm[Hg]\n"
    "  --interval SPAN    time between two rows, as 1h, 5min or 1s\n"
    "  --accept-difference NAME  use an adapter that is for another signal, unit or interval (repeatable, by name);\n"
    "                     a last column of every forecast then names what differs\n"
    "  --column N         column to read, the first is 1\n"
    "  --stream           forecast after every row, not only after the last\n"
    "  --repeat N         run the last forecast N times and print its latency\n"
    "  --num-samples N    paths that a base that samples (Chronos-T5) draws; 1 to 4096, else the base's own number\n"
    "  --seed N           which paths (0)\n"
    "  --library FILE     libonnxruntime.so (or set ONNXRUNTIME_LIBRARY)\n"
    "  --threads N        of ONNX Runtime (2)\n"
    "  --prepacking       faster forecasts for more memory\n"
    "  --trust-files      do not check the bundle's files against their digests\n"
    "  --merged INDEX     write that merged tensor (f32) to standard output and stop\n";

typedef struct options {
    const char *bundle, *file, *adapter;
    fc_settings settings;
    fc_policy policy;
    fc_sampling sampling;
    uint64_t column, repeat, merged;
    bool stream, print_merged;
} options;

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int give_up(etsa_err err, const char *message)
{
    fprintf(stderr, "etsa-forecast: [%d] %s: %s\n", (int)err, etsa_err_name((int)err), message);
    return 1;
}

/* An option that takes a value. */
static bool parse_value(const char *name, const char *value, options *o)
{
    uint64_t count = 0;
    if (strcmp(name, "--adapter") == 0) o->adapter = value;
    else if (strcmp(name, "--library") == 0) o->settings.library = value;
    else if (strcmp(name, "--key") == 0) {
        return o->policy.key_count < FC_MAX_KEYS && fc_read_key(value, o->policy.keys[o->policy.key_count++]);
    } else if (strcmp(name, "--floor") == 0) return fc_read_count(value, 0, UINT64_MAX, &o->policy.version_floor);
    else if (strcmp(name, "--signal") == 0) o->policy.use.signal = value;
    else if (strcmp(name, "--unit") == 0) o->policy.use.unit = value;
    else if (strcmp(name, "--interval") == 0) return fc_read_duration(value, &o->policy.use.interval_us);
    else if (strcmp(name, "--accept-difference") == 0) {
        o->policy.accepted |= fc_read_difference(value);
        return fc_read_difference(value) != 0;
    } else if (strcmp(name, "--column") == 0) return fc_read_count(value, 1, 65536, &o->column);
    else if (strcmp(name, "--repeat") == 0) return fc_read_count(value, 1, 100000000, &o->repeat);
    else if (strcmp(name, "--num-samples") == 0) {
        if (!fc_read_count(value, 1, FC_MAX_SAMPLES, &count)) return false;
        o->sampling.num_samples = (uint32_t)count;
    } else if (strcmp(name, "--seed") == 0) {
        if (!fc_read_count(value, 0, UINT32_MAX, &count)) return false;
        o->sampling.seed = (uint32_t)count;
    } else if (strcmp(name, "--threads") == 0) {
        if (!fc_read_count(value, 1, 256, &count)) return false;
        o->settings.threads = (int)count;
    } else if (strcmp(name, "--merged") == 0) {
        o->print_merged = o->settings.keep_merged = true;
        return fc_read_count(value, 0, ETSA_MAX_TENSORS - 1, &o->merged);
    } else return false;
    return true;
}

static bool parse(int argc, char **argv, options *o)
{
    memset(o, 0, sizeof *o);
    o->settings.library = getenv("ONNXRUNTIME_LIBRARY");
    o->policy.need_use = true;
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        bool takes_value = true;
        if (strcmp(name, "--stream") == 0) o->stream = true, takes_value = false;
        else if (strcmp(name, "--prepacking") == 0) o->settings.prepacking = true, takes_value = false;
        else if (strcmp(name, "--trust-files") == 0) o->settings.trust_files = true, takes_value = false;
        else if (strncmp(name, "--", 2) != 0) {
            if (o->bundle == NULL) o->bundle = name;
            else if (o->file == NULL) o->file = name;
            else return false;
            takes_value = false;
        } else if (value == NULL || !parse_value(name, value, o)) return false;
        i += takes_value;
    }
    return o->bundle != NULL;
}

/* One row's number: NaN for an empty cell or "nan"; false for text, as in a header. */
static bool read_number(const char *row, uint64_t column, float *number)
{
    const char *cell = row;
    char *end;
    if (column > 0) {
        for (uint64_t i = 1; i < column && cell != NULL; i++) {
            cell = strchr(cell, ',');
            if (cell != NULL) cell++;
        }
        if (cell == NULL) return false;
    } else {
        const char *comma = strrchr(row, ',');
        if (comma != NULL) cell = comma + 1;
    }
    cell += strspn(cell, " \t");
    if (*cell == ',' || *cell == '\n' || *cell == '\r' || *cell == '\0') {
        *number = NAN;
        return true;
    }
    *number = strtof(cell, &end);
    end += strspn(end, " \t\r\n");
    return *end == ',' || *end == '\0';
}

/* Names joined by '+'. */
static void print_differences(uint32_t differences)
{
    for (uint32_t left = differences; left != 0; left &= left - 1) {
        printf("%s%s", left == differences ? "" : "+", fc_first_difference(left));
    }
}

static void print_levels(const options *o, const etsa_bundle *bundle)
{
    double levels[ETSA_MAX_LEVELS];
    if (etsa_bundle_levels(bundle, levels, ETSA_MAX_LEVELS) != ETSA_OK) return;
    printf(o->stream ? "row,step" : "step");
    for (uint32_t j = 0; j < bundle->level_count; j++) printf(",%g", levels[j]);
    printf(o->policy.accepted != 0 ? ",accepted_differences\n" : "\n");
}

/* Where a person accepted differences, each row of a forecast names those there are. length: of its context. */
static void print_forecast(const options *o, const etsa_bundle *bundle, const fc_forecaster *f, size_t length, const float *quantiles,
                           long row)
{
    for (uint32_t h = 0; h < fc_steps(f); h++) {
        if (row > 0) printf("%ld,", row);
        printf("%u", (unsigned)h + 1);
        for (uint32_t j = 0; j < bundle->level_count; j++) printf(",%.9g", (double)quantiles[h * bundle->level_count + j]);
        if (o->policy.accepted != 0) {
            printf(",");
            print_differences(fc_differences(f, length));
        }
        printf("\n");
    }
    fflush(stdout);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Print what a figure needs: the median and the slowest of `count` runs. */
static etsa_err repeat(const options *o, fc_forecaster *f, const float *context, size_t length, float *quantiles, fc_message message)
{
    size_t count = (size_t)o->repeat;
    double *times = malloc(count * sizeof *times);
    etsa_err err = times == NULL ? ETSA_STORAGE_ERROR : ETSA_OK;
    if (err != ETSA_OK) snprintf(message, sizeof(fc_message), "out of memory");
    for (size_t i = 0; i < count && err == ETSA_OK; i++) {
        double start = milliseconds();
        err = fc_forecast(f, context, length, &o->sampling, quantiles, message);
        times[i] = milliseconds() - start;
    }
    if (err == ETSA_OK) {
        qsort(times, count, sizeof *times, compare);
        fprintf(stderr, "latency: median %.3f ms, slowest %.3f ms of %zu\n", times[count / 2], times[count - 1], count);
    }
    free(times);
    return err;
}

static int forecast(const options *o, const etsa_bundle *bundle, fc_forecaster *f, double started)
{
    static char row[65536];
    fc_message message;
    size_t most = bundle->context_length, length = 0;
    float *context = malloc(most * sizeof *context), number;
    float *quantiles = malloc((size_t)bundle->prediction_length * bundle->level_count * sizeof *quantiles);
    FILE *input = o->file == NULL ? stdin : fopen(o->file, "r");
    etsa_err err = ETSA_OK;
    bool first = true;
    if (input == NULL || context == NULL || quantiles == NULL) {
        fprintf(stderr, "etsa-forecast: %s: %s\n", o->file == NULL ? "memory" : o->file, strerror(errno));
        return 1;
    }
    if (o->stream) print_levels(o, bundle);
    for (long rows = 0; fgets(row, sizeof row, input) != NULL;) {
        if (strchr(row, '\n') == NULL && !feof(input)) return give_up(ETSA_INPUT_ERROR, "a row that is too long, or has a zero byte");
        if (!read_number(row, o->column, &number)) {
            if (rows == 0 && first) { /* a header */
                first = false;
                continue;
            }
            return give_up(ETSA_INPUT_ERROR, "a row that is not a number");
        }
        if (length == most) memmove(context, context + 1, --length * sizeof *context);
        context[length++] = number;
        rows++;
        if (!o->stream) continue;
        err = fc_forecast(f, context, length, &o->sampling, quantiles, message);
        if (err == ETSA_OK) print_forecast(o, bundle, f, length, quantiles, rows);
        else if (err != ETSA_INPUT_ERROR) return give_up(err, message);
    }
    if (ferror(input)) return give_up(ETSA_INPUT_ERROR, strerror(errno));
    if (input != stdin) fclose(input);
    if (!o->stream) {
        err = fc_forecast(f, context, length, &o->sampling, quantiles, message);
        if (err != ETSA_OK) return give_up(err, message);
        fprintf(stderr, "start to first forecast: %.1f ms\n", milliseconds() - started);
        print_levels(o, bundle);
        print_forecast(o, bundle, f, length, quantiles, 0);
    }
    if (o->repeat > 0) {
        err = repeat(o, f, context, length, quantiles, message);
        if (err != ETSA_OK) return give_up(err, message);
    }
    free(context);
    free(quantiles);
    return 0;
}

/* What the adapter is for, and in what it is used otherwise. */
static void print_use(const fc_forecaster *f, size_t longest)
{
    const etsa_adapter *adapter = fc_adapter(f);
    if (adapter->signal.size == 0) fprintf(stderr, ", unbound: it does not say which signal it is for");
    else fprintf(stderr, ", for %.*s", (int)adapter->signal.size, adapter->signal.at);
    for (uint32_t left = fc_differences(f, longest); left != 0; left &= left - 1) {
        fprintf(stderr, "; USED FOR ANOTHER %s, accepted by hand", fc_first_difference(left));
    }
}

/* The peak of this program: getrusage's is that of the one that started it, where that was larger. */
static void print_peak_memory(void)
{
    char line[256];
    unsigned long kilobytes = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) kilobytes = strtoul(line + 6, NULL, 10);
    }
    if (status != NULL) fclose(status);
    if (kilobytes > 0) fprintf(stderr, "peak memory: %.1f MB\n", (double)kilobytes / 1024);
}

int main(int argc, char **argv)
{
    double started = milliseconds(), opened;
    options o;
    fc_base *base;
    fc_forecaster *f;
    fc_message message;
    uint8_t *blob = NULL;
    size_t size = 0;
    if (!parse(argc, argv, &o)) {
        fputs(USAGE, stderr);
        return 2;
    }
    etsa_err err = o.adapter == NULL ? ETSA_OK : fc_check_signed_only(&o.policy, message);
    if (err != ETSA_OK) return give_up(err, message);
    err = fc_base_open(o.bundle, &o.settings, &base, message);
    if (err != ETSA_OK) return give_up(err, message);
    opened = milliseconds();
    if (o.adapter != NULL) {
        err = fc_read_file(o.adapter, ETSA_MAX_BLOB_SIZE + ETSA_MAX_SIGNATURES * ETSA_SIGNATURE_SIZE, &blob, &size, message);
    }
    if (err == ETSA_OK) err = fc_open(base, blob, size, &o.policy, &f, message);
    free(blob);
    if (err != ETSA_OK) {
        fc_base_close(base);
        return give_up(err, message);
    }
    const etsa_bundle *bundle = fc_bundle(base);
    if (o.print_merged) {
        etsa_tensor *tensors = calloc(bundle->tensor_count + 1, sizeof *tensors);
        const float *merged = fc_merged(f, (uint32_t)o.merged);
        if (tensors == NULL || merged == NULL || etsa_bundle_tensors(bundle, tensors, bundle->tensor_count) != ETSA_OK) {
            return give_up(ETSA_MERGE_ERROR, "the adapter does not change that tensor");
        }
        fwrite(merged, sizeof *merged, (size_t)tensors[o.merged].rows * tensors[o.merged].columns, stdout);
        return 0;
    }
    fprintf(stderr, "base %.*s ", (int)bundle->name.size, bundle->name.at);
    for (int i = 0; i < 8; i++) fprintf(stderr, "%02x", bundle->digest[i]);
    if (o.adapter != NULL) fprintf(stderr, ", adapter version %llu", (unsigned long long)fc_adapter_version(f));
    if (fc_is_proven(f)) fprintf(stderr, ", known answer off by %g", fc_self_test_difference(f));
    else fprintf(stderr, ", without a known answer");
    if (o.adapter != NULL) print_use(f, bundle->context_length);
    fprintf(stderr, "\nbase opened in %.1f ms, adapter and session in %.1f ms\n", opened - started, milliseconds() - opened);
    int status = forecast(&o, bundle, f, started);
    fc_close(f);
    fc_base_close(base);
    print_peak_memory();
    return status;
}
