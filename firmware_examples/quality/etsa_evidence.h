/* Evidence on which of two forecasters is better that may be looked at after every forecast: the Python runtime's
 * device_runtime/quality/evidence.py and units.py, in the same order of operations (docs/reference/field-quality.md has
 * the derivation). It takes log1p, exp and log of the C library, so two libraries may differ in the last digits: figures
 * agree to 1e-12. No malloc, no I/O; files are vendored with etsa_quality.
 */
#ifndef ETSA_EVIDENCE_H
#define ETSA_EVIDENCE_H

#include <stdbool.h>
#include <stdint.h>

#define ETQ_BETS 5

typedef enum etq_verdict {
    ETQ_OPEN = 0,
    ETQ_BETTER = 1, /* than what is allowed, or as good */
    ETQ_WORSE = 2
} etq_verdict;

/* A unit's bounded paired difference, in [-1, 1]; positive: what runs lost more than `allowed` times the other's loss. */
double etq_difference(double own, double other, double allowed);
/* The same, clipped at another relative difference than 0.1. */
double etq_clipped(double own, double other, double allowed, double clip);

/* Both sides of a trial's test: the running adapter is worse than allowed, or it is not. */
typedef struct etq_trial {
    double allowed; /* the ratio of losses, as 1.02 */
    double worse[ETQ_BETS], better[ETQ_BETS]; /* logarithm of each bet's capital, which began at 1 */
    etq_verdict verdict;
} etq_trial;
void etq_trial_begin(etq_trial *trial, double allowed);
void etq_trial_add(etq_trial *trial, double own, double other);

/* The drift test: the running adapter has been worse than the other since some unit. */
typedef struct etq_drift {
    double logs[ETQ_BETS];
    uint64_t units;
} etq_drift;
void etq_drift_begin(etq_drift *drift);
void etq_drift_add(etq_drift *drift, double own, double other);
bool etq_drift_flagged(const etq_drift *drift);

/* Logarithm of the mean of exponentials. */
double etq_log_mean(const double logs[ETQ_BETS]);
double etq_log_mean_of(const double *logs, int count);
/* Update the logarithm of each bet's capital with x, in [-1, 1]. */
void etq_bet(double logs[ETQ_BETS], double x);

/* The unit that is being filled: two horizons of one stay, or a whole stay. */
typedef struct etq_unit {
    bool open;
    int64_t end; /* the last step that is still in it */
    double own, other;
} etq_unit;
typedef struct etq_losses {
    double own, other; /* summed over a unit */
} etq_losses;
/* Take a forecast of `steps` after `origin`, in order; true if that ends the previous unit, which is returned in `closed`. */
bool etq_unit_add(etq_unit *unit, bool whole_stay, int64_t origin, uint32_t steps, double own, double other,
                  etq_losses *closed);
/* End the unit; false if it has no loss. */
bool etq_unit_close(etq_unit *unit, etq_losses *closed);

#endif
