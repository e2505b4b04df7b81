#include "etsa_adapt_clean.h"

#include <math.h>

#define KEPT_SHARE 0.95 /* of the changes, the smaller ones: a trimmed mean */

#ifdef __FAST_MATH__
#error "missing values are NaN: compile without -ffast-math"
#endif

static double rounded(double value)
{
    volatile double stored = value;
    return stored;
}

static bool missing(float value) { return value != value; }

static void sink(double *heap, uint32_t place, uint32_t count)
{
    double moved = heap[place];
    for (uint32_t child = 2 * place + 1; child < count; child = 2 * place + 1) {
        if (child + 1 < count && heap[child + 1] > heap[child]) child++;
        if (!(heap[child] > moved)) break;
        heap[place] = heap[child];
        place = child;
    }
    heap[place] = moved;
}

/* Heapsort: no memory, no recursion, no bad case. */
static void sort(double *x, uint32_t count)
{
    for (uint32_t i = count / 2; i > 0; i--) sink(x, i - 1, count);
    for (uint32_t end = count; end > 1; end--) {
        double most = x[0];
        x[0] = x[end - 1];
        x[end - 1] = most;
        sink(x, 0, end - 1);
    }
}

/* The place of the next observed value from `place` on; `count` where there is none. */
static uint32_t seen_from(const float *x, uint32_t place, uint32_t count)
{
    while (place < count && missing(x[place])) place++;
    return place;
}

static uint32_t out_of_range(float *x, uint32_t count, float low, float high)
{
    uint32_t gone = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (missing(x[i]) || (x[i] >= low && x[i] <= high && !isinf(x[i]))) continue;
        x[i] = NAN;
        gone++;
    }
    return gone;
}

/* The change that is none of the signal's own: `seen` values, at least 3. */
static double largest_change(const float *x, uint32_t count, uint32_t seen, const eta_clean_rules *rules, double *scratch)
{
    uint32_t changes = 0, before = seen_from(x, 0, count);
    for (uint32_t i = seen_from(x, before + 1, count); i < count; i = seen_from(x, i + 1, count)) {
        scratch[changes++] = fabs((double)x[i] - (double)x[before]);
        before = i;
    }
    sort(scratch, changes);
    /* Many vital signs keep still for most steps, so a median change would be 0. */
    uint32_t kept = (uint32_t)(KEPT_SHARE * changes);
    double sum = 0;
    if (kept < 1) kept = 1;
    for (uint32_t i = 0; i < kept; i++) sum += scratch[i];
    double by_spread = rounded(rules->jump_spreads * rounded(sum / kept));
    uint32_t values = 0;
    for (uint32_t i = seen_from(x, 0, count); i < count; i = seen_from(x, i + 1, count)) scratch[values++] = (double)x[i];
    sort(scratch, seen);
    volatile float median = (float)scratch[seen / 2]; /* in float32, as numpy's of float32 is */
    if (seen % 2 == 0) {
        volatile float both = (float)scratch[seen / 2 - 1] + median;
        median = both / 2;
    }
    double by_share = rounded(rules->jump_share * fabs((double)median));
    return by_share > by_spread ? by_share : by_spread;
}

static bool near(const float *x, uint32_t a, uint32_t b, double limit) { return fabs((double)x[a] - (double)x[b]) <= limit; }

/* Values that left the last good one and came back. One that stayed away is a new level. */
static uint32_t excursions(float *x, uint32_t count, uint32_t jump_steps, double limit)
{
    uint32_t gone = 0, good = seen_from(x, 0, count), place = seen_from(x, good + 1, count);
    while (place < count) {
        uint32_t back = place;
        if (!near(x, place, good, limit)) {
            back = seen_from(x, place + 1, count);
            while (back < count && back - place < jump_steps && !near(x, back, good, limit))
                back = seen_from(x, back + 1, count);
            if (back >= count || !near(x, back, good, limit)) back = place;
        }
        for (uint32_t i = place; i < back; i++) {
            gone += missing(x[i]) ? 0u : 1u;
            x[i] = NAN;
        }
        good = back;
        place = seen_from(x, good + 1, count);
    }
    return gone;
}

/* Runs of more than `most` equal values, but the first of each; values that are missing do not end a run. */
static uint32_t flat(float *x, uint32_t count, uint32_t most)
{
    uint32_t gone = 0;
    for (uint32_t start = seen_from(x, 0, count), next = start; start < count; start = next) {
        uint32_t length = 0;
        while (next < count && !(x[next] < x[start] || x[next] > x[start])) {
            next = seen_from(x, next + 1, count);
            length++;
        }
        for (uint32_t i = start + 1; length > most && i < next; i++) {
            gone += missing(x[i]) ? 0u : 1u;
            x[i] = NAN;
        }
    }
    return gone;
}

void eta_clean(float *x, uint32_t count, const eta_clean_rules *rules, float low, float high, double *scratch,
               eta_counts *counts)
{
    uint32_t seen = 0;
    for (uint32_t i = 0; i < count; i++) seen += missing(x[i]) ? 0u : 1u;
    *counts = (eta_counts){.values = seen, .out_of_range = out_of_range(x, count, low, high)};
    seen -= (uint32_t)counts->out_of_range;
    if (seen > 2) counts->jumps = excursions(x, count, rules->jump_steps, largest_change(x, count, seen, rules, scratch));
    counts->flat = flat(x, count, rules->flat_steps);
}
