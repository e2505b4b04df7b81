#include "etsa_sodium.h"

#include <sodium.h>

bool etsa_sodium_ed25519(const uint8_t signature[64], const uint8_t *message, size_t size, const uint8_t key[32])
{
    return crypto_sign_verify_detached(signature, message, size, key) == 0;
}
