#define _POSIX_C_SOURCE 200809L
#include "adapting_parts.h"
#include "sealed_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

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

/* Whether the service itself may do what the evidence asks for. */
static bool may_act(const ad_adapting *a)
{
    if (a->learner.wish == ETQ_DEMOTE) return a->own != NULL;
    if (ad_decisions(a) + 1 >= MOST_DECISIONS) return false; /* the last place is a demotion's */
    return a->learner.wish == ETQ_PROMOTE && a->rules.config.rules.mode == ETA_ACTIVE && a->rules.by_device;
}

static bool piece(ad_adapting *a)
{
    int64_t end_ms;
    bool acts = a->learner.wish != ETQ_NONE && may_act(a);
    if (acts) return false; /* the main thread acts on it before more is learnt */
    if (!eta_busy(&a->learner)) {
        uint32_t count = ad_take_stay(a, &end_ms);
        if (count == 0) return false;
        (void)eta_finish(&a->learner, a->stay, count, end_ms);
        memset(a->stay, 0, count * sizeof *a->stay); /* a patient's values */
        a->dirty = true; /* its counts, where nothing else comes of it */
        return true;
    }
    eta_done done = eta_work(&a->learner, NULL, false, NULL);
    if (a->learner.wish == ETQ_DEMOTE && a->own == NULL) (void)eta_demote(&a->learner, false); /* the candidate alone fails */
    if (done == ETA_FAILED) a->retry_at = ad_now_ms() + RETRY_MS;
    a->dirty = a->dirty || done == ETA_WORKED;
    return done == ETA_WORKED;
}

bool ad_idle(void *user)
{
    ad_adapting *a = user;
    if (pthread_mutex_trylock(&a->using) != 0) return false;
    double began = ad_now_ms();
    int64_t minute = (int64_t)(began / 60000);
    if (minute != a->minute) {
        a->minute = minute;
        a->spent_ms = 0;
    }
    bool more = a->learns && began >= a->retry_at && a->spent_ms < a->rules.ms_per_minute && piece(a);
    a->spent_ms += ad_now_ms() - began;
    pthread_mutex_unlock(&a->using);
    return more;
}

static void set_own(ad_adapting *a, uint8_t *blob, uint32_t size)
{
    free(a->own);
    a->own = blob;
    a->own_size = size;
    a->parked = false;
}

static etsa_err promote(ad_adapting *a, sv_service *service, fc_message message)
{
    char reason[128];
    uint8_t *blob = NULL;
    uint32_t size = 0;
    float *shift = malloc(a->learner.optimiser.size * sizeof *shift);
    etsa_err err = shift == NULL ? ad_say(message, ETSA_STORAGE_ERROR, "out of memory") : ad_make_own(a, service, &blob, &size, shift, message);
    snprintf(reason, sizeof reason, "better over %llu stays", (unsigned long long)a->learner.promotion.better.units);
    if (err == ETSA_OK) err = ad_decide(a, "promote", reason, blob, size, message);
    if (err == ETSA_OK) {
        err = sv_swap_own(service, 0, blob, size, message);
        if (err != ETSA_OK) ad_undecide(a);
    }
    if (err == ETSA_OK) {
        set_own(a, blob, size);
        blob = NULL;
        a->generation++;
        (void)eta_promote(&a->learner, shift);
        a->dirty = true;
        ad_keep(a, true);
        snprintf(message, FC_MESSAGE_SIZE, "promoted generation %llu: %s", (unsigned long long)a->generation, reason);
    }
    free(blob);
    free(shift);
    return err;
}

/* What harms stops at once; the decision is written after that, and tried again until it can be. A promotion is the other
 * way round. A service that ends in between runs what the record says, and finds out again. */
static etsa_err demote(ad_adapting *a, sv_service *service, const char *reason, bool by_evidence, fc_message message)
{
    etsa_err err = a->parked ? ETSA_OK : sv_swap(service, 0, a->parent, a->parent_size, message);
    if (err != ETSA_OK) return err;
    a->parked = true;
    err = ad_decide(a, "demote", reason, NULL, 0, message);
    if (err != ETSA_OK) return err;
    set_own(a, NULL, 0);
    a->generation++; /* as the record's, which rises with every change */
    (void)eta_demote(&a->learner, by_evidence);
    a->dirty = true;
    ad_keep(a, true);
    snprintf(message, FC_MESSAGE_SIZE, "demoted: %.200s", reason);
    return ETSA_OK;
}

