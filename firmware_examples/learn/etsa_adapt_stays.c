#include "etsa_adapt_stays.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define LEAST_GAP 48
#define LEAST_GAP_MS 600000 /* a gap is the longer of both, if its length is not set */
#define MAX_MS 9007199254740992 /* 2^53 */

bool eta_queue_begin(eta_queue *q, float *memory, uint32_t capacity)
{
    if (memory == NULL || capacity == 0) return false;
    *q = (eta_queue){.capacity = capacity, .values = memory};
    return true;
}

uint32_t eta_queue_oldest(const eta_queue *q, const float **values, int64_t *end_ms)
{
    if (q->count == 0) return 0;
    *values = q->values;
    *end_ms = q->stays[0].end_ms;
    return q->stays[0].steps;
}

static void blank(float *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) values[i] = 0;
}

void eta_queue_drop(eta_queue *q)
{
    if (q->count == 0) return;
    uint32_t gone = q->stays[0].steps;
    q->count--;
    q->used -= gone;
    memmove(q->values, q->values + gone, q->used * sizeof *q->values);
    memmove(q->stays, q->stays + 1, q->count * sizeof *q->stays);
    blank(q->values + q->used, gone); /* nothing of a patient stays behind */
}

void eta_queue_wipe(eta_queue *q)
{
    blank(q->values, q->used);
    q->count = q->used = 0;
}

bool eta_feed_begin(eta_feed *f, float *memory, uint32_t capacity, int64_t interval_ms, int64_t gap_steps)
{
    if (memory == NULL || capacity == 0 || interval_ms < 1 || gap_steps < 0) return false;
    int64_t gap = LEAST_GAP_MS / interval_ms;
    if (gap < LEAST_GAP) gap = LEAST_GAP;
    if (gap_steps > 0) gap = gap_steps;
    *f = (eta_feed){.interval_ms = interval_ms, .gap = gap, .capacity = capacity, .values = memory};
    return true;
}

/* Floor, and its remainder: C rounds towards zero. */
static int64_t floored(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static float *at(const eta_feed *f, int64_t step)
{
    int64_t size = (int64_t)f->capacity;
    return f->values + (step - floored(step, size) * size);
}

/* Queue the latest steps of the stay; the oldest stays give way. */
static bool finish(eta_feed *f, eta_queue *q)
{
    uint32_t steps = f->held < q->capacity ? f->held : q->capacity;
    if (f->held == 0) return false;
    while (q->count == ETA_QUEUE || steps > q->capacity - q->used) {
        eta_queue_drop(q);
        q->left_out++;
    }
    float *to = q->values + q->used;
    for (uint32_t i = 0; i < steps; i++) to[i] = *at(f, f->newest - (int64_t)(steps - 1 - i));
    q->stays[q->count].steps = steps;
    q->stays[q->count].end_ms = f->stamp;
    q->count++;
    q->used += steps;
    eta_feed_wipe(f);
    return true;
}

/* Steps without a sample up to a new newest one. */
static void go_to(eta_feed *f, int64_t step, int64_t t_ms, float value)
{
    int64_t first = f->newest + 1, least = step - (int64_t)f->capacity;
    for (int64_t missing = first > least ? first : least; missing < step; missing++) *at(f, missing) = NAN;
    int64_t held = (int64_t)f->held + (step - f->newest);
    f->held = held < (int64_t)f->capacity ? (uint32_t)held : f->capacity;
    f->newest = step;
    f->stamp = t_ms;
    *at(f, step) = value;
}

bool eta_feed_observe(eta_feed *f, eta_queue *q, int64_t t_ms, double value)
{
    if (!isfinite(value) || t_ms > MAX_MS || t_ms < -MAX_MS) return false;
    int64_t step = floored(t_ms, f->interval_ms), apart = step - f->newest;
    bool finished = f->held > 0 && (apart > f->gap || apart < -f->gap) && finish(f, q);
    if (f->held == 0) {
        f->newest = step - 1;
        go_to(f, step, t_ms, (float)value);
    } else if (apart > 0) {
        go_to(f, step, t_ms, (float)value);
    } else if (apart == 0) {
        if (t_ms > f->stamp) *at(f, step) = (float)value;
        if (t_ms > f->stamp) f->stamp = t_ms;
    } else if (-apart < (int64_t)f->held && isnan(*at(f, step))) {
        *at(f, step) = (float)value;
    }
    return finished;
}

bool eta_feed_end(eta_feed *f, eta_queue *q) { return finish(f, q); }

void eta_feed_wipe(eta_feed *f)
{
    blank(f->values, f->capacity);
    f->held = 0;
}
