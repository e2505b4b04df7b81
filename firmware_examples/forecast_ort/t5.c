/* Chronos-T5: the encoder runs once for a context, then the step graph once for a step of all paths. What is computed
 * is FORMAT.md §7; why there are two graphs, docs/adr/0014. */
#include "parts.h"
#include "tokenizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATHS_AT_ONCE 160u /* bounds the caches, as in Python */
#define INT8_PATHS 10u     /* drawn together in int8: their activations share a scale (FORMAT.md §7) */
#define STAGE 16u          /* steps that caches grow by, as in Python */
#define MAX_SIDE 4096u     /* layers, heads, width of a head */
#define NAME_SIZE 32
#define FIXED 7u           /* inputs of a step that are not memory of a block */

typedef struct t5_model {
    const fc_base *base;
    t5_tokenizer tokenizer;
    uint32_t samples, start_token, layers, heads, width, at_once;
    float temperature, top_p;
    int64_t top_k;
    OrtSession *encoder, *step;
    int64_t *tokens; /* [context_length + 1] */
    float *observed; /* [context_length + 1] */
    /* Of the step graph: FIXED names, then for each layer cross keys, cross values, own keys, own values; and of its
     * results: next_token or logits, then for each layer own keys, own values. */
    char (*inputs)[NAME_SIZE], (*outputs)[NAME_SIZE];
    const char **input_names, **output_names, **cross_names;
    OrtValue **cross; /* [2 * layers], of the context in hand */
} t5_model;

/* The step graph and the memory of `rows` paths: caches are written in place. */
typedef struct decoding {
    uint32_t rows, room; /* paths, and steps that the caches hold */
    int64_t *token; /* [rows], before a step and after it */
    int64_t step;
    float *noise;   /* [rows] */
    float *logits;  /* [rows, tokens], if they were requested */
    float **caches; /* [2 * layers], each [rows * heads, room, width] */
    OrtValue **in, **out;
} decoding;

static etsa_err read_parameters(t5_model *m, fc_message message)
{
    const fc_base *base = m->base;
    double temperature = 0, top_p = 0;
    uint32_t top_k = 0;
    etsa_err err = t5_tokenizer_open(base, &m->tokenizer, message);
    if (err == ETSA_OK) err = fc_whole(base, "num_samples", 1, FC_MAX_SAMPLES, &m->samples, message);
    if (err == ETSA_OK) err = fc_whole(base, "top_k", 1, 65536, &top_k, message);
    if (err == ETSA_OK) err = fc_whole(base, "num_layers", 1, MAX_SIDE, &m->layers, message);
    if (err == ETSA_OK) err = fc_whole(base, "num_heads", 1, MAX_SIDE, &m->heads, message);
    if (err == ETSA_OK) err = fc_whole(base, "d_kv", 1, MAX_SIDE, &m->width, message);
    if (err == ETSA_OK) err = fc_whole(base, "start_token_id", 0, m->tokenizer.tokens - 1, &m->start_token, message);
    if (err != ETSA_OK) return err;
    if (!etsa_bundle_parameter(&base->bundle, "temperature", &temperature) || !etsa_bundle_parameter(&base->bundle, "top_p", &top_p) ||
        !(temperature > 0 && top_p > 0 && top_p <= 1)) {
        return fc_refuse(message, ETSA_FORMAT_ERROR, "bundle.json: parameters: want temperature above 0 and top_p above 0, at most 1");
    }
    bool integers = base->bundle.quantised || etsa_text_is(base->bundle.precision, "int8");
    m->at_once = integers ? INT8_PATHS : PATHS_AT_ONCE;
    m->temperature = (float)temperature;
    m->top_p = (float)top_p;
    m->top_k = top_k < m->tokenizer.tokens ? top_k : m->tokenizer.tokens;
    return ETSA_OK;
}

