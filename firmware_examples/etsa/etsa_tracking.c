#include "etsa_tracking.h"

#ifdef __FAST_MATH__
#error "tracking must round each operation: compile without -ffast-math"
#endif

/* Rounded to double before it is used, whatever the compiler would fuse or keep wider. */
static double rounded(double value)
{
    volatile double stored = value;
    return stored;
}

static double times(double a, double b) { return rounded(a * b); }

static double within(double value, double low, double high) { return value < low ? low : value > high ? high : value; }

static bool is_number(double value) { return value - value == 0; } /* neither infinite nor NaN */

size_t etst_memory(uint32_t steps, uint32_t level_count)
{
    if (steps < 1 || level_count < 3 || level_count > ETST_MAX_LEVELS || steps > ETST_MAX_NUMBERS / level_count) return 0;
    return (size_t)steps * level_count * sizeof(double);
}

void etst_reset(etst_tracking *t)
{
    for (size_t i = 0; i < (size_t)t->steps * t->level_count; i++) t->offsets[i] = 0;
    t->factor = 1;
    t->updates = 0;
}

bool etst_init(etst_tracking *t, double *offsets, size_t size, const double *levels, uint32_t level_count, uint32_t steps,
               double offset_rate, double width_rate, double cap)
{
    size_t wanted = etst_memory(steps, level_count);
    uint32_t median = 0;
    if (wanted == 0 || size < wanted) return false;
    if (!(offset_rate >= 0 && offset_rate <= 1 && width_rate >= 0 && width_rate <= 1 && cap > 0 && cap < 1)) return false;
    for (uint32_t j = 0; j < level_count; j++) {
        if (!(levels[j] > (j > 0 ? levels[j - 1] : 0.0) && levels[j] < 1.0)) return false;
        t->levels[j] = levels[j];
        if (levels[j] >= 0.5 && levels[j] <= 0.5) median = j;
    }
    if (median == 0 || median + 1 == level_count) return false;
    t->level_count = level_count;
    t->steps = steps;
    t->median = median;
    t->offset_rate = offset_rate;
    t->width_rate = width_rate;
    t->cap = cap;
    t->offsets = offsets;
    etst_reset(t);
    return true;
}

/* A few levels, nearly in order: by insertion. What is no number goes behind all. */
static void sort(float *row, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        float one = row[i];
        uint32_t place = i;
        while (place > 0 && (row[place - 1] > one || (row[place - 1] != row[place - 1] && one == one))) {
            row[place] = row[place - 1];
            place--;
        }
        row[place] = one;
    }
}

bool etst_apply(const etst_tracking *t, float *quantiles, uint32_t steps)
{
    if (steps < 1 || steps > t->steps) return false;
    for (uint32_t h = 0; h < steps; h++) {
        float *q = quantiles + (size_t)h * t->level_count;
        const double *offset = t->offsets + (size_t)h * t->level_count;
        double width = rounded((double)q[t->level_count - 1] - (double)q[0]);
        double middle = rounded((double)q[t->median] + times(offset[t->median], width));
        for (uint32_t j = 0; j < t->level_count; j++) {
            double moved = rounded((double)q[j] + times(offset[j], width));
            if (t->factor < 1 || t->factor > 1) moved = rounded(middle + times(rounded(moved - middle), t->factor));
            volatile float stored = (float)moved;
            q[j] = stored;
        }
        sort(q, t->level_count);
    }
    return true;
}

/* Whether a step says something: there is a target, and levels that are numbers and not all one. */
static bool says(const etst_tracking *t, const float *q, float y)
{
    if (!is_number((double)y)) return false;
    for (uint32_t j = 0; j < t->level_count; j++)
        if (!is_number((double)q[j])) return false;
    return q[t->level_count - 1] > q[0];
}

bool etst_learn(etst_tracking *t, const float *issued, const float *target, uint32_t steps)
{
    uint32_t observed = 0, inside = 0, last = t->level_count - 1;
    if (steps < 1 || steps > t->steps) return false;
    for (uint32_t h = 0; h < steps; h++) {
        const float *q = issued + (size_t)h * t->level_count;
        double *offset = t->offsets + (size_t)h * t->level_count;
        float y = target[h];
        if (!says(t, q, y)) continue;
        observed++;
        inside += y >= q[0] && y <= q[last];
        for (uint32_t j = 0; j < t->level_count; j++) {
            double error = y > q[j] ? t->levels[j] : rounded(t->levels[j] - 1.0);
            offset[j] = within(rounded(offset[j] + times(t->offset_rate, error)), -t->cap, t->cap);
        }
    }
    if (observed == 0) return true;
    double covered = rounded((double)inside / (double)observed);
    double nominal = rounded(t->levels[last] - t->levels[0]);
    double grown = times(t->factor, rounded(1.0 + times(t->width_rate, rounded(nominal - covered))));
    t->factor = within(grown, rounded(1.0 - t->cap), rounded(1.0 + t->cap));
    t->updates++;
    return true;
}

bool etst_is_whole(const etst_tracking *t)
{
    for (size_t i = 0; i < (size_t)t->steps * t->level_count; i++)
        if (!(t->offsets[i] >= -t->cap && t->offsets[i] <= t->cap)) return false;
    return t->factor >= 1.0 - t->cap && t->factor <= 1.0 + t->cap;
}
