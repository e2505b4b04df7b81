/* Whether a candidate may forecast, and whether it still may: bets on one finished stay after another, as the Python
 * runtime's device_runtime/adapt/bets.py in the same order of operations (docs/guides/adaptation.md has the question,
 * docs/reference/adaptation.md why evidence may begin late). Figures agree to 1e-12, as those of etsa_evidence.h. No
 * malloc, no I/O.
 *
 * Score each stay by what the monitor was given (frozen), by what runs and by the candidate before anything is learnt from
 * it, and ask after every one of them, for as long as you like: a candidate that is never better is ever promoted with a
 * probability of at most 1 / promote_evidence.
 */
#ifndef ETSA_PROMOTION_H
#define ETSA_PROMOTION_H

#include "etsa_evidence.h"

#define ETQ_PARTS 7 /* of a stake: they begin to bet at the 1st, 26th, 51st, 101st, 201st, 401st and 801st stay */

/* "B loses less than A", with a stake in parts. */
typedef struct etq_evidence {
    uint64_t units;
    double logs[ETQ_PARTS][ETQ_BETS];
} etq_evidence;

typedef struct etq_promotion {
    double promote_evidence; /* that the candidate is better */
    uint64_t promote_stays;  /* that it was scored on, at least */
    double demote_evidence;  /* that what was promoted is worse than what the monitor was given */
    uint32_t demotions;      /* by evidence: each one doubles what the next promotion wants */
    etq_evidence better, worse;
    double clip;   /* relative difference of a stay to the candidate's beyond which more says no more; follows them */
    double gained; /* what the candidate lost less than what runs, summed: nothing is promoted that lost more */
} etq_promotion;

typedef enum etq_wish {
    ETQ_NONE = 0,
    ETQ_PROMOTE = 1,
    ETQ_DEMOTE = 2
} etq_wish;

/* Summed pinball losses of one stay, in the signal's unit; running is frozen while nothing is promoted. */
typedef struct etq_stay {
    double frozen, running, candidate;
} etq_stay;

/* Begin; false for evidence of less than 10 (promote) or 2 (demote), or beyond 1e9. */
bool etq_promotion_begin(etq_promotion *p, double promote_evidence, uint64_t promote_stays, double demote_evidence);

/* Take one stay; `promoted`: something was, and runs. A stay that frozen itself has no finite loss on says nothing; where
 * what runs or the candidate has none, that is taken back without any evidence. */
etq_wish etq_promotion_add(etq_promotion *p, const etq_stay *stay, bool promoted);

/* Ask anew: what runs is another one now. by_evidence: bets took back what was promoted. */
void etq_promotion_anew(etq_promotion *p, bool by_evidence);

/* Logarithm of what 1 has become, and what a promotion wants of it. */
double etq_evidence_log(const etq_evidence *evidence);
double etq_promotion_wanted(const etq_promotion *p);

#endif
