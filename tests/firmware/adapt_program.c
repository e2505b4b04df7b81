/* Follows a script of test_adapt_core.py through the adaptation core: a library that Python calls with a state graph of its
 * own, or a program with a made-up one, sanitized. */
#include "etsa_adapt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct script {
    const uint8_t *in;
    size_t at, size, room, used;
    uint8_t *out;
} script;

static void get(script *s, void *to, size_t size)
{
    if (s->size - s->at < size) exit(3);
    memcpy(to, s->in + s->at, size);
    s->at += size;
}

static void put(script *s, const void *from, size_t size)
{
    if (s->room - s->used < size) exit(4);
    memcpy(s->out + s->used, from, size);
    s->used += size;
}

static void *some(size_t size)
{
    void *found = calloc(size > 0 ? size : 1, 1);
    if (found == NULL) exit(5);
    return found;
}

static float *floats(script *s, size_t count)
{
    float *found = some(count * sizeof *found);
    get(s, found, count * sizeof *found);
    return found;
}

static unsigned ran; /* how often the state graph ran in one piece of work */

/* A state of 8 numbers without a model: the last values in the context's spread. An infinite one after a value of 13. */
bool made_up(void *user, const float *context, uint32_t length, float *state, float *loc, float *scale)
{
    double sum = 0, squares = 0;
    uint32_t seen = 0;
    (void)user;
    ran++;
    for (uint32_t i = 0; i < length; i++)
        if (!isnan(context[i])) sum += (double)context[i], seen++;
    for (uint32_t i = 0; i < length; i++)
        if (!isnan(context[i])) squares += ((double)context[i] - sum / seen) * ((double)context[i] - sum / seen);
    *loc = (float)(sum / seen);
    *scale = squares > 0 ? (float)sqrt(squares / seen) : 1;
    for (uint32_t i = 0; i < 8; i++) {
        float x = i < length ? context[length - 1 - i] : NAN;
        state[i] = isnan(x) ? 0 : x == 13 ? INFINITY : (x - *loc) / *scale;
    }
    return true;
}

/* The same on a machine that fails every other time, once it has written nonsense. */
static bool failing(void *user, const float *context, uint32_t length, float *state, float *loc, float *scale)
{
    static bool works = true;
    works = !works;
    *loc = *scale = state[0] = NAN;
    return works && made_up(user, context, length, state, loc, scale);
}

/* Widen ascending quantiles by a twentieth of their width for each level away from the fifth. */
static void widen(void *user, float *quantiles, uint32_t steps, uint32_t level_count)
{
    (void)user;
    for (float *q = quantiles; q < quantiles + (size_t)steps * level_count; q += level_count) {
        volatile float width = q[level_count - 1] - q[0];
        for (uint32_t j = 0; j < level_count; j++) {
            volatile float more = 0.05f * ((float)j - 4) * width;
            q[j] += more;
        }
    }
}

enum { FAILS = 1, CALIBRATED = 2 };

typedef struct head {
    uint32_t sizes[5]; /* D, F, Q, H, and: the state graph fails now and then, there is a calibration */
    uint32_t context_length, steps, max_stay, queue, gap;
    int64_t interval_ms;
    float low, high;
    uint32_t whole[12]; /* windows, new, kept, disk, stride, steps, batch, first, scored, stays, seed, moves as bits */
    double real[10];    /* rate, average, anchor, clip_norm, cap_tensor, cap_day, clip_spreads, blend, promote, demote */
    double clean[2];
    uint32_t clean_steps[2];
} head;

