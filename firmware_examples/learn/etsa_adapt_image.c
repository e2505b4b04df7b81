#include "etsa_adapt.h"

#include <math.h>
#include <string.h>

#define MAGIC UINT64_C(0x414C4154455F3031) /* "10_ETALA" */
#define MOST INT64_MAX
#define LEAST_CLIP 0.005 /* of etsa_promotion.c's bound */
#define MOST_CLIP 0.05

/* One walk over the fields measures, writes and reads: so what is read is what was written, in the same order. */
typedef struct walk {
    const uint8_t *from; /* reading */
    uint8_t *to;         /* writing; neither: measuring */
    size_t at, size;
    bool good;
} walk;

static void bits(walk *w, uint64_t *value, uint32_t bytes)
{
    uint64_t read = 0;
    if ((w->from != NULL || w->to != NULL) && w->size - w->at < bytes) w->good = false;
    for (uint32_t i = 0; i < bytes && w->good; i++) {
        if (w->from != NULL) read |= (uint64_t)w->from[w->at + i] << (8 * i);
        if (w->to != NULL) w->to[w->at + i] = (uint8_t)(*value >> (8 * i));
    }
    w->at += w->good ? bytes : 0;
    if (w->from != NULL && w->good) *value = read;
}

/* A whole number from `least` to `most`. */
static void whole(walk *w, uint64_t *value, uint64_t least, uint64_t most)
{
    bits(w, value, 8);
    w->good = w->good && *value >= least && *value <= most;
}

/* A number that is what it is: another one was written for something else. */
static void same(walk *w, uint64_t value)
{
    uint64_t read = value;
    whole(w, &read, value, value);
}

static void count(walk *w, uint32_t *value, uint32_t most)
{
    uint64_t wide = *value;
    whole(w, &wide, 0, most);
    if (w->good) *value = (uint32_t)wide;
}

static void real(walk *w, double *value, double least, double most)
{
    uint64_t wide = 0;
    memcpy(&wide, value, sizeof wide);
    bits(w, &wide, 8);
    memcpy(value, &wide, sizeof wide);
    w->good = w->good && *value >= least && *value <= most; /* nor is NaN */
}

static void numbers(walk *w, float *x, size_t size, bool any)
{
    for (size_t i = 0; i < size && w->good; i++) {
        uint32_t narrow = 0;
        memcpy(&narrow, &x[i], sizeof narrow);
        uint64_t wide = narrow;
        bits(w, &wide, 4);
        narrow = (uint32_t)wide;
        memcpy(&x[i], &narrow, sizeof narrow);
        w->good = w->good && (any || isfinite(x[i]));
    }
}

static void subject(walk *w, const eta_learner *l)
{
    const etl_block *b = &l->model.block;
    const bool *moves = l->config.moves;
    same(w, MAGIC);
    same(w, ETA_IMAGE_VERSION);
    same(w, b->state_size);
    same(w, b->hidden_size);
    same(w, b->level_count);
    same(w, b->prediction_length);
    same(w, b->steps);
    same(w, (moves[0] ? 1u : 0u) + (moves[1] ? 2u : 0u) + (moves[2] ? 4u : 0u));
}

static void said(walk *w, eta_learner *l)
{
    uint32_t state = l->state, wish = l->wish;
    count(w, &state, ETA_PROMOTED);
    count(w, &wish, ETQ_DEMOTE);
    l->state = (eta_state)state;
    l->wish = (etq_wish)wish;
    uint64_t *const counts[] = {&l->generation, &l->stays, &l->numbered, &l->refused, &l->spoilt, &l->in_a_row,
                                &l->draws.seed, &l->draws.drawn, &l->counts.values, &l->counts.out_of_range,
                                &l->counts.jumps, &l->counts.flat};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) whole(w, counts[i], 0, MOST);
    for (int i = 0; i < 3; i++) real(w, &l->lost[i], 0, 1e300);
}

static void evidence(walk *w, etq_evidence *e)
{
    whole(w, &e->units, 0, MOST);
    for (int part = 0; part < ETQ_PARTS; part++)
        for (int bet = 0; bet < ETQ_BETS; bet++) real(w, &e->logs[part][bet], -HUGE_VAL, 1e300);
}

