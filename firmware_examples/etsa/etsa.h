/* etsa: read base bundles and adapter blobs, verify them and merge them, on any device.
 *
 * C99, no allocation, no recursion, no I/O, no libm, no global state: every function may run in any thread, inputs are
 * const, and the caller owns all memory and can ask how much is needed first. The bytes are specified in
 * device_runtime/FORMAT.md; "R9" below is a reader rule there, "§6" a section.
 *
 * In the order of a device's start (every call returns ETSA_OK or refuses):
 *
 *     etsa_bundle_read        bundle.json -> what the base is; its digest
 *     etsa_bundle_tensors     its tensor table, into an array of bundle.tensor_count
 *     etsa_blob_size          how many of a file's bytes are the blob; signatures follow
 *     etsa_verify             a trusted key signed exactly these bytes
 *     etsa_decode             every rule of the format
 *     etsa_fits               this adapter is for this base
 *     etsa_is_for             and for this signal, unit, interval and lengths
 *     etsa_next, etsa_merge   each delta, into a buffer of rows * columns floats
 *     etsa_known_answer       what the merged model must reproduce before it forecasts
 */
#ifndef ETSA_H
#define ETSA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The library's version; the format has its own. */
#define ETSA_VERSION "0.1.0"
#define ETSA_FORMAT_VERSION 2u /* of a blob; version 1 is read as well, as unbound: it does not state what it is for */
#define ETSA_BUNDLE_VERSION 1u
#define ETSA_QUANTISED_VERSION 3u /* of a bundle with quantised tensors */

/* Limits, §9. */
#define ETSA_MAX_BLOB_SIZE 524288u /* bytes */
#define ETSA_MAX_RECORDS 256u
#define ETSA_MAX_TENSORS 4096u   /* in a bundle's table */
#define ETSA_MAX_DIMENSION 8192u /* rows or columns */
#define ETSA_MAX_FREQUENCIES 4096u
#define ETSA_MAX_RANK 256u
#define ETSA_MAX_CONTEXT 512u /* numbers of a known-answer test */
#define ETSA_MAX_EXPECTED 1024u
#define ETSA_MAX_METADATA_SIZE 1024u   /* bytes */
#define ETSA_MAX_INTERVAL 1000000000000000u /* microseconds */
#define ETSA_MAX_CODE_SIZE 32u              /* bytes; of a unit too */
#define ETSA_MAX_NAME_SIZE 64u
#define ETSA_MAX_LENGTH 65536u /* steps of a context or forecast; this and the next three of a manifest */
#define ETSA_MAX_LEVELS 1024u
#define ETSA_MAX_FILES 64u
#define ETSA_MAX_GRAPHS 16u
#define ETSA_MAX_MANIFEST_SIZE 1048576u /* bytes */
#define ETSA_MAX_SIGNATURES 8u

#define ETSA_HEADER_SIZE 64u
#define ETSA_RECORD_SIZE 32u
#define ETSA_SIGNATURE_SIZE 80u

/* Error codes, §10: shared with the Python runtime and telemetry, never reused. */
typedef enum etsa_err {
    ETSA_OK = 0,
    ETSA_FORMAT_ERROR = 100,        /* bytes break a rule */
    ETSA_CHECKSUM_ERROR = 101,      /* bytes were damaged on the way */
    ETSA_SIZE_ERROR = 102,          /* a limit, or sizes that do not add up */
    ETSA_CANONICAL_ERROR = 103,     /* not the one canonical form */
    ETSA_UNSUPPORTED_ERROR = 110,   /* from a newer sender */
    ETSA_SIGNATURE_ERROR = 200,     /* no trusted key signed exactly these bytes */
    ETSA_ROLLBACK_ERROR = 210,      /* an adapter version below the device's floor */
    ETSA_BASE_MISMATCH_ERROR = 300, /* made for another base */
    ETSA_MERGE_ERROR = 310,         /* shapes differ, or a merged weight is not finite */
    ETSA_SELF_TEST_ERROR = 320,     /* the merged model does not give the known answer */
    ETSA_SIGNAL_MISMATCH_ERROR = 330, /* made for another signal, unit, interval or length */
    ETSA_STORAGE_ERROR = 400,       /* the device's disk or memory: a buffer is smaller than was asked for */
    ETSA_LOCKED_ERROR = 401,        /* another process holds the state */
    ETSA_STATE_ERROR = 402,         /* what was asked for does not fit what runs */
    ETSA_MISSING_LIBRARY_ERROR = 410, /* a library is not installed */
    ETSA_OFFLINE_ERROR = 420,       /* no answer, or not in time */
    ETSA_INPUT_ERROR = 500,         /* the context: empty, all missing, infinite */
    ETSA_FORECAST_ERROR = 501,      /* the model's output is not finite */
    ETSA_SETTINGS_ERROR = 600       /* this device's settings */
} etsa_err;

