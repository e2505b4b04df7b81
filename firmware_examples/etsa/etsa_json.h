/* Canonical JSON (FORMAT.md §2) and what its manifests share, for the core's own files: the text is checked completely
 * once, then walked without checks. */
#ifndef ETSA_JSON_H
#define ETSA_JSON_H

#include "etsa.h"

#include <string.h>

#define MAX_DEPTH 8u

static inline uint32_t min32(uint32_t a, uint32_t b) { return a < b ? a : b; }

typedef struct json { /* what is left to read */
    const char *at, *end;
} json;

static inline char peek(const json *in) { return in->at < in->end ? *in->at : '\0'; }

static inline bool take(json *in, const char *text)
{
    size_t size = strlen(text);
    if ((size_t)(in->end - in->at) < size || memcmp(in->at, text, size) != 0) return false;
    in->at += size;
    return true;
}

static inline bool take_text(json *in, etsa_text *text)
{
    if (!take(in, "\"")) return false;
    text->at = in->at;
    while (in->at < in->end && *in->at != '"') {
        if (*in->at < 0x20 || *in->at > 0x7e || *in->at == '\\') return false;
        in->at++;
    }
    text->size = (uint32_t)(in->at - text->at);
    return take(in, "\"");
}

static inline uint32_t take_digits(json *in, uint32_t *zeros)
{
    uint32_t count = 0;
    *zeros = 0; /* leading ones */
    for (; peek(in) >= '0' && peek(in) <= '9'; in->at++, count++) *zeros += *zeros == count && *in->at == '0';
    return count;
}

/* 0 or up to 18 digits without leading zeros; or, with a point, up to 15 digits of which the last is not an idle zero,
 * and no smaller than 0.0001: the texts that are the shortest for their double, so that each number has one. */
static inline bool take_number(json *in)
{
    bool negative = take(in, "-");
    uint32_t zeros, whole = take_digits(in, &zeros);
    if (whole == 0 || (zeros > 0 && whole > 1)) return false;
    if (!take(in, ".")) return whole <= 18 && !(negative && zeros);
    bool below_one = zeros == 1;
    const char *start = in->at;
    uint32_t fraction = take_digits(in, &zeros);
    if (fraction == 1 && *start == '0') return whole <= 15 && !(negative && below_one);
    if (fraction == 0 || in->at[-1] == '0') return false;
    return below_one ? zeros <= 3 && fraction - zeros <= 15 : whole + fraction <= 15;
}

static inline bool take_scalar(json *in)
{
    etsa_text text;
    char c = peek(in);
    if (c == '"') return take_text(in, &text);
    if (c == 't') return take(in, "true");
    if (c == 'f') return take(in, "false");
    if (c == 'n') return take(in, "null");
    return take_number(in);
}

