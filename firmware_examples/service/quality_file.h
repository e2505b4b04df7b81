/* The field quality's file: sums of scores, whole after a power cut, in the form of the Python runtime's `quality`
 * (device_runtime/update/field_store.py), so that `edge-tsfm-device quality` and reports read it. No sample, no forecast and
 * no patient's time of stay is in it.
 */
#ifndef QUALITY_FILE_H
#define QUALITY_FILE_H

#include "etsa_quality.h"
#include "forecaster.h"

/* Write the figures durably in place of the file's: a temporary file beside it, fsync, rename, fsync of the folder. A cut
 * leaves the old figures or these, whole. Takes 5 KB of stack and no heap. ETSA_STORAGE_ERROR. */
etsa_err qf_save(const char *path, const etq_signal *signals, uint32_t count, fc_message message);

/* Remove what a power cut left of a write: the temporary file beside it. */
void qf_clean(const char *path);

/* Go on with the figures of a file that qf_save or the Python runtime wrote; of more signals than `most`, the first.
 * Where there is none, or it cannot be used (damaged, of another release, of more levels than ETQ_MAX_LEVELS): false, and
 * *count is 0; `message` says why, or is empty where there is no file. */
bool qf_load(const char *path, etq_signal *signals, uint32_t most, uint32_t *count, fc_message message);

#endif
