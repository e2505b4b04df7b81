/* A forecasting service for a monitor's process: values are pushed in from the acquisition's thread, a worker forecasts
 * each channel once a step, and a channel's adapter is replaced without a forecast being dropped.
 *
 * It only forecasts and raises no alarms: what a forecast means is for the device to decide.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include "etsa_quality.h"
#include "forecaster.h"

#define SV_MAX_CHANNELS 8u
#define SV_LATE_STEPS 2u /* that a forecast waits for late values, as in the Python runtime */

/* A measured value's quality: anything but good is a missing value. */
enum { SV_GOOD = 0, SV_UNSURE = 1, SV_INVALID = 2 };

/* What the experience of one stream did to a forecast. */
typedef struct sv_moved {
    bool is;          /* its quantiles were moved */
    uint64_t updates; /* forecasts of this stay that were learnt from before */
    double width;     /* the factor on the width */
} sv_moved;

typedef struct sv_forecast {
    uint32_t channel;
    int64_t t_ms;            /* end of the last step that was forecast from: step h of the forecast ends at
                                t_ms + (h + 1) * interval_ms */
    etsa_err err;            /* not ETSA_OK: there is no forecast for this step, and `message` says why */
    const char *message;
    uint64_t adapter_version; /* 0: the base alone */
    char signal[ETSA_MAX_NAME_SIZE + 1]; /* what the adapter is for; empty: the base alone, or an unbound adapter */
    bool unbound;            /* there is an adapter, and it does not say what it is for */
    uint32_t differences;    /* how its use differs from what it is for; all accepted by a person */
    const float *quantiles;  /* [prediction_length * level_count], all levels of step 0 first; NULL on an error */
    uint32_t steps, levels;
    double latency_ms;
    bool judged;             /* settings.judged, and the frozen base forecasts beside: */
    etq_verdict verdict;     /* the verdict of field quality on the adapter that made this, so far */
    bool own;                /* the adapter was learnt here: sv_swap_own */
    uint8_t adapter[32];     /* if so, its SHA-256 */
    sv_moved moved;          /* by sv_on_made */
    bool drifts;             /* its drift flag is set: for those who maintain adapters; changes nothing by itself */
} sv_forecast;

/* A base that samples draws its own number of paths with seed 0 each time: equal contexts, equal forecasts.
 * Called in the worker's thread, once for every step of every channel that has begun. Its pointers are invalid afterwards. */
typedef void sv_on_forecast(void *user, const sv_forecast *forecast);
/* Called in the worker's thread after a forecast, or if none is due: the place to feed a watchdog. */
typedef void sv_on_alive(void *user);

/* Called for every value that is taken, in the caller's thread of sv_push, with the service's lock held: be quick, and call
 * nothing of the service. `stay` counts the channel's stays. on_end: the channel's stay is over, or its clock was set. */
typedef void sv_on_value(void *user, uint32_t channel, uint64_t stay, int64_t t_ms, float value);
typedef void sv_on_end(void *user, uint32_t channel);
/* Called in the worker's thread for every forecast before it is reported and scored: move its quantiles [steps][levels], in
 * place, and say so. t_ms is in the last step that it was made from; values of later steps may have been taken already, and
 * `stay` is the context's. */
typedef void sv_on_made(void *user, uint32_t channel, uint64_t stay, int64_t t_ms, float *quantiles, uint32_t steps, sv_moved *moved);
/* Called in the worker's thread while no forecast is due: do one piece of work, of a few milliseconds. True: there is more. */
typedef bool sv_on_idle(void *user);

typedef struct sv_settings {
    uint32_t channels;       /* 1 to SV_MAX_CHANNELS */
    int64_t interval_ms;     /* of a step: what the adapter was trained on, as 3,600,000 for hourly data */
    const char *signals[SV_MAX_CHANNELS]; /* each channel's signal, such as "MAP", which its adapter must be for; NULL: not stated */
    const char *units[SV_MAX_CHANNELS];   /* UCUM, such as "mm[Hg]"; NULL: not stated */
    uint32_t prove_ms;       /* time between known-answer tests of the running model; 0: once an hour */
    uint32_t alive_ms;       /* longest time between two calls of on_alive while idle */
    fc_policy policy;        /* what an adapter must have */
    bool quality;            /* score forecasts once their targets have arrived: sv_quality */
    uint32_t shadow_every;   /* with that: the frozen base also makes one forecast in so many; 0: none */
    bool shadow_previous;    /* and by the adapter that ran before a swap, until the next one: one more session */
    bool judged;             /* an adapter has a verdict by its WQL against the base's: */
    double allowed;          /* at most so many times that, as 1.02 */
    double min_scored;       /* steps that both forecast before there is one; 0: 200 */
    double latency_budget_ms; /* a forecast that takes longer is counted as slow; 0: none is */
    sv_on_forecast *on_forecast;
    sv_on_alive *on_alive;
    void *user;
    sv_on_value *on_value;   /* these four may be NULL, and get `learner` */
    sv_on_end *on_end;
    sv_on_made *on_made;
    sv_on_idle *on_idle;
    void *learner;
} sv_settings;

