#include "etsa.h"
#include "etsa_bytes.h"
#include "etsa_json.h"

#include <float.h>
#include <string.h>

#if defined(__FAST_MATH__) || (defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 1)
#error "merged weights are proven to the bit: etsa.c needs IEEE doubles without -ffast-math or x87 excess precision"
#endif

#define MAX_TABLE 8192u    /* longest wave table */
#define VERA_TILE 64u      /* columns of A held at a time */
#define FOURIER_ROWS 4u
#define GAIN_COLUMNS 2u    /* a gain's count: its numbers are for columns; 1: for rows */
#define WAVE_ONE 32768.0   /* 2^15, §6 */

static bool is_finite(uint32_t bits) { return (bits & 0x7f800000u) != 0x7f800000u; }

const char *etsa_err_name(int code)
{
    switch (code) {
    case ETSA_OK: return "OK";
    case ETSA_FORMAT_ERROR: return "FormatError";
    case ETSA_CHECKSUM_ERROR: return "ChecksumError";
    case ETSA_SIZE_ERROR: return "SizeError";
    case ETSA_CANONICAL_ERROR: return "CanonicalError";
    case ETSA_UNSUPPORTED_ERROR: return "UnsupportedError";
    case ETSA_SIGNATURE_ERROR: return "SignatureError";
    case ETSA_ROLLBACK_ERROR: return "RollbackError";
    case ETSA_BASE_MISMATCH_ERROR: return "BaseMismatchError";
    case ETSA_MERGE_ERROR: return "MergeError";
    case ETSA_SELF_TEST_ERROR: return "SelfTestError";
    case ETSA_SIGNAL_MISMATCH_ERROR: return "SignalMismatchError";
    case ETSA_STORAGE_ERROR: return "StorageError";
    case ETSA_LOCKED_ERROR: return "LockedError";
    case ETSA_STATE_ERROR: return "StateError";
    case ETSA_MISSING_LIBRARY_ERROR: return "MissingLibraryError";
    case ETSA_OFFLINE_ERROR: return "OfflineError";
    case ETSA_INPUT_ERROR: return "InputError";
    case ETSA_FORECAST_ERROR: return "ForecastError";
    case ETSA_SETTINGS_ERROR: return "SettingsError";
    default: return "?";
    }
}

bool etsa_text_is(etsa_text text, const char *what)
{
    return text.size == strlen(what) && memcmp(text.at, what, text.size) == 0;
}

/* --- base bundle ------------------------------------------------------------------------------------------------ */

static bool read_flag(etsa_text text, bool *value)
{
    *value = etsa_text_is(text, "true");
    return *value || etsa_text_is(text, "false");
}

static bool read_tensor(etsa_text value, etsa_tensor *tensor)
{
    etsa_text shape, side, quantised;
    uint64_t sides[2] = {1, 1};
    if (!is(value, '{') || !find_text(value, "name", &tensor->name)) return false;
    if (!find_count(value, "offset", &tensor->offset) || !find_in(value, "shape", '[', &shape)) return false;
    json in = inside(shape);
    for (tensor->dimensions = 0; next_item(&in, &side); tensor->dimensions++) {
        if (tensor->dimensions == 2 || !whole_number(side, ETSA_MAX_DIMENSION, &sides[tensor->dimensions])) return false;
        if (sides[tensor->dimensions] == 0) return false;
    }
    tensor->rows = (uint32_t)sides[0];
    tensor->columns = (uint32_t)sides[1];
    tensor->quantised = false;
    if (find(value, "quantised", &quantised) && !read_flag(quantised, &tensor->quantised)) return false;
    return tensor->dimensions > (tensor->quantised ? 1u : 0u);
}

static bool check_files(etsa_bundle *bundle, uint64_t *tunable_size)
{
    bool tunable = false;
    json in = inside(bundle->files);
    etsa_text key, value;
    etsa_file file;
    for (bundle->file_count = 0; next_member(&in, &key, &value); bundle->file_count++) {
        if (bundle->file_count == ETSA_MAX_FILES || !read_file(key, value, &file)) return false;
        if (etsa_text_is(file.name, "tunable.safetensors")) {
            tunable = true;
            *tunable_size = file.size;
        }
    }
    return tunable;
}

static bool check_tensors(etsa_bundle *bundle, uint64_t tunable_size)
{
    json in = inside(bundle->tensors);
    etsa_text value;
    etsa_tensor tensor;
    for (bundle->tensor_count = 0; next_item(&in, &value); bundle->tensor_count++) {
        if (bundle->tensor_count == ETSA_MAX_TENSORS || !read_tensor(value, &tensor)) return false;
        if (tensor.offset + (tensor.quantised ? 2u : 4u) * (uint64_t)tensor.rows * tensor.columns > tunable_size) return false;
        bundle->quantised = bundle->quantised || tensor.quantised;
    }
    return true;
}

/* Files are looked up for all graphs in one walk: one for each graph takes seconds at the limit of a manifest's size. */
static bool check_graphs(const etsa_bundle *bundle)
{
    json in = inside(bundle->graphs);
    etsa_text key, value, list, item, files[ETSA_MAX_GRAPHS];
    uint64_t index;
    uint32_t count = 0, pinned = 0;
    for (; next_member(&in, &key, &value); count++) {
        if (count == ETSA_MAX_GRAPHS || !is(value, '{') || !find_text(value, "file", &files[count]) ||
            !find_in(value, "tensors", '[', &list)) {
            return false;
        }
        uint64_t least = 0;
        for (json tensors = inside(list); next_item(&tensors, &item); least = index + 1) {
            if (!whole_number(item, UINT32_MAX, &index) || index < least || index >= bundle->tensor_count) return false;
        }
    }
    for (in = inside(bundle->files); next_member(&in, &key, &value);) {
        for (uint32_t i = 0; i < count; i++) pinned += compare_text(key, files[i]) == 0; /* no key comes twice */
    }
    return pinned == count;
}

static bool check_levels(etsa_bundle *bundle)
{
    json in = inside(bundle->levels);
    etsa_text value;
    double level, previous = 0.0;
    for (bundle->level_count = 0; next_item(&in, &value); bundle->level_count++) {
        if (bundle->level_count == ETSA_MAX_LEVELS || !decimal(value, &level) || !(level > previous && level < 1.0)) return false;
        previous = level;
    }
    return bundle->level_count > 0;
}

static bool find_numbers(etsa_text object, const char *name, uint32_t most, etsa_text *list, uint32_t *count)
{
    etsa_text item;
    double number;
    if (!find_in(object, name, '[', list)) return false;
    *count = 0;
    for (json in = inside(*list); next_item(&in, &item); ++*count) {
        if (*count == most || !decimal(item, &number)) return false;
    }
    return *count > 0;
}

/* The base's own known answer, where there is one. Canonical numbers are all within a float's range. */
static bool read_answer(etsa_text top, etsa_bundle *bundle)
{
    etsa_text answer, value;
    if (!find(top, "known_answer", &answer)) return true;
    return is(answer, '{') && find_numbers(answer, "context", ETSA_MAX_CONTEXT, &bundle->context, &bundle->context_size) &&
           find_numbers(answer, "expected", ETSA_MAX_EXPECTED, &bundle->expected, &bundle->expected_size) &&
           find(answer, "tolerance", &value) && decimal(value, &bundle->tolerance) && bundle->tolerance > 0;
}

