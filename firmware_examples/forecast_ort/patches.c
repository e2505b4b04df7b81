/* Families that read whole patches and forecast all quantiles in one run: Chronos-Bolt, and Chronos-2 (each series
 * alone), which also wants the times ahead. */
#include "parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PATCH 4096u /* steps */

typedef struct patches_model {
    const fc_base *base;
    uint32_t patch;
    double time_scale; /* Chronos-2: steps by which times are divided; 0: it takes no times */
    float *input;      /* [context_length rounded up to whole patches] */
    float *times;      /* [prediction_length rounded up], or NULL */
    OrtSession *session;
} patches_model;

static uint32_t whole_patches(uint32_t length, uint32_t patch) { return (length + patch - 1) / patch * patch; }

/* Forecast `steps` steps into quantiles[steps * levels]. */
static etsa_err run(patches_model *m, const float *context, size_t length, uint32_t steps, float *quantiles, fc_message message)
{
    const fc_base *base = m->base;
    const OrtApi *ort = base->ort;
    const char *input_names[2] = {"context", "future_time"}, *output_name = "quantiles";
    uint32_t padded = whole_patches((uint32_t)length, m->patch), levels = base->bundle.level_count;
    uint32_t made_steps = m->times == NULL ? base->bundle.prediction_length : whole_patches(steps, m->patch);
    int64_t shape[2] = {1, padded}, times_shape[2] = {made_steps / m->patch, m->patch};
    OrtValue *inputs[2] = {NULL, NULL}, *output = NULL;
    float *made = NULL;
    for (uint32_t i = 0; i < padded - (uint32_t)length; i++) m->input[i] = NAN;
    memcpy(m->input + (padded - (uint32_t)length), context, length * sizeof *context);
    etsa_err err = fc_value(base, m->input, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, shape, 2, &inputs[0], message);
    if (err == ETSA_OK && m->times != NULL) {
        err = fc_value(base, m->times, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, times_shape, 2, &inputs[1], message);
    }
    if (err == ETSA_OK) {
        err = fc_check(base, ort->Run(m->session, NULL, input_names, (const OrtValue *const *)inputs, m->times == NULL ? 1 : 2,
                                      &output_name, 1, &output), ETSA_FORECAST_ERROR, "forecast", message);
    }
    if (err == ETSA_OK) err = fc_floats(base, output, (size_t)levels * made_steps, &made, message);
    for (uint32_t h = 0; h < steps && err == ETSA_OK; h++) { /* [Q, H] to [H, Q] */
        for (uint32_t j = 0; j < levels; j++) quantiles[(size_t)h * levels + j] = made[(size_t)j * made_steps + h];
    }
    if (output != NULL) ort->ReleaseValue(output);
    for (int i = 0; i < 2; i++) {
        if (inputs[i] != NULL) ort->ReleaseValue(inputs[i]);
    }
    return err;
}

static etsa_err open_model(const fc_base *base, float *const *merged, bool times, void **out, fc_message message)
{
    const etsa_bundle *bundle = &base->bundle;
    patches_model *m = calloc(1, sizeof *m);
    *out = m;
    if (m == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    m->base = base;
    etsa_err err = fc_whole(base, "patch_size", 1, MAX_PATCH, &m->patch, message);
    if (err != ETSA_OK) return err;
    m->input = malloc(whole_patches(bundle->context_length, m->patch) * sizeof *m->input);
    if (m->input == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    if (times) {
        uint32_t count = whole_patches(bundle->prediction_length, m->patch);
        if (!etsa_bundle_parameter(bundle, "time_scale", &m->time_scale) || !(m->time_scale > 0)) {
            return fc_refuse(message, ETSA_FORMAT_ERROR, "bundle.json: parameters.time_scale: want more than 0");
        }
        m->times = malloc(count * sizeof *m->times);
        if (m->times == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
        for (uint32_t i = 0; i < count; i++) m->times[i] = (float)i / (float)m->time_scale;
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
    free(m->times);
    free(m);
}

static etsa_err predict(void *model, const float *context, size_t length, const fc_sampling *sampling, float *quantiles,
                        fc_message message)
{
    patches_model *m = model;
    (void)sampling;
    return run(m, context, length, m->base->bundle.prediction_length, quantiles, message);
}

static etsa_err probe(void *model, const float *context, size_t length, uint32_t count, float *out, fc_message message)
{
    patches_model *m = model;
    uint32_t levels = m->base->bundle.level_count, steps = (count + levels - 1) / levels;
    if (steps > m->base->bundle.prediction_length) {
        return fc_refuse(message, ETSA_UNSUPPORTED_ERROR, "the known answer is longer than one forecast");
    }
    float *quantiles = malloc((size_t)steps * levels * sizeof *quantiles);
    if (quantiles == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    etsa_err err = run(m, context, length, steps, quantiles, message);
    if (err == ETSA_OK) memcpy(out, quantiles, count * sizeof *out);
    free(quantiles);
    return err;
}

const fc_family fc_bolt = {"chronos-bolt", false, open_bolt, close_model, predict, probe};
const fc_family fc_chronos2 = {"chronos-2", false, open_chronos2, close_model, predict, probe};