static inline int compare_text(etsa_text a, etsa_text b)
{
    int order = memcmp(a.at, b.at, min32(a.size, b.size));
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* A key that comes after `previous`, and its colon. */
static inline bool take_key(json *in, etsa_text *previous)
{
    etsa_text key;
    if (!take_text(in, &key) || !take(in, ":")) return false;
    if (previous->at != NULL && compare_text(key, *previous) <= 0) return false;
    *previous = key;
    return true;
}

static inline bool is_canonical(const char *text, uint32_t size)
{
    json in = {text, text + size};
    etsa_text keys[MAX_DEPTH + 1]; /* the last key of each open object; NULL in a list */
    bool object[MAX_DEPTH + 1];
    uint32_t open = 0;
    for (;;) { /* a value begins here */
        if (open > MAX_DEPTH) return false;
        if (peek(&in) == '{' || peek(&in) == '[') {
            object[open] = *in.at++ == '{';
            keys[open].at = NULL;
            if (!take(&in, object[open] ? "}" : "]")) {
                if (object[open] && !take_key(&in, &keys[open])) return false;
                open++;
                continue;
            }
        } else if (!take_scalar(&in)) {
            return false;
        }
        for (;;) { /* a value has ended here */
            if (open == 0) return in.at == in.end;
            if (take(&in, ",")) {
                if (object[open - 1] && !take_key(&in, &keys[open - 1])) return false;
                break;
            }
            if (!take(&in, object[open - 1] ? "}" : "]")) return false;
            open--;
        }
    }
}

/* From here on the text is known to be canonical. */

static inline etsa_text take_value(json *in)
{
    etsa_text value = {in->at, 0};
    uint32_t open = 0;
    do {
        char c = *in->at++;
        if (c == '"') {
            while (in->at < in->end && *in->at++ != '"') {}
        } else if (c == '{' || c == '[') {
            open++;
        } else if (c == '}' || c == ']') {
            open--;
        }
    } while (in->at < in->end && (open > 0 || (*in->at != ',' && *in->at != '}' && *in->at != ']')));
    value.size = (uint32_t)(in->at - value.at);
    return value;
}

static inline json inside(etsa_text list_or_object)
{
    json in = {list_or_object.at + 1, list_or_object.at + list_or_object.size - 1};
    return in;
}

static inline bool next_item(json *in, etsa_text *value)
{
    take(in, ",");
    if (in->at >= in->end) return false;
    *value = take_value(in);
    return true;
}

static inline bool next_member(json *in, etsa_text *key, etsa_text *value)
{
    take(in, ",");
    return take_text(in, key) && take(in, ":") && next_item(in, value);
}

static inline bool is(etsa_text value, char first) { return value.size > 0 && value.at[0] == first; }

static inline bool find(etsa_text object, const char *name, etsa_text *value)
{
    json in = inside(object);
    etsa_text key;
    while (next_member(&in, &key, value)) {
        if (etsa_text_is(key, name)) return true;
    }
    return false;
}

static inline bool unquote(etsa_text value, etsa_text *text)
{
    json in = {value.at, value.at + value.size};
    return take_text(&in, text);
}

static inline bool find_text(etsa_text object, const char *name, etsa_text *text)
{
    etsa_text value;
    return find(object, name, &value) && unquote(value, text);
}

static inline bool find_in(etsa_text object, const char *name, char bracket, etsa_text *value)
{
    return find(object, name, value) && is(*value, bracket);
}

static inline bool whole_number(etsa_text value, uint64_t limit, uint64_t *number)
{
    *number = 0; /* at most 18 digits */
    for (uint32_t i = 0; i < value.size; i++) {
        if (value.at[i] < '0' || value.at[i] > '9') return false;
        *number = *number * 10 + (uint64_t)(value.at[i] - '0');
    }
    return value.size > 0 && *number <= limit;
}

static inline bool find_count(etsa_text object, const char *name, uint32_t *number)
{
    etsa_text value;
    uint64_t wide;
    if (!find(object, name, &value) || !whole_number(value, UINT32_MAX, &wide)) return false;
    *number = (uint32_t)wide;
    return true;
}

static inline bool find_length(etsa_text object, const char *name, uint32_t *number)
{
    return find_count(object, name, number) && *number >= 1 && *number <= ETSA_MAX_LENGTH;
}

/* Digits and a power of ten are both exact in a double, so one division is the correctly rounded value. */
static inline bool decimal(etsa_text value, double *number)
{
    uint64_t digits = 0;
    double divisor = 1.0;
    bool negative = is(value, '-'), fraction = false;
    if (value.size <= negative) return false;
    for (uint32_t i = negative; i < value.size; i++) {
        char c = value.at[i];
        if (c == '.') {
            fraction = true;
        } else if (c >= '0' && c <= '9') {
            digits = digits * 10 + (uint64_t)(c - '0');
            if (fraction) divisor *= 10.0;
        } else {
            return false;
        }
    }
    *number = (negative ? -(double)digits : (double)digits) / divisor;
    return true;
}

static inline bool read_file(etsa_text name, etsa_text value, etsa_file *file)
{
    etsa_text size, hex;
    file->name = name;
    if (!is(value, '{') || !find(value, "size", &size) || !whole_number(size, UINT64_MAX, &file->size)) return false;
    if (!find_text(value, "sha256", &hex) || hex.size != 64) return false;
    for (uint32_t i = 0; i < 64; i++) {
        char c = hex.at[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(c >= 'a' && c <= 'f')) return false;
        uint32_t nibble = (uint32_t)(digit ? c - '0' : c - 'a' + 10);
        file->sha256[i / 2] = (uint8_t)(i % 2 == 0 ? nibble << 4 : file->sha256[i / 2] | nibble);
    }
    if (name.size == 0 || name.at[0] == '.' || memchr(name.at, '/', name.size) != NULL) return false;
    return !etsa_text_is(name, "bundle.json");
}

static inline bool read_graph(etsa_text value, etsa_graph *graph)
{
    return is(value, '{') && find_text(value, "file", &graph->file) && find_in(value, "tensors", '[', &graph->tensors);
}

#endif
