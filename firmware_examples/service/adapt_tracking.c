/* The tracking of one stream beside the service. Values arrive in the caller's thread, forecasts are made in the worker's, and a
 * forecast is learnt from as it was issued. So samples wait here, in their order, until the forecast that they are before:
 * what a forecast is moved to does not depend on how the threads ran. */
#define _POSIX_C_SOURCE 200809L
#include "adapting_parts.h"

#include <stdlib.h>
#include <string.h>

static int64_t step_of(int64_t t_ms, int64_t interval_ms) { return t_ms / interval_ms - (t_ms % interval_ms < 0); }

void ad_track_sample(ad_tracker *t, const ad_sample *sample, int64_t interval_ms)
{
    if (!t->takes) return;
    ad_sample *last = t->count > 0 ? &t->samples[(t->head + t->count - 1) % SAMPLES] : NULL;
    bool again = last != NULL && last->stay == sample->stay && last->t_ms < sample->t_ms &&
                 step_of(last->t_ms, interval_ms) == step_of(sample->t_ms, interval_ms);
    if (again) { /* the latest of a step stands for it */
        *last = *sample;
        return;
    }
    if (t->count == SAMPLES) { /* the worker was blocked: the oldest gives way, and its step is missing */
        t->head = (t->head + 1) % SAMPLES;
        t->count--;
    }
    t->samples[(t->head + t->count++) % SAMPLES] = *sample;
}

/* Take the oldest sample that came before the forecast from `step` of a stay was due; false if there is none. */
static bool take(ad_adapting *a, uint64_t stay, int64_t step, ad_sample *sample)
{
    ad_tracker *t = &a->tracker;
    pthread_mutex_lock(&a->feeding);
    ad_sample *oldest = &t->samples[t->head];
    bool before = t->count > 0 && (oldest->stay < stay || (oldest->stay == stay && step_of(oldest->t_ms, a->interval_ms) <= step));
    if (before) {
        *sample = *oldest;
        *oldest = (ad_sample){0}; /* a patient's value */
        t->head = (t->head + 1) % SAMPLES;
        t->count--;
    }
    pthread_mutex_unlock(&a->feeding);
    return before;
}

void ad_made(void *user, uint32_t channel, uint64_t stay, int64_t t_ms, float *quantiles, uint32_t steps, sv_moved *moved)
{
    ad_adapting *a = user;
    ad_tracker *t = &a->tracker;
    ad_sample sample;
    if (channel != 0) return;
    pthread_mutex_lock(&t->lock);
    if (t->tracks) {
        if (t->stay != stay) eta_following_end(&t->following);
        t->stay = stay;
        while (take(a, stay, step_of(t_ms, a->interval_ms), &sample))
            if (sample.stay == stay) eta_following_observe(&t->following, sample.t_ms, (double)sample.value);
        moved->is = eta_following_move(&t->following, t_ms, quantiles, steps);
        moved->updates = t->following.tracking.updates;
        moved->width = t->following.tracking.factor;
    }
    pthread_mutex_unlock(&t->lock);
}

static bool same_rules(const eta_rules *one, const eta_rules *other)
{
    return one->long_stream == other->long_stream && one->offset_rate == other->offset_rate && one->width_rate == other->width_rate &&
           one->cap_tracking == other->cap_tracking;
}

void ad_track_end(ad_adapting *a)
{
    ad_tracker *t = &a->tracker;
    pthread_mutex_lock(&t->lock);
    pthread_mutex_lock(&a->feeding);
    t->takes = false;
    t->head = t->count = 0;
    memset(t->samples, 0, sizeof t->samples);
    pthread_mutex_unlock(&a->feeding);
    if (t->tracks) eta_following_end(&t->following);
    t->tracks = false;
    free(t->memory);
    t->memory = NULL;
    pthread_mutex_unlock(&t->lock);
}

etsa_err ad_track(ad_adapting *a, bool allowed, fc_message message)
{
    ad_tracker *t = &a->tracker;
    const etsa_bundle *bundle = fc_bundle(a->base);
    const eta_rules *rules = &a->rules.config.rules;
    double levels[ETSA_MAX_LEVELS];
    if (allowed && t->tracks && same_rules(&t->rules, rules)) return ETSA_OK; /* only this thread changes either */
    ad_track_end(a);
    if (!allowed || !(rules->long_stream || rules->width_rate > 0)) return ETSA_OK;
    etsa_err err = etsa_bundle_levels(bundle, levels, ETSA_MAX_LEVELS);
    if (err != ETSA_OK) return ad_say(message, err, "the base's quantile levels cannot be read");
    size_t size = eta_following_memory(bundle->prediction_length, bundle->level_count, SV_LATE_STEPS);
    void *memory = size > 0 ? malloc(size) : NULL;
    if (size > 0 && memory == NULL) return ad_say(message, ETSA_STORAGE_ERROR, "out of memory");
    pthread_mutex_lock(&t->lock);
    t->memory = memory;
    t->rules = *rules;
    t->tracks = eta_following_begin(&t->following, rules, a->interval_ms, SV_LATE_STEPS, levels, bundle->level_count,
                                    bundle->prediction_length, memory, size); /* else forecasts are left as they are, as in Python */
    pthread_mutex_lock(&a->feeding);
    t->takes = t->tracks;
    pthread_mutex_unlock(&a->feeding);
    pthread_mutex_unlock(&t->lock);
    return ETSA_OK;
}
