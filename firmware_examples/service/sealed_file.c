#define _POSIX_C_SOURCE 200809L
#include "sealed_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_PATH 4096u
#define HEX 64u

static etsa_err refused(const char *verb, const char *path, fc_message message)
{
    snprintf(message, FC_MESSAGE_SIZE, "cannot %s %.160s: %s", verb, path, strerror(errno));
    return ETSA_STORAGE_ERROR;
}

static bool path_of(char path[MAX_PATH], const char *folder, const char *before, const char *name)
{
    int size = snprintf(path, MAX_PATH, "%s/%s%s", folder, before, name);
    return size > 0 && (size_t)size < MAX_PATH;
}

static void seal_of(const uint8_t *head, size_t head_size, const uint8_t *tail, size_t tail_size, char seal[HEX + 2])
{
    etsa_sha256_state state;
    uint8_t digest[32];
    etsa_sha256_start(&state);
    etsa_sha256_add(&state, head, head_size);
    etsa_sha256_add(&state, tail, tail_size);
    etsa_sha256_end(&state, digest);
    for (int i = 0; i < 32; i++) snprintf(seal + 2 * i, 3, "%02x", digest[i]);
    seal[HEX] = ' ';
}

static bool put(int handle, const uint8_t *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t part = write(handle, data + done, size - done);
        if (part > 0) done += (size_t)part;
        else if (part == 0 || errno != EINTR) return false;
    }
    return true;
}

/* Whether there is room is known before the first byte. A file system that cannot say finds out at the write. */
static bool has_room(int handle, size_t size)
{
    int why = posix_fallocate(handle, 0, (off_t)size);
    if (why == 0 || why == EINVAL || why == EOPNOTSUPP || why == ENOSYS) return true;
    errno = why;
    return false;
}

static etsa_err write_temporary(const char *path, const uint8_t *head, size_t head_size, const uint8_t *tail, size_t tail_size,
                                fc_message message)
{
    char seal[HEX + 2];
    seal_of(head, head_size, tail, tail_size, seal);
    if (unlink(path) != 0 && errno != ENOENT) return refused("remove", path, message);
    int handle = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (handle < 0) return refused("create", path, message);
    bool good = has_room(handle, HEX + 1 + head_size + tail_size) && put(handle, (const uint8_t *)seal, HEX + 1) &&
                put(handle, head, head_size) && put(handle, tail, tail_size) && fsync(handle) == 0;
    int why = errno;
    if (close(handle) != 0 && good) {
        good = false;
        why = errno;
    }
    errno = why;
    if (good) return ETSA_OK;
    etsa_err err = refused("write", path, message);
    (void)!unlink(path); /* its room is wanted again */
    return err;
}

static etsa_err sync_folder(const char *folder, fc_message message)
{
    int handle = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = handle >= 0 && fsync(handle) == 0;
    etsa_err err = good ? ETSA_OK : refused("sync", folder, message);
    if (handle >= 0) close(handle);
    return err;
}

etsa_err sf_save(const char *folder, const char *name, bool keep_old, const uint8_t *head, size_t head_size, const uint8_t *tail,
                 size_t tail_size, fc_message message)
{
    char path[MAX_PATH], temporary[MAX_PATH], old[MAX_PATH];
    errno = ENAMETOOLONG;
    if (!path_of(path, folder, "", name) || !path_of(temporary, folder, ".tmp-", name) || !path_of(old, folder, ".old-", name)) {
        return refused("write", folder, message);
    }
    etsa_err err = write_temporary(temporary, head, head_size, tail, tail_size, message);
    if (err != ETSA_OK) return err;
    if (keep_old) { /* a second name: NAME itself is there all the time */
        (void)!unlink(old);
        (void)!link(path, old);
    }
    if (rename(temporary, path) != 0) return refused("rename to", path, message);
    return sync_folder(folder, message);
}

etsa_err sf_load(const char *folder, const char *name, uint8_t **data, uint8_t **body, size_t *size, fc_message message)
{
    char path[MAX_PATH], seal[HEX + 2];
    struct stat found;
    size_t all;
    *data = *body = NULL;
    *size = 0;
    message[0] = '\0';
    errno = ENAMETOOLONG;
    if (!path_of(path, folder, "", name)) return refused("read", folder, message);
    if (lstat(path, &found) != 0 && errno == ENOENT) return ETSA_OK;
    etsa_err err = fc_read_file(path, SF_MAX_SIZE + HEX + 1, data, &all, message);
    if (err != ETSA_OK) return err;
    if (all > HEX) {
        seal_of(*data + HEX + 1, all - HEX - 1, *data, 0, seal);
        if (memcmp(*data, seal, HEX + 1) == 0) {
            (*data)[all] = '\0'; /* fc_read_file leaves room for it */
            *body = *data + HEX + 1;
            *size = all - HEX - 1;
            return ETSA_OK;
        }
    }
    free(*data);
    *data = NULL;
    snprintf(message, FC_MESSAGE_SIZE, "%.160s is damaged: its SHA-256 does not match", path);
    return ETSA_CHECKSUM_ERROR;
}

void sf_clean(const char *folder, const char *name)
{
    char temporary[MAX_PATH];
    if (path_of(temporary, folder, ".tmp-", name)) (void)!unlink(temporary);
}
