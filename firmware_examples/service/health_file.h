/* The health file: what the service's channels run and how their forecasts went, for the program that judges a trial from
 * outside (device_runtime/update/service_health.py reads it). The file is replaced as a whole and not flushed. It names the
 * process that it describes, so that the reader ignores it once that process has ended. */
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

/* The process that writes the file: no other one, before it or after it, has all three. */
typedef struct hf_process {
    char boot[33];              /* of the machine's start: 32 hexadecimal digits */
    long pid;
    unsigned long long started; /* clock ticks since that start */
} hf_process;

/* Find out which process this is. The start of the machine is the kernel's boot_id, or EDGE_TSFM_BOOT_ID where the kernel's
 * is hidden, as by a unit's ProcSubset=pid (%b in a unit). ETSA_STORAGE_ERROR where neither is there. */
etsa_err hf_identify(hf_process *process, fc_message message);

/* Remove the file of an earlier process, and what a power cut left of a write. */
void hf_remove(const char *path);

/* Replace the file. adaptation: what is learnt, as JSON; NULL: nothing is. It need not be durable: after a power cut the process that it describes no longer runs. */
etsa_err hf_save(const char *path, const hf_process *process, const hf_channel *channels, uint32_t count, const char *adaptation,
                 fc_message message);

/* Print text for use inside a JSON string; anything but printable ASCII becomes '?'. */
void hf_print_escaped(FILE *to, const char *text);

#endif
