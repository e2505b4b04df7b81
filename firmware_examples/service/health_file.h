/* What a service's channels run and how their forecasts went, in a file for whoever judges a trial from outside:
 * device_runtime/update/service_health.py reads it. It is a note: replaced whole, not flushed, and gone with the process
 * that it speaks of where it lies in a RuntimeDirectory. */
#ifndef HEALTH_FILE_H
#define HEALTH_FILE_H

#include "service.h"

#include <stdio.h>

/* A channel. All bytes are set, padding too: equal notes compare equal. */
typedef struct hf_channel {
    sv_health runs;
    bool offered;              /* a file with an adapter was read, whatever came of it; false: an empty one, or none */
    unsigned char sha256[32];  /* of that file */
    int refused;               /* not ETSA_OK: what was read last was not taken, and `why` */
    fc_message why;
} hf_channel;

/* Replace the file. Not durable by intention: after a power cut nothing runs that it could speak of. */
etsa_err hf_save(const char *path, const hf_channel *channels, uint32_t count, fc_message message);

/* Text inside of a JSON string; what is not printable ASCII becomes '?'. */
void hf_print_escaped(FILE *to, const char *text);

#endif