/* Write the names of the graphs' inputs and outputs. */
static etsa_err make_names(t5_model *m, fc_message message)
{
    static const char *const fixed[FIXED] = {"token", "step", "noise", "observed", "temperature", "top_k", "top_p"};
    static const char *const memory[4] = {"cross_keys", "cross_values", "own_keys", "own_values"};
    size_t inputs = FIXED + 4 * (size_t)m->layers, outputs = 1 + 2 * (size_t)m->layers;
    m->inputs = calloc(inputs, sizeof *m->inputs);
    m->outputs = calloc(outputs, sizeof *m->outputs);
    m->input_names = calloc(inputs, sizeof *m->input_names);
    m->output_names = calloc(outputs, sizeof *m->output_names);
    m->cross_names = calloc(outputs, sizeof *m->cross_names);
    m->cross = calloc(outputs, sizeof *m->cross);
    m->tokens = malloc((m->base->bundle.context_length + 1) * sizeof *m->tokens);
    m->observed = malloc((m->base->bundle.context_length + 1) * sizeof *m->observed);
    if (m->inputs == NULL || m->outputs == NULL || m->input_names == NULL || m->output_names == NULL || m->cross_names == NULL ||
        m->cross == NULL || m->tokens == NULL || m->observed == NULL) {
        return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    }
    for (uint32_t i = 0; i < FIXED; i++) snprintf(m->inputs[i], NAME_SIZE, "%s", fixed[i]);
    for (uint32_t layer = 0; layer < m->layers; layer++) {
        for (uint32_t i = 0; i < 4; i++) snprintf(m->inputs[FIXED + 4 * layer + i], NAME_SIZE, "%s_%u", memory[i], (unsigned)layer);
        for (uint32_t i = 0; i < 2; i++) {
            snprintf(m->outputs[1 + 2 * layer + i], NAME_SIZE, "%s_%u_next", memory[2 + i], (unsigned)layer);
            m->cross_names[2 * layer + i] = m->inputs[FIXED + 4 * layer + i];
        }
    }
    for (size_t i = 0; i < inputs; i++) m->input_names[i] = m->inputs[i];
    for (size_t i = 0; i < outputs; i++) m->output_names[i] = m->outputs[i];
    return ETSA_OK;
}