/* The error's name in §10, for logs; "?" for an unknown number. */
const char *etsa_err_name(int code);

/* --- base bundle, §2 ------------------------------------------------------------------------------------------ */

/* Text inside of the caller's manifest: printable ASCII, not terminated by a zero. */
typedef struct etsa_text {
    const char *at;
    uint32_t size;
} etsa_text;

typedef struct etsa_bundle {
    uint8_t digest[32]; /* SHA-256 of the manifest: the base's identity */
    etsa_text name;
    etsa_text family;
    etsa_text precision;
    uint32_t context_length;    /* longest context in time steps */
    uint32_t prediction_length; /* steps that one run of the graph forecasts */
    uint32_t level_count;       /* quantile levels */
    uint32_t tensor_count;      /* entries of the tensor table */
    uint32_t file_count;        /* pinned files, without the manifest */
    bool quantised;             /* some of the tensors are */
    etsa_text levels, tensors, files, graphs, parameters; /* JSON, for the functions below */

    /* The base's own known answer, §7; sizes are zero if it has none. etsa_bundle_known_answer reads the numbers. */
    uint32_t context_size, expected_size;
    double tolerance; /* largest allowed absolute difference, in the target's unit */
    etsa_text context, expected;
} etsa_bundle;

typedef struct etsa_tensor {
    etsa_text name;
    uint32_t rows, columns;
    uint32_t dimensions; /* 1 or 2; a vector of n numbers has n rows and 1 column */
    uint32_t offset;     /* bytes from the start of tunable.safetensors */
    bool quantised;      /* float16 there; the graphs take it as etsa_quantise writes it */
} etsa_tensor;

typedef struct etsa_file {
    etsa_text name; /* plain: no folder */
    uint64_t size;  /* bytes */
    uint8_t sha256[32];
} etsa_file;

typedef struct etsa_graph {
    etsa_text file;
    etsa_text tensors; /* JSON list, for etsa_graph_uses */
} etsa_graph;

/* Check a complete manifest and point into it: the text must outlive the bundle. Codes 100, 102, 103, 110. */
etsa_err etsa_bundle_read(const uint8_t *manifest, size_t size, etsa_bundle *bundle);
/* Fill the tensor table; ETSA_STORAGE_ERROR unless capacity >= bundle->tensor_count. */
etsa_err etsa_bundle_tensors(const etsa_bundle *bundle, etsa_tensor *tensors, uint32_t capacity);
/* Fill the quantile levels, ascending; ETSA_STORAGE_ERROR unless capacity >= bundle->level_count. */
etsa_err etsa_bundle_levels(const etsa_bundle *bundle, double *levels, uint32_t capacity);
/* The pinned file at 0 <= index < bundle->file_count. */
bool etsa_bundle_file(const etsa_bundle *bundle, uint32_t index, etsa_file *file);
/* The graph of that name, as "forecast". */
bool etsa_bundle_graph(const etsa_bundle *bundle, const char *name, etsa_graph *graph);
/* The graph at an index, in the order of their names; false behind the last. */
bool etsa_bundle_graph_at(const etsa_bundle *bundle, uint32_t index, etsa_graph *graph);
/* Whether the graph has the tensor among its external initializers. */
bool etsa_graph_uses(const etsa_graph *graph, uint32_t tensor);
/* One of the family's own numbers, such as "patch_size"; false if it is missing or not a number. */
bool etsa_bundle_parameter(const etsa_bundle *bundle, const char *name, double *value);
/* One of the family's own integers, such as "num_layers"; false if it is missing, has a point, or needs over 32 bits. */
bool etsa_bundle_count(const etsa_bundle *bundle, const char *name, uint32_t *value);
/* One of the family's own booleans, such as "use_eos_token"; false if it is missing or neither true nor false. */
bool etsa_bundle_flag(const etsa_bundle *bundle, const char *name, bool *value);
/* Compare with a zero-terminated text. */
bool etsa_text_is(etsa_text text, const char *what);

