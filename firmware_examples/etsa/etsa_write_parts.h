/* What etsa_write.c and etsa_write_check.c share; a product includes etsa_write.h only. */
#ifndef ETSA_WRITE_PARTS_H
#define ETSA_WRITE_PARTS_H

#include "etsa_bytes.h"
#include "etsa_write.h"

#if defined(__FAST_MATH__)
#error "the bytes are those of another runtime: compile without -ffast-math"
#endif

#define ETSW_ORIGIN_SIZE 128u

/* Round to double before the value is used, whatever the compiler would keep or fuse. */
static inline double rounded(double value)
{
    volatile double stored = value;
    return stored;
}

/* A dense delta of an adapter; numbers NULL: it does not change the tensor. */
typedef struct dense {
    const uint8_t *numbers;
    uint32_t dtype;
} dense;

/* The number at an index. The product of a float and 16 bits is exact. */
static inline double dense_at(const dense *d, uint32_t index)
{
    if (d->numbers == NULL) return 0;
    if (d->dtype == ETSA_DTYPE_FLOAT32) return (double)float_of(load32(d->numbers + 4 * (size_t)index));
    return (double)integer_at(d->numbers + 4, d->dtype, index) * (double)float_of(load32(d->numbers));
}

/* Find what an adapter adds to a tensor. False if it changes it in another way. */
static inline bool find_dense(const etsa_adapter *adapter, const etsw_moved *moved, dense *found)
{
    etsa_delta delta = {0};
    *found = (dense){NULL, 0};
    while (adapter != NULL && etsa_next(adapter, &delta)) {
        if (delta.tensor != moved->tensor) continue;
        if (delta.kind != ETSA_KIND_DENSE || delta.rows != moved->rows || delta.columns != moved->columns) return false;
        *found = (dense){delta.numbers, delta.dtype};
        return true;
    }
    return true;
}

static inline uint32_t size_of(const etsw_moved *moved) { return moved->rows * moved->columns; }

/* A record of the parent's, taken apart. */
typedef struct group {
    record r; /* tensor_count 0: none */
    const uint8_t *indices, *entries, *members;
    uint32_t entries_size, member_size;
} group;

static inline group take_group(const etsa_adapter *parent, uint32_t number)
{
    group g = {0};
    g.r = load_record(parent->blob, number);
    const uint8_t *at = parent->blob + g.r.offset;
    g.indices = at;
    g.entries = at + 2 * g.r.tensor_count;
    if (g.r.kind == ETSA_KIND_FOURIER_EXPLICIT) {
        for (uint32_t left = g.r.count; left > 0; g.entries_size++) left -= g.entries[g.entries_size] < 0x80u;
    }
    g.members = g.entries + g.entries_size;
    g.member_size = (g.r.size - 2 * g.r.tensor_count - g.entries_size) / g.r.tensor_count;
    return g;
}

/* The end of the metadata, of which every byte is known; returns how many. */
uint32_t etsw_origin(const etsa_adapter *parent, char text[ETSW_ORIGIN_SIZE]);

#endif
