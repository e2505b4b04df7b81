#include "etsa_quality.h"

#include <math.h>
#include <string.h>

#define LEAST_REACH 64 /* steps before the newest within which a value is late, and not from a clock that was set back */
#define MOST_STEPS 65536u
#define DAY_MS ((int64_t)86400000)
#define MOST_MS ((int64_t)1 << 53) /* a time beyond it is none: sums of two of them must not overflow */

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static uint32_t room_of(uint32_t steps, uint32_t late_steps) { return steps + late_steps + 2u; }

static size_t aligned(size_t size) { return (size + 15u) & ~(size_t)15u; }

size_t etq_memory(uint32_t steps, uint32_t levels, uint32_t late_steps, uint32_t forecasters)
{
    if (steps < 1 || steps > MOST_STEPS || levels < 1 || levels > ETQ_MAX_LEVELS || late_steps > MOST_STEPS ||
        forecasters < 1 || forecasters > 1 + ETQ_OTHERS) return 0;
    size_t room = room_of(steps, late_steps), span = room + ETQ_MAX_DUE;
    return aligned(room * sizeof(etq_slot)) + aligned(room * forecasters * steps * levels * sizeof(float)) +
           aligned(span * sizeof(float)) + aligned(span * sizeof(int64_t));
}

void etq_signal_begin(etq_signal *signal, const char *name)
{
    memset(signal, 0, sizeof *signal);
    for (size_t i = 0; i < ETQ_MAX_NAME && name[i] != '\0'; i++) signal->name[i] = name[i];
}

