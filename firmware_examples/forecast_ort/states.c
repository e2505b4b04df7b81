#include "states.h"
#include "parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATCH 4096u /* steps */
#define LEARNING_FILE "learning.json"
#define PARTS 6 /* weight and bias of each layer */

static const char *const NAMES[PARTS] = {
    "output_patch_embedding.hidden_layer.bias",   "output_patch_embedding.output_layer.bias",
    "output_patch_embedding.residual_layer.bias", "output_patch_embedding.hidden_layer.weight",
    "output_patch_embedding.output_layer.weight", "output_patch_embedding.residual_layer.weight"};

struct fc_states {
    fc_base *base;
    fc_forecaster *adapter; /* read and merged, without a model of its own */
    OrtSession *session;
    uint32_t patch, places[PARTS];
    etl_block block;
    double *levels;
    float *weights[PARTS];
    float *input; /* [context_length rounded up to whole patches] */
};

/* --- the manifest --------------------------------------------------------------------------------------------------- */

static etsa_err read_manifest(fc_base *base, fc_message message)
{
    char path[FC_PATH_SIZE];
    size_t size;
    etsa_graph graph;
    snprintf(path, sizeof path, "%.4000s/" LEARNING_FILE, base->folder);
    etsa_err err = fc_read_file(path, ETSA_MAX_MANIFEST_SIZE, &base->learning_manifest, &size, message);
    if (err != ETSA_OK) return err;
    err = etsa_learning_read(base->learning_manifest, size, &base->bundle, base->tensors, &base->learning);
    if (err == ETSA_UNSUPPORTED_ERROR) {
        return fc_refuse(message, err, "%s: of another version, or of something else than biases, which only Python learns: write it "
                         "with edge-tsfm export learning --learnable output-biases", path);
    }
    if (err != ETSA_OK) return fc_refuse(message, err, "%s: %s", path, etsa_err_name((int)err));
    if (!etsa_text_is(base->bundle.family, "chronos-bolt") || !etsa_learning_graph(&base->learning, "state", &graph)) {
        return fc_refuse(message, ETSA_UNSUPPORTED_ERROR, "%s: no graph state of a chronos-bolt: write it with edge-tsfm export learning "
                         "--learnable output-biases", path);
    }
    return ETSA_OK;
}

/* Only the state graph is opened here; the others are pinned and left alone. */
static etsa_err check_files(fc_base *base, fc_message message)
{
    etsa_graph graph;
    uint32_t first = base->file_count;
    etsa_err err = fc_map_learning_files(base, message);
    const fc_file *wrong = err == ETSA_OK && !base->settings.trust_files ? fc_wrong_file(base, first) : NULL;
    if (err != ETSA_OK) return err;
    if (wrong != NULL) {
        return fc_refuse(message, ETSA_BASE_MISMATCH_ERROR, "%s/%.*s is not the file that " LEARNING_FILE " pins", base->folder,
                         (int)wrong->pinned.name.size, wrong->pinned.name.at);
    }
    etsa_learning_graph(&base->learning, "state", &graph);
    return fc_check_graph(base, fc_file_of(base, graph.file), message);
}

etsa_err fc_learning_open(fc_base *base, fc_message message)
{
    message[0] = '\0';
    if (base->learning_manifest != NULL) return ETSA_OK;
    etsa_err err = read_manifest(base, message);
    if (err == ETSA_OK) err = check_files(base, message);
    if (err == ETSA_OK) return ETSA_OK;
    while (base->file_count > base->bundle.file_count) fc_unmap_file(&base->files[--base->file_count]);
    free(base->learning_manifest);
    base->learning_manifest = NULL;
    return err;
}

const etsa_learning *fc_learning(const fc_base *base) { return base->learning_manifest != NULL ? &base->learning : NULL; }

/* --- the block ------------------------------------------------------------------------------------------------------- */

