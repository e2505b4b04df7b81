/* Ed25519 for etsa_verify, ready to link: etsa_monocypher.c with the verifier that lies in third_party/monocypher, or
 * etsa_sodium.c with libsodium. Take one of the two; a device with a secure element writes its own. */
#ifndef ETSA_ED25519_H
#define ETSA_ED25519_H

#include "etsa.h"

/* An etsa_ed25519. May be called in any thread. */
bool etsa_ed25519_verify(const uint8_t signature[64], const uint8_t *message, size_t size, const uint8_t key[32]);

#endif