bool etq_same(const etq_id *a, const etq_id *b)
{
    return a->is_adapter == b->is_adapter && (!a->is_adapter || memcmp(a->sha256, b->sha256, sizeof a->sha256) == 0);
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

bool etq_init(etq_series *q, void *memory, size_t size, etq_signal *signal, const etq_rules *rules, int64_t interval_ms,
              uint32_t steps, const double *levels, uint32_t level_count, uint32_t forecasters)
{
    size_t wanted = etq_memory(steps, level_count, rules->late_steps, forecasters);
    if (wanted == 0 || memory == NULL || size < wanted || interval_ms < 1 || !(rules->half_life_ms > 0)) return false;
    if (rules->judged && !(rules->allowed > 0)) return false;
    for (uint32_t k = 0; k < level_count; k++)
        if (!(levels[k] > (k ? levels[k - 1] : 0.0) && levels[k] < 1.0)) return false;
    memset(q, 0, sizeof *q);
    q->signal = signal;
    q->rules = *rules;
    q->interval_ms = interval_ms;
    q->steps = steps;
    q->level_count = level_count;
    q->forecasters = forecasters;
    memcpy(q->levels, levels, level_count * sizeof *levels);
    q->room = room_of(steps, rules->late_steps);
    q->span = q->room + ETQ_MAX_DUE;
    unsigned char *at = memory;
    q->slots = (etq_slot *)(void *)at;
    at += aligned(q->room * sizeof(etq_slot));
    q->quantiles = (float *)(void *)at;
    at += aligned((size_t)q->room * forecasters * steps * level_count * sizeof(float));
    q->targets = (float *)(void *)at;
    at += aligned(q->span * sizeof(float));
    q->target_steps = (int64_t *)(void *)at;
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
    return q->quantiles + ((size_t)slot * q->forecasters + which) * q->steps * q->level_count;
}

static bool same_levels(const etq_scored *scored, const etq_series *q)
{
    return scored->level_count == q->level_count &&
           memcmp(scored->levels, q->levels, q->level_count * sizeof *q->levels) == 0;
}

/* The sums of a forecaster, as the last of its signal's; begun where they are not there, in place of the oldest. */
static etq_scored *scored_of(const etq_series *q, const etq_id *by, int64_t t_ms)
{
    etq_signal *signal = q->signal;
    uint32_t found = 0;
    while (found < signal->count && !(etq_same(&signal->held[found].by, by) && same_levels(&signal->held[found], q))) found++;
    if (found < signal->count) {
        if (found + 1 < signal->count) { /* by rotation: no room for another one on the stack */
            for (uint32_t i = found; i + 1 < signal->count; i++) {
                unsigned char *a = (unsigned char *)&signal->held[i], *b = (unsigned char *)&signal->held[i + 1];
                for (size_t j = 0; j < sizeof *signal->held; j++) {
                    unsigned char one = a[j];
                    a[j] = b[j];
                    b[j] = one;
                }
            }
        }
        return &signal->held[signal->count - 1];
    }
    if (signal->count == ETQ_KEPT) memmove(&signal->held[0], &signal->held[1], (ETQ_KEPT - 1) * sizeof *signal->held);
    else signal->count++;
    etq_scored *scored = &signal->held[signal->count - 1];
    memset(scored, 0, sizeof *scored);
    scored->by = *by;
    scored->level_count = q->level_count;
    memcpy(scored->levels, q->levels, q->level_count * sizeof *q->levels);
    scored->since = scored->until = t_ms;
    return scored;
}

/* The sums of a day, begun where they are not there; NULL for a day before all that are kept. */
static etq_sums *day_of(etq_scored *scored, int64_t t_ms)
{
    int64_t day = floor_divide(t_ms, DAY_MS);
    uint32_t place = scored->day_count;
    while (place > 0 && scored->days[place - 1].day > day) place--;
    if (place > 0 && scored->days[place - 1].day == day) return &scored->days[place - 1].sums;
    if (scored->day_count == ETQ_DAYS) { /* the oldest goes */
        if (place == 0) return NULL;
        memmove(&scored->days[0], &scored->days[1], (place - 1) * sizeof *scored->days);
        place--;
    } else {
        memmove(&scored->days[place + 1], &scored->days[place], (scored->day_count - place) * sizeof *scored->days);
        scored->day_count++;
    }
    memset(&scored->days[place], 0, sizeof *scored->days);
    scored->days[place].day = day;
    return &scored->days[place].sums;
}

static void add_forecast(const etq_series *q, etq_scored *scored, const etq_sums *own, int64_t t_ms)
{
    etq_sums *day = day_of(scored, t_ms);
    add(&scored->total, own, q->level_count, 1);
    bool later = t_ms > scored->until;
    add(&scored->recent, own, q->level_count, later ? pow(0.5, (double)(t_ms - scored->until) / q->rules.half_life_ms) : 1);
    if (later) scored->until = t_ms;
    if (day != NULL) add(day, own, q->level_count, 1);
}

/* The comparison with another; it restarts with a different one in its place, and so does evidence on another question. */
static etq_against *beside(const etq_series *q, etq_scored *scored, uint32_t which, const etq_id *by)
{
    etq_against *against = &scored->against[which];
    bool judged = q->rules.judged && which == ETQ_BASE;
    if (!against->begun || !etq_same(&against->by, by)) {
        memset(against, 0, sizeof *against);
        against->begun = true;
        against->by = *by;
        etq_drift_begin(&against->drift);
    }
    if (judged && !(against->judged && against->trial.allowed == q->rules.allowed))
        etq_trial_begin(&against->trial, q->rules.allowed);
    against->judged = judged;
    return against;
}

static void add_unit(etq_against *against, const etq_losses *unit, int64_t t_ms)
{
    double a = unit->own, b = unit->other, more[ETQ_MOMENTS] = {1, a, b, a * a, a * b, b * b};
    for (uint32_t i = 0; i < ETQ_MOMENTS; i++) against->moments[i] += more[i];
    if (against->judged) etq_trial_add(&against->trial, a, b);
    etq_drift_add(&against->drift, a, b);
    if (etq_drift_flagged(&against->drift) && against->drift_since == 0) against->drift_since = t_ms;
}

/* Twice the pinball loss, mean over levels, in the target's unit: the numerator of WQL. */
static double loss(const etq_sums *sums, uint32_t level_count)
{
    double sum = 0;
    for (uint32_t k = 0; k < level_count; k++) sum += sums->pinball[k];
    return 2 * sum / (double)level_count;
}

static void compare(etq_series *q, etq_scored *scored, const etq_slot *slot, uint32_t which, const etq_sums *own,
                    const etq_sums *other, int64_t t_ms)
{
    etq_open *open = &q->open[which];
    etq_against *against = beside(q, scored, which, &slot->others[which]);
    etq_losses closed;
    add(&against->own, own, q->level_count, 1);
    add(&against->other, other, q->level_count, 1);
    if (!open->known || !etq_same(&open->by, &slot->by) || !etq_same(&open->other, &slot->others[which])) {
        *open = (etq_open){.known = true, .by = slot->by, .other = slot->others[which]}; /* another pair */
    }
    if (etq_unit_add(&open->unit, q->rules.whole_stay, slot->origin, q->steps, loss(own, q->level_count),
                     loss(other, q->level_count), &closed)) add_unit(against, &closed, t_ms);
}

/* Close the units of a feed: its stay is over. */
static void end_units(etq_series *q)
{
    for (uint32_t which = 0; which < ETQ_OTHERS; which++) {
        etq_open *open = &q->open[which];
        etq_losses closed;
        bool some = open->known && etq_unit_close(&open->unit, &closed);
        open->known = false;
        for (uint32_t i = 0; some && i < q->signal->count; i++) {
            etq_scored *scored = &q->signal->held[i];
            etq_against *against = &scored->against[which];
            if (etq_same(&scored->by, &open->by) && against->begun && etq_same(&against->by, &open->other))
                add_unit(against, &closed, scored->until);
        }
    }
}

/* Renew what reports say, where enough was scored since: so two reports differ by a sum over as many steps, too. */
static void publish(etq_scored *scored, double least)
{
    if (scored->total.steps - (scored->said ? scored->said_total.steps : 0) >= least) {
        scored->said = true;
        scored->said_total = scored->total;
    }
    for (uint32_t which = 0; which < ETQ_OTHERS; which++) {
        etq_against *one = &scored->against[which];
        if (!one->begun || !(one->own.steps - (one->said ? one->said_own.steps : 0) >= least)) continue;
        one->said = true;
        one->said_own = one->own;
        one->said_other = one->other;
        memcpy(one->said_moments, one->moments, sizeof one->moments);
        one->said_drift = one->drift_since != 0;
    }
}

/* Score every waiting forecast that ends at or before a step, oldest first. */
static void arrived(etq_series *q, int64_t upto)
{
    while (q->waiting > 0 && q->slots[q->head].origin + (int64_t)q->steps <= upto) {
        const etq_slot *slot = &q->slots[q->head];
        etq_sums own, other;
        int64_t t_ms = (slot->origin + (int64_t)q->steps) * q->interval_ms;
        etq_scored *scored = scored_of(q, &slot->by, t_ms);
        score(q, slot->origin, slot->scale, quantiles_of(q, q->head, 0), &own);
        add_forecast(q, scored, &own, t_ms);
        for (uint32_t which = 0; which < ETQ_OTHERS; which++) {
            if (!slot->has[which]) continue;
            score(q, slot->origin, slot->scale, quantiles_of(q, q->head, 1 + which), &other);
            compare(q, scored, slot, which, &own, &other, t_ms);
        }
        publish(scored, q->rules.min_reported);
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
    int64_t step = floor_divide(t_ms, q->interval_ms), reach = (int64_t)q->steps + (int64_t)q->rules.late_steps;
    double known;
    if (!isfinite(value) || t_ms > MOST_MS || t_ms < -MOST_MS) return;
    if (reach < LEAST_REACH) reach = LEAST_REACH;
    if (q->begun && step < q->newest - reach) { /* the clock was set back */
        end_units(q);
        restart(q);
    }
    if (!q->begun || step > q->newest) {
        q->begun = true;
        q->newest = step;
        q->stamp = t_ms;
        arrived(q, step - 1 - (int64_t)q->rules.late_steps);
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
    end_units(q);
    restart(q);
}

void etq_remember(etq_series *q, int64_t origin, double scale, const etq_made *runs, const etq_made others[ETQ_OTHERS])
{
    size_t size = (size_t)q->steps * q->level_count * sizeof(float);
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
    uint32_t number = (q->head + q->waiting) % q->room;
    etq_slot *slot = &q->slots[number];
    *slot = (etq_slot){.origin = origin, .scale = scale, .by = runs->by};
    memcpy(quantiles_of(q, number, 0), runs->quantiles, size);
    for (uint32_t which = 0; others != NULL && which + 1 < q->forecasters; which++) {
        if (others[which].quantiles == NULL) continue;
        slot->has[which] = true;
        slot->others[which] = others[which].by;
        memcpy(quantiles_of(q, number, 1 + which), others[which].quantiles, size);
    }
    q->waiting++;
    arrived(q, q->newest - 1 - (int64_t)q->rules.late_steps); /* a worker that was late: its targets are in already */
}

const etq_scored *etq_find(const etq_signal *signal, const etq_id *by)
{
    for (uint32_t i = signal->count; i > 0; i--)
        if (etq_same(&signal->held[i - 1].by, by)) return &signal->held[i - 1];
    return NULL;
}

static double ratio(double numerator, double denominator) { return denominator > 0 ? numerator / denominator : (double)NAN; }

double etq_wql(const etq_sums *sums, uint32_t level_count) { return ratio(loss(sums, level_count), sums->size); }

double etq_percent(const etq_against *against, uint32_t level_count)
{
    return 100 * (ratio(etq_wql(&against->own, level_count), etq_wql(&against->other, level_count)) - 1);
}

etq_verdict etq_judge(const etq_against *against, uint32_t level_count, double min_scored)
{
    double percent = etq_percent(against, level_count);
    if (!against->begun || !against->judged || isnan(percent) || against->own.steps < min_scored) return ETQ_OPEN;
    bool over = 1 + percent / 100 > against->trial.allowed;
    return over == (against->trial.verdict == ETQ_WORSE) ? against->trial.verdict : ETQ_OPEN;
}

double etq_mase(const etq_sums *sums) { return ratio(sums->scaled, sums->scales); }

double etq_coverage(const etq_sums *sums) { return ratio(sums->inside, sums->ranged); }

double etq_missing(const etq_sums *sums) { return ratio(sums->missing, sums->missing + sums->steps); }
