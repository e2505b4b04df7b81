#define _POSIX_C_SOURCE 200809L
#include "adapting.h"
#include "etsa_write.h"
#include "own_answer.h"
#include "sealed_file.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LEARNER "learner"      /* files in the folder */
#define OLD_LEARNER ".old-learner"
#define OWN "own"
#define DECISION "decision-%u"
#define MOST_DECISIONS 8u      /* that wait for the hand-over; then nothing more is decided */
#define QUEUED (8u * ETA_MAX_STAY) /* values of finished stays that wait: 256 KB */
#define RETRY_MS 3600000.0
#define SAVE_MS 300000.0
#define DAY_S 86400
#define HEADER 64u             /* of the learner's file: subject, day, bytes written on it, zeros */
#define HEAD_SIZE 4096u        /* of a decision */

struct ad_adapting {
    fc_base *base;
    const char *folder;
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

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static etsa_err say(fc_message message, etsa_err code, const char *text)
{
    snprintf(message, FC_MESSAGE_SIZE, "%s", text);
    return code;
}

static void digest_of(const uint8_t *data, size_t size, uint8_t digest[32])
{
    etsa_sha256_state state;
    etsa_sha256_start(&state);
    etsa_sha256_add(&state, data, size);
    etsa_sha256_end(&state, digest);
}

static void hex_of(const uint8_t digest[32], char hex[65])
{
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* --- the feed ------------------------------------------------------------------------------------------------------- */

void ad_value(void *user, uint32_t channel, int64_t t_ms, float value)
{
    ad_adapting *a = user;
    pthread_mutex_lock(&a->feeding);
    if (channel == 0 && a->feeds) (void)eta_feed_observe(&a->feed, &a->queue, t_ms, (double)value);
    pthread_mutex_unlock(&a->feeding);
}

void ad_end(void *user, uint32_t channel)
{
    ad_adapting *a = user;
    pthread_mutex_lock(&a->feeding);
    if (channel == 0 && a->feeds) (void)eta_feed_end(&a->feed, &a->queue);
    pthread_mutex_unlock(&a->feeding);
}

/* Take the oldest finished stay; 0 if none waits. */
static uint32_t take_stay(ad_adapting *a, int64_t *end_ms)
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

/* --- work ------------------------------------------------------------------------------------------------------------ */

static bool run_state(void *user, const float *context, uint32_t length, float *state, float *loc, float *scale)
{
    ad_adapting *a = user;
    fc_message message;
    if (fc_state_of(a->states, context, length, state, loc, scale, message) == ETSA_OK) return true;
    snprintf(a->problem, sizeof a->problem, "learning: %.200s", message);
    return false;
}

static void calibrate(void *user, float *quantiles, uint32_t steps, uint32_t levels)
{
    ad_adapting *a = user;
    etsa_calibrate(fc_states_adapter(a->states), quantiles, steps, levels);
}

static uint32_t decisions(const ad_adapting *a);

/* Whether the service itself may do what the evidence asks for. */
static bool may_act(const ad_adapting *a)
{
    if (decisions(a) >= MOST_DECISIONS) return false;
    if (a->learner.wish == ETQ_DEMOTE) return a->own != NULL;
    return a->learner.wish == ETQ_PROMOTE && a->rules.config.rules.mode == ETA_ACTIVE && a->rules.by_device;
}

static bool piece(ad_adapting *a)
{
    int64_t end_ms;
    bool acts = a->learner.wish != ETQ_NONE && may_act(a);
    if (acts) return false; /* the main thread acts on it before more is learnt */
    if (!eta_busy(&a->learner)) {
        uint32_t count = take_stay(a, &end_ms);
        if (count == 0) return false;
        (void)eta_finish(&a->learner, a->stay, count, end_ms);
        memset(a->stay, 0, count * sizeof *a->stay); /* a patient's values */
        a->dirty = true; /* its counts, where nothing else comes of it */
        return true;
    }
    eta_done done = eta_work(&a->learner, NULL, false, NULL);
    if (done == ETA_FAILED) a->retry_at = now_ms() + RETRY_MS;
    a->dirty = a->dirty || done == ETA_WORKED;
    return done == ETA_WORKED;
}

bool ad_idle(void *user)
{
    ad_adapting *a = user;
    if (pthread_mutex_trylock(&a->using) != 0) return false;
    double began = now_ms();
    int64_t minute = (int64_t)(began / 60000);
    if (minute != a->minute) {
        a->minute = minute;
        a->spent_ms = 0;
    }
    bool more = a->learns && began >= a->retry_at && a->spent_ms < a->rules.ms_per_minute && piece(a);
    a->spent_ms += now_ms() - began;
    pthread_mutex_unlock(&a->using);
    return more;
}

/* --- the learner's file ---------------------------------------------------------------------------------------------- */

/* What was learnt on: the file counts for that alone. */
static void subject_of(const ad_adapting *a, uint8_t digest[32])
{
    etsa_sha256_state state;
    const ar_rules *r = &a->rules;
    etsa_sha256_start(&state);
    etsa_sha256_add(&state, r->base, 32);
    etsa_sha256_add(&state, r->learning, 32);
    etsa_sha256_add(&state, r->parent, 32);
    etsa_sha256_add(&state, (const uint8_t *)r->signal, strlen(r->signal) + 1);
    etsa_sha256_add(&state, (const uint8_t *)&r->interval_us, sizeof r->interval_us);
    etsa_sha256_add(&state, (const uint8_t *)r->config.moves, sizeof r->config.moves);
    etsa_sha256_end(&state, digest);
}

static int64_t today(void) { return (int64_t)(time(NULL) / DAY_S); }

/* Write what was learnt, as far as the day's bytes go; `now`: what must not wait for tomorrow. */
static void keep(ad_adapting *a, bool now)
{
    fc_message message;
    if (!a->learns || !a->dirty) return;
    if (today() != a->day) {
        a->day = today();
        a->written = 0;
    }
    size_t size = HEADER + eta_image_size(&a->learner);
    if (!now && a->written + size > 1024 * a->rules.kib_per_day) {
        say(a->problem, ETSA_OK, "the bytes of this day are spent: what was learnt is written tomorrow");
        return;
    }
    uint64_t written = a->written + size;
    memset(a->image, 0, HEADER);
    subject_of(a, a->image);
    memcpy(a->image + 32, &a->day, sizeof a->day);
    memcpy(a->image + 40, &written, sizeof written);
    size = HEADER + eta_save(&a->learner, a->image + HEADER, a->image_size - HEADER);
    if (sf_save(a->folder, LEARNER, true, a->image, size, NULL, 0, message) != ETSA_OK) {
        snprintf(a->problem, sizeof a->problem, "what was learnt cannot be written: %.200s", message);
        return;
    }
    a->written = written;
    a->dirty = false;
    a->problem[0] = '\0';
}

/* Go on with what a file holds; false if that is nothing that can be used. */
static bool restore_from(ad_adapting *a, const char *name, fc_message message)
{
    uint8_t *data, *body, subject[32];
    size_t size;
    bool good = sf_load(a->folder, name, &data, &body, &size, message) == ETSA_OK && body != NULL && size > HEADER;
    subject_of(a, subject);
    if (good && memcmp(body, subject, sizeof subject) != 0) {
        say(message, ETSA_OK, "learning starts afresh: another base, adapter, signal or interval");
        good = false;
    } else if (good && !eta_load(&a->learner, body + HEADER, size - HEADER)) {
        say(message, ETSA_OK, "what was learnt cannot be used, learning starts afresh");
        good = false;
    } else if (good) {
        memcpy(&a->day, body + 32, sizeof a->day);
        memcpy(&a->written, body + 40, sizeof a->written);
    }
    free(data);
    return good;
}

static void restore(ad_adapting *a)
{
    fc_message message, older;
    if (restore_from(a, LEARNER, message) || message[0] == '\0') return;
    (void)restore_from(a, OLD_LEARNER, older); /* the file was damaged, or is of something else */
    say(a->problem, ETSA_OK, message);
}

/* --- decisions ------------------------------------------------------------------------------------------------------- */

static bool has_decision(const ad_adapting *a, uint32_t number)
{
    char path[4096];
    struct stat found;
    int size = snprintf(path, sizeof path, "%s/" DECISION, a->folder, (unsigned)number);
    return size > 0 && (size_t)size < sizeof path && lstat(path, &found) == 0;
}

/* How many wait. The hand-over removes the first ones first. */
static uint32_t decisions(const ad_adapting *a)
{
    uint32_t count = 0;
    for (uint32_t number = 1; number <= 2 * MOST_DECISIONS; number++) count += has_decision(a, number);
    return count;
}

static uint32_t last_decision(const ad_adapting *a)
{
    uint32_t last = 0;
    for (uint32_t number = 1; number <= 2 * MOST_DECISIONS; number++)
        if (has_decision(a, number)) last = number;
    return last;
}

static int put_facts(const ad_adapting *a, char *text, size_t size)
{
    static const char *const STATES[] = {"gathering", "shadow", "promoted"}, *const WISHES[] = {"none", "promote", "demote"};
    const eta_learner *l = &a->learner;
    double squares = 0;
    for (uint32_t i = 0; i < l->optimiser.size; i++) squares += (double)l->optimiser.mean[i] * (double)l->optimiser.mean[i];
    return snprintf(
        text, size,
        "{\"capped\":%llu,\"demotions\":%u,\"evidence_wanted\":%.17g,\"in_a_row\":%llu,\"log_evidence\":%.17g,"
        "\"log_reverse_evidence\":%.17g,\"lost\":[%.17g,%.17g,%.17g],\"missed\":%llu,\"refused\":%llu,\"shift_rms\":%.9g,"
        "\"spoilt\":%llu,\"state\":\"%s\",\"stays\":%llu,\"stays_judged\":%llu,\"steps\":%llu,\"values\":[%llu,%llu,%llu,%llu],"
        "\"verdict\":\"%s\",\"windows\":%u}",
        (unsigned long long)l->optimiser.capped, l->promotion.demotions, etq_promotion_wanted(&l->promotion),
        (unsigned long long)l->in_a_row, etq_evidence_log(&l->promotion.better), etq_evidence_log(&l->promotion.worse), l->lost[0],
        l->lost[1], l->lost[2], (unsigned long long)a->queue.left_out, (unsigned long long)l->refused,
        sqrt(squares / (l->optimiser.size > 0 ? l->optimiser.size : 1)), (unsigned long long)l->spoilt, STATES[l->state],
        (unsigned long long)l->stays, (unsigned long long)l->promotion.better.units, (unsigned long long)l->optimiser.steps,
        (unsigned long long)l->counts.values, (unsigned long long)l->counts.out_of_range, (unsigned long long)l->counts.jumps,
        (unsigned long long)l->counts.flat, WISHES[l->wish], (unsigned)l->reservoir.held);
}

/* Write a decision durably, before anything follows from it. blob: of a promotion. */
static etsa_err decide(const ad_adapting *a, const char *event, const char *reason, const uint8_t *blob, uint32_t size, fc_message message)
{
    char head[HEAD_SIZE], facts[HEAD_SIZE / 2], name[32], parent[65] = "", own[65] = "";
    uint8_t digest[32];
    if (a->rules.has_parent) hex_of(a->rules.parent, parent);
    digest_of(blob != NULL ? blob : a->own, blob != NULL ? size : a->own_size, digest);
    hex_of(digest, own);
    (void)put_facts(a, facts, sizeof facts);
    int used = snprintf(head, sizeof head, "{\"adapter\":\"%s\",\"blob\":%u,\"event\":\"%s\",\"learnt\":%s,\"over\":\"%s\",\"reason\":\"%s\"}\n",
                        own, (unsigned)(blob != NULL ? size : 0), event, facts, parent, reason);
    snprintf(name, sizeof name, DECISION, (unsigned)last_decision(a) + 1);
    return sf_save(a->folder, name, false, (const uint8_t *)head, (size_t)used, blob, blob != NULL ? size : 0, message);
}

/* Take the last decision back: nothing followed from it. */
static void undecide(const ad_adapting *a)
{
    char path[4096];
    int size = snprintf(path, sizeof path, "%s/" DECISION, a->folder, (unsigned)last_decision(a));
    if (size > 0 && (size_t)size < sizeof path) (void)!unlink(path);
}

/* The blob that should run: of the last decision that waits, else what the record said. *size 0: none. */
static etsa_err load_own(const ad_adapting *a, uint8_t **blob, uint32_t *size, fc_message message)
{
    char name[32] = OWN;
    uint8_t *data, *body, *at;
    size_t all;
    *blob = NULL;
    *size = 0;
    uint32_t last = last_decision(a);
    if (last > 0) snprintf(name, sizeof name, DECISION, (unsigned)last);
    etsa_err err = sf_load(a->folder, name, &data, &body, &all, message);
    if (err != ETSA_OK || body == NULL) return err;
    at = last > 0 ? memchr(body, '\n', all) : body - 1;
    if (at != NULL && all > (size_t)(at + 1 - body) && all <= ETSA_MAX_BLOB_SIZE + HEAD_SIZE) {
        *size = (uint32_t)(all - (size_t)(at + 1 - body));
        *blob = malloc(*size);
        if (*blob != NULL) memcpy(*blob, at + 1, *size);
        else err = say(message, ETSA_STORAGE_ERROR, "out of memory");
    }
    free(data);
    return err;
}

/* --- what was learnt, as a blob ---------------------------------------------------------------------------------------- */

/* The tensors that may move, over a shift[n] of all three. Returns how many. */
static uint32_t moved_of(const ad_adapting *a, float *shift, etsw_moved moved[ETL_BIASES])
{
    uint32_t places[FC_BIASES], count = 0;
    fc_states_tensors(a->states, places);
    for (uint32_t k = 0; k < ETL_BIASES; shift += a->learner.optimiser.sizes[k++]) {
        if (!a->rules.config.moves[k]) continue;
        moved[count++] = (etsw_moved){.tensor = places[k], .rows = a->learner.optimiser.sizes[k], .columns = 1, .shift = shift};
    }
    return count;
}

/* Check a blob against the envelope and get its shift[n]. */
static etsa_err check_own(const ad_adapting *a, const uint8_t *blob, uint32_t size, float *shift, fc_message message)
{
    etsa_adapter own;
    etsw_moved moved[ETL_BIASES];
    memset(shift, 0, a->learner.optimiser.size * sizeof *shift);
    etsa_err err = etsa_decode(blob, size, &own);
    if (err != ETSA_OK) return say(message, err, "the blob that was learnt here is damaged");
    const char *why = etsw_breach(&own, fc_states_adapter(a->states), moved, moved_of(a, shift, moved),
                                  a->rules.config.rules.learning.cap_tensor);
    if (why == NULL) return ETSA_OK;
    snprintf(message, FC_MESSAGE_SIZE, "what was learnt here does not run: %.200s", why);
    return ETSA_SETTINGS_ERROR;
}

/* Write, with a known answer, and prove it: *blob is the caller's to free, shift[n] what it moves. */
static etsa_err make_own(ad_adapting *a, sv_service *service, uint8_t **blob, uint32_t *size, float *shift, fc_message message)
{
    oa_answer answer;
    etsw_moved moved[ETL_BIASES];
    const etsa_adapter *parent = fc_states_adapter(a->states);
    const ar_rules *r = &a->rules;
    etsw_binding binding = {.signal = r->signal, .signal_code = r->code, .unit = r->unit, .interval_us = r->interval_us,
                            .context_length = r->config.context_length, .prediction_length = a->learner.model.block.steps,
                            .low = r->low, .high = r->high};
    memcpy(shift, eta_candidate(&a->learner), a->learner.optimiser.size * sizeof *shift);
    etsw_own own = {.base_digest = fc_bundle(a->base)->digest, .parent = parent, .binding = &binding, .moved = moved,
                    .moved_count = moved_of(a, shift, moved), .generation = a->generation + 1, .envelope = r->envelope};
    *blob = malloc(ETSA_MAX_BLOB_SIZE);
    if (*blob == NULL) return say(message, ETSA_STORAGE_ERROR, "out of memory");
    etsa_err err = etsw_write(&own, *blob, ETSA_MAX_BLOB_SIZE, size);
    if (err != ETSA_OK) return say(message, err, "what was learnt cannot be written as a blob");
    err = check_own(a, *blob, *size, shift, message); /* now as it was rounded */
    if (err == ETSA_OK) err = oa_choose(a->states, shift, r->level, r->spread, &answer, message);
    if (err != ETSA_OK) return err;
    float *wanted = malloc(a->learner.optimiser.size * sizeof *wanted);
    if (wanted == NULL) return say(message, ETSA_STORAGE_ERROR, "out of memory");
    memcpy(wanted, eta_candidate(&a->learner), a->learner.optimiser.size * sizeof *wanted);
    own.moved_count = moved_of(a, wanted, moved);
    own.context = answer.context;
    own.context_size = OA_CONTEXT;
    own.expected = answer.expected;
    own.expected_size = answer.expected_size;
    own.tolerance = answer.tolerance;
    err = etsw_write(&own, *blob, ETSA_MAX_BLOB_SIZE, size);
    free(wanted);
    if (err != ETSA_OK) return say(message, err, "what was learnt cannot be written as a blob");
    return sv_prove_own(service, 0, *blob, *size, message);
}

static void set_own(ad_adapting *a, uint8_t *blob, uint32_t size)
{
    free(a->own);
    a->own = blob;
    a->own_size = size;
}

static etsa_err promote(ad_adapting *a, sv_service *service, fc_message message)
{
    char reason[128];
    uint8_t *blob = NULL;
    uint32_t size = 0;
    float *shift = malloc(a->learner.optimiser.size * sizeof *shift);
    etsa_err err = shift == NULL ? say(message, ETSA_STORAGE_ERROR, "out of memory") : make_own(a, service, &blob, &size, shift, message);
    snprintf(reason, sizeof reason, "better over %llu stays", (unsigned long long)a->learner.promotion.better.units);
    if (err == ETSA_OK) err = decide(a, "promote", reason, blob, size, message);
    if (err == ETSA_OK) {
        err = sv_swap_own(service, 0, blob, size, message);
        if (err != ETSA_OK) undecide(a);
    }
    if (err == ETSA_OK) {
        set_own(a, blob, size);
        blob = NULL;
        a->generation++;
        (void)eta_promote(&a->learner, shift);
        a->dirty = true;
        keep(a, true);
        snprintf(message, FC_MESSAGE_SIZE, "promoted generation %llu: %s", (unsigned long long)a->generation, reason);
    }
    free(blob);
    free(shift);
    return err;
}

static etsa_err demote(ad_adapting *a, sv_service *service, const char *reason, bool by_evidence, fc_message message)
{
    etsa_err err = decide(a, "demote", reason, NULL, 0, message);
    if (err != ETSA_OK) return err;
    err = sv_swap(service, 0, a->parent, a->parent_size, message);
    if (err != ETSA_OK) undecide(a);
    if (err != ETSA_OK) return err;
    set_own(a, NULL, 0);
    (void)eta_demote(&a->learner, by_evidence);
    a->dirty = true;
    keep(a, true);
    snprintf(message, FC_MESSAGE_SIZE, "demoted: %.200s", reason);
    return ETSA_OK;
}

bool ad_look(ad_adapting *a, sv_service *service, fc_message message)
{
    etsa_err err = ETSA_OK;
    bool changed = false;
    message[0] = '\0';
    pthread_mutex_lock(&a->using);
    if (a->learns && a->learner.wish != ETQ_NONE && may_act(a) && now_ms() >= a->retry_at) {
        bool promotes = a->learner.wish == ETQ_PROMOTE;
        err = promotes ? promote(a, service, message) : demote(a, service, eta_reason_text(a->learner.reason), true, message);
        changed = err == ETSA_OK;
        if (!changed) {
            a->retry_at = now_ms() + RETRY_MS;
            snprintf(a->problem, sizeof a->problem, "nothing was %s: %.200s", promotes ? "promoted" : "demoted", message);
        }
    }
    if (a->learns && now_ms() >= a->save_at) {
        keep(a, false);
        a->save_at = now_ms() + SAVE_MS;
    }
    pthread_mutex_unlock(&a->using);
    return changed;
}

/* --- opened and installed ------------------------------------------------------------------------------------------------ */

static void stop_learning(ad_adapting *a)
{
    keep(a, false);
    a->learns = false;
    fc_states_close(a->states);
    a->states = NULL;
    free(a->memory);
    free(a->image);
    a->memory = NULL;
    a->image = NULL;
}

/* Which of the three biases may move. */
static etsa_err set_moves(ad_adapting *a, fc_message message)
{
    uint32_t places[FC_BIASES], found = 0;
    fc_states_tensors(a->states, places);
    for (uint32_t k = 0; k < FC_BIASES; k++) {
        a->rules.config.moves[k] = false;
        for (uint32_t i = 0; i < a->rules.tensor_count; i++) a->rules.config.moves[k] |= a->rules.tensors[i] == places[k];
        found += a->rules.config.moves[k];
    }
    if (found == a->rules.tensor_count) return ETSA_OK;
    return say(message, ETSA_SETTINGS_ERROR, "the envelope names a tensor that the output block's learning does not move");
}

static etsa_err start_learning(ad_adapting *a, const fc_policy *policy, fc_message message)
{
    etsa_err err = fc_states_open(a->base, a->parent, a->parent_size, policy, &a->states, message);
    if (err == ETSA_OK) err = set_moves(a, message);
    if (err != ETSA_OK) return err;
    const etsa_adapter *adapter = fc_states_adapter(a->states);
    eta_model model = {.block = *fc_states_block(a->states), .state = run_state,
                       .calibrate = adapter != NULL && adapter->calibration_levels > 0 ? calibrate : NULL, .user = a};
    size_t size = eta_memory(&model, &a->rules.config);
    a->memory = size > 0 ? malloc(size) : NULL;
    if (size == 0) return say(message, ETSA_SETTINGS_ERROR, "the rules do not fit the base");
    if (a->memory == NULL) return say(message, ETSA_STORAGE_ERROR, "out of memory");
    if (!eta_init(&a->learner, &model, &a->rules.config, a->memory, size)) return say(message, ETSA_SETTINGS_ERROR, "the rules do not fit the base");
    a->image_size = HEADER + eta_image_size(&a->learner);
    a->image = malloc(a->image_size);
    if (a->image == NULL) return say(message, ETSA_STORAGE_ERROR, "out of memory");
    a->day = today();
    a->written = 0;
    restore(a);
    a->learns = true;
    a->dirty = false;
    a->retry_at = 0;
    a->save_at = now_ms() + SAVE_MS;
    return ETSA_OK;
}

/* Whether the rules are for this bundle and for what channel 0 runs. */
static etsa_err check_rules(const ad_adapting *a, fc_message message)
{
    uint8_t digest[32];
    uint32_t blob_size = 0;
    const ar_rules *r = &a->rules;
    if (memcmp(r->base, fc_bundle(a->base)->digest, 32) != 0) return say(message, ETSA_BASE_MISMATCH_ERROR, "the rules are for another base");
    if (memcmp(r->learning, fc_learning(a->base)->digest, 32) != 0) {
        return say(message, ETSA_BASE_MISMATCH_ERROR, "the rules are for other learning graphs than the bundle has");
    }
    if (a->parent != NULL && etsa_blob_size(a->parent, a->parent_size, &blob_size) == ETSA_OK) digest_of(a->parent, blob_size, digest);
    if (r->has_parent != (a->parent != NULL) || (r->has_parent && memcmp(r->parent, digest, 32) != 0)) {
        return say(message, ETSA_STATE_ERROR, "the rules are for another adapter than the one that runs: hand over again");
    }
    return ETSA_OK;
}

/* Run what the record or the last decision says; the learner is told. */
static etsa_err agree(ad_adapting *a, sv_service *service, fc_message message)
{
    uint8_t *blob;
    uint32_t size;
    etsa_err err = load_own(a, &blob, &size, message);
    bool wanted = err == ETSA_OK && blob != NULL && a->rules.config.rules.mode == ETA_ACTIVE;
    float *shift = wanted ? malloc(a->learner.optimiser.size * sizeof *shift) : NULL;
    if (wanted) err = shift == NULL ? say(message, ETSA_STORAGE_ERROR, "out of memory") : check_own(a, blob, size, shift, message);
    bool same = wanted && a->own != NULL && a->own_size == size && memcmp(a->own, blob, size) == 0;
    if (wanted && err == ETSA_OK && !same) err = sv_swap_own(service, 0, blob, size, message);
    wanted = wanted && err == ETSA_OK;
    if (!wanted && a->own != NULL) {
        fc_message why;
        etsa_err back = sv_swap(service, 0, a->parent, a->parent_size, why);
        if (back == ETSA_OK) set_own(a, NULL, 0);
        else if (err == ETSA_OK) err = say(message, back, why);
    }
    if (wanted && !same) {
        set_own(a, blob, size);
        blob = NULL;
    }
    const eta_learner *l = &a->learner;
    bool known = l->state == ETA_PROMOTED && wanted && memcmp(l->promoted, shift, l->optimiser.size * sizeof *shift) == 0;
    if (wanted && !known && !eta_promote(&a->learner, shift)) {
        err = demote(a, service, "what was learnt is lost: nothing could show any more that it harms", false, message);
    } else if (!wanted && l->state == ETA_PROMOTED) {
        (void)eta_demote(&a->learner, false);
    }
    a->dirty = a->dirty || !known;
    free(blob);
    free(shift);
    return err;
}

void ad_install(ad_adapting *a, sv_service *service, const uint8_t *data, size_t size, fc_message message)
{
    static const fc_policy any = {.need_known_answer = true}; /* the service has checked the signature, and what it is for */
    uint8_t *copy = size > 0 ? malloc(size) : NULL;
    message[0] = '\0';
    if (copy != NULL) memcpy(copy, data, size);
    pthread_mutex_lock(&a->using);
    stop_learning(a);
    bool same = size == a->parent_size && (size == 0 || (copy != NULL && memcmp(copy, a->parent, size) == 0));
    if (!same) set_own(a, NULL, 0); /* channel 0 was swapped */
    free(a->parent);
    a->parent = copy;
    a->parent_size = copy != NULL ? size : 0;
    a->problem[0] = '\0';
    etsa_err err = ar_load(a->folder, &a->rules, &a->there, message);
    bool learns = err == ETSA_OK && a->there && a->rules.config.rules.mode >= ETA_SHADOW;
    if (learns) err = check_rules(a, message);
    if (learns && err == ETSA_OK) err = start_learning(a, &any, message);
    if (learns && err == ETSA_OK && a->rules.generation > a->generation) a->generation = a->rules.generation;
    if (learns && err == ETSA_OK) err = agree(a, service, message);
    else if (a->own != NULL && sv_swap(service, 0, a->parent, a->parent_size, a->problem) == ETSA_OK) set_own(a, NULL, 0);
    if (err != ETSA_OK) {
        snprintf(a->problem, sizeof a->problem, "[%d] %.230s", (int)err, message);
        if (!a->learns) stop_learning(a);
    }
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
    snprintf(message, FC_MESSAGE_SIZE, "%s", a->problem);
    pthread_mutex_unlock(&a->using);
}

bool ad_runs_own(const ad_adapting *a) { return a->own != NULL; }

void ad_print(ad_adapting *a, FILE *to)
{
    static const char *const MODES[] = {"off", "shadow", "bounded", "active"};
    char facts[HEAD_SIZE] = "null";
    pthread_mutex_lock(&a->using);
    if (a->learns) (void)put_facts(a, facts, sizeof facts);
    fprintf(to, "{\"decisions\":%u,\"generation\":%llu,\"learnt\":%s,\"mode\":\"%s\",\"own\":%s,\"problem\":\"", (unsigned)decisions(a),
            (unsigned long long)a->generation, facts, a->there ? MODES[a->rules.config.rules.mode] : "off", a->own != NULL ? "true" : "false");
    for (const char *c = a->problem; *c != '\0'; c++) fputc(*c == '"' || *c == '\\' || *c < 0x20 || *c > 0x7e ? '?' : *c, to);
    fputs("\"}", to);
    pthread_mutex_unlock(&a->using);
}

etsa_err ad_open(fc_base *base, const char *folder, ad_adapting **out, fc_message message)
{
    struct stat found;
    *out = NULL;
    if (stat(folder, &found) != 0 || !S_ISDIR(found.st_mode)) {
        snprintf(message, FC_MESSAGE_SIZE, "%.200s is no folder: it is to hold what is learnt", folder);
        return ETSA_STORAGE_ERROR;
    }
    etsa_err err = fc_learning_open(base, message);
    if (err != ETSA_OK) return err;
    ad_adapting *a = calloc(1, sizeof *a);
    if (a == NULL) return say(message, ETSA_STORAGE_ERROR, "out of memory");
    pthread_mutex_init(&a->feeding, NULL);
    pthread_mutex_init(&a->using, NULL);
    a->base = base;
    a->folder = folder;
    a->minute = -1;
    a->feed_values = malloc(ETA_MAX_STAY * sizeof *a->feed_values);
    a->queue_values = malloc(QUEUED * sizeof *a->queue_values);
    a->stay = malloc(ETA_MAX_STAY * sizeof *a->stay);
    if (a->feed_values == NULL || a->queue_values == NULL || a->stay == NULL || !eta_queue_begin(&a->queue, a->queue_values, QUEUED)) {
        ad_close(a);
        return say(message, ETSA_STORAGE_ERROR, "out of memory");
    }
    sf_clean(folder, LEARNER);
    for (uint32_t number = 1; number <= 2 * MOST_DECISIONS; number++) {
        char name[32];
        snprintf(name, sizeof name, DECISION, (unsigned)number);
        sf_clean(folder, name);
    }
    *out = a;
    return ETSA_OK;
}

void ad_close(ad_adapting *a)
{
    if (a == NULL) return;
    stop_learning(a);
    set_own(a, NULL, 0);
    free(a->parent);
    free(a->feed_values);
    free(a->queue_values);
    free(a->stay);
    pthread_mutex_destroy(&a->feeding);
    pthread_mutex_destroy(&a->using);
    free(a);
}