typedef struct sv_service sv_service;

/* Every channel starts on the base alone. The base must outlive the service. The known-answer test of the running model is
 * repeated every prove_ms, while no forecast is due; a model that fails it is opened again from the same bytes. Until that
 * succeeds, tried at every step, or the channel is swapped, its forecasts are errors that say why. */
etsa_err sv_start(fc_base *base, const sv_settings *settings, sv_service **service, fc_message message);
/* Stop the worker once it has made the due forecasts, and wait for it: figures and counts can still be read. */
void sv_finish(sv_service *service);
/* The same, if it has not been done, then release everything. */
void sv_stop(sv_service *service);

/* One measured value. Step k is [k * interval_ms, (k + 1) * interval_ms); the good value with the latest timestamp is
 * used for it, by the rules of the Python runtime's Stream (docs/guides/stream.md). A value of a later step closes the
 * steps before it, and the worker forecasts. A late value fills its step if that is missing, for later forecasts, or is
 * dropped and counted. Values that are not good, not finite or outside the range of the adapter's signal are only
 * counted. A value a whole context or more away is a stray: three in a row that agree move the channel ahead, as many as
 * a context has steps move it back. Values of unknown channels and of times beyond 2^53 ms are ignored. Never waits for a
 * forecast. */
void sv_push(sv_service *service, uint32_t channel, int64_t t_ms, float value, int quality);
/* The channel's stay is over: the patient has left. Waits until the steps that are due have been forecast; the step that is
 * being filled is given up, and what follows begins anew. */
void sv_end_stay(sv_service *service, uint32_t channel);
typedef struct sv_counts {
    uint64_t rejected; /* values that were not good, not finite, or no reading of the adapter's signal */
    uint64_t late;    /* values that came too late to be used, or twice */
    uint64_t stray;   /* values whose time is too far from the others' */
    uint64_t skipped; /* steps without a forecast, since 64 were waiting for the worker: it was blocked, or time jumped */
} sv_counts;
sv_counts sv_count(sv_service *service);

/* How accurate a channel's forecasts were, by etsa_quality.h; false without settings.quality. The figures are
 * etq_wql(&field->runs.total, field->runs.level_count) and its like; zeros where nothing was scored yet. Channels of one
 * signal have their figures together. */
typedef struct sv_field {
    etq_scored runs;
    etq_verdict verdict; /* against the base */
    uint64_t dropped;    /* forecasts that could not be scored */
} sv_field;
bool sv_quality(sv_service *service, uint32_t channel, sv_field *field);

/* How a channel's forecasts went since what it runs took over: whether there were any, and how long they took. What a
 * trial's health window counts; the same adapter again goes on. */
#define SV_MAX_ERRORS 24u /* different codes: room for all of etsa_err. One that is not in it is counted with the last */
typedef struct sv_health {
    etq_id by;               /* what the channel runs */
    double since_ms;         /* when it took over, by CLOCK_MONOTONIC */
    uint64_t forecasts;      /* number of forecasts */
    uint64_t slow;           /* number of them that took longer than settings.latency_budget_ms */
    double slowest_ms;
    uint32_t error_count;
    struct {
        int code;
        uint64_t count;
    } errors[SV_MAX_ERRORS]; /* steps without a forecast, by code */
    fc_message last_error;
} sv_health;
bool sv_health_of(sv_service *service, uint32_t channel, sv_health *health);

/* Copy all figures, of at most SV_MAX_CHANNELS signals, for a file (quality_file.h), and go on with those of a file: before
 * the first value is pushed. sv_quality_all returns how many signals there are; 0 without settings.quality. */
uint32_t sv_quality_all(sv_service *service, etq_signal signals[SV_MAX_CHANNELS]);
void sv_quality_go_on(sv_service *service, const etq_signal *signals, uint32_t count);

/* Replace a channel's adapter (data NULL: back to the base alone). It is verified, merged and tested in the caller's
 * thread while forecasts continue, then takes over between two of them. On any error the old adapter keeps running. If the
 * bytes are the same, the adapter is opened again and its figures continue. */
etsa_err sv_swap(sv_service *service, uint32_t channel, const uint8_t *data, size_t size, fc_message message);
/* The same for a blob that was learnt here: it is unsigned, so the caller has checked that it keeps to its envelope. Every
 * forecast names it. */
etsa_err sv_swap_own(sv_service *service, uint32_t channel, const uint8_t *data, size_t size, fc_message message);
/* Only open it, and close it again: whether it would run. */
etsa_err sv_prove_own(sv_service *service, uint32_t channel, const uint8_t *data, size_t size, fc_message message);

#endif
