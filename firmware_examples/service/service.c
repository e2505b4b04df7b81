#define _POSIX_C_SOURCE 200809L
#include "service.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_PENDING_STEPS 64u /* steps that may wait for the worker; of a longer stall the oldest are not forecast any more */
#define PROVE_MS 3600000u /* as in the Python runtime */
#define HALF_LIFE_MS (7.0 * 86400000.0)
#define MIN_REPORTED 100.0 /* least scored steps behind every figure in a report, as in the Python runtime */
#define MIN_SCORED 200.0
#define STRAYS_AHEAD 3u /* strays that move a channel ahead: one wrong clock reading does not */
#define MOST_MS ((int64_t)1 << 53) /* a time beyond it is none: sums of two of them must not overflow */

typedef struct channel {
    fc_forecaster *current;
    etsa_err down;        /* not ETSA_OK: the running model failed its known-answer test and could not be opened again */
    fc_message why;
    float *steps;         /* [context_length + MAX_PENDING_STEPS], latest value last: the oldest due step has its whole context */
    size_t length;
    bool begun;           /* a value has arrived */
    int64_t step;         /* that is being filled */
    float value;          /* used for it: the one with the latest timestamp */
    int64_t stamp;        /* of that value, ms */
    float low, high;      /* a value outside is none: of the adapter's signal; infinite without one */
    uint32_t due;         /* closed steps that were not forecast yet */
    uint64_t stay;        /* how many stays ended before this one */
    uint32_t strays;      /* values in a row, a whole context away from `step`, that agree with one another */
    int64_t stray_stamp;  /* of the last of them, ms */
    etq_series quality;   /* scores of its forecasts */
    void *quality_memory; /* NULL: they are not scored */
    size_t quality_size;
    uint64_t made;        /* forecasts since the adapter began */
    uint64_t swaps;       /* which adapter that is */
    etq_id runs;          /* and by its digest */
    bool own;             /* it was learnt here, so it is unsigned */
    fc_forecaster *previous; /* the previous one; NULL: only the base forecasts beside. `using` guards both */
    etq_id before;        /* by its digest */
    sv_health health;     /* of the running adapter, or of the base alone */
} channel;

struct sv_service {
    fc_base *base;
    sv_settings settings;
    channel channels[SV_MAX_CHANNELS];
    float *work, *quantiles; /* the worker's own */
    fc_forecaster *frozen;   /* the base alone, for the worker to forecast beside; NULL without settings.shadow_every */
    float *base_quantiles, *previous_quantiles;
    etq_signal *signals;     /* [SV_MAX_CHANNELS]; NULL without settings.quality */
    uint32_t signal_count;
    sv_counts counts;
    double prove_at; /* ms; the worker's own */
    bool stopping;
    bool finished;         /* the worker has ended; set by the caller that stops it */
    pthread_mutex_t lock;  /* everything above but what `using` guards */
    pthread_mutex_t using; /* `current`, `down` and `why`: held while a forecaster is in use or replaced. Taken before `lock` */
    pthread_cond_t wake;
    pthread_cond_t idle;   /* no forecast is due */
    pthread_t worker;
};

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

/* Append `count` times the same value, at most as many as there is room for. Returns how many steps will not be
 * forecast, since too many wait already. */
static uint64_t append(channel *c, size_t most, float value, uint64_t steps)
{
    size_t room = most + MAX_PENDING_STEPS, count = steps > room ? room : (size_t)steps;
    uint64_t due = c->due + steps;
    if (c->length + count > room) {
        size_t dropped = c->length + count - room;
        memmove(c->steps, c->steps + dropped, (c->length - dropped) * sizeof *c->steps);
        c->length -= dropped;
    }
    for (size_t i = 0; i < count; i++) c->steps[c->length++] = value;
    c->due = (uint32_t)(due < MAX_PENDING_STEPS ? due : MAX_PENDING_STEPS);
    return due - c->due;
}

/* Close the step that was being filled, and the empty ones between it and `step`. */
static uint64_t advance(channel *c, size_t most, int64_t step)
{
    uint64_t skipped = append(c, most, c->value, 1);
    skipped += append(c, most, NAN, (uint64_t)(step - c->step - 1));
    c->step = step;
    return skipped;
}

