/* Remove and count the artefacts of a stay before anything is learnt from it or judged on it: the Python runtime's
 * device_runtime/adapt/clean.py. No malloc, no I/O, no libm but fabs.
 */
#ifndef ETSA_ADAPT_CLEAN_H
#define ETSA_ADAPT_CLEAN_H

#include "etsa_adapt_rules.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Values that were looked at, and how many left for which reason. */
typedef struct eta_counts {
    uint64_t values, out_of_range, jumps, flat;
} eta_counts;

/* Set what is no reading in x[count] to NaN; counts of this stay in *counts. In this order: values outside of low to high
 * (ends included; -INFINITY and INFINITY: all are inside) or infinite; excursions, that jump away from the last good value
 * and come back within jump_steps; runs of more than flat_steps equal values, but the first of each. The rules are those of
 * an interval (eta_rules_at). `scratch`: count doubles. The same counts as Python's: sums of a stay's changes are exact in
 * doubles, in any order, where its values are of one magnitude, as a signal's with a range are. */
void eta_clean(float *x, uint32_t count, const eta_clean_rules *rules, float low, float high, double *scratch,
               eta_counts *counts);

#ifdef __cplusplus
}
#endif

#endif
