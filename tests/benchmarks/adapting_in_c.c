/* What adaptation in C holds and takes beside the state graph: STATE HIDDEN INTERVAL_MS CONTEXT STEPS WINDOWS STAY -> bytes
 * of the struct and the learner's memory, of what is kept, of a feed; processor ms of a stay, and of its longest piece. */
#include "etsa_adapt.h"

#include <math.h>
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

static bool state_of(void *user, const float *context, uint32_t length, float *state, float *loc, float *scale)
{
    uint32_t size = *(const uint32_t *)user;
    for (uint32_t i = 0; i < size; i++) state[i] = (context[length - 1 - i % 24] - 80) / 4;
    *loc = 80;
    *scale = 4;
    return true;
}

static int ascending(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double now(void) { return 1e3 * (double)clock() / CLOCKS_PER_SEC; }

int main(int argc, char **argv)
{
    double levels[LEVELS], whole[RUNS], longest[RUNS];
    uint32_t given[7];
    if (argc != 8) return 2;
    for (int i = 0; i < 7; i++) given[i] = (uint32_t)atoi(argv[i + 1]);
    for (uint32_t j = 0; j < LEVELS; j++) levels[j] = (j + 1) / 10.0;
    size_t made = LEVELS * HORIZON;
    eta_model model = {.state = state_of, .user = &given[0]};
    model.block = (etl_block){.state_size = given[0], .hidden_size = given[1], .level_count = LEVELS, .steps = 1,
                              .prediction_length = HORIZON, .levels = levels};
    model.block.hidden_weight = drawn((size_t)given[1] * given[0], 0.1f);
    model.block.hidden_bias = drawn(given[1], 0.1f);
    model.block.output_weight = drawn(made * given[1], 0.05f);
    model.block.output_bias = drawn(made, 0.1f);
    model.block.residual_weight = drawn(made * given[0], 0.1f);
    model.block.residual_bias = drawn(made, 0.1f);
    eta_config config = {.interval_ms = given[2], .context_length = given[3], .steps = given[4], .low = -INFINITY,
                         .high = INFINITY, .moves = {true, true, true}, .rules = eta_rules_default()};
    config.rules.windows = given[5];
    eta_learner learner;
    size_t size = eta_memory(&model, &config);
    void *memory = malloc(size);
    if (size == 0 || memory == NULL || !eta_init(&learner, &model, &config, memory, size)) return 4;
    float *stay = drawn(given[6], 8);
    for (uint32_t i = 0; i < given[6]; i++) stay[i] += 80;
    for (int run = -8; run < RUNS; run++) { /* the first ones fill the reservoir */
        double begun = now(), most = 0;
        if (!eta_finish(&learner, stay, given[6], run)) return 5;
        most = now() - begun;
        while (eta_busy(&learner)) {
            double piece = now();
            if (eta_work(&learner, NULL, false, NULL) != ETA_WORKED) return 6;
            if (now() - piece > most) most = now() - piece;
        }
        if (run < 0) continue;
        whole[run] = now() - begun;
        longest[run] = most;
    }
    qsort(whole, RUNS, sizeof *whole, ascending);
    qsort(longest, RUNS, sizeof *longest, ascending);
    printf("%zu %zu %zu %.2f %.2f\n", sizeof learner, size, eta_image_size(&learner), whole[RUNS / 2], longest[RUNS / 2]);
    return 0;
}