etsa_err etsa_bundle_read(const uint8_t *manifest, size_t size, etsa_bundle *bundle)
{
    etsa_sha256_state state;
    uint32_t version;
    uint64_t tunable_size = 0;
    etsa_text text;
    memset(bundle, 0, sizeof *bundle);
    if (size > ETSA_MAX_MANIFEST_SIZE) return ETSA_SIZE_ERROR;
    etsa_text top = {(const char *)manifest, (uint32_t)size};
    if (!is_canonical(top.at, top.size)) return ETSA_CANONICAL_ERROR;
    if (!is(top, '{') || !find_text(top, "format", &text) || !etsa_text_is(text, "edge-tsfm bundle")) {
        return ETSA_FORMAT_ERROR;
    }
    if (!find_count(top, "format_version", &version) || (version != ETSA_BUNDLE_VERSION && version != ETSA_QUANTISED_VERSION)) {
        return ETSA_UNSUPPORTED_ERROR;
    }
    bool good = find_text(top, "name", &bundle->name) && find_text(top, "family", &bundle->family) &&
                find_text(top, "precision", &bundle->precision) &&
                find_length(top, "context_length", &bundle->context_length) &&
                find_length(top, "prediction_length", &bundle->prediction_length) &&
                find_in(top, "quantile_levels", '[', &bundle->levels) &&
                find_in(top, "parameters", '{', &bundle->parameters) &&
                find_in(top, "graphs", '{', &bundle->graphs) && find_in(top, "files", '{', &bundle->files) &&
                find_in(top, "tensors", '[', &bundle->tensors) && check_levels(bundle) &&
                check_files(bundle, &tunable_size) && check_tensors(bundle, tunable_size) && check_graphs(bundle) && read_answer(top, bundle) &&
                bundle->quantised == (version == ETSA_QUANTISED_VERSION);
    if (!good) return ETSA_FORMAT_ERROR;
    etsa_sha256_start(&state);
    etsa_sha256_add(&state, manifest, size);
    etsa_sha256_end(&state, bundle->digest);
    return ETSA_OK;
}

etsa_err etsa_bundle_tensors(const etsa_bundle *bundle, etsa_tensor *tensors, uint32_t capacity)
{
    json in = inside(bundle->tensors);
    etsa_text value;
    if (capacity < bundle->tensor_count) return ETSA_STORAGE_ERROR;
    while (next_item(&in, &value)) {
        if (!read_tensor(value, tensors++)) return ETSA_FORMAT_ERROR; /* only if the text changed meanwhile */
    }
    return ETSA_OK;
}

etsa_err etsa_bundle_levels(const etsa_bundle *bundle, double *levels, uint32_t capacity)
{
    json in = inside(bundle->levels);
    etsa_text value;
    if (capacity < bundle->level_count) return ETSA_STORAGE_ERROR;
    while (next_item(&in, &value)) decimal(value, levels++);
    return ETSA_OK;
}

bool etsa_bundle_file(const etsa_bundle *bundle, uint32_t index, etsa_file *file)
{
    json in = inside(bundle->files);
    etsa_text key, value;
    for (uint32_t i = 0; next_member(&in, &key, &value); i++) {
        if (i == index) return read_file(key, value, file);
    }
    return false;
}

bool etsa_bundle_graph(const etsa_bundle *bundle, const char *name, etsa_graph *graph)
{
    etsa_text value;
    return find(bundle->graphs, name, &value) && read_graph(value, graph);
}

bool etsa_bundle_graph_at(const etsa_bundle *bundle, uint32_t index, etsa_graph *graph)
{
    json in = inside(bundle->graphs);
    etsa_text key, value;
    for (uint32_t i = 0; next_member(&in, &key, &value); i++) {
        if (i == index) return read_graph(value, graph);
    }
    return false;
}

bool etsa_graph_uses(const etsa_graph *graph, uint32_t tensor)
{
    json in = inside(graph->tensors);
    etsa_text value;
    uint64_t index;
    while (next_item(&in, &value)) {
        if (whole_number(value, UINT32_MAX, &index) && index == tensor) return true;
    }
    return false;
}

bool etsa_bundle_parameter(const etsa_bundle *bundle, const char *name, double *value)
{
    etsa_text text;
    return find(bundle->parameters, name, &text) && decimal(text, value);
}

bool etsa_bundle_count(const etsa_bundle *bundle, const char *name, uint32_t *value)
{
    return find_count(bundle->parameters, name, value);
}

bool etsa_bundle_flag(const etsa_bundle *bundle, const char *name, bool *value)
{
    etsa_text text;
    return find(bundle->parameters, name, &text) && read_flag(text, value);
}

/* --- adapter blob ----------------------------------------------------------------------------------------------- */

/* Reads a record's data from front to back. */
typedef struct cursor {
    const uint8_t *at, *end;
    uint8_t rule; /* that a failed read broke */
} cursor;

static uint32_t left(const cursor *in) { return (uint32_t)(in->end - in->at); }

static uint32_t crc32(const uint8_t *data, size_t size, uint32_t crc)
{
    /* By nibbles: 64 bytes of table, and a blob of kilobytes takes microseconds. */
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u, 0x4db26158u, 0x5005713cu,
        0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu, 0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu,
    };
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 15u];
        crc = crc >> 4 ^ table[crc & 15u];
    }
    return crc;
}

static etsa_err refuse(etsa_adapter *adapter, uint8_t rule, uint32_t where, etsa_err code)
{
    adapter->rule = rule;
    adapter->where = where;
    return code;
}

/* The size of a block of numbers in bytes: a scale first when they are integers. */
static uint64_t numbers_size(uint32_t dtype, uint64_t count)
{
    return dtype == ETSA_DTYPE_FLOAT32 ? 4 * count : dtype == ETSA_DTYPE_INT16 ? 4 + 2 * count : 4 + count;
}

static etsa_err check_floats(cursor *in, uint32_t count, uint8_t rule)
{
    for (uint32_t i = 0; i < count; i++, in->at += 4) {
        if (!is_finite(load32(in->at))) {
            in->rule = rule;
            return ETSA_FORMAT_ERROR;
        }
    }
    return ETSA_OK;
}

static etsa_err check_numbers(cursor *in, uint32_t dtype, uint32_t count)
{
    in->rule = 15;
    if (numbers_size(dtype, count) > left(in)) return ETSA_SIZE_ERROR;
    if (dtype == ETSA_DTYPE_FLOAT32) return check_floats(in, count, 16);
    in->rule = 16;
    if (load32(in->at) > 0x7f7fffffu) return ETSA_FORMAT_ERROR; /* negative, negative zero or not finite */
    in->at += 4;
    for (uint32_t i = 0; i < count; i++) {
        if (dtype == ETSA_DTYPE_INT8 ? in->at[i] == 0x80u : load16(in->at + 2 * i) == 0x8000u) return ETSA_FORMAT_ERROR;
    }
    in->at += dtype == ETSA_DTYPE_INT8 ? count : 2 * count;
    return ETSA_OK;
}

/* One gap-coded entry after `previous`. */
static etsa_err take_entry(cursor *in, uint32_t limit, int64_t *previous)
{
    uint32_t gap = 0, shift = 0, byte;
    in->rule = 19;
    do {
        if (in->at == in->end || shift == 28) return ETSA_FORMAT_ERROR;
        byte = *in->at++;
        gap |= (byte & 0x7fu) << shift;
        shift += 7;
    } while (byte >= 0x80u);
    if (byte == 0 && shift > 7) {
        in->rule = 20;
        return ETSA_CANONICAL_ERROR;
    }
    *previous += (int64_t)gap + 1;
    return *previous < limit ? ETSA_OK : ETSA_FORMAT_ERROR;
}

