#include "etsa_adapt.h"

#include <math.h>
#include <string.h>

#define MIN_OBSERVED 12u
#define MAX_CONTEXT 65535u
#define SPOILT 0.5       /* share of a stay's values out of range or jumping, above which it is mostly artefacts */
#define SPOILT_STAYS 3u  /* so many of them in a row: the promoted model no longer fits the input */
#define SCORED_PER_FORECAST 3u /* windows that begin within one forecast and are scored */

static uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* --- memory and start ---------------------------------------------------------------------------------------------- */

/* Parts of the caller's memory, 8 bytes each at least; without memory it only measures. */
typedef struct arena {
    uint8_t *memory;
    size_t used;
} arena;

static void *part(arena *a, size_t count, size_t size)
{
    void *at = a->memory != NULL ? a->memory + a->used : NULL;
    a->used += (count * size + 7) / 8 * 8;
    return at;
}

static eta_windows windows_in(arena *a, uint32_t most, uint32_t state_size, uint32_t steps)
{
    return (eta_windows){
        .most = most, .state_size = state_size, .steps = steps, .states = part(a, (size_t)most * state_size, sizeof(float)),
        .targets = part(a, (size_t)most * steps, sizeof(float)), .scales = part(a, 2 * (size_t)most, sizeof(float)),
        .varies = part(a, most, 1),
    };
}

/* New windows of a stay that a step, or the reservoir, takes. */
static uint32_t fresh_most(const eta_rules *r) { return larger(r->new_windows * r->steps, r->kept_windows); }

/* Check, and choose what was left to be chosen; false for what cannot be. */
static bool resolve(eta_learner *l, const eta_model *model, const eta_config *config)
{
    memset(l, 0, sizeof *l);
    l->model = *model;
    l->config = *config;
    eta_config *c = &l->config;
    if (model->state == NULL || c->interval_ms < 1 || c->context_length < 1 || c->context_length > MAX_CONTEXT) return false;
    if (c->steps < 1 || !(c->low <= c->high) || eta_rules_check(&c->rules) != NULL) return false;
    if (!(c->moves[0] || c->moves[1] || c->moves[2])) return false;
    c->rules = eta_rules_at(&c->rules, c->interval_ms, c->steps);
    c->steps = smaller(c->steps, model->block.prediction_length);
    c->min_observed = smaller(c->min_observed > 0 ? c->min_observed : MIN_OBSERVED, c->context_length);
    if (c->max_stay == 0) c->max_stay = ETA_MAX_STAY;
    l->model.block.steps = c->steps;
    if (eta_rules_check(&c->rules) != NULL) return false; /* as flat_steps, chosen for an interval of a few ms */
    return c->max_stay <= ETA_MAX_STAY && etl_is_block(&l->model.block);
}

/* The parts of a resolved learner's memory: the widest numbers first. Returns where the optimiser's are. */
static float *lay_out(eta_learner *l, arena *a)
{
    const eta_rules *r = &l->config.rules;
    const etl_block *b = &l->model.block;
    size_t size = etl_shift_size(b), sorted = l->config.max_stay * sizeof(double), scratch = etl_scratch_size(b);
    l->scratch = part(a, scratch > sorted ? scratch : sorted, 1);
    l->batch = part(a, r->batch, sizeof *l->batch);
    float *optimiser = part(a, etl_optimiser_size(b), 1);
    l->promoted = part(a, size, sizeof(float));
    l->gradient = part(a, size, sizeof(float));
    l->stay = part(a, l->config.max_stay, sizeof(float));
    l->context = part(a, l->config.context_length, sizeof(float));
    l->quantiles = part(a, (size_t)b->steps * b->level_count, sizeof(float));
    l->scored_cutoffs = part(a, r->scored_windows, sizeof(uint32_t));
    l->fresh_cutoffs = part(a, fresh_most(r), sizeof(uint32_t));
    l->fresh = windows_in(a, fresh_most(r), b->state_size, b->steps);
    l->reservoir.windows = windows_in(a, r->windows, b->state_size, b->steps);
    return optimiser;
}

