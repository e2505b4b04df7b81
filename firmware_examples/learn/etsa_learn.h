/* Learning of the output patch block's biases: a Chronos-Bolt's forecast and training's gradient from the decoder's state.
 *
 * The state graph beside a bundle (FORMAT.md 2, `export base --learnable output-biases`) gives what that block reads; here
 * are the block, the pinball loss, its gradient by the block's three biases, and Adam with averaged iterates and caps, by
 * the rules of the Python runtime's device_runtime/adapt (docs/reference/adaptation.md). Nothing here asks how a state was
 * computed: a state that is kept is learnt from again without another run of the graph.
 *
 * C99, no malloc, no I/O; of the C library sqrt alone, which IEEE 754 defines. Weights, states and shifts are float32;
 * sums are doubles of products that are exact, in a fixed order, so the same bits come out on every processor and with
 * whatever flags (all but -ffast-math, which the compiler refuses). ONNX Runtime sums in float32: gradients agree with
 * the learning graph's to its rounding.
 *
 * You own all memory: etl_scratch_size and etl_optimiser_size say how much.
 */
#ifndef ETSA_LEARN_H
#define ETSA_LEARN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ETL_MAX_SIDE 8192u /* of a weight, as in the format */
#define ETL_MAX_LEVELS 64u
#define ETL_BIASES 3u /* hidden_layer's, output_layer's, residual_layer's: in this order in every shift */

/* A block, as the base has it with the running adapter merged. Rows of made numbers are level after level, each by steps. */
typedef struct etl_block {
    uint32_t state_size;        /* D: columns of hidden_layer.weight */
    uint32_t hidden_size;       /* F: its rows */
    uint32_t level_count;       /* Q */
    uint32_t prediction_length; /* H, of the base */
    uint32_t steps;             /* that are forecast and learnt, at most H: the first ones */
    const float *hidden_weight, *hidden_bias;     /* [F][D], [F] */
    const float *output_weight, *output_bias;     /* [Q * H][F], [Q * H] */
    const float *residual_weight, *residual_bias; /* [Q * H][D], [Q * H] */
    const double *levels;                         /* [Q], ascending */
} etl_block;

/* What is learnt from, or forecast from. */
typedef struct etl_window {
    const float *state;  /* [D] */
    float loc, scale;    /* of its context */
    bool varies;         /* etl_varies: else it teaches nothing */
    const float *target; /* [steps] in the signal's unit, NaN for missing; not read by etl_forecast */
} etl_window;

/* Whether sizes, pointers and levels are those of a block. Call once before all else. */
bool etl_is_block(const etl_block *block);

/* Numbers of a shift, n: F + 2 * Q * H. */
uint32_t etl_shift_size(const etl_block *block);

/* Bytes of doubles that etl_gradient and etl_forecast need at `scratch`: n + 2 * F of them. */
size_t etl_scratch_size(const etl_block *block);

/* Whether a context is more than one value and its rounding: a value lies further than 2^-20 * |loc| from loc. */
bool etl_varies(const float *context, size_t length, float loc);

/* Forecast with the biases shifted: quantiles[steps * Q] in the signal's unit, all levels of step 0 first, neither sorted
 * nor calibrated. */
void etl_forecast(const etl_block *block, const float *shift, const etl_window *window, double *scratch, float *quantiles);

/* Training's loss of a batch, the mean over its scored steps, and its gradient[n] by the shift. A batch that scores nothing
 * has loss 0 and a gradient of zeros. False, where either is not finite. */
bool etl_gradient(const etl_block *block, const float *shift, const etl_window *windows, uint32_t count, double *scratch,
                  float *gradient, double *loss);

/* As AdaptRules has them. */
typedef struct etl_rules {
    double rate;       /* Adam's, 0 to 0.03 */
    double average;    /* what the candidate keeps at a step, 0 to 0.9999 */
    double anchor;     /* weight of the squared shift in the loss, 0 to 10 */
    double clip_norm;  /* of the gradient, 0.001 to 100 */
    double cap_tensor; /* root mean square of one tensor's shift, 0 to 1 */
    double cap_day;    /* of what the shift moves in one day, 0 to 1 */
} etl_rules;

typedef struct etl_optimiser {
    etl_rules rules;
    uint32_t sizes[ETL_BIASES], size; /* of the tensors; n */
    uint64_t steps;
    uint64_t capped; /* steps that a cap held back */
    bool begun;      /* `day` has been said */
    int64_t day;     /* since 1970, by the feed's clock */
    double powers[2]; /* 0.9 and 0.999 to the power of the steps */
    /* caller's memory, [n] each */
    float *iterate, *mean; /* mean: the candidate, the iterates' moving average */
    float *first, *second; /* moments */
    float *morning;        /* the iterate as `day` began */
} etl_optimiser;

/* Bytes of an optimiser's numbers: 5 * n floats. */
size_t etl_optimiser_size(const etl_block *block);

/* Begin with a shift of zeros. False for rules out of range, or too little memory. */
bool etl_begin(etl_optimiser *o, const etl_block *block, const etl_rules *rules, float *memory, size_t size);

/* Take a step against gradient[n], which it overwrites, on a day; *norm (may be NULL) gets its norm before it was clipped.
 * False, and nothing is changed, where the gradient is not finite. */
bool etl_step(etl_optimiser *o, float *gradient, int64_t day, double *norm);

/* After numbers and `steps` were read back from where they were kept: whether they are finite and within the caps. Sets
 * `powers` as that many steps left them. */
bool etl_go_on(etl_optimiser *o);

#ifdef __cplusplus
}
#endif

#endif
