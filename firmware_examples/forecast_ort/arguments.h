/* What the commands read from their arguments: whole texts or nothing, so that a slip is a usage error and never a zero. */
#ifndef ARGUMENTS_H
#define ARGUMENTS_H

#include "forecaster.h"

/* 64 hexadecimal digits. */
bool fc_read_key(const char *hex, uint8_t key[32]);
/* Decimal digits and nothing else, least to most. */
bool fc_read_count(const char *text, uint64_t least, uint64_t most, uint64_t *count);
/* "1h", "90s", "250ms", "5min", "1d": whole, positive microseconds. A bare number says no unit and is refused. */
bool fc_read_duration(const char *text, uint64_t *us);
/* Whether this monitor's settings let an adapter be run that the policy's keys must have signed, or that none must: those
 * in /etc/edge-tsfm/device.toml and in the environment's EDGE_TSFM_DEVICE_CONFIG. ETSA_SIGNATURE_ERROR where they say
 * signed_only and there is no key, or one that they do not name; ETSA_STORAGE_ERROR where they cannot be read. */
etsa_err fc_check_signed_only(const fc_policy *policy, fc_message message);

#endif