size_t eta_memory(const eta_model *model, const eta_config *config)
{
    eta_learner l;
    arena none = {0};
    if (!resolve(&l, model, config)) return 0;
    lay_out(&l, &none);
    return none.used;
}

/* A root mean square over all numbers is that over the ones that move, times a factor: so the cap of a day has it, too. */
static bool begin_optimiser(eta_learner *l, float *memory)
{
    const etl_block *b = &l->model.block;
    const uint32_t outputs = b->level_count * b->prediction_length, sizes[ETL_BIASES] = {b->hidden_size, outputs, outputs};
    etl_rules rules = l->config.rules.learning;
    double moved = 0;
    for (uint32_t k = 0; k < ETL_BIASES; k++) moved += l->config.moves[k] ? sizes[k] : 0;
    rules.cap_day *= sqrt(moved / etl_shift_size(b));
    return etl_begin(&l->optimiser, b, &rules, memory, etl_optimiser_size(b));
}

static bool begin_promotion(eta_learner *l)
{
    const eta_rules *r = &l->config.rules;
    return etq_promotion_begin(&l->promotion, r->promote_evidence, r->promote_stays, r->demote_evidence);
}

bool eta_init(eta_learner *l, const eta_model *model, const eta_config *config, void *memory, size_t size)
{
    arena none = {0}, a = {.memory = memory};
    if (memory == NULL || !resolve(l, model, config)) return false;
    lay_out(l, &none);
    if (size < none.used) return false;
    memset(memory, 0, none.used);
    float *optimiser = lay_out(l, &a);
    l->draws.seed = l->config.rules.seed;
    return begin_optimiser(l, optimiser) && begin_promotion(l);
}

/* --- a finished stay ----------------------------------------------------------------------------------------------- */

/* Whether a stay's values are mostly artefacts; several such stays in a row propose to take the promoted model back. */
static bool is_spoilt(eta_learner *l, const eta_counts *counts)
{
    if (counts->values == 0) return false;
    bool bad = (double)(counts->out_of_range + counts->jumps) > SPOILT * (double)counts->values;
    l->in_a_row = bad ? l->in_a_row + 1 : 0;
    l->spoilt += bad;
    if (l->in_a_row >= SPOILT_STAYS && l->state == ETA_PROMOTED) {
        l->wish = ETQ_DEMOTE;
        l->reason = ETA_NO_READINGS;
    }
    return bad;
}

/* At most `most` of cutoffs[count], evenly spread. */
static uint32_t spread(const uint32_t *cutoffs, uint32_t count, uint32_t most, uint32_t *to)
{
    double between = most > 1 ? (double)(count - 1) / (most - 1) : 0;
    uint32_t held = 0, last = count;
    for (uint32_t i = 0; i < most; i++) {
        volatile double place = i * between;
        uint32_t found = i > 0 && i + 1 == most ? count - 1 : (uint32_t)place;
        if (found != last) to[held++] = cutoffs[found];
        last = found;
    }
    return held;
}

/* Choose the stay's windows: those that are scored, and those that are learnt from. False where there are none. */
static bool choose(eta_learner *l)
{
    const eta_config *c = &l->config;
    eta_task *task = &l->task;
    uint32_t *cutoffs = (uint32_t *)(void *)l->scratch, *order = cutoffs + c->max_stay;
    /* Windows of one stay may overlap: the stay is one observation in the evidence however many windows are summed, and more
     * windows make it more precise. */
    eta_cut cut = {c->context_length, c->steps, larger(1, c->steps / SCORED_PER_FORECAST), c->min_observed};
    uint32_t found = eta_cutoffs(l->stay, task->count, &cut, cutoffs);
    if (found == 0) return false;
    task->scored_count = spread(cutoffs, found, c->rules.scored_windows, l->scored_cutoffs);
    cut.stride = c->rules.stride;
    found = eta_cutoffs(l->stay, task->count, &cut, cutoffs);
    if (found == 0) return false;
    task->fresh_count = eta_sample(&l->draws, order, found, fresh_most(&c->rules));
    for (uint32_t i = 0; i < task->fresh_count; i++) l->fresh_cutoffs[i] = cutoffs[order[i]];
    return true;
}

