/* Samples of channel 0 as finished stays. */
#define _POSIX_C_SOURCE 200809L
#include "adapting_parts.h"

#include <string.h>

void ad_value(void *user, uint32_t channel, uint64_t stay, int64_t t_ms, float value)
{
    ad_adapting *a = user;
    pthread_mutex_lock(&a->feeding);
    if (channel == 0 && a->feeds) (void)eta_feed_observe(&a->feed, &a->queue, t_ms, (double)value);
    if (channel == 0) ad_track_sample(&a->tracker, &(ad_sample){stay, t_ms, value}, a->interval_ms);
    pthread_mutex_unlock(&a->feeding);
}

void ad_end(void *user, uint32_t channel)
{
    ad_adapting *a = user;
    pthread_mutex_lock(&a->feeding);
    if (channel == 0 && a->feeds) (void)eta_feed_end(&a->feed, &a->queue);
    pthread_mutex_unlock(&a->feeding);
}

uint32_t ad_take_stay(ad_adapting *a, int64_t *end_ms)
{
    const float *values;
    pthread_mutex_lock(&a->feeding);
    uint32_t count = eta_queue_oldest(&a->queue, &values, end_ms);
    uint32_t kept = count < ETA_MAX_STAY ? count : ETA_MAX_STAY;
    if (count > 0) {
        memcpy(a->stay, values + (count - kept), kept * sizeof *values);
        eta_queue_drop(&a->queue);
    }
    pthread_mutex_unlock(&a->feeding);
    return kept;
}

void ad_begin_feed(ad_adapting *a)
{
    pthread_mutex_lock(&a->feeding);
    if (a->learns && (!a->feeds || a->feed.interval_ms != a->rules.config.interval_ms)) {
        (void)eta_feed_begin(&a->feed, a->feed_values, ETA_MAX_STAY, a->rules.config.interval_ms, a->rules.gap_steps);
    }
    if (!a->learns && a->feeds) {
        eta_feed_wipe(&a->feed);
        eta_queue_wipe(&a->queue);
    }
    a->feeds = a->learns;
    pthread_mutex_unlock(&a->feeding);
}
