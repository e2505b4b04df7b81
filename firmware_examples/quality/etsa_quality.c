#include "etsa_quality.h"

#include <math.h>
#include <string.h>

#define LEAST_REACH 64 /* steps behind the newest within which a value is late, and not of a clock that was set back */
#define MOST_STEPS 65536u
#define MOST_MS ((int64_t)1 << 53) /* a time beyond it is none: sums of two of them must not overflow */

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static uint32_t room_of(uint32_t steps, uint32_t late_steps) { return steps + late_steps + 2u; }

static size_t aligned(size_t size) { return (size + 15u) & ~(size_t)15u; }

size_t etq_memory(uint32_t steps, uint32_t levels, uint32_t late_steps)
{
    if (steps < 1 || steps > MOST_STEPS || levels < 1 || levels > ETQ_MAX_LEVELS || late_steps > MOST_STEPS) return 0;
    size_t room = room_of(steps, late_steps), span = room + ETQ_MAX_DUE;
    return aligned(room * sizeof(etq_slot)) + aligned(room * 2 * steps * levels * sizeof(float)) +
           aligned(span * sizeof(float)) + aligned(span * sizeof(int64_t));
}

static void forget_targets(etq_series *q)
{
    for (uint32_t i = 0; i < q->span; i++) q->target_steps[i] = INT64_MIN;
}

static void restart(etq_series *q)
{
    q->dropped += q->waiting;
    q->waiting = 0;
    q->begun = false;
    forget_targets(q);
}

void etq_reset(etq_series *q)
{
    memset(&q->total, 0, sizeof q->total);
    memset(&q->recent, 0, sizeof q->recent);
    memset(&q->own, 0, sizeof q->own);
    memset(&q->base, 0, sizeof q->base);
    q->recent_at = INT64_MIN;
    q->waiting = 0;
}

bool etq_init(etq_series *q, void *memory, size_t size, int64_t interval_ms, uint32_t steps, const double *levels,
              uint32_t level_count, uint32_t late_steps, double half_life_ms)
{
    size_t wanted = etq_memory(steps, level_count, late_steps);
    if (wanted == 0 || memory == NULL || size < wanted || interval_ms < 1 || !(half_life_ms > 0)) return false;
    for (uint32_t k = 0; k < level_count; k++)
        if (!(levels[k] > (k ? levels[k - 1] : 0.0) && levels[k] < 1.0)) return false;
    memset(q, 0, sizeof *q);
    q->interval_ms = interval_ms;
    q->steps = steps;
    q->late_steps = late_steps;
    q->level_count = level_count;
    memcpy(q->levels, levels, level_count * sizeof *levels);
    q->half_life_ms = half_life_ms;
    q->room = room_of(steps, late_steps);
    q->span = q->room + ETQ_MAX_DUE;
    unsigned char *at = memory;
    q->slots = (etq_slot *)(void *)at;
    at += aligned(q->room * sizeof(etq_slot));
    q->quantiles = (float *)(void *)at;
    at += aligned((size_t)q->room * 2 * steps * level_count * sizeof(float));
    q->targets = (float *)(void *)at;
    at += aligned(q->span * sizeof(float));
    q->target_steps = (int64_t *)(void *)at;
    etq_reset(q);
    forget_targets(q);
    return true;
}

double etq_scale(const float *context, size_t length)
{
    double sum = 0;
    size_t count = 0;
    for (size_t i = 1; i < length; i++) {
        if (isnan(context[i]) || isnan(context[i - 1])) continue;
        sum += fabs((double)context[i] - (double)context[i - 1]);
        count++;
    }
    return count ? sum / (double)count : 0;
}

/* Whether a level can be read off the quantiles. */
static bool reaches(const etq_series *q, double level)
{
    return q->levels[0] - 1e-6 <= level && level <= q->levels[q->level_count - 1] + 1e-6;
}

/* Read one level off the quantiles of a step, linearly between its neighbours. */
static double at_level(const etq_series *q, const float *quantiles, double level)
{
    if (q->level_count == 1) return (double)quantiles[0];
    uint32_t right = 0;
    while (right < q->level_count && q->levels[right] < level) right++;
    if (right < 1) right = 1;
    if (right > q->level_count - 1) right = q->level_count - 1;
    double share = (level - q->levels[right - 1]) / (q->levels[right] - q->levels[right - 1]);
    if (fabs(share - round(share)) < 1e-6) share = round(share);
    return (1 - share) * (double)quantiles[right - 1] + share * (double)quantiles[right];
}

static bool target_of(const etq_series *q, int64_t step, double *value)
{
    int64_t place = step % (int64_t)q->span;
    if (place < 0) place += q->span;
    if (q->target_steps[place] != step) return false;
    *value = (double)q->targets[place];
    return true;
}

/* Score one forecast [steps][level_count]. */
static void score(const etq_series *q, int64_t origin, double scale, const float *quantiles, etq_sums *out)
{
    bool ranged = reaches(q, 0.1) && reaches(q, 0.9), has_median = reaches(q, 0.5);
    double error = 0;
    memset(out, 0, sizeof *out);
    for (uint32_t h = 0; h < q->steps; h++) {
        const float *row = quantiles + (size_t)h * q->level_count;
        double y;
        if (!target_of(q, origin + 1 + (int64_t)h, &y)) {
            out->missing++;
            continue;
        }
        out->steps++;
        out->size += fabs(y);
        for (uint32_t k = 0; k < q->level_count; k++) {
            double miss = y - (double)row[k], under = q->levels[k] * miss, over = (q->levels[k] - 1) * miss;
            out->pinball[k] += under > over ? under : over;
        }
        if (ranged) {
            out->ranged++;
            if (at_level(q, row, 0.1) <= y && y <= at_level(q, row, 0.9)) out->inside++;
        }
        if (has_median) error += fabs(at_level(q, row, 0.5) - y);
    }
    if (out->steps > 0) out->windows = 1;
    if (out->steps > 0 && has_median && scale > 0) {
        out->scaled = error / out->steps / scale;
        out->scales = 1;
    }
}

