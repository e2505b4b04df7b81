/* The health file: what the service's channels run and how their forecasts went, for the program that judges a trial from
 * outside (device_runtime/update/service_health.py reads it). The file is replaced as a whole and not flushed; in a
 * RuntimeDirectory it is removed when the service ends. */
#ifndef HEALTH_FILE_H
#define HEALTH_FILE_H

#include "service.h"

#include <stdio.h>

/* A channel. All bytes are set, including padding, so that memcmp can compare two of them. */
typedef struct hf_channel {
    sv_health runs;
    bool offered;              /* a file with an adapter was read, accepted or not; false: an empty file, or no file */
    unsigned char sha256[32];  /* of that file */
    int refused;               /* code with which the file read last was refused, for the reason `why`; or ETSA_OK */
    fc_message why;
} hf_channel;

/* Replace the file. It need not be durable: after a power cut the process that it describes no longer runs. */
etsa_err hf_save(const char *path, const hf_channel *channels, uint32_t count, fc_message message);

/* Print text for use inside a JSON string; anything but printable ASCII becomes '?'. */
void hf_print_escaped(FILE *to, const char *text);

#endif
