#include "etsa_ed25519.h"

#include <monocypher-ed25519.h>
#include <monocypher.h>
#include <string.h>

/* Whether a point of the curve lies in the subgroup of prime order L (FORMAT.md, section 8). 5 L - 1 is a multiple of 8, so
 * it takes away what is not of that order and negates the rest, and negation keeps X25519's coordinate. The number has the
 * form that X25519 gives its scalars, so nothing is clamped. */
static bool has_prime_order(const uint8_t point[32])
{
    static const uint8_t five_orders_less_one[32] = {
        0xa0, 0x23, 0xcd, 0xd0, 0x83, 0xef, 0x5b, 0xb8, 0x2f, 0x10, 0xd6, 0x2e, 0x59, 0xe1, 0x5a, 0x68,
        0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0x50,
    };
    static const uint8_t none[32] = {0};
    uint8_t before[32], after[32];
    crypto_eddsa_to_x25519(before, point);
    crypto_x25519(after, five_orders_less_one, before);
    return memcmp(before, after, 32) == 0 && memcmp(before, none, 32) != 0;
}

bool etsa_ed25519_verify(const uint8_t signature[64], const uint8_t *message, size_t size, const uint8_t key[32])
{
    return has_prime_order(signature) && has_prime_order(key) && crypto_ed25519_check(signature, key, message, size) == 0;
}
