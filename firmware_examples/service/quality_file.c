#define _POSIX_C_SOURCE 200809L
#include "quality_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>


#define MAX_SIZE 4194304u /* bytes, as in the Python runtime */
#define MAX_PATH 1024u
#define HEX 64u

static const char *const OTHERS[ETQ_OTHERS] = {"base", "previous"};
static const char *const VERDICTS[] = {"open", "better", "worse"};

/* --- writing: the same text twice, first into a digest, then into the file ------------------------------------------- */

typedef struct out {
    int handle; /* -1: into the digest */
    etsa_sha256_state *digest;
    bool failed;
    size_t used;
    char buffer[4096];
} out;

static void flush(out *o)
{
    size_t done = 0;
    if (o->handle < 0) {
        etsa_sha256_add(o->digest, (const uint8_t *)o->buffer, o->used);
        done = o->used;
    }
    while (done < o->used && !o->failed) {
        ssize_t size = write(o->handle, o->buffer + done, o->used - done);
        if (size > 0) done += (size_t)size;
        else if (size == 0 || errno != EINTR) o->failed = true;
    }
    o->used = 0;
}

static void text(out *o, const char *what)
{
    for (; *what != '\0'; what++) {
        if (o->used == sizeof o->buffer) flush(o);
        o->buffer[o->used++] = *what;
    }
}

/* The shortest decimal number that reads back as the same double. */
static void number(out *o, double value)
{
    char digits[40];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value) break;
    }
    text(o, digits);
}

static void whole(out *o, int64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)value);
    text(o, digits);
}

static void quoted(out *o, const char *what)
{
    char one[3] = {0};
    text(o, "\"");
    for (; *what != '\0'; what++) {
        bool escaped = *what == '"' || *what == '\\';
        one[0] = escaped ? '\\' : *what;
        one[1] = escaped ? *what : '\0';
        text(o, *what < 0x20 || *what > 0x7e ? "?" : one); /* ASCII, as the record is */
    }
    text(o, "\"");
}

static void identity(out *o, const etq_id *id)
{
    char hex[HEX + 3];
    if (!id->is_adapter) {
        text(o, "null");
        return;
    }
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", id->sha256[i]);
    text(o, "\"");
    text(o, hex);
    text(o, "\"");
}

static void numbers(out *o, const double *values, uint32_t count)
{
    text(o, "[");
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) text(o, ",");
        if (isinf(values[i])) text(o, "null"); /* the logarithm of nothing */
        else number(o, values[i]);
    }
    text(o, "]");
}

static void sums(out *o, const etq_sums *s, uint32_t levels)
{
    double all[8 + ETQ_MAX_LEVELS] = {s->windows, s->steps, s->missing, s->size, s->inside, s->ranged, s->scaled, s->scales};
    memcpy(all + 8, s->pinball, levels * sizeof *s->pinball);
    numbers(o, all, 8 + levels);
}

static void put_said(out *o, const etq_against *a, uint32_t levels)
{
    text(o, "{\"adapter\":");
    identity(o, &a->by);
    text(o, a->said_drift ? ",\"drift\":true,\"other\":" : ",\"drift\":false,\"other\":");
    sums(o, &a->said_other, levels);
    text(o, ",\"own\":");
    sums(o, &a->said_own, levels);
    text(o, ",\"units\":");
    numbers(o, a->said_moments, ETQ_MOMENTS);
    text(o, "}");
}

static void put_against(out *o, const etq_against *a, uint32_t levels)
{
    text(o, "{\"adapter\":");
    identity(o, &a->by);
    text(o, ",\"drift\":[");
    whole(o, (int64_t)a->drift.units);
    text(o, ",");
    numbers(o, a->drift.logs, ETQ_BETS);
    text(o, "],\"drift_since\":");
    whole(o, a->drift_since);
    text(o, ",\"moments\":");
    numbers(o, a->moments, ETQ_MOMENTS);
    text(o, ",\"other\":");
    sums(o, &a->other, levels);
    text(o, ",\"own\":");
    sums(o, &a->own, levels);
    text(o, ",\"trial\":");
    if (a->judged) {
        text(o, "[");
        number(o, a->trial.allowed);
        text(o, ",");
        quoted(o, VERDICTS[a->trial.verdict]);
        text(o, ",");
        numbers(o, a->trial.worse, ETQ_BETS);
        text(o, ",");
        numbers(o, a->trial.better, ETQ_BETS);
        text(o, "]}");
    } else text(o, "null}");
}