static eta_config config_of(const head *h)
{
    const uint32_t *w = h->whole;
    eta_config c = {.interval_ms = h->interval_ms, .context_length = h->context_length, .steps = h->steps, .low = h->low,
                    .high = h->high, .max_stay = h->max_stay, .rules = eta_rules_default()};
    eta_rules *r = &c.rules;
    r->windows = w[0], r->new_windows = w[1], r->kept_windows = w[2], r->keep_on_disk = w[3] != 0, r->stride = w[4];
    r->steps = w[5], r->batch = w[6], r->first_windows = w[7], r->scored_windows = w[8], r->promote_stays = w[9];
    r->seed = w[10];
    for (uint32_t k = 0; k < ETL_BIASES; k++) c.moves[k] = (w[11] >> k & 1) != 0;
    r->learning = (etl_rules){h->real[0], h->real[1], h->real[2], h->real[3], h->real[4], h->real[5]};
    r->clip_spreads = h->real[6], r->blend = h->real[7], r->promote_evidence = h->real[8], r->demote_evidence = h->real[9];
    r->clean = (eta_clean_rules){h->clean[0], h->clean[1], h->clean_steps[0], h->clean_steps[1]};
    return c;
}

static void say(script *s, const eta_learner *l, const eta_queue *q)
{
    const etq_promotion *p = &l->promotion;
    const uint64_t whole[] = {l->state, l->wish, l->reason, l->counts.values, l->counts.out_of_range, l->counts.jumps,
                              l->counts.flat, l->generation, l->stays, l->refused, l->spoilt, l->in_a_row, l->draws.drawn,
                              l->reservoir.held, l->reservoir.seen, l->optimiser.steps, l->optimiser.capped,
                              p->better.units, p->demotions, q->left_out, q->count};
    const double real[] = {etq_evidence_log(&p->better), etq_evidence_log(&p->worse), p->clip, p->gained,
                           etq_promotion_wanted(p), l->lost[0], l->lost[1], l->lost[2]};
    put(s, whole, sizeof whole);
    put(s, real, sizeof real);
}

static void work(script *s, eta_learner *l, eta_queue *q)
{
    size_t n = etl_shift_size(&l->model.block) * sizeof(float);
    eta_entry entry;
    uint32_t what = 0;
    uint64_t steps = l->optimiser.steps;
    for (eta_done done; ran = 0, (done = eta_work(l, q, true, &entry)) != ETA_IDLE; steps = l->optimiser.steps) {
        if (ran + (l->optimiser.steps - steps) > 1) exit(7); /* a forecast would wait for more than one piece of work */
        if (done == ETA_FAILED && entry.what != ETA_NOTHING) exit(6);
        if (entry.what == ETA_NOTHING) continue;
        what = entry.what;
        put(s, &what, sizeof what);
        put(s, &entry.windows, sizeof entry.windows);
        put(s, entry.losses, sizeof entry.losses);
        put(s, &entry.evidence, sizeof entry.evidence);
        put(s, l->optimiser.iterate, n);
        put(s, eta_candidate(l), n);
    }
    what = 0;
    put(s, &what, sizeof what);
}

static void keep(script *s, eta_learner *l)
{
    size_t size = eta_image_size(l);
    uint8_t *bytes = some(size);
    size_t wrote = eta_save(l, bytes, size);
    uint64_t said = wrote;
    if (wrote > size || (!l->config.rules.keep_on_disk && wrote != size)) exit(7);
    if (wrote > 0 && eta_save(l, bytes, wrote - 1) != 0) exit(8);
    (void)eta_save(l, bytes, size);
    put(s, &said, sizeof said);
    put(s, bytes, wrote);
    free(bytes);
}

static void windows(script *s, const eta_learner *l)
{
    const eta_windows *w = &l->reservoir.windows;
    uint32_t held = l->reservoir.held;
    put(s, &held, sizeof held);
    put(s, w->states, (size_t)held * w->state_size * sizeof(float));
    put(s, w->targets, (size_t)held * w->steps * sizeof(float));
}

typedef struct subject {
    eta_learner learner;
    eta_queue queue;
    eta_feed feed;
} subject;

