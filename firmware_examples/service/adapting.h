/* Learning beside a service: finished stays of channel 0 in; a candidate in shadow, its promotion and its demotion out.
 * Its forecasts are moved by the experience of their stream, where the mode allows that.
 *
 * What may be learnt is what edge-tsfm-hand-over wrote into the folder (adapt_rules_file.h). A promotion or a demotion is a
 * file there before it takes effect, `decision-1`, `decision-2`, ...: the hand-over takes it into the monitor's record and
 * log, and answers with `own`, the blob that the record says should run (empty: none). So the record decides, and a service
 * that starts again before it was asked goes on with its own last decision.
 */
#ifndef ADAPTING_H
#define ADAPTING_H

#include "adapt_rules_file.h"
#include "service.h"

#include <stdio.h>

typedef struct ad_adapting ad_adapting;

/* Start without anything to learn on. `folder` must be there; interval_ms is the service's. The base must outlive it. */
etsa_err ad_open(fc_base *base, const char *folder, int64_t interval_ms, ad_adapting **adapting, fc_message message);
/* Write what was learnt, and release everything. */
void ad_close(ad_adapting *adapting);

/* For sv_settings: learner, on_value, on_end, on_made, on_idle. */
sv_on_value ad_value;
sv_on_end ad_end;
sv_on_made ad_made;
sv_on_idle ad_idle;

/* Channel 0 runs the adapter of the signed file `data` (NULL: the base alone): learn on that by the rules that are there now,
 * and run what was learnt on it, if the record and the rules say so. `message` says why it does not learn or run as they
 * say; empty otherwise. In the main thread, as ad_look. */
void ad_install(ad_adapting *adapting, sv_service *service, const uint8_t *data, size_t size, fc_message message);
/* Whether something that was learnt runs: then the adapter under it is not swapped in again. */
bool ad_runs_own(const ad_adapting *adapting);

/* Do what the evidence asks for, as far as the rules allow, and write what was learnt if it is time. True if something has
 * changed what forecasts; `message` says what, or what went wrong; else it is empty. */
bool ad_look(ad_adapting *adapting, sv_service *service, fc_message message);

/* Print what is known as one JSON object: counts and evidence, no measured value. */
void ad_print(ad_adapting *adapting, FILE *to);

#endif
