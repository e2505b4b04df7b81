/* From a feed of samples to the values of finished stays: the Python runtime's device_runtime/update/stays.py.
 *
 * A stay is the part of a series between two ends: an event, another item (both: eta_feed_end), a gap, or a clock that was
 * set (both found by eta_feed_observe). Steps are floor(t / interval): for the newest step the sample with the latest
 * timestamp is used, a late sample fills an earlier step that is still missing, any other is dropped.
 *
 * No malloc, no I/O. One feed for each series, as a bed; one queue for all of a signal. Neither is thread-safe: the caller
 * holds its own lock.
 */
#ifndef ETSA_ADAPT_STAYS_H
#define ETSA_ADAPT_STAYS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ETA_MAX_STAY 8192u /* latest steps of a stay that are used: 32 KB */
#define ETA_QUEUE 32u      /* finished stays that wait for an idle moment; the oldest gives way */

/* Finished stays that wait. */
typedef struct eta_queue {
    uint64_t left_out; /* stays that no idle moment came for */
    uint32_t count, used, capacity;
    float *values; /* caller's memory [capacity], of which `used` are taken: the stays one behind the other */
    struct {
        uint32_t steps;
        int64_t end_ms;
    } stays[ETA_QUEUE];
} eta_queue;

/* Start empty. Python holds 32 stays of any length; with less than 32 * ETA_MAX_STAY floats the oldest give way earlier. A
 * single stay that is longer than `capacity` loses its beginning. False for a capacity of 0. */
bool eta_queue_begin(eta_queue *q, float *memory, uint32_t capacity);

/* The oldest stay: its values [return], NaN for missing, and when it ended; 0 where none waits. The values stay valid until
 * the queue is used again; eta_queue_drop removes the stay. */
uint32_t eta_queue_oldest(const eta_queue *q, const float **values, int64_t *end_ms);
void eta_queue_drop(eta_queue *q);

/* Forget every stay, and overwrite its values: they are a patient's. */
void eta_queue_wipe(eta_queue *q);

/* One series: the stay that goes on. */
typedef struct eta_feed {
    int64_t interval_ms, gap; /* so many steps without a sample end a stay */
    int64_t newest;           /* step of the newest sample, where held > 0 */
    int64_t stamp;            /* ms, of that sample */
    uint32_t held, capacity;  /* steps up to the newest */
    float *values;            /* caller's memory [capacity]: step s at s modulo capacity */
} eta_feed;

/* Start without a stay. gap_steps 0: 48, or as many as 10 minutes have. The latest `capacity` steps of a stay are held:
 * ETA_MAX_STAY for the same windows as Python. False for an interval below 1 ms, a negative gap, or a capacity of 0. */
bool eta_feed_begin(eta_feed *f, float *memory, uint32_t capacity, int64_t interval_ms, int64_t gap_steps);

/* Take a sample; a stay that it shows to be over is queued. Values that are not finite, and times beyond 2^53 ms, are
 * ignored. True if a stay was queued. */
bool eta_feed_observe(eta_feed *f, eta_queue *q, int64_t t_ms, double value);

/* The stay is over: an event said so, or another item begins. True if there was one. */
bool eta_feed_end(eta_feed *f, eta_queue *q);

/* Forget the stay that goes on, and overwrite its values. */
void eta_feed_wipe(eta_feed *f);

#ifdef __cplusplus
}
#endif

#endif
