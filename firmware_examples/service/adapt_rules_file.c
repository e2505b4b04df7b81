#define _POSIX_C_SOURCE 200809L
#include "adapt_rules_file.h"
#include "arguments.h"
#include "sealed_file.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION 1u

enum form { TEXT, DIGEST, WHOLE32, WHOLE64, SIGNED64, REAL, SINGLE, FLAG, MODE, TENSORS };

typedef struct field {
    const char *name;
    enum form form;
    size_t at; /* in ar_rules */
    size_t size; /* of a text's room */
} field;

#define AT(member) offsetof(ar_rules, member)
#define RULE(member) offsetof(ar_rules, config.rules.member)

/* In the order in which they are written: every line once. */
static const field FIELDS[] = {
    {"base", DIGEST, AT(base), 0},
    {"learning", DIGEST, AT(learning), 0},
    {"has_parent", FLAG, AT(has_parent), 0},
    {"parent", DIGEST, AT(parent), 0},
    {"envelope", WHOLE64, AT(envelope), 0},
    {"generation", WHOLE64, AT(generation), 0},
    {"by_device", FLAG, AT(by_device), 0},
    {"tensors", TENSORS, 0, 0},
    {"signal", TEXT, AT(signal), sizeof ((ar_rules *)0)->signal},
    {"code", TEXT, AT(code), sizeof ((ar_rules *)0)->code},
    {"unit", TEXT, AT(unit), sizeof ((ar_rules *)0)->unit},
    {"interval_us", WHOLE64, AT(interval_us), 0},
    {"context_length", WHOLE32, AT(config.context_length), 0},
    {"prediction_length", WHOLE32, AT(config.steps), 0},
    {"low", SINGLE, AT(low), 0},
    {"high", SINGLE, AT(high), 0},
    {"plausible_low", SINGLE, AT(config.low), 0},
    {"plausible_high", SINGLE, AT(config.high), 0},
    {"gap_steps", SIGNED64, AT(gap_steps), 0},
    {"ms_per_minute", REAL, AT(ms_per_minute), 0},
    {"kib_per_day", WHOLE64, AT(kib_per_day), 0},
    {"level", REAL, AT(level), 0},
    {"spread", REAL, AT(spread), 0},
    {"mode", MODE, RULE(mode), 0},
    {"windows", WHOLE32, RULE(windows), 0},
    {"new_windows", WHOLE32, RULE(new_windows), 0},
    {"kept_windows", WHOLE32, RULE(kept_windows), 0},
    {"keep_on_disk", FLAG, RULE(keep_on_disk), 0},
    {"stride", WHOLE32, RULE(stride), 0},
    {"steps", WHOLE32, RULE(steps), 0},
    {"batch", WHOLE32, RULE(batch), 0},
    {"first_windows", WHOLE32, RULE(first_windows), 0},
    {"rate", REAL, RULE(learning.rate), 0},
    {"average", REAL, RULE(learning.average), 0},
    {"blend", REAL, RULE(blend), 0},
    {"anchor", REAL, RULE(learning.anchor), 0},
    {"clip_norm", REAL, RULE(learning.clip_norm), 0},
    {"cap_tensor", REAL, RULE(learning.cap_tensor), 0},
    {"cap_day", REAL, RULE(learning.cap_day), 0},
    {"clip_spreads", REAL, RULE(clip_spreads), 0},
    {"scored_windows", WHOLE32, RULE(scored_windows), 0},
    {"promote_evidence", REAL, RULE(promote_evidence), 0},
    {"promote_stays", WHOLE32, RULE(promote_stays), 0},
    {"demote_evidence", REAL, RULE(demote_evidence), 0},
    {"long_stream", FLAG, RULE(long_stream), 0},
    {"offset_rate", REAL, RULE(offset_rate), 0},
    {"width_rate", REAL, RULE(width_rate), 0},
    {"cap_tracking", REAL, RULE(cap_tracking), 0},
    {"seed", WHOLE32, RULE(seed), 0},
    {"jump_spreads", REAL, RULE(clean.jump_spreads), 0},
    {"jump_share", REAL, RULE(clean.jump_share), 0},
    {"jump_steps", WHOLE32, RULE(clean.jump_steps), 0},
    {"flat_steps", WHOLE32, RULE(clean.flat_steps), 0},
};

static bool read_real(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    return *text != '\0' && *end == '\0' && !isnan(*value);
}

