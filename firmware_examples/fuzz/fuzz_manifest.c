/* libFuzzer: any bytes as a bundle's manifest. What is accepted is walked whole. */
#include "etsa.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    etsa_bundle bundle;
    uint8_t *text = malloc(size > 0 ? size : 1); /* exactly as long, so that a byte too far is seen */
    if (text == NULL) return 0;
    memcpy(text, data, size);
    if (etsa_bundle_read(text, size, &bundle) == ETSA_OK) {
        etsa_tensor *tensors = malloc((bundle.tensor_count + 1) * sizeof *tensors);
        double *levels = malloc(bundle.level_count * sizeof *levels), value;
        etsa_file file;
        etsa_graph graph;
        if (etsa_bundle_tensors(&bundle, tensors, bundle.tensor_count) != ETSA_OK) abort();
        if (etsa_bundle_levels(&bundle, levels, bundle.level_count) != ETSA_OK) abort();
        for (uint32_t i = 0; i < bundle.file_count; i++) {
            if (!etsa_bundle_file(&bundle, i, &file)) abort();
        }
        if (etsa_bundle_graph(&bundle, "forecast", &graph)) etsa_graph_uses(&graph, 1);
        etsa_bundle_parameter(&bundle, "patch_size", &value);
        float *context = malloc((bundle.context_size + 1) * sizeof *context);
        float *expected = malloc((bundle.expected_size + 1) * sizeof *expected);
        if (etsa_bundle_known_answer(&bundle, context, expected) != (bundle.expected_size > 0)) abort();
        if (bundle.context_size > 0) etsa_widest_tolerance(context, bundle.context_size);
        free(context);
        free(expected);
        free(tensors);
        free(levels);
    }
    free(text);
    return 0;
}
