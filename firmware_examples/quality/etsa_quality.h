/* Field quality: forecasts are remembered until their targets have come, then scored. Sums only; no malloc, no I/O.
 *
 * The same sums as the Python runtime's device_runtime/quality, by the same rules (docs/reference/field-quality.md). One
 * etq_series is one feed of one signal. Not thread-safe: the caller holds its own lock.
 */
#ifndef ETSA_QUALITY_H
#define ETSA_QUALITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ETQ_MAX_LEVELS 64u
#define ETQ_MAX_DUE 64u /* steps that a forecast may be made after its last value: a worker that was late */

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

typedef struct etq_slot {
    int64_t origin; /* it is of the steps behind this one */
    double scale;
    bool has_base;
} etq_slot;

typedef struct etq_series {
    int64_t interval_ms;
    uint32_t steps, late_steps, level_count;
    double levels[ETQ_MAX_LEVELS];
    double half_life_ms; /* of `recent` */
    bool begun;
    int64_t newest, stamp; /* newest step, and the time of the value that stands for it, ms */
    etq_sums total;        /* of what runs */
    etq_sums recent;       /* the same, halved every half_life_ms of the feed's time */
    int64_t recent_at;
    etq_sums own, base;    /* of what runs and of the frozen base, over the forecasts that both made */
    uint64_t dropped;      /* forecasts that were given up */
    /* caller's memory */
    uint32_t room, head, waiting, span;
    etq_slot *slots;       /* [room] */
    float *quantiles;      /* [room][2][steps][level_count]: of what runs, then of the base */
    float *targets;        /* [span] */
    int64_t *target_steps; /* [span]: which step a target is of */
} etq_series;

/* Bytes that etq_init wants for forecasts of `steps` at `levels`; 0 for numbers that no forecast has. */
size_t etq_memory(uint32_t steps, uint32_t levels, uint32_t late_steps);

/* Begin with nothing scored, in `memory` of at least etq_memory bytes, aligned as malloc aligns. False for levels that do
 * not ascend inside 0 to 1, an interval or a half-life that is not positive, or too little memory. */
bool etq_init(etq_series *q, void *memory, size_t size, int64_t interval_ms, uint32_t steps, const double *levels,
              uint32_t level_count, uint32_t late_steps, double half_life_ms);

/* Forget every score and what waits: another adapter runs from now on. */
void etq_reset(etq_series *q);

/* One good value; one that is not finite, or of a time beyond 2^53 ms, is none. Of the newest step the value with the latest time stamp stands for it; an earlier step that is still
 * missing is filled; anything else is dropped. Scores the forecasts whose targets are in. */
void etq_observe(etq_series *q, int64_t t_ms, float value);

/* The stay is over, or the clock was set: score what waits with what came, and begin anew with the next value. */
void etq_end_stay(etq_series *q);

/* Mean absolute change of a context over neighbours that are both observed; 0 without any. NaN is missing. */
double etq_scale(const float *context, size_t length);

/* Remember a forecast of the steps behind `origin`: quantiles [steps][level_count], and those of the frozen base from the
 * same context where it forecast too, else NULL. A second one of an origin replaces the first. */
void etq_remember(etq_series *q, int64_t origin, double scale, const float *quantiles, const float *base);

/* Figures; NaN where nothing was scored. */
double etq_wql(const etq_sums *sums, uint32_t level_count);
double etq_mase(const etq_sums *sums);
double etq_coverage(const etq_sums *sums);
double etq_missing(const etq_sums *sums);

#endif
