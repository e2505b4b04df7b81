/* Whether a blob that was learnt on the device keeps to its envelope, and by how much it moves its parent's tensors. */
#include "etsa_write_parts.h"

#define ROUNDING 1e-3 /* of a cap, as in the Python runtime */

etsa_err etsw_shift(const etsa_adapter *own, const etsa_adapter *parent, const etsw_moved *moved)
{
    dense now, held;
    if (!find_dense(own, moved, &now) || !find_dense(parent, moved, &held)) return ETSA_MERGE_ERROR;
    for (uint32_t i = 0; i < size_of(moved); i++) moved->shift[i] = (float)rounded(dense_at(&now, i) - dense_at(&held, i));
    return ETSA_OK;
}

static bool is_moved(const etsw_moved *moved, uint32_t count, uint32_t tensor)
{
    for (uint32_t k = 0; k < count; k++)
        if (moved[k].tensor == tensor) return true;
    return false;
}

/* The next delta of a tensor that must not move; false behind the last. */
static bool next_still(const etsa_adapter *adapter, const etsw_moved *moved, uint32_t count, etsa_delta *delta, group *g)
{
    while (adapter != NULL && etsa_next(adapter, delta)) {
        if (is_moved(moved, count, delta->tensor)) continue;
        *g = take_group(adapter, delta->record);
        return true;
    }
    return false;
}

static bool same_bytes(const uint8_t *a, uint32_t a_size, const uint8_t *b, uint32_t b_size)
{
    return a_size == b_size && memcmp(a, b, a_size) == 0;
}

static bool stays(const etsa_adapter *own, const etsa_adapter *parent, const etsw_moved *moved, uint32_t count)
{
    etsa_delta a = {0}, b = {0};
    group of_a, of_b;
    for (;;) {
        bool more = next_still(own, moved, count, &a, &of_a);
        if (next_still(parent, moved, count, &b, &of_b) != more) return false;
        if (!more) return true;
        if (a.tensor != b.tensor || compare_fields(&of_a.r, &of_b.r) != 0) return false;
        if (!same_bytes(of_a.entries, of_a.entries_size, of_b.entries, of_b.entries_size)) return false;
        if (!same_bytes(a.numbers, of_a.member_size, b.numbers, of_b.member_size)) return false;
    }
}

/* Whether both have the same record of a kind, or none. */
static bool same_record(const etsa_adapter *own, const etsa_adapter *parent, uint32_t kind)
{
    const etsa_adapter *const both[] = {own, parent};
    record found[2] = {{0}, {0}};
    for (uint32_t n = 0; n < 2; n++) {
        for (uint32_t i = 0; both[n] != NULL && i < both[n]->record_count; i++) {
            record r = load_record(both[n]->blob, i);
            if (r.kind == kind) found[n] = r;
        }
    }
    if (compare_fields(&found[0], &found[1]) != 0) return false;
    return found[0].kind == 0 || same_bytes(own->blob + found[0].offset, found[0].size, parent->blob + found[1].offset, found[1].size);
}

uint32_t etsw_origin(const etsa_adapter *parent, char text[ETSW_ORIGIN_SIZE])
{
    static const char hex[] = "0123456789abcdef", start[] = ",\"origin\":\"device\",\"parent\":", none[] = "null}";
    uint32_t used = sizeof start - 1;
    etsa_sha256_state state;
    uint8_t digest[32];
    memcpy(text, start, used);
    if (parent == NULL) {
        memcpy(text + used, none, sizeof none - 1);
        return used + (uint32_t)sizeof none - 1;
    }
    etsa_sha256_start(&state);
    etsa_sha256_add(&state, parent->blob, parent->size);
    etsa_sha256_end(&state, digest);
    text[used++] = '"';
    for (uint32_t i = 0; i < 64; i++) text[used++] = hex[i % 2 == 0 ? digest[i / 2] >> 4 : digest[i / 2] & 15];
    text[used++] = '"';
    text[used++] = '}';
    return used;
}

/* Whether the metadata say that it was learnt here, on this parent. */
static bool says_so(const etsa_adapter *own, const etsa_adapter *parent)
{
    char wanted[ETSW_ORIGIN_SIZE];
    uint32_t size = etsw_origin(parent, wanted);
    return own->metadata.size >= size && memcmp(own->metadata.at + own->metadata.size - size, wanted, size) == 0;
}

const char *etsw_breach(const etsa_adapter *own, const etsa_adapter *parent, const etsw_moved *moved, uint32_t count, double cap)
{
    if (!says_so(own, parent)) return "it does not say that it was learnt here on the installed adapter";
    if (own->forced || own->version != (parent != NULL ? parent->version : 0)) return "it has another version than its parent";
    if (!stays(own, parent, moved, count) || !same_record(own, parent, ETSA_KIND_CALIBRATION)) {
        return "it changes more than the tensors that the envelope names";
    }
    if (parent != NULL && !same_record(own, parent, ETSA_KIND_BINDING)) return "it is for something else than its parent";
    for (uint32_t k = 0; k < count; k++) {
        double squares = 0, most = cap * (1 + ROUNDING);
        if (etsw_shift(own, parent, &moved[k]) != ETSA_OK) return "it moves a tensor by something else than a number for each element";
        for (uint32_t i = 0; i < size_of(&moved[k]); i++) squares += (double)moved[k].shift[i] * (double)moved[k].shift[i];
        if (!(squares <= most * most * (double)size_of(&moved[k]))) return "it moves a tensor further than the envelope allows";
    }
    return NULL;
}
