/* What the files of adapting share; a product includes adapting.h only. Each function wants `using` held. */
#ifndef ADAPTING_PARTS_H
#define ADAPTING_PARTS_H

#include "adapting.h"
#include "etsa_adapt.h"
#include "etsa_adapt_following.h"
#include "states.h"

#include <pthread.h>
#include <time.h>

#define LEARNER "learner"      /* files in the folder */
#define OLD_LEARNER ".old-learner"
#define OWN "own"
#define DECISION "decision-%u"
#define MOST_DECISIONS 8u      /* that wait for the hand-over; then nothing more is decided */
#define QUEUED (8u * ETA_MAX_STAY) /* values of finished stays that wait: 256 KB */
#define RETRY_MS 3600000.0
#define SAVE_MS 300000.0
#define DAY_S 86400
#define HEADER 64u /* of the learner's file: subject, day, bytes written on it, zeros */
#define HEAD_SIZE 4096u        /* of a decision */

#define SAMPLES 256u /* that wait for the next forecast: each step's last one, of at most 64 steps, and late ones */

typedef struct ad_sample {
    uint64_t stay;
    int64_t t_ms;
    float value;
} ad_sample;

/* The tracking of channel 0. The worker moves forecasts, the main thread sets the rules: `lock` guards all but what
 * `feeding` does, and is held for moments only. */
typedef struct ad_tracker {
    pthread_mutex_t lock;
    bool tracks;
    eta_following following;
    void *memory;
    eta_rules rules;
    uint64_t stay; /* that is followed */
    /* guarded by `feeding` */
    bool takes;
    ad_sample samples[SAMPLES];
    uint32_t head, count;
} ad_tracker;

struct ad_adapting {
    fc_base *base;
    const char *folder;
    int64_t interval_ms;
    ad_tracker tracker;
    /* the feed: `feeding` guards it, and is held for moments only */
    pthread_mutex_t feeding;
    bool feeds;
    eta_feed feed;
    eta_queue queue;
    float *feed_values, *queue_values;
    /* the learner: `using` guards it. The worker only tries to take it */
    pthread_mutex_t using;
    ar_rules rules;
    bool there, learns;      /* there are rules; a learner is open */
    uint8_t *parent;         /* signed file that it learns on; NULL: the base alone */
    size_t parent_size;
    fc_states *states;
    eta_learner learner;
    void *memory;
    float *stay;             /* the stay that is handed over */
    uint8_t *own;            /* blob that was learnt here and runs; NULL: none */
    uint32_t own_size;
    bool parked;             /* it was demoted and runs no more, but the decision is not written yet */
    uint64_t generation;     /* of the last blob that was made */
    uint8_t *image;          /* for the learner's file */
    size_t image_size;
    bool dirty;
    int64_t day;
    uint64_t written;        /* bytes on that day */
    double save_at, retry_at, spent_ms;
    int64_t minute;
    fc_message problem;      /* why it does not learn as it is set to; empty: it does */
};

/* Milliseconds of a clock that never goes back. */
static inline double ad_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static inline etsa_err ad_say(fc_message message, etsa_err code, const char *text)
{
    snprintf(message, FC_MESSAGE_SIZE, "%s", text);
    return code;
}

static inline void ad_digest_of(const uint8_t *data, size_t size, uint8_t digest[32])
{
    etsa_sha256_state state;
    etsa_sha256_start(&state);
    etsa_sha256_add(&state, data, size);
    etsa_sha256_end(&state, digest);
}

/* adapt_state.c: write what was learnt, as far as the day's bytes go (`now`: what must not wait for tomorrow), and go on with
 * what is there; `problem` says what went wrong. */
void ad_keep(ad_adapting *a, bool now);
void ad_restore(ad_adapting *a);

/* adapt_decisions.c: how many decisions wait; what is known, as JSON; write a decision durably, before anything follows from
 * it (blob: of a promotion), or take the last one back, from which nothing followed; the blob that should run, of the last
 * decision that waits, else what the record said (*size 0: none). */
uint32_t ad_decisions(const ad_adapting *a);
int ad_put_facts(const ad_adapting *a, char *text, size_t size);
etsa_err ad_decide(const ad_adapting *a, const char *event, const char *reason, const uint8_t *blob, uint32_t size, fc_message message);
void ad_undecide(const ad_adapting *a);
etsa_err ad_load_own(const ad_adapting *a, uint8_t **blob, uint32_t *size, fc_message message);

/* adapt_feed.c: take the oldest finished stay into `stay`, 0 if none waits; take samples or give up what was taken, as it learns
 * or not. */
uint32_t ad_take_stay(ad_adapting *a, int64_t *end_ms);
void ad_begin_feed(ad_adapting *a);

/* adapt_tracking.c: take a sample for the tracking (with `feeding` held); track by the rules that are there now, or not at all:
 * what was learnt of a stay goes on where they are the same. */
void ad_track_sample(ad_tracker *t, const ad_sample *sample, int64_t interval_ms);
etsa_err ad_track(ad_adapting *a, bool allowed, fc_message message);
void ad_track_end(ad_adapting *a);

/* adapt_blob.c: check a blob against the rules and get its shift[n]; write the candidate as a blob, with a known answer, and
 * prove it (*blob is the caller's to free, shift[n] what it moves, as it was rounded). */
etsa_err ad_check_own(const ad_adapting *a, const uint8_t *blob, uint32_t size, float *shift, fc_message message);
etsa_err ad_make_own(ad_adapting *a, sv_service *service, uint8_t **blob, uint32_t *size, float *shift, fc_message message);

#endif
