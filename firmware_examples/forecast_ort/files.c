/* A bundle's files: mapped once and compared with the manifest. Graphs and base weights are read from these mappings;
 * ONNX Runtime maps the weights once more itself, so afterwards it is checked that they are still the same files. */
#define _DEFAULT_SOURCE /* madvise */
#include "parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WINDOW ((size_t)1 << 20) /* bytes that are in memory at a time while a file is checked */

/* Open a regular file and nothing else; -1 with a message, which is a storage error. */
static int open_regular(const char *path, struct stat *facts, fc_message message)
{
    int handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make it wait */
    if (handle < 0 || fstat(handle, facts) != 0) {
        fc_refuse(message, ETSA_STORAGE_ERROR, "cannot read %s: %s", path, strerror(errno));
    } else if (!S_ISREG(facts->st_mode)) {
        fc_refuse(message, ETSA_STORAGE_ERROR, "%s is not a regular file", path);
    } else {
        return handle;
    }
    if (handle >= 0) close(handle);
    return -1;
}

etsa_err fc_read_file(const char *path, size_t limit, uint8_t **data, size_t *size, fc_message message)
{
    struct stat facts;
    ssize_t count = 1;
    *data = NULL;
    *size = 0;
    int handle = open_regular(path, &facts, message);
    if (handle < 0) return ETSA_STORAGE_ERROR;
    *data = malloc(limit + 1);
    while (*data != NULL && *size <= limit && count > 0) {
        count = read(handle, *data + *size, limit + 1 - *size);
        if (count > 0) *size += (size_t)count;
    }
    int error = *data == NULL ? ENOMEM : errno;
    close(handle);
    if (*data != NULL && count >= 0 && *size <= limit) return ETSA_OK;
    bool failed = *data == NULL || count < 0;
    free(*data);
    *data = NULL;
    if (failed) return fc_refuse(message, ETSA_STORAGE_ERROR, "cannot read %s: %s", path, strerror(error));
    return fc_refuse(message, ETSA_SIZE_ERROR, "%s: more than %zu bytes", path, limit);
}

static bool path_of(const fc_base *base, etsa_text name, char path[FC_PATH_SIZE])
{
    int size = snprintf(path, FC_PATH_SIZE, "%s/%.*s", base->folder, (int)name.size, name.at);
    return size > 0 && size < FC_PATH_SIZE;
}

/* Map one pinned file, which must have the size that the manifest says. */
static etsa_err map_file(const fc_base *base, fc_file *file, fc_message message)
{
    char path[FC_PATH_SIZE];
    struct stat facts;
    if (!path_of(base, file->pinned.name, path)) return fc_refuse(message, ETSA_STORAGE_ERROR, "path too long");
    int handle = open_regular(path, &facts, message);
    if (handle < 0) return ETSA_STORAGE_ERROR;
    if (facts.st_size < 0 || (uint64_t)facts.st_size != file->pinned.size || (uint64_t)facts.st_size > SIZE_MAX) {
        close(handle);
        return fc_refuse(message, ETSA_BASE_MISMATCH_ERROR, "%s: %lld bytes, the manifest pins %llu", path,
                         (long long)facts.st_size, (unsigned long long)file->pinned.size);
    }
    static uint8_t nothing; /* an empty file cannot be mapped */
    void *map = facts.st_size == 0 ? &nothing : mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_PRIVATE, handle, 0);
    int error = errno;
    close(handle);
    if (map == MAP_FAILED) return fc_refuse(message, ETSA_STORAGE_ERROR, "cannot map %s: %s", path, strerror(error));
    file->data = map;
    file->size = (size_t)facts.st_size;
    file->facts = facts;
    return ETSA_OK;
}

etsa_err fc_map_files(fc_base *base, fc_message message)
{
    base->files = calloc(base->bundle.file_count + ETSA_MAX_FILES, sizeof *base->files); /* never moved: `tunable` points there */
    if (base->files == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    for (; base->file_count < base->bundle.file_count; base->file_count++) {
        fc_file *file = &base->files[base->file_count];
        etsa_bundle_file(&base->bundle, base->file_count, &file->pinned);
        etsa_err err = map_file(base, file, message);
        if (err != ETSA_OK) return err;
        if (etsa_text_is(file->pinned.name, "tunable.safetensors")) base->tunable = file;
    }
    return ETSA_OK;
}

etsa_err fc_map_learning_files(fc_base *base, fc_message message)
{
    for (uint32_t i = 0; i < base->learning.file_count; i++) {
        fc_file *file = &base->files[base->file_count];
        etsa_learning_file(&base->learning, i, &file->pinned);
        etsa_err err = map_file(base, file, message);
        if (err != ETSA_OK) return err;
        base->file_count++;
    }
    return ETSA_OK;
}

static bool same_time(const struct timespec *a, const struct timespec *b) { return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec; }

etsa_err fc_check_unchanged(const fc_base *base, fc_message message)
{
    for (uint32_t i = 0; i < base->file_count; i++) {
        const fc_file *file = &base->files[i];
        char path[FC_PATH_SIZE];
        struct stat now;
        bool same = path_of(base, file->pinned.name, path) && stat(path, &now) == 0 && now.st_dev == file->facts.st_dev &&
                    now.st_ino == file->facts.st_ino && now.st_size == file->facts.st_size &&
                    same_time(&now.st_mtim, &file->facts.st_mtim) && same_time(&now.st_ctim, &file->facts.st_ctim);
        if (!same) {
            return fc_refuse(message, ETSA_BASE_MISMATCH_ERROR, "%s/%.*s was changed since it was checked", base->folder,
                             (int)file->pinned.name.size, file->pinned.name.at);
        }
    }
    return ETSA_OK;
}

void fc_unmap_file(fc_file *file)
{
    if (file->size > 0) munmap(file->data, file->size);
}

void fc_unmap_files(fc_base *base)
{
    for (uint32_t i = 0; i < base->file_count; i++) fc_unmap_file(&base->files[i]);
    free(base->files);
}

const fc_file *fc_file_of(const fc_base *base, etsa_text name)
{
    for (uint32_t i = 0; i < base->file_count; i++) {
        const fc_file *file = &base->files[i];
        if (file->pinned.name.size == name.size && memcmp(file->pinned.name.at, name.at, name.size) == 0) return file;
    }
    return NULL;
}

void fc_forget_pages(const fc_file *file) { madvise(file->data, file->size, MADV_DONTNEED); }

const fc_file *fc_wrong_file(const fc_base *base, uint32_t first)
{
    for (uint32_t i = first; i < base->file_count; i++) {
        const fc_file *file = &base->files[i];
        etsa_sha256_state state;
        uint8_t digest[32];
        etsa_sha256_start(&state);
        for (size_t at = 0; at < file->size; at += WINDOW) { /* checking 35 MB costs no 35 MB of memory */
            size_t part = file->size - at < WINDOW ? file->size - at : WINDOW;
            etsa_sha256_add(&state, file->data + at, part);
            madvise(file->data + at, part, MADV_DONTNEED);
        }
        etsa_sha256_end(&state, digest);
        if (memcmp(digest, file->pinned.sha256, 32) != 0) return file;
    }
    return NULL;
}