bool ad_look(ad_adapting *a, sv_service *service, fc_message message)
{
    etsa_err err = ETSA_OK;
    bool changed = false;
    message[0] = '\0';
    pthread_mutex_lock(&a->using);
    bool promotes = a->learns && a->learner.wish == ETQ_PROMOTE, at_once = !promotes && !a->parked;
    if (a->learns && a->learner.wish != ETQ_NONE && may_act(a) && (at_once || ad_now_ms() >= a->retry_at)) {
        err = promotes ? promote(a, service, message) : demote(a, service, eta_reason_text(a->learner.reason), true, message);
        changed = err == ETSA_OK;
        if (!changed) {
            a->retry_at = ad_now_ms() + RETRY_MS;
            snprintf(a->problem, sizeof a->problem, "%s: %.200s",
                     promotes ? "nothing was promoted" : a->parked ? "demoted, but the record does not know it" : "nothing was demoted", message);
        }
    }
    if (a->learns && ad_now_ms() >= a->save_at) {
        ad_keep(a, false);
        a->save_at = ad_now_ms() + SAVE_MS;
    }
    pthread_mutex_unlock(&a->using);
    return changed;
}

/* --- opened and installed ------------------------------------------------------------------------------------------------ */

static void stop_learning(ad_adapting *a)
{
    ad_keep(a, false);
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
    return ad_say(message, ETSA_SETTINGS_ERROR, "the envelope names a tensor that the output block's learning does not move");
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
    if (size == 0) return ad_say(message, ETSA_SETTINGS_ERROR, "the rules do not fit the base");
    if (a->memory == NULL) return ad_say(message, ETSA_STORAGE_ERROR, "out of memory");
    if (!eta_init(&a->learner, &model, &a->rules.config, a->memory, size)) return ad_say(message, ETSA_SETTINGS_ERROR, "the rules do not fit the base");
    a->image_size = HEADER + eta_image_size(&a->learner);
    a->image = malloc(a->image_size);
    if (a->image == NULL) return ad_say(message, ETSA_STORAGE_ERROR, "out of memory");
    ad_restore(a);
    a->learns = true;
    a->dirty = false;
    a->retry_at = 0;
    a->save_at = ad_now_ms() + SAVE_MS;
    return ETSA_OK;
}

/* Whether the rules are for this bundle and for what channel 0 runs. */
static etsa_err check_rules(const ad_adapting *a, fc_message message)
{
    uint8_t digest[32];
    uint32_t blob_size = 0;
    const ar_rules *r = &a->rules;
    if (memcmp(r->base, fc_bundle(a->base)->digest, 32) != 0) return ad_say(message, ETSA_BASE_MISMATCH_ERROR, "the rules are for another base");
    if (memcmp(r->learning, fc_learning(a->base)->digest, 32) != 0) {
        return ad_say(message, ETSA_BASE_MISMATCH_ERROR, "the rules are for other learning graphs than the bundle has");
    }
    if (r->config.interval_ms != a->interval_ms) return ad_say(message, ETSA_SETTINGS_ERROR, "the rules are for another interval than the service's");
    if (a->parent != NULL && etsa_blob_size(a->parent, a->parent_size, &blob_size) == ETSA_OK) ad_digest_of(a->parent, blob_size, digest);
    if (r->has_parent != (a->parent != NULL) || (r->has_parent && memcmp(r->parent, digest, 32) != 0)) {
        return ad_say(message, ETSA_STATE_ERROR, "the rules are for another adapter than the one that runs: hand over again");
    }
    return ETSA_OK;
}