/* --- adapter blob, §3 and §4 ---------------------------------------------------------------------------------- */

enum { /* record kinds */
    ETSA_KIND_DENSE = 1,
    ETSA_KIND_FOURIER = 2,
    ETSA_KIND_FOURIER_EXPLICIT = 3,
    ETSA_KIND_LOW_RANK = 4,
    ETSA_KIND_VERA = 5,
    ETSA_KIND_GAIN = 7,
    ETSA_KIND_CALIBRATION = 16,
    ETSA_KIND_KNOWN_ANSWER = 17,
    ETSA_KIND_METADATA = 18,
    ETSA_KIND_BINDING = 19
};

enum { ETSA_DTYPE_NONE = 0, ETSA_DTYPE_FLOAT32 = 1, ETSA_DTYPE_INT16 = 2, ETSA_DTYPE_INT8 = 3 };

/* A decoded adapter: a view into the caller's blob, which must outlive it and not change. */
typedef struct etsa_adapter {
    const uint8_t *blob;
    uint32_t size;              /* bytes */
    uint32_t record_count;
    const uint8_t *base_digest; /* 32 bytes */
    uint64_t version;           /* monotonic; compare it with the device's floor */
    bool forced;                /* accepted by hand although it did not beat its base */
    uint32_t delta_count;       /* tensors that it changes */
    uint32_t parameters;        /* tuned parameters in total */

    /* Known-answer test; sizes are zero where there is none. */
    uint32_t context_size, expected_size; /* numbers */
    float tolerance;                      /* largest allowed absolute difference, in the target's unit */
    const uint8_t *context, *expected;    /* little-endian f32: etsa_known_answer reads them */

    /* Calibration; sizes are zero where there is none. etsa_calibrate applies it. */
    uint32_t calibration_levels, calibration_steps;
    const uint8_t *calibration;
    uint8_t calibration_dtype;

    etsa_text metadata; /* canonical JSON; size 0 where there is none */

    /* What it is for. A blob of format 1 is not bound: its name is empty, and all lengths are zero. */
    etsa_text signal, signal_code, unit; /* as MAP, LOINC's 8478-0, UCUM's mm[Hg]; code and unit may be empty */
    uint64_t interval_us;                /* microseconds between steps; 0: steps of no stated length */
    uint32_t context_length, prediction_length; /* steps */
    float low, high;                            /* range of plausible values, in the unit; infinite if unbounded */

    /* Where etsa_decode refused: the rule's number in §9, and the first byte of the header or record at fault. */
    uint8_t rule;
    uint32_t where;
} etsa_adapter;

/* How many of the bytes are the blob; the rest are signatures. Rules R1 to R3, codes 100 and 102. */
etsa_err etsa_blob_size(const uint8_t *data, size_t size, uint32_t *blob_size);
/* The checksum that a header must have: of all bytes but its own. */
uint32_t etsa_crc32(const uint8_t *blob, uint32_t blob_size);
/* Rule R4 alone, code 101: checked before signatures, so that damage is not mistaken for forgery. */
etsa_err etsa_checksum(const uint8_t *blob, uint32_t blob_size);
/* From a blob's header, before it is decoded: the base it is for, and its version. */
const uint8_t *etsa_base_of(const uint8_t *blob); /* 32 bytes */
uint64_t etsa_version_of(const uint8_t *blob);
/* Check exactly one blob against every rule. Codes 100 to 103 and 110; takes 1.2 KB of stack, the most here. */
etsa_err etsa_decode(const uint8_t *blob, size_t size, etsa_adapter *adapter);

