/* Learning the biases of Chronos-Bolt's output patch block: forecasts and training's gradient from the decoder's state.
 *
 * The state graph beside a bundle (FORMAT.md 2, `export base --learnable output-biases`) gives the block's input. This
 * file has the block, the pinball loss, its gradient with respect to the block's three biases, and Adam with averaged
 * iterates and caps, by the rules of the Python runtime's device_runtime/adapt (docs/reference/adaptation.md). A state can
 * be stored and learnt from again without another run of the graph.
 *
 * C99, no malloc, no I/O; from the C library only sqrt, whose result IEEE 754 defines. Weights, states and shifts are
 * float32. Sums are doubles of exact products in a fixed order, so the results have the same bits on every processor and
 * with all flags (except -ffast-math, which is a compile error). ONNX Runtime sums in float32: gradients agree with those
 * of the learning graph up to its rounding.
 *
 * The caller provides all memory: etl_scratch_size and etl_optimiser_size return how much.
 */
#ifndef ETSA_LEARN_H
#define ETSA_LEARN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ETL_MAX_SIDE 8192u /* rows or columns of a weight, as in the format */
#define ETL_MAX_LEVELS 64u
#define ETL_BIASES 3u /* hidden_layer's, output_layer's, residual_layer's: in this order in every shift */

/* The block of the base with the running adapter merged. Outputs are ordered by level, then by step. */
typedef struct etl_block {
    uint32_t state_size;        /* D: columns of hidden_layer.weight */
    uint32_t hidden_size;       /* F: rows of hidden_layer.weight */
    uint32_t level_count;       /* Q */
    uint32_t prediction_length; /* H of the base */
    uint32_t steps;             /* the first steps, which are forecast and learnt from; at most H */
    const float *hidden_weight, *hidden_bias;     /* [F][D], [F] */
    const float *output_weight, *output_bias;     /* [Q * H][F], [Q * H] */
    const float *residual_weight, *residual_bias; /* [Q * H][D], [Q * H] */
    const double *levels;                         /* [Q], ascending */
} etl_block;

/* One window to learn from or to forecast from. */
typedef struct etl_window {
    const float *state;  /* [D] */
    float loc, scale;    /* of its context */
    bool varies;         /* etl_varies; if false, the window is not learnt from */
    const float *target; /* [steps] in the signal's unit, NaN for missing; not read by etl_forecast */
} etl_window;

/* Whether sizes, pointers and levels are valid. Call it once before anything else. */
bool etl_is_block(const etl_block *block);

/* Length n of a shift: F + 2 * Q * H. */
uint32_t etl_shift_size(const etl_block *block);

/* Bytes that etl_gradient and etl_forecast need at `scratch`: n + 2 * F doubles. */
size_t etl_scratch_size(const etl_block *block);

/* Whether a context varies by more than rounding: a value is further than 2^-20 * |loc| from loc. */
bool etl_varies(const float *context, size_t length, float loc);

/* Forecast with shifted biases: quantiles[steps * Q] in the signal's unit, all levels of step 0 first, neither sorted nor
 * calibrated. */
void etl_forecast(const etl_block *block, const float *shift, const etl_window *window, double *scratch, float *quantiles);

/* Training's loss of a batch (the mean over its scored steps) and its gradient[n] with respect to the shift. A batch
 * without scored steps has loss 0 and a gradient of zeros. False if either is not finite. */
bool etl_gradient(const etl_block *block, const float *shift, const etl_window *windows, uint32_t count, double *scratch,
                  float *gradient, double *loss);

/* As in Python's AdaptRules. */
typedef struct etl_rules {
    double rate;       /* Adam's learning rate, 0 to 0.03 */
    double average;    /* decay of the moving average that is the candidate, 0 to 0.9999 */
    double anchor;     /* weight of the squared shift in the loss, 0 to 10 */
    double clip_norm;  /* largest norm of the gradient, 0.001 to 100 */
    double cap_tensor; /* largest root mean square of one tensor's shift, 0 to 1 */
    double cap_day;    /* largest root mean square of the shift's change in one day, 0 to 1 */
} etl_rules;

typedef struct etl_optimiser {
    etl_rules rules;
    uint32_t sizes[ETL_BIASES], size; /* of the tensors; their sum n */
    uint64_t steps;
    uint64_t capped; /* steps that a cap limited */
    bool begun;      /* `day` is set */
    int64_t day;     /* days since 1970, by the feed's clock */
    double powers[2]; /* 0.9 and 0.999 to the power of the steps */
    /* in the caller's memory, [n] each */
    float *iterate, *mean; /* mean: the candidate, the iterates' moving average */
    float *first, *second; /* moments */
    float *morning;        /* the iterate at the start of `day` */
} etl_optimiser;

/* Bytes of an optimiser's numbers: 5 * n floats. */
size_t etl_optimiser_size(const etl_block *block);

/* Start with a shift of zeros. False if a rule is out of range, or the memory is too small. */
bool etl_begin(etl_optimiser *o, const etl_block *block, const etl_rules *rules, float *memory, size_t size);

/* Take a step against gradient[n], which is overwritten; *norm (may be NULL) is set to its norm before clipping. False if
 * the gradient is not finite: then nothing has changed. */
bool etl_step(etl_optimiser *o, float *gradient, int64_t day, double *norm);

/* Continue after the caller has restored the numbers and `steps`: sets `powers` to their values after so many steps. False
 * if the numbers are not finite or exceed the caps. */
bool etl_go_on(etl_optimiser *o);

#ifdef __cplusplus
}
#endif

#endif
