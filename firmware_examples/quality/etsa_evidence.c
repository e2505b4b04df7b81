#include "etsa_evidence.h"

#include <math.h>

#define CLIP 0.1 /* relative differences of a unit are clipped here */
#define FALSE_STOP 0.001
#define FALSE_PASS 0.01
#define FALSE_FLAG_UNITS 10000.0
#define BLOCK 2 /* horizons */

static const double BETS[ETQ_BETS] = {0.05, 0.15, 0.35, 0.6, 0.9};

double etq_clipped(double own, double other, double allowed, double clip)
{
    double most = allowed * other, total = own + most, x;
    if (!(total > 0)) return 0;
    x = (own - most) / total;
    if (x < -clip) x = -clip;
    if (x > clip) x = clip;
    return x / clip;
}

double etq_difference(double own, double other, double allowed) { return etq_clipped(own, other, allowed, CLIP); }

double etq_log_mean_of(const double *logs, int count)
{
    double most = logs[0], sum = 0;
    for (int i = 1; i < count; i++)
        if (logs[i] > most) most = logs[i];
    if (isinf(most)) return most;
    for (int i = 0; i < count; i++) sum += exp(logs[i] - most);
    return most + log(sum / count);
}

double etq_log_mean(const double logs[ETQ_BETS]) { return etq_log_mean_of(logs, ETQ_BETS); }

void etq_bet(double logs[ETQ_BETS], double x)
{
    for (int i = 0; i < ETQ_BETS; i++) logs[i] += log1p(BETS[i] * x);
}

void etq_trial_begin(etq_trial *trial, double allowed)
{
    trial->allowed = allowed;
    for (int i = 0; i < ETQ_BETS; i++) trial->worse[i] = trial->better[i] = 0;
    trial->verdict = ETQ_OPEN;
}

void etq_trial_add(etq_trial *trial, double own, double other)
{
    double x = etq_difference(own, other, trial->allowed);
    etq_bet(trial->worse, x);
    etq_bet(trial->better, -x);
    if (trial->verdict != ETQ_OPEN) return;
    if (etq_log_mean(trial->worse) >= -log(FALSE_STOP)) trial->verdict = ETQ_WORSE;
    else if (etq_log_mean(trial->better) >= -log(FALSE_PASS)) trial->verdict = ETQ_BETTER;
}

void etq_drift_begin(etq_drift *drift)
{
    for (int i = 0; i < ETQ_BETS; i++) drift->logs[i] = -INFINITY;
    drift->units = 0;
}

void etq_drift_add(etq_drift *drift, double own, double other)
{
    double x = etq_difference(own, other, 1);
    drift->units++;
    for (int i = 0; i < ETQ_BETS; i++) {
        double held = drift->logs[i];
        drift->logs[i] = (held > 0 ? held : 0) + log1p(exp(-fabs(held))) + log1p(BETS[i] * x);
    }
}

bool etq_drift_flagged(const etq_drift *drift) { return etq_log_mean(drift->logs) >= log(FALSE_FLAG_UNITS); }

bool etq_unit_close(etq_unit *unit, etq_losses *closed)
{
    *closed = (etq_losses){unit->own, unit->other};
    *unit = (etq_unit){0};
    return closed->own + closed->other > 0;
}

bool etq_unit_add(etq_unit *unit, bool whole_stay, int64_t origin, uint32_t steps, double own, double other,
                  etq_losses *closed)
{
    bool ended = false;
    if (!unit->open || origin >= unit->end) {
        ended = etq_unit_close(unit, closed);
        unit->open = true;
        unit->end = whole_stay ? INT64_MAX : origin + BLOCK * (int64_t)steps;
    }
    if (origin + (int64_t)steps <= unit->end) {
        unit->own += own;
        unit->other += other;
    }
    return ended;
}
