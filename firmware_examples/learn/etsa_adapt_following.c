#include "etsa_adapt_following.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define DENSE_MS 300000
#define BUDGET 262144u   /* bytes of quantiles that wait */
#define LEAST_REACH 64u
#define MAX_LATE 1024u
#define MAX_MS 9007199254740992 /* 2^53 */

static int64_t floored(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static size_t whole(size_t size) { return (size + 7) / 8 * 8; }

static uint32_t held_at_once(uint32_t steps, uint32_t level_count)
{
    uint32_t most = BUDGET / (4 * steps * level_count);
    return most > 0 ? most : 1;
}

/* One forecast in so many is remembered: all, where memory holds them. */
static uint32_t every_of(uint32_t steps, uint32_t level_count, uint32_t late_steps)
{
    uint32_t most = held_at_once(steps, level_count);
    return (steps + late_steps + most) / most; /* steps + late_steps + 1, rounded up */
}

static uint32_t room_of(uint32_t steps, uint32_t level_count, uint32_t late_steps)
{
    uint32_t all = steps + late_steps + 1, most = held_at_once(steps, level_count);
    return all < most ? all : most;
}

static uint32_t span_of(uint32_t steps, uint32_t late_steps) { return steps + late_steps + 2; }

size_t eta_following_memory(uint32_t steps, uint32_t level_count, uint32_t late_steps)
{
    size_t offsets = etst_memory(steps, level_count);
    if (offsets == 0 || late_steps > MAX_LATE) return 0;
    size_t room = room_of(steps, level_count, late_steps);
    return whole(offsets) + whole(room * sizeof(eta_waiting)) + whole(span_of(steps, late_steps) * sizeof(eta_target)) +
           ((room + 1) * level_count + 1) * steps * sizeof(float);
}

static void forget(eta_following *f)
{
    f->count = f->head = 0;
    f->begun = false;
    memset(f->targets, 0, span_of(f->tracking.steps, f->late_steps) * sizeof *f->targets);
}

bool eta_following_begin(eta_following *f, const eta_rules *rules, int64_t interval_ms, uint32_t late_steps,
                         const double *levels, uint32_t level_count, uint32_t steps, void *memory, size_t size)
{
    size_t wanted = eta_following_memory(steps, level_count, late_steps), offsets = etst_memory(steps, level_count);
    double rate = rules->long_stream && interval_ms <= DENSE_MS ? rules->offset_rate : 0;
    uint8_t *at = memory;
    if (wanted == 0 || memory == NULL || size < wanted || interval_ms < 1) return false;
    if (!(rate > 0 || rules->width_rate > 0)) return false;
    memset(memory, 0, wanted);
    *f = (eta_following){.interval_ms = interval_ms, .late_steps = late_steps, .reach = LEAST_REACH};
    if (!etst_init(&f->tracking, memory, offsets, levels, level_count, steps, rate, rules->width_rate, rules->cap_tracking))
        return false;
    f->room = room_of(steps, level_count, late_steps);
    at += whole(offsets);
    f->waiting = (eta_waiting *)(void *)at;
    at += whole(f->room * sizeof(eta_waiting));
    f->targets = (eta_target *)(void *)at;
    at += whole(span_of(steps, late_steps) * sizeof(eta_target));
    f->quantiles = (float *)(void *)at;
    f->moved = f->quantiles + (size_t)f->room * steps * level_count;
    f->arrived = f->moved + (size_t)steps * level_count;
    return true;
}

static eta_target *target_at(const eta_following *f, int64_t step)
{
    int64_t span = (int64_t)span_of(f->tracking.steps, f->late_steps);
    return &f->targets[step - floored(step, span) * span];
}

static bool is_held(const eta_following *f, int64_t step)
{
    const eta_target *target = target_at(f, step);
    return target->held && target->step == step;
}

static float *quantiles_at(const eta_following *f, uint32_t place)
{
    return f->quantiles + (size_t)place * f->tracking.steps * f->tracking.level_count;
}

/* Keep a value that a waiting forecast is of. */
static void keep(eta_following *f, int64_t step, double value)
{
    if (f->count == 0 || f->waiting[f->head].origin >= step) return;
    *target_at(f, step) = (eta_target){.held = true, .step = step, .value = (float)value};
}

/* Learn from the forecasts that end at or before a step, oldest first. */
static void learn(eta_following *f, int64_t upto)
{
    while (f->count > 0) {
        const eta_waiting *oldest = &f->waiting[f->head];
        if (oldest->origin + (int64_t)oldest->steps > upto) return;
        for (uint32_t h = 0; h < oldest->steps; h++) {
            int64_t step = oldest->origin + 1 + (int64_t)h;
            f->arrived[h] = is_held(f, step) ? target_at(f, step)->value : NAN;
        }
        (void)etst_learn(&f->tracking, quantiles_at(f, f->head), f->arrived, oldest->steps); /* no more than at the start */
        f->head = (f->head + 1) % f->room;
        f->count--;
    }
}

static void observe(eta_following *f, int64_t t_ms, double value)
{
    int64_t step = floored(t_ms, f->interval_ms);
    if (f->begun && step < f->newest - (int64_t)f->reach) forget(f); /* the clock was set back */
    if (!f->begun || step > f->newest) {
        f->begun = true;
        f->newest = step;
        f->stamp = t_ms;
        learn(f, step - 1 - (int64_t)f->late_steps);
        keep(f, step, value);
    } else if (step == f->newest) {
        if (t_ms > f->stamp) keep(f, step, value);
        if (t_ms > f->stamp) f->stamp = t_ms;
    } else if (!is_held(f, step)) {
        keep(f, step, value);
    }
}

void eta_following_observe(eta_following *f, int64_t t_ms, double value)
{
    bool is_number = value <= (double)FLT_MAX && value >= -(double)FLT_MAX;
    if (f->followed && is_number && t_ms <= MAX_MS && t_ms >= -MAX_MS) observe(f, t_ms, value);
}

/* Wait for a forecast's targets. A second one of the same origin replaces the first: it saw more. */
static void remember(eta_following *f, const float *quantiles, uint32_t steps)
{
    uint32_t last = (f->head + f->count + f->room - 1) % f->room;
    bool again = f->count > 0 && f->waiting[last].origin == f->newest;
    if (!again && f->count == f->room) { /* the oldest gives way */
        f->head = (f->head + 1) % f->room;
        f->count--;
    }
    uint32_t place = again ? last : (f->head + f->count) % f->room;
    f->waiting[place] = (eta_waiting){.origin = f->newest, .steps = steps};
    memcpy(quantiles_at(f, place), quantiles, (size_t)steps * f->tracking.level_count * sizeof *quantiles);
    f->count += again ? 0u : 1u;
    if (steps + f->late_steps > f->reach) f->reach = steps + f->late_steps;
}

bool eta_following_move(eta_following *f, int64_t t_ms, float *quantiles, uint32_t steps)
{
    size_t count = (size_t)steps * f->tracking.level_count;
    if (steps < 1 || steps > f->tracking.steps || t_ms > MAX_MS || t_ms < -MAX_MS) return false;
    if (!f->followed) observe(f, t_ms, 0); /* it begins at this step */
    f->followed = true;
    memcpy(f->moved, quantiles, count * sizeof *quantiles);
    (void)etst_apply(&f->tracking, f->moved, steps); /* no more than at the start */
    for (size_t i = 0; i < count; i++) {
        if (isfinite(f->moved[i])) continue;
        etst_reset(&f->tracking);
        return false;
    }
    memcpy(quantiles, f->moved, count * sizeof *quantiles);
    if (floored(t_ms, f->interval_ms) > f->newest) return true;
    if (f->made++ % every_of(steps, f->tracking.level_count, f->late_steps) == 0) remember(f, f->moved, steps);
    return true;
}

void eta_following_end(eta_following *f)
{
    forget(f);
    etst_reset(&f->tracking);
    memset(f->quantiles, 0, (size_t)f->room * f->tracking.steps * f->tracking.level_count * sizeof *f->quantiles);
    f->followed = false;
    f->made = 0;
    f->reach = LEAST_REACH;
}
