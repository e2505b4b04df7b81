/* Field quality: forecasts are kept until their targets have arrived, then scored. Sums only; no malloc, no I/O.
 *
 * The same sums, evidence and flags as the Python runtime's device_runtime/quality, by the same rules
 * (docs/reference/field-quality.md). An etq_signal has the scores of the forecasters of one signal; an etq_series is one
 * feed of it, of one bed for example, with its pending forecasts. Not thread-safe: the caller holds its own lock.
 */
#ifndef ETSA_QUALITY_H
#define ETSA_QUALITY_H

#include "etsa_evidence.h"

#include <stddef.h>

#ifndef ETQ_MAX_LEVELS /* memory is proportional to it: a product with 9 levels defines 9 */
#define ETQ_MAX_LEVELS 64u
#endif
#define ETQ_MAX_DUE 64u /* most steps by which a forecast may be made late, after its last value */
#define ETQ_DAYS 14u    /* whose totals are kept */
#define ETQ_KEPT 3u     /* forecasters of one signal whose figures are kept: those that were scored last */
#define ETQ_REPORTED 2u /* of them, the ones in reports */
#define ETQ_MAX_NAME 64u
#define ETQ_MOMENTS 6u

/* Scores of forecasts. Every figure is a ratio of two sums, so the sums of any forecasts can be added up. */
typedef struct etq_sums {
    double windows; /* forecasts with at least one target */
    double steps;   /* scored steps */
    double missing; /* forecast steps whose target never arrived */
    double size;    /* sum of absolute targets */
    double inside, ranged; /* targets within the 80 % interval, and targets that have one */
    double scaled, scales; /* mean absolute errors of the median divided by their context's scale, and their number */
    double pinball[ETQ_MAX_LEVELS];
} etq_sums;

/* Who made a forecast: SHA-256 of an adapter's blob, without its signatures; all zero with is_adapter false: the frozen base. */
typedef struct etq_id {
    bool is_adapter;
    unsigned char sha256[32];
} etq_id;

enum { ETQ_BASE = 0, ETQ_PREVIOUS = 1, ETQ_OTHERS = 2 };

/* A comparison. The sums of the running adapter are over the same forecasts as those of the other. */
typedef struct etq_against {
    bool begun;
    etq_id by;
    etq_sums own, other;
    double moments[ETQ_MOMENTS]; /* units, and sums over them of A, B, A^2, AB, B^2 */
    bool judged;
    etq_trial trial; /* where judged */
    etq_drift drift;
    int64_t drift_since; /* ms, when the flag was set; 0: it is not */
    bool said;           /* reports include it, with what follows */
    etq_sums said_own, said_other;
    double said_moments[ETQ_MOMENTS];
    bool said_drift;
} etq_against;

typedef struct etq_day {
    int64_t day; /* since 1970, by the feed's clock */
    etq_sums sums;
} etq_day;

/* The scores of one forecaster on one signal. */
typedef struct etq_scored {
    etq_id by;
    uint32_t level_count;
    double levels[ETQ_MAX_LEVELS];
    int64_t since, until;  /* ms, of the first and the last scored target */
    etq_sums total;
    etq_sums recent;       /* the same, halved every half-life of the feed's time */
    uint32_t day_count;
    etq_day days[ETQ_DAYS]; /* ascending */
    etq_against against[ETQ_OTHERS];
    bool said;
    etq_sums said_total;   /* the reported figures: updated when min_reported more steps were scored */
} etq_scored;

/* One signal's forecasters; the one that was scored last is last. */
typedef struct etq_signal {
    char name[ETQ_MAX_NAME + 1];
    uint32_t count;
    etq_scored held[ETQ_KEPT];
} etq_signal;

typedef struct etq_rules {
    uint32_t late_steps;   /* steps that a forecast waits for late samples once its last target's step has begun */
    double half_life_ms;
    bool whole_stay;       /* a unit of evidence is a stay, not a block of two horizons */
    double min_reported;   /* least scored steps behind every figure in a report, and between two reports' figures */
    bool judged;
    double allowed;        /* where judged: the WQL, over the base's, that an adapter may have */
} etq_rules;