static void put_scored(out *o, const etq_scored *s)
{
    const char *comma = "";
    text(o, "{\"adapter\":");
    identity(o, &s->by);
    text(o, ",\"against\":{");
    for (uint32_t which = 0; which < ETQ_OTHERS; which++) {
        if (!s->against[which].begun) continue;
        text(o, comma);
        quoted(o, OTHERS[which]);
        text(o, ":");
        put_against(o, &s->against[which], s->level_count);
        comma = ",";
    }
    text(o, "},\"days\":{");
    for (uint32_t i = 0; i < s->day_count; i++) {
        text(o, i > 0 ? ",\"" : "\"");
        whole(o, s->days[i].day);
        text(o, "\":");
        sums(o, &s->days[i].sums, s->level_count);
    }
    text(o, "},\"levels\":");
    numbers(o, s->levels, s->level_count);
    text(o, ",\"recent\":");
    sums(o, &s->recent, s->level_count);
    text(o, ",\"said\":{");
    comma = "";
    for (uint32_t which = 0; which < ETQ_OTHERS; which++) {
        if (!s->against[which].said) continue;
        text(o, comma);
        quoted(o, OTHERS[which]);
        text(o, ":");
        put_said(o, &s->against[which], s->level_count);
        comma = ",";
    }
    if (s->said) {
        text(o, comma);
        text(o, "\"total\":");
        sums(o, &s->said_total, s->level_count);
    }
    text(o, "},\"since\":");
    whole(o, s->since);
    text(o, ",\"total\":");
    sums(o, &s->total, s->level_count);
    text(o, ",\"until\":");
    whole(o, s->until);
    text(o, "}");
}

/* A forecaster's figures in a report: those last scored, if there were enough. False if there are none. */
static bool put_published(out *o, const etq_scored *s, const char *comma)
{
    if (!s->said && !s->against[ETQ_BASE].said && !s->against[ETQ_PREVIOUS].said) return false;
    text(o, comma);
    text(o, "{\"adapter\":");
    identity(o, &s->by);
    if (s->against[ETQ_BASE].said) {
        text(o, ",\"base\":");
        put_said(o, &s->against[ETQ_BASE], s->level_count);
    }
    text(o, ",\"levels\":");
    numbers(o, s->levels, s->level_count);
    if (s->against[ETQ_PREVIOUS].said) {
        text(o, ",\"previous\":");
        put_said(o, &s->against[ETQ_PREVIOUS], s->level_count);
    }
    if (s->said) {
        text(o, ",\"total\":");
        sums(o, &s->said_total, s->level_count);
    }
    text(o, "}");
    return true;
}

static bool speaks(const etq_signal *signal)
{
    for (uint32_t i = 0; i < signal->count && i < ETQ_REPORTED; i++) {
        const etq_scored *s = &signal->held[signal->count - 1 - i];
        if (s->said || s->against[ETQ_BASE].said || s->against[ETQ_PREVIOUS].said) return true;
    }
    return false;
}

static void put_body(out *o, const etq_signal *signals, uint32_t count)
{
    const char *comma = "";
    text(o, "{\"left_out\":0,\"published\":{");
    for (uint32_t i = 0; i < count; i++) {
        const char *inner = "";
        if (!speaks(&signals[i])) continue;
        text(o, comma);
        quoted(o, signals[i].name);
        text(o, ":[");
        for (uint32_t j = 0; j < signals[i].count && j < ETQ_REPORTED; j++)
            if (put_published(o, &signals[i].held[signals[i].count - 1 - j], inner)) inner = ",";
        text(o, "]");
        comma = ",";
    }
    text(o, "},\"signals\":{");
    comma = "";
    for (uint32_t i = 0; i < count; i++) {
        if (signals[i].count == 0) continue;
        text(o, comma);
        quoted(o, signals[i].name);
        text(o, ":[");
        for (uint32_t j = 0; j < signals[i].count; j++) {
            if (j > 0) text(o, ",");
            put_scored(o, &signals[i].held[j]);
        }
        text(o, "]");
        comma = ",";
    }
    text(o, "},\"version\":1}");
    flush(o);
}

