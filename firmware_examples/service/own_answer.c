#include "own_answer.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CANDIDATES 64u
#define FINALISTS 8u
#define DRAWS 16u
#define ROUNDOFF (1.0 / 16777216.0) /* float32's: 2^-24 */
#define NUDGE (256.0 * ROUNDOFF)    /* what sums of 4,096 products may be off by, relative: as in Python */
/* Python moves every vector of the model, here only the block's can be moved without a session for each draw: so the margin
 * is twice as wide. */
#define MARGIN 4.0
#define LEVEL (16.0 * ROUNDOFF)
#define SEEN 4.0 /* the shift's effect, in tolerances, without which the test would pass unmerged */

/* One context, what is expected of it, and how well it shows the shift. */
typedef struct candidate {
    float context[OA_CONTEXT], expected[OA_STEPS * ETL_MAX_LEVELS];
    double moved, spread;
} candidate;

typedef struct chooser {
    fc_states *states;
    etl_block block; /* of the steps that are compared */
    const float *shift;
    uint32_t size, count; /* of a shift; numbers that are compared */
    float *state, *nudged, *nothing;
    double *scratch;
    uint32_t drawn;
} chooser;

/* -1 to 1. */
static double draw(chooser *c)
{
    uint32_t number = c->drawn++;
    return 2 * (double)etsa_uniform(0, number / 4096, number % 4096) - 1;
}

/* Nearly normal, of deviation 1. */
static double draw_normal(chooser *c) { return draw(c) + draw(c) + draw(c); }

static etsa_err ask(chooser *c, const float *context, const float *shift, float *out, fc_message message)
{
    etl_window window = {.state = c->state, .varies = true};
    etsa_err err = fc_state_of(c->states, context, OA_CONTEXT, c->state, &window.loc, &window.scale, message);
    if (err == ETSA_OK) etl_forecast(&c->block, shift, &window, c->scratch, out);
    return err;
}

static double apart(const float *a, const float *b, uint32_t count)
{
    double most = 0;
    for (uint32_t i = 0; i < count; i++) {
        double one = fabs((double)a[i] - (double)b[i]);
        if (!(one <= most)) most = one; /* NaN is taken too */
    }
    return most;
}

static double deviation(const float *x)
{
    double mean = 0, squares = 0;
    for (uint32_t i = 0; i < OA_CONTEXT; i++) mean += (double)x[i] / OA_CONTEXT;
    for (uint32_t i = 0; i < OA_CONTEXT; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean);
    return sqrt(squares / OA_CONTEXT);
}

/* A mean-reverting series around the level, rounded to 0.1 as a monitor's values are. */
static void make_context(chooser *c, double level, double spread, float *context)
{
    double walk = draw_normal(c), offset = draw_normal(c);
    for (uint32_t i = 0; i < OA_CONTEXT; i++) {
        walk = 0.9 * walk + 0.4359 * draw_normal(c);
        context[i] = (float)(floor(10 * (level + spread * (walk + offset)) + 0.5) / 10);
    }
}

static etsa_err make_candidate(chooser *c, double level, double spread, candidate *made, fc_message message)
{
    float beside[OA_STEPS * ETL_MAX_LEVELS];
    make_context(c, level, spread, made->context);
    made->spread = deviation(made->context);
    etsa_err err = ask(c, made->context, c->shift, made->expected, message);
    if (err == ETSA_OK) err = ask(c, made->context, c->nothing, beside, message);
    made->moved = err == ETSA_OK ? apart(made->expected, beside, c->count) : 0;
    if (!(made->spread > 0) || !isfinite(made->moved)) made->moved = 0;
    return err;
}

/* Put one among the finalists, which are in order. */
static void place(candidate *finalists, uint32_t *held, const candidate *one)
{
    uint32_t at = *held;
    while (at > 0 && one->moved * finalists[at - 1].spread > finalists[at - 1].moved * one->spread) at--;
    if (at == FINALISTS) return;
    uint32_t last = *held < FINALISTS ? (*held)++ : FINALISTS - 1;
    memmove(&finalists[at + 1], &finalists[at], (last - at) * sizeof *finalists);
    finalists[at] = *one;
}