typedef struct etq_slot {
    int64_t origin; /* the forecast covers the steps after this one */
    double scale;
    etq_id by, others[ETQ_OTHERS];
    bool has[ETQ_OTHERS];
} etq_slot;

typedef struct etq_open { /* the current unit, and what it compares */
    etq_unit unit;
    bool known;
    etq_id by, other;
} etq_open;

typedef struct etq_series {
    etq_signal *signal; /* where its scores go; several feeds may share one */
    etq_rules rules;
    int64_t interval_ms;
    uint32_t steps, level_count, forecasters;
    double levels[ETQ_MAX_LEVELS];
    bool begun;
    int64_t newest, stamp; /* newest step, and the time of the value used for it, ms */
    uint64_t dropped;      /* forecasts that were dropped */
    etq_open open[ETQ_OTHERS];
    /* caller's memory */
    uint32_t room, head, waiting, span;
    etq_slot *slots;       /* [room] */
    float *quantiles;      /* [room][forecasters][steps][level_count]: what runs, the base, the previous adapter */
    float *targets;        /* [span] */
    int64_t *target_steps; /* [span]: which step a target is of */
} etq_series;

/* Bytes that etq_init needs for forecasts of `steps` at `levels`; forecasters: 1 the running one alone, 2 with the base,
 * 3 with the previous adapter too. 0 for impossible numbers. */
size_t etq_memory(uint32_t steps, uint32_t levels, uint32_t late_steps, uint32_t forecasters);

/* Begin with nothing scored. */
void etq_signal_begin(etq_signal *signal, const char *name);

/* Begin a feed with nothing waiting, in `memory` of at least etq_memory bytes, aligned as malloc aligns. False for levels
 * that do not ascend inside 0 to 1, an interval, a half-life or a ratio that is not positive, or too little memory. */
bool etq_init(etq_series *q, void *memory, size_t size, etq_signal *signal, const etq_rules *rules, int64_t interval_ms,
              uint32_t steps, const double *levels, uint32_t level_count, uint32_t forecasters);

/* One good value; one that is not finite, or of a time beyond 2^53 ms, is ignored. For the newest step the value with the
 * latest timestamp is used; an earlier step that is still missing is filled; any other is dropped. Scores the forecasts
 * whose targets have arrived. */
void etq_observe(etq_series *q, int64_t t_ms, float value);

/* The stay is over, or the clock was set: score pending forecasts with the targets that arrived, and restart with the
 * next value. */
void etq_end_stay(etq_series *q);

/* Mean absolute difference of neighbouring observed values of a context; 0 without any. NaN is missing. */
double etq_scale(const float *context, size_t length);

/* A forecast, and who made it. */
typedef struct etq_made {
    etq_id by;
    const float *quantiles; /* [steps][level_count]; NULL: it made none */
} etq_made;

/* Keep a forecast of the steps after `origin`, and those that others made from the same context (NULL: none). A second
 * one for an origin replaces the first. */
void etq_remember(etq_series *q, int64_t origin, double scale, const etq_made *runs, const etq_made others[ETQ_OTHERS]);

/* A forecaster's figures; NULL if none of its forecasts was scored. */
const etq_scored *etq_find(const etq_signal *signal, const etq_id *by);
bool etq_same(const etq_id *a, const etq_id *b);

/* Figures; NaN if nothing was scored. */
double etq_wql(const etq_sums *sums, uint32_t level_count);
double etq_mase(const etq_sums *sums);
double etq_coverage(const etq_sums *sums);
double etq_missing(const etq_sums *sums);
/* By how many percent the WQL of the running adapter is above the other's. */
double etq_percent(const etq_against *against, uint32_t level_count);
/* The verdict: the evidence and the figures must agree, and at least min_scored steps must have been scored. */
etq_verdict etq_judge(const etq_against *against, uint32_t level_count, double min_scored);

#endif
