/* Chronos-T5's tokenizer, FORMAT.md §7: values divided by their mean size fall into even bins, a token for each. */
#ifndef TOKENIZER_H
#define TOKENIZER_H

#include "parts.h"

typedef struct t5_tokenizer {
    uint32_t tokens, special_tokens, pad, end;
    bool use_end;        /* an end token follows the context */
    uint32_t bins;
    float *centres;      /* [bins], in units of the scale */
    float *boundaries;   /* [bins + 1], ascending */
} t5_tokenizer;

/* Read the manifest's parameters. Codes 100 and 400; release it either way. */
etsa_err t5_tokenizer_open(const fc_base *base, t5_tokenizer *tokenizer, fc_message message);
void t5_tokenizer_close(t5_tokenizer *tokenizer);

/* tokens[length + use_end] and observed (1 or 0) of context[length], NaN for missing; returns the scale. */
float t5_encode(const t5_tokenizer *tokenizer, const float *context, size_t length, int64_t *tokens, float *observed);
/* What a token stands for, in units of the scale. */
float t5_value(const t5_tokenizer *tokenizer, uint32_t token);

#endif
