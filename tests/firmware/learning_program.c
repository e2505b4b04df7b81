/* Takes the steps that test_learning.py sends, and says where each leads: etsa_learn beside the Python learner. */
#include "etsa_learn.h"

#include <stdio.h>
#include <stdlib.h>

static void get(void *to, size_t size)
{
    if (size > 0 && fread(to, 1, size, stdin) != size) exit(2);
}

static float *get_floats(size_t count)
{
    float *numbers = malloc(count * sizeof *numbers);
    if (numbers == NULL) exit(3);
    get(numbers, count * sizeof *numbers);
    return numbers;
}

/* In: sizes, levels, the block's weights, rules, rounds; each: windows, day, windows' numbers.
 * Out: for each round the loss, the gradient's norm, the gradient, iterate and mean; then each window's forecast at the mean. */
int main(void)
{
    uint32_t sizes[5], rounds, count;
    double levels[ETL_MAX_LEVELS], loss, norm;
    etl_rules rules;
    static etl_block block; /* static: what they point to is reachable until the end */
    static etl_optimiser optimiser;
    static float *gradient, *quantiles;
    static double *scratch;
    get(sizes, sizeof sizes);
    if (sizes[2] > ETL_MAX_LEVELS) return 4;
    get(levels, sizes[2] * sizeof *levels);
    size_t state = sizes[0], hidden = sizes[1], made = (size_t)sizes[2] * sizes[3], steps = sizes[4];
    block = (etl_block){.state_size = sizes[0], .hidden_size = sizes[1], .level_count = sizes[2], .prediction_length = sizes[3],
                        .steps = sizes[4], .levels = levels};
    block.hidden_weight = get_floats(hidden * state);
    block.hidden_bias = get_floats(hidden);
    block.output_weight = get_floats(made * hidden);
    block.output_bias = get_floats(made);
    block.residual_weight = get_floats(made * state);
    block.residual_bias = get_floats(made);
    get(&rules, sizeof rules);
    get(&rounds, sizeof rounds);
    if (!etl_is_block(&block)) return 5;
    size_t size = etl_shift_size(&block);
    float *memory = malloc(etl_optimiser_size(&block));
    gradient = malloc(size * sizeof *gradient);
    quantiles = malloc(steps * sizes[2] * sizeof *quantiles);
    scratch = malloc(etl_scratch_size(&block));
    if (memory == NULL || gradient == NULL || scratch == NULL || quantiles == NULL) return 3;
    if (!etl_begin(&optimiser, &block, &rules, memory, etl_optimiser_size(&block))) return 6;
    for (uint32_t n = 0; n < rounds; n++) {
        int64_t day;
        get(&count, sizeof count);
        get(&day, sizeof day);
        etl_window *windows = calloc(count, sizeof *windows);
        float **kept = calloc(3 * (size_t)count, sizeof *kept);
        if (windows == NULL || kept == NULL) return 3;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t length;
            get(&length, sizeof length);
            get(&windows[i].loc, sizeof windows[i].loc);
            get(&windows[i].scale, sizeof windows[i].scale);
            windows[i].state = kept[3 * i] = get_floats(state);
            windows[i].target = kept[3 * i + 1] = get_floats(steps);
            kept[3 * i + 2] = get_floats(length);
            windows[i].varies = etl_varies(kept[3 * i + 2], length, windows[i].loc);
        }
        if (!etl_gradient(&block, optimiser.iterate, windows, count, scratch, gradient, &loss)) return 7;
        fwrite(gradient, sizeof *gradient, size, stdout);
        if (!etl_step(&optimiser, gradient, day, &norm)) return 8;
        fwrite(&loss, sizeof loss, 1, stdout);
        fwrite(&norm, sizeof norm, 1, stdout);
        fwrite(optimiser.iterate, sizeof(float), size, stdout);
        fwrite(optimiser.mean, sizeof(float), size, stdout);
        if (n + 1 == rounds) {
            for (uint32_t i = 0; i < count; i++) {
                etl_forecast(&block, optimiser.mean, &windows[i], scratch, quantiles);
                fwrite(quantiles, sizeof *quantiles, steps * sizes[2], stdout);
            }
        }
        for (uint32_t i = 0; i < 3 * count; i++) free(kept[i]);
        free(windows);
        free(kept);
    }
    fwrite(&optimiser.capped, sizeof optimiser.capped, 1, stdout);
    return etl_go_on(&optimiser) ? 0 : 9;
}
