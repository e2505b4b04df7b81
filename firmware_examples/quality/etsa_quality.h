/* Field quality: forecasts are remembered until their targets have come, then scored. Sums only; no malloc, no I/O.
 *
 * The same sums, evidence and flags as the Python runtime's device_runtime/quality, by the same rules
 * (docs/reference/field-quality.md). An etq_signal holds what forecasters of one signal were worth; an etq_series is one
 * feed of it, as of one bed, and what waits there. Not thread-safe: the caller holds its own lock.
 */
#ifndef ETSA_QUALITY_H
#define ETSA_QUALITY_H

#include "etsa_evidence.h"

#include <stddef.h>

#ifndef ETQ_MAX_LEVELS /* memory goes with it: a product with 9 levels defines 9 */
#define ETQ_MAX_LEVELS 64u
#endif
#define ETQ_MAX_DUE 64u /* steps that a forecast may be made after its last value: a worker that was late */
#define ETQ_DAYS 14u    /* whose totals are kept */
#define ETQ_KEPT 3u     /* forecasters of one signal whose figures are kept: those that were scored last */
#define ETQ_REPORTED 2u /* of them, that reports speak of */
#define ETQ_MAX_NAME 64u
#define ETQ_MOMENTS 6u

/* What forecasts were worth. Every figure is a ratio of two sums, so sums of any forecasts add up. */
typedef struct etq_sums {
    double windows; /* forecasts with at least one target */
    double steps;   /* scored steps */
    double missing; /* forecast steps whose target never came */
    double size;    /* sum of absolute targets */
    double inside, ranged; /* targets within the 80 % band, and of those that there is a band for */
    double scaled, scales; /* mean absolute errors of the median over their context's scale, and how many */
    double pinball[ETQ_MAX_LEVELS];
} etq_sums;

/* Who made a forecast: SHA-256 of an adapter's blob, without its signatures; all zero with is_adapter false: the frozen base. */
typedef struct etq_id {
    bool is_adapter;
    unsigned char sha256[32];
} etq_id;

enum { ETQ_BASE = 0, ETQ_PREVIOUS = 1, ETQ_OTHERS = 2 };

/* A comparison. Sums of what runs are over the same forecasts as those of the other. */
typedef struct etq_against {
    bool begun;
    etq_id by;
    etq_sums own, other;
    double moments[ETQ_MOMENTS]; /* units, and sums over them of A, B, A^2, AB, B^2 */
    bool judged;
    etq_trial trial; /* where judged */
    etq_drift drift;
    int64_t drift_since; /* ms, when the flag rose; 0: it has not */
    bool said;           /* reports speak of it, with what follows */
    etq_sums said_own, said_other;
    double said_moments[ETQ_MOMENTS];
    bool said_drift;
} etq_against;

typedef struct etq_day {
    int64_t day; /* since 1970, by the feed's clock */
    etq_sums sums;
} etq_day;

/* What one forecaster's forecasts of one signal were worth. */
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
    etq_sums said_total;   /* what reports say: renewed when min_reported more steps were scored */
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
    double min_reported;   /* scored steps behind every number that a report carries, and between two of them */
    bool judged;
    double allowed;        /* where judged: the WQL, over the base's, that an adapter may have */
} etq_rules;

typedef struct etq_slot {
    int64_t origin; /* it is of the steps behind this one */
    double scale;
    etq_id by, others[ETQ_OTHERS];
    bool has[ETQ_OTHERS];
} etq_slot;

typedef struct etq_open { /* the unit that is being filled, and whom it compares */
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
    int64_t newest, stamp; /* newest step, and the time of the value that stands for it, ms */
    uint64_t dropped;      /* forecasts that were given up */
    etq_open open[ETQ_OTHERS];
    /* caller's memory */
    uint32_t room, head, waiting, span;
    etq_slot *slots;       /* [room] */
    float *quantiles;      /* [room][forecasters][steps][level_count]: what runs, the base, the previous adapter */
    float *targets;        /* [span] */
    int64_t *target_steps; /* [span]: which step a target is of */
} etq_series;

/* Bytes that etq_init wants for forecasts of `steps` at `levels`; forecasters: 1 what runs alone, 2 with the base, 3 with
 * the previous adapter too. 0 for numbers that no forecast has. */
size_t etq_memory(uint32_t steps, uint32_t levels, uint32_t late_steps, uint32_t forecasters);

/* Begin with nothing scored. */
void etq_signal_begin(etq_signal *signal, const char *name);

/* Begin a feed with nothing waiting, in `memory` of at least etq_memory bytes, aligned as malloc aligns. False for levels
 * that do not ascend inside 0 to 1, an interval, a half-life or a ratio that is not positive, or too little memory. */
bool etq_init(etq_series *q, void *memory, size_t size, etq_signal *signal, const etq_rules *rules, int64_t interval_ms,
              uint32_t steps, const double *levels, uint32_t level_count, uint32_t forecasters);

/* One good value; one that is not finite, or of a time beyond 2^53 ms, is none. Of the newest step the value with the
 * latest time stamp stands for it; an earlier step that is still missing is filled; anything else is dropped. Scores the
 * forecasts whose targets are in. */
void etq_observe(etq_series *q, int64_t t_ms, float value);

/* The stay is over, or the clock was set: score what waits with what came, and begin anew with the next value. */
void etq_end_stay(etq_series *q);

/* Mean absolute change of a context over neighbours that are both observed; 0 without any. NaN is missing. */
double etq_scale(const float *context, size_t length);

/* A forecast, and who made it. */
typedef struct etq_made {
    etq_id by;
    const float *quantiles; /* [steps][level_count]; NULL: it made none */
} etq_made;

/* Remember a forecast of the steps behind `origin`, and those that others made from the same context (NULL: nobody did).
 * A second one of an origin replaces the first. */
void etq_remember(etq_series *q, int64_t origin, double scale, const etq_made *runs, const etq_made others[ETQ_OTHERS]);

/* A forecaster's figures; NULL where none of its forecasts was scored. */
const etq_scored *etq_find(const etq_signal *signal, const etq_id *by);
bool etq_same(const etq_id *a, const etq_id *b);

/* Figures; NaN where nothing was scored. */
double etq_wql(const etq_sums *sums, uint32_t level_count);
double etq_mase(const etq_sums *sums);
double etq_coverage(const etq_sums *sums);
double etq_missing(const etq_sums *sums);
/* How much higher the WQL of what runs is than the other's, in percent. */
double etq_percent(const etq_against *against, uint32_t level_count);
/* What the evidence says, where the figures say it too and at least min_scored steps were scored: one without the other
 * decides nothing. */
etq_verdict etq_judge(const etq_against *against, uint32_t level_count, double min_scored);

#endif
