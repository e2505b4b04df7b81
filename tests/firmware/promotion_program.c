/* Takes the stays that test_promotion.py sends, and says what the evidence asks for after each. */
#include "etsa_promotion.h"

#include <stdio.h>

/* In: both evidences, stays that a promotion wants; then stays of three losses. What it asks for is done at once. Out: for
 * each stay the wish, both logarithms, and what the next promotion wants. */
int main(void)
{
    etq_promotion p;
    etq_stay stay;
    double rules[3];
    bool promoted = false;
    if (fread(rules, sizeof rules, 1, stdin) != 1) return 2;
    if (!etq_promotion_begin(&p, rules[0], (uint64_t)rules[1], rules[2])) return 1;
    while (fread(&stay, sizeof stay, 1, stdin) == 1) {
        if (!promoted) stay.running = stay.frozen;
        etq_wish wish = etq_promotion_add(&p, &stay, promoted);
        double out[] = {wish, etq_evidence_log(&p.better), etq_evidence_log(&p.worse), 0};
        if (wish == ETQ_PROMOTE || wish == ETQ_DEMOTE) {
            etq_promotion_anew(&p, wish == ETQ_DEMOTE);
            promoted = wish == ETQ_PROMOTE;
        }
        out[3] = etq_promotion_wanted(&p);
        fwrite(out, sizeof out, 1, stdout);
    }
    return 0;
}
