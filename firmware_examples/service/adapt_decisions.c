/* Promotions and demotions as files, for the hand-over. */
#define _POSIX_C_SOURCE 200809L
#include "adapting_parts.h"
#include "sealed_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void hex_of(const uint8_t digest[32], char hex[65])
{
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static bool has_decision(const ad_adapting *a, uint32_t number)
{
    char path[4096];
    struct stat found;
    int size = snprintf(path, sizeof path, "%s/" DECISION, a->folder, (unsigned)number);
    return size > 0 && (size_t)size < sizeof path && lstat(path, &found) == 0;
}

/* How many wait. The hand-over removes the first ones first. */
uint32_t ad_decisions(const ad_adapting *a)
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

int ad_put_facts(const ad_adapting *a, char *text, size_t size)
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
etsa_err ad_decide(const ad_adapting *a, const char *event, const char *reason, const uint8_t *blob, uint32_t size, fc_message message)
{
    char head[HEAD_SIZE], facts[HEAD_SIZE / 2], name[32], parent[65] = "", own[65] = "";
    uint8_t digest[32];
    if (ad_decisions(a) >= MOST_DECISIONS || last_decision(a) >= 2 * MOST_DECISIONS) {
        return ad_say(message, ETSA_STATE_ERROR, "too many decisions wait for the hand-over");
    }
    if (a->rules.has_parent) hex_of(a->rules.parent, parent);
    ad_digest_of(blob != NULL ? blob : a->own, blob != NULL ? size : a->own_size, digest);
    hex_of(digest, own);
    (void)ad_put_facts(a, facts, sizeof facts);
    int used = snprintf(head, sizeof head, "{\"adapter\":\"%s\",\"blob\":%u,\"event\":\"%s\",\"learnt\":%s,\"over\":\"%s\",\"reason\":\"%s\"}\n",
                        own, (unsigned)(blob != NULL ? size : 0), event, facts, parent, reason);
    snprintf(name, sizeof name, DECISION, (unsigned)last_decision(a) + 1);
    return sf_save(a->folder, name, false, (const uint8_t *)head, (size_t)used, blob, blob != NULL ? size : 0, message);
}

/* Take the last decision back: nothing followed from it. */
void ad_undecide(const ad_adapting *a)
{
    char path[4096];
    int size = snprintf(path, sizeof path, "%s/" DECISION, a->folder, (unsigned)last_decision(a));
    if (size > 0 && (size_t)size < sizeof path) (void)!unlink(path);
}

/* The blob that should run: of the last decision that waits, else what the record said. *size 0: none. */
etsa_err ad_load_own(const ad_adapting *a, uint8_t **blob, uint32_t *size, fc_message message)
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
        else err = ad_say(message, ETSA_STORAGE_ERROR, "out of memory");
    }
    free(data);
    return err;
}