/* Rules R11, R13, R14, R17 and R18 of a group of deltas. */
static etsa_err check_group(const record *r, uint8_t *rule)
{
    uint32_t size = r->rows * r->columns, most, least = 1;
    *rule = 13;
    if (r->tensor_count < 1 || r->tensor_count > ETSA_MAX_TENSORS) return ETSA_FORMAT_ERROR;
    *rule = 14;
    if (r->rows < 1 || r->rows > ETSA_MAX_DIMENSION || r->columns < 1 || r->columns > ETSA_MAX_DIMENSION) {
        return ETSA_FORMAT_ERROR;
    }
    *rule = 11;
    if (r->dtype > ETSA_DTYPE_INT8 || r->dtype < (r->kind == ETSA_KIND_DENSE ? 1u : 2u)) return ETSA_UNSUPPORTED_ERROR;
    switch (r->kind) {
    case ETSA_KIND_DENSE: least = most = 0; break;
    case ETSA_KIND_FOURIER: most = min32(size / 2, ETSA_MAX_FREQUENCIES); break;
    case ETSA_KIND_FOURIER_EXPLICIT: most = min32(size, ETSA_MAX_FREQUENCIES); break;
    case ETSA_KIND_GAIN: most = GAIN_COLUMNS; break;
    default: most = ETSA_MAX_RANK; break;
    }
    *rule = 17;
    if (r->count < least || r->count > most) return ETSA_FORMAT_ERROR;
    *rule = 18;
    if (r->kind != ETSA_KIND_FOURIER && r->kind != ETSA_KIND_VERA && r->seed != 0) return ETSA_FORMAT_ERROR;
    bool scaled = r->kind != ETSA_KIND_DENSE && r->kind != ETSA_KIND_GAIN;
    if (!scaled ? r->scaling != 0 : !is_finite(r->scaling) || r->scaling == 0x80000000u) {
        return ETSA_FORMAT_ERROR; /* a negative zero is a second way to say zero */
    }
    return ETSA_OK;
}

/* The numbers of one tensor of a group: one block or two. Zero where the kind has no second. */
static void member_counts(const record *r, uint32_t counts[2])
{
    counts[1] = 0;
    switch (r->kind) {
    case ETSA_KIND_DENSE: counts[0] = r->rows * r->columns; break;
    case ETSA_KIND_LOW_RANK: counts[0] = r->count * r->columns, counts[1] = r->rows * r->count; break;
    case ETSA_KIND_VERA: counts[0] = r->count, counts[1] = r->rows; break;
    case ETSA_KIND_GAIN: counts[0] = r->count == GAIN_COLUMNS ? r->columns : r->rows; break;
    default: counts[0] = r->count; break;
    }
}

/* A group's data: rules R12, R15, R16, R19, R20. */
static etsa_err check_members(etsa_adapter *adapter, const record *r, cursor *in, uint32_t *seen, cursor *entries)
{
    uint32_t counts[2];
    const uint8_t *indices = in->at;
    etsa_err err = ETSA_OK;
    in->rule = 15;
    if (left(in) < 2 * r->tensor_count) return ETSA_SIZE_ERROR;
    in->rule = 12;
    for (uint32_t i = 0; i < r->tensor_count; i++, in->at += 2) {
        if (load16(in->at) >= ETSA_MAX_TENSORS) return ETSA_FORMAT_ERROR;
        if (i > 0 && load16(in->at) <= load16(in->at - 2)) return ETSA_FORMAT_ERROR;
    }
    entries->at = in->at;
    if (r->kind == ETSA_KIND_FOURIER_EXPLICIT) {
        int64_t entry = -1;
        for (uint32_t i = 0; i < r->count && err == ETSA_OK; i++) err = take_entry(in, r->rows * r->columns, &entry);
    }
    entries->end = in->at;
    member_counts(r, counts);
    for (uint32_t i = 0; i < r->tensor_count && err == ETSA_OK; i++) {
        err = check_numbers(in, r->dtype, counts[0]);
        if (err == ETSA_OK && counts[1] > 0) err = check_numbers(in, r->dtype, counts[1]);
        adapter->parameters += counts[0] + counts[1];
    }
    if (err != ETSA_OK) return err;
    in->rule = 15;
    if (in->at != in->end) return ETSA_SIZE_ERROR;
    in->rule = 12;
    for (uint32_t i = 0; i < r->tensor_count; i++) {
        uint32_t tensor = load16(indices + 2 * i), bit = 1u << tensor % 32;
        if (seen[tensor / 32] & bit) return ETSA_FORMAT_ERROR;
        seen[tensor / 32] |= bit;
    }
    adapter->delta_count += r->tensor_count;
    return ETSA_OK;
}

static etsa_err read_calibration(etsa_adapter *adapter, const record *r, cursor *in)
{
    in->rule = 18;
    if (r->count != 0 || r->seed != 0 || r->scaling != 0) return ETSA_FORMAT_ERROR;
    in->rule = 11;
    if (r->dtype < ETSA_DTYPE_FLOAT32 || r->dtype > ETSA_DTYPE_INT8) return ETSA_UNSUPPORTED_ERROR;
    in->rule = 21;
    uint64_t size = (uint64_t)r->rows * r->columns;
    if (size < 1 || size > ETSA_MAX_EXPECTED) return ETSA_FORMAT_ERROR;
    adapter->calibration = in->at;
    adapter->calibration_dtype = (uint8_t)r->dtype;
    adapter->calibration_levels = r->rows;
    adapter->calibration_steps = r->columns;
    etsa_err err = check_numbers(in, r->dtype, (uint32_t)size);
    if (err == ETSA_OK && in->at != in->end) {
        in->rule = 15;
        err = ETSA_SIZE_ERROR;
    }
    return err;
}

static etsa_err read_known_answer(etsa_adapter *adapter, const record *r, cursor *in)
{
    in->rule = 18;
    if (r->count != 0 || r->seed != 0) return ETSA_FORMAT_ERROR;
    in->rule = 11;
    if (r->dtype != ETSA_DTYPE_FLOAT32) return ETSA_UNSUPPORTED_ERROR;
    in->rule = 22;
    if (r->rows < 1 || r->rows > ETSA_MAX_CONTEXT || r->columns < 1 || r->columns > ETSA_MAX_EXPECTED) {
        return ETSA_FORMAT_ERROR;
    }
    if (r->scaling == 0 || r->scaling > 0x7f7fffffu) return ETSA_FORMAT_ERROR; /* zero, negative or not finite */
    in->rule = 15;
    if (left(in) != 4 * (r->rows + r->columns)) return ETSA_SIZE_ERROR;
    adapter->context = in->at;
    adapter->context_size = r->rows;
    adapter->expected = in->at + 4 * r->rows;
    adapter->expected_size = r->columns;
    adapter->tolerance = float_of(r->scaling);
    return check_floats(in, r->rows + r->columns, 22);
}

static etsa_err read_metadata(etsa_adapter *adapter, const record *r, cursor *in)
{
    in->rule = 18;
    if (r->count != 0 || r->seed != 0 || r->scaling != 0) return ETSA_FORMAT_ERROR;
    in->rule = 23;
    if (r->dtype != 0 || r->rows != 0 || r->columns != 0) return ETSA_FORMAT_ERROR;
    if (r->size < 1 || r->size > ETSA_MAX_METADATA_SIZE) return ETSA_SIZE_ERROR;
    adapter->metadata.at = (const char *)in->at;
    adapter->metadata.size = r->size;
    if (!is_canonical(adapter->metadata.at, r->size)) return ETSA_CANONICAL_ERROR;
    return is(adapter->metadata, '{') && r->size > 2 ? ETSA_OK : ETSA_FORMAT_ERROR;
}

