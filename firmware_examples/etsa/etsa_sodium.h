/* Ed25519 for etsa_verify with libsodium (1.0.12 or later). */
#ifndef ETSA_SODIUM_H
#define ETSA_SODIUM_H

#include "etsa.h"

/* Call sodium_init() once before. */
bool etsa_sodium_ed25519(const uint8_t signature[64], const uint8_t *message, size_t size, const uint8_t key[32]);

#endif