/* Take a stray; true when it and those before it say that the clock was set. A backlog that is sent late looks like a
 * clock set back: as many are needed as a context has steps. */
static bool moved(channel *c, int64_t length, int64_t interval_ms, int64_t t_ms)
{
    int64_t step = floor_divide(t_ms, interval_ms);
    bool agrees = c->strays > 0 && t_ms > c->stray_stamp && step - floor_divide(c->stray_stamp, interval_ms) < length;
    c->strays = agrees ? c->strays + 1 : 1;
    c->stray_stamp = t_ms;
    return c->strays >= (step > c->step ? STRAYS_AHEAD : (uint32_t)length);
}

/* A late value fills its step if that is still missing. */
static bool fill(channel *c, int64_t step, float value)
{
    int64_t ago = c->step - step; /* 1: the step closed last */
    if (ago > (int64_t)c->length || !isnan(c->steps[c->length - (size_t)ago])) return false;
    c->steps[c->length - (size_t)ago] = value;
    return true;
}

/* What follows belongs to another stay, or to another clock. Called with the lock held. */
static void end_stay(sv_service *s, uint32_t number)
{
    channel *c = &s->channels[number];
    c->stay++;
    if (c->quality_memory != NULL) etq_end_stay(&c->quality);
    if (s->settings.on_end != NULL) s->settings.on_end(s->settings.learner, number);
}

void sv_push(sv_service *s, uint32_t number, int64_t t_ms, float value, int quality)
{
    if (number >= s->settings.channels || t_ms < -MOST_MS || t_ms > MOST_MS) return;
    channel *c = &s->channels[number];
    int64_t step = floor_divide(t_ms, s->settings.interval_ms), length = (int64_t)fc_bundle(s->base)->context_length;
    pthread_mutex_lock(&s->lock);
    if (quality != SV_GOOD || !isfinite(value) || value < c->low || value > c->high) { /* says nothing, not even that time passed */
        s->counts.rejected++;
        pthread_mutex_unlock(&s->lock);
        return;
    }
    if (c->begun && (step - c->step >= length || c->step - step >= length)) {
        if (!moved(c, length, s->settings.interval_ms, t_ms)) {
            s->counts.stray++;
            pthread_mutex_unlock(&s->lock);
            return;
        }
        s->counts.skipped += c->due; /* what they were due from is given up */
        c->due = 0;
        c->length = 0;
        c->begun = false;
        end_stay(s, number);
    }
    if (c->quality_memory != NULL) etq_observe(&c->quality, t_ms, value);
    bool taken = true;
    c->strays = 0;
    if (!c->begun || step > c->step) {
        if (c->begun) s->counts.skipped += advance(c, (size_t)length, step);
        c->begun = true;
        c->step = step;
        c->value = value;
        c->stamp = t_ms;
        pthread_cond_signal(&s->wake);
    } else if (step == c->step && t_ms > c->stamp) {
        c->value = value;
        c->stamp = t_ms;
    } else if (step == c->step || !fill(c, step, value)) {
        s->counts.late++;
        taken = false;
    }
    if (taken && s->settings.on_value != NULL) s->settings.on_value(s->settings.learner, number, c->stay, t_ms, value);
    pthread_mutex_unlock(&s->lock);
}