/* Printable ASCII without a blank at an end. */
static bool is_plain(etsa_text text)
{
    for (uint32_t i = 0; i < text.size; i++) {
        if (text.at[i] < 0x20 || text.at[i] > 0x7e) return false;
    }
    return text.size == 0 || (text.at[0] != ' ' && text.at[text.size - 1] != ' ');
}

static etsa_err read_binding(etsa_adapter *adapter, const record *r, cursor *in)
{
    in->rule = 18;
    if (r->count != 0 || r->seed != 0 || r->scaling != 0) return ETSA_FORMAT_ERROR;
    in->rule = 24;
    if (r->dtype != 0 || r->rows < 1 || r->rows > ETSA_MAX_DIMENSION || r->columns < 1 ||
        r->columns > ETSA_MAX_DIMENSION) {
        return ETSA_FORMAT_ERROR;
    }
    in->rule = 15;
    if (left(in) < ETSA_BINDING_SIZE) return ETSA_SIZE_ERROR;
    uint32_t system = in->at[16], code = in->at[17], unit = in->at[18], name = in->at[19];
    if (left(in) != ETSA_BINDING_SIZE + code + unit + name) return ETSA_SIZE_ERROR;
    in->rule = 24;
    uint32_t low = load32(in->at + 8), high = load32(in->at + 12);
    adapter->interval_us = load64(in->at);
    adapter->context_length = r->rows;
    adapter->prediction_length = r->columns;
    adapter->low = float_of(low);
    adapter->high = float_of(high);
    adapter->signal_code.at = (const char *)in->at + ETSA_BINDING_SIZE;
    adapter->signal_code.size = code;
    adapter->unit.at = adapter->signal_code.at + code;
    adapter->unit.size = unit;
    adapter->signal.at = adapter->unit.at + unit;
    adapter->signal.size = name;
    if (system > 1 || (system == 0) != (code == 0) || code > ETSA_MAX_CODE_SIZE || unit > ETSA_MAX_CODE_SIZE ||
        name < 1 || name > ETSA_MAX_NAME_SIZE || adapter->interval_us > ETSA_MAX_INTERVAL) {
        return ETSA_FORMAT_ERROR;
    }
    /* NaN, detected by its bits: a comparison would set a floating-point flag. */
    if ((low & 0x7fffffffu) > 0x7f800000u || (high & 0x7fffffffu) > 0x7f800000u) return ETSA_FORMAT_ERROR;
    if (!(adapter->low < adapter->high)) return ETSA_FORMAT_ERROR;
    return is_plain(adapter->signal_code) && is_plain(adapter->unit) && is_plain(adapter->signal) ? ETSA_OK
                                                                                                 : ETSA_FORMAT_ERROR;
}

/* R9's order: the fields one after the other, then explicit entries as bytes. */
static int compare_records(const record *a, const cursor *a_entries, const record *b, const cursor *b_entries)
{
    int order = compare_fields(a, b);
    if (order == 0) order = memcmp(a_entries->at, b_entries->at, min32(left(a_entries), left(b_entries)));
    if (order != 0) return order;
    return (left(a_entries) > left(b_entries)) - (left(a_entries) < left(b_entries));
}

static etsa_err check_record(etsa_adapter *adapter, const record *r, uint32_t previous_kind, uint32_t *seen,
                             cursor *entries, uint8_t *rule)
{
    bool bound = load16(adapter->blob + 4) != ETSA_UNBOUND_VERSION;
    cursor in = {adapter->blob + r->offset, adapter->blob + r->offset + r->size, 0};
    etsa_err err;
    entries->at = entries->end = in.at;
    if ((r->kind >= ETSA_KIND_DENSE && r->kind <= ETSA_KIND_VERA) || r->kind == ETSA_KIND_GAIN) {
        err = check_group(r, rule);
        if (err != ETSA_OK) return err;
        err = check_members(adapter, r, &in, seen, entries);
    } else if (r->kind < ETSA_KIND_CALIBRATION || r->kind > (bound ? ETSA_KIND_BINDING : ETSA_KIND_METADATA)) {
        in.rule = 11;
        err = ETSA_UNSUPPORTED_ERROR;
    } else if (r->tensor_count != 0) {
        in.rule = 13;
        err = ETSA_FORMAT_ERROR;
    } else if (r->kind == previous_kind) {
        in.rule = 25;
        err = ETSA_FORMAT_ERROR;
    } else {
        err = r->kind == ETSA_KIND_CALIBRATION    ? read_calibration(adapter, r, &in)
              : r->kind == ETSA_KIND_KNOWN_ANSWER ? read_known_answer(adapter, r, &in)
              : r->kind == ETSA_KIND_METADATA     ? read_metadata(adapter, r, &in)
                                                  : read_binding(adapter, r, &in);
    }
    *rule = in.rule;
    return err;
}

/* R1 to R3 of the bytes that are there. */
static etsa_err check_size(const uint8_t *data, size_t size, uint32_t *blob_size, uint8_t *rule)
{
    *rule = 1;
    if (size < ETSA_HEADER_SIZE) return ETSA_SIZE_ERROR;
    *rule = 2;
    if (memcmp(data, "ETSA", 4) != 0) return ETSA_FORMAT_ERROR;
    *rule = 3;
    *blob_size = load32(data + 8);
    if (*blob_size < ETSA_HEADER_SIZE || *blob_size > ETSA_MAX_BLOB_SIZE || *blob_size > size) return ETSA_SIZE_ERROR;
    return ETSA_OK;
}

etsa_err etsa_blob_size(const uint8_t *data, size_t size, uint32_t *blob_size)
{
    uint8_t rule;
    return check_size(data, size, blob_size, &rule);
}

uint32_t etsa_crc32(const uint8_t *blob, uint32_t blob_size)
{
    uint32_t crc = crc32(blob, 60, 0xffffffffu);
    return ~crc32(blob + ETSA_HEADER_SIZE, blob_size - ETSA_HEADER_SIZE, crc);
}

etsa_err etsa_checksum(const uint8_t *blob, uint32_t blob_size)
{
    return etsa_crc32(blob, blob_size) == load32(blob + 60) ? ETSA_OK : ETSA_CHECKSUM_ERROR;
}

const uint8_t *etsa_base_of(const uint8_t *blob) { return blob + 16; }

uint64_t etsa_version_of(const uint8_t *blob) { return load64(blob + 48); }