bool eta_busy(const eta_learner *l) { return l->task.begun; }

bool eta_finish(eta_learner *l, const float *x, uint32_t count, int64_t end_ms)
{
    eta_counts counts;
    const eta_config *c = &l->config;
    if (l->task.begun) return false;
    uint32_t used = smaller(count, c->max_stay);
    memcpy(l->stay, x + (count - used), used * sizeof *x);
    eta_clean(l->stay, used, &c->rules.clean, c->low, c->high, l->scratch, &counts);
    l->counts.values += counts.values;
    l->counts.out_of_range += counts.out_of_range;
    l->counts.jumps += counts.jumps;
    l->counts.flat += counts.flat;
    l->task = (eta_task){.count = used, .end_ms = end_ms};
    l->task.begun = !is_spoilt(l, &counts) && choose(l);
    return l->task.begun;
}

/* --- what a host says ---------------------------------------------------------------------------------------------- */

const char *eta_reason_text(eta_reason reason)
{
    switch (reason) {
    case ETA_WORSE: return "it was shown to be worse than what it stands on";
    case ETA_NOT_FINITE: return "it forecasts numbers that are not finite";
    case ETA_NO_READINGS: return "3 stays in a row are no readings of the signal by more than half";
    case ETA_NO_REASON: break;
    }
    return "";
}

const float *eta_candidate(const eta_learner *l) { return l->optimiser.mean; }

/* What runs now, and that nothing is known of it yet. */
static void run(eta_learner *l, eta_state state, const float *shift)
{
    uint32_t size = etl_shift_size(&l->model.block);
    for (uint32_t i = 0; i < size; i++) l->promoted[i] = shift != NULL ? shift[i] : 0;
    l->state = state;
    l->wish = ETQ_NONE;
    l->reason = ETA_NO_REASON;
    for (int i = 0; i < 3; i++) l->lost[i] = 0;
}

bool eta_promote(eta_learner *l, const float *shift)
{
    if (l->state == ETA_GATHERING) return false;
    for (uint32_t i = 0; i < etl_shift_size(&l->model.block); i++)
        if (!isfinite(shift[i])) return false;
    run(l, ETA_PROMOTED, shift);
    l->generation++;
    etq_promotion_anew(&l->promotion, false);
    return true;
}

bool eta_demote(eta_learner *l, bool by_evidence)
{
    if (l->state == ETA_GATHERING) return false;
    run(l, ETA_GATHERING, NULL);
    etq_promotion_anew(&l->promotion, by_evidence);
    return begin_optimiser(l, l->optimiser.iterate);
}

void eta_reset(eta_learner *l)
{
    run(l, ETA_GATHERING, NULL);
    (void)begin_optimiser(l, l->optimiser.iterate); /* it began with the same rules before */
    (void)begin_promotion(l);
    l->counts = (eta_counts){0};
    l->stays = l->spoilt = l->in_a_row = 0;
    eta_forget_windows(l);
}

void eta_forget_windows(eta_learner *l)
{
    eta_reservoir_wipe(&l->reservoir);
    eta_reservoir fresh = {.windows = l->fresh};
    eta_reservoir_wipe(&fresh);
    memset(l->stay, 0, l->config.max_stay * sizeof *l->stay);
    memset(l->context, 0, l->config.context_length * sizeof *l->context);
    memset(l->scratch, 0, l->config.max_stay * sizeof *l->scratch);
    l->task = (eta_task){0};
}
