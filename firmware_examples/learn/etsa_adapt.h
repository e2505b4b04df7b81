/* Adaptation on the device: finished stays in; a candidate for the output patch block's biases, evidence on it and
 * proposals out. The Python runtime's device_runtime/adapt/learner.py, for `--learnable output-biases`.
 *
 * For each finished stay, in this order: artefacts are removed and counted; a stay that is mostly artefacts is neither
 * learnt from nor scored; its windows are forecast by the installed model (frozen), the promoted one (running) and the
 * candidate, and all three scored; the evidence is updated; a few steps of Adam are taken on windows of the stay and of
 * earlier ones; some of its windows are kept. The same stays, rules and seed give the same windows and, from the same states,
 * the same shifts on every processor; losses and evidence agree to 1e-12.
 *
 * No malloc, no I/O, no clock, no threads: the caller gives the memory (eta_memory) and the state graph (eta_model), and
 * calls eta_work while nothing else is to do. One call runs the graph at most once, or takes one step of Adam, so a
 * forecast never waits for more than that. What it proposes is the caller's to do: eta_promote and eta_demote note it.
 *
 *   eta_queue_begin(&queue, ...); eta_feed_begin(&feed, ...);            once
 *   eta_init(&learner, &model, &config, memory, size);
 *   eta_load(&learner, bytes, size);                                     what was learnt before, if anything was
 *   eta_feed_observe(&feed, &queue, t_ms, value);                        each sample
 *   while (nothing_waits()) if (eta_work(&learner, &queue, &entry) != ETA_WORKED) break;
 *   if (learner.wish == ETQ_PROMOTE) ...                                 make a blob of eta_candidate, swap, eta_promote
 *   if (learner.wish == ETQ_DEMOTE) ...                                  swap back, eta_demote
 *   eta_save(&learner, bytes, size);
 */
#ifndef ETSA_ADAPT_H
#define ETSA_ADAPT_H

#include "etsa_adapt_clean.h"
#include "etsa_adapt_rules.h"
#include "etsa_adapt_stays.h"
#include "etsa_adapt_windows.h"
#include "etsa_promotion.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Run the state graph on one context [context_length], NaN for missing, padded with NaN on the left (pad further, to whole
 * patches). False if the machine failed: the work is then undone and may be tried again. Numbers that are not finite are
 * the model's answer, and count against what ran. */
typedef bool eta_state_fn(void *user, const float *context, uint32_t context_length, float *state, float *loc, float *scale);

/* Apply the installed adapter's calibration to ascending quantiles [steps][level_count], as etsa_calibrate does. */
typedef void eta_calibrate_fn(void *user, float *quantiles, uint32_t steps, uint32_t level_count);

typedef struct eta_model {
    etl_block block; /* with the installed adapter merged, not with what was promoted; `steps` is set by eta_init */
    eta_state_fn *state;
    eta_calibrate_fn *calibrate; /* NULL: there is no calibration */
    void *user;
} eta_model;

typedef struct eta_config {
    eta_rules rules;         /* as set or bounded; what was left to be chosen is chosen by eta_init */
    int64_t interval_ms;     /* between two steps, at least 1 */
    uint32_t context_length; /* steps of a context in learning */
    uint32_t steps;          /* forecast in learning; at most the base's are used */
    uint32_t min_observed;   /* values that a context has at least; 0: 12, as in training */
    uint32_t max_stay;       /* latest steps of a stay that are used; 0: ETA_MAX_STAY */
    float low, high;         /* values outside are no readings; -INFINITY and INFINITY: not known */
    bool moves[ETL_BIASES];  /* which of the three tensors may move: the envelope's */
} eta_config;

typedef enum eta_state {
    ETA_GATHERING = 0, /* too few windows: the candidate is what runs */
    ETA_IN_SHADOW = 1, /* a candidate forecasts unseen, beside what runs */
    ETA_PROMOTED = 2   /* an earlier candidate forecasts; a newer one goes on unseen */
} eta_state;

/* Why the promoted model should be demoted. Not kept by eta_save. */
typedef enum eta_reason {
    ETA_NO_REASON = 0,
    ETA_WORSE = 1,      /* it was shown to be worse than what it stands on */
    ETA_NOT_FINITE = 2, /* it, or the candidate, forecasts numbers that are not finite */
    ETA_NO_READINGS = 3 /* three stays in a row are no readings of the signal by more than half */
} eta_reason;
/* In words, for people; empty for no reason. */
const char *eta_reason_text(eta_reason reason);

typedef enum eta_what {
    ETA_NOTHING = 0, /* a piece of work that is not finished */
    ETA_SCORED = 1,  /* a stay was scored, with losses of frozen, running and candidate */
    ETA_LEARNT = 2,  /* a step was taken, with the batch's loss and the gradient's norm; 0 windows: too few are held */
    ETA_REFUSED = 3  /* a step was not taken: a number was not finite */
} eta_what;

