#include "etsa_learning.h"
#include "etsa_json.h"

static const char GRAPHS[3][sizeof "learning"] = {"learning", "shifted", "state"}; /* the last from version 2 on */

static uint32_t graph_count(const etsa_learning *learning) { return learning->version == 1 ? 2 : 3; }

static bool names_file_of(etsa_text files, etsa_text name)
{
    etsa_text key, value;
    for (json in = inside(files); next_member(&in, &key, &value);) {
        if (compare_text(key, name) == 0) return true;
    }
    return false;
}

static bool check_files(etsa_learning *learning, const etsa_bundle *base)
{
    json in = inside(learning->files);
    etsa_text key, value;
    etsa_file file;
    for (learning->file_count = 0; next_member(&in, &key, &value); learning->file_count++) {
        if (learning->file_count == ETSA_MAX_FILES || !read_file(key, value, &file)) return false;
        if (etsa_text_is(key, "learning.json") || names_file_of(base->files, key)) return false;
    }
    return learning->file_count > 0;
}

/* Exactly the graphs of the version, each of a file of the manifest's own, tensors ascending within the base's table. */
static bool check_graphs(const etsa_learning *learning, const etsa_bundle *base)
{
    json in = inside(learning->graphs);
    etsa_text key, value, item;
    etsa_graph graph;
    uint32_t count = 0;
    uint64_t index, least;
    for (; next_member(&in, &key, &value); count++) {
        if (count == graph_count(learning) || !etsa_text_is(key, GRAPHS[count]) || !read_graph(value, &graph)) return false;
        if (!names_file_of(learning->files, graph.file)) return false;
        least = 0;
        for (json tensors = inside(graph.tensors); next_item(&tensors, &item); least = index + 1) {
            if (!whole_number(item, UINT32_MAX, &index) || index < least || index >= base->tensor_count) return false;
        }
    }
    return count == graph_count(learning);
}

/* Vectors of the base, in the order of its table. */
static bool check_names(etsa_learning *learning, const etsa_bundle *base, const etsa_tensor *tensors)
{
    json in = inside(learning->names);
    etsa_text value, name;
    uint32_t place = 0;
    for (learning->name_count = 0; next_item(&in, &value); learning->name_count++, place++) {
        if (!unquote(value, &name)) return false;
        while (place < base->tensor_count && compare_text(tensors[place].name, name) != 0) place++;
        if (place >= base->tensor_count || tensors[place].dimensions != 1) return false;
    }
    return learning->name_count > 0;
}

static bool same_levels(etsa_text ours, etsa_text theirs)
{
    json a = inside(ours), b = inside(theirs);
    etsa_text one, other;
    double x, y;
    for (;;) {
        bool more = next_item(&a, &one);
        if (next_item(&b, &other) != more) return false;
        if (!more) return true;
        if (!decimal(one, &x) || !decimal(other, &y) || x != y) return false;
    }
}

static bool is_digest(etsa_text hex, const uint8_t digest[32], bool *same)
{
    *same = true;
    for (uint32_t i = 0; i < hex.size; i++) {
        char c = hex.at[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(c >= 'a' && c <= 'f')) return false;
        uint32_t nibble = (uint32_t)(digit ? c - '0' : c - 'a' + 10);
        if (i < 64 && nibble != (i % 2 == 0 ? digest[i / 2] >> 4 : digest[i / 2] & 15u)) *same = false;
    }
    return hex.size == 64;
}

etsa_err etsa_learning_read(const uint8_t *manifest, size_t size, const etsa_bundle *base, const etsa_tensor *tensors,
                            etsa_learning *learning)
{
    etsa_sha256_state state;
    etsa_text text, digest, levels;
    uint32_t context_length, prediction_length;
    bool same;
    memset(learning, 0, sizeof *learning);
    if (size > ETSA_MAX_MANIFEST_SIZE) return ETSA_SIZE_ERROR;
    etsa_text top = {(const char *)manifest, (uint32_t)size};
    if (!is_canonical(top.at, top.size)) return ETSA_CANONICAL_ERROR;
    if (!is(top, '{') || !find_text(top, "format", &text) || !etsa_text_is(text, "edge-tsfm learning")) return ETSA_FORMAT_ERROR;
    if (!find_count(top, "format_version", &learning->version) || learning->version < 1 || learning->version > 2) {
        return ETSA_UNSUPPORTED_ERROR;
    }
    if (!find_text(top, "base_digest", &digest) || !is_digest(digest, base->digest, &same)) return ETSA_FORMAT_ERROR;
    if (!find_text(top, "learnable", &learning->learnable)) return ETSA_FORMAT_ERROR;
    bool output = etsa_text_is(learning->learnable, "output-biases");
    if (!output && !etsa_text_is(learning->learnable, "biases")) return ETSA_UNSUPPORTED_ERROR;
    if (!find_length(top, "context_length", &context_length) || !find_length(top, "prediction_length", &prediction_length) ||
        !find_in(top, "quantile_levels", '[', &levels) || !find_in(top, "names", '[', &learning->names) ||
        !find_in(top, "graphs", '{', &learning->graphs) || !find_in(top, "files", '{', &learning->files)) {
        return ETSA_FORMAT_ERROR;
    }
    if (!same) return ETSA_BASE_MISMATCH_ERROR;
    if (base->quantised) return ETSA_UNSUPPORTED_ERROR; /* its graphs, and the output block, read 32-bit numbers */
    if (context_length != base->context_length || prediction_length != base->prediction_length ||
        !same_levels(levels, base->levels) || (learning->version == 2 && !output) || !check_files(learning, base) ||
        !check_graphs(learning, base) || !check_names(learning, base, tensors)) {
        return ETSA_FORMAT_ERROR;
    }
    etsa_sha256_start(&state);
    etsa_sha256_add(&state, manifest, size);
    etsa_sha256_end(&state, learning->digest);
    return ETSA_OK;
}

bool etsa_learning_file(const etsa_learning *learning, uint32_t index, etsa_file *file)
{
    json in = inside(learning->files);
    etsa_text key, value;
    for (uint32_t i = 0; next_member(&in, &key, &value); i++) {
        if (i == index) return read_file(key, value, file);
    }
    return false;
}

bool etsa_learning_graph(const etsa_learning *learning, const char *name, etsa_graph *graph)
{
    etsa_text value;
    return find(learning->graphs, name, &value) && read_graph(value, graph);
}

bool etsa_learning_name(const etsa_learning *learning, uint32_t index, etsa_text *name)
{
    json in = inside(learning->names);
    etsa_text value;
    for (uint32_t i = 0; next_item(&in, &value); i++) {
        if (i == index) return unquote(value, name);
    }
    return false;
}
