/* What the modes "bounded" and "active" do to the forecasts of one stream: etsa_tracking with the forecasts that wait for
 * their targets, the Python runtime's device_runtime/update/following.py bit for bit. It changes quantiles, never an
 * adapter, learns from the forecasts as they were issued, and forgets everything at the end of a stay.
 *
 * No malloc, no I/O, no libm. One for each series, as a bed. Not thread-safe.
 */
#ifndef ETSA_ADAPT_FOLLOWING_H
#define ETSA_ADAPT_FOLLOWING_H

#include "etsa_adapt_rules.h"
#include "etsa_tracking.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A forecast that waits: of the steps behind its origin. */
typedef struct eta_waiting {
    int64_t origin;
    uint32_t steps;
} eta_waiting;

/* The value of a step that a waiting forecast is of. */
typedef struct eta_target {
    bool held;
    int64_t step;
    float value;
} eta_target;

typedef struct eta_following {
    etst_tracking tracking;   /* `updates` and `factor`: what a report of a moved forecast states */
    int64_t interval_ms;
    uint32_t late_steps;      /* a forecast is learnt from so many steps after the one behind its last target */
    bool followed;            /* a forecast was moved in this stay */
    bool begun;               /* `newest` is set */
    int64_t newest, stamp;    /* the newest step, and when its sample was taken, ms */
    uint32_t reach;           /* steps behind the newest within which a sample is late; beyond, the clock was set back */
    uint64_t made;            /* forecasts that were offered; all wait, where memory holds them, else one in so many */
    uint32_t room, head, count;
    /* in the caller's memory */
    float *quantiles;         /* [room][steps][level_count] */
    float *moved;             /* [steps][level_count] */
    float *arrived;           /* [steps] */
    eta_waiting *waiting;     /* [room], the oldest at head */
    eta_target *targets;      /* [steps + late_steps + 2]: step s at s modulo that */
} eta_following;

/* Bytes that it needs beside its struct; 0 for impossible numbers. */
size_t eta_following_memory(uint32_t steps, uint32_t level_count, uint32_t late_steps);

/* Start with no change to forecasts of `steps` at `levels`. Offsets move only with rules.long_stream and a step every 5
 * minutes or more often. `memory` is aligned as malloc's is. False where nothing would be moved by these rules, for levels
 * that cannot be tracked, and for too little memory: then forecasts are left as they are. */
bool eta_following_begin(eta_following *f, const eta_rules *rules, int64_t interval_ms, uint32_t late_steps,
                         const double *levels, uint32_t level_count, uint32_t steps, void *memory, size_t size);

/* Take a sample of the stream; what it completes is learnt from. Values that are not finite in float32 change nothing. */
void eta_following_observe(eta_following *f, int64_t t_ms, double value);

/* Move a forecast [steps][level_count] from the step of t_ms, and wait for its targets; a forecast from a later step than the
 * newest sample's is moved and not learnt from. False where it is left as it is: more steps than at the start, or numbers
 * beyond all floats. */
bool eta_following_move(eta_following *f, int64_t t_ms, float *quantiles, uint32_t steps);

/* The stay is over: forget the person. */
void eta_following_end(eta_following *f);

#ifdef __cplusplus
}
#endif

#endif
