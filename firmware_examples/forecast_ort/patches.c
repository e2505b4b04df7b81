/* Families that read whole patches and forecast all quantiles in one run: Chronos-Bolt, and Chronos-2, whose graph also
 * takes what is known ahead and which series are forecast together. Forecasts are of one series alone; the known answer
 * is of one in a group, so that the tensors between series are tested too. */
#include "parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATCH 4096u /* steps */
#define MOST_ROWS 2u    /* the series, and in the known answer's group its covariate */
#define MOST_INPUTS 4u

typedef struct patches_model {
    const fc_base *base;
    uint32_t patch;
    float *input;  /* [MOST_ROWS][context_length rounded up to whole patches] */
    float *future; /* Chronos-2: [MOST_ROWS][prediction_length rounded up]; Chronos-Bolt: NULL */
    OrtSession *session;
} patches_model;

static uint32_t whole_patches(uint32_t length, uint32_t patch) { return (length + patch - 1) / patch * patch; }

/* Write the rows of a run: the series, and beside it (FORMAT.md 7) the series backwards, known ahead as the series from its
 * first value on. */
static void fill(patches_model *m, const float *context, uint32_t length, uint32_t padded, uint32_t ahead, uint32_t rows)
{
    for (uint32_t r = 0; r < rows; r++) {
        float *row = m->input + (size_t)r * padded;
        for (uint32_t i = 0; i < padded - length; i++) *row++ = NAN;
        for (uint32_t i = 0; i < length; i++) *row++ = context[r == 0 ? i : length - 1 - i];
    }
    for (uint32_t i = 0; i < ahead * rows; i++) m->future[i] = i < ahead ? NAN : context[(i - ahead) % length];
}

/* Forecast `steps` steps into quantiles[steps * levels], of the series alone or in company. */
static etsa_err run(patches_model *m, const float *context, size_t length, uint32_t steps, bool company, float *quantiles,
                    fc_message message)
{
    const fc_base *base = m->base;
    const OrtApi *ort = base->ort;
    const char *names[MOST_INPUTS] = {"context", "future", "together", "group_ids"}, *output_name = "quantiles";
    bool groups = m->future != NULL;
    uint32_t padded = whole_patches((uint32_t)length, m->patch), levels = base->bundle.level_count;
    uint32_t rows = groups && company ? MOST_ROWS : 1;
    uint32_t made_steps = groups ? whole_patches(steps, m->patch) : base->bundle.prediction_length;
    int64_t together[MOST_ROWS] = {0, 1}, group_ids[MOST_ROWS] = {0, 0};
    int64_t shape[2] = {rows, padded}, ahead[2] = {rows, made_steps}, grouped = rows > 1 ? rows : 0;
    OrtValue *inputs[MOST_INPUTS] = {NULL}, *output = NULL;
    float *made = NULL;
    fill(m, context, (uint32_t)length, padded, groups ? made_steps : 0, rows);
    etsa_err err = fc_value(base, m->input, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, shape, 2, &inputs[0], message);
    if (err == ETSA_OK && groups) {
        err = fc_value(base, m->future, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ahead, 2, &inputs[1], message);
        if (err == ETSA_OK) err = fc_value(base, together, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, &grouped, 1, &inputs[2], message);
        if (err == ETSA_OK) err = fc_value(base, group_ids, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, &grouped, 1, &inputs[3], message);
    }
    if (err == ETSA_OK) {
        err = fc_check(base, ort->Run(m->session, NULL, names, (const OrtValue *const *)inputs, groups ? MOST_INPUTS : 1,
                                      &output_name, 1, &output), ETSA_FORECAST_ERROR, "forecast", message);
    }
    if (err == ETSA_OK) err = fc_floats(base, output, (size_t)rows * levels * made_steps, &made, message);
    for (uint32_t h = 0; h < steps && err == ETSA_OK; h++) { /* [Q, H] to [H, Q], of the first row */
        for (uint32_t j = 0; j < levels; j++) quantiles[(size_t)h * levels + j] = made[(size_t)j * made_steps + h];
    }
    if (output != NULL) ort->ReleaseValue(output);
    for (size_t i = 0; i < MOST_INPUTS; i++) {
        if (inputs[i] != NULL) ort->ReleaseValue(inputs[i]);
    }
    return err;
}

static etsa_err open_model(const fc_base *base, float *const *merged, bool groups, void **out, fc_message message)
{
    const etsa_bundle *bundle = &base->bundle;
    patches_model *m = calloc(1, sizeof *m);
    *out = m;
    if (m == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    m->base = base;
    etsa_err err = fc_whole(base, "patch_size", 1, MAX_PATCH, &m->patch, message);
    if (err != ETSA_OK) return err;
    m->input = calloc((size_t)MOST_ROWS * whole_patches(bundle->context_length, m->patch), sizeof *m->input);
    if (m->input == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    if (groups) {
        m->future = calloc((size_t)MOST_ROWS * whole_patches(bundle->prediction_length, m->patch), sizeof *m->future);
        if (m->future == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    }
    return fc_open_session(base, "forecast", false, merged, &m->session, message);
}

static etsa_err open_bolt(const fc_base *base, float *const *merged, void **out, fc_message message)
{
    return open_model(base, merged, false, out, message);
}

static etsa_err open_chronos2(const fc_base *base, float *const *merged, void **out, fc_message message)
{
    return open_model(base, merged, true, out, message);
}

static void close_model(void *model)
{
    patches_model *m = model;
    if (m == NULL) return;
    if (m->session != NULL) m->base->ort->ReleaseSession(m->session);
    free(m->input);
    free(m->future);
    free(m);
}

static etsa_err predict(void *model, const float *context, size_t length, const fc_sampling *sampling, float *quantiles,
                        fc_message message)
{
    patches_model *m = model;
    (void)sampling;
    return run(m, context, length, m->base->bundle.prediction_length, false, quantiles, message);
}

static etsa_err probe(void *model, const float *context, size_t length, uint32_t count, float *out, fc_message message)
{
    patches_model *m = model;
    uint32_t levels = m->base->bundle.level_count, steps = (count + levels - 1) / levels;
    if (steps > m->base->bundle.prediction_length) {
        return fc_refuse(message, ETSA_FORMAT_ERROR, "known-answer test: %u steps, this base forecasts %u", (unsigned)steps,
                         (unsigned)m->base->bundle.prediction_length);
    }
    float *quantiles = malloc((size_t)steps * levels * sizeof *quantiles);
    if (quantiles == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    etsa_err err = run(m, context, length, steps, true, quantiles, message);
    if (err == ETSA_OK) memcpy(out, quantiles, count * sizeof *out);
    free(quantiles);
    return err;
}

const fc_family fc_bolt = {"chronos-bolt", false, open_bolt, close_model, predict, probe};
const fc_family fc_chronos2 = {"chronos-2", false, open_chronos2, close_model, predict, probe};