static void optimiser(walk *w, etl_optimiser *o)
{
    uint64_t begun = o->begun, day = (uint64_t)o->day;
    whole(w, &o->steps, 0, MOST);
    whole(w, &o->capped, 0, MOST);
    whole(w, &begun, 0, 1);
    bits(w, &day, 8);
    o->begun = begun == 1;
    o->day = day <= MOST ? (int64_t)day : -(int64_t)(UINT64_MAX - day) - 1;
    float *const arrays[] = {o->iterate, o->mean, o->first, o->second, o->morning};
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++) numbers(w, arrays[k], o->size, false);
}

/* A state may be any number: what a broken model said teaches nothing, and is found out by the gradient. */
static void windows(walk *w, eta_reservoir *r, bool whole_windows)
{
    uint32_t held = whole_windows ? r->held : 0;
    eta_windows *in = &r->windows;
    whole(w, &r->seen, 0, MOST);
    count(w, &held, in->most);
    w->good = w->good && held <= r->seen;
    numbers(w, in->states, (size_t)held * in->state_size, true);
    numbers(w, in->targets, (size_t)held * in->steps, true);
    numbers(w, in->scales, 2 * (size_t)held, true);
    for (uint32_t i = 0; i < held && w->good; i++) {
        uint64_t varies = in->varies[i];
        bits(w, &varies, 1);
        in->varies[i] = (uint8_t)varies;
        w->good = w->good && varies <= 1;
    }
    if (w->from != NULL) r->held = held;
}

static void everything(walk *w, eta_learner *l)
{
    etq_promotion *p = &l->promotion;
    subject(w, l);
    said(w, l);
    optimiser(w, &l->optimiser);
    numbers(w, l->promoted, l->optimiser.size, false);
    evidence(w, &p->better);
    evidence(w, &p->worse);
    real(w, &p->clip, LEAST_CLIP, MOST_CLIP);
    whole(w, &p->clipped_stays, 0, MOST);
    real(w, &p->gained, -1e300, 1e300);
    count(w, &p->demotions, UINT32_MAX);
    windows(w, &l->reservoir, l->config.rules.keep_on_disk);
}

size_t eta_image_size(eta_learner *l)
{
    walk w = {.good = true};
    uint32_t left = l->config.rules.keep_on_disk ? l->reservoir.windows.most - l->reservoir.held : 0;
    everything(&w, l);
    return w.at + left * eta_window_size(l->fresh.state_size, l->fresh.steps);
}

size_t eta_save(eta_learner *l, uint8_t *bytes, size_t size)
{
    walk w = {.to = bytes, .size = size, .good = bytes != NULL};
    everything(&w, l);
    return w.good ? w.at : 0;
}

/* Nothing is learnt of what the envelope does not let move, and nothing is promoted in another state. */
static bool fits(const eta_learner *l)
{
    const etl_optimiser *o = &l->optimiser;
    uint32_t at = 0;
    for (uint32_t k = 0; k < ETL_BIASES; at += o->sizes[k++])
        for (uint32_t i = at; i < at + o->sizes[k]; i++) {
            bool still = o->iterate[i] == 0 && o->mean[i] == 0 && o->first[i] == 0 && l->promoted[i] == 0;
            if (!l->config.moves[k] && !still) return false;
            if (l->state != ETA_PROMOTED && l->promoted[i] != 0) return false;
        }
    return (l->state == ETA_GATHERING) == (o->steps == 0);
}

bool eta_load(eta_learner *l, const uint8_t *bytes, size_t size)
{
    walk w = {.from = bytes, .size = size, .good = bytes != NULL};
    l->task = (eta_task){0};
    l->reason = ETA_NO_REASON;
    everything(&w, l);
    bool good = w.good && w.at == size && fits(l) && etl_go_on(&l->optimiser);
    if (!good) {
        eta_reset(l);
        l->generation = l->numbered = l->refused = 0;
        l->draws = (eta_draws){.seed = l->config.rules.seed};
    } else if (!l->config.rules.keep_on_disk && l->reservoir.held > 0) {
        eta_forget_windows(l); /* of the time when they were kept on the disk */
    }
    return good;
}