static void one(script *s, subject *on, uint8_t op)
{
    eta_learner *l = &on->learner;
    int64_t t_ms;
    double value;
    uint32_t size;
    float *shift;
    uint8_t answer = 1, *bytes;
    switch (op) {
    case 'S':
        get(s, &t_ms, sizeof t_ms);
        get(s, &value, sizeof value);
        (void)eta_feed_observe(&on->feed, &on->queue, t_ms, value);
        return;
    case 'E': (void)eta_feed_end(&on->feed, &on->queue); return;
    case 'W': work(s, l, &on->queue); return;
    case 'Q': say(s, l, &on->queue); return;
    case 'V': windows(s, l); return;
    case 'I': keep(s, l); return;
    case 'R': eta_reset(l); return;
    case 'F': eta_forget_windows(l); return;
    case 'P':
        shift = floats(s, etl_shift_size(&l->model.block));
        answer = eta_promote(l, shift);
        free(shift);
        break;
    case 'D':
        get(s, &answer, 1);
        answer = eta_demote(l, answer != 0);
        break;
    case 'L':
        get(s, &size, sizeof size);
        bytes = some(size);
        get(s, bytes, size);
        answer = eta_load(l, bytes, size);
        free(bytes);
        break;
    default: exit(9);
    }
    put(s, &answer, 1);
}

size_t rules_size(void) { return sizeof(eta_rules); }

/* Returns how many bytes were written to `out`; 0: the configuration was refused. */
size_t follow(const uint8_t *in, size_t size, eta_state_fn *state, uint8_t *out, size_t room)
{
    script s = {.in = in, .size = size, .out = out, .room = room};
    head h;
    subject on;
    get(&s, &h, sizeof h);
    uint32_t made = h.sizes[2] * h.sizes[3];
    double *levels = some(h.sizes[2] * sizeof *levels);
    get(&s, levels, h.sizes[2] * sizeof *levels);
    float *w[] = {floats(&s, (size_t)h.sizes[1] * h.sizes[0]), floats(&s, h.sizes[1]), floats(&s, (size_t)made * h.sizes[1]),
                  floats(&s, made), floats(&s, (size_t)made * h.sizes[0]), floats(&s, made)};
    eta_model model = {.state = h.sizes[4] & FAILS ? failing : state, .calibrate = h.sizes[4] & CALIBRATED ? widen : NULL};
    model.block = (etl_block){.state_size = h.sizes[0], .hidden_size = h.sizes[1], .level_count = h.sizes[2],
                              .prediction_length = h.sizes[3], .steps = 1, .hidden_weight = w[0], .hidden_bias = w[1],
                              .output_weight = w[2], .output_bias = w[3], .residual_weight = w[4], .residual_bias = w[5],
                              .levels = levels};
    eta_config config = config_of(&h);
    size_t wanted = eta_memory(&model, &config);
    void *memory = some(wanted);
    uint32_t held = h.max_stay > 0 ? h.max_stay : ETA_MAX_STAY;
    float *queue = some(h.queue * sizeof *queue), *feed = some(held * sizeof *feed);
    bool good = eta_init(&on.learner, &model, &config, memory, wanted) && eta_queue_begin(&on.queue, queue, h.queue) &&
                eta_feed_begin(&on.feed, feed, held, h.interval_ms, h.gap);
    if (good && eta_init(&on.learner, &model, &config, memory, wanted - 1)) exit(10);
    good = good && eta_init(&on.learner, &model, &config, memory, wanted);
    while (good && s.at < s.size) {
        uint8_t op;
        get(&s, &op, 1);
        one(&s, &on, op);
    }
    for (int i = 0; i < 6; i++) free(w[i]);
    free(levels);
    free(memory);
    free(queue);
    free(feed);
    return good ? s.used : 0;
}

int main(void)
{
    size_t most = (size_t)64 << 20, size;
    uint8_t *in = some(most), *out = some(most);
    size = fread(in, 1, most, stdin);
    size = follow(in, size, made_up, out, most);
    fwrite(out, 1, size, stdout);
    free(in);
    free(out);
    return size > 0 ? 0 : 1;
}