static bool read_tensors(char *text, ar_rules *rules)
{
    char *rest = NULL;
    uint64_t index;
    for (char *one = strtok_r(text, ",", &rest); one != NULL; one = strtok_r(NULL, ",", &rest)) {
        if (rules->tensor_count == AR_MAX_TENSORS || !fc_read_count(one, 0, ETSA_MAX_TENSORS - 1, &index)) return false;
        rules->tensors[rules->tensor_count++] = (uint32_t)index;
    }
    return rules->tensor_count > 0;
}

static bool read_mode(const char *text, eta_mode *mode)
{
    static const char *const MODES[] = {"off", "shadow", "bounded", "active"};
    for (int i = 0; i < 4; i++) {
        *mode = (eta_mode)i;
        if (strcmp(text, MODES[i]) == 0) return true;
    }
    return false;
}

static bool read_value(const field *f, char *text, ar_rules *rules)
{
    unsigned char *at = (unsigned char *)rules + f->at;
    uint64_t whole;
    double real;
    switch (f->form) {
    case TEXT:
        if (strlen(text) >= f->size) return false;
        memcpy(at, text, strlen(text) + 1);
        return true;
    case DIGEST: return fc_read_key(text, at);
    case WHOLE32:
        if (!fc_read_count(text, 0, UINT32_MAX, &whole)) return false;
        *(uint32_t *)(void *)at = (uint32_t)whole;
        return true;
    case WHOLE64: return fc_read_count(text, 0, UINT64_MAX, (uint64_t *)(void *)at);
    case SIGNED64:
        if (!fc_read_count(text, 0, INT64_MAX, &whole)) return false;
        *(int64_t *)(void *)at = (int64_t)whole;
        return true;
    case REAL: return read_real(text, (double *)(void *)at) && isfinite(*(double *)(void *)at);
    case SINGLE:
        if (!read_real(text, &real)) return false;
        *(float *)(void *)at = (float)real;
        return true;
    case FLAG:
        *(bool *)at = strcmp(text, "1") == 0;
        return *(bool *)at || strcmp(text, "0") == 0;
    case MODE: return read_mode(text, (eta_mode *)(void *)at);
    default: return read_tensors(text, rules);
    }
}

static etsa_err read_lines(char *text, ar_rules *rules, fc_message message)
{
    char expected[32];
    snprintf(expected, sizeof expected, "version %u\n", VERSION);
    if (strncmp(text, expected, strlen(expected)) != 0) {
        snprintf(message, FC_MESSAGE_SIZE, AR_FILE ": not of this release: want %.20s", expected);
        return ETSA_UNSUPPORTED_ERROR;
    }
    char *at = text + strlen(expected);
    for (size_t i = 0; i < sizeof FIELDS / sizeof *FIELDS; i++) {
        char *end = strchr(at, '\n');
        size_t size = strlen(FIELDS[i].name);
        bool named = end != NULL && strncmp(at, FIELDS[i].name, size) == 0 && at[size] == ' ';
        if (end != NULL) *end = '\0';
        if (!named || !read_value(&FIELDS[i], at + size + 1, rules)) {
            snprintf(message, FC_MESSAGE_SIZE, AR_FILE ": want %s and a value, got \"%.60s\"", FIELDS[i].name, at);
            return ETSA_FORMAT_ERROR;
        }
        at = end + 1;
    }
    if (*at == '\0') return ETSA_OK;
    snprintf(message, FC_MESSAGE_SIZE, AR_FILE ": more than is known: \"%.60s\"", at);
    return ETSA_FORMAT_ERROR;
}

etsa_err ar_load(const char *folder, ar_rules *rules, bool *there, fc_message message)
{
    uint8_t *data, *body;
    size_t size;
    memset(rules, 0, sizeof *rules);
    etsa_err err = sf_load(folder, AR_FILE, &data, &body, &size, message);
    *there = err == ETSA_OK && body != NULL;
    if (*there) err = read_lines((char *)body, rules, message);
    free(data);
    if (err != ETSA_OK || !*there) return err;
    const char *wrong = eta_rules_check(&rules->config.rules);
    if (wrong == NULL && (rules->interval_us < 1000 || rules->interval_us % 1000 != 0)) wrong = "interval_us: whole milliseconds";
    if (wrong == NULL && !(rules->ms_per_minute > 0 && rules->ms_per_minute <= 60000)) wrong = "ms_per_minute";
    if (wrong == NULL) {
        rules->config.interval_ms = (int64_t)(rules->interval_us / 1000);
        return ETSA_OK;
    }
    snprintf(message, FC_MESSAGE_SIZE, AR_FILE ": out of its bounds: %s", wrong);
    return ETSA_SETTINGS_ERROR;
}
