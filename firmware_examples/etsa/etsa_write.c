#include "etsa_write.h"
#include "etsa_write_parts.h"

#define LIMIT 32767.0 /* of an int16 number */
#define HALVES 6755399441055744.0 /* 1.5 * 2^52: adding it rounds to a whole number, ties to even */
#define MOST_NUMBER 1000000000000000000u /* 10^18, of canonical JSON */

static double magnitude(double value) { return value < 0 ? -value : value; }

static bool is_number(double value) { return value - value == 0; }

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* --- a plan: what is written for each tensor --------------------------------------------------------------------- */

typedef struct plan {
    const etsw_own *own;
    dense held[ETSW_MAX_MOVED];  /* what the parent adds */
    float scale[ETSW_MAX_MOVED]; /* of the numbers that are written */
    bool there[ETSW_MAX_MOVED];  /* not zero everywhere; else what the parent has stays */
} plan;

static double total_at(const plan *p, uint32_t k, uint32_t index)
{
    return rounded((double)p->own->moved[k].shift[index] + dense_at(&p->held[k], index));
}

/* The smallest float scale with which the largest number fits. */
static float scale_of(double peak)
{
    float scale = (float)rounded(peak / LIMIT);
    return rounded((double)scale * LIMIT) < peak ? float_of(bits_of(scale) + 1) : scale;
}

static etsa_err make_plan(const etsw_own *own, plan *p)
{
    memset(p, 0, sizeof *p);
    p->own = own;
    if (own->moved_count > ETSW_MAX_MOVED || (own->parent != NULL && own->parent->signal.size == 0)) return ETSA_SETTINGS_ERROR;
    bool any = own->parent != NULL;
    for (uint32_t k = 0; k < own->moved_count; k++) {
        const etsw_moved *moved = &own->moved[k];
        double peak = 0;
        if (k > 0 && moved->tensor <= own->moved[k - 1].tensor) return ETSA_SETTINGS_ERROR;
        if (!find_dense(own->parent, moved, &p->held[k])) return ETSA_MERGE_ERROR;
        for (uint32_t i = 0; i < size_of(moved); i++) {
            double total = total_at(p, k, i);
            if (!is_number(total)) return ETSA_MERGE_ERROR;
            if (magnitude(total) > peak) peak = magnitude(total);
        }
        p->there[k] = peak > 0;
        p->scale[k] = scale_of(peak);
        any = any || p->there[k];
    }
    return any ? ETSA_OK : ETSA_MERGE_ERROR;
}

static bool replaces(const plan *p, uint32_t tensor)
{
    for (uint32_t k = 0; k < p->own->moved_count; k++)
        if (p->own->moved[k].tensor == tensor) return p->there[k];
    return false;
}

/* --- output: once to count, once to write ------------------------------------------------------------------------ */

typedef struct out {
    uint8_t *blob;                 /* NULL: count */
    uint32_t records, at;          /* records, and bytes of data, so far */
} out;

static void put(out *o, const void *data, uint32_t size)
{
    if (o->blob != NULL && size > 0) memcpy(o->blob + o->at, data, size);
    o->at += size;
}

static void store(uint8_t *to, uint64_t value, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) to[i] = (uint8_t)(value >> 8 * i);
}

static void put_number(out *o, uint64_t value, uint32_t size)
{
    uint8_t bytes[8];
    store(bytes, value, size);
    put(o, bytes, size);
}

/* Write a record's line of the table; its data began at `r->offset` and end here. */
static void end_record(out *o, const record *r)
{
    const uint32_t words[] = {r->rows, r->columns, r->count, r->seed, r->scaling, r->offset, o->at - r->offset};
    if (o->blob != NULL) {
        uint8_t *line = o->blob + ETSA_HEADER_SIZE + ETSA_RECORD_SIZE * (size_t)o->records;
        line[0] = (uint8_t)r->kind;
        line[1] = (uint8_t)r->dtype;
        store(line + 2, r->tensor_count, 2);
        for (uint32_t i = 0; i < sizeof words / sizeof *words; i++) store(line + 4 + 4 * i, words[i], 4);
    }
    o->records++;
}

/* --- records that change tensors ---------------------------------------------------------------------------------- */

