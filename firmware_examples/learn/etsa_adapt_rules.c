#include "etsa_adapt_rules.h"

#define DENSE_MS 300000       /* a stream with a step every 5 minutes or more often is dense */
#define LEAST_FLAT 120        /* steps of a run that is flat, ... */
#define LEAST_FLAT_MS 600000  /* ... or these: the longer of both */

eta_may eta_mode_may(eta_mode mode)
{
    return (eta_may){.learn = mode >= ETA_SHADOW, .track = mode >= ETA_BOUNDED, .promote = mode >= ETA_ACTIVE};
}

eta_rules eta_rules_default(void)
{
    return (eta_rules){
        .mode = ETA_OFF, .windows = 1024, .new_windows = 8, .kept_windows = 40, .batch = 32,
        .learning = {.clip_norm = 1, .cap_tensor = 0.2, .cap_day = 0.1}, .clip_spreads = 20, .scored_windows = 32,
        .promote_evidence = 20, .demote_evidence = 20, .offset_rate = 0.001, .cap_tracking = 0.5,
        .clean = {.jump_spreads = 6, .jump_share = 0.2, .jump_steps = 16},
    };
}

/* Remember the first name whose value is out of its bounds; NaN is. */
static void within(const char **bad, const char *name, double value, double least, double most)
{
    if (*bad == NULL && !(value >= least && value <= most)) *bad = name;
}

const char *eta_rules_check(const eta_rules *r)
{
    const char *bad = NULL;
    within(&bad, "windows", r->windows, 32, 8192);
    within(&bad, "new_windows", r->new_windows, 1, 64);
    within(&bad, "kept_windows", r->kept_windows, 1, 512);
    within(&bad, "batch", r->batch, 4, 256);
    within(&bad, "steps", r->steps, 0, 64);
    within(&bad, "stride", r->stride, 0, 1024);
    within(&bad, "first_windows", r->first_windows, 0, 4096);
    within(&bad, "scored_windows", r->scored_windows, 1, 512);
    within(&bad, "rate", r->learning.rate, 0, 0.03);
    within(&bad, "average", r->learning.average, 0, 0.9999);
    within(&bad, "anchor", r->learning.anchor, 0, 10);
    within(&bad, "clip_norm", r->learning.clip_norm, 1e-3, 100);
    within(&bad, "clip_spreads", r->clip_spreads, 1, 20);
    within(&bad, "cap_tensor", r->learning.cap_tensor, 0, 1);
    within(&bad, "cap_day", r->learning.cap_day, 0, 1);
    within(&bad, "promote_evidence", r->promote_evidence, 10, 1e9);
    within(&bad, "promote_stays", r->promote_stays, 0, 100000);
    within(&bad, "demote_evidence", r->demote_evidence, 2, 1e9);
    within(&bad, "offset_rate", r->offset_rate, 0, 0.01);
    within(&bad, "width_rate", r->width_rate, 0, 0.5);
    within(&bad, "cap_tracking", r->cap_tracking, 0.01, 0.5);
    within(&bad, "seed", r->seed, 0, 2147483647);
    within(&bad, "jump_spreads", r->clean.jump_spreads, 1, 100);
    within(&bad, "jump_share", r->clean.jump_share, 0, 10);
    within(&bad, "jump_steps", r->clean.jump_steps, 1, 1000);
    within(&bad, "flat_steps", r->clean.flat_steps, 0, 100000);
    within(&bad, "new_windows", r->new_windows, 1, r->batch);
    within(&bad, "batch", r->batch, 4, r->windows);
    within(&bad, "mode", r->mode, ETA_OFF, ETA_ACTIVE);
    return bad;
}

static uint32_t chosen(uint32_t set, bool dense, uint32_t for_dense, uint32_t for_others)
{
    return set != 0 ? set : dense ? for_dense : for_others;
}

static double chosen_rate(double set, bool dense, double for_dense, double for_others)
{
    return set != 0 ? set : dense ? for_dense : for_others;
}

eta_rules eta_rules_at(const eta_rules *rules, int64_t interval_ms, uint32_t steps)
{
    eta_rules r = *rules;
    bool dense = interval_ms <= DENSE_MS;
    uint32_t between = steps / (dense ? 6 : 2); /* windows to learn from that begin within one forecast: 6, or 2 */
    int64_t flat = LEAST_FLAT_MS / interval_ms;
    r.stride = chosen(r.stride, dense, between > 0 ? between : 1, between > 0 ? between : 1);
    r.steps = chosen(r.steps, dense, 5, 4);
    r.first_windows = chosen(r.first_windows, dense, 8, 64);
    r.learning.rate = chosen_rate(r.learning.rate, dense, 0.003, 0.001);
    r.learning.average = chosen_rate(r.learning.average, dense, 0.9, 0.98);
    r.promote_stays = chosen(r.promote_stays, dense, 25, 100);
    if (r.clean.flat_steps == 0) r.clean.flat_steps = flat > LEAST_FLAT ? (uint32_t)flat : LEAST_FLAT;
    return r;
}

static double lower(double a, double b) { return b < a ? b : a; }

static double higher(double a, double b) { return b > a ? b : a; }

eta_rules eta_rules_bounded(const eta_rules *envelope, const eta_rules *settings)
{
    eta_rules r = *envelope;
    r.mode = settings->mode;
    r.keep_on_disk = envelope->keep_on_disk && settings->keep_on_disk;
    r.long_stream = envelope->long_stream && settings->long_stream;
    r.learning.cap_tensor = lower(envelope->learning.cap_tensor, settings->learning.cap_tensor);
    r.learning.cap_day = lower(envelope->learning.cap_day, settings->learning.cap_day);
    r.cap_tracking = lower(envelope->cap_tracking, settings->cap_tracking);
    r.demote_evidence = lower(envelope->demote_evidence, settings->demote_evidence);
    r.promote_evidence = higher(envelope->promote_evidence, settings->promote_evidence);
    if (settings->promote_stays > r.promote_stays) r.promote_stays = settings->promote_stays;
    return r;
}

eta_mode eta_mode_allowed(eta_mode mode, const eta_mode *most, bool named)
{
    if (mode <= ETA_SHADOW) return most != NULL && mode > *most ? *most : mode;
    if (most == NULL) return ETA_SHADOW;
    if (mode > *most) return *most;
    return named ? mode : ETA_SHADOW;
}