/* --- merge, §6 ------------------------------------------------------------------------------------------------ */

/* What one adapter adds to one tensor. Start etsa_next with a zeroed one. */
typedef struct etsa_delta {
    uint32_t tensor; /* index in the bundle's tensor table */
    uint32_t rows, columns;
    uint8_t kind, dtype;
    uint32_t count; /* frequencies or rank; of a gain 1: numbers for rows, 2: for columns */
    uint32_t seed;
    float scaling;
    const uint8_t *entries; /* explicit ones, gap-coded */
    const uint8_t *numbers;
    uint32_t record, member; /* etsa_next's place */
} etsa_delta;

/* Base digest, tensor indices and shapes: ETSA_BASE_MISMATCH_ERROR or ETSA_MERGE_ERROR. Call once before merging. */
etsa_err etsa_fits(const etsa_adapter *adapter, const etsa_bundle *bundle, const etsa_tensor *tensors);
/* What a caller is about to forecast; NULL or 0 for what it does not state. */
typedef struct etsa_use {
    const char *signal; /* name or code; case is ignored */
    const char *unit;   /* UCUM; case matters */
    uint64_t interval_us;
    uint32_t context_length, prediction_length; /* steps; no more than the adapter's */
} etsa_use;

enum { /* differences between a use and a binding, as bits */
    ETSA_OTHER_SIGNAL = 1,
    ETSA_OTHER_UNIT = 2,
    ETSA_OTHER_INTERVAL = 4,
    ETSA_OTHER_CONTEXT_LENGTH = 8,
    ETSA_OTHER_PREDICTION_LENGTH = 16
};

/* ETSA_SIGNAL_MISMATCH_ERROR if the use differs, §4, in anything that a person has not accepted (bits of `accepted`).
 * differences (may be NULL) gets all of them, accepted ones too: name those in every forecast. An unbound adapter
 * never differs: the caller must say that it is unbound. */
etsa_err etsa_is_for(const etsa_adapter *adapter, const etsa_use *use, uint32_t accepted, uint32_t *differences);
/* Step to the next delta of a decoded adapter; false after the last. */
bool etsa_next(const etsa_adapter *adapter, etsa_delta *delta);
/* Scratch that etsa_merge needs for any delta of the adapter, in int64_t's: 2,956 (23.6 KB) for 100 frequencies of a
 * [256, 256] tensor; 102,408 (820 KB) at the very limits of the format. */
size_t etsa_scratch_count(const etsa_adapter *adapter);
/* merged[rows * columns] = base + delta, the sum taken in doubles and rounded once; the same bits on every processor.
 * base: the tensor's bytes in tunable.safetensors (little-endian f32, any alignment). Refuses a weight that is not
 * finite with ETSA_MERGE_ERROR and scratch that is too small with ETSA_STORAGE_ERROR; the contents of merged are unspecified on error.
 * Of the floating-point flags it may leave inexact and underflow set, never invalid, overflow or division by zero. */
etsa_err etsa_merge(const etsa_delta *delta, const uint8_t *base, float *merged, int64_t *scratch, size_t scratch_count);
/* The bytes of a quantised tensor as etsa_merge takes them: f16 halves[count] to f32, both little-endian, of any alignment.
 * floats may be the memory of etsa_merge's merged. */
void etsa_widen(const uint8_t *halves, size_t count, uint8_t *floats);
/* What graphs take for a quantised tensor, §6, the same bytes on every processor: "<name>.int8", integers[rows * columns],
 * and "<name>.scale", scales[rows]. Refuses a weight that is not finite with ETSA_MERGE_ERROR. */
etsa_err etsa_quantise(const float *merged, uint32_t rows, uint32_t columns, int8_t *integers, float *scales);

