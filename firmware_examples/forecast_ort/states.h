/* The learning graphs beside a bundle (learning.json), of which this runtime runs one: the decoder's state for a context,
 * with what etsa_learn.h needs to learn from it. Only Chronos-Bolt has it.
 */
#ifndef STATES_H
#define STATES_H

#include "etsa_learn.h"
#include "etsa_learning.h"
#include "forecaster.h"

#define FC_BIASES ETL_BIASES

/* Open the learning manifest beside a base's and map its files, which are checked as the bundle's are; once for a base,
 * before anything else uses it. 400 where there is none; 110 for a family without a state, or a manifest without the state
 * graph; and the codes of etsa_learning_read. */
etsa_err fc_learning_open(fc_base *base, fc_message message);
/* The manifest that was opened; NULL: none. */
const etsa_learning *fc_learning(const fc_base *base);

/* The state graph with at most one adapter merged. One thread at a time uses it. */
typedef struct fc_states fc_states;

/* data: an .etsa file's bytes as for fc_open, NULL: the base alone. Proven by the known answer: the block forecasts it from
 * the graph's state. On an error nothing is left open. */
etsa_err fc_states_open(fc_base *base, const uint8_t *data, size_t size, const fc_policy *policy, fc_states **states,
                        fc_message message);
void fc_states_close(fc_states *states);

/* The output block with the adapter merged; its steps are those of a forecast. Valid until the states are closed. */
const etl_block *fc_states_block(const fc_states *states);
/* The three biases that learning moves: their places in the base's table, in the order of a shift. */
void fc_states_tensors(const fc_states *states, uint32_t tensors[FC_BIASES]);
/* The adapter, with its calibration and binding; NULL for the base alone. */
const etsa_adapter *fc_states_adapter(const fc_states *states);

/* Run the graph on context[length], latest value last, NaN for missing, of which at least one is not: state[D], loc, scale.
 * ETSA_FORECAST_ERROR if the runtime fails. Numbers that are not finite are the caller's to see. */
etsa_err fc_state_of(fc_states *states, const float *context, size_t length, float *state, float *loc, float *scale,
                     fc_message message);

#endif
