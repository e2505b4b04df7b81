#include "etsa_adapt_windows.h"

#include <math.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "missing values are NaN: compile without -ffast-math"
#endif

#define STREAM 64u /* of the format's generator (FORMAT.md section 5); its own streams are numbered from 1 */
#define GAMMA UINT64_C(0x9E3779B97F4A7C15)

static uint64_t mix(uint64_t z) /* SplitMix64's finaliser */
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static bool missing(float value) { return value != value; }

/* Round before the sum, even if the compiler would fuse the two. */
static double rounded(double value)
{
    volatile double stored = value;
    return stored;
}

uint32_t eta_draw(eta_draws *d, uint32_t limit)
{
    uint64_t key = mix(d->seed + ((uint64_t)STREAM << 32));
    d->drawn++;
    return (uint32_t)(((mix(key + d->drawn * GAMMA) >> 32) * limit) >> 32);
}

uint32_t eta_sample(eta_draws *d, uint32_t *order, uint32_t limit, uint32_t count)
{
    if (count > limit) count = limit;
    for (uint32_t i = 0; i < limit; i++) order[i] = i;
    for (uint32_t place = 0; place < count; place++) { /* Fisher and Yates */
        uint32_t other = place + eta_draw(d, limit - place), held = order[place];
        order[place] = order[other];
        order[other] = held;
    }
    return count;
}

uint32_t eta_cutoffs(const float *x, uint32_t count, const eta_cut *cut, uint32_t *cutoffs)
{
    uint32_t found = 0;
    for (uint32_t cutoff = cut->min_observed; cutoff <= count && cut->steps <= count - cutoff; cutoff += cut->stride) {
        uint32_t first = cutoff > cut->context_length ? cutoff - cut->context_length : 0, seen = 0, targets = 0;
        for (uint32_t i = first; i < cutoff; i++) seen += missing(x[i]) ? 0u : 1u;
        for (uint32_t i = 0; i < cut->steps; i++) targets += missing(x[cutoff + i]) ? 0u : 1u;
        if (seen >= cut->min_observed && targets > 0) cutoffs[found++] = cutoff;
    }
    return found;
}

void eta_context(const float *x, uint32_t cutoff, uint32_t context_length, float *context)
{
    for (uint32_t i = 0; i < context_length; i++) {
        bool within = i + cutoff >= context_length;
        context[i] = within ? x[i + cutoff - context_length] : NAN;
    }
}

void eta_clip_target(const float *context, uint32_t context_length, float *target, uint32_t steps, double spreads)
{
    double sum = 0, squares = 0;
    uint32_t seen = 0;
    for (uint32_t i = 0; i < context_length; i++) {
        if (missing(context[i])) continue;
        sum += (double)context[i];
        seen++;
    }
    double mean = sum / seen;
    for (uint32_t i = 0; i < context_length; i++) {
        if (missing(context[i])) continue;
        double apart = (double)context[i] - mean;
        squares += rounded(apart * apart);
    }
    double spread = sqrt(squares / seen), far = rounded(spreads * spread);
    double low = mean - far, high = mean + far;
    if (!(spread > 0)) return; /* of a constant context nothing is known: its window teaches nothing */
    for (uint32_t h = 0; h < steps; h++) {
        if ((double)target[h] < low) target[h] = (float)low;
        else if ((double)target[h] > high) target[h] = (float)high;
    }
}

size_t eta_window_size(uint32_t state_size, uint32_t steps) { return ((size_t)state_size + steps + 2) * sizeof(float) + 1; }

etl_window eta_window(const eta_windows *w, uint32_t place)
{
    return (etl_window){
        .state = w->states + (size_t)place * w->state_size, .loc = w->scales[2 * (size_t)place],
        .scale = w->scales[2 * (size_t)place + 1], .varies = w->varies[place] != 0,
        .target = w->targets + (size_t)place * w->steps,
    };
}

void eta_copy_window(eta_windows *to, uint32_t place, const eta_windows *from, uint32_t other)
{
    memcpy(to->states + (size_t)place * to->state_size, from->states + (size_t)other * to->state_size,
           to->state_size * sizeof(float));
    memcpy(to->targets + (size_t)place * to->steps, from->targets + (size_t)other * to->steps, to->steps * sizeof(float));
    memcpy(to->scales + 2 * (size_t)place, from->scales + 2 * (size_t)other, 2 * sizeof(float));
    to->varies[place] = from->varies[other];
}

void eta_reservoir_add(eta_reservoir *r, const eta_windows *from, uint32_t place, eta_draws *d)
{
    bool full = r->held == r->windows.most;
    eta_copy_window(&r->windows, full ? eta_draw(d, r->held) : r->held, from, place);
    r->held += !full;
    r->seen++;
}

void eta_reservoir_wipe(eta_reservoir *r)
{
    eta_windows *w = &r->windows;
    memset(w->states, 0, (size_t)w->most * w->state_size * sizeof(float));
    memset(w->targets, 0, (size_t)w->most * w->steps * sizeof(float));
    memset(w->scales, 0, 2 * (size_t)w->most * sizeof(float));
    memset(w->varies, 0, w->most);
    r->held = 0;
    r->seen = 0;
}