static etsa_err open_model(const fc_base *base, float *const *merged, void **out, fc_message message)
{
    t5_model *m = calloc(1, sizeof *m);
    *out = m;
    if (m == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    m->base = base;
    etsa_err err = read_parameters(m, message);
    if (err == ETSA_OK) err = make_names(m, message);
    if (err == ETSA_OK) err = fc_open_session(base, "encoder", false, merged, &m->encoder, message);
    if (err == ETSA_OK) err = fc_open_session(base, "step", true, merged, &m->step, message);
    return err;
}

static void forget_context(t5_model *m)
{
    for (size_t i = 0; m->cross != NULL && i < 2 * (size_t)m->layers; i++) {
        if (m->cross[i] != NULL) m->base->ort->ReleaseValue(m->cross[i]);
        m->cross[i] = NULL;
    }
}

static void close_model(void *model)
{
    t5_model *m = model;
    if (m == NULL) return;
    forget_context(m);
    if (m->step != NULL) m->base->ort->ReleaseSession(m->step);
    if (m->encoder != NULL) m->base->ort->ReleaseSession(m->encoder);
    t5_tokenizer_close(&m->tokenizer);
    free(m->inputs);
    free(m->outputs);
    free(m->input_names);
    free(m->output_names);
    free(m->cross_names);
    free(m->cross);
    free(m->tokens);
    free(m->observed);
    free(m);
}

/* Tokens, then the encoder: keys and values of the context for every layer. Returns the number of tokens in `length`. */
static etsa_err encode(t5_model *m, const float *context, size_t *length, float *scale, fc_message message)
{
    const fc_base *base = m->base;
    const char *names[2] = {"tokens", "observed"};
    OrtValue *values[2] = {NULL, NULL};
    forget_context(m);
    *scale = t5_encode(&m->tokenizer, context, *length, m->tokens, m->observed);
    *length += m->tokenizer.use_end;
    int64_t shape[2] = {1, (int64_t)*length};
    etsa_err err = fc_value(base, m->tokens, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, shape, 2, &values[0], message);
    if (err == ETSA_OK) err = fc_value(base, m->observed, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, shape, 2, &values[1], message);
    if (err == ETSA_OK) {
        err = fc_check(base, base->ort->Run(m->encoder, NULL, names, (const OrtValue *const *)values, 2, m->cross_names,
                                            2 * (size_t)m->layers, m->cross), ETSA_FORECAST_ERROR, "encoder", message);
    }
    for (int i = 0; i < 2; i++) {
        if (values[i] != NULL) base->ort->ReleaseValue(values[i]);
    }
    return err;
}

static void finish(t5_model *m, decoding *d)
{
    const OrtApi *ort = m->base->ort;
    for (size_t i = 0; d->in != NULL && i < FIXED; i++) {
        if (d->in[i] != NULL) ort->ReleaseValue(d->in[i]);
    }
    if (d->logits != NULL && d->out != NULL && d->out[0] != NULL) ort->ReleaseValue(d->out[0]);
    for (size_t i = 0; i < 2 * (size_t)m->layers; i++) {
        if (d->out != NULL && d->out[1 + i] != NULL) ort->ReleaseValue(d->out[1 + i]);
        if (d->caches != NULL) free(d->caches[i]);
    }
    free(d->caches);
    free(d->in);
    free(d->out);
    free(d->token);
    free(d->noise);
    free(d->logits);
}

/* Give the caches room for `steps` steps. What they hold is kept. */
static etsa_err grow(t5_model *m, decoding *d, uint32_t steps, fc_message message)
{
    const fc_base *base = m->base;
    size_t lanes = (size_t)d->rows * m->heads, now = (size_t)steps * m->width, before = (size_t)d->room * m->width;
    int64_t shape[3] = {(int64_t)lanes, steps, m->width};
    for (uint32_t i = 0; i < 2 * m->layers; i++) {
        OrtValue *value = NULL;
        float *cache = calloc(lanes, now * sizeof *cache);
        if (cache == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
        for (size_t lane = 0; lane < lanes && before > 0; lane++) {
            memcpy(cache + lane * now, d->caches[i] + lane * before, before * sizeof *cache);
        }
        if (d->out[1 + i] != NULL) base->ort->ReleaseValue(d->out[1 + i]);
        free(d->caches[i]);
        d->caches[i] = cache;
        etsa_err err = fc_value(base, cache, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, shape, 3, &value, message);
        d->out[1 + i] = d->in[FIXED + 4 * (i / 2) + 2 + i % 2] = value; /* input and output: written in place */
        if (err != ETSA_OK) return err;
    }
    d->room = steps;
    return ETSA_OK;
}

/* Give the step graph its memory for `rows` paths of at first `steps` steps, of an encoded context of `length` tokens.
 * Call finish() also after an error. */
static etsa_err start(t5_model *m, decoding *d, uint32_t rows, uint32_t steps, size_t length, bool with_logits, fc_message message)
{
    const fc_base *base = m->base;
    memset(d, 0, sizeof *d);
    d->rows = rows;
    d->token = malloc(rows * sizeof *d->token);
    d->noise = calloc(rows, sizeof *d->noise);
    d->logits = with_logits ? malloc((size_t)rows * m->tokenizer.tokens * sizeof *d->logits) : NULL;
    d->caches = calloc(2 * (size_t)m->layers, sizeof *d->caches);
    d->in = calloc(FIXED + 4 * (size_t)m->layers, sizeof *d->in);
    d->out = calloc(1 + 2 * (size_t)m->layers, sizeof *d->out);
    if (d->token == NULL || d->noise == NULL || (with_logits && d->logits == NULL) || d->caches == NULL || d->in == NULL ||
        d->out == NULL) {
        return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    }
    for (uint32_t i = 0; i < rows; i++) d->token[i] = m->start_token;
    const ONNXTensorElementDataType number = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, whole = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    int64_t one[1] = {1}, row[1] = {rows}, context[2] = {1, (int64_t)length}, table[2] = {rows, m->tokenizer.tokens};
    etsa_err err = fc_value(base, d->token, whole, row, 1, &d->in[0], message);
    if (err == ETSA_OK) err = fc_value(base, &d->step, whole, one, 1, &d->in[1], message);
    if (err == ETSA_OK) err = fc_value(base, d->noise, number, row, 1, &d->in[2], message);
    if (err == ETSA_OK) err = fc_value(base, m->observed, number, context, 2, &d->in[3], message);
    if (err == ETSA_OK) err = fc_value(base, &m->temperature, number, one, 1, &d->in[4], message);
    if (err == ETSA_OK) err = fc_value(base, &m->top_k, whole, one, 1, &d->in[5], message);
    if (err == ETSA_OK) err = fc_value(base, &m->top_p, number, one, 1, &d->in[6], message);
    if (err == ETSA_OK && with_logits) err = fc_value(base, d->logits, number, table, 2, &d->out[0], message);
    if (err == ETSA_OK && !with_logits) d->out[0] = d->in[0]; /* the next token, where the one before was */
    for (uint32_t i = 0; i < 2 * m->layers && err == ETSA_OK; i++) {
        d->in[FIXED + 4 * (i / 2) + i % 2] = m->cross[i];
    }
    return err == ETSA_OK ? grow(m, d, steps, message) : err;
}

static etsa_err run_step(t5_model *m, decoding *d, fc_message message)
{
    m->output_names[0] = d->logits != NULL ? "logits" : "next_token";
    return fc_check(m->base, m->base->ort->Run(m->step, NULL, m->input_names, (const OrtValue *const *)d->in, FIXED + 4 * (size_t)m->layers,
                                               m->output_names, 1 + 2 * (size_t)m->layers, d->out), ETSA_FORECAST_ERROR, "step", message);
}

/* The sum over all tokens of softmax(logits) times what the token stands for. */
static double mean_token(const t5_tokenizer *t, const float *logits)
{
    double most = (double)logits[0], sum = 0, mean = 0;
    for (uint32_t i = 1; i < t->tokens; i++) most = fmax(most, (double)logits[i]);
    for (uint32_t i = 0; i < t->tokens; i++) {
        double p = exp((double)logits[i] - most);
        sum += p;
        mean += p * (double)t5_value(t, i);
    }
    return mean / sum;
}

static etsa_err probe(void *model, const float *context, size_t length, uint32_t count, float *out, fc_message message)
{
    t5_model *m = model;
    float scale;
    size_t tokens = length;
    decoding d;
    if (count > m->base->bundle.prediction_length) {
        return fc_refuse(message, ETSA_FORMAT_ERROR, "known-answer test: %u numbers, this base has %u steps", (unsigned)count,
                         (unsigned)m->base->bundle.prediction_length);
    }
    etsa_err err = encode(m, context, &tokens, &scale, message);
    if (err != ETSA_OK) return err;
    err = start(m, &d, 1, count, tokens, true, message);
    for (uint32_t step = 0; step < count && err == ETSA_OK; step++) {
        d.step = step;
        d.token[0] = step == 0 ? m->start_token : m->tokens[(step - 1) % length]; /* the context's own */
        err = run_step(m, &d, message);
        if (err == ETSA_OK) out[step] = (float)(mean_token(&m->tokenizer, d.logits) * (double)scale);
    }
    finish(m, &d);
    return err;
}

/* Draw paths[steps * samples], all samples of step 0 first, in the context's unit. */
static etsa_err draw(t5_model *m, const float *context, size_t length, const fc_sampling *sampling, float *paths, fc_message message)
{
    uint32_t steps = m->base->bundle.prediction_length, samples = sampling->num_samples;
    float scale;
    decoding d;
    etsa_err err = encode(m, context, &length, &scale, message);
    for (uint32_t first = 0; first < samples && err == ETSA_OK; first += m->at_once) {
        uint32_t rows = samples - first < m->at_once ? samples - first : m->at_once;
        err = start(m, &d, rows, steps < STAGE ? steps : STAGE, length, false, message);
        for (uint32_t step = 0; step < steps && err == ETSA_OK; step++) {
            if (step == d.room) err = grow(m, &d, steps - step < STAGE ? steps : step + STAGE, message);
            if (err != ETSA_OK) break;
            d.step = step;
            for (uint32_t i = 0; i < rows; i++) d.noise[i] = etsa_uniform(sampling->seed, first + i, step);
            err = run_step(m, &d, message);
            for (uint32_t i = 0; i < rows && err == ETSA_OK; i++) {
                if (d.token[i] < 0 || d.token[i] >= m->tokenizer.tokens) err = fc_refuse(message, ETSA_FORECAST_ERROR, "no such token");
                else paths[(size_t)step * samples + first + i] = t5_value(&m->tokenizer, (uint32_t)d.token[i]) * scale;
            }
        }
        finish(m, &d);
    }
    return err;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* A quantile of ascending values, interpolated in float32 as numpy and torch do. */
static float quantile(const float *sorted, uint32_t count, float level)
{
    float place = (float)(count - 1) * level;
    if (place >= (float)(count - 1)) return sorted[count - 1];
    uint32_t below = (uint32_t)place;
    float part = place - (float)below, low = sorted[below], high = sorted[below + 1], gap = high - low;
    return part < 0.5f ? low + gap * part : high - gap * (1 - part);
}

static etsa_err predict(void *model, const float *context, size_t length, const fc_sampling *wanted, float *quantiles, fc_message message)
{
    t5_model *m = model;
    const etsa_bundle *bundle = &m->base->bundle;
    uint32_t steps = bundle->prediction_length, count = bundle->level_count;
    fc_sampling sampling = *wanted;
    if (sampling.num_samples == 0) sampling.num_samples = m->samples;
    if (sampling.num_samples > FC_MAX_SAMPLES) {
        return fc_refuse(message, ETSA_INPUT_ERROR, "%u samples: want at most %u", (unsigned)sampling.num_samples, FC_MAX_SAMPLES);
    }
    double *levels = malloc(count * sizeof *levels);
    float *paths = malloc((size_t)steps * sampling.num_samples * sizeof *paths);
    etsa_err err = levels == NULL || paths == NULL ? fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory") : ETSA_OK;
    if (err == ETSA_OK) err = etsa_bundle_levels(bundle, levels, count);
    if (err == ETSA_OK) err = draw(m, context, length, &sampling, paths, message);
    for (uint32_t h = 0; h < steps && err == ETSA_OK; h++) {
        float *step = paths + (size_t)h * sampling.num_samples;
        qsort(step, sampling.num_samples, sizeof *step, compare);
        for (uint32_t j = 0; j < count; j++) quantiles[(size_t)h * count + j] = quantile(step, sampling.num_samples, (float)levels[j]);
    }
    free(levels);
    free(paths);
    return err;
}

const fc_family fc_t5 = {"chronos-t5", true, open_model, close_model, predict, probe};
