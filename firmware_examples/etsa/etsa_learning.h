/* The manifest of learning graphs beside a bundle, learning.json (FORMAT.md §2): checked like the bundle's. */
#ifndef ETSA_LEARNING_H
#define ETSA_LEARNING_H

#include "etsa.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct etsa_learning {
    uint8_t digest[32];   /* SHA-256 of the manifest: what an envelope pins */
    uint32_t version;     /* 1, or 2: with the graph "state" */
    etsa_text learnable;  /* "biases" or "output-biases" */
    uint32_t name_count;  /* biases; at most the base's tensors */
    uint32_t file_count;
    etsa_text names, graphs, files; /* JSON, for the functions below */
} etsa_learning;

/* Check a complete manifest and point into it: the text must outlive the result. tensors: the base's table. Codes 100, 102,
 * 103, 110; 300 for another base's. */
etsa_err etsa_learning_read(const uint8_t *manifest, size_t size, const etsa_bundle *base, const etsa_tensor *tensors,
                            etsa_learning *learning);
/* The pinned file at an index, in the order of their names; false behind the last. */
bool etsa_learning_file(const etsa_learning *learning, uint32_t index, etsa_file *file);
/* The graph of that name, as "state". */
bool etsa_learning_graph(const etsa_learning *learning, const char *name, etsa_graph *graph);
/* The name of the bias at an index; false behind the last. */
bool etsa_learning_name(const etsa_learning *learning, uint32_t index, etsa_text *name);

#ifdef __cplusplus
}
#endif

#endif
