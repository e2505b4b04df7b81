#include "tokenizer.h"

#include <math.h>
#include <stdlib.h>

#define FAR 1e20f /* the outermost boundaries */
#define MAX_TOKENS 65536u

etsa_err t5_tokenizer_open(const fc_base *base, t5_tokenizer *t, fc_message message)
{
    double low = 0, high = 0;
    etsa_err err = fc_whole(base, "n_tokens", 1, MAX_TOKENS, &t->tokens, message);
    if (err == ETSA_OK) err = fc_whole(base, "n_special_tokens", 0, t->tokens, &t->special_tokens, message);
    if (err == ETSA_OK) err = fc_whole(base, "pad_token_id", 0, t->tokens - 1, &t->pad, message);
    if (err == ETSA_OK) err = fc_whole(base, "eos_token_id", 0, t->tokens - 1, &t->end, message);
    if (err != ETSA_OK) return err;
    if (!etsa_bundle_flag(&base->bundle, "use_eos_token", &t->use_end)) {
        return fc_refuse(message, ETSA_FORMAT_ERROR, "bundle.json: parameters.use_eos_token: want true or false");
    }
    if (!etsa_bundle_parameter(&base->bundle, "low_limit", &low) || !etsa_bundle_parameter(&base->bundle, "high_limit", &high) ||
        !(low < high) || t->tokens < t->special_tokens + 3) {
        return fc_refuse(message, ETSA_FORMAT_ERROR, "bundle.json: parameters: want low_limit < high_limit and at least two bins");
    }
    t->bins = t->tokens - t->special_tokens - 1;
    t->centres = malloc(t->bins * sizeof *t->centres);
    t->boundaries = malloc((t->bins + 1) * sizeof *t->boundaries);
    if (t->centres == NULL || t->boundaries == NULL) return fc_refuse(message, ETSA_STORAGE_ERROR, "out of memory");
    double step = (high - low) / (t->bins - 1);
    for (uint32_t i = 0; i < t->bins; i++) t->centres[i] = (float)(i * step + low); /* rounded once to float32 */
    t->centres[t->bins - 1] = (float)high;
    t->boundaries[0] = -FAR;
    for (uint32_t i = 1; i < t->bins; i++) t->boundaries[i] = (t->centres[i] + t->centres[i - 1]) / 2;
    t->boundaries[t->bins] = FAR;
    return ETSA_OK;
}

void t5_tokenizer_close(t5_tokenizer *t)
{
    free(t->centres);
    free(t->boundaries);
}

/* How many boundaries are not above the value. */
static uint32_t boundaries_up_to(const t5_tokenizer *t, float value)
{
    uint32_t low = 0, high = t->bins + 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (t->boundaries[middle] <= value) low = middle + 1;
        else high = middle;
    }
    return low;
}

float t5_encode(const t5_tokenizer *t, const float *context, size_t length, int64_t *tokens, float *observed)
{
    double size = 0;
    size_t count = 0;
    for (size_t i = 0; i < length; i++) {
        if (isnan(context[i])) continue;
        size += fabs((double)context[i]);
        count++;
    }
    float scale = count > 0 ? (float)(size / (double)count) : 0;
    if (!(scale > 0)) scale = 1; /* nothing observed, or zeros only */
    for (size_t i = 0; i < length; i++) {
        observed[i] = isnan(context[i]) ? 0.0f : 1.0f;
        uint32_t token = t->pad;
        if (!isnan(context[i])) token = t->special_tokens + boundaries_up_to(t, context[i] / scale);
        tokens[i] = token < t->tokens ? token : t->tokens - 1;
    }
    if (t->use_end) {
        tokens[length] = t->end;
        observed[length] = 1;
    }
    return scale;
}

float t5_value(const t5_tokenizer *t, uint32_t token)
{
    uint32_t bin = token > t->special_tokens + 1 ? token - t->special_tokens - 1 : 0;
    return t->centres[bin < t->bins ? bin : t->bins - 1];
}
