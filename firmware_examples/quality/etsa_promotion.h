/* Whether a candidate is promoted, and whether it stays promoted: an e-process over finished stays, with the same order of
 * operations as the Python runtime's device_runtime/adapt/bets.py (the test: docs/guides/adaptation.md; why parts of the
 * stake begin later: docs/reference/adaptation.md). Figures agree to 1e-12, as those of etsa_evidence.h. No malloc, no I/O.
 *
 * Score each stay with the installed model (frozen), the running one and the candidate before anything is learnt from it.
 * The test may be checked after every stay, for any number of stays: if the candidate is never better, the probability
 * that it is ever promoted is at most 1 / promote_evidence.
 */
#ifndef ETSA_PROMOTION_H
#define ETSA_PROMOTION_H

#include "etsa_evidence.h"

#define ETQ_PARTS 7 /* parts of a stake: they begin to bet at the 1st, 26th, 51st, 101st, 201st, 401st and 801st stay */

/* An e-process for "B loses less than A", with a stake in parts. */
typedef struct etq_evidence {
    uint64_t units;
    double logs[ETQ_PARTS][ETQ_BETS];
} etq_evidence;

typedef struct etq_promotion {
    double promote_evidence; /* evidence needed that the candidate is better */
    uint64_t promote_stays;  /* least number of stays on which it was scored */
    double demote_evidence;  /* evidence needed that the promoted model is worse than the installed one */
    uint32_t demotions;      /* by evidence: each one doubles the evidence that the next promotion needs */
    etq_evidence better, worse;
    double clip;            /* clipping bound of the candidate's relative differences; follows them */
    uint64_t clipped_stays; /* that it has followed */
    double gained; /* summed loss of the running model minus the candidate's; a promotion needs it to be positive */
} etq_promotion;

typedef enum etq_wish {
    ETQ_NONE = 0,
    ETQ_PROMOTE = 1,
    ETQ_DEMOTE = 2
} etq_wish;

/* Summed pinball losses of one stay, in the signal's unit; running equals frozen while nothing is promoted. */
typedef struct etq_stay {
    double frozen, running, candidate;
} etq_stay;

/* Start; false if the evidence is below 10 (promote) or 2 (demote), or above 1e9. */
bool etq_promotion_begin(etq_promotion *p, double promote_evidence, uint64_t promote_stays, double demote_evidence);

/* Take one stay; `promoted`: whether a promoted model is running. A stay without a finite loss of frozen is ignored. If the
 * running model or the candidate has none, it is dropped without any evidence. */
etq_wish etq_promotion_add(etq_promotion *p, const etq_stay *stay, bool promoted);

/* Restart the test, because another model runs now. by_evidence: the promoted model was demoted by evidence. */
void etq_promotion_anew(etq_promotion *p, bool by_evidence);

/* Logarithm of the capital, which began at 1; and the capital that a promotion needs. */
double etq_evidence_log(const etq_evidence *evidence);
double etq_promotion_wanted(const etq_promotion *p);

#endif
