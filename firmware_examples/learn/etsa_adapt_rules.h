/* Modes and rules of adaptation: the Python runtime's device_runtime/adapt/modes.py and rules.py, and what an envelope
 * does to both. Plain structs and pure functions; reading settings and envelopes is the caller's.
 */
#ifndef ETSA_ADAPT_RULES_H
#define ETSA_ADAPT_RULES_H

#include "etsa_learn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In this order: each goes further than the one before. */
typedef enum eta_mode {
    ETA_OFF = 0,
    ETA_SHADOW = 1,  /* learns, and forecasts unseen beside what runs */
    ETA_BOUNDED = 2, /* also moves forecasts by the stream's offsets and width factor (etsa_following.h) */
    ETA_ACTIVE = 3   /* also forecasts with what was learnt, once the evidence is there */
} eta_mode;

typedef struct eta_may {
    bool learn, track, promote;
} eta_may;
eta_may eta_mode_may(eta_mode mode);

/* [adapt.clean]: which values are no readings. */
typedef struct eta_clean_rules {
    double jump_spreads; /* a change above so many mean ones of the stay is a jump, 1 to 100, ... */
    double jump_share;   /* ... if it is also above this share of the stay's median, 0 to 10 */
    uint32_t jump_steps; /* an excursion that returns within so many steps is an artefact, 1 to 1,000 */
    uint32_t flat_steps; /* more equal values in a row: a stuck sensor, 0 to 100,000; 0: 120, or those of 10 minutes */
} eta_clean_rules;

/* [adapt]: as Python's AdaptRules. Where 0 is allowed and says so, eta_rules_at chooses by the interval. */
typedef struct eta_rules {
    eta_mode mode;
    uint32_t windows;        /* kept to learn from again, 32 to 8,192 */
    uint32_t new_windows;    /* of the new stay in each batch, 1 to 64, at most `batch` */
    uint32_t kept_windows;   /* of each stay that are kept, 1 to 512 */
    bool keep_on_disk;       /* windows are in eta_save's bytes, too */
    uint32_t stride;         /* steps between two windows to learn from, 0 (chosen) to 1,024 */
    uint32_t steps;          /* of Adam for each stay, 0 (chosen) to 64 */
    uint32_t batch;          /* windows in a step, 4 to 256, at most `windows` */
    uint32_t first_windows;  /* no step before so many were seen, 0 (chosen) to 4,096 */
    etl_rules learning;      /* rate and average: 0 is chosen */
    double clip_spreads;     /* targets are clipped at so many standard deviations of their context, 1 to 20 */
    uint32_t scored_windows; /* most scored windows of each stay, 1 to 512 */
    double promote_evidence; /* 10 to 1e9 */
    uint32_t promote_stays;  /* 0 (chosen) to 100,000 */
    double demote_evidence;  /* 2 to 1e9 */
    bool long_stream;        /* also track offsets */
    double offset_rate;      /* 0 to 0.01 */
    double width_rate;       /* 0 to 0.5 */
    double cap_tracking;     /* 0.01 to 0.5 */
    uint32_t seed;           /* for drawing windows, below 2^31 */
    eta_clean_rules clean;
} eta_rules;

/* The defaults of [adapt]; mode off. */
eta_rules eta_rules_default(void);

/* The name of the first setting that is out of its bounds; NULL if all are within them. */
const char *eta_rules_check(const eta_rules *rules);

/* The same with a value for everything that was left to be chosen: by the interval, and the steps of a forecast. */
eta_rules eta_rules_at(const eta_rules *rules, int64_t interval_ms, uint32_t steps);

/* The rules of a monitor under an envelope: the envelope's, with the tighter caps, the higher evidence and the less kept of
 * both; `mode` is the monitor's. Check the result with eta_rules_check. */
eta_rules eta_rules_bounded(const eta_rules *envelope, const eta_rules *settings);

/* How far a monitor may go whose settings say `mode`. Without an envelope (most NULL) shadow is the furthest; `named`: the
 * person who enables it is one of those that the envelope names. */
eta_mode eta_mode_allowed(eta_mode mode, const eta_mode *most, bool named);

#ifdef __cplusplus
}
#endif

#endif
