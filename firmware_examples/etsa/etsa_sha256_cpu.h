#ifndef ETSA_SHA256_CPU_H
#define ETSA_SHA256_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Compress whole blocks of 64 bytes; false, and nothing done, when the processor has no instructions for it. */
bool etsa_sha256_cpu(uint32_t h[8], const uint32_t round[64], const uint8_t *data, size_t blocks);

#endif
