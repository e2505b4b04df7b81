#include "etsa_ed25519.h"

#include <sodium.h>

/* libsodium 1.0.16 or later, and not a minimal build of it: those have no crypto_core_ed25519_is_valid_point, which tells
 * that a point is encoded in its one way and has prime order (FORMAT.md, section 8). */
bool etsa_ed25519_verify(const uint8_t signature[64], const uint8_t *message, size_t size, const uint8_t key[32])
{
    if (sodium_init() < 0) return false; /* does nothing once it was called */
    return crypto_core_ed25519_is_valid_point(signature) == 1 && crypto_core_ed25519_is_valid_point(key) == 1 &&
           crypto_sign_verify_detached(signature, message, size, key) == 0;
}
