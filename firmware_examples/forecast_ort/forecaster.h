/* A base bundle and an adapter on ONNX Runtime: opened, verified, merged, proven, then forecasting.
 *
 * A sample to start from. Unlike the core it allocates and reads files. ONNX Runtime is opened with dlopen and asked
 * for C API 21, so one binary serves every version from 1.21 on. Chronos-Bolt, Chronos-T5 and Chronos-2 bundles are
 * forecast; those of other families are refused with ETSA_UNSUPPORTED_ERROR.
 */
#ifndef FORECASTER_H
#define FORECASTER_H

#include "etsa.h"

#define FC_MESSAGE_SIZE 256

/* Why something was refused: what, got, wanted, where. */
typedef char fc_message[FC_MESSAGE_SIZE];

/* A base: its folder checked against its manifest, ONNX Runtime loaded. Shared by forecasters, which it must outlive. */
typedef struct fc_base fc_base;

typedef struct fc_settings {
    const char *library; /* path or name of libonnxruntime.so; NULL: libonnxruntime.so.1 on the loader's path */
    int threads;         /* of ONNX Runtime and of a merge; 0: 2 */
    bool prepacking;     /* faster runs for more memory */
    bool keep_merged;    /* for fc_merged; costs their size once more */
    bool trust_files;    /* skip the digests of the bundle's files: they were checked when it was installed, and the
                            folder cannot be written since (dm-verity, a read-only partition) */
} fc_settings;

etsa_err fc_base_open(const char *folder, const fc_settings *settings, fc_base **base, fc_message message);
void fc_base_close(fc_base *base);
const etsa_bundle *fc_bundle(const fc_base *base);

/* A base with at most one adapter; immutable, so a swap is a new one. One thread at a time forecasts with it. */
typedef struct fc_forecaster fc_forecaster;

#define FC_MAX_KEYS 8u

/* What may be loaded. */
typedef struct fc_policy {
    uint8_t keys[FC_MAX_KEYS][32]; /* public keys, of which one must have signed the adapter */
    uint32_t key_count;       /* 0: no signature is required */
    uint64_t version_floor;   /* lowest adapter version */
    etsa_use use;             /* what it will forecast: a bound adapter for something else is refused */
    uint32_t accepted;        /* differences that a person accepted by name, as ETSA_OTHER_SIGNAL */
    bool need_use;            /* refuse a bound adapter if `use` leaves out the signal, or an interval that it has */
    bool need_known_answer;   /* refuse an adapter without a known-answer test */
} fc_policy;

/* In the order of FORMAT.md §11: checksum, signature, base, floor, rules, use, merge, session, known answer. data: an .etsa
 * file's bytes, not needed afterwards; NULL: the base alone, which is checked by the known answer of its manifest, if that
 * has one. If an adapter fails and the base alone does not open either, this machine is at fault: ETSA_STORAGE_ERROR. On an
 * error nothing is left open. */
etsa_err fc_open(fc_base *base, const uint8_t *data, size_t size, const fc_policy *policy, fc_forecaster **forecaster,
                 fc_message message);
void fc_close(fc_forecaster *forecaster);

/* How a base that samples (Chronos-T5) draws. Equal numbers give equal forecasts, and those of the Python runtime. */
typedef struct fc_sampling {
    uint32_t num_samples; /* paths from which the quantiles are computed, at most FC_MAX_SAMPLES; 0: the base's own number */
    uint32_t seed;
} fc_sampling;
#define FC_MAX_SAMPLES 4096u

/* context[length], latest value last, NaN for missing; quantiles[prediction_length * level_count], all levels of step 0
 * first, of which the first fc_steps steps are the forecast. A context is cut to the adapter's own length. sampling: NULL
 * for the base's number of samples and seed 0; a base that does not sample refuses samples and seeds. Codes 500 and 501. */
etsa_err fc_forecast(fc_forecaster *forecaster, const float *context, size_t length, const fc_sampling *sampling, float *quantiles,
                     fc_message message);

/* Which adapter: 0 for the base alone. */
uint64_t fc_adapter_version(const fc_forecaster *forecaster);
/* The adapter, with its binding; NULL for the base alone. */
const etsa_adapter *fc_adapter(const fc_forecaster *forecaster);
/* Differences between a forecast from a context of `length` values and what the adapter is for; all of them accepted by a
 * person. Name them in every forecast. */
uint32_t fc_differences(const fc_forecaster *forecaster, size_t length);
/* Steps of a forecast that the adapter was evaluated with: at most the base's prediction_length. */
uint32_t fc_steps(const fc_forecaster *forecaster);
/* Repeat the known-answer test: whether memory and files are unchanged. ETSA_SELF_TEST_ERROR if they are not. */
etsa_err fc_self_test(fc_forecaster *forecaster, fc_message message);
/* Whether there is a known answer, so that the running model is checked: the adapter's, or that of the base alone. */
bool fc_is_proven(const fc_forecaster *forecaster);
/* Largest difference of the last known-answer test, in the target's unit. */
double fc_self_test_difference(const fc_forecaster *forecaster);
/* The bytes that it was opened from, with signatures, until it is closed; NULL for the base alone. */
const uint8_t *fc_data(const fc_forecaster *forecaster, size_t *size);
/* The merged tensor of that index, or NULL: for comparison with other runtimes. Needs keep_merged. */
const float *fc_merged(const fc_forecaster *forecaster, uint32_t tensor);

/* A difference between use and binding by its name ("signal", "unit", "interval", "context_length",
 * "prediction_length") as its bit; 0 for another name. */
uint32_t fc_read_difference(const char *name);
/* The name of the lowest bit; "use" where there is none. */
const char *fc_first_difference(uint32_t differences);

/* Read a regular file of at most `limit` bytes, with room for one more; release it with free(). Never blocks on a FIFO. */
etsa_err fc_read_file(const char *path, size_t limit, uint8_t **data, size_t *size, fc_message message);

#endif
