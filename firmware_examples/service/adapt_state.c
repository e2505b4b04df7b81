/* The learner's file: of the rules and the adapter that it names, no more than so many bytes a day. */
#define _POSIX_C_SOURCE 200809L
#include "adapting_parts.h"
#include "sealed_file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOST_KIB (UINT64_MAX / 4096)
#define SEAL_SIZE 65u /* of a sealed file: its SHA-256 in hexadecimal, and a blank */

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

/* Without windows the file always has one size: a longer old one holds windows, which are of patients' values. */
static void forget_old_windows(const ad_adapting *a, size_t size)
{
    char path[4096];
    struct stat found;
    int length = snprintf(path, sizeof path, "%s/" OLD_LEARNER, a->folder);
    if (a->rules.config.rules.keep_on_disk || length < 0 || (size_t)length >= sizeof path) return;
    if (lstat(path, &found) == 0 && (size_t)found.st_size > size + SEAL_SIZE) (void)!unlink(path);
}

static int64_t today(void) { return (int64_t)(time(NULL) / DAY_S); }

/* Write what was learnt, as far as the day's bytes go; `now`: what must not wait for tomorrow. */
void ad_keep(ad_adapting *a, bool now)
{
    fc_message message;
    if (!a->learns || !a->dirty) return;
    if (today() != a->day) {
        a->day = today();
        a->written = 0;
    }
    size_t size = HEADER + eta_image_size(&a->learner);
    uint64_t most = 1024 * (a->rules.kib_per_day < MOST_KIB ? a->rules.kib_per_day : MOST_KIB);
    if (!now && (a->written > most || size > most - a->written)) {
        ad_say(a->problem, ETSA_OK, "the bytes of this day are spent: what was learnt is written tomorrow");
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
    forget_old_windows(a, size);
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
        ad_say(message, ETSA_OK, "learning starts afresh: another base, adapter, signal or interval");
        good = false;
    } else if (good && !eta_load(&a->learner, body + HEADER, size - HEADER)) {
        ad_say(message, ETSA_OK, "what was learnt cannot be used, learning starts afresh");
        good = false;
    } else if (good) {
        memcpy(&a->day, body + 32, sizeof a->day);
        memcpy(&a->written, body + 40, sizeof a->written);
    }
    free(data);
    return good;
}

void ad_restore(ad_adapting *a)
{
    fc_message message, older;
    a->day = today();
    a->written = 0;
    if (restore_from(a, LEARNER, message) || message[0] == '\0') return;
    (void)restore_from(a, OLD_LEARNER, older); /* the file was damaged, or is of something else */
    ad_say(a->problem, ETSA_OK, message);
}