static void put_moved(out *o, const plan *p, uint32_t k)
{
    put_number(o, bits_of(p->scale[k]), 4);
    for (uint32_t i = 0; i < size_of(&p->own->moved[k]); i++) {
        double share = rounded(total_at(p, k, i) / (double)p->scale[k]);
        int32_t whole = (int32_t)rounded(rounded(share + HALVES) - HALVES);
        put_number(o, (uint32_t)whole, 2);
    }
}

/* The next tensor of a record, by ascending index: the parent's member *m or the moved tensor *k of that shape, whichever
 * comes first. False at the end; *from_parent says which it was. */
static bool next_tensor(const plan *p, const group *g, bool takes_moved, uint32_t *m, uint32_t *k, bool *from_parent)
{
    const etsw_moved *moved = p->own->moved;
    while (*m < g->r.tensor_count && replaces(p, load16(g->indices + 2 * *m))) ++*m;
    while (takes_moved && *k < p->own->moved_count &&
           !(p->there[*k] && moved[*k].rows == g->r.rows && moved[*k].columns == g->r.columns))
        ++*k;
    bool parents = *m < g->r.tensor_count, ours = takes_moved && *k < p->own->moved_count;
    *from_parent = parents && (!ours || load16(g->indices + 2 * *m) < moved[*k].tensor);
    return parents || ours;
}

/* Write a record of the parent's without what is replaced, and with what was moved if it is of that form. */
static void put_group(out *o, const plan *p, const group *g, bool takes_moved)
{
    record r = g->r;
    bool from_parent;
    r.offset = o->at;
    r.tensor_count = 0;
    for (uint32_t m = 0, k = 0; next_tensor(p, g, takes_moved, &m, &k, &from_parent); r.tensor_count++) {
        put_number(o, from_parent ? load16(g->indices + 2 * m) : p->own->moved[k].tensor, 2);
        if (from_parent) m++;
        else k++;
    }
    if (r.tensor_count == 0) return;
    put(o, g->entries, g->entries_size);
    for (uint32_t m = 0, k = 0; next_tensor(p, g, takes_moved, &m, &k, &from_parent);) {
        if (from_parent) put(o, g->members + (size_t)m++ * g->member_size, g->member_size);
        else put_moved(o, p, k++);
    }
    end_record(o, &r);
}

/* The first shape of what was moved that comes after `shape`, as that; false behind the last one. */
static bool next_shape(const plan *p, record *shape)
{
    record last = *shape;
    bool found = false;
    for (uint32_t k = 0; k < p->own->moved_count; k++) {
        record r = {.kind = ETSA_KIND_DENSE, .dtype = ETSA_DTYPE_INT16, .rows = p->own->moved[k].rows,
                    .columns = p->own->moved[k].columns};
        if (!p->there[k] || compare_fields(&r, &last) <= 0 || (found && compare_fields(&r, shape) >= 0)) continue;
        *shape = r;
        found = true;
    }
    return found;
}

/* Both are in order: the parent's records, and one for each shape of what was moved. */
static void put_groups(out *o, const plan *p)
{
    const etsa_adapter *parent = p->own->parent;
    uint32_t number = 0;
    record shape = {0};
    bool ours = next_shape(p, &shape);
    for (;;) {
        group g = {0};
        bool parents = parent != NULL && number < parent->record_count;
        if (parents) parents = load_record(parent->blob, number).tensor_count > 0;
        if (!parents && !ours) return;
        if (parents) g = take_group(parent, number);
        int order = !parents ? 1 : !ours ? -1 : compare_fields(&g.r, &shape);
        if (order > 0) {
            g = (group){.r = shape};
            g.r.tensor_count = 0;
        } else {
            number++;
        }
        put_group(o, p, &g, order >= 0);
        if (order >= 0) ours = next_shape(p, &shape);
    }
}

/* --- records that concern no tensor ------------------------------------------------------------------------------- */

/* Copy the parent's record of a kind, if it has one. */
static void copy_record(out *o, const etsa_adapter *parent, uint32_t kind)
{
    for (uint32_t i = 0; parent != NULL && i < parent->record_count; i++) {
        record r = load_record(parent->blob, i);
        if (r.kind != kind) continue;
        const uint8_t *data = parent->blob + r.offset;
        r.offset = o->at;
        put(o, data, r.size);
        end_record(o, &r);
    }
}

