#include "etsa_adapt.h"

#include <math.h>
#include <string.h>

#define DAY_MS 86400000

static int64_t day_of(int64_t ms) { return ms / DAY_MS - (ms % DAY_MS < 0); }

/* --- scoring ------------------------------------------------------------------------------------------------------- */

static void ascend(float *x, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        float moved = x[i];
        uint32_t place = i;
        for (; place > 0 && x[place - 1] > moved; place--) x[place] = x[place - 1];
        x[place] = moved;
    }
}

/* Quantiles as they would be issued: ascending, calibrated, ascending. False if one is not finite. */
static bool forecast(eta_learner *l, const etl_window *window, const float *shift)
{
    const etl_block *b = &l->model.block;
    etl_forecast(b, shift, window, l->scratch, l->quantiles);
    for (uint32_t h = 0; h < b->steps; h++) ascend(l->quantiles + (size_t)h * b->level_count, b->level_count);
    if (l->model.calibrate != NULL) l->model.calibrate(l->model.user, l->quantiles, b->steps, b->level_count);
    for (uint32_t h = 0; h < b->steps; h++) ascend(l->quantiles + (size_t)h * b->level_count, b->level_count);
    for (uint32_t i = 0; i < b->steps * b->level_count; i++)
        if (!isfinite(l->quantiles[i])) return false;
    return true;
}

/* The summed loss of one window's forecast, in the signal's unit: twice the pinball loss, mean over levels. */
static double loss(eta_learner *l, const etl_window *window, const float *shift)
{
    const etl_block *b = &l->model.block;
    double sum = 0;
    if (!forecast(l, window, shift)) return NAN;
    for (uint32_t h = 0; h < b->steps; h++) {
        if (isnan(window->target[h])) continue;
        double step = 0;
        for (uint32_t j = 0; j < b->level_count; j++) {
            double miss = (double)window->target[h] - (double)l->quantiles[(size_t)h * b->level_count + j];
            step += miss > 0 ? b->levels[j] * miss : (b->levels[j] - 1) * miss;
        }
        sum += 2 * step / b->level_count;
    }
    return sum;
}

/* A stay's losses are in: bet on them. A model with a loss that is not finite is dropped without any evidence. */
static void judge(eta_learner *l)
{
    const double *sums = l->task.sums;
    etq_stay stay = {.frozen = sums[0], .running = sums[1], .candidate = sums[2]};
    l->task.judged = true;
    l->stays++;
    if (!isfinite(stay.frozen)) { /* the installed model fails on it as well: the stay shows nothing */
        l->refused++;
    } else if (!isfinite(stay.running) || !isfinite(stay.candidate)) {
        l->refused++;
        l->wish = ETQ_DEMOTE;
        l->reason = ETA_NOT_FINITE;
    } else if (l->optimiser.steps > 0) {
        l->wish = etq_promotion_add(&l->promotion, &stay, l->state == ETA_PROMOTED);
        l->reason = l->wish == ETQ_DEMOTE ? ETA_WORSE : ETA_NO_REASON;
        for (int i = 0; i < 3; i++) l->lost[i] += sums[i];
    }
}

/* The state of the window at a cutoff of the stay, into a place of the fresh windows. */
static bool run_state(eta_learner *l, uint32_t cutoff, uint32_t place)
{
    const eta_config *c = &l->config;
    eta_windows *to = &l->fresh;
    float *state = to->states + (size_t)place * to->state_size, *scales = to->scales + 2 * (size_t)place;
    eta_context(l->stay, cutoff, c->context_length, l->context);
    if (!l->model.state(l->model.user, l->context, c->context_length, state, &scales[0], &scales[1])) return false;
    memcpy(to->targets + (size_t)place * to->steps, l->stay + cutoff, to->steps * sizeof *l->stay);
    to->varies[place] = etl_varies(l->context, c->context_length, scales[0]);
    return true;
}

/* Score one window with all three models; after the last one, bet on the stay. */
static eta_done score(eta_learner *l, eta_entry *entry)
{
    eta_task *task = &l->task;
    if (!run_state(l, l->scored_cutoffs[task->scored_at], 0)) return ETA_FAILED;
    etl_window window = eta_window(&l->fresh, 0);
    uint32_t size = etl_shift_size(&l->model.block);
    float *nothing = l->gradient;
    for (uint32_t i = 0; i < size; i++) nothing[i] = 0;
    double frozen = loss(l, &window, nothing);
    double running = l->state == ETA_PROMOTED ? loss(l, &window, l->promoted) : frozen;
    double candidate = l->optimiser.steps > 0 ? loss(l, &window, l->optimiser.mean) : running;
    task->sums[0] += frozen;
    task->sums[1] += running;
    task->sums[2] += candidate;
    task->scored_at++;
    if (task->scored_at < task->scored_count) return ETA_WORKED;
    judge(l);
    *entry = (eta_entry){.what = ETA_SCORED, .windows = task->scored_count};
    entry->evidence = etq_evidence_log(&l->promotion.better);
    memcpy(entry->losses, task->sums, sizeof entry->losses);
    return ETA_WORKED;
}

