/* Tracking of one patient's stream: calibration offsets by quantile tracking, and one factor for the width.
 *
 * The Python runtime's device_runtime/adapt/tracking.py, bit for bit on every processor and whatever flags you compile
 * with (all but -ffast-math, which the compiler refuses): only + - * / and comparisons, each rounded once to double in
 * the order that is written there. No malloc, no libm, no other file. You own the struct; its memory for 6
 * steps at 9 levels is etst_memory(6, 9) = 432 bytes, for 64 steps 4,608.
 */
#ifndef ETSA_TRACKING_H
#define ETSA_TRACKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ETST_MAX_NUMBERS 4096u /* offsets: 32 KB */
#define ETST_MAX_LEVELS 64u

typedef struct etst_tracking {
    double levels[ETST_MAX_LEVELS];
    uint32_t level_count, steps, median; /* median: the level's place */
    double offset_rate, width_rate, cap;
    double factor;    /* on the width, within 1 +- cap */
    uint64_t updates; /* forecasts learnt from */
    double *offsets;  /* caller's memory [steps][level_count], in widths between the outermost levels, within +- cap */
} etst_tracking;

/* Bytes of offsets; 0 for impossible numbers. */
size_t etst_memory(uint32_t steps, uint32_t level_count);

/* Start with no change to forecasts. `offsets`: at least etst_memory bytes. False for levels that do not ascend
 * in (0, 1) with 0.5 between two others, and for rates (0 to 1) or a cap (above 0, below 1) out of range. */
bool etst_init(etst_tracking *t, double *offsets, size_t size, const double *levels, uint32_t level_count, uint32_t steps,
               double offset_rate, double width_rate, double cap);

/* Move ascending quantiles [steps][level_count], in place, behind the blob's own calibration, and sort each step's. A
 * value that does not fit into a float becomes infinite: refuse it. False, without a change, for more steps than given. */
bool etst_apply(const etst_tracking *t, float *quantiles, uint32_t steps);

/* Learn from a forecast that etst_apply returned, once its targets [steps] have arrived; NaN is missing. A step without a
 * target, or whose levels are all equal, changes nothing. */
bool etst_learn(etst_tracking *t, const float *issued, const float *target, uint32_t steps);

/* Reset at the end of a stay. */
void etst_reset(etst_tracking *t);

/* After restoring `offsets`, `factor` and `updates` from storage: whether they are within the cap. */
bool etst_is_whole(const etst_tracking *t);

#ifdef __cplusplus
}
#endif

#endif