etsa_err etsa_decode(const uint8_t *blob, size_t size, etsa_adapter *adapter)
{
    uint32_t seen[ETSA_MAX_TENSORS / 32] = {0}, total = 0;
    uint8_t rule = 0;
    memset(adapter, 0, sizeof *adapter);
    etsa_err err = check_size(blob, size, &total, &rule);
    if (err != ETSA_OK) return refuse(adapter, rule, 0, err);
    if (total != size) return refuse(adapter, 3, 8, ETSA_SIZE_ERROR);
    if (etsa_checksum(blob, total) != ETSA_OK) return refuse(adapter, 4, 60, ETSA_CHECKSUM_ERROR);
    if (load16(blob + 4) != ETSA_UNBOUND_VERSION && load16(blob + 4) != ETSA_FORMAT_VERSION) {
        return refuse(adapter, 5, 4, ETSA_UNSUPPORTED_ERROR);
    }
    if (load16(blob + 6) != ETSA_HEADER_SIZE) return refuse(adapter, 6, 6, ETSA_FORMAT_ERROR);
    if (load32(blob + 56) != 0 || load16(blob + 14) > 1) return refuse(adapter, 6, 14, ETSA_FORMAT_ERROR);
    adapter->blob = blob;
    adapter->size = total;
    adapter->record_count = load16(blob + 12);
    adapter->forced = load16(blob + 14) == 1;
    adapter->base_digest = etsa_base_of(blob);
    adapter->version = etsa_version_of(blob);
    uint32_t position = ETSA_HEADER_SIZE + adapter->record_count * ETSA_RECORD_SIZE;
    if (adapter->record_count < 1 || adapter->record_count > ETSA_MAX_RECORDS || position > total) {
        return refuse(adapter, 7, 12, ETSA_SIZE_ERROR);
    }
    for (uint32_t i = 0; i < adapter->record_count; i++) {
        record r = load_record(blob, i);
        uint32_t where = ETSA_HEADER_SIZE + i * ETSA_RECORD_SIZE;
        if (r.offset != position || r.size > total - position) return refuse(adapter, 8, where, ETSA_SIZE_ERROR);
        position += r.size;
    }
    if (position != total) return refuse(adapter, 8, 8, ETSA_SIZE_ERROR);

    record previous = {0};
    cursor previous_entries = {blob, blob, 0};
    for (uint32_t i = 0; i < adapter->record_count; i++) {
        record r = load_record(blob, i);
        cursor entries = {blob, blob, 0};
        uint32_t where = ETSA_HEADER_SIZE + i * ETSA_RECORD_SIZE;
        err = check_record(adapter, &r, previous.kind, seen, &entries, &rule);
        if (err != ETSA_OK) return refuse(adapter, rule, where, err);
        if (compare_records(&r, &entries, &previous, &previous_entries) <= 0) {
            return refuse(adapter, 9, where, ETSA_CANONICAL_ERROR);
        }
        previous = r;
        previous_entries = entries;
    }
    if (adapter->delta_count == 0) return refuse(adapter, 10, 12, ETSA_FORMAT_ERROR);
    if (adapter->signal.size == 0 && load16(blob + 4) != ETSA_UNBOUND_VERSION) {
        return refuse(adapter, 25, 12, ETSA_FORMAT_ERROR);
    }
    return ETSA_OK;
}

/* --- deltas ----------------------------------------------------------------------------------------------------- */

bool etsa_next(const etsa_adapter *adapter, etsa_delta *delta)
{
    bool started = delta->numbers != NULL;
    uint32_t number = delta->record, member = started ? delta->member + 1 : 0, counts[2];
    if (number >= adapter->record_count) return false;
    record r = load_record(adapter->blob, number);
    if (member == r.tensor_count) { /* on to the next record */
        if (++number == adapter->record_count) return false;
        r = load_record(adapter->blob, number);
        member = 0;
    }
    if (r.tensor_count == 0) return false; /* records without tensors come last */
    const uint8_t *data = adapter->blob + r.offset;
    if (member == 0) {
        cursor in = {data + 2 * r.tensor_count, data + r.size, 0};
        delta->entries = in.at;
        if (r.kind == ETSA_KIND_FOURIER_EXPLICIT) {
            int64_t entry = -1;
            for (uint32_t i = 0; i < r.count; i++) take_entry(&in, r.rows * r.columns, &entry);
        }
        delta->numbers = in.at;
    } else {
        member_counts(&r, counts);
        delta->numbers += numbers_size(r.dtype, counts[0]);
        if (counts[1] > 0) delta->numbers += numbers_size(r.dtype, counts[1]);
    }
    delta->tensor = load16(data + 2 * member);
    delta->rows = r.rows;
    delta->columns = r.columns;
    delta->kind = (uint8_t)r.kind;
    delta->dtype = (uint8_t)r.dtype;
    delta->count = r.count;
    delta->seed = r.seed;
    delta->scaling = float_of(r.scaling);
    delta->record = number;
    delta->member = member;
    return true;
}

etsa_err etsa_fits(const etsa_adapter *adapter, const etsa_bundle *bundle, const etsa_tensor *tensors)
{
    etsa_delta delta = {0};
    if (memcmp(adapter->base_digest, bundle->digest, 32) != 0) return ETSA_BASE_MISMATCH_ERROR;
    while (etsa_next(adapter, &delta)) {
        if (delta.tensor >= bundle->tensor_count) return ETSA_MERGE_ERROR;
        const etsa_tensor *tensor = &tensors[delta.tensor];
        if (delta.rows != tensor->rows || delta.columns != tensor->columns) return ETSA_MERGE_ERROR;
    }
    bool calibrated = adapter->calibration_levels > 0;
    return calibrated && adapter->calibration_levels != bundle->level_count ? ETSA_MERGE_ERROR : ETSA_OK;
}

static char folded(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

/* Compare with a zero-terminated text, whatever the capitals and without the blanks around it. */
static bool is_named(etsa_text text, const char *what)
{
    uint32_t i = 0;
    while (*what == ' ') what++;
    while (i < text.size && what[i] != '\0' && folded(text.at[i]) == folded(what[i])) i++;
    if (text.size == 0 || i < text.size) return false;
    while (what[i] == ' ') i++;
    return what[i] == '\0';
}

etsa_err etsa_is_for(const etsa_adapter *adapter, const etsa_use *use, uint32_t accepted, uint32_t *differences)
{
    uint32_t found = 0;
    if (adapter->signal.size > 0) {
        bool named = use->signal == NULL || is_named(adapter->signal, use->signal) ||
                     is_named(adapter->signal_code, use->signal);
        if (!named) found |= ETSA_OTHER_SIGNAL;
        if (use->unit != NULL && use->unit[0] != '\0' && adapter->unit.size > 0 && !etsa_text_is(adapter->unit, use->unit)) {
            found |= ETSA_OTHER_UNIT;
        }
        if (use->interval_us != 0 && adapter->interval_us != 0 && use->interval_us != adapter->interval_us) {
            found |= ETSA_OTHER_INTERVAL;
        }
        if (use->context_length > adapter->context_length) found |= ETSA_OTHER_CONTEXT_LENGTH;
        if (use->prediction_length > adapter->prediction_length) found |= ETSA_OTHER_PREDICTION_LENGTH;
    }
    if (differences != NULL) *differences = found;
    return (found & ~accepted) != 0 ? ETSA_SIGNAL_MISMATCH_ERROR : ETSA_OK;
}

static size_t delta_scratch(uint32_t kind, uint32_t rows, uint32_t columns, uint32_t count)
{
    switch (kind) {
    case ETSA_KIND_FOURIER:
    case ETSA_KIND_FOURIER_EXPLICIT: /* waves of both periods, entries, their weights in four rows, four half rows */
        return 2 * (size_t)rows + 2 * (size_t)columns + 9 * (size_t)count + 8 * ((size_t)columns / 2 + 1);
    case ETSA_KIND_VERA: /* a tile of A, one column of B */
        return (size_t)count * (VERA_TILE + 1);
    default: return 0;
    }
}

size_t etsa_scratch_count(const etsa_adapter *adapter)
{
    size_t most = 0;
    for (uint32_t i = 0; i < adapter->record_count; i++) {
        record r = load_record(adapter->blob, i);
        size_t count = delta_scratch(r.kind, r.rows, r.columns, r.count);
        if (count > most) most = count;
    }
    return most;
}

/* --- generator -------------------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static uint64_t word(uint32_t seed, uint32_t stream, uint64_t i)
{
    return mix(mix(seed + ((uint64_t)stream << 32)) + (i + 1) * 0x9E3779B97F4A7C15u);
}

int32_t etsa_projection(uint32_t seed, uint32_t stream, uint32_t k, uint32_t j)
{
    return 2 * (int32_t)(word(seed, stream, 65536u * (uint64_t)k + j) >> 52) - 4095;
}

float etsa_uniform(uint32_t seed, uint32_t path, uint32_t step)
{
    return (float)(word(seed, 4, 65536u * (uint64_t)path + step) >> 40) / 16777216.0f;
}

void etsa_entries(uint32_t seed, uint32_t rows, uint32_t columns, uint32_t count, int64_t *entries)
{
    uint64_t size = (uint64_t)rows * columns;
    uint32_t taken = 0;
    for (uint64_t i = 0; taken < count; i++) {
        int64_t candidate = (int64_t)((word(seed, 1, i) >> 32) * size >> 32);
        uint32_t low = 0, high = taken; /* where it belongs among those taken so far */
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (entries[middle] < candidate) low = middle + 1;
            else high = middle;
        }
        if (low < taken && entries[low] == candidate) continue;
        memmove(entries + low + 1, entries + low, (taken - low) * sizeof *entries);
        entries[low] = candidate;
        taken++;
    }
}

