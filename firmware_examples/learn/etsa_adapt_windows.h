/* Windows of finished stays, and numbers to draw them by: the Python runtime's device_runtime/adapt/windows.py and
 * draws.py. A window is kept as the decoder's state for its context, which no bias of the output block changes: learning
 * from it again runs no graph (docs/adr/0032-the-output-block-in-c.md). No malloc, no I/O; of the C library only sqrt.
 */
#ifndef ETSA_ADAPT_WINDOWS_H
#define ETSA_ADAPT_WINDOWS_H

#include "etsa_learn.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Random whole numbers by a seed and how many were drawn: the same as Python's on every machine. */
typedef struct eta_draws {
    uint64_t seed, drawn;
} eta_draws;

/* A number from 0 to limit - 1. */
uint32_t eta_draw(eta_draws *d, uint32_t limit);

/* Put the first min(count, limit) of a random order of 0 to limit - 1 at the start of order[limit]; returns how many. */
uint32_t eta_sample(eta_draws *d, uint32_t *order, uint32_t limit, uint32_t count);

/* How windows are cut out of a stay. */
typedef struct eta_cut {
    uint32_t context_length, steps; /* of a context and of a target */
    uint32_t stride, min_observed;  /* cutoffs at min_observed and every stride steps behind it */
} eta_cut;

/* The cutoffs of the windows of a stay x[count] in their order: a context has at least min_observed values, a target at
 * least one. `cutoffs`: room for count / stride + 1. Returns how many. */
uint32_t eta_cutoffs(const float *x, uint32_t count, const eta_cut *cut, uint32_t *cutoffs);

/* The context [context_length] that ends before a cutoff, padded with NaN on the left. */
void eta_context(const float *x, uint32_t cutoff, uint32_t context_length, float *context);

/* Clip target[steps] at `spreads` standard deviations from its context's mean; behind a constant context it stays. Where a
 * target was clipped, Python's may differ in the last place. */
void eta_clip_target(const float *context, uint32_t context_length, float *target, uint32_t steps, double spreads);

/* Windows in memory: states, and what etl_window wants beside them. */
typedef struct eta_windows {
    uint32_t most, state_size, steps;
    float *states;  /* [most][state_size] */
    float *targets; /* [most][steps] */
    float *scales;  /* [most][2]: loc and scale */
    uint8_t *varies; /* [most] */
} eta_windows;

/* Bytes for one window, and a view of one for etl_gradient and etl_forecast. */
size_t eta_window_size(uint32_t state_size, uint32_t steps);
etl_window eta_window(const eta_windows *w, uint32_t place);
void eta_copy_window(eta_windows *to, uint32_t place, const eta_windows *from, uint32_t other);

/* At most so many windows; when it is full a new one takes a random one's place. */
typedef struct eta_reservoir {
    eta_windows windows;
    uint32_t held;
    uint64_t seen; /* ever added */
} eta_reservoir;

void eta_reservoir_add(eta_reservoir *r, const eta_windows *from, uint32_t place, eta_draws *d);

/* Forget every window, and overwrite it: states are of a patient's values. */
void eta_reservoir_wipe(eta_reservoir *r);

#ifdef __cplusplus
}
#endif

#endif