static void add(etq_sums *sums, const etq_sums *more, uint32_t levels, double keep)
{
    sums->windows = sums->windows * keep + more->windows;
    sums->steps = sums->steps * keep + more->steps;
    sums->missing = sums->missing * keep + more->missing;
    sums->size = sums->size * keep + more->size;
    sums->inside = sums->inside * keep + more->inside;
    sums->ranged = sums->ranged * keep + more->ranged;
    sums->scaled = sums->scaled * keep + more->scaled;
    sums->scales = sums->scales * keep + more->scales;
    for (uint32_t k = 0; k < levels; k++) sums->pinball[k] = sums->pinball[k] * keep + more->pinball[k];
}

static float *quantiles_of(const etq_series *q, uint32_t slot, uint32_t which)
{
    return q->quantiles + ((size_t)slot * 2 + which) * q->steps * q->level_count;
}

/* Score every waiting forecast that ends at or before a step, oldest first. */
static void arrived(etq_series *q, int64_t upto)
{
    while (q->waiting > 0 && q->slots[q->head].origin + (int64_t)q->steps <= upto) {
        const etq_slot *slot = &q->slots[q->head];
        etq_sums own, base;
        int64_t t_ms = (slot->origin + (int64_t)q->steps) * q->interval_ms;
        score(q, slot->origin, slot->scale, quantiles_of(q, q->head, 0), &own);
        add(&q->total, &own, q->level_count, 1);
        bool later = q->recent_at != INT64_MIN && t_ms > q->recent_at;
        add(&q->recent, &own, q->level_count, later ? pow(0.5, (double)(t_ms - q->recent_at) / q->half_life_ms) : 1);
        if (later || q->recent_at == INT64_MIN) q->recent_at = t_ms;
        if (slot->has_base) {
            score(q, slot->origin, slot->scale, quantiles_of(q, q->head, 1), &base);
            add(&q->own, &own, q->level_count, 1);
            add(&q->base, &base, q->level_count, 1);
        }
        q->head = (q->head + 1) % q->room;
        q->waiting--;
    }
}

static void keep(etq_series *q, int64_t step, float value)
{
    int64_t place = step % (int64_t)q->span;
    if (place < 0) place += q->span;
    q->targets[place] = value;
    q->target_steps[place] = step;
}

void etq_observe(etq_series *q, int64_t t_ms, float value)
{
    int64_t step = floor_divide(t_ms, q->interval_ms), reach = (int64_t)q->steps + (int64_t)q->late_steps;
    double known;
    if (!isfinite(value) || t_ms > MOST_MS || t_ms < -MOST_MS) return;
    if (reach < LEAST_REACH) reach = LEAST_REACH;
    if (q->begun && step < q->newest - reach) restart(q);
    if (!q->begun || step > q->newest) {
        q->begun = true;
        q->newest = step;
        q->stamp = t_ms;
        arrived(q, step - 1 - (int64_t)q->late_steps);
        keep(q, step, value);
    } else if (step == q->newest) {
        if (t_ms > q->stamp) {
            q->stamp = t_ms;
            keep(q, step, value);
        }
    } else if (step > q->newest - (int64_t)q->span && !target_of(q, step, &known)) {
        keep(q, step, value);
    }
}

void etq_end_stay(etq_series *q)
{
    arrived(q, INT64_MAX);
    restart(q);
}

void etq_remember(etq_series *q, int64_t origin, double scale, const float *quantiles, const float *base)
{
    size_t size = (size_t)q->steps * q->level_count * sizeof *quantiles;
    if (!q->begun || origin > q->newest || origin < q->newest - (int64_t)ETQ_MAX_DUE) {
        q->dropped++;
        return;
    }
    if (q->waiting > 0 && q->slots[(q->head + q->waiting - 1) % q->room].origin == origin) {
        q->waiting--;
    } else if (q->waiting == q->room) { /* the oldest waits longest */
        q->head = (q->head + 1) % q->room;
        q->waiting--;
        q->dropped++;
    }
    uint32_t slot = (q->head + q->waiting) % q->room;
    q->slots[slot] = (etq_slot){.origin = origin, .scale = scale, .has_base = base != NULL};
    memcpy(quantiles_of(q, slot, 0), quantiles, size);
    if (base != NULL) memcpy(quantiles_of(q, slot, 1), base, size);
    q->waiting++;
    arrived(q, q->newest - 1 - (int64_t)q->late_steps); /* a worker that was late: its targets are in already */
}

static double ratio(double numerator, double denominator) { return denominator > 0 ? numerator / denominator : (double)NAN; }

double etq_wql(const etq_sums *sums, uint32_t level_count)
{
    double loss = 0;
    for (uint32_t k = 0; k < level_count; k++) loss += sums->pinball[k];
    return ratio(2 * loss / (double)level_count, sums->size);
}

double etq_mase(const etq_sums *sums) { return ratio(sums->scaled, sums->scales); }

double etq_coverage(const etq_sums *sums) { return ratio(sums->inside, sums->ranged); }

double etq_missing(const etq_sums *sums) { return ratio(sums->missing, sums->missing + sums->steps); }