/* --- merge ------------------------------------------------------------------------------------------------------ */

/* One operation, rounded: a store that the compiler may not skip keeps it from fusing a product into the next sum
 * (GCC does by default outside of ISO mode), which would round once too little. */
static double rounded(double value)
{
    volatile double stored = value;
    return stored;
}

/* 2^128 - 2^103: the largest double that still rounds to a finite float is just below. */
static const double too_large = 340282356779733661637539395458142568448.0;

/* Base plus delta, rounded once. */
static etsa_err add(const uint8_t *base, double delta, float *merged)
{
    uint32_t bits = load32(base);
    if (!is_finite(bits)) return ETSA_MERGE_ERROR;
    double sum = (double)float_of(bits) + rounded(delta);
    if (sum >= too_large || sum <= -too_large) return ETSA_MERGE_ERROR;
    *merged = (float)sum;
    return ETSA_OK;
}

static etsa_err merge_dense(const etsa_delta *delta, const uint8_t *base, float *merged)
{
    uint32_t size = delta->rows * delta->columns;
    bool floats = delta->dtype == ETSA_DTYPE_FLOAT32;
    const uint8_t *numbers = floats ? delta->numbers : delta->numbers + 4;
    double scale = floats ? 1.0 : (double)float_of(load32(delta->numbers));
    etsa_err err = ETSA_OK;
    for (uint32_t i = 0; i < size && err == ETSA_OK; i++) {
        double x = floats ? (double)float_of(load32(numbers + 4 * (size_t)i)) : integer_at(numbers, delta->dtype, i);
        err = add(base + 4 * (size_t)i, x * scale, merged + i);
    }
    return err;
}

/* cos and sin of 2 pi j / period for 0 <= 8 j <= period by their series: good to 1e-15. */
static void eighth_wave(uint32_t j, uint32_t period, double *cosine, double *sine)
{
    double x = 6.283185307179586477 * j / period, square = x * x, c = 1.0, s = 1.0;
    for (int i = 18; i > 0; i -= 2) {
        c = 1.0 - square / (i * (i - 1)) * c;
        s = 1.0 - square / (i * (i + 1)) * s;
    }
    *cosine = c;
    *sine = s * x;
}

/* C_m, then D_m of §6: 2^15 cos and 2^15 sin, rounded. Octants are folded with integers, so nothing is lost. */
static void waves(uint32_t period, int64_t *table)
{
    for (uint32_t j = 0; j < period; j++) {
        uint32_t octant = 8 * j / period, quarter = (octant + 1) / 2 % 4; /* nearest multiple of a quarter turn */
        uint32_t turned = 4 * j % period;                                 /* 4 (j - quarter period / 4) modulo period */
        bool below = 2 * turned >= period;
        double c, s;
        eighth_wave(below ? period - turned : turned, 4 * period, &c, &s);
        if (below) s = -s;
        double x = quarter == 0 ? c : quarter == 1 ? -s : quarter == 2 ? -c : s;
        double y = quarter == 0 ? s : quarter == 1 ? c : quarter == 2 ? -s : -c;
        table[j] = (int64_t)(x * WAVE_ONE + (x < 0 ? -0.5 : 0.5));
        table[period + j] = (int64_t)(y * WAVE_ONE + (y < 0 ? -0.5 : 0.5));
    }
}

/* Row p of S splits into E[q] = sum a_k C[q v_k] and O[q] = sum b_k D[q v_k] with a_k = c_k C[p u_k], b_k = c_k D[p u_k]:
 * S[p, q] = E - O, and since C is even and D odd, S[p, n - q] = S[m - p, q] = E + O. A quarter of the sums do. Four rows
 * are summed at a time, so that a wave is looked up once for four of them. */

/* weights[k][8]: a of four rows, then b, all below 2^30, for rows p to p + 3 */
static void fourier_weights(const etsa_delta *delta, uint32_t p, const int64_t *entries, const int64_t *waves_of_rows,
                            int64_t *weights)
{
    uint32_t m = delta->rows, n = delta->columns;
    for (uint32_t k = 0; k < delta->count; k++) {
        int64_t c = integer_at(delta->numbers + 4, delta->dtype, k);
        for (uint32_t r = 0; r < FOURIER_ROWS; r++) {
            uint32_t phase = (uint32_t)(entries[k] / n * (p + r) % m);
            weights[8 * k + r] = c * waves_of_rows[phase];
            weights[8 * k + 4 + r] = c * waves_of_rows[m + phase];
        }
    }
}

/* sums[q][8]: E of four rows, then O, for 0 <= q <= n / 2 */
static void fourier_sums(const etsa_delta *delta, const int64_t *entries, const int64_t *waves_of_columns,
                         const int64_t *weights, int64_t *sums)
{
    uint32_t n = delta->columns, half = n / 2;
    memset(sums, 0, 8 * ((size_t)half + 1) * sizeof *sums);
    for (uint32_t k = 0; k < delta->count; k++, weights += 8) {
        uint32_t v = (uint32_t)(entries[k] % n), phase = 0;
        int32_t a0 = (int32_t)weights[0], a1 = (int32_t)weights[1], a2 = (int32_t)weights[2], a3 = (int32_t)weights[3];
        int32_t b0 = (int32_t)weights[4], b1 = (int32_t)weights[5], b2 = (int32_t)weights[6], b3 = (int32_t)weights[7];
        for (int64_t *sum = sums; sum <= sums + 8 * (size_t)half; sum += 8) {
            int64_t cosine = (int32_t)waves_of_columns[phase], sine = (int32_t)waves_of_columns[n + phase];
            sum[0] += a0 * cosine;
            sum[1] += a1 * cosine;
            sum[2] += a2 * cosine;
            sum[3] += a3 * cosine;
            sum[4] += b0 * sine;
            sum[5] += b1 * sine;
            sum[6] += b2 * sine;
            sum[7] += b3 * sine;
            phase += v;
            if (phase >= n) phase -= n;
        }
    }
}

static etsa_err fourier_entries(const etsa_delta *delta, int64_t *entries)
{
    cursor in = {delta->entries, delta->numbers, 0};
    int64_t entry = -1;
    etsa_err err = ETSA_OK;
    if (delta->kind == ETSA_KIND_FOURIER) {
        etsa_entries(delta->seed, delta->rows, delta->columns, delta->count, entries);
        return ETSA_OK;
    }
    for (uint32_t k = 0; k < delta->count && err == ETSA_OK; k++) {
        err = take_entry(&in, delta->rows * delta->columns, &entry);
        entries[k] = entry;
    }
    return err;
}

