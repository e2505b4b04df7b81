/* Bytes of a blob as numbers, for the core's own files: little-endian, any alignment, any host. */
#ifndef ETSA_BYTES_H
#define ETSA_BYTES_H

#include "etsa.h"

#include <string.h>

static inline uint32_t load16(const uint8_t *p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }

static inline uint32_t load32(const uint8_t *p) { return load16(p) | load16(p + 2) << 16; }

static inline uint64_t load64(const uint8_t *p) { return load32(p) | (uint64_t)load32(p + 4) << 32; }

static inline float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The integer at `index` of a block whose scale has been passed. */
static inline int32_t integer_at(const uint8_t *numbers, uint32_t dtype, uint32_t index)
{
    if (dtype == ETSA_DTYPE_INT8) return (int32_t)numbers[index] - ((numbers[index] & 0x80) << 1);
    uint32_t bits = load16(numbers + 2 * (size_t)index);
    return (int32_t)bits - (int32_t)((bits & 0x8000u) << 1);
}

#define ETSA_UNBOUND_VERSION 1u
#define ETSA_BINDING_SIZE 20u /* bytes of a binding before its texts */

typedef struct record {
    uint32_t kind, dtype, tensor_count, rows, columns, count, seed, scaling, offset, size;
} record;

static inline record load_record(const uint8_t *blob, uint32_t number)
{
    const uint8_t *p = blob + ETSA_HEADER_SIZE + ETSA_RECORD_SIZE * (size_t)number;
    record r = {p[0],           p[1],           load16(p + 2),  load32(p + 4),  load32(p + 8),
                load32(p + 12), load32(p + 16), load32(p + 20), load32(p + 24), load32(p + 28)};
    return r;
}

/* The order of two records by R9, their explicit entries apart. */
static inline int compare_fields(const record *a, const record *b)
{
    const uint32_t pairs[7][2] = {{a->kind, b->kind},   {a->rows, b->rows}, {a->columns, b->columns},
                                  {a->count, b->count}, {a->dtype, b->dtype}, {a->seed, b->seed},
                                  {a->scaling, b->scaling}};
    for (uint32_t i = 0; i < 7; i++)
        if (pairs[i][0] != pairs[i][1]) return pairs[i][0] < pairs[i][1] ? -1 : 1;
    return 0;
}

#endif
