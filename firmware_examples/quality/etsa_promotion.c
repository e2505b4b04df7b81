#include "etsa_promotion.h"

#include <math.h>
#include <string.h>

#define CLIP 0.05        /* upper limit of the clipping bound; always used for a promoted model */
#define LEAST_CLIP 0.005 /* lower limit for a candidate, however little it differs */
#define WIDTH 1.5        /* the bound in mean absolute differences */
#define LATEST 12u       /* stays over which that mean is taken */
#define LONGEST 2.0      /* bounds: a longer difference counts as this in the mean */
#define AT_ONCE 0.7      /* share of the part that bets from the first stay; each later one has half of what is left */
#define MOST_DOUBLED 50u

static const double WEIGHTS[ETQ_BETS] = {0.05, 0.15, 0.3, 0.4, 0.1};       /* shares of a part, one for each bet */
static const uint64_t STARTS[ETQ_PARTS] = {0, 25, 50, 100, 200, 400, 800}; /* stays before each part bets */

static void add(etq_evidence *e, double x)
{
    for (int i = 0; i < ETQ_PARTS; i++)
        if (e->units >= STARTS[i]) etq_bet(e->logs[i], x);
    e->units++;
}

/* The bound follows the candidate. It is fixed before a stay is scored, which is all that a fair bet needs. */
static void follow(etq_promotion *p, double difference)
{
    double size = fabs(difference), most = LONGEST * p->clip, moved;
    p->clipped_stays++;
    if (size > most) size = most;
    moved = p->clip + (WIDTH * size - p->clip) / (double)(p->clipped_stays < LATEST ? p->clipped_stays : LATEST);
    p->clip = moved < LEAST_CLIP ? LEAST_CLIP : moved > CLIP ? CLIP : moved;
}

double etq_evidence_log(const etq_evidence *e)
{
    double logs[ETQ_PARTS * ETQ_BETS + 1], share = AT_ONCE, left = 1 - AT_ONCE;
    int count = 0;
    for (int i = 0; i < ETQ_PARTS; i++) {
        for (int j = 0; j < ETQ_BETS; j++) logs[count++] = log(share * WEIGHTS[j]) + e->logs[i][j];
        if (i + 1 < ETQ_PARTS) share = left /= 2;
    }
    logs[count++] = log(left); /* the rest never bets */
    return etq_log_mean_of(logs, count) + log(count);
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
    follow(p, etq_clipped(stay->candidate, stay->running, 1, 1));
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
    p->clipped_stays = 0;
    p->gained = 0;
    p->demotions += by_evidence;
}