/* What a right merge may be off by on another processor: the context and the biases are moved by what rounding may do. */
static etsa_err tolerance_of(chooser *c, const candidate *one, double *tolerance, fc_message message)
{
    const float *const biases[] = {c->block.hidden_bias, c->block.output_bias, c->block.residual_bias};
    uint32_t made_size = (c->size - c->block.hidden_size) / 2;
    const uint32_t sizes[] = {c->block.hidden_size, made_size, made_size};
    float context[OA_CONTEXT], got[OA_STEPS * ETL_MAX_LEVELS];
    double largest = 0, peak = 0;
    for (uint32_t n = 0; n < DRAWS; n++) {
        for (uint32_t i = 0; i < OA_CONTEXT; i++) {
            double level = fabs((double)one->context[i]), by = fmax(NUDGE * one->spread, 2 * ROUNDOFF * level);
            context[i] = (float)((double)one->context[i] + by * draw(c));
            peak = fmax(peak, level);
        }
        float *to = c->nudged;
        for (uint32_t k = 0, i = 0; k < 3; k++) {
            for (uint32_t j = 0; j < sizes[k]; j++, i++)
                *to++ = (float)((double)c->shift[i] + ((double)biases[k][j] + (double)c->shift[i]) * NUDGE * draw(c));
        }
        etsa_err err = ask(c, context, c->nudged, got, message);
        if (err != ETSA_OK) return err;
        largest = fmax(largest, apart(got, one->expected, c->count));
    }
    *tolerance = MARGIN * largest + LEVEL * peak;
    return ETSA_OK;
}

static etsa_err choose(chooser *c, double level, double spread, oa_answer *answer, fc_message message)
{
    candidate finalists[FINALISTS], one;
    uint32_t held = 0;
    double best = 0, tolerance;
    etsa_err err = ETSA_OK;
    for (uint32_t i = 0; i < CANDIDATES && err == ETSA_OK; i++) {
        err = make_candidate(c, level, spread, &one, message);
        if (err == ETSA_OK && one.moved > 0) place(finalists, &held, &one);
    }
    for (uint32_t i = 0; i < held && err == ETSA_OK; i++) {
        err = tolerance_of(c, &finalists[i], &tolerance, message);
        if (err != ETSA_OK || !(tolerance <= etsa_widest_tolerance(finalists[i].context, OA_CONTEXT))) continue;
        if (!(finalists[i].moved / tolerance > best)) continue;
        best = finalists[i].moved / tolerance;
        memcpy(answer->context, finalists[i].context, sizeof answer->context);
        memcpy(answer->expected, finalists[i].expected, sizeof answer->expected);
        answer->expected_size = c->count;
        answer->tolerance = (float)tolerance;
    }
    if (err != ETSA_OK || best >= SEEN) return err;
    snprintf(message, FC_MESSAGE_SIZE, "known-answer test: what was learnt moves no synthetic forecast by more than %.2g tolerances, "
             "want %g", best, SEEN);
    return ETSA_SELF_TEST_ERROR;
}

etsa_err oa_choose(fc_states *states, const float *shift, double level, double spread, oa_answer *answer, fc_message message)
{
    chooser c = {.states = states, .block = *fc_states_block(states), .shift = shift};
    c.block.steps = c.block.prediction_length < OA_STEPS ? c.block.prediction_length : OA_STEPS;
    c.size = etl_shift_size(&c.block);
    c.count = c.block.steps * c.block.level_count;
    c.state = malloc(c.block.state_size * sizeof *c.state);
    c.nudged = malloc(c.size * sizeof *c.nudged);
    c.nothing = calloc(c.size, sizeof *c.nothing);
    c.scratch = malloc(etl_scratch_size(&c.block));
    bool memory = c.state != NULL && c.nudged != NULL && c.nothing != NULL && c.scratch != NULL;
    etsa_err err = memory ? choose(&c, level, spread, answer, message) : ETSA_STORAGE_ERROR;
    if (!memory) snprintf(message, FC_MESSAGE_SIZE, "out of memory");
    free(c.state);
    free(c.nudged);
    free(c.nothing);
    free(c.scratch);
    return err;
}
