#define _POSIX_C_SOURCE 200809L
#include "health_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MAX_PATH 4096u

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

etsa_err hf_save(const char *path, const hf_channel *channels, uint32_t count, fc_message message)
{
    char temporary[MAX_PATH];
    int size = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    errno = ENAMETOOLONG;
    if (size < 0 || (size_t)size >= sizeof temporary) return refused("write", path, message);
    if (unlink(temporary) != 0 && errno != ENOENT) return refused("remove", temporary, message);
    int handle = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    FILE *to = handle < 0 ? NULL : fdopen(handle, "w");
    if (to == NULL) {
        etsa_err err = refused("create", temporary, message);
        if (handle >= 0) close(handle);
        return err;
    }
    fputs("{\"channels\":[", to);
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) fputc(',', to);
        put_channel(to, &channels[i]);
    }
    fputs("],\"version\":1}\n", to);
    bool failed = ferror(to) != 0;
    if (fclose(to) != 0 || failed) return refused("write", temporary, message);
    if (rename(temporary, path) != 0) return refused("rename to", path, message);
    return ETSA_OK;
}
