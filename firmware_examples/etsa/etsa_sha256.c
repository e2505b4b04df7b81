/* SHA-256 (FIPS 180-4), small rather than fast: about 1.3 KB of text (etsa_sha256_cpu.c
 * is the fast one). The constants are the fractional parts of the
 * cube and square roots of the first primes. */
#include "etsa.h"
#ifdef ETSA_SHA256_CPU
#include "etsa_sha256_cpu.h"
#endif

#include <string.h>

static const uint32_t ROUND[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u,
};

static uint32_t rotate(uint32_t x, unsigned n) { return x >> n | x << (32u - n); }

static void compress(uint32_t h[8], const uint8_t *block)
{
    uint32_t w[64];
    for (unsigned i = 0; i < 16; i++) {
        const uint8_t *p = block + 4 * i;
        w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
    }
    for (unsigned i = 16; i < 64; i++) {
        uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t v[8]; /* used as a ring: round i's a is v[-i modulo 8], so that nothing is moved */
    memcpy(v, h, sizeof v);
    for (unsigned i = 0; i < 64; i++) {
        uint32_t *a = &v[(0u - i) & 7u], *d = &v[(3u - i) & 7u], *last = &v[(7u - i) & 7u];
        uint32_t b = v[(1u - i) & 7u], c = v[(2u - i) & 7u];
        uint32_t e = v[(4u - i) & 7u], f = v[(5u - i) & 7u], g = v[(6u - i) & 7u];
        uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
        uint32_t t1 = *last + s1 + (g ^ (e & (f ^ g))) + ROUND[i] + w[i];
        uint32_t s0 = rotate(*a, 2) ^ rotate(*a, 13) ^ rotate(*a, 22);
        *d += t1;
        *last = t1 + s0 + ((*a & b) | (c & (*a | b)));
    }
    for (unsigned i = 0; i < 8; i++) h[i] += v[i];
}

static void compress_all(uint32_t h[8], const uint8_t *data, size_t blocks)
{
#ifdef ETSA_SHA256_CPU
    if (etsa_sha256_cpu(h, ROUND, data, blocks)) return;
#endif
    for (; blocks > 0; blocks--, data += 64) compress(h, data);
}

void etsa_sha256_start(etsa_sha256_state *state)
{
    static const uint32_t first[8] = {
        0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au, 0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u,
    };
    memcpy(state->h, first, sizeof first);
    state->size = 0;
}

void etsa_sha256_add(etsa_sha256_state *state, const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t used = (size_t)(state->size % 64), part = 64 - used;
        if (used == 0 && size >= 64) { /* whole blocks straight from the caller's memory */
            part = size / 64 * 64;
            compress_all(state->h, data, size / 64);
        } else {
            if (part > size) part = size;
            memcpy(state->block + used, data, part);
            if (used + part == 64) compress_all(state->h, state->block, 1);
        }
        state->size += part;
        data += part;
        size -= part;
    }
}

void etsa_sha256_end(etsa_sha256_state *state, uint8_t digest[32])
{
    uint64_t bits = state->size * 8;
    uint8_t tail[72] = {0x80};
    size_t used = (size_t)(state->size % 64), zeros = (used < 56 ? 56 : 120) - used;
    for (unsigned i = 0; i < 8; i++) tail[zeros + i] = (uint8_t)(bits >> (56 - 8 * i));
    etsa_sha256_add(state, tail, zeros + 8);
    for (unsigned i = 0; i < 32; i++) digest[i] = (uint8_t)(state->h[i / 4] >> (24 - 8 * (i % 4)));
}