static etsa_err refused(const char *verb, const char *path, fc_message message)
{
    snprintf(message, FC_MESSAGE_SIZE, "cannot %s %.160s: %s", verb, path, strerror(errno));
    return ETSA_STORAGE_ERROR;
}

/* DIR/NAME -> DIR and DIR/.tmp-NAME. */
static bool beside(const char *path, char folder[MAX_PATH], char temporary[MAX_PATH])
{
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    size_t size = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (*name == '\0' || strlen(path) + sizeof ".tmp-" > MAX_PATH) return false;
    memcpy(folder, slash == NULL ? "." : path, slash == NULL ? 1 : size);
    folder[slash == NULL ? 1 : size] = '\0';
    snprintf(temporary, MAX_PATH, "%.*s.tmp-%s", (int)(name - path), path, name);
    return true;
}

static etsa_err write_temporary(const char *path, const etq_signal *signals, uint32_t count, fc_message message)
{
    etsa_sha256_state digest;
    uint8_t sum[32];
    char hex[HEX + 2];
    out o = {.handle = -1, .digest = &digest};
    etsa_sha256_start(&digest);
    put_body(&o, signals, count);
    etsa_sha256_end(&digest, sum);
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", sum[i]);

    if (unlink(path) != 0 && errno != ENOENT) return refused("remove", path, message);
    o.handle = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (o.handle < 0) return refused("create", path, message);
    text(&o, hex);
    text(&o, " ");
    put_body(&o, signals, count);
    text(&o, "\n");
    flush(&o);
    bool good = !o.failed && fsync(o.handle) == 0;
    int why = errno;
    if (close(o.handle) != 0 && good) {
        good = false;
        why = errno;
    }
    errno = why;
    return good ? ETSA_OK : refused("write", path, message);
}

void qf_clean(const char *path)
{
    char folder[MAX_PATH], temporary[MAX_PATH];
    if (beside(path, folder, temporary)) (void)!unlink(temporary);
}

etsa_err qf_save(const char *path, const etq_signal *signals, uint32_t count, fc_message message)
{
    char folder[MAX_PATH], temporary[MAX_PATH];
    if (!beside(path, folder, temporary)) {
        snprintf(message, FC_MESSAGE_SIZE, "%.160s is no file's path of at most %u bytes", path, MAX_PATH - 6u);
        return ETSA_STORAGE_ERROR;
    }
    etsa_err err = write_temporary(temporary, signals, count, message);
    if (err != ETSA_OK) return err;
    if (rename(temporary, path) != 0) return refused("rename to", path, message);
    int handle = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = handle >= 0 && fsync(handle) == 0;
    err = good ? ETSA_OK : refused("sync", folder, message);
    if (handle >= 0) close(handle);
    return err;
}

/* --- reading: only the form that is written, keys in their order; the seal detects any other writer ------------------ */

typedef struct in {
    const char *at; /* ends with a zero */
    bool good;
} in;

static bool take(in *i, const char *what)
{
    size_t size = strlen(what);
    if (!i->good || strncmp(i->at, what, size) != 0) return false;
    i->at += size;
    return true;
}

static void expect(in *i, const char *what)
{
    if (!take(i, what)) i->good = false;
}

static double read_number(in *i, bool may_be_null)
{
    char *end;
    if (may_be_null && take(i, "null")) return -INFINITY;
    if (!i->good || !(*i->at == '-' || (*i->at >= '0' && *i->at <= '9'))) {
        i->good = false;
        return 0;
    }
    double value = strtod(i->at, &end);
    if (!isfinite(value)) i->good = false;
    i->at = end;
    return value;
}

static int64_t read_whole(in *i)
{
    char *end;
    errno = 0;
    if (!i->good || !(*i->at == '-' || (*i->at >= '0' && *i->at <= '9'))) {
        i->good = false;
        return 0;
    }
    long long value = strtoll(i->at, &end, 10);
    if (errno != 0) i->good = false;
    i->at = end;
    return value;
}

static void read_id(in *i, etq_id *id)
{
    *id = (etq_id){0};
    if (take(i, "null")) return;
    expect(i, "\"");
    id->is_adapter = true;
    for (int k = 0; k < 64 && i->good; k++) {
        const char *digits = "0123456789abcdef", *found = *i->at != '\0' ? strchr(digits, *i->at) : NULL;
        if (found == NULL) i->good = false;
        else id->sha256[k / 2] = (unsigned char)(id->sha256[k / 2] << 4 | (found - digits));
        i->at++;
    }
    expect(i, "\"");
}

