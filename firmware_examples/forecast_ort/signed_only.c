/* What a monitor's settings say about adapters without a signature, as the Python runtime's commands ask them: a guard
 * against mistakes, for who may run programs of their own here is not stopped by it (docs/reference/threat-model.md). */
#define _POSIX_C_SOURCE 200809L
#include "arguments.h"
#include "parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SETTINGS "/etc/edge-tsfm/device.toml"
#define VARIABLE "EDGE_TSFM_DEVICE_CONFIG"
#define MOST_BYTES 65536u

static const char *skip_blanks(const char *at) { return at + strspn(at, " \t"); }

/* The value of a key on a line of its own, before any table; NULL where the line is another. */
static const char *value_of(const char *line, const char *key)
{
    line = skip_blanks(line);
    char quote = *line == '"' || *line == '\'' ? *line : '\0';
    if (quote != '\0') line++;
    if (strncmp(line, key, strlen(key)) != 0) return NULL;
    line += strlen(key);
    if (quote != '\0' && *line++ != quote) return NULL;
    line = skip_blanks(line);
    return *line == '=' ? skip_blanks(line + 1) : NULL;
}

static bool says_false(const char *value)
{
    return strncmp(value, "false", 5) == 0 && strchr(" \t\r\n#", value[5]) != NULL; /* strchr finds the end of the text, too */
}

/* Whether the settings in `text` take signed adapters only. */
static bool signed_only(const char *text)
{
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (*skip_blanks(line) == '[' || *line == '\0') return false;
        const char *value = value_of(line, "signed_only");
        if (value != NULL) return !says_false(value);
    }
    return false;
}

/* Whether every key is in the settings, in trusted_keys. */
static bool trusts(const char *text, const fc_policy *policy)
{
    for (uint32_t i = 0; i < policy->key_count; i++) {
        char hex[65];
        for (int j = 0; j < 64; j++) hex[j] = "0123456789abcdef"[policy->keys[i][j / 2] >> (j % 2 == 0 ? 4 : 0) & 15];
        hex[64] = '\0';
        if (strstr(text, hex) == NULL) return false;
    }
    return policy->key_count > 0;
}

static void lower(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text >= 'A' && *text <= 'F') *text = (char)(*text - 'A' + 'a');
    }
}

static etsa_err check(const char *path, const fc_policy *policy, fc_message message)
{
    struct stat facts;
    uint8_t *data = NULL;
    size_t size = 0;
    if (lstat(path, &facts) != 0 && (errno == ENOENT || errno == ENOTDIR)) return ETSA_OK;
    etsa_err err = fc_read_file(path, MOST_BYTES, &data, &size, message); /* settings that cannot be read allow nothing */
    if (err != ETSA_OK) return err;
    char *text = (char *)data;
    text[size] = '\0'; /* fc_read_file leaves room */
    if (signed_only(text)) {
        lower(text);
        if (policy->key_count == 0) {
            err = fc_refuse(message, ETSA_SIGNATURE_ERROR, "%s says that this monitor takes signed adapters only: give a trusted --key", path);
        } else if (!trusts(text, policy)) {
            err = fc_refuse(message, ETSA_SIGNATURE_ERROR, "%s does not trust every --key that was given", path);
        }
    }
    free(data);
    return err;
}

etsa_err fc_check_signed_only(const fc_policy *policy, fc_message message)
{
    const char *named = getenv(VARIABLE);
    etsa_err err = check(SETTINGS, policy, message);
    return err == ETSA_OK && named != NULL && named[0] != '\0' ? check(named, policy, message) : err;
}
