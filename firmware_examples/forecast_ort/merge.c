/* Merge an adapter's deltas, in as many threads as ONNX Runtime may use: no two touch the same tensor. */
#include "parts.h"

#include <pthread.h>
#include <stdlib.h>

#define MOST_THREADS 8

typedef struct worker {
    const fc_base *base;
    const etsa_adapter *adapter;
    float *const *merged;
    int64_t *scratch;
    size_t scratch_count;
    uint32_t number, workers;
    etsa_err err;
    uint32_t tensor; /* whose merge failed */
    pthread_t thread;
    bool started;
} worker;

/* Of a quantised tensor also what the graphs take, behind the merged numbers: scales, then integers. */
static etsa_err merge_one(const worker *w, const etsa_delta *delta, const etsa_tensor *tensor, float *merged)
{
    const uint8_t *weights = w->base->tunable->data + tensor->offset;
    if (!tensor->quantised) return etsa_merge(delta, weights, merged, w->scratch, w->scratch_count);
    etsa_widen(weights, (size_t)tensor->rows * tensor->columns, (uint8_t *)(void *)merged);
    etsa_err err = etsa_merge(delta, (const uint8_t *)(const void *)merged, merged, w->scratch, w->scratch_count);
    if (err != ETSA_OK) return err;
    return etsa_quantise(merged, tensor->rows, tensor->columns, fc_integers(tensor, merged), fc_scales(tensor, merged));
}

/* Merge every delta whose turn is this worker's. */
static void *work(void *argument)
{
    worker *w = argument;
    etsa_delta delta = {0};
    for (uint32_t turn = 0; w->err == ETSA_OK && etsa_next(w->adapter, &delta); turn++) {
        if (turn % w->workers != w->number) continue;
        w->tensor = delta.tensor;
        w->err = merge_one(w, &delta, &w->base->tensors[delta.tensor], w->merged[delta.tensor]);
    }
    return NULL;
}

float *fc_scales(const etsa_tensor *tensor, float *merged) { return merged + (size_t)tensor->rows * tensor->columns; }

int8_t *fc_integers(const etsa_tensor *tensor, float *merged) { return (int8_t *)(void *)(fc_scales(tensor, merged) + tensor->rows); }

static etsa_err allocate(const fc_base *base, const etsa_adapter *adapter, float **merged)
{
    etsa_delta delta = {0};
    while (etsa_next(adapter, &delta)) {
        const etsa_tensor *tensor = &base->tensors[delta.tensor];
        size_t count = (size_t)tensor->rows * tensor->columns;
        merged[delta.tensor] = malloc(count * sizeof **merged + (tensor->quantised ? tensor->rows * sizeof(float) + count : 0));
        if (merged[delta.tensor] == NULL) return ETSA_STORAGE_ERROR;
    }
    return ETSA_OK;
}

etsa_err fc_merge(const fc_base *base, const etsa_adapter *adapter, float **merged, fc_message message)
{
    worker workers[MOST_THREADS];
    size_t need = etsa_scratch_count(adapter);
    uint32_t count = base->settings.threads < MOST_THREADS ? (uint32_t)base->settings.threads : MOST_THREADS;
    if (count > adapter->delta_count) count = adapter->delta_count;
    int64_t *scratch = malloc((count * need + 1) * sizeof *scratch);
    etsa_err err = scratch == NULL ? ETSA_STORAGE_ERROR : allocate(base, adapter, merged);
    if (err != ETSA_OK) {
        free(scratch);
        return fc_refuse(message, err, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        workers[i] = (worker){.base = base, .adapter = adapter, .merged = merged, .scratch = scratch + i * need, .scratch_count = need,
                              .number = i, .workers = count};
        workers[i].started = i > 0 && pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (workers[i].started) pthread_join(workers[i].thread, NULL);
        else work(&workers[i]); /* the first, and any that no thread could be had for */
    }
    for (uint32_t i = 0; i < count && err == ETSA_OK; i++) {
        const etsa_tensor *tensor = &base->tensors[workers[i].tensor];
        err = workers[i].err;
        if (err == ETSA_OK) continue;
        fc_refuse(message, err, "%.*s: a merged weight is not finite", (int)tensor->name.size, tensor->name.at);
    }
    free(scratch);
    fc_forget_pages(base->tunable); /* what was read is in the file */
    return err;
}
