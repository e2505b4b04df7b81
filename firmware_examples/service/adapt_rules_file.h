/* What a service may learn, as edge-tsfm-hand-over wrote it: settings and signed envelope of the monitor, verified there,
 * resolved into one file of plain lines (device_runtime/update/service_adapt.py). */
#ifndef ADAPT_RULES_FILE_H
#define ADAPT_RULES_FILE_H

#include "etsa_adapt.h"
#include "forecaster.h"

#define AR_FILE "rules" /* in the folder of adaptation */
#define AR_MAX_TENSORS ETL_BIASES

typedef struct ar_rules {
    uint8_t base[32], learning[32]; /* SHA-256 of bundle.json and learning.json */
    bool has_parent;
    uint8_t parent[32];             /* SHA-256 of the adapter's blob that it is learnt on; has_parent false: the base alone */
    uint64_t envelope;              /* its sequence */
    uint64_t generation;            /* of the last blob that was made here */
    bool by_device;                 /* a candidate that has passed is promoted by the service, not by hand */
    eta_config config;              /* rules bounded by the envelope; moves is set by the caller, from tensors */
    uint32_t tensors[AR_MAX_TENSORS], tensor_count; /* that may move, in the base's table */
    char signal[ETSA_MAX_NAME_SIZE + 1], code[ETSA_MAX_CODE_SIZE + 1], unit[ETSA_MAX_CODE_SIZE + 1];
    uint64_t interval_us;
    float low, high;      /* of the binding */
    int64_t gap_steps;
    double ms_per_minute; /* most time for learning */
    uint64_t kib_per_day; /* most that learning writes */
    double level, spread; /* typical of the signal: for a known answer */
} ar_rules;

/* Read DIR/rules. *there is false where there is no such file: then nothing is learnt. ETSA_CHECKSUM_ERROR for a damaged one,
 * ETSA_FORMAT_ERROR for lines that are missing or mean nothing, ETSA_SETTINGS_ERROR for a rule out of its bounds. */
etsa_err ar_load(const char *folder, ar_rules *rules, bool *there, fc_message message);

#endif
