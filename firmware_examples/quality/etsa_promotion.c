#include "etsa_promotion.h"

#include <math.h>
#include <string.h>

#define CLIP 0.05        /* upper limit of the clipping bound; always used for a promoted model */
#define LEAST_CLIP 0.01  /* lower limit for a candidate, however little it differs */
#define WIDER 1.9        /* factor on a candidate's bound after a stay that exceeds it, ... */
#define NARROWER 0.9     /* ... and after any other: one in seven exceeds it */
#define MOST_DOUBLED 50u

static const uint64_t STARTS[ETQ_PARTS] = {0, 25, 50, 100, 200, 400, 800}; /* stays before each part bets */

static void add(etq_evidence *e, double x)
{
    for (int i = 0; i < ETQ_PARTS; i++)
        if (e->units >= STARTS[i]) etq_bet(e->logs[i], x);
    e->units++;
}

/* The bound follows the candidate. It is fixed before a stay is scored, which is all that a fair bet needs. */
static void follow(double *clip, double difference)
{
    double moved = *clip * (fabs(difference) > *clip ? WIDER : NARROWER);
    *clip = moved < LEAST_CLIP ? LEAST_CLIP : moved > CLIP ? CLIP : moved;
}

double etq_evidence_log(const etq_evidence *e)
{
    double logs[ETQ_PARTS + 1];
    for (int i = 0; i < ETQ_PARTS; i++) logs[i] = -(i + 1) * log(2) + etq_log_mean(e->logs[i]);
    logs[ETQ_PARTS] = -ETQ_PARTS * log(2); /* the last part never bets */
    return etq_log_mean_of(logs, ETQ_PARTS + 1) + log(ETQ_PARTS + 1);
}

bool etq_promotion_begin(etq_promotion *p, double promote_evidence, uint64_t promote_stays, double demote_evidence)
{
    if (!(promote_evidence >= 10 && promote_evidence <= 1e9 && demote_evidence >= 2 && demote_evidence <= 1e9)) return false;
    memset(p, 0, sizeof *p);
    p->promote_evidence = promote_evidence;
    p->promote_stays = promote_stays;
    p->demote_evidence = demote_evidence;
    p->clip = CLIP;
    return true;
}

double etq_promotion_wanted(const etq_promotion *p)
{
    return ldexp(p->promote_evidence, (int)(p->demotions < MOST_DOUBLED ? p->demotions : MOST_DOUBLED));
}

etq_wish etq_promotion_add(etq_promotion *p, const etq_stay *stay, bool promoted)
{
    if (!isfinite(stay->frozen)) return ETQ_NONE;
    if (!isfinite(stay->running) || !isfinite(stay->candidate)) return ETQ_DEMOTE;
    add(&p->better, -etq_clipped(stay->candidate, stay->running, 1, p->clip));
    follow(&p->clip, etq_clipped(stay->candidate, stay->running, 1, 1));
    p->gained += stay->running - stay->candidate;
    if (promoted) {
        add(&p->worse, etq_clipped(stay->running, stay->frozen, 1, CLIP));
        if (etq_evidence_log(&p->worse) >= log(p->demote_evidence)) return ETQ_DEMOTE;
    }
    bool enough = p->better.units >= p->promote_stays && p->gained > 0;
    return enough && etq_evidence_log(&p->better) >= log(etq_promotion_wanted(p)) ? ETQ_PROMOTE : ETQ_NONE;
}

void etq_promotion_anew(etq_promotion *p, bool by_evidence)
{
    memset(&p->better, 0, sizeof p->better);
    memset(&p->worse, 0, sizeof p->worse);
    p->clip = CLIP;
    p->gained = 0;
    p->demotions += by_evidence;
}