static etsa_err merge_fourier(const etsa_delta *delta, const uint8_t *base, float *merged, int64_t *scratch)
{
    uint32_t m = delta->rows, n = delta->columns, half = n / 2;
    int64_t *rows = scratch, *columns = rows + 2 * m, *entries = columns + 2 * n;
    int64_t *weights = entries + delta->count, *sums = weights + 8 * (size_t)delta->count;
    double gain = rounded((double)float_of(load32(delta->numbers)) * delta->scaling) / ((double)(m * n) * 1073741824.0);
    etsa_err err = fourier_entries(delta, entries);
    waves(m, rows);
    waves(n, columns);
    for (uint32_t p = 0; p <= m / 2 && err == ETSA_OK; p++) {
        uint32_t r = p % FOURIER_ROWS;
        if (r == 0) {
            fourier_weights(delta, p, entries, rows, weights);
            fourier_sums(delta, entries, columns, weights, sums);
        }
        for (uint32_t i = 0; i < (p == 0 || 2 * p == m ? 1u : 2u); i++) { /* row p, then row m - p */
            size_t row = (size_t)(i == 0 ? p : m - p) * n;
            for (uint32_t q = 0; q < n && err == ETSA_OK; q++) {
                const int64_t *sum = sums + 8 * (size_t)(q <= half ? q : n - q) + r;
                int64_t total = (q <= half) == (i == 0) ? sum[0] - sum[4] : sum[0] + sum[4];
                err = add(base + 4 * (row + q), (double)total * gain, merged + row + q);
            }
        }
    }
    return err;
}

static etsa_err merge_low_rank(const etsa_delta *delta, const uint8_t *base, float *merged)
{
    uint32_t rank = delta->count;
    const uint8_t *a = delta->numbers + 4, *second = delta->numbers + numbers_size(delta->dtype, rank * delta->columns);
    const uint8_t *b = second + 4;
    double gain = rounded((double)float_of(load32(delta->numbers)) * float_of(load32(second)));
    etsa_err err = ETSA_OK;
    gain = rounded(gain * delta->scaling);
    for (uint32_t p = 0; p < delta->rows; p++) {
        for (uint32_t q = 0; q < delta->columns && err == ETSA_OK; q++) {
            size_t at = (size_t)p * delta->columns + q;
            int64_t sum = 0;
            for (uint32_t k = 0; k < rank; k++) {
                sum += (int64_t)integer_at(b, delta->dtype, p * rank + k) * integer_at(a, delta->dtype, k * delta->columns + q);
            }
            err = add(base + 4 * at, (double)sum * gain, merged + at);
        }
    }
    return err;
}

static etsa_err merge_vera(const etsa_delta *delta, const uint8_t *base, float *merged, int64_t *scratch)
{
    uint32_t rank = delta->count;
    int64_t *tile = scratch, *weights = scratch + (size_t)rank * VERA_TILE;
    const uint8_t *d = delta->numbers + 4, *second = delta->numbers + numbers_size(delta->dtype, rank), *b = second + 4;
    double gain = rounded((double)float_of(load32(delta->numbers)) * float_of(load32(second)));
    etsa_err err = ETSA_OK;
    gain = rounded(gain * delta->scaling) / 16777216.0;
    for (uint32_t start = 0; start < delta->columns; start += VERA_TILE) {
        uint32_t width = min32(VERA_TILE, delta->columns - start);
        for (uint32_t k = 0; k < rank; k++) {
            for (uint32_t q = 0; q < width; q++) tile[q * rank + k] = etsa_projection(delta->seed, 2, k, start + q);
        }
        for (uint32_t p = 0; p < delta->rows; p++) {
            double row = integer_at(b, delta->dtype, p);
            for (uint32_t k = 0; k < rank; k++) {
                weights[k] = (int64_t)etsa_projection(delta->seed, 3, k, p) * integer_at(d, delta->dtype, k);
            }
            for (uint32_t q = 0; q < width && err == ETSA_OK; q++) {
                size_t at = (size_t)p * delta->columns + start + q;
                int64_t sum = 0;
                for (uint32_t k = 0; k < rank; k++) sum += (int64_t)(int32_t)weights[k] * (int32_t)tile[q * rank + k];
                err = add(base + 4 * at, rounded((double)sum * row) * gain, merged + at);
            }
        }
    }
    return err;
}

static etsa_err merge_gain(const etsa_delta *delta, const uint8_t *base, float *merged)
{
    const uint8_t *numbers = delta->numbers + 4;
    double scale = (double)float_of(load32(delta->numbers));
    bool of_columns = delta->count == GAIN_COLUMNS;
    etsa_err err = ETSA_OK;
    for (uint32_t p = 0; p < delta->rows; p++) {
        for (uint32_t q = 0; q < delta->columns && err == ETSA_OK; q++) {
            size_t at = (size_t)p * delta->columns + q;
            uint32_t bits = load32(base + 4 * at);
            if (!is_finite(bits)) return ETSA_MERGE_ERROR;
            double gain = rounded(integer_at(numbers, delta->dtype, of_columns ? q : p) * scale);
            err = add(base + 4 * at, (double)float_of(bits) * gain, merged + at);
        }
    }
    return err;
}

etsa_err etsa_merge(const etsa_delta *delta, const uint8_t *base, float *merged, int64_t *scratch, size_t scratch_count)
{
    if (scratch_count < delta_scratch(delta->kind, delta->rows, delta->columns, delta->count)) return ETSA_STORAGE_ERROR;
    switch (delta->kind) {
    case ETSA_KIND_DENSE: return merge_dense(delta, base, merged);
    case ETSA_KIND_FOURIER:
    case ETSA_KIND_FOURIER_EXPLICIT: return merge_fourier(delta, base, merged, scratch);
    case ETSA_KIND_LOW_RANK: return merge_low_rank(delta, base, merged);
    case ETSA_KIND_VERA: return merge_vera(delta, base, merged, scratch);
    case ETSA_KIND_GAIN: return merge_gain(delta, base, merged);
    default: return ETSA_UNSUPPORTED_ERROR;
    }
}

/* --- quantised tensors, §6 ---------------------------------------------------------------------------------------- */

#define STEPS_INVERSE 0.015625f  /* 1 / 64 */
#define LEAST_OF_ROW 0x0d800000u /* 2^-100 */

void etsa_widen(const uint8_t *halves, size_t count, uint8_t *floats)
{
    for (size_t i = 0; i < count; i++, halves += 2, floats += 4) {
        uint32_t half = load16(halves), exponent = half >> 10 & 31u, fraction = half & 0x3ffu, bits;
        float small = (float)fraction * 5.9604644775390625e-8f; /* 2^-24 */
        if (exponent == 0) memcpy(&bits, &small, sizeof bits);
        else bits = (exponent == 31 ? 0xffu : exponent + 112) << 23 | fraction << 13;
        bits |= (half & 0x8000u) << 16;
        for (uint32_t byte = 0; byte < 4; byte++) floats[byte] = (uint8_t)(bits >> 8 * byte);
    }
}

/* The nearest integer, of two equally near ones the even one; |x| <= 64. */
static int32_t nearest(float x)
{
    int32_t whole = (int32_t)x;
    float rest = x - (float)whole;
    if (rest > 0.5f || (rest == 0.5f && (whole & 1) != 0)) return whole + 1;
    if (rest < -0.5f || (rest == -0.5f && (whole & 1) != 0)) return whole - 1;
    return whole;
}

