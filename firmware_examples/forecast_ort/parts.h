/* What the forecaster's own files share; a product includes forecaster.h only. */
#ifndef FORECASTER_PARTS_H
#define FORECASTER_PARTS_H

#include "etsa_learning.h"
#include "forecaster.h"
#include "onnxruntime_c_api.h"

#include <sys/stat.h>

#define FC_PATH_SIZE 4096

typedef struct fc_family fc_family;

/* A file of the bundle, mapped. */
typedef struct fc_file {
    etsa_file pinned;
    uint8_t *data;
    size_t size;
    struct stat facts; /* when it was opened */
} fc_file;

struct fc_base {
    char folder[FC_PATH_SIZE];
    fc_settings settings;
    uint8_t *manifest;
    etsa_bundle bundle;
    etsa_tensor *tensors;
    const fc_family *family;
    fc_file *files; /* [file_count]: the bundle's, then those of the learning graphs, if they were opened */
    uint32_t file_count;
    uint8_t *learning_manifest; /* NULL: no learning graphs were opened */
    etsa_learning learning;
    const fc_file *tunable;
    void *library, *library_symbol; /* OrtGetApiBase */
    const OrtApi *ort;
    OrtEnv *env;
    OrtMemoryInfo *cpu;
};

/* What a model family does its own way. A context is 1 to context_length values. */
struct fc_family {
    const char *name; /* as in the manifest */
    bool samples;     /* it takes an fc_sampling */
    /* Read the manifest's parameters, check them, open the sessions. merged[tensor_count]: NULL where nothing changed;
     * they are gone afterwards. On an error the model may be half made: close it too. */
    etsa_err (*open)(const fc_base *base, float *const *merged, void **model, fc_message message);
    void (*close)(void *model);
    /* quantiles[prediction_length * level_count] before any calibration */
    etsa_err (*predict)(void *model, const float *context, size_t length, const fc_sampling *sampling, float *quantiles,
                        fc_message message);
    /* The first `count` numbers of the known-answer probe, FORMAT.md §7. */
    etsa_err (*probe)(void *model, const float *context, size_t length, uint32_t count, float *probe, fc_message message);
};

extern const fc_family fc_bolt, fc_chronos2; /* patches.c */
extern const fc_family fc_t5;                /* t5.c */

/* refusal.c: write the message, return the code */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
etsa_err fc_refuse(fc_message message, etsa_err code, const char *format, ...);
/* One of the family's own whole numbers, within bounds; ETSA_FORMAT_ERROR otherwise. */
etsa_err fc_whole(const fc_base *base, const char *name, uint32_t least, uint32_t most, uint32_t *value, fc_message message);

/* files.c */
etsa_err fc_map_files(fc_base *base, fc_message message);
void fc_unmap_files(fc_base *base);
void fc_unmap_file(fc_file *file);
const fc_file *fc_file_of(const fc_base *base, etsa_text name);
/* Map the files of base->learning as well. */
etsa_err fc_map_learning_files(fc_base *base, fc_message message);
/* The first file from `first` on whose digest is not the manifest's; NULL when all are right. */
const fc_file *fc_wrong_file(const fc_base *base, uint32_t first);
/* Whether the folder still has the very files that were mapped, unwritten: else a name was given to another file after
 * its digest was checked, and ETSA_BASE_MISMATCH_ERROR. */
etsa_err fc_check_unchanged(const fc_base *base, fc_message message);
/* Let the kernel have a file's pages back; they come again when they are read. */
void fc_forget_pages(const fc_file *file);

/* graphs.c: refuse a graph that keeps tensors in a file that is not pinned. */
etsa_err fc_check_graph(const fc_base *base, const fc_file *file, fc_message message);

/* merge.c: every delta into merged[tensor_count], which it allocates and the caller frees, also after an error. */
etsa_err fc_merge(const fc_base *base, const etsa_adapter *adapter, float **merged, fc_message message);
/* What graphs take for a quantised tensor, in the memory of its merged numbers. */
float *fc_scales(const etsa_tensor *tensor, float *merged);
int8_t *fc_integers(const etsa_tensor *tensor, float *merged);

/* forecaster.c: an adapter's file read, checked and merged, without a model; data NULL: the base alone. Close it too if it
 * failed. merged[tensor_count] is its own. */
etsa_err fc_open_merged(fc_base *base, const uint8_t *data, size_t size, const fc_policy *policy, fc_forecaster **forecaster,
                        fc_message message);
float *const *fc_all_merged(const fc_forecaster *forecaster);
/* Ask a model for the known answer of the adapter, or of the base alone; ETSA_OK where there is none. */
typedef etsa_err fc_probe(void *model, const float *context, size_t length, uint32_t count, float *probe, fc_message message);
etsa_err fc_prove(fc_forecaster *forecaster, fc_probe *probe, void *model, fc_message message);

/* runtime.c: the only file that opens ONNX Runtime. This one turns a status of it into an error and releases it. */
etsa_err fc_check(const fc_base *base, OrtStatus *status, etsa_err code, const char *doing, fc_message message);
etsa_err fc_load_runtime(fc_base *base, fc_message message);
/* Open the graph of that name with merged tensors in place of the base's. fold: fold constants, for a graph that runs
 * many times for one forecast; it costs memory. */
etsa_err fc_open_session(const fc_base *base, const char *name, bool fold, float *const *merged, OrtSession **session,
                         fc_message message);
/* Opening sessions runs code and fills memory that no forecast needs: give both back, before a forecast reads the weights
 * and memory reaches its peak. */
void fc_trim_memory(const fc_base *base);
/* A value of 1 to 4 dimensions that reads and writes the caller's memory; type: float32 or int64. */
etsa_err fc_value(const fc_base *base, void *data, ONNXTensorElementDataType type, const int64_t *shape, size_t dimensions,
                  OrtValue **value, fc_message message);
/* The floats of a result, which must be `count`. */
etsa_err fc_floats(const fc_base *base, OrtValue *value, size_t count, float **data, fc_message message);

#endif
