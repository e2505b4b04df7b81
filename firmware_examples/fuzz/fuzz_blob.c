/* libFuzzer: any bytes as a blob. The checksum is repaired first, or nothing would get past it. What is accepted is
 * merged too, as far as its tensors are small. */
#include "etsa.h"

#include <stdlib.h>
#include <string.h>

#define MOST 4096u /* elements of a tensor that is merged: larger ones only cost time */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t crc32(const uint8_t *data, size_t size, uint32_t crc)
{
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return crc;
}

static void merge(const etsa_adapter *adapter)
{
    static const uint8_t base[4 * MOST];
    etsa_delta delta = {0};
    uint32_t merged_count = 0;
    size_t need = etsa_scratch_count(adapter);
    int64_t *scratch = malloc((need + 1) * sizeof *scratch);
    while (etsa_next(adapter, &delta) && merged_count++ < 8) {
        uint64_t work = (uint64_t)delta.rows * delta.columns * (delta.count + 1);
        if (delta.rows * delta.columns > MOST || work > 1u << 20) continue;
        float *merged = malloc((size_t)delta.rows * delta.columns * sizeof *merged);
        etsa_err err = etsa_merge(&delta, base, merged, scratch, need);
        if (err != ETSA_OK && err != ETSA_MERGE_ERROR) abort();
        free(merged);
    }
    free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    etsa_adapter adapter;
    uint8_t *blob = malloc(size + 1);
    if (blob == NULL) return 0;
    memcpy(blob, data, size);
    if (size >= ETSA_HEADER_SIZE) {
        uint32_t crc = ~crc32(blob + ETSA_HEADER_SIZE, size - ETSA_HEADER_SIZE, crc32(blob, 60, 0xffffffffu));
        for (int i = 0; i < 4; i++) {
            blob[8 + i] = (uint8_t)(size >> 8 * i);
            blob[60 + i] = (uint8_t)(crc >> 8 * i);
        }
        crc = ~crc32(blob + ETSA_HEADER_SIZE, size - ETSA_HEADER_SIZE, crc32(blob, 60, 0xffffffffu));
        for (int i = 0; i < 4; i++) blob[60 + i] = (uint8_t)(crc >> 8 * i);
    }
    if (etsa_decode(blob, size, &adapter) == ETSA_OK) {
        float context[ETSA_MAX_CONTEXT], expected[ETSA_MAX_EXPECTED], quantiles[3 * ETSA_MAX_EXPECTED] = {0};
        merge(&adapter);
        if (etsa_known_answer(&adapter, context, expected) &&
            etsa_compare_probe(expected, expected, adapter.expected_size, (double)adapter.tolerance, NULL) != ETSA_OK) {
            abort();
        }
        if (adapter.calibration_levels <= ETSA_MAX_EXPECTED) etsa_calibrate(&adapter, quantiles, 3, adapter.calibration_levels);
    } else if (size >= ETSA_HEADER_SIZE && adapter.rule == 4) {
        abort();
    }
    free(blob);
    return 0;
}
