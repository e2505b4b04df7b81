/* Follows a stream of test_adapt_following.py: what it moves its forecasts to. */
#include "etsa_adapt_following.h"

#include <stdio.h>
#include <stdlib.h>

static void get(void *to, size_t size)
{
    if (fread(to, 1, size, stdin) != size) exit(2);
}

/* In: sizes and rules, levels; then events: 'S' a sample, 'M' a forecast to move, 'E' the end of the stay. Out: for each
 * forecast whether it was moved, its quantiles, the number of updates and the factor. */
int main(void)
{
    static eta_following f;
    uint32_t head[4]; /* levels, steps, late steps, whether offsets move */
    int64_t interval_ms, t_ms;
    double real[3], levels[ETST_MAX_LEVELS], value;
    float quantiles[512];
    char event;
    get(head, sizeof head);
    get(&interval_ms, sizeof interval_ms);
    get(real, sizeof real);
    get(levels, head[0] * sizeof *levels);
    eta_rules rules = eta_rules_default();
    rules.long_stream = head[3] != 0;
    rules.offset_rate = real[0];
    rules.width_rate = real[1];
    rules.cap_tracking = real[2];
    size_t size = eta_following_memory(head[1], head[0], head[2]);
    void *memory = malloc(size > 0 ? size : 1);
    if (memory == NULL) return 3;
    if (size > 0 && eta_following_begin(&f, &rules, interval_ms, head[2], levels, head[0], head[1], memory, size - 1)) return 4;
    bool good = eta_following_begin(&f, &rules, interval_ms, head[2], levels, head[0], head[1], memory, size);
    while (good && fread(&event, 1, 1, stdin) == 1) {
        uint32_t steps;
        if (event == 'E') {
            eta_following_end(&f);
            continue;
        }
        get(&t_ms, sizeof t_ms);
        if (event == 'S') {
            get(&value, sizeof value);
            eta_following_observe(&f, t_ms, value);
            continue;
        }
        get(&steps, sizeof steps);
        get(quantiles, steps * head[0] * sizeof *quantiles);
        double said[3] = {eta_following_move(&f, t_ms, quantiles, steps), 0, 0};
        said[1] = (double)f.tracking.updates;
        said[2] = f.tracking.factor;
        fwrite(said, sizeof said, 1, stdout);
        fwrite(quantiles, sizeof *quantiles, steps * head[0], stdout);
    }
    free(memory);
    return good ? 0 : 1;
}
