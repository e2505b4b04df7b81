/* What etsa_learn refuses, and that it changes nothing then: the line of the first expectation that fails. */
#include "etsa_learn.h"
#include <math.h>
#include <string.h>
#define BLOCK(name, value) \
    { \
        etl_block other = block; \
        other.name = value; \
        if (etl_is_block(&other)) return __LINE__; \
    }
#define RULE(name, value) \
    { \
        etl_rules other = rules; \
        other.name = value; \
        if (etl_begin(&o, &block, &other, memory, sizeof memory)) return __LINE__; \
    }
int main(void)
{
    static float numbers[64], memory[5 * 22], gradient[22], before[5 * 22];
    static double scratch[64];
    const double levels[] = {0.1, 0.5, 0.9}, falling[] = {0.5, 0.1, 0.9}, whole[] = {0.1, 0.5, 1.0}, none[] = {0.1, NAN, 0.9};
    const etl_rules rules = {.rate = 0.001, .average = 0.9, .clip_norm = 1, .cap_tensor = 0.2, .cap_day = 0.1};
    etl_block block = {.state_size = 3, .hidden_size = 4, .level_count = 3, .prediction_length = 3, .steps = 2,
                       .hidden_weight = numbers, .hidden_bias = numbers, .output_weight = numbers, .output_bias = numbers,
                       .residual_weight = numbers, .residual_bias = numbers, .levels = levels};
    etl_optimiser o;
    double loss = 1;
    if (!etl_is_block(&block) || etl_shift_size(&block) != 22) return __LINE__;
    BLOCK(state_size, 0)
    BLOCK(hidden_size, 8193)
    BLOCK(level_count, 0)
    BLOCK(level_count, 65)
    BLOCK(prediction_length, 4096)
    BLOCK(steps, 4)
    BLOCK(steps, 0)
    BLOCK(hidden_weight, NULL)
    BLOCK(residual_bias, NULL)
    BLOCK(levels, NULL)
    BLOCK(levels, falling)
    BLOCK(levels, whole)
    BLOCK(levels, none)
    RULE(rate, 0.04)
    RULE(rate, NAN)
    RULE(average, 1)
    RULE(anchor, -1)
    RULE(clip_norm, 0)
    RULE(cap_tensor, 1.1)
    RULE(cap_day, NAN)
    if (etl_begin(&o, &block, &rules, memory, sizeof memory - 1)) return __LINE__;
    if (!etl_begin(&o, &block, &rules, memory, sizeof memory)) return __LINE__;

    /* what is not finite moves nothing */
    for (int i = 0; i < 22; i++) gradient[i] = (float)i;
    if (!etl_step(&o, gradient, 5, NULL) || o.steps != 1) return __LINE__;
    memcpy(before, memory, sizeof memory);
    gradient[3] = NAN;
    if (etl_step(&o, gradient, 6, NULL) || o.steps != 1 || o.day != 5 || memcmp(before, memory, sizeof memory) != 0) return __LINE__;
    const float state[] = {1, 2, NAN}, target[] = {1, 2};
    etl_window window = {.state = state, .scale = 1, .varies = true, .target = target};
    if (etl_gradient(&block, o.iterate, &window, 1, scratch, gradient, &loss)) return __LINE__;

    /* a batch that says nothing */
    window.varies = false;
    if (!etl_gradient(&block, o.iterate, &window, 1, scratch, gradient, &loss) || loss != 0 || gradient[0] != 0) return __LINE__;
    if (!etl_gradient(&block, o.iterate, NULL, 0, scratch, gradient, &loss) || loss != 0) return __LINE__;
    const float constant[] = {7.1f, NAN, 7.1f}, moving[] = {7.1f, NAN, 7.2f};
    if (etl_varies(constant, 3, 7.1f) || !etl_varies(moving, 3, 7.15f) || etl_varies(moving, 0, 0)) return __LINE__;

    /* numbers that were kept */
    if (!etl_go_on(&o)) return __LINE__;
    o.second[2] = -1;
    if (etl_go_on(&o)) return __LINE__;
    o.second[2] = 1;
    o.mean[1] = 0.5f; /* beyond the cap of 4 numbers: 0.2 * 2 */
    if (etl_go_on(&o)) return __LINE__;
    o.mean[1] = NAN;
    if (etl_go_on(&o)) return __LINE__;
    return 0;
}