static float float_at(const uint8_t *p)
{
    uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Copy a tensor with the adapter merged. */
static etsa_err copy_tensor(fc_states *s, int part, fc_message message)
{
    const fc_base *base = s->base;
    uint32_t place = 0;
    while (place < base->bundle.tensor_count && !etsa_text_is(base->tensors[place].name, NAMES[part])) place++;
    if (place == base->bundle.tensor_count) return fc_refuse(message, ETSA_FORMAT_ERROR, "bundle.json: no tensor %s", NAMES[part]);
    const etsa_tensor *tensor = &base->tensors[place];
    size_t count = (size_t)tensor->rows * tensor->columns;
    const float *merged = fc_all_merged(s->adapter)[place];
    s->places[part] = place;
    s->weights[part] = malloc(count * sizeof(float));
    if (s->weights[part] == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    for (size_t i = 0; i < count; i++)
        s->weights[part][i] = merged != NULL ? merged[i] : float_at(base->tunable->data + tensor->offset + 4 * i);
    return ETSA_OK;
}

static bool is_shape(const fc_states *s, int part, uint32_t rows, uint32_t columns)
{
    const etsa_tensor *tensor = &s->base->tensors[s->places[part]];
    return tensor->rows == rows && tensor->columns == columns;
}

static etsa_err make_block(fc_states *s, fc_message message)
{
    const etsa_bundle *bundle = &s->base->bundle;
    etsa_text name;
    uint32_t made = bundle->level_count * bundle->prediction_length;
    for (int part = 0; part < PARTS; part++) {
        etsa_err err = copy_tensor(s, part, message);
        if (err != ETSA_OK) return err;
    }
    s->levels = malloc(bundle->level_count * sizeof *s->levels);
    if (s->levels == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    (void)etsa_bundle_levels(bundle, s->levels, bundle->level_count);
    uint32_t hidden = s->base->tensors[s->places[3]].rows, state = s->base->tensors[s->places[3]].columns;
    s->block = (etl_block){.state_size = state, .hidden_size = hidden, .level_count = bundle->level_count,
                           .prediction_length = bundle->prediction_length, .steps = fc_steps(s->adapter),
                           .hidden_bias = s->weights[0], .output_bias = s->weights[1], .residual_bias = s->weights[2],
                           .hidden_weight = s->weights[3], .output_weight = s->weights[4], .residual_weight = s->weights[5],
                           .levels = s->levels};
    bool good = is_shape(s, 0, hidden, 1) && is_shape(s, 1, made, 1) && is_shape(s, 2, made, 1) && is_shape(s, 4, made, hidden) &&
                is_shape(s, 5, made, state) && etl_is_block(&s->block) && s->base->learning.name_count == FC_BIASES;
    for (uint32_t i = 0; good && i < FC_BIASES; i++) good = etsa_learning_name(&s->base->learning, i, &name) && etsa_text_is(name, NAMES[i]);
    return good ? ETSA_OK : fc_refuse(message, ETSA_UNSUPPORTED_ERROR, LEARNING_FILE ": its biases are not those of an output block that is known here");
}

/* The known answer, forecast by the block from the graph's state. */
static etsa_err probe(void *model, const float *context, size_t length, uint32_t count, float *out, fc_message message)
{
    fc_states *s = model;
    etl_block block = s->block;
    block.steps = (count + block.level_count - 1) / block.level_count;
    if (block.steps > block.prediction_length) return fc_refuse(message, ETSA_FORMAT_ERROR, "known-answer test: too many numbers");
    float *state = malloc(block.state_size * sizeof *state), *shift = calloc(etl_shift_size(&block), sizeof *shift);
    float *quantiles = malloc((size_t)block.steps * block.level_count * sizeof *quantiles);
    double *scratch = malloc(etl_scratch_size(&block));
    etsa_err err = ETSA_OK;
    if (state == NULL || shift == NULL || quantiles == NULL || scratch == NULL) err = fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    etl_window window = {.state = state, .varies = true};
    if (err == ETSA_OK) err = fc_state_of(s, context, length, state, &window.loc, &window.scale, message);
    if (err == ETSA_OK) {
        etl_forecast(&block, shift, &window, scratch, quantiles);
        memcpy(out, quantiles, count * sizeof *out);
    }
    free(state);
    free(shift);
    free(quantiles);
    free(scratch);
    return err;
}

/* --- opened ----------------------------------------------------------------------------------------------------------- */

static etsa_err open_graph(fc_states *s, const uint8_t *data, size_t size, const fc_policy *policy, fc_message message)
{
    etsa_err err = fc_whole(s->base, "patch_size", 1, MAX_PATCH, &s->patch, message);
    if (err != ETSA_OK) return err;
    s->input = malloc(((size_t)s->base->bundle.context_length + s->patch) * sizeof *s->input);
    if (s->input == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    err = fc_open_merged(s->base, data, size, policy, &s->adapter, message);
    if (err == ETSA_OK) err = make_block(s, message);
    if (err == ETSA_OK) err = fc_open_session(s->base, "state", false, fc_all_merged(s->adapter), &s->session, message);
    fc_trim_memory(s->base);
    return err == ETSA_OK ? fc_prove(s->adapter, probe, s, message) : err;
}

etsa_err fc_states_open(fc_base *base, const uint8_t *data, size_t size, const fc_policy *policy, fc_states **out, fc_message message)
{
    *out = NULL;
    message[0] = '\0';
    if (base->learning_manifest == NULL) return fc_refuse(message, ETSA_STATE_ERROR, "no learning graphs were opened");
    fc_states *s = calloc(1, sizeof *s);
    if (s == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    s->base = base;
    etsa_err err = open_graph(s, data, size, policy, message);
    if (err == ETSA_OK) *out = s;
    else fc_states_close(s);
    return err;
}

void fc_states_close(fc_states *s)
{
    if (s == NULL) return;
    if (s->session != NULL) s->base->ort->ReleaseSession(s->session);
    for (int part = 0; part < PARTS; part++) free(s->weights[part]);
    fc_close(s->adapter);
    free(s->levels);
    free(s->input);
    free(s);
}

const etl_block *fc_states_block(const fc_states *s) { return &s->block; }

const etsa_adapter *fc_states_adapter(const fc_states *s) { return fc_adapter(s->adapter); }

void fc_states_tensors(const fc_states *s, uint32_t tensors[FC_BIASES]) { memcpy(tensors, s->places, FC_BIASES * sizeof *tensors); }

etsa_err fc_state_of(fc_states *s, const float *context, size_t length, float *state, float *loc, float *scale, fc_message message)
{
    static const char *const NAMES_IN[] = {"context"}, *const NAMES_OUT[] = {"state", "loc", "scale"};
    float *const into[] = {state, loc, scale};
    const size_t sizes[] = {s->block.state_size, 1, 1};
    const OrtApi *ort = s->base->ort;
    uint32_t most = s->base->bundle.context_length;
    if (length > most) {
        context += length - most;
        length = most;
    }
    size_t padded = (length + s->patch - 1) / s->patch * s->patch;
    int64_t shape[2] = {1, (int64_t)padded};
    OrtValue *input = NULL, *outputs[3] = {NULL};
    float *made;
    for (size_t i = 0; i < padded; i++) s->input[i] = i < padded - length ? NAN : context[i - (padded - length)];
    etsa_err err = fc_value(s->base, s->input, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, shape, 2, &input, message);
    if (err == ETSA_OK) {
        err = fc_check(s->base, ort->Run(s->session, NULL, NAMES_IN, (const OrtValue *const *)&input, 1, NAMES_OUT, 3, outputs),
                       ETSA_FORECAST_ERROR, "state", message);
    }
    for (int i = 0; i < 3 && err == ETSA_OK; i++) {
        err = fc_floats(s->base, outputs[i], sizes[i], &made, message);
        if (err == ETSA_OK) memcpy(into[i], made, sizes[i] * sizeof *made);
    }
    if (input != NULL) ort->ReleaseValue(input);
    for (int i = 0; i < 3; i++)
        if (outputs[i] != NULL) ort->ReleaseValue(outputs[i]);
    return err;
}