/* --- after the session is open -------------------------------------------------------------------------------- */

/* Copy the known-answer test out: context[context_size], expected[expected_size]; false where there is none. */
bool etsa_known_answer(const etsa_adapter *adapter, float *context, float *expected);
/* The base's own, for a session of the base alone. */
bool etsa_bundle_known_answer(const etsa_bundle *bundle, float *context, float *expected);
/* The widest tolerance with which the test is meaningful, §7: a wider one is refused with ETSA_SELF_TEST_ERROR. */
double etsa_widest_tolerance(const float *context, uint32_t context_size);
/* ETSA_SELF_TEST_ERROR if a number of the probe differs by more than the tolerance, or is not finite; worst (may be
 * NULL) is the largest absolute difference. */
etsa_err etsa_compare_probe(const float *expected, const float *probe, uint32_t count, double tolerance, double *worst);
/* Sort the levels of quantiles[steps * levels] (all levels of step 0, then of step 1, ...) at every step, §7: a model's
 * quantiles may cross. For every forecast, before etsa_calibrate; not for the known-answer test's probe. */
void etsa_sort_levels(float *quantiles, uint32_t steps, uint32_t levels);
/* Shift ascending quantiles[steps * levels] by the adapter's offsets and sort each step's, §7. Without a calibration
 * nothing changes. A value that does not fit into a float becomes infinite: then there is no forecast. */
void etsa_calibrate(const etsa_adapter *adapter, float *quantiles, uint32_t steps, uint32_t levels);

/* --- signature, §8 -------------------------------------------------------------------------------------------- */

/* A signature is over these 21 bytes (a zero is the last) and the blob. Keep them in front of the blob in memory, so
 * that neither is copied. */
#define ETSA_PREFIX "edge-tsfm adapter v1"
#define ETSA_PREFIX_SIZE 21u

/* Ed25519 (RFC 8032) verification: true only for a good signature. etsa_ed25519.h has two to link. etsa_verify has checked
 * the encodings before: S is below the order, R and the key are in canonical encoding and not of small order. The
 * verifier checks the rest of §8: that R and the key have prime order. */
typedef bool etsa_ed25519(const uint8_t signature[64], const uint8_t *message, size_t size, const uint8_t key[32]);

/* message: ETSA_PREFIX, then the blob of blob_size bytes. signatures: 80 bytes each, one to eight; behind the blob or
 * from a file of their own. key: a trusted public key. ETSA_SIGNATURE_ERROR unless that key signed exactly these
 * bytes; signatures of other keys, versions and algorithms are ignored. */
etsa_err etsa_verify(const uint8_t *message, uint32_t blob_size, const uint8_t *signatures, size_t signatures_size,
                     const uint8_t key[32], etsa_ed25519 *verify);

/* --- the generator, §5: for sampling, tools and tests ------------------------------------------------------------- */

/* count different entries of a [rows, columns] spectrum, ascending; count <= rows * columns / 2. */
void etsa_entries(uint32_t seed, uint32_t rows, uint32_t columns, uint32_t count, int64_t *entries);
/* VeRA's projection (stream 2: A, 3: B) at rank k and position j: an odd integer, 4096 times the value. */
int32_t etsa_projection(uint32_t seed, uint32_t stream, uint32_t k, uint32_t j);
/* The number in [0, 1) with which Chronos-T5's path draws its token of a step, §7. */
float etsa_uniform(uint32_t seed, uint32_t path, uint32_t step);

/* SHA-256 (FIPS 180-4): etsa_sha256.c has it; a device with a hardware engine defines these three itself instead. */
typedef struct etsa_sha256_state {
    uint32_t h[8];
    uint64_t size; /* bytes so far */
    uint8_t block[64];
} etsa_sha256_state;
void etsa_sha256_start(etsa_sha256_state *state);
void etsa_sha256_add(etsa_sha256_state *state, const uint8_t *data, size_t size);
void etsa_sha256_end(etsa_sha256_state *state, uint8_t digest[32]);

#ifdef __cplusplus
}
#endif

#endif
