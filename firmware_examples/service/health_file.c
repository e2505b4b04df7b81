#define _POSIX_C_SOURCE 200809L
#include "health_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_PATH 4096u
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define STARTED 22 /* field of /proc/PID/stat, from 1 */

void hf_print_escaped(FILE *to, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') fprintf(to, "\\%c", c);
        else if (c < 0x20 || c > 0x7e) fputc('?', to);
        else fputc(c, to);
    }
}

static void put_digest(FILE *to, bool there, const unsigned char digest[32])
{
    if (!there) {
        fputs("null", to);
        return;
    }
    fputc('"', to);
    for (int i = 0; i < 32; i++) fprintf(to, "%02x", digest[i]);
    fputc('"', to);
}

static void put_channel(FILE *to, const hf_channel *c)
{
    const sv_health *runs = &c->runs;
    fputs("{\"adapter\":", to);
    put_digest(to, runs->by.is_adapter, runs->by.sha256);
    fputs(",\"errors\":{", to);
    for (uint32_t i = 0; i < runs->error_count; i++)
        fprintf(to, "%s\"%d\":%llu", i > 0 ? "," : "", runs->errors[i].code, (unsigned long long)runs->errors[i].count);
    fprintf(to, "},\"forecasts\":%llu,\"last_error\":\"", (unsigned long long)runs->forecasts);
    hf_print_escaped(to, runs->last_error);
    fputs("\",\"offered\":", to);
    put_digest(to, c->offered, c->sha256);
    fprintf(to, ",\"refused\":%d,\"since_ms\":%.0f,\"slow\":%llu,\"slowest_ms\":%.3f,\"why\":\"", c->refused, runs->since_ms,
            (unsigned long long)runs->slow, runs->slowest_ms);
    hf_print_escaped(to, c->why);
    fputs("\"}", to);
}

static etsa_err refused(const char *verb, const char *path, fc_message message)
{
    snprintf(message, FC_MESSAGE_SIZE, "cannot %s %.160s: %s", verb, path, strerror(errno));
    return ETSA_STORAGE_ERROR;
}

static bool temporary_of(const char *path, char temporary[MAX_PATH])
{
    int size = snprintf(temporary, MAX_PATH, "%s.tmp", path);
    return size >= 0 && (size_t)size < MAX_PATH;
}

void hf_remove(const char *path)
{
    char temporary[MAX_PATH];
    (void)!unlink(path);
    if (temporary_of(path, temporary)) (void)!unlink(temporary);
}

/* The 32 digits of a boot id, which the kernel writes with dashes and systemd without. */
static bool take_boot(const char *text, char boot[33])
{
    size_t used = 0;
    for (; *text != '\0' && *text != '\n'; text++) {
        if (*text == '-') continue;
        if (used == 32 || strchr("0123456789abcdef", *text) == NULL) return false;
        boot[used++] = *text;
    }
    boot[used] = '\0';
    return used == 32;
}

static bool find_boot(char boot[33])
{
    char line[64] = "";
    const char *said = getenv("EDGE_TSFM_BOOT_ID");
    FILE *file = fopen(BOOT_ID, "re");
    bool read = file != NULL && fgets(line, sizeof line, file) != NULL;
    if (file != NULL) fclose(file);
    return read ? take_boot(line, boot) : said != NULL && take_boot(said, boot);
}

/* The program's name, field 2, may have blanks and parentheses: fields are counted behind its end. */
static bool find_start(unsigned long long *started)
{
    char line[1024] = "";
    FILE *file = fopen("/proc/self/stat", "re");
    bool read = file != NULL && fgets(line, sizeof line, file) != NULL;
    if (file != NULL) fclose(file);
    char *at = read ? strrchr(line, ')') : NULL;
    for (int field = 2; at != NULL && field < STARTED; field++) at = strchr(at + 1, ' ');
    *started = at != NULL ? strtoull(at, NULL, 10) : 0;
    return *started > 0;
}

etsa_err hf_identify(hf_process *process, fc_message message)
{
    memset(process, 0, sizeof *process);
    process->pid = (long)getpid();
    if (!find_boot(process->boot)) {
        snprintf(message, FC_MESSAGE_SIZE, "cannot read " BOOT_ID ", and EDGE_TSFM_BOOT_ID has no 32 digits: set it to %%b in the unit");
        return ETSA_STORAGE_ERROR;
    }
    if (find_start(&process->started)) return ETSA_OK;
    snprintf(message, FC_MESSAGE_SIZE, "cannot read /proc/self/stat");
    return ETSA_STORAGE_ERROR;
}

etsa_err hf_save(const char *path, const hf_process *process, const hf_channel *channels, uint32_t count, const char *adaptation,
                 fc_message message)
{
    char temporary[MAX_PATH];
    errno = ENAMETOOLONG;
    if (!temporary_of(path, temporary)) return refused("write", path, message);
    if (unlink(temporary) != 0 && errno != ENOENT) return refused("remove", temporary, message);
    int handle = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    FILE *to = handle < 0 ? NULL : fdopen(handle, "w");
    if (to == NULL) {
        etsa_err err = refused("create", temporary, message);
        if (handle >= 0) close(handle);
        return err;
    }
    fputc('{', to);
    if (adaptation != NULL) fprintf(to, "\"adaptation\":%s,", adaptation);
    fprintf(to, "\"boot\":\"%s\",\"channels\":[", process->boot);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) fputc(',', to);
        put_channel(to, &channels[i]);
    }
    fprintf(to, "],\"pid\":%ld,\"started\":%llu,\"version\":2}\n", process->pid, process->started);
    bool failed = ferror(to) != 0;
    if (fclose(to) != 0 || failed) return refused("write", temporary, message);
    if (rename(temporary, path) != 0) return refused("rename to", path, message);
    return ETSA_OK;
}