/* --- learning ------------------------------------------------------------------------------------------------------ */

static uint32_t kept_of(const eta_learner *l)
{
    uint32_t most = l->config.rules.kept_windows;
    return l->task.fresh_count < most ? l->task.fresh_count : most;
}

/* How many of the stay's windows are wanted: a learner that holds too few takes no steps, and only keeps. */
static uint32_t wanted_of(eta_learner *l)
{
    uint32_t kept = kept_of(l);
    l->task.starts = l->reservoir.seen + kept >= l->config.rules.first_windows;
    return l->task.starts ? l->task.fresh_count : kept;
}

/* The next fresh window's state. */
static eta_done ready(eta_learner *l)
{
    eta_task *task = &l->task;
    uint32_t place = task->fresh_at;
    if (!run_state(l, l->fresh_cutoffs[place], place)) return ETA_FAILED;
    eta_clip_target(l->context, l->config.context_length, l->fresh.targets + (size_t)place * l->fresh.steps, l->fresh.steps,
                    l->config.rules.clip_spreads);
    task->fresh_at++;
    return ETA_WORKED;
}

/* Gather a batch: the stay's next windows, then drawn ones of earlier stays. Returns how many. */
static uint32_t gather(eta_learner *l)
{
    const eta_rules *r = &l->config.rules;
    uint32_t count = 0, first = l->task.learnt * r->new_windows;
    for (uint32_t i = first; i < first + r->new_windows && i < l->task.fresh_count; i++)
        l->batch[count++] = eta_window(&l->fresh, i);
    while (count < r->batch && l->reservoir.held > 0)
        l->batch[count++] = eta_window(&l->reservoir.windows, eta_draw(&l->draws, l->reservoir.held));
    return count;
}

/* The gradient by what may move. */
static bool gradient_of(eta_learner *l, uint32_t count, double *value)
{
    float *g = l->gradient;
    if (!etl_gradient(&l->model.block, l->optimiser.iterate, l->batch, count, l->scratch, g, value)) return false;
    for (uint32_t k = 0; k < ETL_BIASES; g += l->optimiser.sizes[k++])
        for (uint32_t i = 0; i < l->optimiser.sizes[k] && !l->config.moves[k]; i++) g[i] = 0;
    return true;
}

static void descend(eta_learner *l, uint32_t count, eta_entry *entry)
{
    double value = 0, norm = 0;
    *entry = (eta_entry){.what = ETA_REFUSED, .windows = count};
    if (gradient_of(l, count, &value) && etl_step(&l->optimiser, l->gradient, day_of(l->task.end_ms), &norm)) {
        *entry = (eta_entry){.what = ETA_LEARNT, .windows = count, .losses = {value, norm}};
        if (l->state == ETA_GATHERING) l->state = ETA_IN_SHADOW;
    } else {
        l->refused++;
    }
}

/* Take one step on new windows and kept ones; after the stay's last step, keep some of its windows. */
static eta_done learn(eta_learner *l, eta_entry *entry)
{
    eta_task *task = &l->task;
    uint32_t count = task->starts ? gather(l) : 0;
    task->learnt++;
    if (count > 0) {
        descend(l, count, entry);
    } else {
        *entry = (eta_entry){.what = ETA_LEARNT};
        task->learnt = l->config.rules.steps;
    }
    if (task->learnt >= l->config.rules.steps) {
        for (uint32_t i = 0; i < kept_of(l); i++) eta_reservoir_add(&l->reservoir, &l->fresh, i, &l->draws);
        *task = (eta_task){0};
    }
    return ETA_WORKED;
}

/* --- one piece of work --------------------------------------------------------------------------------------------- */

static eta_done work(eta_learner *l, eta_queue *q, eta_entry *entry)
{
    const float *values;
    int64_t end_ms;
    if (l->task.begun) {
        if (!l->task.judged) return score(l, entry);
        return l->task.fresh_at < wanted_of(l) ? ready(l) : learn(l, entry);
    }
    uint32_t count = q != NULL ? eta_queue_oldest(q, &values, &end_ms) : 0;
    if (count == 0) return ETA_IDLE;
    (void)eta_finish(l, values, count, end_ms);
    eta_queue_drop(q);
    return ETA_WORKED;
}

eta_done eta_work(eta_learner *l, eta_queue *q, bool waits, eta_entry *entry)
{
    eta_entry done = {0};
    if (waits && l->wish != ETQ_NONE) return ETA_IDLE;
    eta_done found = work(l, q, &done);
    if (done.what != ETA_NOTHING) {
        done.number = ++l->numbered;
        done.stay = l->stays;
    }
    if (entry != NULL) *entry = done;
    return found;
}