static void put_answer(out *o, const etsw_own *own)
{
    record r = {.kind = ETSA_KIND_KNOWN_ANSWER, .dtype = ETSA_DTYPE_FLOAT32, .rows = own->context_size,
                .columns = own->expected_size, .scaling = bits_of(own->tolerance), .offset = o->at};
    if (own->context_size == 0) return;
    for (uint32_t i = 0; i < own->context_size; i++) put_number(o, bits_of(own->context[i]), 4);
    for (uint32_t i = 0; i < own->expected_size; i++) put_number(o, bits_of(own->expected[i]), 4);
    end_record(o, &r);
}

static void put_text(out *o, const char *text) { put(o, text, (uint32_t)strlen(text)); }

static void put_decimal(out *o, uint64_t value)
{
    char digits[20];
    uint32_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    put(o, digits + at, (uint32_t)sizeof digits - at);
}

static void put_metadata(out *o, const etsw_own *own)
{
    record r = {.kind = ETSA_KIND_METADATA, .offset = o->at};
    char origin[ETSW_ORIGIN_SIZE];
    put_text(o, "{\"envelope\":");
    put_decimal(o, own->envelope);
    put_text(o, ",\"generation\":");
    put_decimal(o, own->generation);
    put(o, origin, etsw_origin(own->parent, origin));
    end_record(o, &r);
}

static void put_binding(out *o, const etsw_binding *b)
{
    record r = {.kind = ETSA_KIND_BINDING, .rows = b->context_length, .columns = b->prediction_length, .offset = o->at};
    put_number(o, b->interval_us, 8);
    put_number(o, bits_of(b->low), 4);
    put_number(o, bits_of(b->high), 4);
    put_number(o, b->signal_code[0] != '\0', 1); /* LOINC */
    put_number(o, strlen(b->signal_code), 1);
    put_number(o, strlen(b->unit), 1);
    put_number(o, strlen(b->signal), 1);
    put_text(o, b->signal_code);
    put_text(o, b->unit);
    put_text(o, b->signal);
    end_record(o, &r);
}

static void put_records(out *o, const plan *p)
{
    const etsw_own *own = p->own;
    put_groups(o, p);
    copy_record(o, own->parent, ETSA_KIND_CALIBRATION);
    put_answer(o, own);
    put_metadata(o, own);
    if (own->parent != NULL) copy_record(o, own->parent, ETSA_KIND_BINDING);
    else put_binding(o, own->binding);
}

etsa_err etsw_write(const etsw_own *own, uint8_t *blob, size_t capacity, uint32_t *size)
{
    plan p;
    out o = {0};
    etsa_adapter read;
    etsa_err err = make_plan(own, &p);
    if (err != ETSA_OK) return err;
    if (own->generation >= MOST_NUMBER || own->envelope >= MOST_NUMBER) return ETSA_SIZE_ERROR;
    if (own->context_size > ETSA_MAX_CONTEXT || own->expected_size > ETSA_MAX_EXPECTED) return ETSA_SIZE_ERROR;
    put_records(&o, &p);
    uint32_t start = ETSA_HEADER_SIZE + ETSA_RECORD_SIZE * o.records, total = start + o.at, records = o.records;
    if (total > capacity) return ETSA_STORAGE_ERROR;
    memset(blob, 0, ETSA_HEADER_SIZE);
    o = (out){.blob = blob, .at = start};
    put_records(&o, &p);
    memcpy(blob, "ETSA", 4);
    store(blob + 4, ETSA_FORMAT_VERSION, 2);
    store(blob + 6, ETSA_HEADER_SIZE, 2);
    store(blob + 8, total, 4);
    store(blob + 12, records, 2);
    memcpy(blob + 16, own->base_digest, 32);
    store(blob + 48, own->parent != NULL ? own->parent->version : 0, 8);
    store(blob + 60, etsa_crc32(blob, total), 4);
    *size = total;
    return etsa_decode(blob, total, &read); /* what no reader takes is never handed out */
}