etsa_err etsa_quantise(const float *merged, uint32_t rows, uint32_t columns, int8_t *integers, float *scales)
{
    for (uint32_t p = 0; p < rows; p++, merged += columns, integers += columns) {
        uint32_t largest = 0; /* bits of a size: they are ordered as sizes are */
        for (uint32_t q = 0; q < columns; q++) {
            uint32_t bits;
            memcpy(&bits, merged + q, sizeof bits);
            bits &= 0x7fffffffu;
            if (bits > largest) largest = bits;
        }
        if (!is_finite(largest)) return ETSA_MERGE_ERROR;
        bool empty = largest < LEAST_OF_ROW;
        float scale = empty ? 1.0f : float_of(largest) * STEPS_INVERSE;
        for (uint32_t q = 0; q < columns; q++) integers[q] = empty ? 0 : (int8_t)nearest(merged[q] / scale);
        scales[p] = scale;
    }
    return ETSA_OK;
}

/* --- known answer and calibration -------------------------------------------------------------------------------- */

bool etsa_known_answer(const etsa_adapter *adapter, float *context, float *expected)
{
    for (uint32_t i = 0; i < adapter->context_size; i++) context[i] = float_of(load32(adapter->context + 4 * i));
    for (uint32_t i = 0; i < adapter->expected_size; i++) expected[i] = float_of(load32(adapter->expected + 4 * i));
    return adapter->context_size > 0;
}

static void copy_numbers(etsa_text list, float *numbers)
{
    json in = inside(list);
    etsa_text item;
    double number = 0;
    while (next_item(&in, &item)) {
        decimal(item, &number);
        *numbers++ = (float)number;
    }
}

bool etsa_bundle_known_answer(const etsa_bundle *bundle, float *context, float *expected)
{
    if (bundle->context_size == 0) return false;
    copy_numbers(bundle->context, context);
    copy_numbers(bundle->expected, expected);
    return true;
}

double etsa_widest_tolerance(const float *context, uint32_t context_size)
{
    double low = (double)context[0], high = low;
    for (uint32_t i = 1; i < context_size; i++) {
        if ((double)context[i] < low) low = (double)context[i];
        if ((double)context[i] > high) high = (double)context[i];
    }
    return (high - low) / 50 + (high > -low ? high : -low) / 50000;
}

etsa_err etsa_compare_probe(const float *expected, const float *probe, uint32_t count, double tolerance, double *worst)
{
    double most = 0.0;
    etsa_err err = ETSA_OK;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, probe + i, sizeof bits);
        if (!is_finite(bits)) {
            err = ETSA_SELF_TEST_ERROR;
            continue;
        }
        double difference = (double)probe[i] - (double)expected[i];
        if (difference < 0) difference = -difference;
        if (difference > most) most = difference;
    }
    if (worst != NULL) *worst = most;
    return most > tolerance ? ETSA_SELF_TEST_ERROR : err;
}

void etsa_sort_levels(float *quantiles, uint32_t steps, uint32_t levels)
{
    for (uint32_t h = 0; h < steps; h++) {
        float *step = quantiles + (size_t)h * levels;
        for (uint32_t j = 1; j < levels; j++) {
            float moved = step[j];
            uint32_t place = j;
            for (; place > 0 && step[place - 1] > moved; place--) step[place] = step[place - 1];
            step[place] = moved;
        }
    }
}

void etsa_calibrate(const etsa_adapter *adapter, float *quantiles, uint32_t steps, uint32_t levels)
{
    if (adapter->calibration_levels == 0 || adapter->calibration_levels != levels) return;
    bool floats = adapter->calibration_dtype == ETSA_DTYPE_FLOAT32;
    const uint8_t *numbers = floats ? adapter->calibration : adapter->calibration + 4;
    double scale = floats ? 1.0 : (double)float_of(load32(adapter->calibration));
    for (uint32_t h = 0; h < steps; h++) {
        float *step = quantiles + (size_t)h * levels;
        double width = (double)step[levels - 1] - step[0];
        for (uint32_t j = 0; j < levels; j++) {
            uint32_t at = j * adapter->calibration_steps + min32(h, adapter->calibration_steps - 1);
            double x = floats ? (double)float_of(load32(numbers + 4 * at)) : integer_at(numbers, adapter->calibration_dtype, at);
            double sum = step[j] + rounded(rounded(x * scale) * width);
            bool inside = sum < too_large && sum > -too_large;
            double safe = rounded(inside ? sum : 0.0); /* a compiler may convert first and choose afterwards */
            float infinite = float_of(sum < 0 ? 0xff800000u : 0x7f800000u); /* without raising a flag */
            step[j] = inside ? (float)safe : infinite;
        }
    }
    etsa_sort_levels(quantiles, steps, levels); /* rounding keeps order: sorting the floats is sorting the doubles */
}

/* --- signature -------------------------------------------------------------------------------------------------- */

/* Whether the little-endian number is below the limit. */
static bool is_below(const uint8_t number[32], const uint8_t limit[32])
{
    uint32_t i = 31;
    while (i > 0 && number[i] == limit[i]) i--;
    return number[i] < limit[i];
}

/* A point's encoding that is its only one and none of the eight of small order. Their y are 0, 1, -1 and two more. */
static bool is_plain_point(const uint8_t point[32])
{
    static const uint8_t of_order_8[2][32] = {
        {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
         0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
        {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
         0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
    };
    uint8_t y[32], minus_one[32], two[32] = {2};
    memcpy(y, point, 32);
    y[31] &= 0x7f; /* the other bit is the sign of x */
    memset(minus_one, 0xff, 32); /* 2^255 - 20; what is above it is a second encoding */
    minus_one[0] = 0xec;
    minus_one[31] = 0x7f;
    return is_below(y, minus_one) && !is_below(y, two) && memcmp(y, of_order_8[0], 32) != 0 && memcmp(y, of_order_8[1], 32) != 0;
}

/* Checks of a signature and a key before a verifier is called, §8: not all verifiers make them. */
static bool is_plain_signature(const uint8_t signature[64], const uint8_t key[32])
{
    static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7,
                                      0xa2, 0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
    return is_below(signature + 32, order) && is_plain_point(signature) && is_plain_point(key);
}

etsa_err etsa_verify(const uint8_t *message, uint32_t blob_size, const uint8_t *signatures, size_t signatures_size,
                     const uint8_t key[32], etsa_ed25519 *verify)
{
    uint8_t digest[32];
    etsa_sha256_state state;
    bool good = false;
    if (memcmp(message, ETSA_PREFIX, ETSA_PREFIX_SIZE) != 0) return ETSA_SIGNATURE_ERROR;
    if (signatures_size == 0 || signatures_size % ETSA_SIGNATURE_SIZE != 0) return ETSA_SIGNATURE_ERROR;
    if (signatures_size / ETSA_SIGNATURE_SIZE > ETSA_MAX_SIGNATURES) return ETSA_SIGNATURE_ERROR;
    etsa_sha256_start(&state);
    etsa_sha256_add(&state, key, 32);
    etsa_sha256_end(&state, digest);
    for (const uint8_t *p = signatures; p < signatures + signatures_size; p += ETSA_SIGNATURE_SIZE) {
        if (memcmp(p, "ETSG", 4) != 0) return ETSA_SIGNATURE_ERROR;
        bool known = load16(p + 4) == 1 && load16(p + 6) == 1 && memcmp(p + 8, digest, 8) == 0;
        good = good || (known && is_plain_signature(p + 16, key) && verify(p + 16, message, ETSA_PREFIX_SIZE + (size_t)blob_size, key));
    }
    return good ? ETSA_OK : ETSA_SIGNATURE_ERROR;
}