/* What a piece of work did, for people and for a replay. Python's learner writes one entry for each batch that is scored. */
typedef struct eta_entry {
    eta_what what;
    uint64_t number;  /* of the entry, from 1 */
    uint64_t stay;    /* from 1 */
    uint32_t windows;
    double losses[3];
    double evidence;  /* scored: logarithm of the evidence for a promotion */
} eta_entry;

typedef enum eta_done {
    ETA_IDLE = 0,   /* there is nothing to do, or the proposal waits for the caller (see eta_work) */
    ETA_WORKED = 1,
    ETA_FAILED = 2  /* the state graph could not be run; nothing has changed */
} eta_done;

/* The stay that is being processed: where its windows are cut. */
typedef struct eta_task {
    bool begun, judged, starts; /* starts: there are enough windows for steps */
    int64_t end_ms;
    uint32_t count;                      /* steps of the stay */
    uint32_t scored_count, scored_at;    /* windows to score, and how many were */
    uint32_t fresh_count, fresh_at;      /* windows to learn from or keep, and how many have their state */
    uint32_t learnt;                     /* steps taken */
    double sums[3];
} eta_task;

typedef struct eta_learner {
    eta_model model;
    eta_config config;   /* resolved */
    eta_state state;
    etq_wish wish;       /* what the evidence proposes */
    eta_reason reason;
    eta_counts counts;   /* of all stays */
    uint64_t generation; /* promotions so far */
    uint64_t stays;      /* scored */
    uint64_t numbered;   /* entries */
    uint64_t refused;    /* stays or steps with a number that is not finite */
    uint64_t spoilt, in_a_row; /* stays that are mostly artefacts; the latest consecutive ones */
    double lost[3];      /* summed losses of the stays that the evidence rests on: frozen, running, candidate */
    eta_draws draws;
    etl_optimiser optimiser;
    etq_promotion promotion;
    eta_reservoir reservoir;
    eta_task task;
    /* in the caller's memory */
    eta_windows fresh;   /* the stay's windows that are learnt from */
    float *stay;         /* [max_stay], cleaned */
    float *promoted;     /* [n], the shift that forecasts, where state is ETA_PROMOTED */
    float *gradient;     /* [n] */
    float *context;      /* [context_length] */
    float *quantiles;    /* [steps][level_count] */
    double *scratch;
    uint32_t *scored_cutoffs, *fresh_cutoffs;
    etl_window *batch;   /* [rules.batch] */
} eta_learner;

/* Bytes that a learner needs beside its struct; 0 for a model or a configuration that eta_init refuses. */
size_t eta_memory(const eta_model *model, const eta_config *config);

/* Start afresh. `memory` is aligned as malloc's is. False for a model or rules out of range, or too little memory. */
bool eta_init(eta_learner *l, const eta_model *model, const eta_config *config, void *memory, size_t size);

/* Do one piece of work: on the stay in hand, else on the queue's oldest. ETA_IDLE too while `wish` is not ETQ_NONE and
 * `waits` is true: a caller that will promote or demote sets it, so that the candidate it promotes is the one that passed.
 * *entry (not NULL) says what was finished. */
eta_done eta_work(eta_learner *l, eta_queue *q, bool waits, eta_entry *entry);

/* What eta_work does with a stay: x[count] with NaN for missing. False if nothing comes of it, and while another stay is in
 * hand. */
bool eta_finish(eta_learner *l, const float *x, uint32_t count, int64_t end_ms);
bool eta_busy(const eta_learner *l);

/* The candidate [n]: the moving average of the iterates. */
const float *eta_candidate(const eta_learner *l);

/* A blob made from the candidate forecasts now; shift[n] is the rounded one in that blob. False while there is no candidate,
 * or for a shift that is not finite. */
bool eta_promote(eta_learner *l, const float *shift);

/* The installed model forecasts again; the candidate starts afresh, windows are kept. False while nothing was learnt. */
bool eta_demote(eta_learner *l, bool by_evidence);

/* Forget everything that was learnt, and every window. */
void eta_reset(eta_learner *l);

/* Forget every window, which is of patients' values, and the stay in hand; what was learnt stays. */
void eta_forget_windows(eta_learner *l);

/* --- what is written down ------------------------------------------------------------------------------------------ */

#define ETA_IMAGE_VERSION 1u

/* Most bytes that eta_save writes: with rules.keep_on_disk off always so many; else with room for all windows. The caller
 * adds what shows that they are whole and what they belong to: base, state graph, installed adapter, signal. */
size_t eta_image_size(eta_learner *l);

/* Write everything but the stay in hand; windows only with rules.keep_on_disk. Little-endian, IEEE 754: the same on every
 * processor; etsa_adapt_image.c has the order. Returns the bytes written, 0 if there is too little room. Changes nothing. */
size_t eta_save(eta_learner *l, uint8_t *bytes, size_t size);

/* Continue from what eta_save wrote, under the same model and configuration. False for anything else, numbers beyond the
 * caps included: then it has started afresh (eta_reset, and the counts of eta_init). */
bool eta_load(eta_learner *l, const uint8_t *bytes, size_t size);

#ifdef __cplusplus
}
#endif

#endif