static void read_numbers(in *i, double *values, uint32_t count, bool logs)
{
    expect(i, "[");
    for (uint32_t k = 0; k < count && i->good; k++) {
        if (k > 0) expect(i, ",");
        values[k] = read_number(i, logs);
        if (!logs && values[k] < 0) i->good = false;
    }
    expect(i, "]");
}

static void read_sums(in *i, etq_sums *s, uint32_t levels)
{
    double all[8 + ETQ_MAX_LEVELS] = {0};
    read_numbers(i, all, 8 + levels, false);
    s->windows = all[0];
    s->steps = all[1];
    s->missing = all[2];
    s->size = all[3];
    s->inside = all[4];
    s->ranged = all[5];
    s->scaled = all[6];
    s->scales = all[7];
    memcpy(s->pinball, all + 8, levels * sizeof *s->pinball);
}

static void read_against(in *i, etq_against *a, uint32_t levels)
{
    expect(i, "{\"adapter\":");
    read_id(i, &a->by);
    a->begun = true;
    expect(i, ",\"drift\":[");
    a->drift.units = (uint64_t)read_whole(i);
    expect(i, ",");
    read_numbers(i, a->drift.logs, ETQ_BETS, true);
    expect(i, "],\"drift_since\":");
    a->drift_since = read_whole(i);
    expect(i, ",\"moments\":");
    read_numbers(i, a->moments, ETQ_MOMENTS, false);
    expect(i, ",\"other\":");
    read_sums(i, &a->other, levels);
    expect(i, ",\"own\":");
    read_sums(i, &a->own, levels);
    expect(i, ",\"trial\":");
    if (take(i, "null}")) return;
    expect(i, "[");
    a->judged = true;
    a->trial.allowed = read_number(i, false);
    expect(i, ",\"");
    a->trial.verdict = take(i, VERDICTS[ETQ_BETTER]) ? ETQ_BETTER : take(i, VERDICTS[ETQ_WORSE]) ? ETQ_WORSE : ETQ_OPEN;
    if (a->trial.verdict == ETQ_OPEN) expect(i, VERDICTS[ETQ_OPEN]);
    expect(i, "\",");
    read_numbers(i, a->trial.worse, ETQ_BETS, true);
    expect(i, ",");
    read_numbers(i, a->trial.better, ETQ_BETS, true);
    expect(i, "]}");
}

static void read_said(in *i, etq_against *a, uint32_t levels)
{
    etq_id by;
    expect(i, "{\"adapter\":");
    read_id(i, &by);
    if (!a->begun || !etq_same(&by, &a->by)) i->good = false;
    a->said = true;
    a->said_drift = take(i, ",\"drift\":true,\"other\":");
    if (!a->said_drift) expect(i, ",\"drift\":false,\"other\":");
    read_sums(i, &a->said_other, levels);
    expect(i, ",\"own\":");
    read_sums(i, &a->said_own, levels);
    expect(i, ",\"units\":");
    read_numbers(i, a->said_moments, ETQ_MOMENTS, false);
    expect(i, "}");
}

/* The number of levels, which are stored after the fields that need it. */
static uint32_t count_levels(const in *i)
{
    const char *at = strstr(i->at, "\"levels\":[");
    uint32_t count = 1;
    if (at == NULL) return 0;
    for (at += strlen("\"levels\":["); *at != ']' && *at != '\0'; at++) count += *at == ',';
    return count <= ETQ_MAX_LEVELS ? count : 0;
}

/* Days are written in the order of their numbers as text, and kept in that of time. */
static void read_day(in *i, etq_scored *s)
{
    uint32_t place = s->day_count++;
    expect(i, "\"");
    int64_t day = read_whole(i);
    while (place > 0 && s->days[place - 1].day > day) {
        s->days[place] = s->days[place - 1];
        place--;
    }
    if (place > 0 && s->days[place - 1].day == day) i->good = false;
    s->days[place].day = day;
    expect(i, "\":");
    read_sums(i, &s->days[place].sums, s->level_count);
}

