/* Which files a graph opens beside itself: the locations of its external tensors, read off the protobuf bytes. A graph that
 * names a file that the manifest does not pin would run on unchecked bytes (FORMAT.md, section 2). */
#include "parts.h"

#include <string.h>

#define MAX_NESTING 64 /* of messages in messages: a graph in a node's attribute is three deeper */

static const char LOCATION[] = "location";

/* The messages of onnx.proto3 on the way to a location. */
enum kind { NONE, MODEL, GRAPH, TRAINING, FUNCTION, NODE, ATTRIBUTE, SPARSE, TENSOR, ENTRY };

typedef struct bytes {
    const uint8_t *at, *end;
} bytes;

static size_t left(const bytes *in) { return (size_t)(in->end - in->at); }

/* What message a field holds; NONE where no location is in it. */
static enum kind kind_of(enum kind message, uint64_t field)
{
    switch (message) {
    case MODEL: return field == 7 ? GRAPH : field == 20 ? TRAINING : field == 25 ? FUNCTION : NONE;
    case GRAPH: return field == 1 ? NODE : field == 5 ? TENSOR : field == 15 ? SPARSE : NONE;
    case TRAINING: return field == 1 || field == 2 ? GRAPH : NONE;
    case FUNCTION: return field == 7 ? NODE : field == 11 ? ATTRIBUTE : NONE;
    case NODE: return field == 5 ? ATTRIBUTE : NONE;
    case ATTRIBUTE:
        return field == 5 || field == 10 ? TENSOR : field == 6 || field == 11 ? GRAPH : field == 22 || field == 23 ? SPARSE : NONE;
    case SPARSE: return field == 1 || field == 2 ? TENSOR : NONE;
    case TENSOR: return field == 13 ? ENTRY : NONE;
    default: return NONE;
    }
}

static bool take_varint(bytes *in, uint64_t *value)
{
    *value = 0;
    for (unsigned place = 0; place < 10 && in->at < in->end; place++) {
        uint8_t byte = *in->at++;
        *value |= (uint64_t)(byte & 0x7fu) << 7 * place;
        if (byte < 0x80u) return true;
    }
    return false;
}

/* Field number and form. Readers keep 32 bits of it, so a longer one could be a location to them and none here. */
static bool take_tag(bytes *in, uint64_t *tag)
{
    const uint8_t *start = in->at;
    return take_varint(in, tag) && *tag <= UINT32_MAX && in->at - start <= 5;
}

static bool holds_location(const bytes *in)
{
    size_t size = sizeof LOCATION - 1;
    for (const uint8_t *at = in->at; (size_t)(in->end - at) >= size; at++) {
        at = memchr(at, LOCATION[0], (size_t)(in->end - at) - size + 1);
        if (at == NULL) return false;
        if (memcmp(at, LOCATION, size) == 0) return true;
    }
    return false;
}

/* The next field that holds text, bytes or a message; *more is false at the end. False for bytes that are no protobuf. */
static bool next_field(bytes *in, uint64_t *field, bytes *inside, bool *more)
{
    uint64_t tag, size;
    for (*more = false; in->at < in->end;) {
        if (!take_tag(in, &tag)) return false;
        switch (tag & 7) {
        case 0:
            if (!take_varint(in, &size)) return false;
            break;
        case 1:
        case 5:
            size = (tag & 7) == 1 ? 8 : 4;
            if (left(in) < size) return false;
            in->at += size;
            break;
        case 2:
            if (!take_varint(in, &size) || size > left(in)) return false;
            *field = tag >> 3;
            inside->at = in->at;
            in->at += size;
            inside->end = in->at;
            *more = true;
            return true;
        default: return false; /* groups are of old; the rest is nothing */
        }
    }
    return true;
}

static bool is_pinned(const fc_base *base, bytes name)
{
    if (left(&name) > UINT32_MAX) return false;
    etsa_text text = {(const char *)name.at, (uint32_t)left(&name)};
    return fc_file_of(base, text) != NULL;
}

/* "location": of a repeated field the last counts, so each value must be pinned. */
static etsa_err check_entry(const fc_base *base, bytes in, const char *where, fc_message message)
{
    const size_t size = sizeof LOCATION - 1;
    bytes inside, bad = {NULL, NULL};
    uint64_t field;
    bool more, good, place = false, value = false;
    while ((good = next_field(&in, &field, &inside, &more)) && more) {
        place = place || (field == 1 && left(&inside) == size && memcmp(inside.at, LOCATION, size) == 0);
        value = value || field == 2;
        if (field == 2 && !is_pinned(base, inside)) bad = inside;
    }
    if (!good) return fc_refuse(message, ETSA_FORMAT_ERROR, "%s: not a model", where);
    if (!place || (value && bad.at == NULL)) return ETSA_OK;
    return fc_refuse(message, ETSA_FORMAT_ERROR, "%s: keeps a tensor in \"%.*s\", which is not among the manifest's files", where,
                     (int)(bad.at == NULL ? 0 : left(&bad) < 80 ? left(&bad) : 80), bad.at == NULL ? "" : (const char *)bad.at);
}

static etsa_err walk(const fc_base *base, bytes in, enum kind kind, int depth, const char *where, fc_message message)
{
    bytes inside;
    uint64_t field;
    bool more;
    etsa_err err = ETSA_OK;
    if (depth > MAX_NESTING) return fc_refuse(message, ETSA_FORMAT_ERROR, "%s: messages nested deeper than %d", where, MAX_NESTING);
    if (kind == ENTRY) return check_entry(base, in, where, message);
    while (err == ETSA_OK) {
        if (!next_field(&in, &field, &inside, &more)) return fc_refuse(message, ETSA_FORMAT_ERROR, "%s: not a model", where);
        if (!more) break;
        enum kind inner = kind_of(kind, field);
        if (inner != NONE && holds_location(&inside)) err = walk(base, inside, inner, depth + 1, where, message);
    }
    return err;
}

etsa_err fc_check_graph(const fc_base *base, const fc_file *file, fc_message message)
{
    char where[128];
    bytes in = {file->data, file->data + file->size};
    uint32_t size = file->pinned.name.size < sizeof where ? file->pinned.name.size : (uint32_t)sizeof where - 1;
    memcpy(where, file->pinned.name.at, size);
    where[size] = '\0';
    /* ONNX Runtime knows its own format by these bytes, whatever the file's name. */
    if (file->size >= 8 && memcmp(file->data + 4, "ORTM", 4) == 0) {
        return fc_refuse(message, ETSA_FORMAT_ERROR, "%s: an ORT model, want ONNX", where);
    }
    return walk(base, in, MODEL, 0, where, message);
}
