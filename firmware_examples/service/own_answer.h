/* A known answer for what was learnt: a synthetic context on which it visibly differs from what it stands on, so that a blob
 * has no patient's values. The Python runtime's device_runtime/forecast/choose_answer.py, from the state graph. */
#ifndef OWN_ANSWER_H
#define OWN_ANSWER_H

#include "states.h"

#define OA_CONTEXT 16u /* values of the context */
#define OA_STEPS 2u    /* that are compared */

typedef struct oa_answer {
    float context[OA_CONTEXT], expected[OA_STEPS * ETL_MAX_LEVELS];
    uint32_t expected_size;
    float tolerance;
} oa_answer;

/* Choose one for the block with its biases shifted by shift[n]. `level` and `spread` are typical of the signal. Takes some
 * 200 runs of the graph. ETSA_SELF_TEST_ERROR where no context shows the shift. */
etsa_err oa_choose(fc_states *states, const float *shift, double level, double spread, oa_answer *answer, fc_message message);

#endif