void sv_end_stay(sv_service *s, uint32_t number)
{
    if (number >= s->settings.channels) return;
    channel *c = &s->channels[number];
    pthread_mutex_lock(&s->lock);
    while (c->due > 0 && !s->stopping) { /* their context is this stay's */
        pthread_cond_signal(&s->wake);
        pthread_cond_wait(&s->idle, &s->lock);
    }
    c->due = 0;
    c->length = 0;
    c->begun = false;
    c->strays = 0;
    end_stay(s, number);
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

sv_counts sv_count(sv_service *s)
{
    pthread_mutex_lock(&s->lock);
    sv_counts counts = s->counts;
    pthread_mutex_unlock(&s->lock);
    return counts;
}

static double min_scored(const sv_service *s) { return s->settings.min_scored > 0 ? s->settings.min_scored : MIN_SCORED; }

static etq_verdict verdict_of(const sv_service *s, const etq_scored *runs)
{
    return etq_judge(&runs->against[ETQ_BASE], runs->level_count, min_scored(s));
}

bool sv_quality(sv_service *s, uint32_t number, sv_field *field)
{
    if (number >= s->settings.channels || s->channels[number].quality_memory == NULL) return false;
    channel *c = &s->channels[number];
    memset(field, 0, sizeof *field);
    pthread_mutex_lock(&s->lock);
    const etq_scored *runs = etq_find(c->quality.signal, &c->runs);
    if (runs != NULL) {
        field->runs = *runs;
        field->verdict = verdict_of(s, runs);
    } else {
        field->runs.by = c->runs;
        field->runs.level_count = c->quality.level_count;
    }
    field->dropped = c->quality.dropped;
    pthread_mutex_unlock(&s->lock);
    return true;
}

/* Restart the counts for the adapter that took over; if it is the same one, they continue. Called with the lock held, or
 * before the worker runs. */
static void begin_health(channel *c, const etq_id *id)
{
    if (c->health.since_ms > 0 && etq_same(&c->health.by, id)) return;
    memset(&c->health, 0, sizeof c->health);
    c->health.by = *id;
    c->health.since_ms = milliseconds();
}

/* Count a forecast, or a step without one. Called with the lock held. */
static void count_health(const sv_service *s, sv_health *health, const sv_forecast *made)
{
    if (made->err == ETSA_OK) {
        double budget = s->settings.latency_budget_ms;
        health->forecasts++;
        if (budget > 0 && made->latency_ms > budget) health->slow++;
        if (made->latency_ms > health->slowest_ms) health->slowest_ms = made->latency_ms;
        return;
    }
    uint32_t place = 0;
    while (place < health->error_count && health->errors[place].code != (int)made->err) place++;
    if (place == SV_MAX_ERRORS) place--;
    else if (place == health->error_count) health->errors[health->error_count++].code = (int)made->err;
    health->errors[place].count++;
    snprintf(health->last_error, sizeof health->last_error, "%s", made->message);
}

bool sv_health_of(sv_service *s, uint32_t number, sv_health *health)
{
    if (number >= s->settings.channels) return false;
    pthread_mutex_lock(&s->lock);
    memcpy(health, &s->channels[number].health, sizeof *health);
    pthread_mutex_unlock(&s->lock);
    return true;
}

uint32_t sv_quality_all(sv_service *s, etq_signal signals[SV_MAX_CHANNELS])
{
    pthread_mutex_lock(&s->lock);
    uint32_t count = s->signal_count;
    if (count > 0) memcpy(signals, s->signals, count * sizeof *signals);
    pthread_mutex_unlock(&s->lock);
    return count;
}

/* The figures of a signal, begun where there are none; NULL where there is no room for another signal. */
static etq_signal *signal_of(sv_service *s, const char *name)
{
    for (uint32_t i = 0; i < s->signal_count; i++)
        if (strncmp(s->signals[i].name, name, ETQ_MAX_NAME) == 0) return &s->signals[i];
    if (s->signal_count == SV_MAX_CHANNELS) return NULL;
    etq_signal_begin(&s->signals[s->signal_count], name);
    return &s->signals[s->signal_count++];
}

void sv_quality_go_on(sv_service *s, const etq_signal *signals, uint32_t count)
{
    pthread_mutex_lock(&s->lock);
    for (uint32_t i = 0; i < count && s->signals != NULL; i++) {
        etq_signal *held = signal_of(s, signals[i].name); /* also of a signal that no channel has now: it may be used again */
        if (held != NULL) *held = signals[i];
    }
    pthread_mutex_unlock(&s->lock);
}

/* Who made a channel's forecasts: SHA-256 of its adapter's blob, without the signatures. */
static etq_id id_of(const fc_forecaster *forecaster)
{
    const etsa_adapter *adapter = fc_adapter(forecaster);
    etsa_sha256_state digest;
    etq_id id = {.is_adapter = adapter != NULL};
    if (adapter == NULL) return id;
    etsa_sha256_start(&digest);
    etsa_sha256_add(&digest, adapter->blob, adapter->size);
    etsa_sha256_end(&digest, id.sha256);
    return id;
}

/* A feed for forecasts of `steps`, with nothing waiting. Called with the lock held, or before the worker runs. */
static void begin_feed(sv_service *s, channel *c, uint32_t number, uint32_t steps)
{
    const etsa_bundle *bundle = fc_bundle(s->base);
    const sv_settings *settings = &s->settings;
    double levels[ETSA_MAX_LEVELS];
    char unsaid[] = "channel 0";
    unsaid[sizeof unsaid - 2] = (char)('0' + number);
    etq_rules rules = {.late_steps = SV_LATE_STEPS, .half_life_ms = HALF_LIFE_MS, .min_reported = MIN_REPORTED,
                       .judged = settings->judged, .allowed = settings->allowed};
    etq_signal *signal = signal_of(s, settings->signals[number] != NULL ? settings->signals[number] : unsaid);
    if (etsa_bundle_levels(bundle, levels, ETSA_MAX_LEVELS) != ETSA_OK) return;
    (void)etq_init(&c->quality, c->quality_memory, c->quality_size, signal, &rules, settings->interval_ms, steps, levels,
                   bundle->level_count, settings->shadow_previous ? 3 : 2);
}

/* Count and score a channel's forecasts as another adapter's from now on; those that wait are scored as what they are. Called with
 * the lock held, or before the worker runs. */
static void begin_quality(sv_service *s, uint32_t number, const fc_forecaster *next)
{
    channel *c = &s->channels[number];
    uint32_t steps = fc_steps(next);
    c->made = 0;
    c->swaps++;
    c->runs = id_of(next);
    begin_health(c, &c->runs);
    if (c->quality_memory != NULL && c->quality.steps != steps) begin_feed(s, c, number, steps);
}

/* Remember a forecast of the worker's context, which ended at step `origin`; where it is its turn, let the frozen base
 * forecast too, and what ran before. A shadow that fails costs its own figures only. */
static void remember(sv_service *s, channel *c, const sv_forecast *made, const etq_id *by, int64_t origin, size_t length,
                     uint64_t swaps)
{
    bool shadowed = s->frozen != NULL && c->made % s->settings.shadow_every == 0;
    fc_message message;
    etq_made runs = {.by = *by, .quantiles = made->quantiles}, others[ETQ_OTHERS] = {{.quantiles = NULL}};
    /* the base beside itself says nothing */
    if (shadowed && by->is_adapter && fc_forecast(s->frozen, s->work, length, NULL, s->base_quantiles, message) == ETSA_OK)
        others[ETQ_BASE].quantiles = s->base_quantiles;
    pthread_mutex_lock(&s->using);
    if (shadowed && c->previous != NULL && fc_steps(c->previous) >= made->steps &&
        fc_forecast(c->previous, s->work, length, NULL, s->previous_quantiles, message) == ETSA_OK) {
        others[ETQ_PREVIOUS].by = c->before;
        others[ETQ_PREVIOUS].quantiles = s->previous_quantiles;
    }
    pthread_mutex_unlock(&s->using);
    double scale = etq_scale(s->work, length);
    pthread_mutex_lock(&s->lock);
    if (c->swaps == swaps && made->steps == c->quality.steps) {
        c->made++;
        etq_remember(&c->quality, origin, scale, &runs, others);
    }
    pthread_mutex_unlock(&s->lock);
}

/* Set the verdict of field quality on the running adapter so far. Called with the lock held. */
static void say_verdict(const sv_service *s, const channel *c, sv_forecast *forecast)
{
    const etq_scored *runs = c->quality_memory == NULL ? NULL : etq_find(c->quality.signal, &c->runs);
    forecast->judged = s->settings.judged && s->frozen != NULL && c->runs.is_adapter;
    if (runs == NULL) return;
    if (forecast->judged) forecast->verdict = verdict_of(s, runs);
    forecast->drifts = runs->against[ETQ_BASE].begun && runs->against[ETQ_BASE].drift_since != 0;
}

/* Copy what the adapter is for: a swap may close it before the forecast is reported. */
static void say_use(const etsa_adapter *adapter, sv_forecast *forecast)
{
    if (adapter == NULL) return;
    forecast->unbound = adapter->signal.size == 0;
    if (!forecast->unbound) memcpy(forecast->signal, adapter->signal.at, adapter->signal.size);
}

/* What a channel's adapter must have and be for. */
static fc_policy policy_of(const sv_service *s, uint32_t number, bool own)
{
    fc_policy policy = s->settings.policy;
    policy.use.signal = s->settings.signals[number];
    policy.use.unit = s->settings.units[number];
    policy.use.interval_us = (uint64_t)s->settings.interval_ms * 1000;
    if (own) { /* unsigned, and of its parent's version, which was held to the floor; its use is its parent's or the settings' */
        policy.key_count = 0;
        policy.version_floor = 0;
    }
    return policy;
}

/* Open what a channel runs once more, from the same bytes. Called with `using` held. */
static void open_anew(sv_service *s, uint32_t number)
{
    channel *c = &s->channels[number];
    fc_policy policy = policy_of(s, number, c->own);
    fc_forecaster *next;
    size_t size;
    const uint8_t *data = fc_data(c->current, &size);
    c->down = fc_open(s->base, data, size, &policy, &next, c->why);
    if (c->down != ETSA_OK) return;
    fc_close(c->current);
    c->current = next;
}

/* Ask every channel's forecaster for its known answer, if it is time. Called with the lock held; lets it go meanwhile. */
static bool prove_due(sv_service *s)
{
    if (milliseconds() < s->prove_at) return false;
    pthread_mutex_unlock(&s->lock);
    for (uint32_t i = 0; i < s->settings.channels; i++) {
        channel *c = &s->channels[i];
        fc_message message;
        pthread_mutex_lock(&s->using);
        if (c->down == ETSA_OK && fc_self_test(c->current, message) != ETSA_OK) open_anew(s, i);
        pthread_mutex_unlock(&s->using);
    }
    s->prove_at = milliseconds() + (double)(s->settings.prove_ms > 0 ? s->settings.prove_ms : PROVE_MS);
    pthread_mutex_lock(&s->lock);
    return true;
}

/* Forecast the oldest due step of a channel: the context as it was when that step closed. Called with the lock held;
 * lets it go while the model runs. */
static void forecast_one(sv_service *s, uint32_t number)
{
    channel *c = &s->channels[number];
    const etsa_bundle *bundle = fc_bundle(s->base);
    size_t end = c->length - (c->due - 1), most = bundle->context_length, length = end < most ? end : most;
    int64_t t_ms = (c->step - (int64_t)(c->due - 1)) * s->settings.interval_ms;
    fc_message message;
    int64_t origin = c->step - (int64_t)c->due;
    uint64_t swaps = c->swaps, stay = c->stay;
    etq_id by = c->runs;
    sv_forecast said = {.own = c->own};
    say_verdict(s, c, &said);
    memcpy(s->work, c->steps + (end - length), length * sizeof *s->work);
    c->due--;
    pthread_mutex_unlock(&s->lock);

    pthread_mutex_lock(&s->using);
    double start = milliseconds();
    if (c->down != ETSA_OK) open_anew(s, number);
    memcpy(message, c->why, sizeof message);
    sv_forecast forecast = {.channel = number, .t_ms = t_ms, .message = message, .steps = fc_steps(c->current),
                            .levels = bundle->level_count, .adapter_version = fc_adapter_version(c->current),
                            .differences = fc_differences(c->current, length), .judged = said.judged,
                            .verdict = said.verdict, .drifts = said.drifts, .own = said.own};
    memcpy(forecast.adapter, by.sha256, sizeof forecast.adapter);
    say_use(fc_adapter(c->current), &forecast);
    forecast.err = c->down != ETSA_OK ? c->down : fc_forecast(c->current, s->work, length, NULL, s->quantiles, message);
    pthread_mutex_unlock(&s->using);
    if (forecast.err == ETSA_OK && s->settings.on_made != NULL) {
        s->settings.on_made(s->settings.learner, number, stay, origin * s->settings.interval_ms, s->quantiles, forecast.steps, &forecast.moved);
    }
    forecast.latency_ms = milliseconds() - start;
    forecast.quantiles = forecast.err == ETSA_OK ? s->quantiles : NULL;
    s->settings.on_forecast(s->settings.user, &forecast);
    if (c->quality_memory != NULL && forecast.quantiles != NULL) remember(s, c, &forecast, &by, origin, length, swaps);
    pthread_mutex_lock(&s->lock);
    if (etq_same(&by, &c->runs)) count_health(s, &c->health, &forecast);
}

static bool forecast_due(sv_service *s)
{
    bool any = false;
    for (uint32_t i = 0; i < s->settings.channels; i++) {
        if (s->channels[i].due == 0) continue;
        forecast_one(s, i);
        any = true;
    }
    return any;
}

/* Let whoever learns do a piece of work. Called with the lock held; lets it go meanwhile. */
static bool learn_due(sv_service *s)
{
    if (s->settings.on_idle == NULL) return false;
    pthread_mutex_unlock(&s->lock);
    bool more = s->settings.on_idle(s->settings.learner);
    pthread_mutex_lock(&s->lock);
    return more;
}

static void *work(void *argument)
{
    sv_service *s = argument;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        bool any = forecast_due(s); /* what is due when the service stops is still forecast */
        s->settings.on_alive(s->settings.user);
        if (any) continue;
        pthread_cond_broadcast(&s->idle);
        if (s->stopping) break;
        if (prove_due(s)) continue; /* values arrived meanwhile */
        if (learn_due(s)) continue; /* one piece at a time: a forecast that became due goes first */
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until); /* a clock that is set must not put the worker to sleep */
        until.tv_sec += (time_t)(s->settings.alive_ms / 1000);
        until.tv_nsec += (long)(s->settings.alive_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&s->wake, &s->lock, &until);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* What can be a reading at all: as the adapter says. */
static void set_range(channel *c, const fc_forecaster *forecaster)
{
    const etsa_adapter *adapter = fc_adapter(forecaster);
    bool bound = adapter != NULL && adapter->signal.size > 0;
    c->low = bound ? adapter->low : -INFINITY;
    c->high = bound ? adapter->high : INFINITY;
}

static etsa_err open_for(sv_service *s, uint32_t number, const uint8_t *data, size_t size, bool own, fc_forecaster **next,
                         fc_message message)
{
    if (number >= s->settings.channels) {
        strcpy(message, "no such channel");
        return ETSA_INPUT_ERROR;
    }
    fc_policy policy = policy_of(s, number, own);
    return fc_open(s->base, data, size, &policy, next, message);
}

etsa_err sv_prove_own(sv_service *s, uint32_t number, const uint8_t *data, size_t size, fc_message message)
{
    fc_forecaster *next;
    etsa_err err = open_for(s, number, data, size, true, &next, message);
    if (err == ETSA_OK) fc_close(next);
    return err;
}

static etsa_err swap(sv_service *s, uint32_t number, const uint8_t *data, size_t size, bool own, fc_message message)
{
    fc_forecaster *next;
    etsa_err err = open_for(s, number, data, size, own, &next, message);
    if (err != ETSA_OK) return err;
    channel *c = &s->channels[number];
    etq_id id = id_of(next);
    fc_forecaster *older = NULL;
    pthread_mutex_lock(&s->using);
    pthread_mutex_lock(&s->lock);
    fc_forecaster *before = c->current;
    c->current = next;
    c->own = own;
    c->down = ETSA_OK;
    if (!etq_same(&id, &c->runs)) { /* the same adapter again continues its comparison */
        older = c->previous;
        c->previous = s->settings.shadow_previous && s->frozen != NULL && c->runs.is_adapter ? before : NULL;
        c->before = c->runs;
    }
    set_range(c, next);
    begin_quality(s, number, next);
    bool kept = c->previous == before;
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_unlock(&s->using);
    fc_close(older);
    if (!kept) fc_close(before);
    return ETSA_OK;
}

etsa_err sv_swap(sv_service *s, uint32_t number, const uint8_t *data, size_t size, fc_message message)
{
    return swap(s, number, data, size, false, message);
}

etsa_err sv_swap_own(sv_service *s, uint32_t number, const uint8_t *data, size_t size, fc_message message)
{
    return swap(s, number, data, size, true, message);
}

static void release(sv_service *s)
{
    for (uint32_t i = 0; i < s->settings.channels; i++) {
        fc_close(s->channels[i].current);
        fc_close(s->channels[i].previous);
        free(s->channels[i].steps);
        free(s->channels[i].quality_memory);
    }
    fc_close(s->frozen);
    free(s->base_quantiles);
    free(s->previous_quantiles);
    free(s->signals);
    free(s->work);
    free(s->quantiles);
    free(s);
}

etsa_err sv_start(fc_base *base, const sv_settings *settings, sv_service **out, fc_message message)
{
    const etsa_bundle *bundle = fc_bundle(base);
    *out = NULL;
    if (settings->channels < 1 || settings->channels > SV_MAX_CHANNELS || settings->interval_ms < 1) {
        strcpy(message, "want 1 to 8 channels and an interval");
        return ETSA_INPUT_ERROR;
    }
    sv_service *s = calloc(1, sizeof *s);
    etsa_err err = ETSA_OK;
    if (s == NULL) {
        strcpy(message, "out of memory");
        return ETSA_STORAGE_ERROR;
    }
    s->base = base;
    s->settings = *settings;
    s->prove_at = milliseconds() + (double)(settings->prove_ms > 0 ? settings->prove_ms : PROVE_MS);
    s->work = malloc(bundle->context_length * sizeof *s->work);
    s->quantiles = malloc((size_t)bundle->prediction_length * bundle->level_count * sizeof *s->quantiles);
    bool memory = s->work != NULL && s->quantiles != NULL;
    if (settings->quality) {
        s->signals = calloc(SV_MAX_CHANNELS, sizeof *s->signals);
        memory = memory && s->signals != NULL;
    }
    for (uint32_t i = 0; i < settings->channels && err == ETSA_OK; i++) {
        s->channels[i].steps = malloc((bundle->context_length + MAX_PENDING_STEPS) * sizeof *s->work);
        memory = memory && s->channels[i].steps != NULL;
        err = fc_open(base, NULL, 0, &settings->policy, &s->channels[i].current, message);
        if (err == ETSA_OK) set_range(&s->channels[i], s->channels[i].current);
        if (err == ETSA_OK && settings->quality && memory) {
            channel *c = &s->channels[i];
            c->quality_size = etq_memory(bundle->prediction_length, bundle->level_count, SV_LATE_STEPS,
                                         settings->shadow_previous ? 3 : 2);
            c->quality_memory = c->quality_size > 0 ? malloc(c->quality_size) : NULL;
            memory = c->quality_memory != NULL;
            if (memory) begin_quality(s, i, s->channels[i].current);
        }
        begin_health(&s->channels[i], &s->channels[i].runs);
    }
    if (err == ETSA_OK && settings->quality && settings->shadow_every > 0) {
        s->base_quantiles = malloc((size_t)bundle->prediction_length * bundle->level_count * sizeof *s->quantiles);
        s->previous_quantiles = malloc((size_t)bundle->prediction_length * bundle->level_count * sizeof *s->quantiles);
        memory = memory && s->base_quantiles != NULL && s->previous_quantiles != NULL;
        err = fc_open(base, NULL, 0, &settings->policy, &s->frozen, message);
    }
    if (err == ETSA_OK && !memory) {
        strcpy(message, "out of memory");
        err = ETSA_STORAGE_ERROR;
    }
    if (err == ETSA_OK) {
        pthread_mutex_init(&s->lock, NULL);
        pthread_mutex_init(&s->using, NULL);
        pthread_condattr_t monotonic;
        pthread_condattr_init(&monotonic);
        pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
        pthread_cond_init(&s->wake, &monotonic);
        pthread_cond_init(&s->idle, NULL);
        pthread_condattr_destroy(&monotonic);
        if (pthread_create(&s->worker, NULL, work, s) == 0) {
            *out = s;
            return ETSA_OK;
        }
        strcpy(message, "cannot start a thread");
        err = ETSA_STORAGE_ERROR;
    }
    release(s);
    return err;
}

void sv_finish(sv_service *s)
{
    if (s->finished) return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->worker, NULL);
    s->finished = true;
}

void sv_stop(sv_service *s)
{
    if (s == NULL) return;
    sv_finish(s);
    pthread_cond_destroy(&s->wake);
    pthread_cond_destroy(&s->idle);
    pthread_mutex_destroy(&s->using);
    pthread_mutex_destroy(&s->lock);
    release(s);
}
