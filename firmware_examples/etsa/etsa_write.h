/* etsa_write: what a device has learnt as an adapter blob, and the check that such a blob keeps to its envelope.
 *
 * The bytes are those that the Python runtime writes for the same content (device_runtime/adapt/candidate.py): the deltas
 * of the parent adapter, if there is one, and a dense delta of 16-bit integers for each tensor that learning moved.
 * etsa_decode reads them. C99, no malloc, no I/O, no libm; the caller owns all memory.
 */
#ifndef ETSA_WRITE_H
#define ETSA_WRITE_H

#include "etsa.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ETSW_MAX_MOVED 16u

/* A tensor that learning moves. */
typedef struct etsw_moved {
    uint32_t tensor;        /* place in the bundle's table */
    uint32_t rows, columns; /* of a vector: its length and 1 */
    float *shift;           /* [rows * columns], added to what the parent does; etsw_write only reads it */
} etsw_moved;

/* What the base alone is taught to forecast. Printable ASCII, as FORMAT.md has it; code and unit may be empty. */
typedef struct etsw_binding {
    const char *signal, *signal_code, *unit;
    uint64_t interval_us;
    uint32_t context_length, prediction_length; /* steps */
    float low, high;                            /* infinite if unbounded */
} etsw_binding;

typedef struct etsw_own {
    const uint8_t *base_digest;  /* 32 bytes */
    const etsa_adapter *parent;  /* decoded and bound; NULL: learnt on the base alone */
    const etsw_binding *binding; /* on the base alone; else the parent's is copied */
    const etsw_moved *moved;     /* by ascending tensors */
    uint32_t moved_count;
    uint64_t generation, envelope;       /* envelope: its sequence. Both below 10^18 */
    const float *context, *expected;     /* known answer; context_size 0: none yet, to make one with the blob */
    uint32_t context_size, expected_size;
    float tolerance;
} etsw_own;

/* Write the blob. Codes: 310 if the parent moves one of the tensors other than by a number for each element, if a shift is
 * not finite, or if it is zero everywhere; 600 for a parent that is not bound, or tensors that do not ascend; 400 if the
 * blob does not fit into `capacity` bytes (ETSA_MAX_BLOB_SIZE always suffices); and etsa_decode's for what no reader would
 * take. Takes 2 KB of stack. */
etsa_err etsw_write(const etsw_own *own, uint8_t *blob, size_t capacity, uint32_t *size);

/* Fill moved->shift with what a blob of etsw_write adds to its parent, as it was rounded. 310 if one of the two moves the
 * tensor other than by a number for each element. */
etsa_err etsw_shift(const etsa_adapter *own, const etsa_adapter *parent, const etsw_moved *moved);

/* Why a blob that says it was learnt here is none that the envelope allows: it must differ from its parent (NULL: the base)
 * only in the tensors of `moved`, and none by more than `cap` (root mean square, with 1e-3 for rounding). NULL if it keeps
 * to that. Fills the shifts. */
const char *etsw_breach(const etsa_adapter *own, const etsa_adapter *parent, const etsw_moved *moved, uint32_t moved_count,
                        double cap);

#ifdef __cplusplus
}
#endif

#endif
