/* What was learnt, as a blob. */
#define _POSIX_C_SOURCE 200809L
#include "adapting_parts.h"
#include "etsa_write.h"
#include "own_answer.h"

#include <stdlib.h>
#include <string.h>

/* The tensors that may move, over a shift[n] of all three. Returns how many. */
static uint32_t moved_of(const ad_adapting *a, float *shift, etsw_moved moved[ETL_BIASES])
{
    uint32_t places[FC_BIASES], count = 0;
    fc_states_tensors(a->states, places);
    for (uint32_t k = 0; k < ETL_BIASES; shift += a->learner.optimiser.sizes[k++]) {
        if (!a->rules.config.moves[k]) continue;
        moved[count++] = (etsw_moved){.tensor = places[k], .rows = a->learner.optimiser.sizes[k], .columns = 1, .shift = shift};
    }
    return count;
}

/* Check a blob against the envelope and get its shift[n]. */
etsa_err ad_check_own(const ad_adapting *a, const uint8_t *blob, uint32_t size, float *shift, fc_message message)
{
    etsa_adapter own;
    etsw_moved moved[ETL_BIASES];
    memset(shift, 0, a->learner.optimiser.size * sizeof *shift);
    etsa_err err = etsa_decode(blob, size, &own);
    if (err != ETSA_OK) return ad_say(message, err, "the blob that was learnt here is damaged");
    const char *why = etsw_breach(&own, fc_states_adapter(a->states), moved, moved_of(a, shift, moved),
                                  a->rules.config.rules.learning.cap_tensor);
    if (why == NULL) return ETSA_OK;
    snprintf(message, FC_MESSAGE_SIZE, "what was learnt here does not run: %.200s", why);
    return ETSA_SETTINGS_ERROR;
}

/* Write, with a known answer, and prove it: *blob is the caller's to free, shift[n] what it moves. */
etsa_err ad_make_own(ad_adapting *a, sv_service *service, uint8_t **blob, uint32_t *size, float *shift, fc_message message)
{
    oa_answer answer;
    etsw_moved moved[ETL_BIASES];
    const etsa_adapter *parent = fc_states_adapter(a->states);
    const ar_rules *r = &a->rules;
    etsw_binding binding = {.signal = r->signal, .signal_code = r->code, .unit = r->unit, .interval_us = r->interval_us,
                            .context_length = r->config.context_length, .prediction_length = a->learner.model.block.steps,
                            .low = r->low, .high = r->high};
    memcpy(shift, eta_candidate(&a->learner), a->learner.optimiser.size * sizeof *shift);
    etsw_own own = {.base_digest = fc_bundle(a->base)->digest, .parent = parent, .binding = &binding, .moved = moved,
                    .moved_count = moved_of(a, shift, moved), .generation = a->generation + 1, .envelope = r->envelope};
    *blob = malloc(ETSA_MAX_BLOB_SIZE);
    if (*blob == NULL) return ad_say(message, ETSA_STORAGE_ERROR, "out of memory");
    etsa_err err = etsw_write(&own, *blob, ETSA_MAX_BLOB_SIZE, size);
    if (err != ETSA_OK) return ad_say(message, err, "what was learnt cannot be written as a blob");
    err = ad_check_own(a, *blob, *size, shift, message); /* now as it was rounded */
    if (err == ETSA_OK) err = oa_choose(a->states, shift, r->level, r->spread, &answer, message);
    if (err != ETSA_OK) return err;
    float *wanted = malloc(a->learner.optimiser.size * sizeof *wanted);
    if (wanted == NULL) return ad_say(message, ETSA_STORAGE_ERROR, "out of memory");
    memcpy(wanted, eta_candidate(&a->learner), a->learner.optimiser.size * sizeof *wanted);
    own.moved_count = moved_of(a, wanted, moved);
    own.context = answer.context;
    own.context_size = OA_CONTEXT;
    own.expected = answer.expected;
    own.expected_size = answer.expected_size;
    own.tolerance = answer.tolerance;
    err = etsw_write(&own, *blob, ETSA_MAX_BLOB_SIZE, size);
    free(wanted);
    if (err != ETSA_OK) return ad_say(message, err, "what was learnt cannot be written as a blob");
    return sv_prove_own(service, 0, *blob, *size, message);
}
