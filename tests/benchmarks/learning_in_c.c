/* What a step of learning in C takes, at one shape: STATE HIDDEN STEPS BATCH -> ms a forecast, ms a step, bytes. */
#include "etsa_learn.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LEVELS 9u
#define HORIZON 64u
#define RUNS 21

static float *drawn(size_t count, float size)
{
    float *numbers = malloc(count * sizeof *numbers);
    if (numbers == NULL) exit(3);
    for (size_t i = 0; i < count; i++) numbers[i] = size * ((float)(rand() % 20001) / 10000.0f - 1.0f);
    return numbers;
}

static int ascending(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *times)
{
    qsort(times, RUNS, sizeof *times, ascending);
    return times[RUNS / 2];
}

static double now(void) { return 1e3 * (double)clock() / CLOCKS_PER_SEC; }

int main(int argc, char **argv)
{
    double levels[LEVELS], forecasts[RUNS], steps[RUNS], loss;
    if (argc != 5) return 2;
    for (uint32_t j = 0; j < LEVELS; j++) levels[j] = (j + 1) / 10.0;
    uint32_t state = (uint32_t)atoi(argv[1]), hidden = (uint32_t)atoi(argv[2]), count = (uint32_t)atoi(argv[4]);
    size_t made = LEVELS * HORIZON;
    etl_block block = {.state_size = state, .hidden_size = hidden, .level_count = LEVELS, .prediction_length = HORIZON,
                       .steps = (uint32_t)atoi(argv[3]), .levels = levels};
    block.hidden_weight = drawn((size_t)hidden * state, 0.1f);
    block.hidden_bias = drawn(hidden, 0.1f);
    block.output_weight = drawn(made * hidden, 0.05f);
    block.output_bias = drawn(made, 0.1f);
    block.residual_weight = drawn(made * state, 0.1f);
    block.residual_bias = drawn(made, 0.1f);
    const etl_rules rules = {.rate = 0.001, .average = 0.98, .clip_norm = 1, .cap_tensor = 0.2, .cap_day = 0.1};
    etl_optimiser optimiser;
    if (!etl_is_block(&block)) return 4;
    float *memory = malloc(etl_optimiser_size(&block)), *gradient = drawn(etl_shift_size(&block), 0);
    double *scratch = malloc(etl_scratch_size(&block));
    float *quantiles = drawn(block.steps * LEVELS, 0);
    etl_window *windows = calloc(count, sizeof *windows);
    if (memory == NULL || scratch == NULL || windows == NULL) return 3;
    if (!etl_begin(&optimiser, &block, &rules, memory, etl_optimiser_size(&block))) return 4;
    for (uint32_t i = 0; i < count; i++) {
        windows[i] = (etl_window){.state = drawn(state, 1), .loc = 80, .scale = 4, .varies = true, .target = drawn(block.steps, 90)};
    }
    for (int run = 0; run < RUNS; run++) {
        double begun = now();
        for (uint32_t i = 0; i < count; i++) etl_forecast(&block, optimiser.mean, &windows[i], scratch, quantiles);
        forecasts[run] = (now() - begun) / count;
        begun = now();
        if (!etl_gradient(&block, optimiser.iterate, windows, count, scratch, gradient, &loss)) return 5;
        if (!etl_step(&optimiser, gradient, run, NULL)) return 5;
        steps[run] = now() - begun;
    }
    size_t held = etl_optimiser_size(&block) + etl_scratch_size(&block) + etl_shift_size(&block) * sizeof *gradient;
    size_t window = (state + block.steps + 2) * sizeof(float);
    printf("%u %.3f %.3f %zu %zu\n", etl_shift_size(&block), median(forecasts), median(steps), held, window);
    return 0;
}
