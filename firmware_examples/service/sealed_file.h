/* Files of adaptation: sealed by their SHA-256, whole after a power cut. A folder holds them; names are ours.
 *
 *   64 hexadecimal digits, a space, the body. The digest is the body's.
 */
#ifndef SEALED_FILE_H
#define SEALED_FILE_H

#include "forecaster.h"

#define SF_MAX_SIZE 4194304u /* bytes of a body */

/* Replace DIR/NAME durably: room for all of it, .tmp-NAME, fsync, rename, fsync of the folder. A cut leaves the old file or
 * this one, whole. With keep_old the one that it replaces becomes .old-NAME. ETSA_STORAGE_ERROR, and then the old one stays. */
etsa_err sf_save(const char *folder, const char *name, bool keep_old, const uint8_t *head, size_t head_size, const uint8_t *tail,
                 size_t tail_size, fc_message message);

/* Read DIR/NAME: *body is the body[size], ended by a zero, inside of *data, which the caller frees. Both are NULL where there
 * is no such file. ETSA_CHECKSUM_ERROR for a damaged one. */
etsa_err sf_load(const char *folder, const char *name, uint8_t **data, uint8_t **body, size_t *size, fc_message message);

/* Remove what power cuts left of writes to DIR: every .tmp-NAME of the names given. */
void sf_clean(const char *folder, const char *name);

#endif