static void read_scored(in *i, etq_scored *s)
{
    memset(s, 0, sizeof *s);
    s->level_count = count_levels(i);
    if (s->level_count == 0) i->good = false;
    expect(i, "{\"adapter\":");
    read_id(i, &s->by);
    expect(i, ",\"against\":{");
    for (uint32_t which = 0; which < ETQ_OTHERS; which++) {
        if (which > 0) (void)take(i, ",");
        if (take(i, which == ETQ_BASE ? "\"base\":" : "\"previous\":")) read_against(i, &s->against[which], s->level_count);
    }
    expect(i, "},\"days\":{");
    while (i->good && *i->at == '"' && s->day_count < ETQ_DAYS) {
        read_day(i, s);
        if (!take(i, ",")) break;
    }
    expect(i, "},\"levels\":");
    read_numbers(i, s->levels, s->level_count, false);
    expect(i, ",\"recent\":");
    read_sums(i, &s->recent, s->level_count);
    expect(i, ",\"said\":{");
    for (uint32_t which = 0; which < ETQ_OTHERS; which++) {
        if (take(i, which == ETQ_BASE ? "\"base\":" : "\"previous\":")) read_said(i, &s->against[which], s->level_count);
        (void)take(i, ",");
    }
    if (take(i, "\"total\":")) {
        s->said = true;
        read_sums(i, &s->said_total, s->level_count);
    }
    expect(i, "},\"since\":");
    s->since = read_whole(i);
    expect(i, ",\"total\":");
    read_sums(i, &s->total, s->level_count);
    expect(i, ",\"until\":");
    s->until = read_whole(i);
    expect(i, "}");
}

static void read_name(in *i, char name[ETQ_MAX_NAME + 1])
{
    size_t size = 0;
    expect(i, "\"");
    while (i->good && *i->at != '"') {
        if (*i->at == '\\') i->at++;
        if (*i->at == '\0' || size == ETQ_MAX_NAME) i->good = false;
        else name[size++] = *i->at++;
    }
    name[size] = '\0';
    expect(i, "\":[");
}

static bool read_body(const char *body, etq_signal *signals, uint32_t most, uint32_t *count)
{
    in i = {.at = body, .good = true};
    expect(&i, "{\"left_out\":");
    (void)read_whole(&i);
    expect(&i, ",\"published\":"); /* computed again when it is written */
    const char *rest = i.good ? strstr(i.at, ",\"signals\":{") : NULL;
    if (rest == NULL) return false;
    i.at = rest;
    expect(&i, ",\"signals\":{");
    *count = 0;
    while (i.good && *i.at == '"' && *count < most) {
        etq_signal *signal = &signals[(*count)++];
        memset(signal, 0, sizeof *signal);
        read_name(&i, signal->name);
        do {
            if (signal->count == ETQ_KEPT) i.good = false;
            else read_scored(&i, &signal->held[signal->count++]);
        } while (take(&i, ","));
        expect(&i, "]");
        if (!take(&i, ",")) break;
    }
    if (i.good && *i.at == '"') return true; /* more signals than are watched here */
    expect(&i, "},\"version\":1}");
    return i.good;
}

/* Whether the seal is that of the body: 64 hexadecimal digits, a space, the body, a line's end. */
static bool unseal(uint8_t *data, size_t size)
{
    etsa_sha256_state digest;
    uint8_t sum[32];
    char hex[HEX + 2];
    if (size < HEX + 3 || data[HEX] != ' ' || data[size - 1] != '\n') return false;
    etsa_sha256_start(&digest);
    etsa_sha256_add(&digest, data + HEX + 1, size - HEX - 2);
    etsa_sha256_end(&digest, sum);
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    data[size - 1] = '\0';
    return memcmp(hex, data, HEX) == 0;
}

bool qf_load(const char *path, etq_signal *signals, uint32_t most, uint32_t *count, fc_message message)
{
    uint8_t *data = NULL;
    size_t size = 0;
    struct stat found;
    *count = 0;
    message[0] = '\0';
    if (lstat(path, &found) != 0 && errno == ENOENT) return false;
    if (fc_read_file(path, MAX_SIZE, &data, &size, message) != ETSA_OK) return false;
    bool whole_file = unseal(data, size);
    bool good = whole_file && read_body((const char *)data + HEX + 1, signals, most, count);
    free(data);
    if (good) return true;
    *count = 0;
    snprintf(message, FC_MESSAGE_SIZE, "%.160s %s", path,
             whole_file ? "is not of this release" : "is damaged: its SHA-256 does not match");
    return false;
}