/* Run what the record or the last decision says; the learner is told. */
static etsa_err agree(ad_adapting *a, sv_service *service, fc_message message)
{
    uint8_t *blob;
    uint32_t size;
    etsa_err err = ad_load_own(a, &blob, &size, message);
    bool wanted = err == ETSA_OK && blob != NULL && a->rules.config.rules.mode == ETA_ACTIVE;
    float *shift = wanted ? malloc(a->learner.optimiser.size * sizeof *shift) : NULL;
    if (wanted) err = shift == NULL ? ad_say(message, ETSA_STORAGE_ERROR, "out of memory") : ad_check_own(a, blob, size, shift, message);
    bool same = wanted && a->own != NULL && a->own_size == size && memcmp(a->own, blob, size) == 0;
    if (wanted && err == ETSA_OK && !same) err = sv_swap_own(service, 0, blob, size, message);
    wanted = wanted && err == ETSA_OK;
    if (!wanted && a->own != NULL) {
        fc_message why;
        etsa_err back = sv_swap(service, 0, a->parent, a->parent_size, why);
        if (back == ETSA_OK) set_own(a, NULL, 0);
        else if (err == ETSA_OK) err = ad_say(message, back, why);
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

/* Whether learning goes on by these rules as it is: they differ in what they say of the record at most. */
static bool goes_on(const ad_adapting *a, const ar_rules *next)
{
    ar_rules held = a->rules;
    held.envelope = next->envelope;
    held.generation = next->generation;
    held.by_device = next->by_device;
    memset(held.config.moves, 0, sizeof held.config.moves); /* not of the file */
    return a->learns && memcmp(&held, next, sizeof held) == 0;
}

/* Learn on what channel 0 runs now, by the rules that are there now; *learns: whether there are any. */
static etsa_err begin_anew(ad_adapting *a, uint8_t *parent, size_t size, bool *learns, fc_message message)
{
    static const fc_policy any = {.need_known_answer = true}; /* the service has checked the signature, and what it is for */
    stop_learning(a);
    free(a->parent);
    a->parent = parent;
    a->parent_size = parent != NULL ? size : 0;
    etsa_err err = ar_load(a->folder, &a->rules, &a->there, message);
    *learns = err == ETSA_OK && a->there && a->rules.config.rules.mode >= ETA_SHADOW;
    if (*learns) err = check_rules(a, message);
    etsa_err tracking = ad_track(a, *learns && err == ETSA_OK && eta_mode_may(a->rules.config.rules.mode).track, message);
    if (err == ETSA_OK) err = tracking;
    if (*learns && err == ETSA_OK) err = start_learning(a, &any, message);
    return err;
}

void ad_install(ad_adapting *a, sv_service *service, const uint8_t *data, size_t size, fc_message message)
{
    ar_rules next;
    bool there;
    uint8_t *copy = size > 0 ? malloc(size) : NULL;
    message[0] = '\0';
    if (copy != NULL) memcpy(copy, data, size);
    pthread_mutex_lock(&a->using);
    bool same = size == a->parent_size && (size == 0 || (copy != NULL && memcmp(copy, a->parent, size) == 0)), learns = true;
    if (!same) set_own(a, NULL, 0); /* channel 0 was swapped */
    a->problem[0] = '\0';
    etsa_err err = ETSA_OK;
    if (same && ar_load(a->folder, &next, &there, message) == ETSA_OK && there && goes_on(a, &next)) {
        free(copy);
        a->rules.envelope = next.envelope;
        a->rules.generation = next.generation;
        a->rules.by_device = next.by_device;
        a->retry_at = 0;
    } else {
        err = begin_anew(a, copy, size, &learns, message);
    }
    if (learns && err == ETSA_OK && a->rules.generation > a->generation) a->generation = a->rules.generation;
    if (learns && err == ETSA_OK) err = agree(a, service, message);
    else if (a->own != NULL && sv_swap(service, 0, a->parent, a->parent_size, a->problem) == ETSA_OK) set_own(a, NULL, 0);
    if (err != ETSA_OK) {
        snprintf(a->problem, sizeof a->problem, "[%d] %.230s", (int)err, message);
        if (!a->learns) stop_learning(a);
    }
    ad_begin_feed(a);
    snprintf(message, FC_MESSAGE_SIZE, "%s", a->problem);
    pthread_mutex_unlock(&a->using);
}

bool ad_runs_own(const ad_adapting *a) { return a->own != NULL && !a->parked; }

void ad_print(ad_adapting *a, FILE *to)
{
    static const char *const MODES[] = {"off", "shadow", "bounded", "active"};
    char facts[HEAD_SIZE] = "null";
    pthread_mutex_lock(&a->using);
    if (a->learns) (void)ad_put_facts(a, facts, sizeof facts);
    fprintf(to, "{\"decisions\":%u,\"generation\":%llu,\"learnt\":%s,\"mode\":\"%s\",\"own\":%s,\"problem\":\"", (unsigned)ad_decisions(a),
            (unsigned long long)a->generation, facts, a->there ? MODES[a->rules.config.rules.mode] : "off", ad_runs_own(a) ? "true" : "false");
    for (const char *c = a->problem; *c != '\0'; c++) fputc(*c == '"' || *c == '\\' || *c < 0x20 || *c > 0x7e ? '?' : *c, to);
    fputs("\"}", to);
    pthread_mutex_unlock(&a->using);
}

etsa_err ad_open(fc_base *base, const char *folder, int64_t interval_ms, ad_adapting **out, fc_message message)
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
    if (a == NULL) return ad_say(message, ETSA_STORAGE_ERROR, "out of memory");
    pthread_mutex_init(&a->feeding, NULL);
    pthread_mutex_init(&a->using, NULL);
    a->base = base;
    pthread_mutex_init(&a->tracker.lock, NULL);
    a->folder = folder;
    a->interval_ms = interval_ms;
    a->minute = -1;
    a->feed_values = malloc(ETA_MAX_STAY * sizeof *a->feed_values);
    a->queue_values = malloc(QUEUED * sizeof *a->queue_values);
    a->stay = malloc(ETA_MAX_STAY * sizeof *a->stay);
    if (a->feed_values == NULL || a->queue_values == NULL || a->stay == NULL || !eta_queue_begin(&a->queue, a->queue_values, QUEUED)) {
        ad_close(a);
        return ad_say(message, ETSA_STORAGE_ERROR, "out of memory");
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
    ad_track_end(a);
    free(a->parent);
    free(a->feed_values);
    free(a->queue_values);
    free(a->stay);
    pthread_mutex_destroy(&a->feeding);
    pthread_mutex_destroy(&a->using);
    pthread_mutex_destroy(&a->tracker.lock);
    free(a);
}
